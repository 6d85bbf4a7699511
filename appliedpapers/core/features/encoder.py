"""The encoder of a table: fitted on train rows, stored as JSON and Parquet, grown by new days.

Example:
    >>> encoder = fit_encoder(fields, train.to_batches)
    >>> rows = encoder.encode(table, label=True)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from appliedpapers.core.errors import BundleError, DataError, did_you_mean
from appliedpapers.core.features.coders import AnyCoder, drafts
from appliedpapers.core.features.encoded import EncodedField, EncodedRows
from appliedpapers.core.features.fields import Fields, FieldSpec, check_fields, column_of
from appliedpapers.core.features.fitting import Tally
from appliedpapers.core.features.labels import labels_of, weights_of
from appliedpapers.core.features.vocabulary import EXACT_TOKENS, Vocabulary
from appliedpapers.core.files import whole_file

VOCABULARY_FILE = "vocabulary.parquet"
FORMAT = 1

Batches = Callable[[], Iterable[pa.RecordBatch]]
Say = Callable[[str], None]

# rows that are encoded at once: the memory beyond the result stays bounded
_SLICE = 1 << 20
_COLUMNS = pa.schema([("field", pa.string()), ("token", pa.large_string()), ("count", pa.int64())])


@dataclass(frozen=True)
class Encoder:
    """Turns rows of a table into ids and numbers; immutable and safe to share between threads.

    Attributes:
        columns: Role and options of every column, in schema order.
        coders: One a column of input.
        rows: Train rows that it was fitted on and grown by.
        missing: Train rows without a value, by column of input.
    """

    columns: Fields
    coders: tuple[AnyCoder, ...]
    rows: int
    missing: Mapping[str, int]

    @cached_property
    def fields(self) -> tuple[EncodedField, ...]:
        """The inputs of a model, in schema order."""
        return tuple(one for coder in self.coders for one in coder.fields)

    def vocabulary(self, field: str) -> Vocabulary | None:
        """Return the known tokens of a field; None for fields without, such as numeric and hashed ones.

        Raises:
            KeyError: There is no such field.
        """
        if field not in {one.name for one in self.fields}:
            raise KeyError(field)
        return self._vocabularies.get(field)

    def encode(
        self, table: pa.Table | pa.RecordBatch, *, label: bool = False, first_row: int = 1
    ) -> EncodedRows:
        """Return rows as ids and numbers, one for each row of the table and in its order.

        Args:
            table: Columns by name; further ones are ignored, optional ones may be absent.
            label: Take the label, and the weight where the schema has one; else neither is looked at.
            first_row: Number of the first row, for errors.

        Raises:
            DataError: A column is absent, stands twice or does not hold what its role says; the column and,
                where a value is at fault, its row are named.
        """
        rows = table.num_rows
        kinds = [one.kind for one in self.fields]
        ids = np.empty((rows, kinds.count("categorical")), np.int32)
        numbers = np.empty((rows, kinds.count("numeric")), np.float32)
        sequences = tuple(
            np.empty((rows, one.length), np.int32) for one in self.fields if one.kind == "sequence"
        )
        labels = np.empty(rows, np.float32) if label else None
        weight = column_of(self.columns, "weight") if label else None
        weights = np.empty(rows, np.float32) if weight is not None else None
        targets = {
            "categorical": iter(ids.T),
            "numeric": iter(numbers.T),
            "sequence": iter(sequences),
        }
        places = [next(targets[kind]) for kind in kinds]
        for start in range(0, rows, _SLICE):
            part = _Columns(table.slice(start, _SLICE) if rows > _SLICE else table, self.columns)
            span = slice(start, start + _SLICE)
            where = iter(places)
            for coder in self.coders:
                for values in coder.encode(part.get(coder.column), first_row + start):
                    next(where)[span] = values
            if labels is not None:
                name = column_of(self.columns, "label") or ""
                labels[span] = labels_of(part.get(name), name, first_row + start)
            if weights is not None and weight is not None:
                weights[span] = weights_of(part.get(weight), weight, first_row + start)
        if not rows:
            self._check_columns(table)
        return EncodedRows(self.fields, ids, numbers, sequences, labels, weights)

    def grow(self, batches: Batches, *, say: Say | None = None, exact: int = EXACT_TOKENS) -> Encoder:
        """Return an encoder that knows the tokens of new rows, too.

        Known tokens keep their ids, new ones with at least ``min_count`` new rows follow, and the id of what
        was never seen moves to the new end. Normalisers, edges of buckets, lengths of sequences and the
        fields themselves stay. :meth:`rows_from` says how the tables of a network grow along.

        Args:
            batches: Called once for the new rows.
            say: Told what a person should know.
            exact: Distinct new tokens of a field that are counted exactly.

        Raises:
            DataError: There are no new rows, or a column does not hold what its role says.
        """
        rows, tallies = _tally(self.columns, self.coders, batches, exact, say)
        return replace(
            self,
            coders=tuple(one.grown() for one in tallies),
            rows=self.rows + rows,
            missing={one.coder.column: self.missing[one.coder.column] + one.missing for one in tallies},
        )

    def rows_from(self, old: Encoder) -> dict[str, NDArray[np.int64]]:
        """Return which row of the old table each row of the new one starts from, ``(size,)`` by field.

        A token that the old encoder did not know starts from the row of what was never seen. Numeric fields
        have no table and are left out.

        Raises:
            ValueError: The encoders have different fields.
        """
        known = {one.name: one for one in old.fields}
        if [(one.name, one.kind) for one in self.fields] != [(one.name, one.kind) for one in old.fields]:
            raise ValueError("the encoders have different fields")
        result = {}
        for field in self.fields:
            if field.kind == "numeric":
                continue
            rows = np.arange(field.size, dtype=np.int64)
            new, before = self.vocabulary(field.name), old.vocabulary(field.name)
            if new is not None and before is not None:
                rows[1:-1] = before.ids(new.tokens)
                rows[-1] = known[field.name].unseen
            elif field.size != known[field.name].size:
                raise ValueError(f"field '{field.name}' has {known[field.name].size} rows and cannot grow")
            result[field.name] = rows
        return result

    def describe(self) -> Iterator[tuple[str, str]]:
        """Yield facts for a person: a name and a text each."""
        yield "train rows", f"{self.rows:,}"
        yield "fields", ", ".join(one.name for one in self.fields)
        for field in self.fields:
            if field.kind == "numeric":
                what = f"numeric, {self.columns[field.column].normaliser}"
            elif field.kind == "sequence":
                what = f"sequence of up to {field.length}, {field.size:,} ids"
            else:
                what = f"categorical, {field.size:,} ids"
            share = self.missing[field.column] / max(self.rows, 1)
            yield field.name, f"{what}, missing in {100 * share:.2f} % of the train rows"

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the vocabularies to ``folder/vocabulary.parquet`` and return the rest, for JSON.

        The file has the columns field, token (null for missing values) and count, in id order.

        Raises:
            RunError: The folder is not writable.
        """
        with (
            whole_file(folder / VOCABULARY_FILE) as aside,
            pq.ParquetWriter(aside, _COLUMNS, compression="zstd") as writer,
        ):
            for name, vocabulary in self._vocabularies.items():
                names = pa.repeat(pa.scalar(name, pa.string()), len(vocabulary.tokens))
                counts = pa.array(vocabulary.counts, pa.int64())
                writer.write_table(pa.table([names, vocabulary.tokens, counts], schema=_COLUMNS))
        return {
            "format": FORMAT,
            "rows": self.rows,
            "missing": dict(self.missing),
            # a list, since the order of columns matters and some writers of JSON sort keys
            "columns": [
                {"name": name, **spec.model_dump(mode="json", exclude_unset=True)}
                for name, spec in self.columns.items()
            ],
            "learnt": {coder.column: coder.state() for coder in self.coders},
            "sizes": {one.name: one.size for one in self.fields},
        }

    @classmethod
    def read(cls, state: Mapping[str, Any], folder: Path) -> Encoder:
        """Return the encoder that :meth:`write` stored.

        Raises:
            BundleError: The file is absent or does not belong to the state, or the format is newer.
        """
        path = folder / VOCABULARY_FILE
        if state.get("format") != FORMAT:
            raise BundleError(
                f"{path.parent}: the encoder has the format {state.get('format')}, known is {FORMAT}.",
                hint="Load it with the release that wrote it, or a newer one.",
            )
        try:
            stored = _read_vocabularies(path)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise BundleError(f"{path}: cannot be read.", hint="Restore the bundle.") from error
        columns = {
            one["name"]: FieldSpec(**{key: value for key, value in one.items() if key != "name"})
            for one in state["columns"]
        }
        coders = []
        for draft in drafts(columns):
            lookups = tuple(
                stored.get(name, lookup) if isinstance(lookup, Vocabulary) else lookup
                for name, lookup in zip(draft.names, draft.lookups, strict=True)
            )
            coders.append(draft.restored(state["learnt"][draft.column], lookups))
        encoder = cls(columns, tuple(coders), int(state["rows"]), dict(state["missing"]))
        if {one.name: one.size for one in encoder.fields} != dict(state["sizes"]):
            raise BundleError(f"{path}: does not belong to its encoder.", hint="Restore the bundle.")
        return encoder

    @cached_property
    def _vocabularies(self) -> dict[str, Vocabulary]:
        return {
            name: lookup
            for coder in self.coders
            for name, lookup in zip(coder.names, coder.lookups, strict=True)
            if isinstance(lookup, Vocabulary)
        }

    def _check_columns(self, table: pa.Table | pa.RecordBatch) -> None:
        columns = _Columns(table, self.columns)
        for coder in self.coders:
            columns.get(coder.column)


