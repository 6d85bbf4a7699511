"""Reading graphs: our npz, and plain tables of nodes and edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from appliedpapers.nn.graph.container import Graph, GraphError, clean_edges, numbered
from appliedpapers.nn.graph.sparse import SparseMatrix

_ARRAYS = ("x_data", "x_indices", "x_indptr", "x_shape", "y", "edge_index", "split")
_PARTS = {"train": 0, "valid": 1, "test": 2, "none": -1}


def read_npz(path: Path | str) -> Graph:
    """Read a graph from ``graph_NAME.npz``.

    Arrays: ``x_data``, ``x_indices``, ``x_indptr``, ``x_shape`` (features in CSR; ``x_data`` of length 1
    stands for ones), ``y`` (-1 unlabelled), ``edge_index (2, E)``, ``split (K, N)`` (0 train, 1 valid,
    2 test, -1 none).

    Raises:
        GraphError: An array is missing or does not fit the others.
        FileNotFoundError: There is no such file.
    """
    where = Path(path).name
    with np.load(path, allow_pickle=False) as file:
        missing = [name for name in _ARRAYS if name not in file.files]
        if missing:
            raise GraphError(f"{where}: the array '{missing[0]}' is missing; expected {', '.join(_ARRAYS)}")
        arrays = {name: file[name] for name in _ARRAYS}
    nodes, width = (int(size) for size in arrays["x_shape"])
    columns = arrays["x_indices"].astype(np.int32)
    pointers = arrays["x_indptr"].astype(np.int32)
    values = arrays["x_data"].astype(np.float32)
    if len(values) == 1 and len(columns) != 1:
        values = np.full(len(columns), values[0], dtype=np.float32)
    sizes = {"x_indptr": len(pointers) - 1, "y": len(arrays["y"]), "split": arrays["split"].shape[-1]}
    for name, size in sizes.items():
        if size != nodes:
            raise GraphError(f"{where}: '{name}' speaks of {size} nodes, x_shape of {nodes}")
    if len(values) != len(columns) or (len(columns) and not 0 <= columns.min() <= columns.max() < width):
        raise GraphError(f"{where}: x_indices must be within 0..{width - 1}, as many as x_data")
    _finite(values, where)
    edges, dropped = clean_edges(arrays["edge_index"], nodes, where)
    labels, classes = numbered(arrays["y"])
    parts = [torch.from_numpy(part) for part in (pointers, columns, values)]
    features = SparseMatrix(parts[0], parts[1], parts[2], width)
    return Graph(features, edges, labels, classes, np.atleast_2d(arrays["split"]), dropped=dropped)


def read_tables(nodes: Path | str, edges: Path | str, features: Path | str | None = None) -> Graph:
    """Read a graph from tables, each Parquet or CSV.

    Args:
        nodes: Columns ``id``, ``label`` (empty where unknown), optionally ``split`` (``train``, ``valid``,
            ``test`` or empty; ``split_0``, ``split_1``, ... for several); every other column is a feature.
        edges: Columns ``src`` and ``dst``, ids of nodes.
        features: Sparse features instead: columns ``id``, ``feature`` (0, 1, ...), ``value``.

    Raises:
        GraphError: A column is missing, an id is unknown or appears twice, a value is no number.
        FileNotFoundError: There is no such file.
    """
    table = _table(nodes, ("id", "label"))
    where = Path(nodes).name
    ids = table["id"].to_pylist()
    place = {name: index for index, name in enumerate(ids)}
    if len(place) != len(ids):
        twice = next(name for index, name in enumerate(ids) if place[name] != index)
        raise GraphError(f"{where}, column 'id': {twice!r} appears twice; ids must be unique")
    split_names = [name for name in table.column_names if name == "split" or name.startswith("split_")]
    own = [name for name in table.column_names if name not in ("id", "label", *split_names)]
    matrix = _own_features(table, own, where) if features is None else _sparse_features(features, place)
    pairs = _table(edges, ("src", "dst"))
    ends = [_places(pairs[name].to_pylist(), place, Path(edges).name, name) for name in ("src", "dst")]
    clean, dropped = clean_edges(np.stack(ends), len(ids), Path(edges).name)
    labels, classes = numbered(np.array(table["label"].to_pylist(), dtype=object))
    splits = np.stack([_split(table[name].to_pylist(), where, name) for name in split_names] or [_none(ids)])
    return Graph(matrix, clean, labels, classes, splits, ids=tuple(ids), dropped=dropped)


def _none(ids: list[Any]) -> np.ndarray:
    return np.full(len(ids), -1, dtype=np.int8)


def _table(path: Path | str, needed: tuple[str, ...]) -> Any:
    from pyarrow import csv, parquet

    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    table = parquet.read_table(file) if file.suffix.lower() == ".parquet" else csv.read_csv(file)
    for name in needed:
        if name not in table.column_names:
            have = ", ".join(table.column_names)
            raise GraphError(f"{file.name}: the column '{name}' is missing; it has {have}")
    return table


def _own_features(table: Any, names: list[str], where: str) -> SparseMatrix:
    from scipy.sparse import csr_matrix

    if not names:
        raise GraphError(f"{where}: there is no feature column beside id, label and split")
    columns = []
    for name in names:
        try:
            columns.append(np.asarray(table[name].to_numpy(), dtype=np.float32))
        except (TypeError, ValueError) as error:
            raise GraphError(f"{where}, column '{name}': features must be numbers") from error
    stacked = np.stack(columns, axis=1)
    bad = np.argwhere(~np.isfinite(stacked))
    if bad.size:
        row, column = bad[0]
        raise GraphError(f"{where}, row {row + 1}, column '{names[column]}': a feature is empty or infinite")
    return SparseMatrix.of(csr_matrix(stacked))


def _sparse_features(path: Path | str, place: dict[Any, int]) -> SparseMatrix:
    from scipy.sparse import coo_matrix

    table = _table(path, ("id", "feature", "value"))
    rows = _places(table["id"].to_pylist(), place, Path(path).name, "id")
    columns = np.asarray(table["feature"].to_numpy())
    values = np.asarray(table["value"].to_numpy(), dtype=np.float32)
    if columns.dtype.kind not in "iu" or (columns.size and columns.min() < 0):
        raise GraphError(f"{Path(path).name}, column 'feature': expected whole numbers from 0")
    _finite(values, Path(path).name)
    width = int(columns.max()) + 1 if columns.size else 1
    return SparseMatrix.of(coo_matrix((values, (rows, columns)), (len(place), width)))


def _finite(values: np.ndarray, where: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise GraphError(
            f"{where}: feature value {int(bad[0]) + 1} is {values[bad[0]]}; expected finite numbers"
        )


def _places(ids: list[Any], place: dict[Any, int], where: str, column: str) -> np.ndarray:
    unknown = [index for index, name in enumerate(ids) if name not in place]
    if unknown:
        first = unknown[0]
        raise GraphError(
            f"{where}, row {first + 1}, column '{column}': {ids[first]!r} is no node's id; "
            f"{len(unknown)} of {len(ids)} rows name unknown nodes"
        )
    return np.array([place[name] for name in ids], dtype=np.int64)


def _split(values: list[Any], where: str, column: str) -> np.ndarray:
    parts = _none(values)
    for index, value in enumerate(values):
        if value in (None, "", -1):
            continue
        part = _PARTS.get(value, value) if isinstance(value, str) else value
        if part not in _PARTS.values():
            raise GraphError(
                f"{where}, row {index + 1}, column '{column}': {value!r} is not train, valid or test"
            )
        parts[index] = part
    return parts
