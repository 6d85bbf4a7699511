"""From a line of a manifest to a GeoTIFF with its quality report, resumable by scene and by band."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

import appliedpapers
from appliedpapers.core.client_files import stored
from appliedpapers.core.errors import AppsError, DataError
from appliedpapers.core.files import sha256_file, write_json
from appliedpapers.core.fingerprint import file_fingerprint
from appliedpapers.core.model import GroupProblem
from appliedpapers.plugins.pansharpening.config import CLASSICAL, PansharpeningConfig
from appliedpapers.plugins.pansharpening.planes import parse_memory
from appliedpapers.plugins.pansharpening.products import network_refusal

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.pansharpening.model import Pansharpener
    from appliedpapers.plugins.pansharpening.scene import Scene

SCRATCH = ".unfinished"
_SENT = "sent"


@dataclass(frozen=True)
class Order:
    """One line of a manifest; rasters are paths, or the bytes of files."""

    scene_id: str
    hs_path: str | bytes
    pan_path: str | bytes
    output_path: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the GeoTIFF, relative to the output folder."""
        if self.output_path:
            return str(PurePosixPath(self.output_path))
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', self.scene_id).strip('.') or 'scene'}.tif"

    def problem(self) -> str | None:
        """Return why the name cannot be used, or None."""
        path = PurePosixPath(self.file_name)
        outside = path.is_absolute() or ".." in path.parts or SCRATCH in path.parts[:1]
        if outside or path.suffix.lower() not in (".tif", ".tiff"):
            return (
                f"output_path '{self.output_path}' must be the name of a .tif below the output folder, "
                "such as products/scene-7.tif"
            )
        return None

    def rasters(self, files: Path) -> tuple[Path, Path]:
        """Return both rasters as paths; bytes are written into the scratch of ``files`` first.

        Raises:
            DataError: Bytes are no raster.
        """
        cells = {"hs_path": self.hs_path, "pan_path": self.pan_path}
        hs_path, pan_path = (
            stored(cell, files / SCRATCH / _SENT, name) if isinstance(cell, bytes) else Path(cell)
            for name, cell in cells.items()
        )
        return hs_path, pan_path

    def in_words(self, text: str, files: Path) -> str:
        """Return a message with the names of columns in place of scratch files, which nobody knows."""
        for name, cell in (("hs_path", self.hs_path), ("pan_path", self.pan_path)):
            if isinstance(cell, bytes):
                stem = str(files / SCRATCH / _SENT / hashlib.sha256(cell).hexdigest())
                text = re.sub(re.escape(stem) + r"\.\w+", name, text)
        return text


def orders_of(table: pa.Table) -> list[Order]:
    """Return the lines of a validated manifest."""
    wanted = ("scene_id", "hs_path", "pan_path", "output_path")
    rows = table.select([name for name in wanted if name in table.column_names]).to_pylist()
    return [Order(**row) for row in rows]


def review_rows(table: pa.Table, config: PansharpeningConfig, files: Path) -> list[GroupProblem]:
    """Name the lines of a manifest that cannot be sharpened; of rasters the headers are read.

    Args:
        table: The manifest.
        config: How rasters are read.
        files: Output folder; rasters that came as bytes are put into its scratch.
    """
    found, names = [], set[str]()
    for number, order in enumerate(orders_of(table)):
        name = order.file_name
        twice = f"{name} is already written by an earlier row" if name in names else None
        names.add(name)
        problem = order.problem() or twice or _pair_problem(order, config, files)
        if problem is not None:
            found.append(GroupProblem((number,), problem))
    return found


def _pair_problem(order: Order, config: PansharpeningConfig, files: Path) -> str | None:
    from appliedpapers.plugins.pansharpening.ingest import open_configured_pair

    try:
        hs_path, pan_path = order.rasters(files)
        pair, wavelengths, _ = open_configured_pair(hs_path, pan_path, config)
    except AppsError as error:
        # whoever shows it ends the sentence
        return order.in_words(
            " ".join(part for part in (error.message, error.hint) if part).rstrip("."), files
        )
    if config.method in CLASSICAL:
        return None
    refusal = network_refusal(pair.coarse_shape, wavelengths is not None, config.method)
    return None if refusal is None else f"{refusal}; a model with --set method=gsa needs no network"


