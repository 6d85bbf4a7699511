"""Roles of columns guessed from their names, types and values, for a person to check."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from appliedpapers.core.data import part_named
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.features.classes import is_zero_one
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.features.instants import instants
from appliedpapers.core.features.quantities import is_quantity
from appliedpapers.core.features.rows import RowSource, require_columns
from appliedpapers.core.features.tokens import is_text

SAMPLE_ROWS = 100_000
SEPARATORS = "|;, "

_LABELS = re.compile(
    r"(is_?)?(label|labels|click|clicks|clicked|y|target|converted|conversion|purchased?|installed?|response)"
)
_SPLITS = re.compile(r"split|part|partition|fold|subset|set")
_WEIGHTS = re.compile(r"weights?|sample_?weights?|row_?weights?")
# not every word that ends so names an id: bid, paid, humid
_IDS = re.compile(
    r"(.*_)?(u|g|p|s|c|gu|uu)?ids?|.*(user|item|ad|app|site|shop|product|movie|device|campaign)ids?"
)
_CODES = re.compile(
    r"(.*_)?(user|item|ad|app|site|shop|store|product|device|campaign|channel|category|brand|country|city|"
    r"region|state|zip|zipcode|postcode|code|hash|key|type|model|version)"
)
_TIMES = re.compile(r"(.*_)?(time|timestamp|datetime|date|ts|hour|day|at)")
_ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"
_HOURS = "%y%m%d%H"
_DAYS = "%Y%m%d"
# seconds of 2000 to 2100, and the same in milliseconds
_EPOCHS = ((946_684_800, 4_102_444_800), (946_684_800_000, 4_102_444_800_000))
_FEW = 50
_ROW_ID_SHARE = 0.95
_ROW_ID_ROWS = 50
_SEQUENCE_SHARE = 0.2


@dataclass(frozen=True)
class Column:
    """What a sample shows of one column.

    Attributes:
        type: Its Arrow type, as text.
        distinct: Different values in the sample; None for lists.
        missing: Share of missing values in the sample.
        example: The first value that is there, as text.
    """

    type: str
    distinct: int | None
    missing: float
    example: str


@dataclass(frozen=True)
class Inferred:
    """Roles that a table seems to have.

    Attributes:
        fields: Role of every column, in the order of the table.
        reasons: Why, in a few words, by column.
        warnings: What a person should look at.
        columns: What the sample shows, by column.
        sampled: Rows that were looked at.
    """

    fields: dict[str, FieldSpec]
    reasons: dict[str, str]
    warnings: tuple[str, ...]
    columns: dict[str, Column] = field(default_factory=dict)
    sampled: int = 0


@dataclass(frozen=True)
class _Guess:
    spec: FieldSpec
    reason: str
    warning: str | None = None


def infer_fields(source: RowSource, *, sample_rows: int = SAMPLE_ROWS, label: str | None = None) -> Inferred:
    """Guess what each column is for.

    Args:
        source: The rows; a sample from all over them is looked at.
        sample_rows: About how many rows to look at.
        label: The label, where no column's name gives it away.

    Raises:
        ConfigError: No column, or more than one, could be the label by its name.
        DataError: ``label`` does not exist or holds something else than 0 and 1.
    """
    sample = source.sample(sample_rows)
    values = {name: sample.column(name).combine_chunks() for name in sample.column_names}
    chosen = _label(source, values, label)
    guesses: dict[str, _Guess] = {}
    taken: set[str] = {"label"}
    for name, column in values.items():
        if name == chosen:
            guesses[name] = _Guess(FieldSpec(role="label"), "given" if label else "0/1, and so named")
            continue
        guesses[name] = _once(_guess(name, column), name, taken)
        taken.add(guesses[name].spec.role)
    return Inferred(
        {name: guess.spec for name, guess in guesses.items()},
        {name: guess.reason for name, guess in guesses.items()},
        tuple(guess.warning for guess in guesses.values() if guess.warning),
        {name: _look(column) for name, column in values.items()},
        sample.num_rows,
    )


def _label(source: RowSource, values: Mapping[str, pa.Array], given: str | None) -> str:
    if given is not None:
        require_columns([given], list(values), source.name)
        if not is_zero_one(values[given]):
            raise DataError(
                f"{source.name}: column '{given}' holds other values than 0 and 1.",
                hint="A label is 0 or 1: name another column, or make it so.",
            )
        return given
    binary = [name for name, column in values.items() if is_zero_one(column)]
    named = [name for name in binary if _LABELS.fullmatch(name.lower())]
    if len(named) == 1:
        return named[0]
    shown = ", ".join((named or binary)[:20]) or "none"
    problem = "several columns could be the label" if named else "no 0/1 column has the name of a label"
    raise ConfigError(
        f"{source.name}: {problem}; {'these' if named else '0/1 columns'}: {shown}.",
        hint="Say which it is: --label COLUMN, or 'role: label' in the file given to --config.",
    )


def _once(guess: _Guess, name: str, taken: set[str]) -> _Guess:
    """Keep one timestamp, one split and one weight; later ones are ignored aloud."""
    role = guess.spec.role
    if role not in ("timestamp", "split", "weight") or role not in taken:
        return guess
    return _ignore(f"a second {role} column", f"column '{name}' is a second {role} column and is ignored")


def _ignore(reason: str, warning: str | None = None, *, carry: bool = False) -> _Guess:
    spec = FieldSpec(role="ignore", carry=True) if carry else FieldSpec(role="ignore")
    return _Guess(spec, reason, warning)


def _guess(name: str, column: pa.Array) -> _Guess:
    kind, low = column.type, name.lower()
    present = column.drop_null()
    if pa.types.is_floating(kind):
        present = present.filter(pc.invert(pc.is_nan(present)))
    if not len(present):
        return _ignore("no values", f"column '{name}' has no values and is ignored")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _of_lists(name, present)
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _ignore(f"holds {kind}", f"column '{name}' holds {kind}, which cannot be learned from")
    distinct = pc.unique(present)
    if len(distinct) == 1:
        return _ignore("one value throughout", f"column '{name}' has one value throughout and is ignored")
    if _SPLITS.fullmatch(low) and _names_parts(distinct):
        return _Guess(FieldSpec(role="split"), "names the parts")
    if _WEIGHTS.fullmatch(low) and _is_number(kind) and pc.min(present).as_py() > 0:
        return _Guess(FieldSpec(role="weight"), "positive, and so named")
    if pa.types.is_boolean(kind):
        return _Guess(FieldSpec(role="categorical"), "true or false")
    moment = _time(low, present, distinct)
    if moment:
        return moment
    if is_text(kind):
        return _of_text(name, present, distinct)
    if _is_number(kind):
        return _of_numbers(name, present, distinct)
    return _ignore(f"holds {kind}", f"column '{name}' holds {kind}, which cannot be learned from")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _names_parts(distinct: pa.Array) -> bool:
    if not 2 <= len(distinct) <= 6 or not (is_text(distinct.type) or pa.types.is_integer(distinct.type)):
        return False
    return all(part_named(str(value)) for value in distinct.to_pylist())


def _of_lists(name: str, present: pa.Array) -> _Guess:
    inner = present.type.value_type
    if pa.types.is_nested(inner) or pa.types.is_floating(inner):
        return _ignore(f"lists of {inner}", f"column '{name}' holds lists of {inner}, not tokens: ignored")
    return _Guess(FieldSpec(role="sequence"), "lists")


def _time(low: str, present: pa.Array, distinct: pa.Array) -> _Guess | None:
    kind = present.type
    spec = FieldSpec(role="timestamp")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _Guess(spec, "timestamps")
    if is_text(kind) and pc.all(pc.match_substring_regex(distinct, _ISO)).as_py():
        return _Guess(spec, "ISO 8601 texts") if _reads(distinct, None) else None
    if not _TIMES.fullmatch(low):
        return None
    # 20101215 is a day of 2010, or an hour of 2020
    for text_format in (_HOURS, _DAYS) if "hour" in low else (_DAYS, _HOURS):
        if _eight_digits(distinct, text_format) and _reads(distinct, text_format):
            return _Guess(FieldSpec(role="timestamp", format=text_format), f"written as {text_format}")
    if _is_number(kind):
        low_end, high_end = pc.min(present).as_py(), pc.max(present).as_py()
        if any(start <= low_end and high_end < stop for start, stop in _EPOCHS):
            return _Guess(spec, "Unix times, and so named")
    return None


def _eight_digits(distinct: pa.Array, text_format: str) -> bool:
    if is_text(distinct.type):
        if not pc.all(pc.match_substring_regex(distinct, r"^\d{8}$")).as_py():
            return False
        distinct = pc.cast(distinct, pa.int64())
    elif not pa.types.is_integer(distinct.type):
        return False
    # the zero of a year before 2010 is lost where a reader saw a number; days begin in 1900
    first = 19_000_101 if text_format == _DAYS else 10**6
    return bool(first <= int(pc.min(distinct).as_py()) and int(pc.max(distinct).as_py()) < 10**8)


def _reads(distinct: pa.Array, text_format: str | None) -> bool:
    try:
        instants(distinct, "", format=text_format)
    except DataError:
        return False
    return True


def _of_text(name: str, present: pa.Array, distinct: pa.Array) -> _Guess:
    for separator in SEPARATORS:
        share = pc.mean(pc.match_substring_regex(present, _tokens(separator))).as_py()
        if share > _SEQUENCE_SHARE:
            spec = FieldSpec(role="sequence", separator=separator)
            shown = "a space" if separator == " " else f"'{separator}'"
            return _Guess(spec, f"{100 * share:.0f} % of the texts split on {shown}")
    return _row_id(name, present, distinct) or _Guess(
        FieldSpec(role="categorical"), f"text, {len(distinct):,} values"
    )


def _tokens(separator: str) -> str:
    # a token on either side
    one = re.escape(separator)
    return f"[^{one}\\s]\\s*{one}\\s*[^{one}\\s]" if separator != " " else r"\S +\S"


def _of_numbers(name: str, present: pa.Array, distinct: pa.Array) -> _Guess:
    low = name.lower()
    is_id = _IDS.fullmatch(low) is not None
    numbers = np.asarray(present)
    if pa.types.is_floating(present.type) and not (is_id and (numbers == np.floor(numbers)).all()):
        return _Guess(FieldSpec(role="numeric"), "floating-point numbers")
    if is_id:
        return _row_id(name, present, distinct) or _Guess(
            FieldSpec(role="categorical"), f"an id by its name, {len(distinct):,} values"
        )
    categorical = FieldSpec(role="categorical")
    if len(distinct) <= _FEW:
        return _Guess(categorical, f"whole numbers, {len(distinct)} values")
    if _CODES.fullmatch(low):
        return _Guess(categorical, f"codes by its name, {len(distinct):,} values")
    quantity, why = is_quantity(numbers)
    return _Guess(FieldSpec(role="numeric") if quantity else categorical, f"whole numbers, {why}")


def _row_id(name: str, present: pa.Array, distinct: pa.Array) -> _Guess | None:
    share = len(distinct) / len(present)
    if share <= _ROW_ID_SHARE or len(present) < _ROW_ID_ROWS:
        return None
    return _ignore(
        f"{100 * share:.0f} % of the values differ",
        f"column '{name}' looks like a row id ({100 * share:.0f} % of the sampled values differ) and is only "
        "carried along; make it categorical if its values come again",
        carry=True,
    )


def _look(column: pa.Array) -> Column:
    nested = pa.types.is_nested(column.type)
    present = column.drop_null()
    example = present[0].as_py() if len(present) else ""
    return Column(
        str(column.type),
        None if nested else len(pc.unique(present)),
        column.null_count / len(column) if len(column) else 0.0,
        str(example),
    )


def fields_yaml(inferred: Inferred) -> str:
    """Return roles as YAML for ``--config``: one line a column, with the reason as a comment."""
    return "\n".join(_lines(inferred)) + "\n"


def _lines(inferred: Inferred) -> Iterator[str]:
    yield "# roles: label weight categorical numeric sequence timestamp group split ignore"
    yield "data:"
    yield "  fields:"
    entries = {_scalar(name): _options(name, inferred) for name in inferred.fields}
    pad = max(len(name) + len(options) for name, options in entries.items()) + 2
    for (name, options), reason in zip(entries.items(), inferred.reasons.values(), strict=True):
        line = f"{name}: {options}"
        # a name of another table may hold anything
        yield f"    {line:<{min(pad, 70)}}  # {' '.join(reason.split())}"


def _options(name: str, inferred: Inferred) -> str:
    spec = inferred.fields[name]
    options = {"role": spec.role, **spec.model_dump(mode="json", exclude_unset=True)}
    # what people turn first
    if spec.role == "categorical":
        options["min_count"] = spec.min_count
    if spec.role == "sequence":
        options["max_len"] = spec.max_len
    return "{" + ", ".join(f"{key}: {_scalar(value)}" for key, value in options.items()) + "}"


def _scalar(value: object) -> str:
    import yaml

    text = yaml.safe_dump({"k": value}, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.strip()[len("{k: ") : -1]
