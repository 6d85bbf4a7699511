"""Figures of chromosomes and cells: what they count, who is judged on what, and both ways up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, Chromosomes
from appliedpapers.plugins.varifocal_net.config import ReviewConfig
from appliedpapers.plugins.varifocal_net.scoring import (
    Answers,
    answers_of,
    cell_kind,
    judged,
    macro_f1_of,
    score,
)
from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit

NORMAL = [kind for kind in range(23) for _ in range(2)]  # 46,XX
TRISOMY = [*NORMAL, 20]
MONOSOMY = NORMAL[:-3] + NORMAL[-2:]


def chromosomes_of(cells, specimens=None):
    labels = np.array([label for cell in cells for label in cell], np.int16)
    rng = np.random.default_rng(1)
    rows = len(labels)
    return Chromosomes(
        [rng.integers(0, 250, (6, 4), dtype=np.uint8) for _ in range(rows)],
        [str(row) for row in range(rows)],
        [f"cell-{number}" for number, cell in enumerate(cells) for _ in cell],
        [None if specimens is None else specimens[number] for number, cell in enumerate(cells) for _ in cell],
        labels,
        np.ones(rows, np.int8),
        np.full(rows, -1, np.int16),
    )


def perfect(chromosomes):
    types = np.full((len(chromosomes), 24), 0.001)
    types[np.arange(len(chromosomes)), chromosomes.labels] = 1 - 0.023
    return answers_of(types, chromosomes.polarity.astype(float), chromosomes, ReviewConfig())


def values_of(scored):
    return {name: metric.value for name, metric in scored.metrics.items()}


def test_perfect_answers_are_perfect():
    own = chromosomes_of([NORMAL, TRISOMY, MONOSOMY])
    found = values_of(score(perfect(own), own))
    for name in (
        *("type_accuracy", "macro_f1", "auc", "polarity_accuracy", "polarity_macro_f1", "counts_right"),
        *("case_accuracy_argmax", "case_accuracy_assignment", "cells_right_argmax", "cells_right_assignment"),
        "aneuploid_recall",
    ):
        assert found[name] == pytest.approx(1.0), name
    assert found["false_alarm_rate"] == 0.0
    assert found["logloss"] == pytest.approx(-np.log(0.977))


def test_cells_are_told_apart_by_their_true_types():
    assert cell_kind(np.array(NORMAL)) == "normal"
    assert cell_kind(np.array(TRISOMY)) == "aneuploid"
    assert cell_kind(np.array(MONOSOMY)) == "loss"
    assert cell_kind(np.array(NORMAL[:-1])) == "aneuploid"  # 45,X
    assert cell_kind(np.array([*NORMAL[:-1], 23])) == "normal"  # 46,XY
    assert cell_kind(np.array([*NORMAL, 23])) == "aneuploid"  # 47,XXY


def test_an_alarm_on_a_normal_cell_is_false_and_another_gain_is_not_recall():
    own = chromosomes_of([NORMAL, TRISOMY])
    wrong = own.labels.copy()
    wrong[0] = 5  # of the normal cell
    wrong[len(NORMAL) + 46] = 12  # the third 21 of the other is called a 13
    found = replace(perfect(own), assigned=wrong)
    values = values_of(score(found, own))
    assert values["false_alarm_rate"] == 1.0
    assert values["aneuploid_recall"] == 0.0
    assert values["cells_right_assignment"] == 0.0
    assert values["case_accuracy_assignment"] == pytest.approx((45 / 46 + 46 / 47) / 2)


def test_without_abnormal_cells_there_is_no_recall():
    own = chromosomes_of([NORMAL])
    found = values_of(score(perfect(own), own))
    assert "aneuploid_recall" not in found
    assert found["false_alarm_rate"] == 0.0


def test_without_cases_there_are_no_figures_by_case():
    own = replace(chromosomes_of([NORMAL]), cases=[None] * 46)
    scored = score(perfect(own), own)
    assert not any(name.startswith(("case_", "cells_", "counts_")) for name in scored.metrics)
    assert scored.size == 46


def test_whole_specimens_are_resampled():
    own = chromosomes_of([NORMAL, NORMAL, TRISOMY], ["a", "b", "a"])
    assert score(perfect(own), own).clusters.tolist() == [0, 1, 0]


def test_a_model_without_polarity_has_no_figure_for_it():
    own = chromosomes_of([NORMAL])
    found = score(replace(perfect(own), q_down=np.full(46, np.nan)), own)
    assert "polarity_accuracy" not in found.metrics


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_figures_agree_with_scikit_learn_and_do_not_depend_on_the_order(seed):
    rng = np.random.default_rng(seed)
    own = chromosomes_of([rng.permutation(NORMAL).tolist(), rng.permutation(TRISOMY).tolist()])
    types = rng.dirichlet(np.ones(24), len(own)) + 2 * rng.random() * np.eye(24)[own.labels]
    types /= types.sum(axis=1, keepdims=True)
    q_down = rng.random(len(own))
    own = replace(own, polarity=rng.integers(0, 2, len(own)).astype(np.int8))
    answers = answers_of(types, q_down, own, ReviewConfig())
    found = values_of(score(answers, own))
    said = types.argmax(axis=1)
    assert found["type_accuracy"] == pytest.approx(accuracy_score(own.labels, said))
    assert found["macro_f1"] == pytest.approx(f1_score(own.labels, said, average="macro"))
    assert found["polarity_macro_f1"] == pytest.approx(
        f1_score(own.polarity, q_down >= 0.5, average="macro"), abs=1e-9
    )
    present = np.unique(own.labels)
    aucs = [roc_auc_score(own.labels == kind, types[:, kind]) for kind in present]
    assert found["auc"] == pytest.approx(np.mean(aucs))
    order = rng.permutation(len(own))
    turned = Answers(types[order], q_down[order], answers.assigned[order], answers.dispatched[order])
    assert values_of(score(turned, own.take(order))) == pytest.approx(found)
    assert all(0 <= value <= 1 for name, value in found.items() if name != "logloss")


def test_macro_f1_of_a_confusion_that_is_empty_is_unknown():
    assert np.isnan(macro_f1_of(np.zeros((2, 2), np.int64)))


def test_types_are_slices():
    own = chromosomes_of([NORMAL])
    slices = {part["type"]: found for part, found in score(perfect(own), own).slices if "type" in part}
    assert list(slices) == list(TYPES[:23])
    assert slices["7"]["type_accuracy"].value == 1.0


def test_chromosomes_that_come_one_way_up_are_judged_both_ways():
    own = chromosomes_of([NORMAL] * 8)
    found = judged(ChromosomeSplit(own))
    turned = found.polarity == 0
    assert 0.35 < turned.mean() < 0.65
    for image, given_image, turn in zip(found.images, own.images, turned, strict=True):
        assert (image == (given_image[::-1] if turn else given_image)).all()


def test_the_coin_does_not_tell_which_way_up_an_image_came():
    own = chromosomes_of([NORMAL])
    upside_down = replace(own, images=[image[::-1] for image in own.images], polarity=np.zeros(46, np.int8))
    one, other = judged(ChromosomeSplit(own)), judged(ChromosomeSplit(upside_down))
    assert ((one.polarity == 1) == (other.polarity == 0)).all()


def test_chromosomes_with_polarity_of_their_own_stay_as_they_are():
    own = chromosomes_of([NORMAL])
    mixed = replace(own, polarity=np.arange(46).astype(np.int8) % 2)
    assert judged(ChromosomeSplit(mixed)) is mixed
