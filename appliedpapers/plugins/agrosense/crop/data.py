"""The tables of crop recommendation: simulated fields, two published tables, and the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.core.errors import ConfigError, DataError, did_you_mean
from appliedpapers.core.sources import SIMULATED, DatasetCatalog, PublishedDataset
from appliedpapers.core.tables import with_notes
from appliedpapers.plugins.agrosense.columns import KNOWN, Feature
from appliedpapers.plugins.agrosense.crop.config import CropConfig
from appliedpapers.plugins.agrosense.crop.published_data import (
    CROP_RECOMMENDATION,
    ETHIOPIA,
)
from appliedpapers.plugins.agrosense.reading import Read, Wanted, open_table, read_soil_table, texts_of
from appliedpapers.plugins.agrosense.simulator import Fields, lose, simulate
from appliedpapers.plugins.agrosense.simulator_crops import CROPS
from appliedpapers.plugins.agrosense.soils import SOILS
from appliedpapers.plugins.agrosense.splits import (
    RowsSplit,
    group_folds,
    stratified_folds,
    with_folds,
)

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (
    "a CSV, XLSX, Parquet, JSON lines or Arrow table with the crop and any of pH, nutrients, weather and "
    "your own columns, units in the header; optionally a site and a column of photos"
)

SIMULATED_FEATURES = tuple(
    Feature(name, "number", unit, minimum, maximum, (), about, nutrient)
    for name, unit, minimum, maximum, about, nutrient in (
        ("ph", "pH", 0, 14, "acidity of the soil", None),
        ("total_nitrogen", "g/kg", 0, 100, "total nitrogen of the soil", None),
        ("phosphorus", "mg/kg", 0, None, "phosphorus of the soil test", "P"),
        ("potassium", "mg/kg", 0, None, "potassium of the soil test", "K"),
        ("organic_carbon", "%", 0, 60, "organic carbon of the soil", None),
        ("clay", "%", 0, 100, "clay of the soil", None),
        ("temperature", "°C", -30, 60, "mean air temperature of the season", None),
        ("humidity", "%", 0, 100, "relative humidity of the air", None),
        ("rainfall", "mm", 0, 15_000, "rain of the season", None),
    )
)
SOIL_TEST = tuple(feature.name for feature in SIMULATED_FEATURES[:6])


class CropSplit(RowsSplit):
    """Labelled fields.

    Args:
        table: ``id``, features, ``crop``, and where they are known ``group``, ``soil`` and ``image``.
        features: The inputs.
        classes: All crops of the dataset.
        synthetic: Whether the rows are simulated or made up.
        grouped: Whether whole groups are judged, so that folds inside the rows must hold whole groups, too.
    """

    def __init__(
        self,
        table: pa.Table,
        features: Sequence[Feature],
        classes: Sequence[str],
        *,
        synthetic: bool = False,
        grouped: bool = False,
    ) -> None:
        self.features, self.classes = tuple(features), tuple(classes)
        self.synthetic, self.grouped = synthetic, grouped
        names = ["id", *(feature.name for feature in features)]
        if "image" in table.column_names:
            names.append("image")
        key = ("id", "group") if "group" in table.column_names else ("id",)
        super().__init__(table, inputs=names, key=key)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Number of each row's crop among :attr:`classes`."""
        place = {name: number for number, name in enumerate(self.classes)}
        return np.array([place[name] for name in self.table.column("crop").to_pylist()], dtype=np.int64)

    @property
    def groups(self) -> NDArray[Any] | None:
        """Group of each row; None where there are none."""
        return texts_of(self.table, "group")

    @property
    def together(self) -> NDArray[Any] | None:
        """Group of each row where whole groups are judged; None where rows are judged one by one."""
        return self.groups if self.grouped else None

    @property
    def soils(self) -> NDArray[Any] | None:
        """Soil class of each row's photo; None where it is not known."""
        return texts_of(self.table, "soil")

    def _of(self, table: pa.Table) -> CropSplit:
        return CropSplit(table, self.features, self.classes, synthetic=self.synthetic, grouped=self.grouped)


@dataclass(frozen=True)
class _About:
    """What a table says of itself."""

    name: str
    provenance: Provenance
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    split: str = "auto"


