"""Pictures that are drawn from committed results, without a run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliedpapers.core.figures import (
    BASELINE,
    MUTED,
    OURS,
    STRONGEST,
    TRUTH,
    Figure,
    finish,
    start,
    text_colour,
)
from appliedpapers.core.verdict import SIGNIFICANT

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
_GRAPHS = {
    "blogcatalog": OURS,
    "fb100_johnshopkins55": STRONGEST,
    "cora": TRUTH,
    "chameleon_filtered": BASELINE,
}
_MARKS = ("o", "s", "^", "D")


def routing() -> Figure:
    """Draw the accuracy of a mixture by the share of nodes that the dear expert sees, a line a graph."""
    cases = {case["name"]: case for case in _read("mowst")["cases"]}
    canvas, axes = start(height=3.4)
    said = []
    for (name, color), mark in zip(_GRAPHS.items(), _MARKS, strict=True):
        curves = [run["routing"]["curve"] for run in cases[name]["measured"] if "split" in run]
        shares = [
            100 * statistics.fmean(part["share"] for part in column) for column in zip(*curves, strict=True)
        ]
        scores = [
            100 * statistics.fmean(part["score"] for part in column) for column in zip(*curves, strict=True)
        ]
        axes.plot(shares, scores, color=color, marker=mark, markersize=4, linewidth=1.6)
        axes.annotate(
            name,
            (shares[-1], scores[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=text_colour(color),
            annotation_clip=False,
        )
        half = min(range(len(shares)), key=lambda number: abs(shares[number] - 50))
        said.append(
            f"{name} {scores[0]:.1f} % with none, {scores[half]:.1f} % with half, {scores[-1]:.1f} % with all"
        )
    axes.set(xlabel="nodes that the dear expert sees, %", ylabel="test accuracy, %", xlim=(-2, 101))
    return finish(
        canvas,
        name="mowst",
        title="Accuracy by share routed",
        alt=f"Accuracy of the mixture by the share of nodes that the dear expert sees: {'; '.join(said)}.",
        caption="Means over splits. A flat line says that the cheap expert knows where it is unsure.",
        synthetic=False,
    )


def matrix() -> Figure:
    """Draw each plugin's architectures beside its strongest baseline, a row a plugin."""
    document = _read("compare")
    parts, names = document["plugins"], list(document["architectures"])
    canvas, axes = start(height=0.95 * len(parts) + 0.6, rows=len(parts), squeeze=False)
    clear, chosen = 0, []
    for part, one in zip(parts, axes[:, 0], strict=True):
        _row(one, part)
        one.set_xticks(
            range(len(names)), names if part is parts[-1] else [""] * len(names), rotation=35, ha="right"
        )
        clear += part["best"] is not None
        chosen.append(
            next(f"{part['plugin']} {choice['spec']}" for choice in part["choices"] if choice["selected"])
        )
    return finish(
        canvas,
        name="results",
        title="Ten architectures in every plugin",
        alt=f"Ten architectures in {len(parts)} plugins: in {clear or 'none'} of them one is better than all "
        f"others by the test. Chosen on valid: {', '.join(chosen)}.",
        caption="Blue: mean over seeds, with its 95 % interval over test units; filled: chosen on valid. "
        "Orange diamonds differ from it, p below 0.05 after Holm's adjustment. Dashed: the strongest "
        "baseline.",
        synthetic=True,
    )


def _row(axes: Any, part: Mapping[str, Any]) -> None:
    for place, choice in enumerate(part["choices"]):
        if choice["value"] is None:
            continue
        apart = choice["adjusted_p"] is not None and choice["adjusted_p"] < SIGNIFICANT
        color = STRONGEST if apart else OURS
        if choice["low"] is not None:
            axes.plot([place, place], [choice["low"], choice["high"]], color=color, linewidth=1.2)
        face = color if choice["selected"] else "white"
        axes.plot(
            place,
            choice["value"],
            marker="D" if apart else "o",
            markersize=5,
            color=color,
            markerfacecolor=face,
        )
    sign = -1 if part["higher_is_better"] else 1
    known = [one for one in part["baselines"] if one["attainable"] and one["value"] is not None]
    if known:
        best = min(known, key=lambda one: sign * one["value"])
        axes.axhline(best["value"], color=MUTED, linestyle="--", linewidth=1)
    values = [choice["value"] for choice in part["choices"] if choice["value"] is not None]
    middle, ends = statistics.median(values), [choice["high"] for choice in part["choices"] if choice["high"]]
    # one that went astray would press all others into a line
    if ends and not part["higher_is_better"] and max(ends) > 4 * middle > 0:
        axes.set_ylim(0, 3 * middle)
    arrow = "higher" if part["higher_is_better"] else "lower"
    axes.set_title(
        f"{part['plugin']}: {part['metric']}, {arrow} is better", fontsize=9, loc="left", color=MUTED
    )


def _read(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))
