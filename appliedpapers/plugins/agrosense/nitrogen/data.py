"""Spectra and bands with total nitrogen: simulated, two published sets, and the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.sources import SIMULATED, DatasetCatalog, PublishedDataset
from appliedpapers.core.tables import with_notes
from appliedpapers.plugins.agrosense.columns import Feature
from appliedpapers.plugins.agrosense.nitrogen import bands, simulator_spectra
from appliedpapers.plugins.agrosense.nitrogen.config import NitrogenConfig
from appliedpapers.plugins.agrosense.nitrogen.published_data import MAIN, NIRSOIL, UMS_TN
from appliedpapers.plugins.agrosense.nitrogen.rows import NitrogenRows, read_rows
from appliedpapers.plugins.agrosense.reading import open_table, texts_of
from appliedpapers.plugins.agrosense.simulator import simulate
from appliedpapers.plugins.agrosense.splits import RowsSplit, group_folds, with_folds

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Kind = Literal["spectra", "bands"]

FORMATS = (
    "a CSV, XLSX, Parquet, JSON lines or Arrow table with total nitrogen and either a spectrum (columns that "
    "are wavelengths) or bands (red, nir, green, ndvi, red_edge, temperature, humidity)"
)

_PAPER_SEED = 123
_PAPER_TEST = 0.2


class NitrogenSplit(RowsSplit):
    """Rows with total nitrogen.

    Args:
        table: Inputs, ``nitrogen``, and where they are known ``group`` and ``date``.
        kind: ``spectra`` or ``bands``.
        unit: Of nitrogen.
        features: Of bands; none for spectra.
        variance: Of nitrogen over the whole table, where parts are too small for one of their own.
        learns_all: Whether the rows to choose on are learned from, too.
    """

    def __init__(
        self,
        table: pa.Table,
        *,
        kind: Kind,
        unit: str,
        features: Sequence[Feature] = (),
        variance: float | None = None,
    ) -> None:
        self.kind, self.unit, self.features, self.variance = kind, unit, tuple(features), variance
        inputs = ["wavelength", "absorbance"] if kind == "spectra" else [one.name for one in features]
        key = ("id", "group") if "group" in table.column_names else ("id",)
        super().__init__(table, inputs=["id", *inputs], key=key)

    @property
    def nitrogen(self) -> Floats:
        """Total nitrogen, ``(rows,)``."""
        return np.array(self.table.column("nitrogen").to_pylist(), dtype=np.float64)

    @property
    def groups(self) -> NDArray[Any] | None:
        """Group of each row; None where there are none."""
        return texts_of(self.table, "group")

    @property
    def dates(self) -> NDArray[Any] | None:
        """Date of each row; None where there are none."""
        return texts_of(self.table, "date")

    def _of(self, table: pa.Table) -> NitrogenSplit:
        return NitrogenSplit(
            table, kind=self.kind, unit=self.unit, features=self.features, variance=self.variance
        )


@dataclass(frozen=True)
class _About:
    """What a set says of itself."""

    name: str
    provenance: Provenance
    protocol: str
    note: str
    disjoint: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


class NitrogenDatasets(DatasetCatalog[NitrogenConfig]):
    """Simulated spectra, two published sets, and the user's own."""

    published = (UMS_TN, NIRSOIL)
    formats = FORMATS

    def simulated(self, config: NitrogenConfig) -> Dataset:
        """Simulate spectra (data card ``simulated-fields``); each site stands in one part."""
        fields = simulate(config.simulator, config.seed)
        read = NitrogenRows.of_spectra(
            fields.names(),
            simulator_spectra.GRID,
            simulator_spectra.spectra(fields, config.seed),
            fields.nitrogen,
            [f"site-{site:02d}" for site in fields.site],
        )
        whole = _split(read, None)
        order = np.random.default_rng(config.seed).permutation(config.simulator.sites)
        first = max(round(0.6 * len(order)), 1)
        cuts = np.split(order, [first, max(round(0.75 * len(order)), first + 1)])
        return Dataset(
            SIMULATED,
            "simulated-sites",
            Provenance.of_simulator("appliedpapers.plugins.agrosense.simulator"),
            *_three(whole, fields.site, cuts),
            summary=f"{len(fields):,} synthetic spectra of {config.simulator.sites} sites, 1100 to 2498 nm",
            split_note=f"whole sites, {len(cuts[0])} : {len(cuts[1])} : {len(cuts[2])}",
            disjoint=("group",),
        )

    def from_user(self, path: Path, config: NitrogenConfig) -> Dataset:
        """Read the user's own table, and cut it into folds; groups stay together where there are some."""
        read = read_rows(open_table(path), path.name, config)
        read.require_target(path.name, config.data.folds)
        groups = read.groups
        whole = _split(read, None)
        cuts = _folds(len(read), groups, config.data.folds)
        kind = "groups" if groups is not None else "random"
        about = _About(
            path.name,
            Provenance.of_user(path),
            f"{kind}-{len(cuts)}-fold",
            f"{len(cuts)} folds, {'whole groups' if groups is not None else 'rows at random'}",
            ("group",) if groups is not None else (),
            read.notes,
        )
        return _folded(whole, about, cuts, groups, config)

    def from_published(self, entry: PublishedDataset, folder: Path, config: NitrogenConfig) -> Dataset:
        """Open one of the published sets."""
        if entry.id == UMS_TN.id:
            return self._bands(entry, folder, config)
        return self._spectra(entry, folder, config)

    def prepare(self, entry: PublishedDataset, folder: Path) -> None:
        """Make the table of spectra of the R file that was downloaded; bands need nothing."""
        if entry.id == NIRSOIL.id:
            from appliedpapers.plugins.agrosense.nitrogen.rdata import write_nirsoil

            write_nirsoil(folder / entry.files[0].path, folder / _prepared(entry))

    def inputs(self, path: Path, config: NitrogenConfig) -> pa.Table:
        """Read rows for ``predict``; nitrogen may be absent."""
        read = read_rows(open_table(path), path.name, config)
        sent = [name for name in read.table.column_names if name not in ("nitrogen", "group", "date")]
        return with_notes(read.table.select(sent), read.notes)

    def remarks(self, dataset: Dataset, config: NitrogenConfig) -> Sequence[str]:
        """Say what looks wrong with the table: ladders of replicates, codes of dates, index columns."""
        from appliedpapers.plugins.agrosense.audit.nitrogen import remarks_on_nitrogen

        return remarks_on_nitrogen(dataset)

    def _bands(self, entry: PublishedDataset, folder: Path, config: NitrogenConfig) -> Dataset:
        read = bands.read_ums(folder / MAIN)
        protocol = config.data.protocol if config.data.protocol != "auto" else "samples"
        cuts: list[tuple[Integers, Integers]]
        groups: NDArray[Any] | None = read.groups
        assert groups is not None
        if protocol == "paper":
            return self._paper(entry, folder, read)
        if protocol == "samples":
            cuts = [
                (np.flatnonzero(groups != one), np.flatnonzero(groups == one)) for one in np.unique(groups)
            ]
            note = "replicates of a sample together: 18 samples, each left out in turn"
        elif protocol == "dates":
            dates = read.dates
            assert dates is not None
            cuts = [(np.flatnonzero(dates != one), np.flatnonzero(dates == one)) for one in np.unique(dates)]
            note = "each of 3 dates left out in turn"
        elif protocol == "random":
            cuts, groups = _folds(len(read), None, 5), None
            note = "rows at random: replicates of one sample on both sides, LEAKY, for comparison only"
        else:
            raise ConfigError(
                f"option 'data.protocol': ums-tn has no '{protocol}'.",
                hint="Choose samples, dates, random or paper.",
            )
        about = _About(
            entry.id,
            entry.provenance(folder),
            f"ums-{protocol}",
            note,
            () if groups is None else ("group",),
            bands.doubts(folder),
        )
        whole = _split(read, float(read.nitrogen.var()))
        return _folded(whole, about, cuts, groups, config)

    def _paper(self, entry: PublishedDataset, folder: Path, read: NitrogenRows) -> Dataset:
        from sklearn.model_selection import train_test_split

        learned, judged = train_test_split(
            np.arange(len(read)), test_size=_PAPER_TEST, random_state=_PAPER_SEED
        )
        whole = _split(read.without("group"), None)
        return Dataset(
            entry.id,
            "ums-paper",
            entry.provenance(folder),
            *(whole.take(learned), whole.take(learned[:0]), whole.take(judged)),
            summary=f"{len(read)} rows of bands, nitrogen in ppm",
            split_note="the paper's 80 : 20 at random: replicates of one sample on both sides, LEAKY",
            notes=bands.doubts(folder),
        )

    def _spectra(self, entry: PublishedDataset, folder: Path, config: NitrogenConfig) -> Dataset:
        read, official = _nirsoil(folder / _prepared(entry))
        whole = _split(read, None)
        path = folder / _prepared(entry)
        provenance = entry.provenance(folder, [path] if path.is_file() else None)
        if config.data.protocol == "official":
            cuts = [(np.flatnonzero(official), np.flatnonzero(~official))]
            note = "the split of the chemometric challenge, 485 : 160"
        else:
            cuts = _folds(len(read), None, config.data.folds)
            note = f"{len(cuts)} folds at random; fields are not named, so neighbours may stand on both sides"
        about = _About(entry.id, provenance, f"nirsoil-{'official' if len(cuts) == 1 else 'folds'}", note)
        if len(cuts) > 1:
            return _folded(whole, about, cuts, None, config)
        (learned, judged) = cuts[0]
        base = _base(whole, about)
        return replace(
            base, train=whole.take(learned), valid=whole.take(learned[:0]), test=whole.take(judged)
        )


