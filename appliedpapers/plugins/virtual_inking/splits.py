"""Slides of a dataset, and its parts: whole blocks or patients each."""

from __future__ import annotations

import hashlib
import io
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.fingerprint import file_fingerprint
from appliedpapers.plugins.virtual_inking.annotations import Annotation, read_annotation
from appliedpapers.plugins.virtual_inking.config import LabelConfig, SlideConfig
from appliedpapers.plugins.virtual_inking.simulator import MPP
from appliedpapers.plugins.virtual_inking.slides import ArraySlide, Pair, Slide
from appliedpapers.plugins.virtual_inking.streaming import SlideSource
from appliedpapers.plugins.virtual_inking.tissue import Masks

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.virtual_inking.simulator_cautery import Section

_TRUTH_STEP = 4  # pixels of a known mask that become one


class SlideItem(ABC):
    """A slide with what is known of it.

    Attributes:
        slide_id: Its name.
        block: What it must not be parted from: its block, else its patient, else itself.
        kept: What was computed of it, by what it depends on.
    """

    def __init__(self, slide_id: str, block: str) -> None:
        self.slide_id, self.block = slide_id, block
        self.kept: dict[str, Any] = {}

    @property
    @abstractmethod
    def source(self) -> SlideSource:
        """How it is opened."""

    @abstractmethod
    def annotation(self, slide: Slide, labels: LabelConfig) -> Annotation:
        """Return what was drawn on it; nothing where it has no annotation."""

    @abstractmethod
    def digest(self) -> str:
        """Return a hash of pixels and annotation."""

    @abstractmethod
    def cell(self) -> str | bytes:
        """Return the slide as ``predict`` takes it."""

    def masks(self) -> Masks | None:
        """Return where the tissue is, if that is known; None lets it be looked for."""
        return None


class FileItem(SlideItem):
    """A user's slide."""

    def __init__(
        self,
        slide_id: str,
        block: str,
        path: Path,
        config: SlideConfig,
        *,
        mpp: float | None = None,
        annotation: Path | None = None,
    ) -> None:
        super().__init__(slide_id, block)
        self.path, self.drawn = path, annotation
        self._source = SlideSource(path, config, mpp, path.name)

    @property
    def source(self) -> SlideSource:
        """The file."""
        return self._source

    def annotation(self, slide: Slide, labels: LabelConfig) -> Annotation:
        """Read the annotation file."""
        return Annotation() if self.drawn is None else read_annotation(self.drawn, slide, labels)

    def digest(self) -> str:
        """Return a hash of both files."""
        files = [self.path, *([self.drawn] if self.drawn else [])]
        return hashlib.sha256(repr([file_fingerprint(file) for file in files]).encode()).hexdigest()

    def cell(self) -> str:
        """Return the path."""
        return str(self.path)


class MadeItem(SlideItem):
    """A slide that is made when it is asked for: simulated, or cut into real tissue.

    Args:
        slide_id: Its name.
        block: Its block.
        make: Makes it; the same each time.
        known_outline: Whether its tissue is taken as known.
    """

    def __init__(
        self, slide_id: str, block: str, make: Callable[[], Section], *, known_outline: bool = False
    ) -> None:
        super().__init__(slide_id, block)
        self._make, self._known = make, known_outline

    @cached_property
    def section(self) -> Section:
        """The slide and its truth."""
        return self._make()

    @property
    def source(self) -> SlideSource:
        """The raster."""
        return SlideSource(None, SlideConfig(), name=self.slide_id, raster=self._raster)

    def annotation(self, slide: Slide, labels: LabelConfig) -> Annotation:
        """Return cut edges as lines, and the band along them as areas."""
        from appliedpapers.plugins.virtual_inking.outline import closed_contours

        return Annotation(self.section.lines, tuple(closed_contours(self.section.cut, smooth=1.0)))

    def digest(self) -> str:
        """Return a hash of pixels and truth."""
        own = self.section
        return hashlib.sha256(own.rgb.tobytes() + own.cut.tobytes() + own.tissue.tobytes()).hexdigest()

    def cell(self) -> bytes:
        """Return the bytes of a pyramidal TIFF."""
        from appliedpapers.plugins.virtual_inking.pyramid_tiff import write_pyramid

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "slide.tif"
            write_pyramid(path, self.section.rgb, MPP)
            return path.read_bytes()

    def masks(self) -> Masks | None:
        """Return the true tissue where it is taken as known."""
        if not self._known:
            return None
        size = len(self.section.tissue) // _TRUTH_STEP * _TRUTH_STEP
        blocks = self.section.tissue[:size, :size].reshape(
            size // _TRUTH_STEP, _TRUTH_STEP, size // _TRUTH_STEP, _TRUTH_STEP
        )
        tissue = blocks.mean(axis=(1, 3)) >= 0.5
        mpp: Pair = (MPP[0] * _TRUTH_STEP, MPP[1] * _TRUTH_STEP)
        return Masks(tissue, np.zeros_like(tissue), mpp, 0)

    def _raster(self) -> ArraySlide:
        return ArraySlide(self.section.rgb, MPP, self.slide_id)


class SlideSplit(Split):
    """A part of a dataset; a row is a slide.

    Args:
        items: Its slides.
        synthetic: Whether their cuts are simulated.
    """

    def __init__(self, items: Sequence[SlideItem], *, synthetic: bool) -> None:
        self.items, self.synthetic = tuple(items), synthetic

    @property
    def num_rows(self) -> int:
        """Number of slides."""
        return len(self.items)

    def keys(self) -> pa.Table:
        """Return ``slide_id`` and ``block``."""
        import pyarrow as pa

        return pa.table(
            {
                "slide_id": pa.array([item.slide_id for item in self.items], pa.string()),
                "block": pa.array([item.block for item in self.items], pa.string()),
            }
        )

    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield names, blocks and the hash of each slide with its annotation."""
        import pyarrow as pa

        for start in range(0, len(self.items), max_rows):
            part = self.items[start : start + max_rows]
            yield pa.RecordBatch.from_pydict(
                {
                    "slide_id": pa.array([item.slide_id for item in part], pa.string()),
                    "block": pa.array([item.block for item in part], pa.string()),
                    "sha256": pa.array([item.digest() for item in part], pa.string()),
                }
            )

    def example(self, limit: int = 1) -> pa.Table:
        """Return up to ``limit`` slides as ``predict`` takes them."""
        import pyarrow as pa

        part = self.items[:limit]
        cells = [item.cell() for item in part]
        kind = pa.binary() if cells and isinstance(cells[0], bytes) else pa.string()
        return pa.table(
            {
                "slide_id": pa.array([item.slide_id for item in part], pa.string()),
                "slide": pa.array(cells, kind),
            }
        )

    def signatures(self) -> pa.Array:
        """Return the hash of each slide."""
        import pyarrow as pa

        return pa.array([item.digest() for item in self.items], pa.string())


def png_bytes(rgb: NDArray[np.uint8]) -> bytes:
    """Return an image as PNG."""
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(rgb).save(packed, "PNG")
    return packed.getvalue()
