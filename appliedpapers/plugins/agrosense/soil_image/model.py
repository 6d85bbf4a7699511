"""The soil classifier with everything around it: fields, rejection, maps, bundles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from appliedpapers.core.data import Split
from appliedpapers.core.errors import ConfigError, RunError, UnusableGroups
from appliedpapers.core.files import whole_file
from appliedpapers.core.model import FitContext, GroupProblem, Model
from appliedpapers.core.schema import OutputSchema, TableSchema
from appliedpapers.plugins.agrosense.audit.splits import require_photos
from appliedpapers.plugins.agrosense.soil_image.answers import INPUT, Reading, answer_table, output_schema
from appliedpapers.plugins.agrosense.soil_image.config import SoilImageConfig
from appliedpapers.plugins.agrosense.soil_image.eyes import COLOUR, open_eye
from appliedpapers.plugins.agrosense.soil_image.photos import Photos
from appliedpapers.plugins.agrosense.soil_image.reader import (
    Answering,
    SoilReader,
    eye_named,
    fit_reader,
    read,
    require_classes,
)
from appliedpapers.plugins.agrosense.soil_image.views import Pixels, read_views

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.agrosense.soil_image.splits import PhotoSplit

MAPS = "occlusion"


class SoilClassifier(Model):
    """Tells the soil class of photos, and says when a photo shows no soil.

    Attributes:
        reader: What answers; None before it is fitted.
        synthetic: Whether it was fitted on drawn photos.
        learned: Photos that it was fitted on.
    """

    config: SoilImageConfig
    reads: ClassVar[tuple[str, ...]] = ("answer",)

    def __init__(self, config: SoilImageConfig) -> None:
        super().__init__(config)
        self.reader: Answering | None = None
        self.synthetic = False
        self.learned = 0

    @property
    def input_schema(self) -> TableSchema:
        """One row a photo, with the field that it shows."""
        return INPUT

    @property
    def output_schema(self) -> OutputSchema:
        """One row a photo: its soils, and that of its field."""
        return output_schema(self.reader.classes if self.reader else ())

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Fit a reader of photos.

        Features and colour are fitted on both parts, after the penalty and the temperature were chosen on
        groups that were left out in turn; a network learns from ``train`` and stops by ``valid``.

        Args:
            train: Photos to learn from.
            valid: Photos to choose on.
            run: Seed, device, scratch folder, progress and metric sink.
            init: A network to go on from.

        Raises:
            ConfigError: Only networks go on from an earlier model.
            DataError: There are no two classes, or a photo cannot be read.
        """
        require_photos((train, valid))
        learned, chosen = (cast("PhotoSplit", part).photos.soil() for part in (train, valid))
        self.synthetic = cast("PhotoSplit", train).synthetic
        options = self.config.model
        if options.method == "network":
            from appliedpapers.plugins.agrosense.soil_image.networks import train_network

            require_classes(learned)
            self.reader = train_network(self.config, learned, chosen, run, _earlier(init))
            self.learned = len(learned)
            return self
        if init is not None:
            raise ConfigError(
                "--init-from: a logistic regression and trees are fitted anew.",
                hint="Leave --init-from out, or train a network: --method network.",
            )
        both = learned.joined(chosen)
        trees = options.method == "colour-boosting"
        name = COLOUR if trees else eye_named(options.features)
        eye = open_eye(name, weights=_path(options.weights), device=run.device)
        _look(both, eye, run)
        self.reader = fit_reader(both, eye, seed=run.seed, trees=trees, penalties=options.penalties)
        self.learned = len(both)
        return self

    def read(self, photos: Photos) -> Reading:
        """Return what is read of photos of a dataset."""
        assert self.reader is not None
        return self._judged(self.reader.read(photos))

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Read photos, average those of a field, and draw what speaks for their class where it is asked for.

        Args:
            table: One row a photo.
            files: Where maps are written.

        Raises:
            UnusableGroups: A photo of a field cannot be read; one that stands alone gets a row that says so.
        """
        assert self.reader is not None
        sources = table.column("image").to_pylist()
        names = _shown(table, sources)
        views, problems = read_views(sources, names)
        if lost := _lost_fields(table, problems):
            raise UnusableGroups(lost, hint="Leave the photo out, or mend it.")
        rows = [row for row, view in enumerate(views) if view is not None]
        seen = [view for view in views if view is not None]
        reading = self._judged(self.reader.read_views(seen))
        maps = (
            self._maps(seen, reading, rows, files)
            if files is not None and self.config.answer.occlusion
            else {}
        )
        return answer_table(table, self.reader.classes, reading, rows, problems, maps)

    def advice(self, table: pa.Table, prediction: pa.Table) -> str:
        """Return the answer in a sentence a photo."""
        lines = []
        for row in prediction.to_pylist():
            name = row["photo"] or "the photo"
            if row["problem"]:
                lines.append(f" {name}: {row['problem']}")
            elif row["soil_1"] is None:
                lines.append(f" {name}: {row['warnings']}")
            else:
                places = [place for place in (1, 2, 3) if row.get(f"soil_{place}")]
                ranked = ", ".join(
                    f"{row[f'soil_{n}']} {100 * row[f'probability_{n}']:.0f} %" for n in places
                )
                lines.append(f" {name}: {ranked}" + (f" ({row['warnings']})" if row["warnings"] else ""))
        return "\n".join(lines)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the model card."""
        yield "intended use", "a first look at a photo of soil; a soil survey decides"
        yield "its limit", "photos of another collection, camera and light are classified worse: 60 to 70 %"
        yield "method", self.config.model.method
        yield "photos learned from", f"{self.learned:,}"
        reader = self.reader
        if reader is None:
            return
        yield "classes", ", ".join(reader.classes)
        if isinstance(reader, SoilReader):
            yield (
                "looks at",
                reader.eye.name if reader.eye.name == COLOUR else f"{reader.eye.name} and colour",
            )
            if reader.penalty is not None:
                yield "C of the logistic regression", f"{reader.penalty:g}"
            yield "temperature", f"{reader.temperature:.3f}"
            yield "logloss on left-out groups, calibrated", f"{reader.held_out:.4f}"
        else:
            yield from reader.describe()  # type: ignore[attr-defined]

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write arrays and weights as safetensors, and trees in LightGBM's own text format."""
        assert self.reader is not None
        return {"synthetic": self.synthetic, "learned": self.learned, "reader": self.reader.write(folder)}

    @classmethod
    def read_parts(cls, config: Any, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the model from verified parts."""
        model = cls(config)
        model.synthetic, model.learned = state["synthetic"], state["learned"]
        if config.model.method == "network":
            from appliedpapers.plugins.agrosense.soil_image.networks import read_network

            model.reader = read_network(config, state["reader"], folder, device)
        else:
            model.reader = read(state["reader"], folder, device, _path(config.model.weights))
        return model

    def _judged(self, reading: Reading) -> Reading:
        if self.config.answer.reject:
            return reading
        return Reading(reading.chances, [None] * len(reading.reasons), reading.novelty)

    def _maps(
        self, views: Sequence[Pixels], reading: Reading, rows: Sequence[int], files: Path
    ) -> dict[int, tuple[str, str]]:
        """Draw the maps of photos that get a class; return path and sha256 by row."""
        from appliedpapers.plugins.agrosense.soil_image.occlusion import occlusion, occlusion_png

        assert self.reader is not None
        found = {}
        for view, reason, row in zip(views, reading.reasons, rows, strict=True):
            if reason is not None:
                continue
            falls, _ = occlusion(self.reader, view, self.config.answer.patches)
            content = occlusion_png(view, falls)
            # named by the photo: rows may come in any order, and copies share a map
            name = f"{MAPS}/{hashlib.sha256(view.tobytes()).hexdigest()[:16]}.png"
            try:
                with whole_file(files / name) as aside:
                    aside.write_bytes(content)
            except OSError as error:
                raise RunError(f"{files / name}: cannot be written ({error.strerror}).") from None
            found[row] = (name, hashlib.sha256(content).hexdigest())
        return found


def _look(photos: Photos, eye: Any, run: FitContext) -> None:
    from appliedpapers.plugins.agrosense.soil_image.photos import MEMORY

    with run.progress.task("features", len(photos)) as task:
        MEMORY.features(photos, eye, lambda: task.advance())


def _earlier(init: Model | None) -> Answering | None:
    return cast("SoilClassifier", init).reader if init is not None else None


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text is not None else None


def _lost_fields(table: pa.Table, problems: Mapping[int, str]) -> list[GroupProblem]:
    """Return the fields that have a photo that cannot be read, with the first of each."""
    if "field" not in table.column_names:
        return []
    fields = table.column("field").to_pylist()
    found: dict[str, GroupProblem] = {}
    for row, problem in problems.items():
        if (name := fields[row]) is not None:
            rule = f"field '{name}': {problem.removesuffix('.')}"
            found.setdefault(name, GroupProblem((name,), rule, row + 1, "image"))
    return list(found.values())


def _shown(table: pa.Table, sources: Sequence[Any]) -> list[str]:
    names = table.column("photo").to_pylist() if "photo" in table.column_names else [None] * len(sources)
    return [
        name or (source if isinstance(source, str) else f"photo {row}")
        for row, (name, source) in enumerate(zip(names, sources, strict=True), start=1)
    ]
