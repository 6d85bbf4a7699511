"""Entries of the Kolmogorov-Arnold family."""

from __future__ import annotations

from appliedpapers.nn.registry import Entry

_KAN = "KAN, arXiv 2404.19756"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="kan-linear",
        kind="layer",
        target="appliedpapers.nn.kan_linear:KANLinear",
        formula="y_o = sum_i [ b_oi silu(x_i) + sum_j c_joi phi_j(x_i) ] + bias_o",
        parameters="I·O·(n + 1) + O, with n = grid + order (bspline), grid (rbf), grid + 1 (chebyshev, no silu), "
        "2·grid (fourier, no silu)",
        use="Few smooth inputs, targets that are sums and products of curves, or when each curve is to be read.",
        avoid="Images, one-hot inputs and rough targets: n + 1 times the weights of a linear layer, often no gain.",
        source=_KAN + ", section 2.2",
        example={"in_features": 6, "out_features": 4},
    ),
)
