"""Entries of the activations with parameters of their own."""

from __future__ import annotations

from appliedpapers.nn.registry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="snake",
        kind="activation",
        target="appliedpapers.nn.activations:Snake",
        formula="x + sin²(a x) / a",
        parameters="in_features",
        use="Periodic signals that must go on outside the training range: audio, seasons, rotations.",
        avoid="Aperiodic tables, where it only adds local minima.",
        source="Ziyin et al. 2020, arXiv 2006.08195",
        example={"in_features": 4},
    ),
    Entry(
        name="cauchy",
        kind="activation",
        target="appliedpapers.nn.activations:Cauchy",
        formula="(λ1 x + λ2) / (x² + d²)",
        parameters="3 (3 in_features with per_feature)",
        use="Smooth low-dimensional functions with sharp local features, such as fronts in PDE solutions.",
        avoid="Deep stacks: the output goes to 0 far from the origin, and gradients with it.",
        source="Li, Xia and Zhang 2024, arXiv 2409.19221 (XNet)",
        aliases=("xnet",),
        example={"in_features": 4},
    ),
    Entry(
        name="polyrelu",
        kind="activation",
        target="appliedpapers.nn.activations:PolyReLU",
        formula="Σ w_i relu(x)^i + b",
        parameters="order + 1",
        use="Shallow blocks that should learn products of features; put a norm before it.",
        avoid="Inputs of large scale: a cubic grows without bound.",
        source="Zhuo et al. 2024, arXiv 2411.03884 (PolyCom)",
        example={"in_features": 4},
    ),
    Entry(
        name="polynorm",
        kind="activation",
        target="appliedpapers.nn.activations:PolyNorm",
        formula="Σ w_i x^i / rms(x^i) + b",
        parameters="order + 1",
        use="As polyrelu in deep stacks and half precision: each power is normalised over the features.",
        avoid="Where the scale of a row matters, which the normalisation takes away, or one feature alone.",
        source="Zhuo et al. 2024, arXiv 2411.03884 (PolyCom)",
        aliases=("polycom",),
        example={"in_features": 4},
    ),
    Entry(
        name="rational",
        kind="activation",
        target="appliedpapers.nn.rational:GroupRational",
        formula="Σ_{i≤5} a_i x^i / (1 + Σ_{i≤4} |b_i| |x|^i), the denominator per group of features",
        parameters="6 + 4 groups",
        use="Wide layers where the shape of the activation should be learned at the price of an activation.",
        avoid="Tight latency in eager mode: some five times the time of GELU; compile it.",
        source="Yang and Wang 2024, arXiv 2409.10594 (KAT); Molina et al. 2019, arXiv 1907.06732 (Padé)",
        aliases=("pade", "group-rational", "pau"),
        presets={"safe-pade": {"version": "B"}},
        example={"in_features": 8, "groups": 4},
    ),
)
