"""Figures of agrosense's photos that no single run shows: the audit, five folds in seconds, one photo.

    python -m benchmarks.agrosense_images audit --json

Parts: ``audit`` (checksums, Soil7's folds, copies that were planted), ``folds`` (seconds of five folds of the
default with and without features at hand), ``speed`` (one photo of 12 million pixels to its answer).
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from appliedpapers.core.fetching import data_home
from appliedpapers.core.images import read_rgb
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.agrosense.audit.checksums import read_checksums
from appliedpapers.plugins.agrosense.audit.near_duplicates import Prints, fingerprint, groups_of, pairs_of
from appliedpapers.plugins.agrosense.soil_image.config import SoilImageConfig
from appliedpapers.plugins.agrosense.soil_image.data import DATASETS
from appliedpapers.plugins.agrosense.soil_image.evaluation import EVALUATION
from appliedpapers.plugins.agrosense.soil_image.model import SoilClassifier
from appliedpapers.plugins.agrosense.soil_image.published_data import SOIL7, open_soil7

Found = dict[str, float]

_PLANTED = 200


def main() -> None:
    """Measure a part and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agrosense_images")
    parser.add_argument("part", choices=sorted(_PARTS))
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    found = _PARTS[options.part]()
    print(json.dumps(found) if options.json else json.dumps(found, indent=1))


def audit() -> Found:
    """Count copies in the published checksums, across Soil7's folds, and among copies that are planted."""
    folder = data_home() / "agrosense"
    listed = read_checksums(folder / "authors_split_md5.csv").found()
    photos, fold = open_soil7(folder)
    contents = [one for one in photos.sources if isinstance(one, bytes)]
    taken = [fingerprint(one, read_rgb(one, "soil7")) for one in contents]
    prints = Prints.joined(taken)
    groups = groups_of(len(prints), pairs_of(prints))
    chosen = np.random.default_rng(0).choice(len(contents), _PLANTED, replace=False)
    copies = [_changed(contents[row], number) for number, row in enumerate(chosen)]
    planted = Prints.joined([*taken, *(fingerprint(one, read_rgb(one, "copy")) for one in copies)])
    together = groups_of(len(planted), pairs_of(planted))
    truth = np.concatenate([photos.groups, photos.groups[chosen]])
    merged = [len(set(truth[together == group])) > 1 for group in together]
    return {
        "crossing": listed.crossing,
        "test": listed.test,
        "conflicts": len(listed.conflicts),
        "across folds": sum(len(set(fold[groups == group])) > 1 for group in np.unique(groups)),
        "planted found": float(np.mean(together[len(contents) :] == together[chosen])),
        "merged falsely": float(np.mean(merged)),
    }


def folds() -> Found:
    """Fit and judge the default on five folds, first from photos, then with features at hand."""
    config = SoilImageConfig()
    dataset = DATASETS.from_published(SOIL7, data_home() / "agrosense", config)

    def once() -> float:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            for sample in dataset.folds:
                run = FitContext(seed=config.seed, folder=Path(folder))
                model = SoilClassifier(config).fit(sample.train, sample.valid, run)
                EVALUATION.predict(model, sample.test)
        return time.perf_counter() - start

    return {"whole": once(), "kept": once()}


def speed() -> Found:
    """Answer for one photo of 4000 x 3000 px and for one of 192 x 192 px, as a warm server does."""
    from PIL import Image

    config = SoilImageConfig().replace(simulator={"sites": 28, "fields": 2})
    dataset = DATASETS.simulated(config)
    with tempfile.TemporaryDirectory() as folder:
        run = FitContext(seed=1, folder=Path(folder))
        model = SoilClassifier(config).fit(dataset.train, dataset.valid, run)
    source = dataset.test.example(1).column("image")[0].as_py()
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(source)) as small:
        small.resize((4000, 3000)).save(buffer, "JPEG", quality=90)
    return {"photo": _median(model, buffer.getvalue()), "small photo": _median(model, source)}


def _median(model: SoilClassifier, content: bytes) -> float:
    """Return the seconds of an answer for one photo, the median of several after a first one."""
    import pyarrow as pa

    table = pa.table({"image": pa.array([content], pa.binary())})
    model.predict(table)
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        model.predict(table)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _changed(content: bytes, number: int) -> bytes:
    """Return a copy: turned, mirrored, saved at quality 60, or shrunk, in turn."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        made = (
            image.rotate(90, expand=True),
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            image.copy(),
            image.resize((150, 150)),
        )[number % 4]
    buffer = io.BytesIO()
    made.save(buffer, "JPEG", quality=60 if number % 4 == 2 else 90)
    return buffer.getvalue()


_PARTS = {"audit": audit, "folds": folds, "speed": speed}


if __name__ == "__main__":
    main()
