"""Entries of the Kolmogorov-Arnold family."""

from __future__ import annotations

from appliedpapers.nn.registry import Entry

_KAN = "KAN, arXiv 2404.19756"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="kan",
        kind="network",
        target="appliedpapers.nn.kan:KAN",
        formula="kan-linear for each step of the widths in, *hidden, out; with multiply, products of pairs",
        parameters="Σ width_in (width_out + multiply) (n + 1) + width_out + multiply, n as for kan-linear",
        use="Smooth functions of few inputs; curves that are to be read, pruned or named by a formula.",
        avoid="Images, text, one-hot columns, latency: an mlp is several times faster and as good there.",
        source=_KAN + "; products from KAN 2.0, arXiv 2408.10205; matrixkan is the same function as bspline "
        "(MatrixKAN, arXiv 2502.07176, evaluates it by cells), so the name is an alias",
        presets={
            "bspline-kan": {"basis": "bspline"},
            "matrixkan": {"basis": "bspline"},
            "efficient-kan": {"basis": "bspline", "scaling": "spline"},
            "pykan": {"basis": "bspline", "scaling": "edge"},
            "fastkan": {"basis": "rbf"},
            "chebykan": {"basis": "chebyshev"},
            "fourierkan": {"basis": "fourier"},
        },
        example={"in_features": 6, "out_features": 3, "hidden": (8,)},
    ),
    Entry(
        name="kan-linear",
        kind="layer",
        target="appliedpapers.nn.kan_linear:KANLinear",
        formula="y_o = sum_i [ b_oi silu(x_i) + sum_j c_joi phi_j(x_i) ] + bias_o",
        parameters="in out (n + 1) + out, n = grid + order (bspline) or grid (rbf, + 2 in for its norm); "
        "without silu in out n + out, n = grid + 1 (chebyshev) or 2 grid (fourier)",
        use="Few smooth inputs, targets that are sums of curves, or when each curve is to be read.",
        avoid="Images, one-hot inputs and rough targets: n + 1 times the weights of linear, often no gain.",
        source=_KAN + ", section 2.2",
        example={"in_features": 6, "out_features": 4},
    ),
)
