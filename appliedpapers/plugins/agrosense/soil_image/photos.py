"""Photos with what is known of them, and their features, which are computed once for all folds and rivals."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.images import content_of
from appliedpapers.plugins.agrosense.soil_image.eyes import Eye
from appliedpapers.plugins.agrosense.soil_image.views import Pixels, Source, view_of

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

NO_SOIL = -1
"""Label of a photo that is known to show no soil."""


@dataclass(frozen=True)
class Photos:
    """Photos of soil, by rows.

    Attributes:
        sources: A path, or the content of a file.
        names: What messages and keys call them; each once.
        labels: Index into ``classes``, or :data:`NO_SOIL`, int64 ``(n,)``.
        classes: Names of the soils.
        fields: The field that a photo shows, whose photos are answered together; None stands alone.
        groups: What must stay on one side of a split, int64 ``(n,)``: near-duplicates, and photos of a field.
    """

    sources: tuple[Source, ...]
    names: tuple[str, ...]
    labels: Labels
    classes: tuple[str, ...]
    fields: tuple[str | None, ...]
    groups: Labels = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        if not self.groups.size:
            object.__setattr__(self, "groups", np.arange(len(self.names)))

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int] | Labels) -> Photos:
        """Return some of the photos, in the order of ``rows``."""
        return replace(
            self,
            sources=tuple(self.sources[row] for row in rows),
            names=tuple(self.names[row] for row in rows),
            labels=self.labels[list(rows)],
            fields=tuple(self.fields[row] for row in rows),
            groups=self.groups[list(rows)],
        )

    def soil(self) -> Photos:
        """Return the photos that show soil of a known class."""
        return self.take(np.flatnonzero(self.labels != NO_SOIL))

    def joined(self, other: Photos) -> Photos:
        """Return both, of which no group may be in common by chance: groups are of one dataset."""
        return replace(
            self,
            sources=self.sources + other.sources,
            names=self.names + other.names,
            labels=np.concatenate([self.labels, other.labels]),
            fields=self.fields + other.fields,
            groups=np.concatenate([self.groups, other.groups]),
        )

    def views(self) -> Iterator[Pixels]:
        """Yield the photos as they are looked at, one at a time.

        Raises:
            DataError: One cannot be read.
        """
        for source, name in zip(self.sources, self.names, strict=True):
            yield view_of(source, name)

    def digests(self) -> list[bytes]:
        """Return the sha256 of each file."""
        return [
            hashlib.sha256(content_of(source, name)).digest()
            for source, name in zip(self.sources, self.names, strict=True)
        ]


class Memory:
    """Features of photos by their content, the newest of them: folds, rivals and figures ask again.

    Args:
        most: How many rows are kept.
    """

    def __init__(self, most: int = 12_000) -> None:
        self._most = most
        self._rows: OrderedDict[tuple[str, bytes], NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def features(self, photos: Photos, eye: Eye, seen: Callable[[], None] | None = None) -> Floats:
        """Return what an eye sees in photos, float64 ``(n, eye.size)``; float32 where it is kept.

        Raises:
            DataError: A photo cannot be read.
        """
        place = f"{eye.name} {eye.identity()}"
        found = np.empty((len(photos), eye.size))
        for row, digest in enumerate(photos.digests()):
            key = (place, digest)
            with self._lock:
                known = self._rows.get(key)
            if known is None:
                view = view_of(photos.sources[row], photos.names[row])
                known = eye.look([view])[0].astype(np.float32)
                with self._lock:
                    self._rows[key] = known
                    while len(self._rows) > self._most:
                        self._rows.popitem(last=False)
            found[row] = known
            if seen is not None:
                seen()
        return found


MEMORY = Memory()
"""Of this process. Predictions do not write to it."""
