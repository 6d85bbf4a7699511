"""Parts of a dataset that are whole specimens, and how specimens are dealt to train, valid and test."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import PARTS, Split
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN, Chromosomes, X, Y
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
from appliedpapers.plugins.varifocal_net.images import png_bytes
from appliedpapers.plugins.varifocal_net.listing import ReadChromosomes

if TYPE_CHECKING:
    import pyarrow as pa

LEAKS = "random-chromosomes"
"""Protocol of a split that lets chromosomes of one cell stand on both sides."""

_WARNING = (
    "chromosomes of one cell stand in train, valid and test: figures of this split are too good, and are no "
    "estimate for cells of new specimens"
)


class ChromosomeSplit(Split):
    """Labelled or unlabelled chromosomes; a row is one chromosome.

    Args:
        chromosomes: The images and what is known of them.
        synthetic: Whether they are simulated.
    """

    def __init__(self, chromosomes: Chromosomes, *, synthetic: bool = False) -> None:
        self.chromosomes, self.synthetic = chromosomes, synthetic

    @property
    def num_rows(self) -> int:
        """Number of chromosomes."""
        return len(self.chromosomes)

    def keys(self) -> pa.Table:
        """Return ``case``, ``chromosome`` and ``specimen``.

        Where no specimen is known the case stands for it, and where that is not known either, the chromosome:
        it is what may not stand on both sides of a split.
        """
        import pyarrow as pa

        return pa.table(
            {
                "case": pa.array(self.chromosomes.cases, pa.string()),
                "chromosome": pa.array(self.chromosomes.names, pa.string()),
                "specimen": pa.array(groups_of(self.chromosomes), pa.string()),
            }
        )

    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield ``pixels`` (row by row), ``height``, ``width``, and ``label``, ``polarity`` and ``fixed``."""
        import pyarrow as pa

        own = self.chromosomes
        keys = self.keys()
        for start in range(0, len(own), max_rows):
            part = slice(start, start + max_rows)
            images = own.images[part]
            columns = {
                name: keys.column(name).slice(start, max_rows).combine_chunks() for name in keys.column_names
            }
            columns["pixels"] = pa.array([image.tobytes() for image in images], pa.large_binary())
            for axis, name in enumerate(("height", "width")):
                columns[name] = pa.array([image.shape[axis] for image in images], pa.int32())
            for name in ("labels", "polarity", "fixed"):
                columns[name] = pa.array(getattr(own, name)[part])
            yield pa.RecordBatch.from_pydict(columns)

    def example(self, limit: int = 1) -> pa.Table:
        """Return up to ``limit`` cases as ``predict`` takes them; so many chromosomes where none is known."""
        import pyarrow as pa

        own = self.chromosomes
        cases = list(own.rows_by_case().values())[:limit]
        rows = np.concatenate(cases) if cases else np.arange(min(limit, len(own)))
        return pa.table(
            {
                "case": pa.array([own.cases[row] for row in rows], pa.string()),
                "chromosome": pa.array([own.names[row] for row in rows], pa.string()),
                "image": pa.array([png_bytes(own.images[row]) for row in rows], pa.binary()),
            }
        )

    def signatures(self) -> pa.Array:
        """Return the hash of each image's pixels and shape."""
        import pyarrow as pa

        return pa.array([_content(image) for image in self.chromosomes.images], pa.binary())

    def fingerprint(self) -> str:
        """Return the sha256 of names, pixels and labels."""
        own = self.chromosomes
        digest = hashlib.sha256()
        for row, image in enumerate(own.images):
            told = (own.cases[row], own.names[row], own.specimens[row])
            digest.update(repr(told).encode())
            digest.update(_content(image))
        for values in (own.labels, own.polarity, own.fixed):
            digest.update(np.ascontiguousarray(values.astype("<i2")).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Parts:
    """Chromosomes of each split, and how they were chosen.

    Attributes:
        train: What is learned from.
        valid: What is chosen on.
        test: What is judged on.
        protocol: Name of the rule; figures of two protocols are never compared.
        split_note: The rule and the sizes in one line.
        notes: What a reader of a result must know of it.
        disjoint: Column of the keys whose values stand in one part only.
    """

    train: Chromosomes
    valid: Chromosomes
    test: Chromosomes
    protocol: str
    split_note: str
    notes: tuple[str, ...] = ()
    disjoint: tuple[str, ...] = ("specimen",)


def split_chromosomes(chromosomes: Chromosomes, config: KaryotypeConfig) -> Parts:
    """Deal labelled chromosomes to train, valid and test by whole specimens.

    A split that the source states wins. Else specimens are dealt by ``valid_share`` and ``test_share``, in an
    order that depends on their names and the seed alone, kinds of karyotype (abnormal, male, female) in turn,
    so that each part gets its share of each. Where the specimen of no chromosome is known, cells are dealt.

    Raises:
        DataError: Nothing is labelled, a part would be empty, or cells shall be dealt and are not known.
        ConfigError: The shares leave nothing to learn from.
    """
    labelled: list[int] = np.flatnonzero(chromosomes.labels != UNKNOWN).tolist()
    if not labelled:
        raise DataError(
            "no chromosome has a type to learn from.",
            hint="Name files CASE/TYPE_N.png, or bring a manifest with the columns path and type.",
        )
    left_out = len(chromosomes) - len(labelled)
    notes = (f"{left_out:,} chromosomes without a type were left out",) if left_out else ()
    given = chromosomes.split if isinstance(chromosomes, ReadChromosomes) else ()
    chosen = chromosomes.take(labelled)
    if given:
        return _as_given(chosen, [given[row] for row in labelled], notes)
    return _dealt(chosen, config, notes)


def groups_of(chromosomes: Chromosomes) -> list[str]:
    """Return what each chromosome must not be parted from: its specimen, else its case, else nothing."""
    parts = zip(chromosomes.specimens, chromosomes.cases, chromosomes.names, strict=True)
    return [specimen or case or name for specimen, case, name in parts]


def _as_given(chromosomes: Chromosomes, split: Sequence[str], notes: tuple[str, ...]) -> Parts:
    parts = [[row for row, name in enumerate(split) if name == part] for part in PARTS]
    for name, rows in zip(PARTS, parts, strict=True):
        if not rows:
            raise DataError(
                f"the column 'split' leaves {name} without a labelled chromosome.",
                hint="Expected rows of train, valid and test, or no such column.",
            )
    return replace(_parts(chromosomes, parts, "own-split", "as the source says"), notes=notes)


def _dealt(chromosomes: Chromosomes, config: KaryotypeConfig, notes: tuple[str, ...]) -> Parts:
    wanted = config.data.split
    specimens = any(specimen is not None for specimen in chromosomes.specimens)
    cases = any(case is not None for case in chromosomes.cases)
    if wanted == "random" or not (specimens or cases):
        why = "data.split=random" if wanted == "random" else "neither specimens nor cells are known"
        groups = [f"{case} {name}" for case, name in zip(chromosomes.cases, chromosomes.names, strict=True)]
        parts = _parts(
            chromosomes, _deal(groups, chromosomes, config), LEAKS, f"chromosomes at random ({why})"
        )
        return replace(parts, notes=(*notes, f"{why}: {_WARNING}"), disjoint=())
    if specimens and not (wanted == "case" and cases):
        rows = _deal(groups_of(chromosomes), chromosomes, config)
        return replace(_parts(chromosomes, rows, "by-specimen", "whole specimens"), notes=notes)
    groups = [case or name for case, name in zip(chromosomes.cases, chromosomes.names, strict=True)]
    parts = _parts(chromosomes, _deal(groups, chromosomes, config), "by-case", "whole cells")
    why = "data.split=case" if specimens else "specimens are not known"
    more = f"{why}: cells of one specimen may stand on both sides of the split"
    # without specimens the key 'specimen' is the case
    disjoint = ("specimen",) if not specimens else ("case",) if all(chromosomes.cases) else ()
    return replace(parts, notes=(*notes, more), disjoint=disjoint)


def _deal(groups: Sequence[str], chromosomes: Chromosomes, config: KaryotypeConfig) -> list[list[int]]:
    """Return the rows of train, valid and test; each group whole, each part at least one group."""
    data = config.data
    shares = np.array([1 - data.valid_share - data.test_share, data.valid_share, data.test_share])
    if shares[0] <= 0:
        raise ConfigError(
            "data.valid_share and data.test_share leave nothing to learn from.", hint="Choose smaller shares."
        )
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows[group].append(row)
    if len(rows) < len(PARTS):
        raise DataError(
            f"{len(rows)} specimen{'s' * (len(rows) != 1)} to split; train, valid and test need one each.",
            hint="Bring three or more, name other cells' specimens, or split by --set data.split=case.",
        )
    kinds = _kinds(chromosomes, groups)
    order = sorted(rows, key=lambda group: (kinds[group], _draw(config.seed, group)))
    parts: list[list[str]] = [[], [], []]
    sizes = np.zeros(len(parts))
    for group in order:
        lacking = shares * (sizes.sum() + len(rows[group])) - sizes
        part = int(np.argmax(lacking))
        parts[part].append(group)
        sizes[part] += len(rows[group])
    _fill(parts)
    return [sorted(row for group in part for row in rows[group]) for part in parts]


def _fill(parts: list[list[str]]) -> None:
    """Give each empty part the last group of the part that has most."""
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())


