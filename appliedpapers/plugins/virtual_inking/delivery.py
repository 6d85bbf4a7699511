"""From a line of a list to GeoJSON, tables, pictures and a viewer, resumable by block of tiles."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import appliedpapers
from appliedpapers.core.client_files import stored
from appliedpapers.core.errors import AppsError, DataError
from appliedpapers.core.files import sha256_file, whole_file, write_json
from appliedpapers.core.fingerprint import file_fingerprint
from appliedpapers.core.model import GroupProblem
from appliedpapers.plugins.virtual_inking.annotations import Annotation, read_annotation
from appliedpapers.plugins.virtual_inking.cascade import joined
from appliedpapers.plugins.virtual_inking.cases import encoded, identity_of
from appliedpapers.plugins.virtual_inking.drawing import Drawn, drawn_of, write_drawn
from appliedpapers.plugins.virtual_inking.encoders import COLOUR_TEXTURE
from appliedpapers.plugins.virtual_inking.features_h5 import read_features, require_encoder
from appliedpapers.plugins.virtual_inking.inputs import head_inputs, reference_rows
from appliedpapers.plugins.virtual_inking.slides import Slide
from appliedpapers.plugins.virtual_inking.streaming import SlideSource
from appliedpapers.plugins.virtual_inking.survey import Survey, survey

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.virtual_inking.encoders import TileEncoder
    from appliedpapers.plugins.virtual_inking.model import VirtualInker

Features = NDArray[np.float32]
Floats = NDArray[np.float64]

SCRATCH = ".unfinished"

_SENT = "sent"
_CHUNK = 256  # tiles whose features survive an interruption together
_LONGEST_NAME = 80
_HASHED = re.compile(r"-[0-9a-f]{8}\Z")
_COLUMNS = ("slide_id", "slide", "mpp", "regions", "features")


@dataclass(frozen=True)
class Order:
    """One line of a list; files are paths, or their bytes."""

    slide_id: str
    slide: str | bytes
    mpp: float | None = None
    regions: str | bytes | None = None
    features: str | bytes | None = None

    @property
    def stem(self) -> str:
        """Name of the slide's folder; where that changes the name, a part of its hash keeps two apart."""
        name = self.slide_id
        plain = re.sub(r"[^\w.-]+", "-", name).strip(".-").encode()[:_LONGEST_NAME].decode(errors="ignore")
        if plain and plain == name and not _HASHED.search(plain):
            return plain
        return f"{plain or 'slide'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class _Looked:
    source: SlideSource
    found: Survey
    annotation: Annotation
    size: tuple[int, int]
    mpp: tuple[float, float]
    bounds: tuple[int, int]
    vendor: str
    paths: tuple[Path, ...]


def orders_of(table: pa.Table) -> list[Order]:
    """Return the lines of a validated list."""
    rows = table.select([name for name in _COLUMNS if name in table.column_names]).to_pylist()
    return [Order(**row) for row in rows]