def fit_encoder(
    fields: Fields, batches: Batches, *, say: Say | None = None, exact: int = EXACT_TOKENS
) -> Encoder:
    """Return the encoder of a table, fitted on its train rows in one pass.

    Args:
        fields: Role and options of every column, in schema order.
        batches: Called once for the train rows; what it yields needs every column of input.
        say: Told what a person should know, such as columns without any value.
        exact: Distinct tokens of a field that are counted exactly; beyond, the rarest are dropped.

    Raises:
        ConfigError: The roles contradict one another.
        DataError: There are no train rows, a column is absent or does not hold what its role says.
    """
    check_fields(fields)
    rows, tallies = _tally(fields, drafts(fields), batches, exact, say)
    coders = tuple(one.fitted() for one in tallies)
    missing = {one.coder.column: one.missing for one in tallies}
    if say is not None:
        for column, count in missing.items():
            if count == rows:
                say(f"column '{column}' is missing in every train row: nothing can be learnt from it.")
    return Encoder(dict(fields), coders, rows, missing)


def _tally(
    fields: Fields, coders: tuple[AnyCoder, ...], batches: Batches, exact: int, say: Say | None
) -> tuple[int, tuple[Tally, ...]]:
    tallies = tuple(Tally.start(coder, exact, say) for coder in coders)
    rows = 0
    for batch in batches():
        if not batch.num_rows:
            continue
        columns = _Columns(batch, fields)
        for tally in tallies:
            tally.add(columns.get(tally.coder.column), rows + 1)
        rows += batch.num_rows
    if not rows:
        raise DataError("there are no train rows.", hint="Check the file and how it is split.")
    return rows, tallies