class CropDatasets(DatasetCatalog[CropConfig]):
    """Simulated fields, two published tables, and the user's own."""

    published = (CROP_RECOMMENDATION, ETHIOPIA)
    formats = FORMATS

    def simulated(self, config: CropConfig) -> Dataset:
        """Simulate fields (data card ``simulated-fields``); each site stands in one part."""
        fields = simulate(config.simulator, config.seed)
        table = _simulated_table(fields, config)
        features = _shown(config)
        whole = CropSplit(table, features, CROPS, synthetic=True, grouped=True)
        order = np.random.default_rng(config.seed).permutation(config.simulator.sites)
        first = max(round(0.6 * len(order)), 1)
        cuts = np.split(order, [first, max(round(0.75 * len(order)), first + 1)])
        train, valid, test = (whole.take(np.isin(fields.site, part)) for part in cuts)
        best = _bayes(fields, np.isin(fields.site, cuts[2]))
        return Dataset(
            SIMULATED,
            "simulated-sites",
            Provenance.of_simulator("appliedpapers.plugins.agrosense.simulator"),
            *(train, valid, test),
            summary=f"{len(fields):,} synthetic fields of {config.simulator.sites} sites, {len(CROPS)} crops",
            split_note=f"whole sites, {len(cuts[0])} : {len(cuts[1])} : {len(cuts[2])}",
            disjoint=("group",),
            notes=(
                f"nobody can be right about more than {best:.3f} of the judged fields (true probabilities)",
            ),
        )

    def from_user(self, path: Path, config: CropConfig) -> Dataset:
        """Read the user's own table, and cut it into folds."""
        read = read_soil_table(open_table(path), path.name, _wanted(config))
        return _folded(read, _About(path.name, Provenance.of_user(path)), config)

    def from_published(self, entry: PublishedDataset, folder: Path, config: CropConfig) -> Dataset:
        """Open one of the published tables."""
        raw = open_table(folder / entry.files[0].path)
        provenance = entry.provenance(folder)
        if entry.id == CROP_RECOMMENDATION.id:
            note = (
                "SYNTHETIC: its numbers were drawn class by class, so that any model is nearly perfect; N, P "
                "and K have no stated unit and are never read as kg/ha"
            )
            about = _About(entry.id, provenance, (note,), synthetic=True, split="stratified")
            return _folded(read_soil_table(raw, entry.id, Wanted()), about, config)
        read = _ethiopian(raw, config)
        note = "units of the nutrients are not stated; 16 locations, told apart by the climate columns"
        return _folded(read, _About(entry.id, provenance, (note,), split="stratified"), config)

    def inputs(self, path: Path, config: CropConfig) -> pa.Table:
        """Read rows for ``predict``: any header and unit that training takes; the crop may be absent."""
        read = read_soil_table(open_table(path), path.name, _wanted(config, training=False))
        table = read.table.drop_columns([name for name in ("crop", "group") if name in read.has])
        if "image" in read.has:
            table = _beside(table, path.parent)
        return with_notes(table, read.notes)

    def remarks(self, dataset: Dataset, config: CropConfig) -> Sequence[str]:
        """Say what looks wrong with the table itself: drawn by a program, duplicates, constant columns."""
        from appliedpapers.plugins.agrosense.audit.crops import remarks_on_crops

        return remarks_on_crops(dataset)


DATASETS = CropDatasets()


def _shown(config: CropConfig) -> tuple[Feature, ...]:
    known = [feature.name for feature in SIMULATED_FEATURES]
    for name in config.fusion.hidden:
        if name not in known:
            raise ConfigError(
                f"option 'fusion.hidden': '{name}' is no column.", hint=did_you_mean(name, known)
            )
    return tuple(feature for feature in SIMULATED_FEATURES if feature.name not in config.fusion.hidden)


def _simulated_table(fields: Fields, config: CropConfig) -> pa.Table:
    import pyarrow as pa

    own = {"total_nitrogen": fields.nitrogen}
    values = np.stack(
        [
            own.get(feature.name, getattr(fields, feature.name, fields.nitrogen))
            for feature in SIMULATED_FEATURES
        ],
        axis=1,
    )
    values = lose(values, config.simulator.missing, config.seed)
    columns: dict[str, Any] = {"id": fields.names(), "group": [f"site-{site:02d}" for site in fields.site]}
    for place, feature in enumerate(SIMULATED_FEATURES):
        column = values[:, place]
        columns[feature.name] = pa.array(column, pa.float64(), mask=np.isnan(column))
    columns["soil"] = [SOILS[number] for number in fields.soil_class]
    columns["crop"] = [CROPS[number] for number in fields.crop]
    if config.fusion.images:
        from appliedpapers.plugins.agrosense.soil_image.drawing import draw

        columns["image"] = pa.array(draw(fields, range(len(fields)), config.seed), pa.binary())
    return pa.table(columns)


def _bayes(fields: Fields, rows: NDArray[np.bool_]) -> float:
    return float(np.mean(fields.chances[rows].argmax(axis=1) == fields.crop[rows]))


def _wanted(config: CropConfig, *, training: bool = True) -> Wanted:
    data, soil = config.data, config.fertiliser
    named = (data.label, data.group) if training else (None, None)
    return Wanted(*named, units=data.units, density=soil.density, depth=soil.depth)


