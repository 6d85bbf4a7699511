"""What inputs are worth: shuffles, and the sizes of gates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from appliedpapers.core.features.encoded import EncodedField, EncodedRows
from appliedpapers.plugins.finalmlp.figures import cascade_figure, importance_figure
from appliedpapers.plugins.finalmlp.importance import (
    SHUFFLES,
    Importance,
    gate_sizes,
    importance,
    permutation_drops,
    shuffled,
)
from appliedpapers.plugins.finalmlp.network import FinalMLP, StreamOptions

FIELDS = (
    EncodedField("user", "categorical", 12, 0, "user"),
    EncodedField("age", "numeric", 0, 0, "age"),
    EncodedField("age_missing", "categorical", 4, 0, "age"),
    EncodedField("tags", "sequence", 7, 3, "tags"),
    EncodedField("noise", "categorical", 12, 0, "noise"),
)


def rows(count: int = 2000, seed: int = 0) -> EncodedRows:
    random = np.random.default_rng(seed)
    ids = random.integers(1, 11, (count, 3)).astype(np.int32)
    ids[:, 1] = random.integers(1, 3, count)
    numbers = random.normal(size=(count, 1)).astype(np.float32)
    tags = random.integers(1, 6, (count, 3)).astype(np.int32)
    label = random.random(count) < 1 / (1 + np.exp(-truth(ids, numbers)))
    return EncodedRows(FIELDS, ids, numbers, (tags,), label.astype(np.float32))


def truth(ids, numbers):
    return 0.6 * (ids[:, 0] - 5.5) + 0.5 * numbers[:, 0]


def logits(some: EncodedRows):
    return truth(some.ids, some.numbers).astype(np.float64)


def network(*, use_gate: bool = True, contexts=((0,), ())) -> FinalMLP:
    torch.manual_seed(0)
    stream = StreamOptions((6,), 0.0, True, "mlp")
    return FinalMLP(
        FIELDS,
        dim=4,
        streams=(stream, stream),
        contexts=contexts,
        gate_hidden=(5,),
        heads=2,
        use_gate=use_gate,
    )


def test_inputs_are_sorted_by_what_is_lost_without_them():
    found = importance(rows(), logits, seed=0)
    assert [one.column for one in found][:2] == ["user", "age"]
    assert {one.column for one in found} == {"user", "age", "tags", "noise"}
    worth = {one.column: one for one in found}
    assert worth["user"].low > worth["age"].high > worth["age"].low > 0
    assert worth["noise"].drop == worth["tags"].drop == 0
    assert worth["user"].gates is None


def test_the_interval_is_that_of_the_mean_of_five_shuffles():
    some = rows(300)
    drops = permutation_drops(some, logits, np.random.default_rng(7))["user"]
    found = {one.column: one for one in importance(some, logits, seed=7)}["user"]
    assert drops.shape == (SHUFFLES,)
    assert found.drop == pytest.approx(drops.mean())
    assert found.high - found.drop == pytest.approx(2.776 * drops.std(ddof=1) / np.sqrt(5), rel=1e-3)


def test_fields_of_one_column_move_together_and_others_stay():
    some, order = rows(50), np.random.default_rng(0).permutation(50)
    moved = shuffled(some, "age", order)
    np.testing.assert_array_equal(moved.numbers, some.numbers[order])
    np.testing.assert_array_equal(moved.ids[:, 1], some.ids[order, 1])
    np.testing.assert_array_equal(moved.ids[:, [0, 2]], some.ids[:, [0, 2]])
    np.testing.assert_array_equal(moved.sequences[0], some.sequences[0])
    tags = shuffled(some, "tags", order)
    np.testing.assert_array_equal(tags.sequences[0], some.sequences[0][order])
    np.testing.assert_array_equal(tags.numbers, some.numbers)


def test_many_rows_are_sampled_by_the_seed():
    seen = []

    def watched(some):
        seen.append(len(some))
        return logits(some)

    first = importance(rows(), watched, seed=1, most=200)
    assert set(seen) == {200}
    assert first == importance(rows(), logits, seed=1, most=200)
    assert first != importance(rows(), logits, seed=2, most=200)


def test_a_gate_without_weights_is_one_everywhere_and_lets_lengths_through():
    one, some = network(), rows(100)
    with torch.no_grad():
        for gate in one.gates:
            for parameter in gate.parameters():
                parameter.zero_()
        one.tables.table.fill_(0.5)
        one.tables.scale.fill_(2.0)
    sizes = gate_sizes(some, [one])
    np.testing.assert_allclose(sizes["user"], 1.0)
    # four dimensions of 0.5 have the length 1, those of 2 x have 4 |x|; the indicator counts by half
    passed = (4 * np.abs(some.numbers).mean() + 1) / 2
    assert sizes["age"][1] == pytest.approx((passed, passed), rel=1e-5)


def test_gates_are_averaged_over_networks_and_absent_without_any():
    first, second, some = network(), network(contexts=((), (3,))), rows(100)
    together, parts = gate_sizes(some, [first, second]), [gate_sizes(some, [one]) for one in (first, second)]
    for column in together:
        expected = np.mean([part[column] for part in parts], axis=0)
        np.testing.assert_allclose(together[column], expected, rtol=1e-6)
    assert gate_sizes(some, [network(use_gate=False)]) == {}
    assert importance(some, logits, [network(use_gate=False)], seed=0)[0].passed is None


def test_rows_without_labels_are_refused():
    some = rows(20)
    with pytest.raises(ValueError, match="labels"):
        importance(EncodedRows(FIELDS, some.ids, some.numbers, some.sequences), logits, seed=0)


@pytest.mark.parametrize("gates", [None, (1.0, 1.1)])
def test_the_figure_names_what_is_worth_most_and_warns_of_gates(gates):
    found = [
        Importance(f"field{i}", gates, gates, 0.1 / (i + 1), 0.05 / (i + 1), 0.2 / (i + 1)) for i in range(25)
    ]
    figure = importance_figure(found, synthetic=True)
    assert "field0 (0.1000) and field1" in figure.alt
    assert "5 further inputs" in figure.caption
    assert "gate says little by itself" in figure.caption
    text = figure.data.decode()
    assert ("passed 2" in text) is (gates is not None)


def test_the_cascade_figure_says_what_the_chosen_share_costs():
    curve = [{"share": share, "auc": 0.9 + 0.05 * share} for share in (0.0, 0.5, 1.0)]
    figure = cascade_figure(curve, 0.5, "lightgbm", synthetic=False)
    assert "50 % of the rows" in figure.alt
    assert "0.9250" in figure.alt
    assert "0.9500" in figure.alt
