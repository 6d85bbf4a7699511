"""The quality report that leaves with every product, as JSON for machines and HTML for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import appliedpapers
from appliedpapers.core.files import write_json, write_text
from appliedpapers.plugins.pansharpening.assessment import middle_window
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.products import Product
from appliedpapers.plugins.pansharpening.quality_measures import (
    AtFull,
    AtReduced,
    Looks,
    Registration,
    fine_window,
    measure_full,
    measure_reduced,
    measure_registration,
    take_looks,
)
from appliedpapers.plugins.pansharpening.quality_words import verdict, warnings
from appliedpapers.plugins.pansharpening.scene import Scene

if TYPE_CHECKING:
    from appliedpapers.plugins.pansharpening.model import Pansharpener

VERSION = 1
_DIGITS = 6


@dataclass(frozen=True)
class Quality:
    """What is known of a product. Arrays over bands are in file order.

    Attributes:
        config: What made the product.
        facts: Scene, method, grids and sensor, as JSON values.
        notes: What the user should know, of the scene and of the product.
        wavelengths: Band centres in nm, shape ``(B,)``; None where they are not known.
        dead: Bands that passed through, shape ``(B,)``.
        reports: How the adaptation to each band went; empty for classical methods.
        reduced: At reduced resolution; None where that was not asked for.
        full: At full resolution.
        registration: Of the pair.
        looks: Pictures and spectra; None where nothing was observed in the middle of the scene.
    """

    config: PansharpeningConfig
    facts: dict[str, Any]
    notes: tuple[str, ...]
    wavelengths: np.ndarray[Any, np.dtype[np.float64]] | None
    dead: np.ndarray[Any, np.dtype[np.bool_]]
    reports: Sequence[Mapping[str, Any]]
    reduced: AtReduced | None
    full: AtFull
    registration: Registration
    looks: Looks | None

    @property
    def method(self) -> str:
        """What sharpened the scene."""
        return self.config.method

    @property
    def flagged(self) -> list[dict[str, Any]]:
        """Bands that missed their target, or ended at a cap or a plateau, by wavelength."""
        found = []
        for report in self.reports:
            flags = ["target missed"] if report["missed"] else []
            flags += [report["ending"]] if report["ending"] != "finished" else []
            if flags:
                found.append({**self._named(report["band"]), **_adaptation(report), "flags": flags})
        return found

    @property
    def missed(self) -> int:
        """How many bands missed their spectral target."""
        return sum(bool(report["missed"]) for report in self.reports)

    def ergas_of(self, method: str) -> float | None:
        """Return a method's ERGAS at reduced resolution, or None where it is not known."""
        sums = None if self.reduced is None else self.reduced.methods.get(method)
        return None if sums is None else number(sums.values()["ergas"])

    def full_of(self, method: str) -> dict[str, float | None]:
        """Return a method's metrics at full resolution; empty where they are not known."""
        found = self.full.methods.get(method)
        return {} if found is None else _numbers(found.values())

    def row(self) -> dict[str, float | None]:
        """Return the columns of the output table; None where a value is not known."""
        full = self.full_of(self.method)
        return {
            "ergas": self.ergas_of(self.method),
            "ergas_exp": self.ergas_of("exp"),
            **{name: full.get(name) for name in ("d_lambda", "d_sr", "qnr")},
            "shift_pixels": number(self.registration.pixels),
        }

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "version": VERSION,
            "verdict": verdict(self),
            "warnings": warnings(self),
            **self.facts,
            "notes": list(self.notes),
            "reduced_resolution": self._reduced(),
            "full_resolution": {
                "window": None if self.full.window is None else self.full.window._asdict(),
                "missing": self.full.reason or None,
                "methods": {name: self.full_of(name) for name in self.full.methods},
            },
            "bands": self._bands(),
            "flagged_bands": self.flagged,
            "shift": self._shift(),
            "points": self._points(),
            "configuration": self.config.model_dump(mode="json"),
        }

    def _reduced(self) -> dict[str, Any] | None:
        if self.reduced is None:
            return None
        return {
            "protocol": "wald",
            "size": None if self.reduced.shape is None else list(self.reduced.shape),
            "missing": self.reduced.reason or None,
            "methods": {
                name: {
                    **_numbers(sums.values()),
                    "ranges": {key: _numbers(values) for key, values in sums.banded().items()},
                    "band_rmse": numbers(sums.band_rmse()),
                    "band_cc": numbers(sums.band_cc()),
                }
                for name, sums in self.reduced.methods.items()
            },
        }

    def _bands(self) -> list[dict[str, Any]]:
        table: list[dict[str, Any]] = [
            {**self._named(band), "dead": bool(dead)} for band, dead in enumerate(self.dead)
        ]
        ours = None if self.reduced is None else self.reduced.methods.get(self.method)
        if ours is not None:
            for line, rmse, cc in zip(table, ours.band_rmse(), ours.band_cc(), strict=True):
                line |= {"rmse": number(rmse), "cc": number(cc)}
        if self.method in self.full.methods:
            for line, rho in zip(table, self.full.methods[self.method].rho, strict=True):
                line["rho"] = number(rho)
        for report in self.reports:
            table[report["band"]] |= {**_adaptation(report), "missed": bool(report["missed"])}
        return table

    def _shift(self) -> dict[str, Any]:
        found = self.registration
        known = found.pixels is not None
        return {
            "pixels": number(found.pixels),
            "rows": number(found.estimate.row) if known else None,
            "columns": number(found.estimate.column) if known else None,
            "spread": number(found.estimate.spread) if known else None,
            "windows": len(found.estimate.windows),
            "fit": number(found.fit),
        }

    def _points(self) -> list[dict[str, Any]]:
        if self.looks is None:
            return []
        spectra = zip(self.looks.points, self.looks.coarse, self.looks.mean, self.looks.fine, strict=True)
        return [
            {
                **{"row": int(row), "column": int(column), "sensor": numbers(coarse)},
                **{"product_mean": numbers(mean), "product_pixel": numbers(fine)},
            }
            for (row, column), coarse, mean, fine in spectra
        ]

    def _named(self, band: int) -> dict[str, Any]:
        centre = None if self.wavelengths is None else number(self.wavelengths[band])
        return {"number": band + 1, "wavelength_nm": centre}


