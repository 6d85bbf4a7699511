"""The data contract: one schema for training files, REST requests and scoring batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from appliedpapers.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

DType = Literal["float64", "float32", "int64", "int32", "bool", "string", "timestamp"]
FileKind = Literal["raster", "slide", "image", "series", "document"]
RowRule = Literal["per_row", "per_group", "many"]

_JSON_TYPES = {
    "float64": "number",
    "float32": "number",
    "int64": "integer",
    "int32": "integer",
    "bool": "boolean",
    "string": "string",
    "timestamp": "string",
}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its name.
        dtype: Type of a value (of an element, for arrays). Timestamps are microseconds without zone.
        description: What it means, for people.
        unit: Unit of the values, such as ``"degC"``.
        nullable: Whether a missing value is legal. NaN counts as missing.
        required: Whether the column must be present; an absent optional column is filled with nulls.
        minimum: Smallest legal value.
        maximum: Largest legal value.
        categories: The only legal values of a string column.
        shape: Shape of an array in each cell; None in a place makes that axis ragged.
        file: The cell is a file of this kind: a string is its path, binary its bytes. In a prediction it is
            the path of a delivered file, relative to the folder that ``predict`` was given.
        example: A typical value, for forms and documentation.
        infinity: What an infinite number in a column of scalars is: a value that breaks the contract
            (``"refuse"``), or a missing one (``"missing"``), which is then judged by ``nullable``.
    """

    name: str
    dtype: DType
    description: str = ""
    unit: str | None = None
    nullable: bool = False
    required: bool = True
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None
    shape: tuple[int | None, ...] | None = None
    file: FileKind | None = None
    example: Any = None
    infinity: Literal["refuse", "missing"] = "refuse"

    @property
    def ragged(self) -> bool:
        """Whether the cells are arrays whose shapes differ."""
        return self.shape is not None and None in self.shape

    @property
    def size(self) -> int:
        """Number of elements of a fixed-shape array cell."""
        return math.prod(axis or 0 for axis in self.shape or ())

    def arrow_type(self) -> pa.DataType:
        """Return the Arrow type: fixed-shape arrays are tensors, ragged ones lists."""
        import pyarrow as pa

        scalar = pa.timestamp("us") if self.dtype == "timestamp" else getattr(pa, self._arrow_name())()
        if self.shape is None:
            return scalar
        if self.ragged:
            return pa.list_(scalar)
        return pa.fixed_shape_tensor(scalar, [axis or 0 for axis in self.shape])

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of one cell."""
        cell: dict[str, Any] = {"type": _JSON_TYPES[self.dtype]}
        if self.dtype == "timestamp":
            cell["description"] = "ISO 8601, such as 2024-01-31T14:00"
        if self.minimum is not None:
            cell["minimum"] = self.minimum
        if self.maximum is not None:
            cell["maximum"] = self.maximum
        if self.categories is not None:
            cell["enum"] = list(self.categories)
        for axis in reversed(self.shape or ()):
            cell = {"type": "array", "items": cell}
            if axis is not None:
                cell |= {"minItems": axis, "maxItems": axis}
        if self.nullable:
            cell = {"anyOf": [cell, {"type": "null"}]}
        text = "; ".join(
            part for part in (self.description, f"unit: {self.unit}" if self.unit else "") if part
        )
        return cell | ({"description": text} if text else {})

    def kind_text(self) -> str:
        """Return the type in words: ``string``, ``list of string``, ``float32 [3, any]``."""
        if self.shape == (None,):
            return f"list of {self.dtype}"
        axes = ", ".join("any" if axis is None else str(axis) for axis in self.shape or ())
        return f"{self.dtype} [{axes}]" if axes else self.dtype

    def range_text(self) -> str:
        """Return the legal values in words."""
        if self.categories is not None:
            return " \\| ".join(self.categories)
        if self.minimum is None and self.maximum is None:
            return ""
        low = "-∞" if self.minimum is None else f"{self.minimum:g}"
        high = "∞" if self.maximum is None else f"{self.maximum:g}"
        return f"{low} to {high}"

    def _arrow_name(self) -> str:
        return {"bool": "bool_", "string": "string"}.get(self.dtype, self.dtype)


@dataclass(frozen=True)
class TableSchema:
    """Columns of a table, and which rows belong together.

    Attributes:
        columns: The columns in order.
        group_by: Columns whose rows must stay together (a series, a patient case, a scene).
        order_by: Column that orders the rows of a group. They may come in any order, as where a group goes
            on in the next file; the model sorts them by this column.
    """

    columns: tuple[Column, ...]
    group_by: tuple[str, ...] = ()
    order_by: str | None = None

    def __post_init__(self) -> None:
        names = set(self.names)
        if len(names) < len(self.columns):
            raise ValueError(f"a column of the schema stands twice: {', '.join(self.names)}")
        for name in (*self.group_by, *([self.order_by] if self.order_by else [])):
            if name not in names:
                raise ValueError(f"group_by/order_by column '{name}' is not a column of the schema")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Return one column by name."""
        return next(column for column in self.columns if column.name == name)

    def arrow_schema(self) -> pa.Schema:
        """Return the Arrow schema; a ragged array has its shape in ``<name>_shape`` beside it."""
        return self._arrow_schema

    @cached_property
    def _arrow_schema(self) -> pa.Schema:
        import pyarrow as pa

        fields = []
        for column in self.columns:
            fields.append(pa.field(column.name, column.arrow_type(), nullable=column.nullable))
            if column.ragged:
                fields.append(pa.field(f"{column.name}_shape", pa.list_(pa.int32())))
        return pa.schema(fields)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of one record."""
        return {
            "type": "object",
            "properties": {column.name: column.json_schema() for column in self.columns},
            "required": [column.name for column in self.columns if column.required],
            "additionalProperties": True,
        }

    def markdown(self) -> str:
        """Return the column table of the documentation."""
        lines = ["| column | type | unit | range | missing | meaning |", "|---|---|---|---|---|---|"]
        for column in self.columns:
            kind = column.file or column.kind_text()
            missing = "allowed" if column.nullable else "no"
            cells = (column.name, kind, column.unit or "", column.range_text(), missing, column.description)
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form that :meth:`from_json` reads."""
        return {"columns": [_without_none(asdict(column)) for column in self.columns], **self._rest()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild a schema from :meth:`to_json`."""
        values = dict(document)
        values["columns"] = tuple(_column_from_json(item) for item in values["columns"])
        # bundles of earlier versions say what becomes of unknown columns, which are always carried
        values.pop("extra", None)
        for name in {"group_by", "keys"} & values.keys():
            values[name] = tuple(values[name])
        return cls(**values)

    def _rest(self) -> dict[str, Any]:
        return {"group_by": list(self.group_by), "order_by": self.order_by}


@dataclass(frozen=True)
class OutputSchema(TableSchema):
    """Schema of a prediction table.

    Attributes:
        rows: ``per_row`` (one output row an input row), ``per_group``, or ``many``.
        keys: Input columns that are carried over.
    """

    rows: RowRule = "per_row"
    keys: tuple[str, ...] = field(default=())

    def _rest(self) -> dict[str, Any]:
        return {**super()._rest(), "rows": self.rows, "keys": list(self.keys)}


@dataclass(frozen=True)
class Violation:
    """One value that breaks the contract; ``row`` counts from 1 within ``file``."""

    file: str
    row: int | None
    column: str
    value: str
    rule: str

    def sentence(self) -> str:
        """Return the violation in one line."""
        row = f", row {self.row}" if self.row is not None else ""
        return f"{self.file}, column '{self.column}'{row}: {self.rule}"


def violations_table(violations: Sequence[Violation]) -> pa.Table:
    """Return violations as an Arrow table: file, row, column, value, rule."""
    import pyarrow as pa

    kinds = {
        "file": pa.string(),
        "row": pa.int64(),
        "column": pa.string(),
        "value": pa.string(),
        "rule": pa.string(),
    }
    return pa.table(
        {name: pa.array([getattr(item, name) for item in violations], kind) for name, kind in kinds.items()}
    )


def violations_error(violations: Sequence[Violation], shown: int = 20) -> DataError:
    """Return one error for a list of violations; the first is the message, the others the hint."""
    first, *others = violations
    hint = f"{len(violations)} values break the contract." if others else "Correct the value and try again."
    for item in others[: shown - 1]:
        hint += f"\n  {item.sentence()}"
    return DataError(f"{first.sentence()}.", hint=hint, violations=violations_table(violations))


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _column_from_json(document: Mapping[str, Any]) -> Column:
    values = dict(document)
    for name in ("categories", "shape"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    return Column(**values)
