"""Accuracy, macro-F1 and accuracy by case, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from appliedpapers.core.metrics import macro_f1
from appliedpapers.plugins.varifocal_net.chromosomes import Chromosomes
from appliedpapers.plugins.varifocal_net.config import ReviewConfig
from appliedpapers.plugins.varifocal_net.scoring import answers_of, score


def test_figures_of_the_reference(shared):
    with np.load(shared / "golden" / "varifocal-net.npz") as file:
        golden = {name: file[name] for name in file.files if name.startswith("m_")}
    true, said, case = golden["m_true"], golden["m_pred"], golden["m_case"]
    rows = len(true)
    chromosomes = Chromosomes(
        [np.zeros((2, 2), np.uint8)] * rows,
        [str(row) for row in range(rows)],
        [f"cell {one}" for one in case],
        [None] * rows,
        true.astype(np.int16),
        np.ones(rows, np.int8),
        np.full(rows, -1, np.int16),
    )
    answers = answers_of(np.eye(24)[said], np.ones(rows), chromosomes, ReviewConfig())
    metrics = score(answers, chromosomes).metrics
    assert metrics["type_accuracy"].value == pytest.approx(float(golden["m_acc"]), abs=1e-12)
    assert metrics["macro_f1"].value == pytest.approx(float(golden["m_f1"]), abs=1e-12)
    assert metrics["case_accuracy_argmax"].value == pytest.approx(float(golden["m_case_acc"]), abs=1e-12)
    assert macro_f1(true, said) == pytest.approx(float(golden["m_f1"]), abs=1e-12)
