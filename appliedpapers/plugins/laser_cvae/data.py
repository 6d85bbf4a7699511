"""The datasets of ageing: the simulator, three published tests, and tables that users bring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.core.device import derive_seed
from appliedpapers.core.sources import SIMULATED, DatasetCatalog, PublishedDataset
from appliedpapers.plugins.laser_cvae.config import DataConfig, LaserConfig
from appliedpapers.plugins.laser_cvae.devices import Devices, Flags, Floats
from appliedpapers.plugins.laser_cvae.published_data import CUTS, PUBLISHED, READING, open_published
from appliedpapers.plugins.laser_cvae.readers import read_file, read_user
from appliedpapers.plugins.laser_cvae.simulator import simulate
from appliedpapers.plugins.laser_cvae.splits import DeviceSplit, deal, folds_of

if TYPE_CHECKING:
    import pyarrow as pa

_FEWEST_FAILURES = 5
_VALID_OF_FOLD = 0.25


class AgeingDatasets(DatasetCatalog[LaserConfig]):
    """Simulated devices, the lasers, LEDs and amplifiers of a textbook, and users' own tests."""

    published = PUBLISHED
    formats = (
        "CSV, TSV, Parquet, JSON lines or Arrow: long (device, time, value, temperature, current; a row a "
        "reading) or wide (a column a device) with --conditions FILE; other names by --columns"
    )

    def simulated(self, config: LaserConfig) -> Dataset:
        """Simulate devices (data card ``simulated-ageing``); parts share no device."""
        wanted, data = config.data.simulator, config.data
        parts = []
        for name in ("train", "valid", "test"):
            count = getattr(wanted, f"{name}_devices")
            seed = derive_seed(config.seed, "simulated-ageing", name)
            parts.append(simulate(wanted, seed, count, mode=data.mode, limit=data.criterion))
        parts = _numbered(parts)
        sizes = " : ".join(f"{len(part):,}" for part in parts)
        return _dataset(
            SIMULATED,
            parts,
            config,
            Provenance.of_simulator("appliedpapers.plugins.laser_cvae.simulator"),
            protocol="simulated-devices",
            note=f"whole devices, {sizes}",
        )

    def from_user(self, path: Path, config: LaserConfig) -> Dataset:
        """Read the user's own devices, and split them, stratified by condition and failure."""
        devices, notes = read_user(path, config.data)
        valid, test = config.data.valid_share, config.data.test_share
        part = deal(devices, (1 - valid - test, valid, test), derive_seed(config.seed, "split"))
        parts = [devices.take(part == number) for number in range(3)]
        return _dataset(
            path.name,
            parts,
            config,
            Provenance.of_user(path),
            protocol="by-device",
            note=f"whole devices by condition and failure, {' : '.join(f'{len(one):,}' for one in parts)}",
            notes=notes,
        )

    def from_published(self, entry: PublishedDataset, folder: Path, config: LaserConfig) -> Dataset:
        """Open a published test in folds; units and columns of ``config.data`` do not concern it."""
        devices = open_published(entry, folder)
        data = DataConfig.model_validate(READING[entry.id])
        provenance = entry.provenance(folder)
        folds, dealt = [], _folds(entry.id, devices, config)
        for name, fold in dealt:
            held = int(derive_seed(config.seed, name))
            rest = np.flatnonzero(~fold)
            own = devices.take(rest)
            validates = deal(own, (1 - _VALID_OF_FOLD, _VALID_OF_FOLD), held) == 1
            if len(own) < 20:
                # so few devices that all of them must teach: choices fall to the physics
                validates = np.zeros(len(own), dtype=bool)
            three = (own.take(~validates), own.take(validates), devices.take(fold))
            folds.append(_published(entry.id, three, data, config, provenance, fold=name))
        every = deal(devices, (1 - _VALID_OF_FOLD, _VALID_OF_FOLD), derive_seed(config.seed, "all")) == 1
        none = devices.take(slice(0, 0))
        three = (devices.take(~every), devices.take(every), none)
        whole = _published(entry.id, three, data, config, provenance, folds=tuple(folds))
        return whole

    def sample(self, folder: Path, config: LaserConfig) -> pa.Table:
        """Return the readings of a few simulated devices in the units of ``config``."""
        small = {"simulator": {"train_devices": 8, "valid_devices": 4, "test_devices": 4, "readings": 12}}
        return self.simulated(config.replace(data=small)).test.example(2)

    def inputs(self, path: Path, config: LaserConfig) -> pa.Table:
        """Read a file for ``predict``, as a long table in the units of ``config``."""
        table = read_file(path, config.data)
        return table.drop_columns(["failure_time"]) if "failure_time" in table.column_names else table


