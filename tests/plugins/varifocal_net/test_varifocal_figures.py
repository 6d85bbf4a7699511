"""Figures and sentences of a report: they say what is in the answers, with and without cells or a rival."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from appliedpapers.core.evaluation import Material
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN, Chromosomes
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
from appliedpapers.plugins.varifocal_net.figures import draw, failures
from appliedpapers.plugins.varifocal_net.scoring import Answers, answers_of
from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit

from .karyotype_cells import labels_of, read_as

ANEUPLOID, NORMAL = labels_of(t21=3), labels_of()


def material_of(cells, said, *, cases=True, rival=True, synthetic=False):
    """What a report is made from; types are as ``said``, and a rival takes everything for a 1."""
    labels, told = np.concatenate(cells), np.concatenate(said)
    rows, config = len(labels), KaryotypeConfig()
    chromosomes = Chromosomes(
        [np.zeros((2, 2), np.uint8)] * rows,
        [str(row) for row in range(rows)],
        [f"c{number}" if cases else None for number, cell in enumerate(cells) for _ in cell],
        [None] * rows,
        labels.astype(np.int16),
        np.ones(rows, np.int8),
        np.full(rows, UNKNOWN, np.int16),
    )
    unheard = np.full(rows, np.nan)
    # certain enough that the assignment keeps to it
    ours = answers_of(read_as(told, 0.9999), unheard, chromosomes, config.review)
    ones = np.zeros(rows, np.int16)
    models = {"ours": ours} | ({"rival": Answers(read_as(ones), unheard, ones, ones)} if rival else {})
    columns = {"metric": "type_accuracy", "higher_is_better": True, "slice": {}, "seed": None}
    return Material(
        dataset=SimpleNamespace(
            test=ChromosomeSplit(chromosomes), provenance=SimpleNamespace(synthetic=synthetic)
        ),
        model=None,
        model_name="ours",
        predictions=models,
        scored={},
        histories={},
        results={
            "rows": [
                {"model": name, "selected": name == "ours", "value": (answers.argmax == labels).mean()}
                | columns
                for name, answers in models.items()
            ],
            "tests": [
                {"a": "ours", "b": name, "metric": "type_accuracy"} for name in models if name != "ours"
            ],
        },
        config=config,
    )


def swapped(labels, *pairs):
    """Labels of which the last of one type is read as another."""
    found = labels.copy()
    for true, other in pairs:
        found[np.flatnonzero(labels == true)[-1]] = other
    return found


def test_a_report_has_a_figure_for_each_question():
    found = draw(material_of([ANEUPLOID, NORMAL], [ANEUPLOID, swapped(NORMAL, (3, 4))], synthetic=True))
    alts = {figure.name: figure.alt for figure in found}
    assert list(alts) == ["confusions", "review", "reliability", "cells"]
    assert "4 as 5 (1)" in alts["confusions"]
    assert "1 of 93 chromosomes are wrong by themselves, 1 after assignment" in alts["confusions"]
    assert "without review 98.9 % are right" in alts["review"]
    assert "rival says" in alts["reliability"]
    assert "each by itself 1, Algorithm 1 1, assignment 1" in alts["cells"]


@pytest.mark.parametrize("rival", [True, False])
def test_without_cells_nothing_is_said_of_them(rival):
    material = material_of([NORMAL[:5]], [NORMAL[:5]], cases=False, rival=rival)
    found = draw(material)
    assert [figure.name for figure in found] == ["confusions", "review", "reliability"]
    assert "assignment" not in found[0].alt
    assert "No type is taken for another" in found[0].alt
    assert failures(material) == []


def test_failures_name_types_cells_and_karyotypes():
    cells = [ANEUPLOID, NORMAL, NORMAL]
    said = [swapped(ANEUPLOID, (20, 21)), swapped(NORMAL, (3, 4), (5, 6)), NORMAL]
    found = failures(material_of(cells, said))
    assert found[0] == "type 6: 1 of 6 (17 %) wrong by themselves, most often taken for 7 (1)"
    assert "cell c0: truly 47,XY,+21, read as 47,XY,+22" in found
    assert "cell c1: truly 46,XY, a false alarm as 46,XY,-4,+5,-6,+7" in found
    assert found[-2] == "cell c1: 2 of 46 wrong after assignment (4 as 5, 6 as 7)"
    assert found[-1].startswith("cell c0: 1 of 47 wrong")


def test_many_false_alarms_are_counted_rather_than_listed():
    found = failures(material_of([NORMAL] * 6, [swapped(NORMAL, (3, 4))] * 6))
    assert sum("a false alarm as" in text for text in found) == 3
    assert "3 more false alarms on normal cells" in found
