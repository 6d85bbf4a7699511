"""What photos of soil add to half a soil test, on simulated fields of sites that were not learned from.

    python -m benchmarks.agrosense_fusion sites --json

Parts: ``sites`` (one soil a site, as the simulator has it), ``mixed`` (each field has a soil of its own),
``routed`` (a third of these, photos looked at only where the table is unsure), ``missing`` (a tenth
of the values of a table is lost). Every field is judged once at most, by what saw other sites.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.model import FitContext
from appliedpapers.plugins.agrosense.columns import Feature
from appliedpapers.plugins.agrosense.crop.baselines import with_shuffled
from appliedpapers.plugins.agrosense.crop.config import CropConfig
from appliedpapers.plugins.agrosense.crop.data import DATASETS, CropSplit
from appliedpapers.plugins.agrosense.crop.fusion import Photos, learn_photos, usual_teacher
from appliedpapers.plugins.agrosense.crop.matrix import soil_block
from appliedpapers.plugins.agrosense.crop.model import CropRecommender, joined
from appliedpapers.plugins.agrosense.simulator import lose, stream
from appliedpapers.plugins.agrosense.soils import SOILS
from appliedpapers.plugins.agrosense.splits import group_folds

Found = dict[str, float]
Floats = NDArray[np.float64]

_FOLDS, _DRAWS = 3, 4
_HIDDEN = ("ph", "total_nitrogen", "organic_carbon")


def main() -> None:
    """Measure a part and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agrosense_fusion")
    parser.add_argument("part", choices=sorted(_PARTS))
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--seed", type=int, default=1, help="of the fields and of everything that learns")
    options = parser.parse_args()
    found = _PARTS[options.part](options.seed)
    print(json.dumps(found) if options.json else json.dumps(found, indent=1))


def sites(seed: int) -> Found:
    """Compare the arms where all fields of a site have one soil."""
    return _arms(0.0, seed)


def mixed(seed: int) -> Found:
    """Compare the arms where the soil of each field is drawn by itself."""
    return _arms(1.0, seed)


def routed(seed: int) -> Found:
    """Look at photos only where the table is unsure, on one third of the fields of ``mixed``."""
    config = _config(1.0, seed)
    train, test = next(_cuts(config))
    read = learn_photos(train, config.fusion, seed, usual_teacher(config.fusion))
    cascade = _learned(config.replace(fusion={"kind": "mowst"}), train, read)
    assert cascade.cascade is not None
    assert cascade.recommender is not None
    answers = cascade.answers(test.table, attributions=False)
    looked = answers.looked
    assert looked is not None
    matrix = cascade.matrix(test.table)
    width = matrix.shape[1] - len(read.prior) - 1
    told = {
        "table": cascade.cascade.weak.probabilities(matrix[:, :width]),
        "table and photo": cascade.recommender.probabilities(matrix),
        "photo where unsure": answers.probabilities,
        "photo missing, where unsure": _chances(cascade, _without_photos(test)),
    }
    found: Found = {"fields": len(looked), "photos looked at": float(looked.mean())}
    for name, chances in told.items():
        right = chances.argmax(axis=1) == test.labels
        found[name] = float(right.mean())
        for place, rows in (("looked at", looked), ("not looked at", ~looked)):
            found[f"{name}, {place}"] = float(right[rows].mean()) if rows.any() else float("nan")
    return found


def missing(seed: int) -> Found:
    """Lose a tenth of the values of the judged rows, beyond the twentieth that the simulator loses.

    Four draws of fields, from ``seed`` on, and all their judged rows together: one draw is off by a point.
    """
    right: dict[str, list[NDArray[np.bool_]]] = {"whole": [], "a tenth lost": []}
    for one in range(seed, seed + _DRAWS):
        config = CropConfig().replace(seed=one, model=_MODEL)
        for train, test in _cuts(config):
            model = _learned(config, train, None)
            for name, rows in (("whole", test), ("a tenth lost", _with_losses(test, one))):
                right[name].append(_chances(model, rows).argmax(axis=1) == test.labels)
    return {name: float(np.concatenate(parts).mean()) for name, parts in right.items()}


_MODEL = {"family": "lightgbm", "inner_folds": 2, "trees": 40, "leaves": 15}


def _arms(mixed_soils: float, seed: int) -> Found:
    config = _config(mixed_soils, seed)
    told: dict[str, list[Floats]] = {}
    labels = []
    for train, test in _cuts(config):
        for name, chances in _told(config, train, test).items():
            told.setdefault(name, []).append(chances)
        labels.append(test.labels)
    truth = np.concatenate(labels)
    found: Found = {"fields": len(truth)}
    for name, parts in told.items():
        chances = np.concatenate(parts)
        picked = chances[np.arange(len(truth)), truth]
        found[name] = float((chances.argmax(axis=1) == truth).mean())
        found[f"{name}, logloss"] = float(-np.log(np.maximum(picked, 1e-12)).mean())
    return found