class Delivery:
    """Works on the slides of one call.

    Args:
        model: Fitted.
        files: Folder that is delivered, and whose scratch survives; None delivers nothing.
    """

    def __init__(self, model: VirtualInker, files: Path | None) -> None:
        self._model, self._files = model, files
        self._looked: dict[str, _Looked] = {}

    def __enter__(self) -> Delivery:
        self._own = None if self._files is not None else tempfile.TemporaryDirectory()
        folder = Path(self._own.name) if self._own is not None else self._files
        assert folder is not None
        self._scratch = folder / SCRATCH
        return self

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.cleanup()

    def done(self) -> None:
        """Take away what interrupted tries would have gone on from."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def review(self, orders: Sequence[Order]) -> list[GroupProblem]:
        """Name the slides that cannot be worked on; thumbnails are looked at."""
        found, seen = [], set[str]()
        for number, order in enumerate(orders):
            twice = f"the slide '{order.slide_id}' stands twice" if order.slide_id in seen else None
            seen.add(order.slide_id)
            problem = twice or self._problem(order)
            if problem is not None:
                found.append(GroupProblem((number,), problem))
        return found

    def deliver(self, order: Order) -> list[dict[str, Any]]:
        """Draw the margin of a slide, or take what an earlier try finished.

        A slide that turns out to be damaged costs no other one: its row says so.

        Returns:
            The rows of the output table.

        Raises:
            RunError: The disk is full.
        """
        looked = self._look(order)
        identity = self._identity(order, looked)
        scratch = self._scratch / identity[:24]
        finished = self._finished(scratch, identity)
        if finished is not None:
            return finished
        try:
            drawn = self._drawn(order, looked, scratch)
        except DataError as error:
            rows: list[dict[str, Any]] = [_failed(order, error)]
        else:
            paths = {}
            if self._files is not None:
                paths = write_drawn(drawn, self._files, order.stem, self._model)
            rows = [{**row, **paths} for row in drawn.rows()]
        if self._files is not None:
            record = {"identity": identity, "rows": rows, "sums": self._sums(rows)}
            write_json(scratch / "rows.json", record)
        return rows

    def _drawn(self, order: Order, looked: _Looked, scratch: Path) -> Drawn:
        model = self._model
        features: list[Features] = []
        with model.progress.task(order.slide_id, len(looked.found.corners)) as task:
            logits, count = self._logits(order, looked, scratch, features, task)
        return drawn_of(
            order.slide_id,
            looked.source,
            looked.found,
            looked.annotation,
            logits,
            model,
            size=looked.size,
            mpp=looked.mpp,
            bounds=looked.bounds,
            vendor=looked.vendor,
            encoded=count,
            features=features[0] if features else None,
            sha256=sha256_file(looked.paths[0]),
        )

    def _logits(
        self, order: Order, looked: _Looked, scratch: Path, kept: list[Features], task: Any
    ) -> tuple[Floats, int]:
        model = self._model
        assert model.head is not None
        config, encoder = model.config.head, model.encoder()
        reference = reference_rows(looked.found, config)
        cheap: list[Features] = []
        if encoder.identity.encoder != COLOUR_TEXTURE and (config.colour or model.cascade is not None):
            cheap = [self._features(looked, model.cheap(), scratch, "cheap", None, None)]
        beside = cheap if config.colour else []
        if order.features is not None or model.cascade is None:
            given = order.features is not None
            features = (
                self._given(order, looked)
                if given
                else self._features(looked, encoder, scratch, "features", None, task)
            )
            kept.append(features)
            scale = model.head.calibration.slope if model.cascade is not None else 1.0
            seen = head_inputs([features, *beside], reference)
            return scale * model.head.logits(seen), 0 if given else len(features)
        weak = head_inputs(
            cheap or [self._features(looked, encoder, scratch, "features", None, None)], reference
        )
        chosen = model.cascade.chosen(weak, looked.found.depth, reference)
        rows = np.flatnonzero(chosen)
        features = self._features(looked, encoder, scratch, "routed", rows, task)
        # the tiles of the interior are among the rows: their places tell the reference there
        places = np.searchsorted(rows, reference)
        seen = head_inputs([features, *(part[rows] for part in beside)], places)
        strong = model.head.calibration.slope * model.head.logits(seen)
        task.advance(len(chosen) - len(rows))
        stride_um = model.config.tiles.stride_um
        cheaply = model.cascade.calibrated(weak)
        return joined(cheaply, strong, chosen, looked.found.centres, stride_um), len(rows)

    def _features(
        self,
        looked: _Looked,
        encoder: TileEncoder,
        scratch: Path,
        name: str,
        rows: NDArray[np.int64] | None,
        task: Any,
    ) -> Features:
        """Encode tiles a chunk at a time; chunks of an earlier try are taken as they are."""
        rows = np.arange(len(looked.found.corners)) if rows is None else rows
        chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
        found = [np.empty((0, encoder.dim), dtype=np.float32)]
        for number, chunk in enumerate(chunks):
            path = scratch / f"{name}-{number:06d}.npy"
            kept = _kept(path, (len(chunk), encoder.dim))
            if kept is None:
                blocks = encoded(
                    looked.source, looked.found, self._model.config, encoder, rows=chunk, task=task
                )
                kept = np.concatenate(list(blocks))
                scratch.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as aside, aside.open("wb") as file:
                    np.save(file, kept, allow_pickle=False)
            elif task is not None:
                task.advance(len(chunk))
            found.append(kept)
        return np.concatenate(found)

    def _given(self, order: Order, looked: _Looked) -> Features:
        """Return features of a file in the order of the tiles; all of them must be in it."""
        assert order.features is not None
        path = self._path(order.features, "features")
        stored_features = read_features(path)
        model = self._model
        require_encoder(stored_features, model.encoder().identity, model.config.tiles.mpp, path.name)
        places = {corner: row for row, corner in enumerate(map(tuple, stored_features.coords.tolist()))}
        rows = [places.get(tuple(corner), -1) for corner in looked.found.corners.tolist()]
        if -1 in rows:
            raise DataError(
                f"{path.name}: {rows.count(-1)} of {len(rows)} tiles are not in it.",
                hint="Features must be of the same tiles: pixels, mpp and stride as the model has them.",
            )
        return stored_features.features[np.array(rows, dtype=np.int64)]

    def _look(self, order: Order) -> _Looked:
        key = order.slide_id
        if key not in self._looked:
            self._looked[key] = self._first_look(order)
        return self._looked[key]

    def _first_look(self, order: Order) -> _Looked:
        config = self._model.config
        path = self._path(order.slide, "slide")
        name = path.name if isinstance(order.slide, str) else "slide"
        source = SlideSource(path, config.slide, order.mpp, name)
        slide: Slide = source.open()
        try:
            paths, annotation = [path], Annotation()
            if order.regions is not None:
                drawn = order.regions if isinstance(order.regions, bytes) else Path(order.regions)
                annotation = read_annotation(drawn, slide, config.labels, "regions")
                if isinstance(drawn, Path):
                    paths.append(drawn)
            if order.features is not None and isinstance(order.features, str):
                paths.append(Path(order.features))
            found = survey(slide, config, annotation=annotation)
            if order.features is not None:
                self._given(order, _Looked(source, found, annotation, slide.size, slide.mpp, (0, 0), "", ()))
            return _Looked(
                source, found, annotation, slide.size, slide.mpp, slide.bounds, slide.vendor, tuple(paths)
            )
        finally:
            slide.close()

    def _problem(self, order: Order) -> str | None:
        try:
            self._look(order)
        except AppsError as error:
            # whoever shows it ends the sentence
            return " ".join(part for part in (error.message, error.hint) if part).rstrip(".")
        return None

    def _path(self, cell: str | bytes, column: str) -> Path:
        if isinstance(cell, str):
            return Path(cell)
        if column == "slide":
            return stored(cell, self._scratch / _SENT, column)
        path = self._scratch / _SENT / f"{hashlib.sha256(cell).hexdigest()}.h5"
        if not path.is_file():
            with whole_file(path) as aside:
                aside.write_bytes(cell)
        return path

    def _identity(self, order: Order, looked: _Looked) -> str:
        """Return a digest of everything that the slide's files depend on."""
        model = self._model
        sent = [
            hashlib.sha256(cell).hexdigest()
            for cell in (order.regions, order.features)
            if isinstance(cell, bytes)
        ]
        parts = [
            appliedpapers.__version__,
            order.slide_id,
            order.mpp,
            model.config.model_dump_json(),
            identity_of(model.config, model.encoder()),
            [file_fingerprint(path) for path in looked.paths],
            sent,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _finished(self, scratch: Path, identity: str) -> list[dict[str, Any]] | None:
        try:
            record = json.loads((scratch / "rows.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if record.get("identity") != identity or self._files is None:
            return None
        rows: list[dict[str, Any]] = record["rows"]
        return rows if record["sums"] == self._sums(rows) else None

    def _sums(self, rows: Sequence[dict[str, Any]]) -> dict[str, str | None]:
        assert self._files is not None
        names = {cell for row in rows for key, cell in row.items() if key.endswith("_path") and cell}
        return {
            name: sha256_file(self._files / name) if (self._files / name).is_file() else None
            for name in sorted(names)
        }


def _kept(path: Path, shape: tuple[int, int]) -> Features | None:
    try:
        found: Features = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return found if found.shape == shape and found.dtype == np.float32 else None


def _failed(order: Order, error: DataError) -> dict[str, Any]:
    """Return the row of a slide that could be opened and not be read through."""
    return {
        "slide_id": order.slide_id,
        "part": 0,
        "contour": -1,
        "state": "not_assessable",
        "bridged_gaps": 0,
        "points": [],
        "tiles": 0,
        "encoded": 0,
        "problem": f"{error.message} {error.hint or ''}".strip(),
    }
