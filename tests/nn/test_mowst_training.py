"""Training and selection: the defects of the released code, each as a test, and what selection promises."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from appliedpapers.nn.mowst import ConfidenceGatedMixture, ExpertError
from appliedpapers.nn.mowst_phases import MixtureTraining, descend
from appliedpapers.nn.mowst_routing import Evidence
from appliedpapers.nn.mowst_simulator import simulate_graph, simulate_rows
from appliedpapers.nn.mowst_training import PRESETS, pretrain_expert, select, train_mixture

SHORT = MixtureTraining(epochs=8, patience=4, rounds=2, round_patience=1)


def network(inputs: int, classes: int = 4, width: int = 16) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes)
    )


@pytest.fixture(scope="module")
def rows():
    return simulate_rows(600, seed=0)


def made(seed=0, **options) -> ConfidenceGatedMixture:
    torch.manual_seed(seed)
    return ConfidenceGatedMixture(network(8), network(40), **options)


def test_pretraining_stops_by_the_validation_labels(rows):
    (inputs, y), options = rows.part("valid"), dataclasses.replace(SHORT, epochs=30, patience=30)
    phases = [
        pretrain_expert(made(), "strong", rows.part("train"), (inputs, labels), options)
        for labels in (y, (y + torch.arange(len(y)) % 3) % 4)
    ]
    assert phases[0].losses == phases[1].losses
    assert phases[0].scores != phases[1].scores
    assert phases[0].best != phases[1].best


def test_the_state_of_the_best_epoch_is_restored(rows):
    mixture, valid = made(), rows.part("valid")
    phase = pretrain_expert(mixture, "strong", rows.part("train"), valid, SHORT)
    found = mixture.evidence(valid[0]).strong.argmax(-1) == valid[1]
    assert float(found.double().mean()) == max(phase.scores) == phase.scores[phase.best]


@pytest.mark.parametrize("patience", [1, 5])
def test_a_constant_validation_score_stops_after_patience_plus_one_epochs(patience):
    model = nn.Linear(2, 2)
    options = MixtureTraining(epochs=500, patience=patience)

    def steps():
        yield model(torch.ones(3, 2)).square().sum()

    phase = descend([model], steps, lambda: 0.5, name="constant", lr=0.01, options=options)
    assert len(phase.scores) == patience + 1
    assert phase.best == 0


@pytest.mark.parametrize("mode", ["star", "mowst"])
def test_a_mixture_whose_score_cannot_rise_stops_by_patience(rows, mode):
    inputs, y = rows.part("valid")
    # nothing can be right on labels that no expert is able to give
    mixture = made(mode=mode)
    for expert in (mixture.weak, mixture.strong):
        expert[-1].bias.data[3] = -1e4
    never = torch.full_like(y, 3)
    options = MixtureTraining(epochs=500, patience=3, rounds=50, round_patience=2, pretrain="none")
    done = train_mixture(mixture, rows.part("train"), (inputs, never), options)
    assert all(len(phase.scores) == 4 for phase in done.phases)
    assert len(done.phases) == (1 if mode == "star" else 2 * 3)


def test_the_expert_held_still_in_a_turn_does_not_move_its_batch_statistics(rows, monkeypatch):
    mixture = made(mode="mowst")
    moved = {"weak": [], "strong": []}
    for side in moved:
        batch_norm = mixture.expert(side)[1]
        batch_norm.register_forward_hook(lambda module, *_, side=side: moved[side].append(module.training))
    options = dataclasses.replace(SHORT, pretrain="none", rounds=1)
    before = mixture.strong[1].running_mean.clone()
    work_turn = train_mixture(mixture, rows.part("train"), rows.part("valid"), options)
    weak_turn, strong_turn = (phase for phase in work_turn.phases)
    # in training mode each expert ran once for every epoch of its own turn and never else
    assert sum(moved["weak"]) == len(weak_turn.losses)
    assert sum(moved["strong"]) == len(strong_turn.losses)
    assert not torch.equal(before, mixture.strong[1].running_mean)


def test_frozen_experts_are_run_once_and_do_not_change(rows):
    calls = []
    mixture = made(freeze="both")
    mixture.strong.register_forward_hook(lambda *_: calls.append(1))
    before = {key: value.clone() for key, value in mixture.strong.state_dict().items()}
    done = train_mixture(mixture, rows.part("train"), rows.part("valid"), SHORT)
    assert [phase.name for phase in done.phases] == ["star"]
    assert all(torch.equal(before[key], value) for key, value in mixture.strong.state_dict().items())
    # the checks (2), the kept answers (2), the candidates before and after (2)
    assert len(calls) == 6


def test_foreign_experts_leave_only_the_gate_to_train(rows):
    def weak(x):
        return torch.softmax(torch.as_tensor(x[:, :4]), -1).numpy()

    mixture = ConfidenceGatedMixture(weak, lambda x: weak(x[:, 4:]), mode="mowst")
    done = train_mixture(mixture, rows.part("train"), rows.part("valid"), SHORT)
    assert [phase.name for phase in done.phases] == ["weak turn 1"]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("mode", ["star", "mowst"])
def test_every_preset_runs(preset, mode, rows):
    options = dataclasses.replace(
        PRESETS[preset], epochs=min(PRESETS[preset].epochs, 3), rounds=min(PRESETS[preset].rounds, 2)
    )
    done = train_mixture(made(mode=mode), rows.part("train"), rows.part("valid"), options)
    assert done.selection is not None


@pytest.mark.parametrize(
    ("pretrain", "names"), [("none", []), ("weak", ["weak"]), ("both", ["weak", "strong"])]
)
def test_each_choice_of_pretraining_does_what_it_says(pretrain, names, rows):
    options = dataclasses.replace(SHORT, pretrain=pretrain)
    done = train_mixture(made(), rows.part("train"), rows.part("valid"), options)
    assert [phase.name for phase in done.phases] == [*names, "star"]


def test_selection_ships_the_best_on_validation_and_the_cheaper_of_equals():
    y = torch.tensor([0, 1, 0, 1])
    right = nn.functional.one_hot(y, 2).float()
    wrong = 1 - right
    half = torch.full((4,), 0.5)

    def chosen(weak, strong, joint=None):
        plain = Evidence(weak, strong, half, {})
        return select(plain, plain if joint is None else Evidence(*joint, half, {}), y)

    assert chosen(right, right).name == "weak"
    assert chosen(wrong, right).name == "strong"
    assert chosen(wrong, wrong, (right, right)).name == "mixture"
    assert chosen(wrong, wrong, (right, right)).weight == "gate"
    some, others = right.clone(), right.clone()
    some[0], others[1] = torch.tensor([0.4, 0.6]), torch.tensor([0.6, 0.4])
    complementary = chosen(some, others)
    assert (complementary.name, complementary.weight, complementary.constant) == ("average", 0.5, 0.5)
    for selection in (chosen(right, wrong), complementary):
        assert selection.valid[selection.name] == max(selection.valid.values())


@pytest.mark.parametrize("mode", ["star", "mowst"])
def test_what_ships_is_at_least_as_good_on_validation_as_every_candidate(mode, rows):
    mixture, valid = made(mode=mode), rows.part("valid")
    done = train_mixture(mixture, rows.part("train"), valid, SHORT)
    shipped = float((mixture.predict(valid[0]).argmax(-1) == valid[1]).double().mean())
    assert shipped == pytest.approx(max(done.selection.valid.values()))
    compared = done.compare(mixture, *valid)
    assert {key: compared[key] for key in done.selection.valid} == pytest.approx(done.selection.valid)
    assert compared["shipped"] == pytest.approx(shipped)


def test_a_plain_winner_gets_back_the_experts_trained_alone(rows):
    mixture = made()
    done = train_mixture(mixture, rows.part("train"), rows.part("valid"), SHORT)
    kept = done.joint if done.selection.name == "mixture" else done.single
    assert all(torch.equal(kept[key], value) for key, value in mixture.state_dict().items())
    assert mixture.signal == ("gate" if done.selection.name == "mixture" else "variance")


def test_the_same_seed_gives_the_same_run_and_another_seed_another(rows):
    options = dataclasses.replace(SHORT, batch_size=64)
    runs = [
        train_mixture(made(), rows.part("train"), rows.part("valid"), dataclasses.replace(options, seed=seed))
        for seed in (0, 0, 1)
    ]
    assert runs[0].phases == runs[1].phases
    assert runs[0].selection == runs[1].selection
    assert runs[0].phases != runs[2].phases


def test_batches_lazy_inputs_and_gate_features_go_together(rows):
    (inputs, y), valid = rows.part("train"), rows.part("valid")

    def lazy(wanted):
        return inputs["strong"] if wanted is None else inputs["strong"][wanted]

    options = dataclasses.replace(SHORT, batch_size=64)
    runs = [
        train_mixture(made(gate_features=8), ({**inputs, "strong": strong}, y), valid, options).phases
        for strong in (inputs["strong"], lazy)
    ]
    assert runs[0] == runs[1]


def test_selection_samples_nothing(rows):
    mixture, (inputs, y) = made(), rows.part("valid")
    found = mixture.evidence(inputs)
    torch.manual_seed(1)
    first = select(found, found, y)
    torch.manual_seed(2)
    assert select(found, found, y) == first


def test_row_weights_of_zero_leave_rows_out(rows):
    (inputs, y), valid = rows.part("train"), rows.part("valid")
    spoiled = y.clone()
    spoiled[:100] = (spoiled[:100] + 1) % 4
    weights = torch.ones(len(y))
    weights[:100] = 0
    runs = [
        train_mixture(made(), (inputs, labels), valid, SHORT, weights=weights).phases
        for labels in (y, spoiled)
    ]
    assert runs[0] == runs[1]


def test_a_reloaded_mixture_has_the_identical_confidence_and_prediction(rows, tmp_path):
    mixture, (inputs, _) = made(), rows.part("test")
    train_mixture(mixture, rows.part("train"), rows.part("valid"), SHORT)
    mixture.weight = 0.35
    mixture.save(tmp_path / "kept")
    loaded = ConfidenceGatedMixture.load(tmp_path / "kept", weak=network(8), strong=network(40))
    assert torch.equal(loaded.evidence(inputs).confidence, mixture.evidence(inputs).confidence)
    assert torch.equal(loaded.predict(inputs), mixture.predict(inputs))
    assert (loaded.weight, loaded.signal) == (mixture.weight, mixture.signal)
    loaded.signal = mixture.signal = "gate"
    assert torch.equal(loaded.evidence(inputs).confidence, mixture.evidence(inputs).confidence)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        "mixture.json",
        "mixture.safetensors",
    ]


def test_a_bundle_refuses_a_missing_expert_and_changed_weights(tmp_path):
    made().save(tmp_path)
    with pytest.raises(ValueError, match=r"weak expert is not one of the shelf: give load\(folder, weak="):
        ConfidenceGatedMixture.load(tmp_path)
    weights = tmp_path / "mixture.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="sha256 differs"):
        ConfidenceGatedMixture.load(tmp_path, weak=network(8), strong=network(40))


def test_bad_training_data_are_named(rows):
    (inputs, y), valid = rows.part("train"), rows.part("valid")
    nothing = {key: value[:0] for key, value in inputs.items()}
    with pytest.raises(ValueError, match="no labelled training rows"):
        train_mixture(made(), (nothing, y[:0]), valid, SHORT)
    with pytest.raises(ValueError, match="all training rows are of class 0"):
        train_mixture(made(), (inputs, torch.zeros_like(y)), valid, SHORT)
    with pytest.raises(ValueError, match=r"label 4 is outside 0\.\.3"):
        train_mixture(made(), (inputs, y + 1), valid, SHORT)
    bad = {**inputs, "strong": inputs["strong"] * float("nan")}
    with pytest.raises(ExpertError, match="strong expert gave NaN"):
        train_mixture(made(), (bad, y), valid, SHORT)
    with pytest.raises(ValueError, match="did you mean 'quick'"):
        train_mixture(made(), (inputs, y), valid, "quik")
    with pytest.raises(ValueError, match="patience must be above 0"):
        MixtureTraining(patience=0)


def test_a_diverging_loss_is_named_with_its_epoch(rows):
    options = dataclasses.replace(SHORT, lr=1e20)
    with pytest.raises((FloatingPointError, ExpertError), match=r"epoch|NaN"):
        train_mixture(made(), rows.part("train"), rows.part("valid"), options)


def test_the_simulator_of_rows_knows_its_truth():
    rows = simulate_rows(4000, seed=3)
    assert rows.best_share == pytest.approx(0.5, abs=0.03)
    assert 0.9 < rows.bayes < 0.97
    centre = rows.own[rows.hard].norm(dim=1).mean()
    assert rows.own[~rows.hard].norm(dim=1).mean() > centre + 1
    assert torch.equal(simulate_rows(4000, seed=3).both, rows.both)
    assert rows.split.bincount().tolist() == [2400, 800, 800]
    assert simulate_rows(500, noise=0.0, hard=0.0).bayes == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"noise must be from 0 to 0\.4"):
        simulate_rows(noise=0.5)


@pytest.mark.parametrize(
    ("variant", "homophily"),
    [("complementary", (0.9, 0.1)), ("weak_useless", (0.9, 0.1)), ("strong_useless", (0.25, 0.25))],
)
def test_the_simulator_of_graphs_wires_by_the_kind_of_node(variant, homophily):
    made = simulate_graph(2000, variant=variant, seed=0)
    graph, y = made.graph, made.graph.labels
    source, target = torch.as_tensor(graph.edges)
    same = (y[source] == y[target]).double()
    ends, kinds = torch.cat([source, target]), made.by_features
    for kind, wanted in ((False, homophily[0]), (True, homophily[1])):
        assert torch.cat([same, same])[kinds[ends] == kind].mean() == pytest.approx(wanted, abs=0.04)
    assert 2 * graph.edges.shape[1] / graph.nodes == pytest.approx(12, abs=1)
    apart = [(made.own[kinds & (y == c)].mean(0) - made.own[kinds & (y == 0)].mean(0)).norm() for c in (1, 2)]
    expected = 0.0 if variant == "weak_useless" else 1.5
    assert sum(apart) / 2 == pytest.approx(expected, abs=0.35)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "rivals", "margin"),
    [
        ("complementary", ("weak", "strong"), 0.01),
        ("weak_useless", ("strong",), -0.01),
        ("strong_useless", ("weak",), -0.01),
    ],
)
def test_the_right_expert_ships_on_the_simulated_graph(variant, rivals, margin):
    from appliedpapers.nn.graph import GraphExpert

    made = simulate_graph(variant=variant, seed=0)
    torch.manual_seed(0)
    mixture = ConfidenceGatedMixture(
        GraphExpert(8, 4, kind="mlp"), GraphExpert(made.graph.features.shape[1], 4)
    )
    done = train_mixture(mixture, made.part("train"), made.part("valid"))
    found = done.compare(mixture, *made.part("test"))
    assert found["shipped"] >= max(found[rival] for rival in rivals) + margin