DATASETS = NitrogenDatasets()


def _three(
    whole: NitrogenSplit, site: Integers, cuts: Sequence[NDArray[np.int64]]
) -> tuple[RowsSplit, RowsSplit, RowsSplit]:
    train, valid, test = (whole.take(np.isin(site, part)) for part in cuts)
    return train, valid, test


def _prepared(entry: PublishedDataset) -> str:
    assert entry.prepared is not None
    return entry.prepared.path


def _split(read: NitrogenRows, variance: float | None) -> NitrogenSplit:
    return NitrogenSplit(
        read.table, kind=read.kind, unit=read.unit, features=read.features, variance=variance
    )


def _base(whole: NitrogenSplit, about: _About) -> Dataset:
    what = "spectra" if whole.kind == "spectra" else "rows of bands"
    return Dataset(
        about.name,
        about.protocol,
        about.provenance,
        *(whole, whole, whole),
        summary=f"{whole.num_rows} {what}, nitrogen in {whole.unit}",
        split_note=about.note,
        disjoint=about.disjoint,
        notes=about.notes,
    )


def _folded(
    whole: NitrogenSplit,
    about: _About,
    cuts: Sequence[tuple[Integers, Integers]],
    groups: NDArray[Any] | None,
    config: NitrogenConfig,
) -> Dataset:
    return with_folds(_base(whole, about), whole, cuts, groups=groups, seed=config.seed)


