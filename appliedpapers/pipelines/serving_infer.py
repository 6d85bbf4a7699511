"""The tensor form of the Open Inference Protocol (version 2): a tensor for each column, in JSON.

A request is turned into columns and judged as any other; its answer is turned into tensors. JSON alone is
read, not the protocol's binary extension. Where a value is missing, ``data`` has null: the protocol has no
word for that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from appliedpapers.core.json_rows import to_json
from appliedpapers.core.schema import Column
from appliedpapers.pipelines.serving_about import datatype_of, tensor_shape
from appliedpapers.pipelines.serving_codec import parse_json
from appliedpapers.pipelines.serving_files import kind_of
from appliedpapers.pipelines.serving_problems import Refused, refuse, shorten
from appliedpapers.pipelines.serving_settings import ServedModel

_NUMBERS = ("FP16", "FP32", "FP64")
_WHOLE = tuple(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(_NUMBERS, (int, float)),
    **dict.fromkeys(_WHOLE, (int,)),
    "BOOL": (bool,),
    "BYTES": (str,),
}
_MOST_AXES, _LONGEST = 16, 2**31
_EXPECTED = 'Expected {"inputs": [{"name": "a", "shape": [1], "datatype": "FP64", "data": [0.5]}]}.'


@dataclass(frozen=True)
class Asked:
    """A request that was read.

    Attributes:
        body: The same as JSON columns, as ``/invocations`` takes it.
        outputs: Columns that are wanted, in this order.
        id: What the client calls the request; None where it does not.
    """

    body: bytes
    outputs: Sequence[Column]
    id: str | None


def read_tensors(body: bytes, served: ServedModel) -> Asked:
    """Read a request.

    Raises:
        Refused: 400, it is not of that form; the tensor is named.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise _malformed(f"A JSON {kind_of(document)} at the top.")
    known = document.get("id")
    if known is not None and not isinstance(known, str):
        raise _malformed(f"'id' is a {kind_of(known)}, not text.")
    tensors = _listed(document, "inputs")
    if not tensors:
        raise _malformed("'inputs' is missing or empty.")
    columns: dict[str, list[Any]] = {}
    for name, tensor in tensors:
        if name in columns:
            raise _malformed(f"The tensor '{shorten(name)}' stands twice.")
        columns[name] = _cells(name, tensor, served)
        first = next(iter(columns))
        if len(columns[name]) != len(columns[first]):
            raise _malformed(
                f"The tensor '{shorten(name)}' has {len(columns[name])} rows, '{shorten(first)}' has "
                f"{len(columns[first])}."
            )
    return Asked(to_json({"inputs": columns}), _wanted(document, served), known)


def write_tensors(asked: Asked, served: ServedModel, answer: bytes) -> bytes:
    """Return an answer of ``/invocations`` as tensors.

    Arrays whose shapes differ from row to row are no tensor: each is the text of its JSON.
    """
    rows = json.loads(answer)["predictions"]
    outputs = [
        {
            "name": column.name,
            "shape": [len(rows), *tensor_shape(column)],
            "datatype": datatype_of(column),
            "data": _flat_output(column, [row.get(column.name) for row in rows]),
        }
        for column in asked.outputs
    ]
    named = {} if asked.id is None else {"id": asked.id}
    return to_json({"model_name": served.name, "model_version": served.version, **named, "outputs": outputs})


def _wanted(document: Mapping[str, Any], served: ServedModel) -> Sequence[Column]:
    schema = served.model.output_schema
    names = [name for name, _ in _listed(document, "outputs")]
    for name in names:
        if name not in schema.names:
            raise _malformed(f"There is no output '{shorten(name)}'.", f"Known: {', '.join(schema.names)}.")
    return [schema.column(name) for name in names] if names else schema.columns


