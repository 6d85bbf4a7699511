"""Checking columns of arrays: fixed shapes become tensors, ragged ones lists beside their shapes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from appliedpapers.core.casting import Rows, cast_scalars, one_array, text_meant
from appliedpapers.core.schema import Column

Problems = list[tuple[str, Rows]]
_NOT_FINITE = "the array holds values that are not finite"
_MISSING = "the value is missing"


@dataclass(frozen=True)
class Cells:
    """A checked column of arrays.

    Attributes:
        values: Tensors, or flat lists for a ragged column.
        shapes: Shape of each cell of a ragged column, list of int32; None for a fixed shape.
        problems: Rules and the rows that break them.
    """

    values: pa.Array
    shapes: pa.Array | None
    problems: Problems


def check_arrays(
    values: pa.Array, column: Column, shapes: Sequence[Sequence[int] | str] | None = None
) -> Cells:
    """Cast and judge a column of arrays.

    Args:
        values: Tensors, lists (nested or flat), or JSON text of lists.
        column: A column with a shape. Texts come in lists of any length, ``shape=(None,)``, and nothing
            else; an element may be missing and whole numbers are text, as in a column of single texts.
        shapes: Shape of each cell, or JSON text of it, where flat lists of a ragged column carry it beside
            them.
    """
    if column.dtype == "string":
        return _lists_of_texts(values, column)
    if isinstance(values.type, pa.FixedShapeTensorType):
        given = list(values.type.shape)
        if not _fits(given, column.shape or ()):
            return _nothing(column, len(values))
        values, shapes = values.storage, [given] * len(values)
        flat = True
    else:
        flat = shapes is not None
    if not column.ragged:
        block = _block(values, (column.size,) if flat else tuple(axis or 0 for axis in column.shape or ()))
        if block is not None and block.dtype == np.dtype(column.dtype):
            return _fixed_cells(block, np.asarray(pc.is_null(values)), column)
    return _cell_by_cell(values, column, shapes)


def _lists_of_texts(values: pa.Array, column: Column) -> Cells:
    broken = np.zeros(len(values), bool)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
        texts, uncast = cast_scalars(one_array(values.flatten()), Column(column.name, "string"))
        broken[np.repeat(np.arange(len(values)), lengths)[uncast]] = True
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        lists = pa.ListArray.from_arrays(pa.array(offsets), texts, mask=values.is_null())
    else:
        cells = [_texts(cell) for cell in values.to_pylist()]
        broken[:] = [not kept for _, kept in cells]
        lists = pa.array([texts for texts, _ in cells], column.arrow_type())
    problems: Problems = [("not a list of texts", np.flatnonzero(broken))] if broken.any() else []
    if not column.nullable and lists.null_count:
        absent = np.asarray(lists.is_null()) & ~broken
        problems += [(_MISSING, np.flatnonzero(absent))] if absent.any() else []
    sizes = [None if size is None else [size] for size in pc.list_value_length(lists).to_pylist()]
    return Cells(lists, pa.array(sizes, pa.list_(pa.int32())), problems)


def _texts(cell: Any) -> tuple[list[str | None] | None, bool]:
    """Return the texts of a cell that is a list or JSON text of one, and whether it is."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            return None, False
    if not isinstance(cell, list):
        return None, cell is None
    texts = [None if element is None else text_meant(element) for element in cell]
    kept = all(text is not None or element is None for text, element in zip(texts, cell, strict=True))
    return (texts if kept else None), kept


def _block(values: pa.Array, shape: tuple[int, ...]) -> np.ndarray[Any, Any] | None:
    """Return all elements of the cells that are there, ``(cells, size)``, when they have one shape."""
    array = values.drop_null()
    count = len(array)
    for axis in shape:
        kind = array.type
        if pa.types.is_fixed_size_list(kind):
            regular = kind.list_size == axis
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            regular = bool(pc.all(pc.equal(pc.list_value_length(array), axis)).as_py() is not False)
        else:
            return None
        if not regular or array.null_count:
            return None
        array = array.flatten()
    if array.null_count or not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        return None
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(count, math.prod(shape))


