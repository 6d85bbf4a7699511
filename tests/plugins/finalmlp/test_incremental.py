"""New days for a fitted model: what was learned stays, vocabularies grow, other sizes are refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_clicks import (
    FIELDS,
    clicks,
    configured,
    dataset_of,
    fitted,
    prepared_of,
    probabilities,
    round_trip,
    standard,
)

from appliedpapers.core.errors import AppsError, ConfigError
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.finalmlp.fitting import Earlier, new_network, start_from
from appliedpapers.plugins.finalmlp.learner import score_rows
from appliedpapers.plugins.finalmlp.model import FinalMlpModel
from appliedpapers.plugins.finalmlp.prepared import prepare
from appliedpapers.plugins.finalmlp.scorer import Scorer


def next_days(seed=4):
    """Return a later log: half of the rows have users or items that the first one did not know."""
    table = clicks(1200, seed=seed)
    for name in ("user", "item"):
        place = table.column_names.index(name)
        old = table[name].to_pylist()
        new = [f"new-{value}" if row % 4 == 0 else value for row, value in enumerate(old)]
        table = table.set_column(place, name, pa.array(new))
    tags = [[*row, "t-new"] if len(row) == 2 else row for row in table["tags"].to_pylist()]
    return table.set_column(table.column_names.index("tags"), "tags", pa.array(tags))


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """The next days, encoded by the grown encoder, and a network that starts from the standard model."""
    config = configured()
    dataset = dataset_of(next_days(), config)
    folder = tmp_path_factory.mktemp("grown")
    run = FitContext(folder)
    prepared = prepare(
        dataset.train, dataset.valid, config.data, folder, run.progress, start=standard().encoder
    )
    network = new_network(prepared.encoder.fields, config.model, seed=99)
    start_from(network, prepared.encoder, Earlier(standard().networks, standard().encoder), 0)
    return prepared, network.eval()


def test_known_tokens_keep_their_rows_and_new_ones_start_as_never_seen(grown):
    prepared, network = grown
    old_encoder, old = standard().encoder, standard().networks[0]
    pairs = [(network.tables, old.tables)] + [
        (ours.tables, theirs.tables) for ours, theirs in zip(network.gates, old.gates, strict=True)
    ]
    checked = 0
    for ours, theirs in pairs:
        for position, (start, size) in ours.spans.items():
            field, before = prepared.encoder.fields[position], old_encoder.fields[position]
            old_start, old_size = theirs.spans[position]
            assert (size, old_size) == (field.size, before.size)
            known = old_size - 1
            new_rows = ours.table.detach()[start : start + size]
            old_rows = theirs.table.detach()[old_start : old_start + old_size]
            assert torch.equal(new_rows[:known], old_rows[:known])
            assert torch.equal(new_rows[known:], old_rows[-1].expand(size - known, -1))
            checked += size > old_size
    # users and items in fields and gates, and tags
    assert checked == 5


def test_everything_beside_the_tables_is_copied(grown):
    _, network = grown
    old = standard().networks[0].state_dict()
    for name, value in network.state_dict().items():
        if not name.endswith("table"):
            assert torch.equal(value, old[name]), name


def test_before_training_predictions_are_those_of_the_earlier_model(grown):
    prepared, network = grown
    for table in (clicks(500, seed=8), next_days(9)):
        ours = score_rows(Scorer(network), prepared.encoder.encode(table))
        theirs = standard().logits(standard().encoder.encode(table))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_new_tokens_learn_apart_from_the_row_of_the_never_seen(tmp_path):
    before = standard().networks[0].state_dict()
    model = fitted(configured("training.epochs=1"), tmp_path / "run", next_days(), init=standard())
    assert not any(
        torch.equal(value, before[name])
        for name, value in model.networks[0].state_dict().items()
        if name.endswith("layers.0.weight")
    )
    vocabulary = model.encoder.vocabulary("user")
    assert "new-u1" in vocabulary.tokens.to_pylist()
    place = next(k for k, field in enumerate(model.encoder.fields) if field.name == "user")
    start, size = model.networks[0].tables.spans[place]
    rows = model.networks[0].tables.table.detach()[start : start + size]
    known = standard().encoder.fields[place].size - 1
    assert (rows[known : size - 1] - rows[size - 1]).abs().sum(dim=1).min() > 0
    loaded = round_trip(model, tmp_path / "bundle")
    np.testing.assert_array_equal(probabilities(loaded, next_days(9)), probabilities(model, next_days(9)))


def test_the_earlier_model_is_left_as_it_was(tmp_path):
    before = {name: value.clone() for name, value in standard().networks[0].state_dict().items()}
    sizes = [field.size for field in standard().encoder.fields]
    fitted(configured("training.epochs=1"), tmp_path, next_days(), init=standard())
    for name, value in standard().networks[0].state_dict().items():
        assert torch.equal(value, before[name])
    assert [field.size for field in standard().encoder.fields] == sizes


def test_a_larger_ensemble_starts_from_what_there_is(tmp_path):
    config = configured("model.ensemble=2", "training.epochs=1")
    model = fitted(config, tmp_path, next_days(), init=standard())
    assert len(model.networks) == 2
    assert not torch.equal(model.networks[0].fusion, model.networks[1].fusion)


@pytest.mark.parametrize(
    "option",
    [
        "model.dim=6",
        "model.stream1={hidden: [8]}",
        "model.stream2.batch_norm=false",
        "model.gate=false",
        "model.fusion=sum",
        "model.heads=4",
        "model.context1=[item]",
        "model.context1=[]",
        "model.gate_hidden=[6, 6]",
    ],
)
def test_other_sizes_are_refused_in_one_line(tmp_path, option):
    with pytest.raises(ConfigError, match=r"^--init-from: ") as caught:
        fitted(configured(option, "training.epochs=1"), tmp_path, next_days(), init=standard())
    assert "\n" not in str(caught.value).split("Use the same")[0].strip()
    assert "model" in caught.value.hint


def test_hashed_fields_keep_their_table(tmp_path):
    fields = {**FIELDS, "user": FieldSpec(role="categorical", hash_buckets=32)}
    config = configured("training.epochs=1")
    first = fitted(config, tmp_path / "first", clicks(800), fields=fields)
    second = fitted(config, tmp_path / "second", next_days(), fields=fields, init=first)
    sizes = [
        [field.size for field in model.encoder.fields if field.name == "user"] for model in (first, second)
    ]
    assert sizes == [[34], [34]]


def test_a_log_without_the_columns_of_the_earlier_model_is_refused(tmp_path):
    fields = {name: one for name, one in FIELDS.items() if name != "item"}
    with pytest.raises(AppsError) as caught:
        fitted(configured(), tmp_path, next_days().drop_columns("item"), fields=fields, init=standard())
    assert "item" in str(caught.value)


def test_an_unfitted_model_is_no_start_and_no_harm(tmp_path):
    config = configured("training.epochs=1")
    model = fitted(config, tmp_path / "a", clicks(600), init=FinalMlpModel(config))
    plain = fitted(config, tmp_path / "b", clicks(600))
    np.testing.assert_array_equal(probabilities(model, clicks(50)), probabilities(plain, clicks(50)))


def test_growing_twice_knows_all_days(tmp_path):
    config = configured()
    first = prepared_of(clicks(400, seed=1), config, tmp_path)
    days = [next_days(2), next_days(3)]
    second = first.encoder.grow(lambda: days[0].to_batches())
    third = second.grow(lambda: days[1].to_batches())
    known = [set(one.vocabulary("user").tokens.to_pylist()) for one in (first.encoder, second, third)]
    assert known[0] < known[1] <= known[2]
    assert third.rows == first.encoder.rows + 2400
