"""Defects of public implementations of click models, which this one must not have."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pyarrow as pa
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
    prepared_of,
    probabilities,
    random_rows,
    round_trip,
    small_network,
    standard,
)

import appliedpapers
from appliedpapers.core.errors import ConfigError
from appliedpapers.core.inference import predict_all
from appliedpapers.plugins.finalmlp.config import FinalMlpConfig, FinalMlpTraining
from appliedpapers.plugins.finalmlp.learner import ClickTask
from appliedpapers.plugins.finalmlp.network import FieldTables

FIELDS_OF_ROWS = mixed_fields()
ROWS = random_rows(FIELDS_OF_ROWS, 60)


def late_users(table, count):
    """Give the last rows users that occur nowhere else."""
    users = table["user"].to_pylist()
    users[-count:] = [f"late{row}" for row in range(count)]
    return table.set_column(table.column_names.index("user"), "user", pa.array(users))


def test_a_token_that_occurs_only_in_test_maps_to_oov(tmp_path):
    config = configured()
    table = late_users(clicks(1000), 60)
    dataset, prepared = dataset_of(table, config), prepared_of(table, config, tmp_path)
    place = [field.name for field in prepared.encoder.fields if field.kind == "categorical"].index("user")
    field = next(field for field in prepared.encoder.fields if field.name == "user")
    last = pa.Table.from_batches(list(dataset.test.batches())).slice(dataset.test.num_rows - 60)
    assert (prepared.encoder.encode(last).ids[:, place] == field.unseen).all()


def test_the_vocabulary_of_a_table_is_that_of_its_train_rows(tmp_path):
    config = configured()
    table = late_users(clicks(1000), 150)
    # the same train rows with other valid and test rows behind them
    other = pa.concat_tables([table.slice(0, 800), late_users(table.slice(800), 200)])
    vocabularies = [
        prepared_of(one, config, tmp_path / str(number)).encoder for number, one in enumerate((table, other))
    ]
    for name in ("user", "item", "tags", "device"):
        first, second = (one.vocabulary(name).tokens for one in vocabularies)
        assert first.equals(second)
    train = set(table.slice(0, 800)["user"].to_pylist())
    assert set(vocabularies[0].vocabulary("user").tokens.to_pylist()) == train


def test_with_oov_dropout_the_row_of_the_never_seen_grows(tmp_path):
    norms = {}
    for share in (0.0, 0.1):
        config = configured(f"model.oov_dropout={share}", "training.embedding_l2=0")
        network = fitted(config, tmp_path / str(share)).networks[0]
        start, size = network.tables.spans[2]
        norms[share] = network.tables.table[start + size - 1].norm().item()
    assert norms[0.0] < 5e-4
    assert norms[0.1] > 10 * norms[0.0]


def test_a_row_of_unseen_ids_gets_a_finite_probability():
    strange = pa.table(
        {
            "user": ["?"],
            "item": ["?"],
            "device": ["?"],
            "past": ["?|??"],
            "tags": [["?"]],
            "price": [1.0],
            "age": [30.0],
            "when": pa.array([np.datetime64("2024-03-12T10:00:00", "us")]),
        }
    )
    answer = predict_all(standard(), strange)
    assert 0 < answer["probability"][0].as_py() < 1
    assert answer["unseen"][0].as_py() == 3


def test_the_order_of_the_context_list_changes_nothing(tmp_path):
    first, second = (
        fitted(configured(f"model.context1={names}", "training.epochs=1"), tmp_path / names, clicks(800))
        for names in ("[item, user, device]", "[device, item, user]")
    )
    new = clicks(100, seed=3)
    np.testing.assert_array_equal(probabilities(first, new), probabilities(second, new))


def test_gate_tables_are_not_the_field_tables():
    network = standard().networks[0]
    tables = [module.table for module in network.modules() if isinstance(module, FieldTables)]
    assert len(tables) == 3
    assert len({table.data_ptr() for table in tables}) == 3
    assert len({id(parameter) for parameter in network.parameters()}) == len(list(network.parameters()))


def test_the_penalty_decays_rows_that_no_batch_looks_up_in_fields_and_gates():
    network = small_network(FIELDS_OF_ROWS)
    settings = FinalMlpTraining(embedding_l2=0.5, l2="dense", batch_size=8)
    few = random_rows(FIELDS_OF_ROWS, 4)
    few.ids[:] = 1
    ClickTask(network, few, few, settings).loss(torch.arange(4)).backward()
    for tables in (network.tables, *(gate.tables for gate in network.gates)):
        untouched = [
            start + row
            for place, (start, size) in tables.spans.items()
            if FIELDS_OF_ROWS[place].kind == "categorical"
            for row in range(2, size)
        ]
        assert untouched
        gradient = tables.table.grad[untouched]
        torch.testing.assert_close(gradient, 0.5 * tables.table.detach()[untouched])


def test_heads_that_do_not_divide_are_a_line_about_the_option():
    with pytest.raises(ConfigError) as caught:
        configured("model.heads=3", "model.stream1={hidden: [16]}", "model.stream2={hidden: [9]}")
    text = str(caught.value)
    for part in ("heads", "3", "16", "9"):
        assert part in text
    # a sum of two lines has no heads
    assert configured("model.heads=3", "model.fusion=sum").model.heads == 3


def test_no_module_on_the_way_of_the_rows_uses_a_dataframe_library():
    package = Path(appliedpapers.__file__).parent
    files = [*(package / "plugins" / "finalmlp").glob("*.py"), *(package / "core" / "features").glob("*.py")]
    assert len(files) > 25
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("pandas", "polars")], path


def test_the_bundle_alone_predicts_on_raw_rows_and_holds_no_pickle(tmp_path):
    loaded = round_trip(standard(), tmp_path / "bundle")
    raw = clicks(50, seed=9).drop_columns(["click", "row_id"])
    np.testing.assert_array_equal(probabilities(loaded, raw), probabilities(standard(), raw))
    for path in (tmp_path / "bundle").rglob("*"):
        assert path.suffix in (".json", ".safetensors", ".parquet")


def test_models_with_sequences_survive_storing(tmp_path):
    fields = {name: one for name, one in FIELDS.items() if one.role in ("label", "sequence", "timestamp")}
    model = fitted(configured("training.epochs=1"), tmp_path / "run", clicks(600), fields=fields)
    new = clicks(60, seed=9)
    loaded = round_trip(model, tmp_path / "bundle")
    assert np.abs(probabilities(loaded, new) - probabilities(model, new)).max() == 0


def test_scoring_never_uses_the_statistics_of_the_batch():
    same = clicks(40, seed=9)
    alike = pa.concat_tables([same.slice(0, 1)] * 40)
    assert probabilities(standard(), alike) == pytest.approx(probabilities(standard(), same)[0], abs=1e-6)
    network = small_network(FIELDS_OF_ROWS).train()
    task = ClickTask(network, ROWS, ROWS, FinalMlpTraining())
    before = {name: value.clone() for name, value in network.named_buffers()}
    task.validate()
    for name, value in network.named_buffers():
        assert torch.equal(value, before[name])
    # training goes on in training mode after the loop says so, never by itself
    assert not network.training


def test_the_first_epochs_logloss_stops_nobody(tmp_path):
    """Running statistics lag behind: after one epoch the logloss is poor although the order is good."""
    config = configured("training.epochs=3", "training.patience=2")
    seen = []
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.finalmlp.model import FinalMlpModel

    dataset = dataset_of(clicks(), config)
    run = FitContext(tmp_path, log_metrics=lambda metrics, step: seen.append(dict(metrics)))
    FinalMlpModel(config).fit(dataset.train, dataset.valid, run)
    assert len(seen) == 3
    assert {"network-0/valid_auc", "network-0/valid_logloss"} <= set(seen[0])
    assert FinalMlpConfig().training.monitor == "auc"


def test_equal_rows_in_any_mixture_of_batches_train_the_same_way():
    """The loss of a batch is the mean of its rows: dropping or padding rows would show."""
    network = small_network(FIELDS_OF_ROWS).eval()
    task = ClickTask(network, ROWS, ROWS, FinalMlpTraining(embedding_l2=0.0))
    whole = task.loss(torch.arange(60)).item()
    parts = [task.loss(torch.arange(start, start + 20)).item() for start in (0, 20, 40)]
    assert whole == pytest.approx(np.mean(parts), rel=1e-5)
    assert network(batch_of(ROWS)).shape == (60,)
