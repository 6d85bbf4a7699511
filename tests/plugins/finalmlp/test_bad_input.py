"""Bad input: one line that names what is wrong, or the documented rule; never a traceback, never NaN."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_clicks import FIELDS, clicks, configured, dataset_of, fitted, probabilities, standard

from appliedpapers.core.errors import AppsError, ConfigError, DataError
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.inference import predict_all, predict_usable
from appliedpapers.plugins.finalmlp.data import DATASETS

NEW = clicks(20, seed=7)


def replaced(table, name, values):
    return table.set_column(table.column_names.index(name), name, values)


def refused(call, *words, kind=DataError):
    """Check that an error is one line with these words and a hint, and return it."""
    with pytest.raises(kind) as caught:
        call()
    text = caught.value.args[0]
    assert "\n" not in text
    for word in words:
        assert word in text, text
    assert caught.value.hint
    return caught.value


# -- what cannot be learned from


@pytest.mark.parametrize("bad", [2, -1, None])
def test_a_label_that_is_not_0_or_1_names_column_and_row(bad):
    labels = clicks(600)["click"].to_pylist()
    labels[41] = bad
    table = replaced(clicks(600), "click", pa.array(labels, pa.int8()))
    refused(lambda: dataset_of(table, configured()), "click", "row 42", "neither 0 nor 1")


@pytest.mark.parametrize("rows", [slice(0, 480), slice(480, 540), slice(540, 600)])
def test_a_part_of_one_class_is_named(rows):
    labels = clicks(600)["click"].to_numpy().copy()
    labels[rows] = 0
    part = ("train", "valid", "test")[rows.start // 480 + rows.start // 540]
    table = replaced(clicks(600), "click", pa.array(labels))
    refused(lambda: dataset_of(table, configured()), part, "click 0")


def test_a_column_without_any_value_is_named():
    table = replaced(clicks(600), "item", pa.nulls(600))
    refused(lambda: dataset_of(table, configured()), "item", "no value")


@pytest.mark.parametrize("kind", [pa.string(), pa.float64(), pa.list_(pa.string())])
def test_a_typed_column_of_nulls_fits_by_rule(tmp_path, kind):
    name = {pa.string(): "item", pa.float64(): "price"}.get(kind, "tags")
    table = replaced(clicks(600), name, pa.nulls(600, kind))
    model = fitted(configured("training.epochs=1"), tmp_path, table)
    assert np.isfinite(probabilities(model, clicks(50, seed=2))).all()
    assert np.isfinite(probabilities(model, table)).all()


@pytest.mark.parametrize("content", [b"", b"click,user\n"])
@pytest.mark.parametrize("ending", [".csv", ".tsv.gz", ".parquet"])
def test_an_empty_file_is_named(tmp_path, content, ending):
    path = tmp_path / f"log{ending}"
    if ending == ".parquet" and content:
        pq.write_table(clicks(10).slice(0, 0), path)
    else:
        import gzip

        path.write_bytes(gzip.compress(content) if ending.endswith("gz") and content else content)
    refused(lambda: DATASETS.from_user(path, configured()), "log", kind=AppsError)


def test_a_column_that_stands_twice_is_named(tmp_path):
    (tmp_path / "log.csv").write_text("click,user,user\n0,a,b\n1,a,c\n")
    refused(lambda: DATASETS.from_user(tmp_path / "log.csv", configured()), "log.csv", "user")
    table = clicks(20).append_column("user", pa.array(["x"] * 20))
    refused(lambda: dataset_of(table, configured()), "user")
    refused(lambda: predict_all(standard(), table), "user", "twice")


def test_a_sequence_in_the_column_of_a_scalar_is_named():
    fields = {**FIELDS, "tags": FieldSpec(role="categorical")}
    refused(lambda: dataset_of(clicks(600), configured(), fields), "tags", "categorical")
    fields = {**FIELDS, "user": FieldSpec(role="sequence")}
    refused(lambda: dataset_of(clicks(600), configured(), fields), "user", "sequence")


def test_an_unknown_role_is_named_with_its_column():
    refused(lambda: configured("data.fields={user: {role: categoric}}"), "user", "role", kind=ConfigError)
    refused(
        lambda: configured("data.fields={user: {role: numeric, max_len: 3}}"), "max_len", kind=ConfigError
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"user": FieldSpec(role="categorical")}, ("label",)),
        ({"click": FieldSpec(role="label")}, ("learn",)),
        ({**FIELDS, "user": FieldSpec(role="label")}, ("label", "click", "user")),
    ],
)
def test_roles_that_contradict_one_another_are_named(fields, words):
    refused(lambda: dataset_of(clicks(100), configured(), fields), *words, kind=ConfigError)


def test_a_column_that_is_absent_is_named_with_its_neighbour():
    table = clicks(100).rename_columns(
        ["users" if name == "user" else name for name in clicks(1).column_names]
    )
    error = refused(lambda: dataset_of(table, configured()), "'user'")
    assert "users" in error.hint


def test_text_in_a_numeric_column_names_row_and_value(tmp_path):
    prices = [str(value) for value in clicks(600)["price"].to_pylist()]
    prices[9] = "cheap"
    table = replaced(clicks(600), "price", pa.array(prices))
    refused(lambda: fitted(configured(), tmp_path, table), "price", kind=AppsError)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_that_are_no_positive_numbers_name_the_row(tmp_path, bad):
    weights = np.ones(600)
    weights[4] = bad
    table = clicks(600).append_column("share", pa.array(weights))
    fields = {**FIELDS, "share": FieldSpec(role="weight")}
    refused(lambda: fitted(configured(), tmp_path, table, fields=fields), "share", "row 5")


def test_options_outside_their_range_name_the_option():
    for option, word in {
        "model.heads=0": "model.heads",
        "model.oov_dropout=1.0": "oov_dropout",
        "data.shares=[0.5, 0.5, 0.5]": "shares",
        "data.split=tomorrow": "data.split",
        "model.stream1.hidden=[]": "hidden",
        "model.stream1.block=kann": "block",
        "cascade.weak=forest": "weak",
        "training.l2=some": "training.l2",
    }.items():
        refused(lambda option=option: configured(option), word, kind=ConfigError)


# -- what is asked for


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), None])
@pytest.mark.parametrize("name", ["price", "age"])
def test_a_number_that_is_none_counts_as_missing(name, bad):
    missing = replaced(NEW, name, pa.nulls(20, pa.float64()))
    found = replaced(NEW, name, pa.array([bad] * 20, pa.float64(), from_pandas=False))
    np.testing.assert_array_equal(probabilities(standard(), found), probabilities(standard(), missing))
    assert np.isfinite(probabilities(standard(), found)).all()


@pytest.mark.parametrize("value", [1e300, -1e300, 1e38, 5e-324, -0.0])
def test_numbers_far_outside_of_what_was_trained_give_a_probability(value):
    found = predict_all(standard(), replaced(NEW, "price", pa.array([value] * 10 + [1.0] * 10)))
    for name in ("probability", "uncalibrated"):
        assert ((found[name].to_numpy() >= 0) & (found[name].to_numpy() <= 1)).all()
    ordinary = probabilities(standard(), replaced(NEW, "price", pa.array([1.0] * 20)))
    np.testing.assert_allclose(found["probability"].to_numpy()[10:], ordinary[10:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["user", "past", "tags"])
def test_a_token_of_ten_megabytes_is_one_that_was_never_seen(name):
    long = "x" * 10_000_000
    short = "never seen"
    answers = [
        probabilities(standard(), replaced(NEW, name, pa.array([[token] if name == "tags" else token] * 20)))
        for token in (long, short)
    ]
    np.testing.assert_array_equal(answers[0], answers[1])


def test_a_token_of_ten_megabytes_can_be_trained_on(tmp_path):
    users = clicks(600)["user"].to_pylist()
    users[3] = users[590] = "x" * 10_000_000
    model = fitted(configured("training.epochs=1"), tmp_path, replaced(clicks(600), "user", pa.array(users)))
    assert np.isfinite(probabilities(model, NEW)).all()


def test_unseen_ids_alone_are_answered():
    table = NEW
    for name in ("user", "item", "device", "past"):
        table = replaced(table, name, pa.array([f"?{row}" for row in range(20)]))
    table = replaced(table, "tags", pa.array([["?"]] * 20))
    answer = predict_all(standard(), table)
    assert np.isfinite(answer["probability"].to_numpy()).all()
    assert set(answer["unseen"].to_pylist()) == {3}


def test_no_rows_are_refused():
    refused(lambda: predict_all(standard(), NEW.slice(0, 0)), "no rows")


def test_cells_that_break_the_contract_are_named_and_the_others_answered():
    prices = [str(value) for value in NEW["price"].to_pylist()]
    prices[4] = "cheap"
    found = predict_usable(standard(), replaced(NEW, "price", pa.array(prices)))
    assert found.rejected.tolist() == [4]
    assert found.table.num_rows == 19
    assert [(one.row, one.column) for one in found.violations] == [(5, "price")]
    expected = probabilities(standard(), NEW)[[row for row in range(20) if row != 4]]
    np.testing.assert_allclose(found.table["probability"].to_numpy(), expected, rtol=0, atol=1e-6)


def test_a_list_in_the_column_of_a_scalar_is_a_violation():
    found = predict_usable(standard(), replaced(NEW, "user", pa.array([["a"]] * 20)))
    assert found.table is None
    assert len(found.violations) == 20


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_values_of_the_right_types_give_probabilities(data):
    texts = st.none() | st.text(max_size=30)
    numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True, min_value=None, max_value=None)
    moments = st.datetimes() | st.none()
    rows = data.draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "user": texts,
                    "item": texts,
                    "device": texts,
                    "past": texts,
                    "tags": st.none() | st.lists(texts, max_size=6),
                    "price": numbers,
                    "age": numbers,
                    "when": moments,
                    "row_id": texts,
                }
            ),
            min_size=1,
            max_size=8,
        )
    )
    kinds = {"price": pa.float64(), "age": pa.float64(), "when": pa.timestamp("us")}
    kinds["tags"] = pa.list_(pa.string())
    columns = {
        name: pa.array([row[name] for row in rows], kinds.get(name, pa.string()), from_pandas=False)
        for name in rows[0]
    }
    answer = predict_all(standard(), pa.table(columns))
    found = answer["probability"].to_numpy()
    assert ((found >= 0) & (found <= 1)).all()
    assert answer["row_id"].to_pylist() == columns["row_id"].to_pylist()
