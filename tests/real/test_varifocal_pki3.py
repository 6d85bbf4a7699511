"""Reduced form of the acceptance on Pki-3: few cells and epochs, judged on cells of other specimens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from appliedpapers.core.config import resolve
from appliedpapers.core.model import FitContext
from appliedpapers.core.sources import load_dataset
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
from appliedpapers.plugins.varifocal_net.data import DATASETS
from appliedpapers.plugins.varifocal_net.karyotype import settle
from appliedpapers.plugins.varifocal_net.model import ChromosomeClassifier
from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit

pytestmark = [pytest.mark.shared, pytest.mark.slow]

CHANCE = 2 / 46
CONFIG = resolve(KaryotypeConfig, preset="quick").replace(
    network={"crop": "simple", "answer": "joint"},
    steps={"g": {"epochs": 2, "batch_size": 16}, "l": {"epochs": 2, "batch_size": 16}, "copies": 1},
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def opened(shared):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APPS_DATA_HOME", str(shared / "data"))
        return {
            name: load_dataset(DATASETS, "varifocal-net", CONFIG, dataset=name) for name in ("pki3", "cirnet")
        }


def cells_of(split, start, count, step):
    """Every ``step``-th cell."""
    rows = list(split.chromosomes.rows_by_case().values())[start::step][:count]
    return split.chromosomes.take(np.concatenate(rows))


@pytest.fixture(scope="module")
def unseen(opened):
    """Validation cells that nothing was chosen on: those of other specimens than the others."""
    valid = opened["pki3"].valid.chromosomes
    specimens = list(dict.fromkeys(valid.specimens))
    return valid.take([row for row, name in enumerate(valid.specimens) if name in specimens[::2]])


@pytest.fixture(scope="module")
def model(opened, unseen, tmp_path_factory):
    data = opened["pki3"]
    train = cells_of(data.train, 0, 20, 7)
    chosen = [
        row for row, name in enumerate(data.valid.chromosomes.specimens) if name not in unseen.specimens
    ]
    valid = data.valid.chromosomes.take(chosen)
    assert not set(unseen.specimens) & {*train.specimens, *valid.specimens}
    context = FitContext(tmp_path_factory.mktemp("fit"), seed=3)
    return ChromosomeClassifier(CONFIG).fit(ChromosomeSplit(train), ChromosomeSplit(valid), context)


@pytest.fixture(scope="module")
def reading(model, unseen):
    return model.read(unseen)


def accuracy(labels, chromosomes):
    return float(np.mean(labels == chromosomes.labels))


def dispatched(reading, chromosomes, how):
    labels = np.empty(len(chromosomes), dtype=np.int16)
    review = CONFIG.replace(review={"dispatch": how}).review
    for rows in chromosomes.rows_by_case().values():
        labels[rows] = settle(reading.types[rows], chromosomes.fixed[rows], review).labels
    return labels


def test_few_cells_teach_far_more_than_chance(reading, unseen):
    assert accuracy(reading.types.argmax(1), unseen) > 8 * CHANCE
    assert np.mean((reading.q_down > 0.5) == unseen.polarity) > 0.65


def test_gnet_and_lnet_have_learned_each(model, opened, unseen):
    found = model.parts(unseen, cells_of(opened["pki3"].valid, 0, 4, 3))
    for name in ("g-net", "l-net"):
        assert accuracy(found[name][0].argmax(1), unseen) > 4 * CHANCE


def test_dispatch_makes_types_no_worse(reading, unseen):
    plain = accuracy(dispatched(reading, unseen, "none"), unseen)
    assert plain == accuracy(reading.types.argmax(1), unseen)
    assert accuracy(dispatched(reading, unseen, "assignment"), unseen) >= plain


def test_probabilities_are_calibrated_roughly(reading, unseen):
    sure = reading.types.max(1)
    assert sure.mean() == pytest.approx(accuracy(reading.types.argmax(1), unseen), abs=0.12)


def test_cirnet_is_answered_for_without_cells(model, opened):
    example = opened["cirnet"].test.example(150)
    assert example.column("case").null_count == example.num_rows == 150
    found = model.predict(example)
    assert found.column("type").null_count == 0
    assert found.column("karyotype").null_count == 150
    assert not any(found.column("moved").to_pylist())
    assert found.column("problem").null_count == 150


def test_cirnet_is_recognised_above_chance(model, opened):
    own = opened["cirnet"].test.chromosomes
    some = own.take(np.random.default_rng(0).permutation(len(own))[:300])
    assert accuracy(model.read(some).types.argmax(1), some) > 2 * CHANCE