def _ethiopian(raw: pa.Table, config: CropConfig) -> Read:
    """Take the soil tests, the colour and on demand the climate; a location is a distinct climate."""
    import pyarrow as pa

    colour = ["Soilcolor"] if "Soilcolor" in raw.column_names else []
    climate = [name for name in raw.column_names[7:-1]]
    rows = list(zip(*(raw.column(name).to_pylist() for name in climate), strict=True))
    places = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    kept = raw.column_names[1:7] + (climate if config.data.weather else [])
    table = raw.select([*kept, *colour, "label"])
    table = table.append_column("location", pa.array([f"location-{places[row]:02d}" for row in rows]))
    return read_soil_table(table, ETHIOPIA.id, Wanted())


def _folded(read: Read, about: _About, config: CropConfig) -> Dataset:
    import pyarrow as pa

    _require_learnable(read, about.name, config.data.folds)
    table = read.table
    if "id" not in read.has:
        names = pa.array([f"row-{number:05d}" for number in range(1, table.num_rows + 1)])
        table = table.append_column("id", names)
    classes = tuple(sorted(set(table.column("crop").to_pylist())))
    wanted = config.data.split if config.data.split != "auto" else about.split
    by_group = wanted == "groups" or (wanted == "auto" and "group" in read.has)
    rows = CropSplit(table, read.features, classes, synthetic=about.synthetic, grouped=by_group)
    if by_group and rows.groups is None:
        raise DataError(
            f"{about.name}: there is no column of groups.", hint="Name it: --group-column farm, for example."
        )
    groups = rows.groups if by_group else None
    if groups is not None and len(np.unique(groups)) < 3:
        raise DataError(
            f"{about.name}: {len(np.unique(groups))} groups in column 'group', at least 3 are needed.",
            hint="Bring rows of more sites, or --set data.split=stratified.",
        )
    cuts = list(
        group_folds(groups, config.data.folds, 0)
        if groups is not None
        else stratified_folds(rows.labels, config.data.folds, 0)
    )
    whole = Dataset(
        about.name,
        f"groups-{len(cuts)}-fold" if by_group else f"stratified-{len(cuts)}-fold",
        about.provenance,
        *(rows, rows, rows),
        summary=f"{rows.num_rows:,} fields, {len(read.features)} inputs, {len(classes)} crops"
        + (", SYNTHETIC" if about.synthetic else ""),
        split_note=f"{len(cuts)} folds, " + ("whole groups" if by_group else "crops in equal shares"),
        disjoint=("group",) if by_group else (),
        notes=(*about.notes, *read.notes),
    )
    return with_folds(whole, rows, cuts, groups=groups, seed=config.seed)


def _require_learnable(read: Read, source: str, folds: int) -> None:
    """Refuse a table that no crop recommender can be learned from, with what is wrong."""
    if "crop" not in read.has:
        raise DataError(
            f"{source}: no column with the crop.",
            hint="Name it: --label my_column. Usual names: label, crop.",
        )
    labels = read.table.column("crop").to_pylist()
    for row, label in enumerate(labels, start=1):
        if label is None or not label.strip():
            raise DataError(
                f"{source}, column 'crop', row {row}: no crop.", hint="Fill it in, or leave it out."
            )
    counts = {name: labels.count(name) for name in sorted(set(labels))}
    if len(counts) < 2:
        raise DataError(
            f"{source}, column 'crop': every row is '{labels[0]}'.", hint="At least two crops are needed."
        )
    rare = {name: count for name, count in counts.items() if count < folds}
    if rare:
        name, count = next(iter(rare.items()))
        raise DataError(
            f"{source}, column 'crop': '{name}' has {count} row{'s' if count > 1 else ''}, "
            f"{folds} folds need at least {folds}.",
            hint="Leave rare crops out or join them with others; fewer folds: --set data.folds=2.",
        )
    if not read.features:
        raise DataError(f"{source}: no inputs beside the crop.", hint=f"Such as {', '.join(KNOWN)}.")
    for feature in read.features:
        if read.table.column(feature.name).null_count == read.table.num_rows:
            unit = f" in {feature.unit}" if feature.unit and feature.unit != "pH" else ""
            raise DataError(
                f"{source}, column '{feature.name}': every value is missing.",
                hint=f"Expected numbers{unit}; leave the column out where nothing was measured.",
            )


def _beside(table: pa.Table, folder: Path) -> pa.Table:
    """Return a table whose relative paths of photos start at the folder of the file that named them."""
    import pyarrow as pa

    column = table.column("image")
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return table
    paths = [None if not cell else str(folder / cell) for cell in column.to_pylist()]
    return table.set_column(table.column_names.index("image"), "image", pa.array(paths, pa.string()))