def _kinds(chromosomes: Chromosomes, groups: Sequence[str]) -> dict[str, int]:
    """Return what the labels say of each group: 0 an abnormal cell among its cells, 1 male, 2 female."""
    kinds = dict.fromkeys(groups, 2)
    for rows in chromosomes.rows_by_case().values():
        counts = np.bincount(chromosomes.labels[rows], minlength=24)
        sexes = (int(counts[X]), int(counts[Y]))
        whole = bool((counts[:X] == 2).all()) and sexes in ((2, 0), (1, 1))
        kind = (1 if sexes[1] else 2) if whole else 0
        for row in rows:
            kinds[groups[row]] = min(kinds[groups[row]], kind)
    return kinds


def _parts(chromosomes: Chromosomes, rows: Sequence[Sequence[int]], protocol: str, unit: str) -> Parts:
    train, valid, test = (chromosomes.take(list(part)) for part in rows)
    sizes = [len(part.rows_by_case()) for part in (train, valid, test)]
    what = "cells"
    if not any(sizes):
        sizes, what = [len(part) for part in (train, valid, test)], "chromosomes"
    return Parts(train, valid, test, protocol, f"{unit}, {sizes[0]:,} : {sizes[1]:,} : {sizes[2]:,} {what}")


def _draw(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed} {group}".encode()).digest()


def _content(image: NDArray[np.uint8]) -> bytes:
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()