def _config(mixed_soils: float, seed: int) -> CropConfig:
    return CropConfig().replace(
        seed=seed,
        simulator={"mixed_soils": mixed_soils},
        fusion={"images": True, "eye": "colour", "hidden": _HIDDEN},
        model=_MODEL,
    )


def _told(config: CropConfig, train: CropSplit, test: CropSplit) -> dict[str, Floats]:
    """Return what each arm says of the judged rows."""
    alone = config.replace(fusion={"images": False})
    shuffled = [
        with_shuffled(part, ("image", "soil"), config.seed + place)
        for place, part in enumerate((train, test))
    ]
    read = learn_photos(train, config.fusion, config.seed, usual_teacher(config.fusion))
    model = _learned(config, train, read)
    return {
        "table": _chances(_learned(alone, train, None), test),
        "table and true soil": _with_true_soil(alone, train, test),
        "table and photo": _chances(model, test),
        "photo missing": _chances(model, _without_photos(test)),
        "table and shuffled photo": _chances(_learned(config, shuffled[0], None), shuffled[1]),
        "photos read by heart": _chances(_learned(config, train, _by_heart(read, config, train)), test),
    }


def _with_true_soil(config: CropConfig, train: CropSplit, test: CropSplit) -> Floats:
    """Return what is said where the soil class is a column: more than a photo can tell of it."""
    known = Feature("soil", "category", categories=SOILS)
    parts = [
        CropSplit(
            part.table,
            (*part.features, known),
            part.classes,
            synthetic=part.synthetic,
            grouped=part.grouped,
        )
        for part in (train, test)
    ]
    return _chances(_learned(config, parts[0], None), parts[1])


def _by_heart(read: Photos, config: CropConfig, rows: CropSplit) -> Photos:
    """Return the soil columns by the reader that learned from these very photos; as many are dropped."""
    chances = read.reader.probabilities(rows.table.column("image").to_pylist())
    dropped = stream(config.seed, "dropped photos").random(len(chances)) < config.fusion.dropped
    return read._replace(block=soil_block(chances, chances.mean(axis=0), dropped))


def _learned(config: CropConfig, rows: CropSplit, photos: Photos | None) -> CropRecommender:
    """Return a recommender of rows; with what their photos say where these were read already."""
    model = CropRecommender(config)
    model.classes, model.synthetic = rows.classes, rows.synthetic
    with tempfile.TemporaryDirectory() as folder:
        run = FitContext(seed=config.seed, folder=Path(folder))
        if config.fusion.images:
            photos = photos or learn_photos(rows, config.fusion, config.seed, usual_teacher(config.fusion))
            model.reader, model.prior = photos.reader, photos.prior
        model.learn(rows, None if photos is None else photos.block, run)
    return model


def _chances(model: CropRecommender, rows: CropSplit) -> Floats:
    return model.answers(rows.table, attributions=False).probabilities


def _cuts(config: CropConfig) -> Iterator[tuple[CropSplit, CropSplit]]:
    data = DATASETS.simulated(config)
    train, valid, test = (cast("CropSplit", part) for part in (data.train, data.valid, data.test))
    rows = joined(joined(train, valid), test)
    assert rows.groups is not None
    for learned, judged in group_folds(rows.groups, _FOLDS, 0):
        yield cast("CropSplit", rows.take(learned)), cast("CropSplit", rows.take(judged))


def _without_photos(split: CropSplit) -> CropSplit:
    import pyarrow as pa

    return _replaced(split, {"image": pa.nulls(split.num_rows, pa.binary())})


def _with_losses(split: CropSplit, seed: int) -> CropSplit:
    import pyarrow as pa

    names = [feature.name for feature in split.features]
    values = np.stack([split.table.column(name).to_numpy() for name in names], axis=1)
    kept = lose(values, 0.1, seed + 1)
    return _replaced(
        split, {name: pa.array(kept[:, place], from_pandas=True) for place, name in enumerate(names)}
    )


def _replaced(split: CropSplit, columns: dict[str, object]) -> CropSplit:
    table = split.table
    for name, cells in columns.items():
        table = table.set_column(table.column_names.index(name), name, cells)
    return CropSplit(table, split.features, split.classes, synthetic=split.synthetic, grouped=split.grouped)


_PARTS = {"sites": sites, "mixed": mixed, "routed": routed, "missing": missing}


if __name__ == "__main__":
    main()
