"""Table first, photo only where the table is unsure: who is looked at, what is kept, what is said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.errors import DataError
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.agrosense.crop.baselines import PhotoArm, usual_baselines
from appliedpapers.plugins.agrosense.crop.cascade import Cascade
from appliedpapers.plugins.agrosense.crop.config import CropConfig
from appliedpapers.plugins.agrosense.crop.data import DATASETS
from appliedpapers.plugins.agrosense.crop.evaluation import EVALUATION
from appliedpapers.plugins.agrosense.crop.model import CropRecommender

CONFIG = CropConfig().replace(
    simulator={"sites": 8, "fields_from": 20, "fields_to": 24, "mixed_soils": 1.0},
    model={"family": "gaussian-nb", "inner_folds": 2},
    fusion={"images": True, "kind": "mowst", "eye": "colour", "folds": 2, "looks": 0.5},
)


@pytest.fixture(scope="module")
def dataset():
    return DATASETS.simulated(CONFIG)


def fitted(dataset, folder, config=CONFIG) -> CropRecommender:
    return CropRecommender(config).fit(dataset.train, dataset.valid, FitContext(folder))


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory):
    return fitted(dataset, tmp_path_factory.mktemp("fit"))


class Counting:
    """A reader that counts the photos that it is asked about."""

    def __init__(self, reader):
        self.reader, self.classes, self.asked = reader, reader.classes, []

    def probabilities(self, images: Sequence[bytes]):
        self.asked += list(images)
        return self.reader.probabilities(images)


def test_photos_are_read_where_the_table_is_unsure_and_nowhere_else(model, dataset, monkeypatch):
    table = dataset.test.inputs()
    counting = Counting(model.reader)
    monkeypatch.setattr(model, "reader", counting)
    answers = model.answers(table, attributions=False)
    photos = table.column("image").to_pylist()
    assert 0 < answers.looked.sum() < len(photos)
    assert counting.asked == [photos[row] for row in np.flatnonzero(answers.looked)]
    late = model.encoder.matrix(table, _soil(model, photos))
    bare = late[:, : model._table_width]
    weak, strong = model.cascade.weak.probabilities(bare), model.recommender.probabilities(late)
    np.testing.assert_array_equal(answers.looked, model.cascade.unsure(weak))
    expected = np.where(answers.looked[:, None], strong, weak)
    np.testing.assert_allclose(answers.probabilities, expected, atol=1e-12)
    counting.asked.clear()
    answer = model.predict(table)
    assert len(counting.asked) == answers.looked.sum()
    assert answer.column("photo_used").to_pylist() == answers.looked.tolist()


def _soil(model, photos):
    from appliedpapers.plugins.agrosense.crop.fusion import read_photos

    return read_photos(model.reader, photos, model.prior)


def test_a_row_gets_the_same_answer_alone_and_in_company(model, dataset):
    table = dataset.test.inputs().slice(0, 12)
    together = model.answers(table, attributions=False)
    for row in range(table.num_rows):
        alone = model.answers(table.slice(row, 1), attributions=False)
        assert alone.looked[0] == together.looked[row]
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[row], atol=1e-12)


def test_without_a_photo_the_table_answers(model, dataset):
    table = dataset.test.inputs()
    place = table.column_names.index("image")
    bare = table.set_column(place, "image", pa.nulls(table.num_rows, pa.binary()))
    answers = model.answers(bare, attributions=False)
    assert not answers.looked.any()
    weak = model.cascade.weak.probabilities(
        model.encoder.matrix(bare, _soil(model, [None] * len(bare)))[:, :-8]
    )
    np.testing.assert_allclose(answers.probabilities, weak, atol=1e-12)


def test_bundles_keep_the_gate_and_a_seed_makes_the_same_model(model, dataset, tmp_path):
    save_bundle(model, tmp_path / "kept", plugin="agrosense", task="crop")
    kept, _ = load_bundle(tmp_path / "kept")
    again = fitted(dataset, tmp_path / "again")
    table = dataset.test.inputs()
    first = model.predict(table)
    for other in (kept, again):
        assert other.predict(table).equals(first)
        assert other.cascade.below == model.cascade.below
    assert dict(kept.describe()) == dict(model.describe())


def test_attributions_add_up_whether_or_not_the_photo_was_used(model, dataset):
    table = dataset.test.inputs().slice(0, 6)
    answers = model.answers(table, attributions=True)
    top = answers.logits[np.arange(6), answers.logits.argmax(axis=1)]
    np.testing.assert_allclose(answers.attributions.sum(axis=1), top, atol=1e-6)
    names = [name for name, _ in model.encoder.players]
    assert (answers.attributions[~answers.looked, names.index("image")] == 0).all()
    said = model.advice(table, model.predict(table))
    assert ("photo: looked at" in said) == bool(answers.looked.any())
    assert ("photo: not needed" in said) == bool((~answers.looked).any())


def test_the_gate_learns_from_cross_fitted_rows_with_a_photo_alone(model, monkeypatch):
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 3, 240), np.repeat(np.arange(24), 10)
    weak, strong = (rng.dirichlet(np.ones(3), 240) for _ in range(2))
    seen = rng.random(240) < 0.6
    gates = []
    for at in (0, 1):
        # what stands in rows without a photo must not matter to the gate
        other = np.where(seen[:, None], strong, rng.dirichlet(np.ones(3), 240)) if at else strong
        cascade = Cascade.fit(model.cascade.weak, (weak, other), labels, seen, groups, CONFIG, 3)
        gates.append((cascade.below, {k: v.tolist() for k, v in cascade.gate.state_dict().items()}))
    assert gates[0] == gates[1]
    assert (cascade.unsure(weak) & seen).sum() <= 0.5 * seen.sum()
    with pytest.raises(DataError, match="too few to learn where a photo is needed"):
        Cascade.fit(model.cascade.weak, (weak, strong), labels, seen & False, groups, CONFIG, 3)


@pytest.mark.parametrize(("looks", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_none_or_all_photos_may_be_looked_at(looks, share, dataset, tmp_path):
    config = CONFIG.replace(fusion={"looks": looks, "gate": "power"})
    model = fitted(dataset, tmp_path / "fit", config)
    save_bundle(model, tmp_path / "kept", plugin="agrosense", task="crop")
    told = EVALUATION.predict(load_bundle(tmp_path / "kept")[0], dataset.test)
    assert told.looked.mean() == share
    found = EVALUATION.score(told, dataset.test, dataset).metrics
    assert found["photos_used"].value == share
    assert ("accuracy_photo_used" in found) == bool(share)
    assert ("accuracy_photo_unused" in found) == (not share)


def test_the_other_fusion_stands_beside_ours(dataset, tmp_path):
    arms = {one.name: one for one in usual_baselines(CONFIG, dataset.train) if isinstance(one, PhotoArm)}
    assert set(arms) == {"without photos", "photos shuffled", "photos in every row"}
    arm = arms["photos in every row"].fit(dataset.train, dataset.valid, FitContext(tmp_path))
    assert arm.predict(dataset.test).looked is None
    late = usual_baselines(CONFIG.replace(fusion={"kind": "late"}), dataset.train)
    assert "photos where the table is unsure" in {one.name for one in late}
