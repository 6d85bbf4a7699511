"""Algorithm 1 and the assignment of least cost against reference values: 42 cells, hand-made and random."""

from __future__ import annotations

import numpy as np
import pytest

from appliedpapers.plugins.varifocal_net.assignment import CellCosts, Penalties, assign
from appliedpapers.plugins.varifocal_net.dispatch import count_warnings, counts_of, paper_dispatch

pytestmark = pytest.mark.shared

HAND_MADE = [f"d{number:02d}" for number in range(18)]
RANDOM = [f"r{number:02d}" for number in range(24)]
PENALTIES = Penalties(4.0)


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "varifocal-net.npz") as file:
        return {name: file[name] for name in file.files}


def test_no_golden_cell_is_left_out(golden):
    assert (len(HAND_MADE), len(RANDOM)) == (golden["d_n"], golden["r_n"])


@pytest.mark.parametrize("cell", HAND_MADE + RANDOM)
def test_algorithm_1(golden, cell):
    labels = paper_dispatch(golden[f"{cell}_P"])
    counts = counts_of(labels)
    assert labels.dtype == np.int16
    np.testing.assert_array_equal(labels, golden[f"{cell}_label"], str(golden.get(f"{cell}_name")))
    np.testing.assert_array_equal(counts, golden[f"{cell}_count"])
    np.testing.assert_array_equal(count_warnings(counts), golden[f"{cell}_warn"])


@pytest.mark.parametrize("cell", RANDOM)
def test_assignment(golden, cell):
    found = assign(CellCosts(golden[f"{cell}_P"]), PENALTIES)
    assert found.cost == pytest.approx(float(golden[f"{cell}_assign_cost"]), abs=1e-9)
    assert found.sex == str(golden[f"{cell}_assign_sex"])
    # continuous random probabilities: the cheapest labels are unique
    np.testing.assert_array_equal(found.labels, golden[f"{cell}_assign_label"])


def test_the_boundary_is_lost_in_single_precision(golden):
    kept = golden["d04_P"]
    assert counts_of(paper_dispatch(kept))[4] == 3
    assert counts_of(paper_dispatch(kept.astype(np.float32).astype(np.float64), np.float32(0.9)))[4] == 2