DATASETS = AgeingDatasets()


def _numbered(parts: Sequence[Devices]) -> list[Devices]:
    """Give the devices of parts names that no two of them share."""
    from dataclasses import replace

    return [
        replace(part, names=tuple(f"{letter}{row:05d}" for row in range(len(part))))
        for letter, part in zip("abc", parts, strict=True)
    ]


def _folds(name: str, devices: Devices, config: LaserConfig) -> list[tuple[str, Flags]]:
    """Return the name and the test devices of each fold."""
    count = len(devices)
    if name == "gaas":
        return [(f"without-{devices.names[row]}", np.arange(count) == row) for row in range(count)]
    repeats = config.data.repeats if name == "led-a" else 1
    found = []
    for repeat in range(repeats):
        fold = folds_of(devices, config.data.folds, repeat, config.seed)
        for number in range(config.data.folds):
            suffix = f"-of-repeat-{repeat + 1}" if repeats > 1 else ""
            found.append((f"fold-{number + 1}{suffix}", fold == number))
    return found


def _published(
    name: str,
    three: Sequence[Devices],
    data: DataConfig,
    config: LaserConfig,
    provenance: Provenance,
    *,
    fold: str = "",
    folds: tuple[Dataset, ...] = (),
) -> Dataset:
    given, main = CUTS[name]
    judge = "forecast" if config.judge.by == "auto" else config.judge.by
    labels = tuple(f"{100 * cut:g} %" if cut <= 1 else f"{cut:g} h" for cut in given)

    def split(devices: Devices) -> DeviceSplit:
        cuts = np.array([cut * (devices.horizon if cut <= 1 else np.ones(len(devices))) for cut in given])
        return DeviceSplit(devices, data, cuts=cuts, labels=labels, main=given.index(main), judge=judge)

    parts = [split(part) for part in three]
    rule = "leave-one-out" if name == "gaas" else f"{config.data.folds}-fold"
    if name == "led-a" and config.data.repeats > 1:
        rule = f"{rule} x {config.data.repeats}"
    sizes = sum(len(part) for part in three)
    return Dataset(
        name=name,
        protocol=f"{rule} from {labels[given.index(main)]}",
        provenance=provenance,
        train=parts[0],
        valid=parts[1],
        test=parts[2],
        summary=f"{sizes:,} devices, {int(sum(int(p.failed.sum()) for p in three))} failures",
        split_note=f"{rule} by device, stratified by condition and failure",
        disjoint=("device",),
        folds=folds,
        fold=fold,
    )


def _dataset(
    name: str,
    parts: Sequence[Devices],
    config: LaserConfig,
    provenance: Provenance,
    *,
    protocol: str,
    note: str,
    notes: tuple[str, ...] = (),
) -> Dataset:
    judge = _judged_by(parts, config)
    splits = [_split(part, config, judge) for part in parts]
    count, failed = sum(map(len, parts)), sum(int(part.failed.sum()) for part in parts)
    cells = len({cell for part in parts for cell in part.cells()})
    longest = max(float(part.horizon.max(initial=0)) for part in parts)
    return Dataset(
        name=name,
        protocol=f"{protocol}, {judge} at {100 * config.judge.main:g} %",
        provenance=provenance,
        train=splits[0],
        valid=splits[1],
        test=splits[2],
        summary=f"{count:,} devices in {cells} conditions, {failed:,} failures, up to {longest:,.0f} h",
        split_note=note,
        disjoint=("device",),
        notes=notes,
    )


def _split(devices: Devices, config: LaserConfig, judge: str) -> DeviceSplit:
    shares = sorted(config.judge.cuts)
    cuts: Floats = np.array(shares)[:, None] * devices.horizon
    labels = tuple(f"{100 * share:g} %" for share in shares)
    main = shares.index(config.judge.main)
    return DeviceSplit(devices, config.data, cuts=cuts, labels=labels, main=main, judge=judge)


def _judged_by(parts: Sequence[Devices], config: LaserConfig) -> str:
    """Return how devices are judged: by early warning where enough of them fail after the cut."""
    if config.judge.by != "auto":
        return config.judge.by
    test = parts[2]
    late = test.failed & (test.failure > config.judge.main * test.horizon)
    enough = min(int(late.sum()), int((~test.failed).sum())) >= _FEWEST_FAILURES
    return "early-warning" if enough else "forecast"
