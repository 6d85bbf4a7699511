"""The click model as a user has it: storing, options, what it makes of rows that it has never seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_clicks import (
    FIELDS,
    batch_of,
    clicks,
    configured,
    dataset_of,
    fitted,
    mixed_fields,
    probabilities,
    round_trip,
    standard,
)

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.calibration import Line, Steps
from appliedpapers.core.errors import AppsError, BundleError, ConfigError
from appliedpapers.core.features.encoded import EncodedField
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.inference import predict_all
from appliedpapers.core.metrics import auc
from appliedpapers.core.validation import check, from_records
from appliedpapers.plugins.finalmlp import fitting
from appliedpapers.plugins.finalmlp.fitting import context_of

NEW = clicks(400, seed=7)
EVERY_ROLE = {
    **{name: spec for name, spec in FIELDS.items() if name != "price"},
    "price": FieldSpec(role="numeric", bucket="quantile", bins=5),
    "price2": FieldSpec(role="numeric", bucket="log-square"),
    "price3": FieldSpec(role="numeric", normaliser="min-max"),
    "item2": FieldSpec(role="categorical", hash_buckets=16),
    "item3": FieldSpec(role="categorical", min_count=30),
    "share": FieldSpec(role="weight"),
}


def with_every_role(table):
    prices, items = table["price"], table["item"]
    share = pa.array(np.linspace(0.5, 2, table.num_rows))
    new = {"price2": pa.compute.multiply(prices, 50.0), "price3": prices, "item2": items, "item3": items}
    for name, values in (new | {"share": share}).items():
        table = table.append_column(name, values)
    return table


def parts_of(model):
    return {name: one for name, one in model.networks[0].named_parameters()}


# -- storing


def test_every_kind_of_field_survives_storing_exactly(tmp_path):
    model = fitted(
        configured("training.epochs=1"), tmp_path / "run", with_every_role(clicks()), fields=EVERY_ROLE
    )
    kinds = {(field.kind, field.column) for field in model.encoder.fields}
    assert {
        ("sequence", "tags"),
        ("numeric", "age"),
        ("categorical", "when"),
        ("categorical", "price"),
    } <= kinds
    rows = with_every_role(NEW)
    loaded = round_trip(model, tmp_path / "bundle")
    assert np.abs(probabilities(loaded, rows) - probabilities(model, rows)).max() == 0
    assert loaded.input_schema == model.input_schema
    assert loaded.output_schema == model.output_schema
    assert list(loaded.describe()) == list(model.describe())


SCORE = """
import sys
import pyarrow.parquet as pq
from pathlib import Path
from appliedpapers.core.bundle import load_bundle
from appliedpapers.core.inference import predict_all
model, _ = load_bundle(Path(sys.argv[1]))
pq.write_table(predict_all(model, pq.read_table(sys.argv[2])), sys.argv[3])
"""


def test_a_fresh_process_with_the_bundle_alone_predicts_the_same(tmp_path):
    save_bundle(standard(), tmp_path / "bundle", plugin="finalmlp", task="binary-classification")
    pq.write_table(NEW, tmp_path / "new.parquet")
    words = [sys.executable, "-c", SCORE, "bundle", "new.parquet", "answers.parquet"]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})
    answers = pq.read_table(tmp_path / "answers.parquet")
    assert answers.equals(predict_all(standard(), NEW))


def test_a_bundle_holds_no_pickle_and_any_flipped_byte_is_refused(tmp_path):
    folder = tmp_path / "bundle"
    save_bundle(standard(), folder, plugin="finalmlp", task="binary-classification")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"bundle.json", "network-0.safetensors", "vocabulary.parquet"}
    for path in files:
        content = path.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))
        for place in (len(content) // 3, len(content) - 9):
            broken = bytearray(content)
            broken[place] ^= 1
            path.write_bytes(broken)
            with pytest.raises(BundleError):
                load_bundle(folder)
        path.write_bytes(content)
    load_bundle(folder)


# -- predictions


def test_the_model_learns_what_there_is_to_learn():
    answer = predict_all(standard(), NEW)
    assert auc(NEW["click"].to_numpy(), answer["probability"].to_numpy()) > 0.75
    assert abs(answer["probability"].to_numpy().mean() - NEW["click"].to_numpy().mean()) < 0.08


def test_ids_are_carried_and_the_order_is_kept():
    order = np.random.default_rng(0).permutation(NEW.num_rows)
    whole, mixed = predict_all(standard(), NEW), predict_all(standard(), NEW.take(order))
    assert mixed.column_names == ["row_id", "probability", "uncalibrated", "unseen"]
    assert mixed["row_id"].to_pylist() == NEW.take(order)["row_id"].to_pylist()
    found = mixed["probability"].to_numpy()
    np.testing.assert_allclose(found, whole["probability"].to_numpy()[order], rtol=0, atol=1e-6)


def test_a_row_does_not_depend_on_its_batch():
    whole = probabilities(standard(), NEW)
    for size in (1, 7, 64):
        parts = [probabilities(standard(), NEW.slice(start, size)) for start in range(0, 64, size)]
        np.testing.assert_allclose(np.concatenate(parts)[:64], whole[:64], rtol=0, atol=1e-6)


def test_nor_does_it_behind_the_steps_of_isotonic_calibration(tmp_path):
    # valid rows lie where the steps are steepest: each step begins at one of them
    table = clicks(3_000)
    model = fitted(configured("model.calibration=isotonic"), tmp_path, table)
    whole = probabilities(model, table)
    parts = [probabilities(model, table.slice(start, 3)) for start in range(2_400, 2_700, 3)]
    steps = model.calibrator.to_json()
    steepest = (np.diff(steps["probabilities"]) / np.diff(steps["knots"])).max()
    assert steepest < 20  # of 300 valid rows; of the 5,000 that auto asks for it is about 1
    # a logit is rounded by some 1e-6, differently in every batch
    np.testing.assert_allclose(np.concatenate(parts), whole[2_400:2_700], rtol=0, atol=2e-6 * steepest)


def test_a_large_table_is_answered_in_blocks(monkeypatch):
    whole = predict_all(standard(), NEW)
    monkeypatch.setattr("appliedpapers.plugins.finalmlp.model._ROWS_A_BLOCK", 64)
    blocks = predict_all(standard(), NEW)
    assert (
        blocks.drop_columns("probability")
        .drop_columns("uncalibrated")
        .equals(whole.drop_columns("probability").drop_columns("uncalibrated"))
    )
    np.testing.assert_allclose(
        blocks["probability"].to_numpy(), whole["probability"].to_numpy(), rtol=0, atol=1e-6
    )


def test_threads_may_share_a_model():
    tables = [NEW.slice(start, 50) for start in range(0, 400, 50)] * 3
    expected = [predict_all(standard(), table) for table in tables]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda table: predict_all(standard(), table), tables))
    assert all(one.equals(other) for one, other in zip(found, expected, strict=True))


def test_answers_of_a_split_are_those_of_its_rows():
    dataset = dataset_of(clicks(1000, seed=3), configured())
    found = standard().predict_split(dataset.test)
    table = pa.Table.from_batches(list(dataset.test.batches()))
    np.testing.assert_allclose(found.probability, probabilities(standard(), table), rtol=0, atol=1e-6)
    assert len(found.unseen) == dataset.test.num_rows


def test_new_tokens_are_counted_and_answered():
    rows = NEW.slice(0, 3)
    for name, token in (("user", "new"), ("item", "never seen")):
        rows = rows.set_column(rows.column_names.index(name), name, pa.array([token] * 3))
    answer = predict_all(standard(), rows)
    assert (
        answer["unseen"].to_numpy() - predict_all(standard(), NEW.slice(0, 3))["unseen"].to_numpy() == 2
    ).all()
    assert np.isfinite(answer["probability"].to_numpy()).all()


def test_json_requests_are_answered_like_tables():
    schema = standard().input_schema
    records = [
        {name: (value.isoformat() if name == "when" else value) for name, value in row.items()}
        for row in NEW.slice(0, 20).select(schema.names).to_pylist()
    ]
    checked = check(from_records(records, schema), schema)
    assert checked.violations == ()
    np.testing.assert_allclose(
        standard().predict(checked.table)["probability"].to_numpy(),
        probabilities(standard(), NEW.slice(0, 20)),
        rtol=0,
        atol=1e-6,
    )
    json.dumps(records)


def test_optional_and_unknown_columns_are_no_matter_and_required_ones_are_named():
    rows = NEW.slice(0, 30)
    nulls = rows.set_column(rows.column_names.index("device"), "device", pa.nulls(30, pa.string()))
    without = rows.drop_columns("device").append_column("more", pa.array(range(30)))
    np.testing.assert_array_equal(probabilities(standard(), without), probabilities(standard(), nulls))
    with pytest.raises(AppsError, match="column 'item' is missing"):
        predict_all(standard(), rows.drop_columns("item"))


# -- options


def test_contexts_follow_names_lists_or_nothing():
    fields = [
        EncodedField(name, "categorical", 5, 0, name)
        for name in ("user_id", "app-name", "country", "users", "Item", "userland")
    ]
    auto = configured().model
    assert context_of(fields, auto, "context1") == [0]
    assert context_of(fields, auto, "context2") == [1, 4]
    given = configured("model.context1=[Item, country]", "model.context2=[]").model
    assert context_of(fields, given, "context1") == [2, 4]
    assert context_of(fields, given, "context2") == []
    assert context_of(fields, configured("model.gate=false").model, "context1") == []
    wrong = configured("model.context2=[itme]").model
    with pytest.raises(ConfigError, match=r"'model.context2': 'itme' is no input column") as caught:
        context_of(fields, wrong, "context2")
    assert "Item" in caught.value.hint or "Did you mean" in caught.value.hint


def test_automatic_contexts_leave_out_numbers_sequences_and_parts_of_others():
    assert context_of(mixed_fields(), configured().model, "context1") == [1]
    indicator = [EncodedField("user_age_missing", "categorical", 4, 0, "user_age")]
    assert context_of(indicator, configured().model, "context1") == []


def test_fields_that_are_left_out_are_neither_learned_from_nor_asked_for(tmp_path):
    model = fitted(configured("model.leave_out=[device, tags, when]", "training.epochs=1"), tmp_path / "run")
    columns = {field.column for field in model.encoder.fields}
    assert columns == {"user", "item", "price", "age", "past"}
    assert not {"device", "tags", "when"} & set(model.input_schema.names)
    rows = NEW.drop_columns(["device", "tags", "when"])
    loaded = round_trip(model, tmp_path / "bundle")
    np.testing.assert_array_equal(probabilities(loaded, rows), probabilities(model, NEW))


@pytest.mark.parametrize("name", ["devise", "click", "row_id"])
def test_a_field_that_is_left_out_must_be_an_input(tmp_path, name):
    with pytest.raises(ConfigError, match=f"'model.leave_out': '{name}' is no input column"):
        fitted(configured(f"model.leave_out=[{name}]"), tmp_path)


def test_dual_mlp_and_streams_of_shared_modules_fit_and_survive_storing(tmp_path):
    for number, options in enumerate(
        (
            ("model.gate=false", "model.fusion=sum"),
            ("model.stream1={hidden: [8], block: 'kan(grid=3)'}", "model.stream2.block=fan"),
            ("model.stream1={hidden: [8], batch_norm: false}", "model.context1=[]", "model.context2=[tags]"),
        )
    ):
        config = configured(*options, "training.epochs=1")
        model = fitted(config, tmp_path / f"run-{number}", clicks(600))
        loaded = round_trip(model, tmp_path / f"bundle-{number}")
        np.testing.assert_array_equal(probabilities(loaded, NEW), probabilities(model, NEW))
        assert auc(NEW["click"].to_numpy(), probabilities(model, NEW)) > 0.5


@pytest.mark.parametrize("method", ["none", "platt", "temperature", "isotonic"])
def test_calibration_is_stored_as_numbers(tmp_path, method):
    model = fitted(configured(f"model.calibration={method}", "training.epochs=1"), tmp_path / "run")
    assert model.calibrator.method == method
    assert isinstance(model.calibrator, Steps if method == "isotonic" else Line)
    loaded = round_trip(model, tmp_path / "bundle")
    np.testing.assert_array_equal(probabilities(loaded, NEW), probabilities(model, NEW))
    answer = predict_all(model, NEW)
    if method == "none":
        np.testing.assert_allclose(answer["probability"].to_numpy(), answer["uncalibrated"].to_numpy())
    if method == "isotonic":
        assert answer["probability"].to_numpy().min() >= 1e-4
        assert answer["probability"].to_numpy().max() <= 1 - 1e-4


def test_few_valid_rows_are_calibrated_by_platt():
    assert standard().calibrator.method == "platt"


# -- the choice of the share of forgotten tokens


def rows_with_new_users(share):
    table = clicks(1500, seed=2)
    users = table["user"].to_pylist()
    late = range(int(1500 * 0.8), 1500)
    for place in late:
        if (place * 7919) % 100 < 100 * share:
            users[place] = f"born{place % 9}"
    return table.set_column(table.column_names.index("user"), "user", pa.array(users))


def test_auto_tries_every_share_where_valid_rows_meet_new_tokens(tmp_path, monkeypatch):
    losses = {0.0: 0.5, 0.02: 0.4, 0.05: 0.4, 0.1: 0.6}
    rates = iter(losses.values())
    monkeypatch.setattr(fitting, "_calibrated_loss", lambda network, prepared: next(rates))
    options = ("model.oov_dropout=auto", "training.epochs=1")
    model = fitted(configured(*options), tmp_path / "run", rows_with_new_users(0.5))
    # the smaller of two that are equally good
    assert model.oov_dropout == 0.02
    assert {path.name for path in (tmp_path / "run").glob("network*")} == {
        f"network-0-oov-{share:g}" for share in losses
    }
    assert round_trip(model, tmp_path / "bundle").oov_dropout == 0.02


def test_auto_tries_nothing_where_valid_rows_meet_no_new_tokens(tmp_path):
    options = ("model.oov_dropout=auto", "training.epochs=1")
    model = fitted(configured(*options), tmp_path / "run", clicks(1500, seed=2))
    assert model.oov_dropout == 0.0
    assert [path.name for path in (tmp_path / "run").glob("network*")] == ["network-0"]


# -- weights of rows


def test_weights_of_rows_change_what_is_learned(tmp_path):
    table = clicks(1500)
    heavy = pa.array(np.where(table["click"].to_numpy() == 1, 50.0, 1.0))
    fields = {**FIELDS, "share": FieldSpec(role="weight")}
    config = configured("training.epochs=1", "model.calibration=none")
    means = {}
    for name, weights in (("equal", pa.array(np.ones(1500))), ("heavy", heavy)):
        model = fitted(config, tmp_path / name, table.append_column("share", weights), fields=fields)
        means[name] = probabilities(model, NEW).mean()
        assert "share" not in model.input_schema.names
    assert means["heavy"] > means["equal"] + 0.1


def test_the_network_gives_the_scores_of_the_model():
    rows = standard().encoder.encode(NEW)
    with torch.no_grad():
        logits = standard().networks[0](batch_of(rows)).numpy()
    np.testing.assert_allclose(standard().logits(rows), logits, atol=1e-5)