def _fixed_cells(block: np.ndarray[Any, Any], absent: np.ndarray[Any, Any], column: Column) -> Cells:
    present = np.flatnonzero(~absent)
    problems: Problems = []
    for rule, wrong in _wrong_elements(block, column):
        rows = present[wrong.any(axis=1)]
        if len(rows):
            problems.append((rule, rows))
    if absent.any():
        whole = np.zeros((len(absent), column.size), block.dtype)
        whole[present] = block
        block = whole
        if not column.nullable:
            problems.append((_MISSING, np.flatnonzero(absent)))
    return Cells(_tensor(block, absent if column.nullable else None, column), None, problems)


def _cell_by_cell(values: pa.Array, column: Column, shapes: Sequence[Sequence[int] | str] | None) -> Cells:
    arrays: list[np.ndarray[Any, Any] | None] = []
    broken: dict[str, list[int]] = {}
    wanted = " x ".join("any" if axis is None else str(axis) for axis in column.shape or ())
    for row, cell in enumerate(values.to_pylist()):
        array, rule = None, None
        if cell is None:
            rule = None if column.nullable else _MISSING
        else:
            array = _array(cell, column, shapes[row] if shapes is not None else None)
            if array is None:
                rule = f"not an array of {wanted} numbers"
            else:
                rule = next((text for text, wrong in _wrong_elements(array, column) if wrong.any()), None)
        if rule is not None:
            broken.setdefault(rule, []).append(row)
        arrays.append(array)
    problems: Problems = [(rule, np.array(rows, dtype=np.int64)) for rule, rows in broken.items()]
    if column.ragged:
        flat = pa.array([None if array is None else array.ravel() for array in arrays], column.arrow_type())
        sizes = [None if array is None else list(array.shape) for array in arrays]
        return Cells(flat, pa.array(sizes, pa.list_(pa.int32())), problems)
    block = np.zeros((len(arrays), column.size), column.dtype)
    for row, array in enumerate(arrays):
        if array is not None:
            block[row] = array.ravel()
    absent = np.array([array is None for array in arrays]) if column.nullable else None
    return Cells(_tensor(block, absent, column), None, problems)


def _array(cell: Any, column: Column, shape: Sequence[int] | str | None) -> np.ndarray[Any, Any] | None:
    try:
        if isinstance(cell, str):
            cell = json.loads(cell)
        array = np.asarray(cell)
        if array.dtype.kind not in ("b" if column.dtype == "bool" else "iuf"):
            return None
        if shape is not None:
            array = array.reshape(tuple(json.loads(shape) if isinstance(shape, str) else shape))
        with np.errstate(invalid="ignore"):
            cast = array.astype(column.dtype)
    except (TypeError, ValueError, OverflowError):
        return None
    if column.dtype.startswith("int") and not np.array_equal(cast, array):
        return None
    return cast if _fits(array.shape, column.shape or ()) else None


def _wrong_elements(values: np.ndarray[Any, Any], column: Column) -> list[tuple[str, np.ndarray[Any, Any]]]:
    finite = np.isfinite(values)
    found = [(_NOT_FINITE, ~finite)]
    if column.minimum is not None:
        found.append((f"the array holds values below {column.minimum:g}", finite & (values < column.minimum)))
    if column.maximum is not None:
        found.append((f"the array holds values above {column.maximum:g}", finite & (values > column.maximum)))
    return found


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        axis in (None, size) for axis, size in zip(wanted, shape, strict=True)
    )


def _tensor(block: np.ndarray[Any, Any], absent: np.ndarray[Any, Any] | None, column: Column) -> pa.Array:
    target = column.arrow_type()
    elements = pa.array(block.ravel(), target.value_type)
    mask = pa.array(absent) if absent is not None and absent.any() else None
    storage = pa.FixedSizeListArray.from_arrays(elements, column.size, mask=mask)
    return pa.ExtensionArray.from_storage(target, storage)


def _nothing(column: Column, count: int) -> Cells:
    shape = " x ".join("any" if axis is None else str(axis) for axis in column.shape or ())
    problems: Problems = [(f"not an array of {shape} numbers", np.arange(count))]
    shapes = pa.nulls(count, pa.list_(pa.int32())) if column.ragged else None
    return Cells(pa.nulls(count, column.arrow_type()), shapes, problems)