class _Columns:
    """The columns of a table by name."""

    def __init__(self, table: pa.Table | pa.RecordBatch, fields: Fields) -> None:
        self._table = table
        self._fields = fields
        self._names = table.schema.names
        self._places = {name: place for place, name in enumerate(self._names)}

    def get(self, name: str) -> pa.Array:
        place = self._places.get(name)
        if place is None:
            if self._fields[name].optional:
                return pa.nulls(self._table.num_rows)
            raise DataError(
                f"column '{name}' ({self._fields[name].role}) is absent.",
                hint=did_you_mean(name, self._names)
                + " A column that may be absent has the option optional: true.",
            )
        if len(self._places) < len(self._names) and self._names.count(name) > 1:
            raise DataError(f"column '{name}' stands twice.", hint="Rename or drop one of them.")
        values = self._table.column(place)
        if isinstance(values, pa.ChunkedArray):
            # in recent versions an empty or single chunk costs no copy
            values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        return values


def _read_vocabularies(path: Path) -> dict[str, Vocabulary]:
    table = pq.read_table(path, partitioning=None).combine_chunks()
    names = table["field"].to_pylist() if table.num_rows < 1 else None
    if names == []:
        return {}
    encoded = table["field"].chunk(0).dictionary_encode()
    places = encoded.indices.to_numpy()
    tokens, counts = table["token"].chunk(0), table["count"].to_numpy()
    result = {}
    for place, name in enumerate(encoded.dictionary.to_pylist()):
        # fields are stored one after the other
        start, end = np.searchsorted(places, [place, place + 1])
        result[name] = Vocabulary(tokens[int(start) : int(end)], counts[start:end])
    return result
