"""Entries: mixtures of experts."""

from __future__ import annotations

from appliedpapers.nn.registry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="mowst",
        kind="network",
        target="appliedpapers.nn.mowst:ConfidenceGatedMixture",
        formula="y = c p_weak + (1 - c) p_strong, c = gate(dispersion of p_weak)",
        parameters="those of both experts + the gate: 2h + 3h + h + 1 for the MLP gate of 2 layers, h = 64",
        use="A cheap classifier is often right and a dear one is worth calling only where it is unsure.",
        avoid="For accuracy alone: on none of our graphs did the gate beat the better of average, constant "
        "weight and fine-tuned expert beyond noise; in regression, unless the weak expert gives a variance.",
        source="arXiv 2311.05185, section 2",
        aliases=("confidence-gated-mixture",),
        presets={"mowst-star": {"mode": "star"}},
        example={
            "weak": "mlp",
            "strong": "mlp",
            "in_features": 6,
            "out_features": 3,
            "gate_hidden": 8,
        },
    ),
)