def deliver(order: Order, model: Pansharpener, files: Path) -> dict[str, Any]:
    """Sharpen one pair into ``files``, or take what an earlier try finished.

    Returns:
        The row of the output table.

    Raises:
        DataError: The pair cannot be read.
        RunError: The disk is full, or the adaptation diverged.
    """
    scratch = files / SCRATCH / hashlib.sha256(order.scene_id.encode()).hexdigest()[:16]
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        hs_path, pan_path = order.rasters(files)
        identity = _identity(order, model, hs_path, pan_path)
        finished = _finished(scratch, identity, files)
        if finished is not None:
            return finished
        row = _deliver(order, model, files, scratch, hs_path, pan_path)
    except DataError:
        # there is nothing to go on from
        shutil.rmtree(scratch, ignore_errors=True)
        with suppress(OSError):
            scratch.parent.rmdir()
        raise
    write_json(scratch / "row.json", {"identity": identity, "row": row})
    for part in scratch.iterdir():
        if part.name != "row.json":
            shutil.rmtree(part) if part.is_dir() else part.unlink()
    return row


def _deliver(
    order: Order, model: Pansharpener, files: Path, scratch: Path, hs_path: Path, pan_path: Path
) -> dict[str, Any]:
    from appliedpapers.core.rasters.writing import ProductProfile, write_product
    from appliedpapers.plugins.pansharpening.ingest import read_scene
    from appliedpapers.plugins.pansharpening.quality import assess_product, write_quality

    config = model.config
    scene, pair = read_scene(
        hs_path,
        pan_path,
        config,
        scene_id=order.scene_id,
        scratch=scratch,
        memory_bytes=parse_memory(config.memory),
    )
    product = model.product(scene, scratch=scratch / "bands")
    profile = ProductProfile.of_pair(
        pair,
        dtype=config.output.dtype,
        compress=config.output.compress,
        cog=config.output.cog,
        missing=not _complete(scene),
        tags={"APPLIED_PAPERS_METHOD": config.method, "APPLIED_PAPERS_SCENE": order.scene_id},
    )
    target = files / order.file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    write_product(target, product.blocks(), profile)
    row: dict[str, Any] = {
        "scene_id": order.scene_id,
        "product_path": order.file_name,
        "product_sha256": sha256_file(target),
        "method": config.method,
        "ratio": scene.optics.ratio,
        "bands": scene.bands,
        "dead_bands": int(scene.dead.sum()),
        "flagged_bands": sum(bool(report["missed"]) for report in product.reports),
    }
    if config.output.quality == "none":
        return row
    quality = assess_product(scene, product, model)
    stem = PurePosixPath(order.file_name).with_suffix("")
    paths = {"quality_path": f"{stem}-quality.json", "report_path": f"{stem}-quality.html"}
    write_quality(quality, files / paths["quality_path"], files / paths["report_path"])
    return row | paths | quality.row()


def _complete(scene: Scene) -> bool:
    same = scene.band_valid is None or bool(np.asarray(scene.band_valid).all())
    return bool(scene.hs_valid.all() and scene.pan_valid.all() and same)


def _identity(order: Order, model: Pansharpener, hs_path: Path, pan_path: Path) -> str:
    """Return a digest of everything that a product depends on.

    Raises:
        DataError: The pair cannot be opened.
    """
    from appliedpapers.plugins.pansharpening.ingest import open_configured_pair

    pair, centres, _ = open_configured_pair(hs_path, pan_path, model.config)
    parts = [
        appliedpapers.__version__,
        order.scene_id,
        order.file_name,
        model.config.model_dump_json(),
        model.weights_digest(),
        # a header has its pixels in another file, and centres may come from a table
        *(file_fingerprint(file) for file in (hs_path, pan_path, *pair.hs.files, *pair.pan.files)),
        "" if centres is None else repr(centres.tolist()),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _finished(scratch: Path, identity: str, files: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((scratch / "row.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if record.get("identity") != identity:
        return None
    row = dict(record["row"])
    kept = (files / row["product_path"]).is_file()
    same = kept and sha256_file(files / row["product_path"]) == row["product_sha256"]
    return row if same else None


def clear_scratch(files: Path) -> None:
    """Take away what interrupted tries would have gone on from."""
    shutil.rmtree(files / SCRATCH, ignore_errors=True)
