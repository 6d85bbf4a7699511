"""Roles guessed from names, types and values."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.config import read_yaml
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.features.columns import check_columns
from appliedpapers.core.features.fields import FieldSpec, check_fields
from appliedpapers.core.features.infer import fields_yaml, infer_fields
from appliedpapers.core.features.quantities import is_quantity
from appliedpapers.core.features.rows import TableRows, open_rows

ROWS = 1000
RNG = np.random.default_rng(0)


def inferred(**columns):
    label = {"click": RNG.integers(0, 2, ROWS)} if "click" not in columns else {}
    return infer_fields(TableRows(pa.table({**label, **columns})))


def role_of(values, name="x"):
    return inferred(**{name: values}).fields[name]


def words(*choices):
    return RNG.choice(choices, ROWS).tolist()


@pytest.mark.parametrize(
    "values",
    [[0, 1] * 500, [0.0, 1.0] * 500, [True, False] * 500, ["0", "1"] * 500, [0] * 1000],
    ids=["int", "float", "bool", "text", "one class"],
)
@pytest.mark.parametrize("name", ["label", "Click", "y", "TARGET", "is_click", "converted"])
def test_the_label_is_the_zero_one_column_of_that_name(name, values):
    found = infer_fields(TableRows(pa.table({name: values, "other": [1, 0] * 500})))
    assert found.fields[name].role == "label"
    assert found.fields["other"].role == "categorical"


def test_without_a_named_label_the_candidates_are_listed():
    source = TableRows(pa.table({"a": [0, 1], "b": [1, 0], "y": [2, 3]}))
    with pytest.raises(ConfigError) as found:
        infer_fields(source)
    assert "a, b." in found.value.render()
    assert "--label COLUMN" in found.value.render()
    assert infer_fields(source, label="b").fields["b"].role == "label"
    with pytest.raises(DataError, match="other values than 0 and 1"):
        infer_fields(source, label="y")
    with pytest.raises(DataError, match="no column is called 'c'"):
        infer_fields(source, label="c")
    with pytest.raises(ConfigError, match="several columns could be the label"):
        infer_fields(TableRows(pa.table({"click": [0, 1], "converted": [1, 0]})))


def test_texts_and_dictionaries_and_truths_are_categorical():
    assert role_of(words("a", "b")).role == "categorical"
    assert role_of(pa.array(words("a", "b")).dictionary_encode()).role == "categorical"
    assert role_of([True, False] * 500).role == "categorical"


@pytest.mark.parametrize("separator", ["|", ";", ",", " "])
def test_texts_of_several_tokens_are_sequences_with_their_separator(separator):
    tokens = [separator.join(f"t{n % k}" for n in range(k)) for k in RNG.integers(1, 4, ROWS)]
    assert role_of(tokens) == FieldSpec(role="sequence", separator=separator)
    few = [tokens[0] if n % 10 else f"a{separator}b" for n in range(ROWS)]
    assert (
        role_of(["x" if separator in text and n % 10 else text for n, text in enumerate(few)]).role
        == "categorical"
    )


def test_lists_are_sequences_but_not_of_fractions():
    assert role_of([["a"], []] * 500) == FieldSpec(role="sequence")
    assert role_of([[0.5, 0.1]] * 1000).role == "ignore"


def test_numbers_are_quantities_or_codes():
    assert role_of(RNG.normal(size=ROWS)).role == "numeric"
    assert role_of(RNG.integers(18, 90, ROWS)).role == "numeric"
    assert role_of(RNG.integers(0, 50, ROWS)).role == "categorical"
    assert role_of(RNG.integers(18, 90, ROWS), "user_id").role == "categorical"
    assert role_of(RNG.integers(18, 90, ROWS) * 1.0, "itemId").role == "categorical"
    assert role_of(RNG.integers(18, 90, ROWS), "country").role == "categorical"
    # words that merely end so
    for name in ("bid", "paid", "humid", "width"):
        assert role_of(RNG.integers(18, 90, ROWS), name).role == "numeric"


@pytest.mark.parametrize("rows", [5_000, 100_000])
def test_quantities_are_told_from_codes_by_how_they_lie_along_the_line(rows):
    rng = np.random.default_rng(1)
    for quantity in (
        rng.normal(40, 12, rows).astype(int),
        rng.geometric(0.01, rows),
        np.exp(rng.normal(8, 1.2, rows)).astype(int),
    ):
        assert is_quantity(quantity)[0]
    weights = np.arange(1, 301) ** -1.0
    zipf = rng.choice(300, rows, p=weights / weights.sum())
    for code in (
        rng.permutation(300)[zipf],
        rng.choice(10**9, 300)[zipf],
        rng.integers(0, 400, rows),
        rng.integers(-(2**63), 2**63 - 1, rows),
    ):
        assert not is_quantity(code)[0]


def test_row_ids_are_carried_along_with_a_warning():
    found = inferred(token=[f"x{n}" for n in range(ROWS)], row_id=list(range(ROWS)), n=list(range(ROWS)))
    for name in ("token", "row_id"):
        assert found.fields[name] == FieldSpec(role="ignore", carry=True)
        assert any(f"'{name}' looks like a row id" in warning for warning in found.warnings)
    assert found.fields["n"].role == "numeric"


def test_times_of_every_spelling_are_timestamps_and_only_the_first_is_used():
    start = dt.datetime(2024, 5, 17)
    times = [start + dt.timedelta(hours=n) for n in range(ROWS)]
    for values, name, text_format in (
        (times, "x", None),
        ([time.date() for time in times], "x", None),
        ([time.isoformat() for time in times], "x", None),
        ([f"{time:%Y-%m-%d %H:%M}Z" for time in times], "x", None),
        ([f"{time:%y%m%d%H}" for time in times], "hour", "%y%m%d%H"),
        ([int(f"{time:%y%m%d%H}") for time in times], "hour", "%y%m%d%H"),
        ([f"{time:%Y%m%d}" for time in times], "date", "%Y%m%d"),
        ([int(time.timestamp()) for time in times], "event_time", None),
    ):
        spec = role_of(values, name)
        assert (spec.role, spec.format) == ("timestamp", text_format), (values[0], name)
    assert role_of([int(time.timestamp()) for time in times]).role != "timestamp"
    found = inferred(first=times, second=times)
    assert [found.fields[name].role for name in ("first", "second")] == ["timestamp", "ignore"]
    assert found.warnings == ("column 'second' is a second timestamp column and is ignored",)


def test_what_cannot_be_learned_from_is_ignored_aloud():
    found = inferred(
        empty=pa.nulls(ROWS, pa.string()),
        nothing=pa.nulls(ROWS),
        nan=np.full(ROWS, np.nan),
        same=["a"] * ROWS,
        raw=[b"x", b"y"] * 500,
        pair=[{"a": n} for n in range(ROWS)],
    )
    assert {spec.role for name, spec in found.fields.items() if name != "click"} == {"ignore"}
    assert len(found.warnings) == 6


def test_columns_that_name_parts_and_weights():
    assert role_of(words("train", "valid", "test"), "split").role == "split"
    assert role_of(RNG.integers(0, 3, ROWS), "split").role == "split"
    assert role_of(words("north", "south"), "split").role == "categorical"
    assert role_of(RNG.random(ROWS) + 1, "sample_weight").role == "weight"
    assert role_of(RNG.random(ROWS) - 1, "weight").role == "numeric"


def test_a_split_column_of_a_file_sorted_by_it_is_seen(tmp_path):
    rows = 20_000
    table = pa.table({"y": RNG.integers(0, 2, rows), "split": np.repeat([0, 1, 2], [16_000, 2_000, 2_000])})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=1000)
    pacsv.write_csv(table, tmp_path / "x.csv")
    for ending in ("parquet", "csv"):
        found = infer_fields(open_rows(tmp_path / f"x.{ending}"), sample_rows=2000)
        assert found.fields["split"].role == "split"
        assert found.sampled == 2000


def test_the_yaml_reads_back_as_the_same_roles(tmp_path):
    found = inferred(
        user=words("a", "b"),
        tags=words("a|b", "c"),
        words=words("a b", "c"),
        age=RNG.integers(18, 90, ROWS),
        hour=[f"241012{n % 24:02d}" for n in range(ROWS)],
        row=[f"x{n}" for n in range(ROWS)],
    )
    text = fields_yaml(found)
    assert "user: {role: categorical, min_count: 1}" in text
    assert "# text, 2 values" in text
    (tmp_path / "fields.yaml").write_text(text)
    read = read_yaml(tmp_path / "fields.yaml")["data"]["fields"]
    assert {name: FieldSpec(**options) for name, options in read.items()} == found.fields
    assert list(read) == list(found.fields)
    check_fields(found.fields)


@settings(max_examples=100, deadline=None)
@given(name=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20))
def test_any_name_of_a_column_reads_back(tmp_path_factory, name):
    path = tmp_path_factory.mktemp("yaml") / "fields.yaml"
    source = TableRows(pa.table({"the label": [0, 1], name: [0.5, 1.5]}))
    path.write_text(fields_yaml(infer_fields(source, label="the label")), encoding="utf-8")
    assert list(read_yaml(path)["data"]["fields"]) == ["the label", name]


def test_the_tiny_published_sets_are_understood(shared):
    criteo = infer_fields(open_rows(shared / "data/finalmlp/criteo_tiny.parquet")).fields
    assert criteo["Label"].role == "label"
    assert {criteo[f"I{n}"].role for n in range(1, 14)} == {"numeric"}
    assert {criteo[f"C{n}"].role for n in range(1, 27)} == {"categorical"}
    assert criteo["Id"].carry
    avazu = infer_fields(open_rows(shared / "data/finalmlp/avazu_tiny.parquet")).fields
    assert avazu["click"].role == "label"
    assert {avazu[f"C{n}"].role for n in range(14, 22)} == {"categorical"}


def test_codes_of_frappe_are_seen_without_their_names(shared):
    table = pq.read_table(shared / "data/finalmlp/frappe_x1_rebuilt.parquet")
    anonymous = table.rename_columns(["label", *(f"f{n}" for n in range(10)), "split"])
    fields = infer_fields(TableRows(anonymous)).fields
    assert {fields[f"f{n}"].role for n in range(10)} == {"categorical"}


FIELDS = {
    "y": FieldSpec(role="label"),
    "user": FieldSpec(role="categorical"),
    "age": FieldSpec(role="numeric", optional=True),
    "tags": FieldSpec(role="sequence"),
    "t": FieldSpec(role="timestamp"),
}
TYPES = {
    "y": pa.int8(),
    "user": pa.string(),
    "age": pa.int64(),
    "tags": pa.list_(pa.string()),
    "t": pa.timestamp("s"),
}


def schema(**changed):
    return pa.schema([(name, kind) for name, kind in {**TYPES, **changed}.items() if kind is not None])


def test_columns_that_fit_pass_and_the_others_are_returned():
    assert check_columns(FIELDS, schema(more=pa.string())) == ("more",)
    assert check_columns(FIELDS, schema(user=pa.dictionary(pa.int32(), pa.string()))) == ()
    piped = {**FIELDS, "tags": FieldSpec(role="sequence", separator="|")}
    check_columns(piped, schema(tags=pa.large_string()))


def test_rows_to_predict_need_inputs_alone_and_may_miss_optional_ones():
    check_columns(FIELDS, schema(y=None, age=None, user=pa.null()), training=False)
    with pytest.raises(DataError, match="column 'age' is absent"):
        check_columns(FIELDS, schema(age=None))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"user": None, "usr": pa.string()},
            "column 'user' is absent; it has the role categorical.\n  Did you mean 'usr'?",
        ),
        ({"user": pa.list_(pa.string())}, "column 'user' holds list"),
        ({"age": pa.string()}, "column 'age' holds string, but has the role numeric.\n  Expected numbers."),
        ({"tags": pa.string()}, "or texts and the option separator"),
        ({"tags": pa.int64()}, "column 'tags' holds int64"),
        ({"t": pa.list_(pa.string())}, "column 't' holds list"),
        ({"y": pa.list_(pa.int8())}, "Expected 0 and 1."),
        ({"user": pa.null()}, "no value in any row"),
    ],
)
def test_a_column_that_cannot_play_its_role_says_what_was_found_and_expected(changed, said):
    with pytest.raises(DataError) as found:
        check_columns(FIELDS, schema(**changed))
    assert said in found.value.render()
