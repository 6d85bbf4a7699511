"""COCO files: boxes and masks of chromosomes on images of whole metaphases."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN, WHITE
from appliedpapers.plugins.varifocal_net.config import DataConfig
from appliedpapers.plugins.varifocal_net.images import Pixels, read_grey
from appliedpapers.plugins.varifocal_net.listing import Entry, Listing
from appliedpapers.plugins.varifocal_net.rle import RleError, mask_of_counts
from appliedpapers.plugins.varifocal_net.type_names import label_of

_MARGIN = 2
_HINT = "Expected a COCO file: an object with images, annotations and categories."

Box = tuple[int, int, int, int]


def list_coco(path: Path, data: DataConfig) -> Listing:
    """Cut the annotated chromosomes out of their metaphase images.

    An image is a case, the name of a category a type. What lies outside an annotation's mask becomes white;
    an annotation without a mask is cut out as its box. Chromosomes stay as they lie, so that nothing is known
    of their polarity.

    Raises:
        DataError: The file is no COCO file, or an annotation lies outside its image; its id is named.
    """
    document = _load(path)
    labels = {item["id"]: label_of(str(item.get("name", ""))) for item in document["categories"]}
    images = {item["id"]: str(item["file_name"]) for item in document["images"]}
    found: defaultdict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for item in document["annotations"]:
        if item["image_id"] not in images:
            raise DataError(
                f"{path.name}, annotation {item['id']}: there is no image {item['image_id']}.", hint=_HINT
            )
        found[item["image_id"]].append(item)
    cases = _cases(images)
    entries: list[Entry] = []
    inverted = 0
    for key, items in found.items():
        file, case = path.parent / images[key], cases[key]
        try:
            page = read_grey(file, file.name, data.background)
        except DataError:
            # left to whoever opens the file: one bad metaphase does not stop the others
            entries += [_entry(path, item, case, labels, file) for item in items]
            continue
        inverted += page.inverted * len(items)
        entries += [
            _entry(path, item, case, labels, _cut(page.pixels, item, f"{path.name}, annotation {item['id']}"))
            for item in items
        ]
    return Listing(entries, _notes(document, labels), inverted)


def _entry(
    path: Path,
    item: Mapping[str, Any],
    case: str,
    labels: Mapping[Any, int | None],
    image: Path | Pixels,
) -> Entry:
    label = labels.get(item.get("category_id"))
    name = str(item["id"])
    return Entry(
        image, name, f"{path.name}, annotation {name}", case=case, label=UNKNOWN if label is None else label
    )


def _cut(page: Pixels, item: Mapping[str, Any], place: str) -> Pixels:
    try:
        box, mask = _outline(page, item)
    except (RleError, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise DataError(
            f"{place}: its box or mask cannot be read ({error}).",
            hint="Expected bbox [x, y, width, height] in pixels, and segmentation as polygons or RLE.",
        ) from None
    height, width = page.shape
    x0, y0 = max(box[0] - _MARGIN, 0), max(box[1] - _MARGIN, 0)
    x1, y1 = min(box[2] + _MARGIN, width), min(box[3] + _MARGIN, height)
    if min(box[2], width) <= max(box[0], 0) or min(box[3], height) <= max(box[1], 0):
        raise DataError(
            f"{place}: its box {list(box)} lies outside its image of {width} x {height} px.",
            hint="Expected pixels of the image that image_id names, from its upper left corner.",
        )
    crop = page[y0:y1, x0:x1]
    if mask is None:
        return np.ascontiguousarray(crop)
    return np.where(mask[y0:y1, x0:x1], crop, np.uint8(WHITE))


def _outline(page: Pixels, item: Mapping[str, Any]) -> tuple[Box, NDArray[np.bool_] | None]:
    """Return the box ``(x0, y0, x1, y1)`` of an annotation and, if there is one, its mask over the page."""
    segmentation = item.get("segmentation")
    if not segmentation:
        x, y, width, height = (float(value) for value in item["bbox"])
        return (int(x), int(y), int(np.ceil(x + width)), int(np.ceil(y + height))), None
    if isinstance(segmentation, Mapping):
        height, width = (int(value) for value in segmentation["size"])
        if (height, width) != page.shape:
            raise ValueError(
                f"a mask of {width} x {height} px on an image of {page.shape[1]} x {page.shape[0]}"
            )
        mask = mask_of_counts(segmentation["counts"], height, width)
    else:
        mask = _polygons(segmentation, page.shape)
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(ys):
        raise ValueError("it covers no pixel")
    return (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1), mask


def _polygons(polygons: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    from PIL import Image, ImageDraw

    canvas = Image.new("1", (shape[1], shape[0]))
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
        if len(points) < 3 or not np.isfinite(points).all():
            raise ValueError("a polygon needs three points")
        draw.polygon([(float(x), float(y)) for x, y in points], fill=1)
    return np.asarray(canvas)


def _cases(images: Mapping[Any, str]) -> dict[Any, str]:
    """Return the name of each image without its suffix, or all of its path where another has that name."""
    stems = {key: Path(file).stem for key, file in images.items()}
    counts = Counter(stems.values())
    return {key: stem if counts[stem] == 1 else images[key] for key, stem in stems.items()}


def _notes(document: Mapping[str, Any], labels: Mapping[Any, int | None]) -> tuple[str, ...]:
    notes = ["chromosomes were cut out of metaphase images as they lie, so that their polarity is not known"]
    strange = [str(item.get("name")) for item in document["categories"] if labels[item["id"]] is None]
    if strange:
        notes.append(f"categories that are no types were read as unlabelled: {', '.join(strange[:5])}")
    if any(not item.get("segmentation") for item in document["annotations"]):
        notes.append("annotations without a mask were cut out as boxes, with whatever else lies in them")
    return tuple(notes)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", hint="Check the path.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}).", hint=_HINT) from None
    needed = {"images": ("id", "file_name"), "annotations": ("id", "image_id"), "categories": ("id",)}
    for key, fields in needed.items():
        items = document.get(key) if isinstance(document, Mapping) else None
        if not isinstance(items, list):
            raise DataError(f"{path.name}: there is no list '{key}'.", hint=_HINT)
        for number, item in enumerate(items, start=1):
            absent = next(
                (name for name in fields if not isinstance(item, Mapping) or name not in item), None
            )
            if absent:
                raise DataError(f"{path.name}, {key}, item {number}: there is no '{absent}'.", hint=_HINT)
            odd = next((name for name in fields if not isinstance(item[name], str | int)), None)
            if odd:
                raise DataError(
                    f"{path.name}, {key}, item {number}: '{odd}' is neither a number nor a text.", hint=_HINT
                )
            named = item.get("category_id")
            if key == "annotations" and not (named is None or isinstance(named, str | int)):
                raise DataError(
                    f"{path.name}, {key}, item {number}: 'category_id' is neither a number nor a text.",
                    hint=_HINT,
                )
    return dict(document)
