"""What a bundle remembers of its training data, so that later rows can be held against them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from appliedpapers.core.errors import AppsError
from appliedpapers.core.inference import predict_usable
from appliedpapers.core.profile import profile_of

if TYPE_CHECKING:
    from appliedpapers.core.data import Dataset, Split
    from appliedpapers.core.model import Model

_ROWS = 200_000
_EXAMPLE_ROWS = 20_000
_EXAMPLE_GROUPS = 16


def training_profile(dataset: Dataset, model: Model) -> dict[str, Any]:
    """Return ``{"profile": {"inputs": ..., "predictions": ...}}``, or nothing where nothing can be said.

    Inputs are those of the training part, thinned evenly where it is long; predictions are those for the
    first rows of the validation part, which the model did not learn from. A model whose items take long has
    none.
    """
    schema = model.input_schema
    names = [item.name for item in schema.columns if item.shape is None and item.file is None]
    if model.cost == "job" or not names:
        return {}
    inputs = profile_of(_thinned(dataset.train, names), schema)
    predictions = {} if model.needs_files else _predictions(dataset.valid, model)
    found = {"inputs": inputs, "predictions": predictions}
    return {"profile": found} if inputs or predictions else {}


def _predictions(valid: Split, model: Model) -> dict[str, Any]:
    schema = model.input_schema
    if any(column.file is not None for column in schema.columns):
        return {}
    table = valid.example(_EXAMPLE_GROUPS if schema.group_by else _EXAMPLE_ROWS)
    try:
        predicted = predict_usable(model, table).table
    except AppsError:
        # the rows of a part need not be what a user would send, such as one that is too short
        return {}
    return {} if predicted is None else profile_of(predicted, model.output_schema)


def _thinned(split: Split, names: list[str]) -> pa.Table:
    kept: list[pa.Table] = []
    stride = 1
    for batch in split.batches():
        table = pa.Table.from_batches([batch])
        table = table.select([name for name in names if name in table.column_names])
        kept.append(table.take(np.arange(0, table.num_rows, stride)))
        if sum(part.num_rows for part in kept) > 2 * _ROWS:
            kept = [pa.concat_tables(kept)]
            kept = [kept[0].take(np.arange(0, kept[0].num_rows, 2))]
            stride *= 2
    return pa.concat_tables(kept) if kept else pa.table({})