def _listed(document: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the tensors of a list by their names."""
    items = document.get(key)
    if items is None:
        return []
    if not isinstance(items, list):
        raise _malformed(f"'{key}' is a {kind_of(items)}, not a list of tensors.")
    found: list[tuple[str, Mapping[str, Any]]] = []
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise _malformed(f"{key}, item {number}: no object with a 'name'.")
        if "binary_data_size" in _parameters(item) or _parameters(item).get("binary_data"):
            raise _malformed(f"{key}, '{shorten(item['name'])}': binary data are not read.", "Send JSON.")
        found.append((item["name"], item))
    return found


def _cells(name: str, tensor: Mapping[str, Any], served: ServedModel) -> list[Any]:
    """Return what stands in each row of a column."""
    shape, kinds = _shape(name, tensor), _KINDS.get(str(tensor.get("datatype")))
    if kinds is None:
        found = shorten(str(tensor.get("datatype")))
        raise _malformed(f"'{shorten(name)}': datatype {found}.", f"Expected one of {', '.join(_KINDS)}.")
    flat = _flat(name, tensor.get("data"), shape)
    for place, value in enumerate(flat):
        # JSON has one kind of number: 2.0 is a whole one
        kind = int if type(value) is float and value.is_integer() else type(value)
        if value is not None and kind not in kinds:
            raise _malformed(
                f"'{shorten(name)}', value {place}: a {kind_of(value)} in a tensor of {tensor['datatype']}."
            )
    if _parameters(tensor).get("content_type") == "base64":
        flat = [{"b64": value} for value in flat]
    schema = served.model.input_schema
    plain = name not in schema.names or schema.column(name).shape is None
    size = math.prod(shape[1:])
    if len(shape) == 1 or (plain and size == 1):
        return flat
    return [_nested(flat[start * size : (start + 1) * size], shape[1:]) for start in range(shape[0])]


def _shape(name: str, tensor: Mapping[str, Any]) -> list[int]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not 0 < len(shape) <= _MOST_AXES:
        raise _malformed(f"'{shorten(name)}': 'shape' is no list of 1 to {_MOST_AXES} sizes.")
    for number, axis in enumerate(shape):
        # rows without values would cost nothing to ask for
        if type(axis) is not int or not min(number, 1) <= axis < _LONGEST:
            raise _malformed(f"'{shorten(name)}': size {number} in 'shape' is no number that fits there.")
    return shape


def _flat(name: str, data: Any, shape: Sequence[int]) -> list[Any]:
    """Return the values of a tensor in a row, which may have come nested."""
    if not isinstance(data, list):
        raise _malformed(f"'{shorten(name)}': 'data' is no list.")
    flat, axes = data, list(shape[1:])
    if any(isinstance(value, list) for value in data):
        if len(data) != shape[0]:
            raise _malformed(f"'{shorten(name)}': {len(data)} rows of data, and its shape says {shape[0]}.")
        for axis in axes:
            if not all(isinstance(value, list) and len(value) == axis for value in flat):
                raise _malformed(f"'{shorten(name)}': its data are not nested as its shape says.")
            flat = list(chain.from_iterable(flat))
    if len(flat) != math.prod(shape):
        raise _malformed(
            f"'{shorten(name)}': {len(flat)} values, and a tensor of shape {shape} has {math.prod(shape)}."
        )
    return flat


def _nested(flat: Sequence[Any], shape: Sequence[int]) -> Any:
    """Return values as nested lists; an array without any value is missing."""
    if all(value is None for value in flat):
        return None
    found = list(flat)
    for axis in reversed(shape[1:]):
        found = [found[start : start + axis] for start in range(0, len(found), axis)]
    return found


def _flat_output(column: Column, cells: Sequence[Any]) -> list[Any]:
    if column.shape is None:
        return list(cells)
    if column.ragged:
        return [None if cell is None else json.dumps(cell) for cell in cells]
    flat: list[Any] = []
    for cell in cells:
        values: list[Any] = [None] * column.size if cell is None else cell
        for _ in column.shape[1:] if cell is not None else ():
            values = list(chain.from_iterable(values))
        flat += values
    return flat


def _parameters(tensor: Mapping[str, Any]) -> Mapping[str, Any]:
    found = tensor.get("parameters")
    return found if isinstance(found, dict) else {}


def _malformed(detail: str, hint: str = _EXPECTED) -> Refused:
    return refuse(400, "malformed", detail, hint)
