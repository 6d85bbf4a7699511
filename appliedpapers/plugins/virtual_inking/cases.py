"""A slide as the classifier learns and answers it: tiles, labels, contours, and features of any encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.progress import Progress, Task
from appliedpapers.plugins.virtual_inking.config import EncoderConfig, InkingConfig
from appliedpapers.plugins.virtual_inking.encoders import COLOUR_TEXTURE, TileEncoder, open_encoder
from appliedpapers.plugins.virtual_inking.features_h5 import read_features, require_encoder, write_features
from appliedpapers.plugins.virtual_inking.inputs import head_inputs, reference_rows
from appliedpapers.plugins.virtual_inking.labels import contour_truth, tile_labels
from appliedpapers.plugins.virtual_inking.splits import SlideItem, SlideSplit
from appliedpapers.plugins.virtual_inking.streaming import SlideSource, TileReader, stream_tiles
from appliedpapers.plugins.virtual_inking.survey import Survey, survey

Features = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """What is known of a slide before its tiles are encoded.

    Attributes:
        item: The slide.
        found: Tissue, contours and tiles.
        labels: Of tiles: 1 cut, 0 natural, -1 neither.
        truth: Of each contour: which samples were cut.
        annotated: Whether any of that is known.
        mpp: Micrometres per pixel of level 0.
        size: Width and height of level 0.
    """

    item: SlideItem
    found: Survey
    labels: NDArray[np.int8]
    truth: tuple[Flags, ...]
    annotated: bool
    mpp: tuple[float, float]
    size: tuple[int, int]


def case_of(item: SlideItem, config: InkingConfig) -> Case:
    """Look at a slide, or take what was found before.

    Raises:
        DataError: It cannot be read, shows no tissue, or its annotation is of another slide.
    """
    key = "case:" + _look(config)
    if key not in item.kept:
        slide = item.source.open()
        try:
            annotation = item.annotation(slide, config.labels)
            found = survey(slide, config, masks=item.masks(), annotation=annotation)
            item.kept[key] = Case(
                item,
                found,
                tile_labels(found, annotation, slide, config),
                tuple(contour_truth(found.contours, annotation, slide.mpp)),
                annotation.labelled,
                slide.mpp,
                slide.size,
            )
        finally:
            slide.close()
    case: Case = item.kept[key]
    return case


def features_of(
    case: Case,
    config: InkingConfig,
    encoder: TileEncoder,
    *,
    cache: Path | None = None,
    task: Task | None = None,
) -> Features:
    """Return the features of a slide's tiles, ``(N, dim)``, from memory or a cache where they are there.

    Raises:
        DataError: Tiles cannot be read.
    """
    key = "features:" + feature_key(config, encoder)
    kept: dict[str, Any] = case.item.kept
    if key not in kept:
        stored = None if cache is None else cache / _cache_name(case, config, encoder)
        if stored is not None and stored.is_file():
            found = read_features(stored)
            require_encoder(found, encoder.identity, config.tiles.mpp, stored.name)
            kept[key] = found.features
        else:
            blocks = encoded(case.item.source, case.found, config, encoder, task=task)
            kept[key] = np.concatenate([np.empty((0, encoder.dim), dtype=np.float32), *blocks])
            if stored is not None:
                attributes = trident_attributes(case.item.slide_id, case.size, case.mpp, case.found, config)
                write_features(
                    stored, kept[key], case.found.corners, attributes, identity_of(config, encoder)
                )
    features: Features = kept[key]
    return features


def inputs_of(
    case: Case,
    config: InkingConfig,
    encoder: TileEncoder,
    *,
    progress: Progress,
    cache: Path | None = None,
) -> Features:
    """Return what the head sees of a slide's tiles; see :mod:`.inputs`."""
    with progress.task(f"encoding {case.item.slide_id}", len(case.labels)) as task:
        parts = [features_of(case, config, encoder, cache=cache, task=task)]
        if config.head.colour and encoder.identity.encoder != COLOUR_TEXTURE:
            parts.append(features_of(case, config, encoder_of(config, name=COLOUR_TEXTURE), cache=cache))
    return head_inputs(parts, reference_rows(case.found, config.head))


def encoded(
    source: SlideSource,
    found: Survey,
    config: InkingConfig,
    encoder: TileEncoder,
    *,
    rows: NDArray[np.int64] | None = None,
    task: Task | None = None,
) -> Iterator[Features]:
    """Yield the features of a slide's tiles block by block, while the next are being read.

    Args:
        source: Of the slide.
        found: Its tiles.
        config: Of tiles and readers.
        encoder: Frozen.
        rows: Which tiles; all by default.
        task: Advanced by the tiles that are done.
    """
    corners = found.corners if rows is None else found.corners[rows]
    reader = TileReader(source, found.tiling, config.tiles.pixels, found.normaliser)
    for tiles in stream_tiles(reader, corners, config.slide.workers):
        yield encoder.encode(tiles)
        if task is not None:
            task.advance(len(tiles))


def cases_of(split: SlideSplit, config: InkingConfig) -> list[Case]:
    """Look at all slides of a part."""
    return [case_of(item, config) for item in split.items]


def identity_of(config: InkingConfig, encoder: TileEncoder) -> dict[str, Any]:
    """Return what features depend on besides the slide."""
    tiles = config.tiles
    normalise = {"core_um": tiles.core_um} if tiles.normalise else None
    return {
        **encoder.identity.to_json(),
        "mpp": tiles.mpp,
        "pixels": tiles.pixels,
        "normalise": normalise,
    }


def feature_key(config: InkingConfig, encoder: TileEncoder) -> str:
    """Return a hash of :func:`identity_of` and of which tiles there are."""
    return _digest([identity_of(config, encoder), _look(config)])


def trident_attributes(
    name: str, size: tuple[int, int], mpp: tuple[float, float], found: Survey, config: InkingConfig
) -> dict[str, Any]:
    """Return the attributes of ``coords`` as TRIDENT writes them."""
    tiles = config.tiles
    return {
        "name": name,
        "patch_size": tiles.pixels,
        "patch_size_level0": found.tiling.size0[0],
        "level0_magnification": 10 / mpp[0],
        "target_magnification": 10 / tiles.mpp,
        "overlap": tiles.pixels - tiles.stride,
        "level0_width": size[0],
        "level0_height": size[1],
    }


@lru_cache(maxsize=4)
def _opened(config: str, pixels: int, device: str) -> TileEncoder:
    return open_encoder(EncoderConfig.model_validate_json(config), pixels, device)


def encoder_of(config: InkingConfig, device: str = "cpu", *, name: str | None = None) -> TileEncoder:
    """Return the configured encoder (or another by name), opened once."""
    own = (
        config.encoder if name is None else config.encoder.model_copy(update={"name": name, "weights": None})
    )
    return _opened(own.model_dump_json(), config.tiles.pixels, device)


def _look(config: InkingConfig) -> str:
    parts = [config.mask, config.tiles, config.labels]
    margin = config.margin
    return _digest(
        [
            *(part.model_dump(mode="json") for part in parts),
            margin.step_um,
            margin.outline_um,
            config.slide.mpp,
        ]
    )


def _cache_name(case: Case, config: InkingConfig, encoder: TileEncoder) -> str:
    return f"{_digest([case.item.digest(), feature_key(config, encoder)])[:32]}.h5"


def _digest(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