def assess_product(scene: Scene, product: Product, model: Pansharpener) -> Quality:
    """Judge a product for its quality report.

    Everything but the shift is measured on the middle of the scene, ``evaluation.crop`` pixels a side: only
    that is loaded. Parts that cannot be measured are left out with a note; none of them fails.

    Args:
        scene: The pair that was sharpened.
        product: What came out; its windows are read, nothing is sharpened again at full resolution.
        model: What sharpened it, which sharpens the coarser scene where ``output.quality`` is ``full``.
    """
    config = model.config
    coarse = middle_window(scene, config.evaluation.crop)
    window = fine_window(coarse, scene)
    part, cube = scene.cropped(coarse), product.window(window)
    full, looks = measure_full(part, cube, window, config), take_looks(part, cube, (coarse.top, coarse.left))
    del part, cube
    return Quality(
        config=config,
        facts=_facts(scene, config),
        notes=tuple(dict.fromkeys((*scene.notes, *product.notes))),
        wavelengths=scene.wavelengths,
        dead=np.asarray(scene.dead),
        reports=tuple(product.reports),
        reduced=measure_reduced(scene, model) if config.output.quality == "full" else None,
        full=full,
        registration=measure_registration(scene),
        looks=looks,
    )


def write_quality(quality: Quality, json_path: Path, html_path: Path) -> None:
    """Write the report; both files appear whole.

    Args:
        quality: From :func:`assess_product`.
        json_path: Where the document goes.
        html_path: Where the page goes.

    Raises:
        RunError: A folder is not writable, or the disk is full.
    """
    from appliedpapers.plugins.pansharpening.quality_page import page

    document = quality.document()
    write_json(json_path, document)
    write_text(html_path, page(quality, document))


def number(value: Any) -> float | None:
    """Return a value to six digits as JSON can hold it; None where it is not finite."""
    if value is None or not np.isfinite(value):
        return None
    return float(f"{float(value):.{_DIGITS}g}")


def numbers(values: Iterable[Any]) -> list[float | None]:
    """Return each value as :func:`number` does."""
    return [number(value) for value in values]


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: number(value) for name, value in values.items()}


def _adaptation(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader wants to know of the adaptation to a band."""
    target, baseline = report["target"], report["baseline"]
    return {
        "share": number(report["share"]),
        "target_share": number(target / baseline) if target is not None and baseline > 0 else None,
        "iterations": report["iterations"],
        "ending": report["ending"],
    }


def _facts(scene: Scene, config: PansharpeningConfig) -> dict[str, Any]:
    sensor = scene.optics.sensor
    gain = sensor.hs_gain
    known = scene.wavelengths
    return {
        "software": f"applied-papers {appliedpapers.__version__}",
        "scene_id": scene.scene_id,
        "method": config.method,
        "ratio": scene.optics.ratio,
        "phase": scene.optics.phase,
        "sensor": {
            "name": config.sensor.name,
            "hs_gain": numbers(gain) if isinstance(gain, tuple) else number(gain),
            "pan_gain": number(sensor.pan_gain),
        },
        "coarse_size": list(scene.coarse_shape),
        "fine_size": list(scene.fine_shape),
        "observed_share": number(scene.hs_valid.mean()),
        "band_count": scene.bands,
        "dead_bands": [int(band) + 1 for band in np.flatnonzero(scene.dead)],
        "wavelength_range_nm": None if known is None else [number(known.min()), number(known.max())],
    }