def _folds(rows: int, groups: NDArray[Any] | None, folds: int) -> list[tuple[Integers, Integers]]:
    if groups is not None:
        return list(group_folds(groups, folds, 0))
    from sklearn.model_selection import KFold

    return list(KFold(folds, shuffle=True, random_state=0).split(np.zeros((rows, 1))))


def _nirsoil(path: Path) -> tuple[NitrogenRows, NDArray[np.bool_]]:
    """Read the prepared table; rows without nitrogen are left out."""
    raw = open_table(path)
    if "Nt_g_per_kg" not in raw.column_names:
        raise DataError(
            f"{path}: column 'Nt_g_per_kg' is missing.", hint="Remove the file and fetch it again."
        )
    target = np.array(raw.column("Nt_g_per_kg").to_pylist(), dtype=np.float64)
    known = ~np.isnan(target)
    names = [name for name in raw.column_names if name.startswith("A")]
    grid = np.array([float(name[1:]) for name in names])
    values = np.stack([raw.column(name).to_numpy().astype(np.float64) for name in names], axis=1)[known]
    rows = [f"soil-{number:03d}" for number in np.flatnonzero(known)]
    read = NitrogenRows.of_spectra(rows, grid, values, target[known], None)
    official = np.array(raw.column("train").to_pylist(), dtype=np.float64)[known] > 0
    return read, official
