"""Entries of convolutions, recurrent cells, selectable and quantum-inspired KANs, vision and attention."""

from __future__ import annotations

from appliedpapers.nn.registry import Entry

_CONV = "Kolmogorov-Arnold convolutions, arXiv 2406.13155"


def _kan_conv(number: int, what: str) -> Entry:
    return Entry(
        name=f"kan-conv{number}d",
        kind="conv",
        target=f"appliedpapers.nn.kan_conv:KANConv{number}d",
        formula="prelu(norm(conv(phi_1(x), ..., phi_n(x)) + base_conv(silu(x))))",
        parameters=f"C·O·k^{number}·(n + 1)/groups + 4 O, C and O channels, n as for kan-linear",
        use=f"Few-channel {what} whose values act non-linearly before they are summed.",
        avoid="As a default: n + 1 times the weights and work of conv for small published gains.",
        source=_CONV,
        aliases=(f"kanconv-{number}d",),
        example={"in_channels": 2, "out_channels": 4},
    )


def _conv(number: int, what: str) -> Entry:
    return Entry(
        name=f"conv{number}d",
        kind="conv",
        target=f"appliedpapers.nn.kan_conv:ConvLayer{number}d",
        formula="act(norm(conv(x)))",
        parameters=f"C·O·k^{number}/groups + 3 O, C and O channels",
        use=f"The baseline for {what}.",
        avoid="Nowhere as a baseline.",
        aliases=(f"conv-layer{number}d", *(("conv",) if number == 2 else ())),
        example={"in_channels": 2, "out_channels": 4},
    )


_CONVOLUTIONS = tuple(
    make(number, what)
    for number, what in ((1, "sequences"), (2, "images"), (3, "volumes"))
    for make in (_conv, _kan_conv)
)

_CELLS = (
    Entry(
        name="lstm",
        kind="cell",
        target="appliedpapers.nn.tkan:LSTMCell",
        formula="c = f c + i g, h = o tanh(c)",
        parameters="4 H (I + H + 2)",
        use="The baseline for sequences with long memory.",
        avoid="Long sequences that can be read in parallel.",
        source="Hochreiter and Schmidhuber 1997",
        example={"input_size": 3, "hidden_size": 4},
    ),
    Entry(
        name="gru",
        kind="cell",
        target="appliedpapers.nn.tkan:GRUCell",
        formula="h = (1 - z) n + z h",
        parameters="3 H (I + H + 2)",
        use="As lstm with a quarter less weights.",
        avoid="Where counting matters; lstm does it better.",
        source="Cho et al. 2014, arXiv 1406.1078",
        example={"input_size": 3, "hidden_size": 4},
    ),
    Entry(
        name="tkan-cell",
        kind="cell",
        target="appliedpapers.nn.tkan:TKANCell",
        formula="c = f c + i g, h = sigmoid(W_o [KAN_l(x A_l + s_l C_l)]_l + b_o) tanh(c)",
        parameters="H (3 I + 3 H + 4) + L S (I + S (n + 2) + H + 3), S = sub_features, n as for kan-linear",
        use="Short sequences whose output gate depends on the input by smooth curves.",
        avoid="Long sequences: a step costs several of lstm, and results are the authors' own.",
        source="Genet and Inzirillo 2024, arXiv 2405.07344",
        aliases=("tkan",),
        example={"input_size": 3, "hidden_size": 4},
    ),
    Entry(
        name="tkan-sequence",
        kind="block",
        target="appliedpapers.nn.tkan:TKAN",
        formula="tkan-cell along the axis before the last",
        parameters="as tkan-cell",
        use="tkan-cell over whole sequences: what needs no state is computed for all steps at once.",
        avoid="As tkan-cell.",
        source="Genet and Inzirillo 2024, arXiv 2405.07344",
        aliases=("tkan-layer",),
        example={"input_size": 3, "hidden_size": 4},
    ),
)

_LAYERS = (
    Entry(
        name="s-kan",
        kind="network",
        target="appliedpapers.nn.selectable_kan:SelectableKAN",
        formula="s-kan-linear for each width",
        parameters="Σ O (I (n + 1) + m + 1), n functions of all m families; pruned: those of one family",
        use="When the family of functions is unknown; after pruning each output costs as one family.",
        avoid="Short training: all families are trained first, at several times the cost of kan.",
        source="Yang et al. 2024, arXiv 2408.08338",
        aliases=("selectable-kan",),
        example={"in_features": 4, "out_features": 3, "hidden": (5,)},
    ),
    Entry(
        name="s-kan-linear",
        kind="layer",
        target="appliedpapers.nn.selectable_kan:SelectableKANLinear",
        formula="y_o = sum_m softmax(s_o)_m sum_i f_omi(x_i) + sum_i b_oi silu(x_i) + bias_o",
        parameters="O (I (n + 1) + m + 1), n functions of all m families",
        use="The layer of s-kan, for networks of your own.",
        avoid="As s-kan.",
        source="Yang et al. 2024, arXiv 2408.08338",
        aliases=("selectable-kan-linear",),
        example={"in_features": 4, "out_features": 3},
    ),
    Entry(
        name="af-kan",
        kind="layer",
        target="appliedpapers.nn.af_kan:AFKAN",
        formula="Linear(silu(LN(r))), r_i = softmax_i(Linear(F_i)) sum_g F_ig, F = f(act(x - l), act(h - x))",
        parameters="(I + 1) O + 2 I + grid + order + 1",
        use="The shape of KAN at the parameters of a linear layer.",
        avoid="Inputs far beyond [0, 1], where the functions say little; when speed counts.",
        source="Ta et al. 2025, arXiv 2503.06112",
        example={"in_features": 4, "out_features": 3},
    ),
    Entry(
        name="kan-autoencoder",
        kind="network",
        target="appliedpapers.nn.kan_autoencoder:KANAutoencoder",
        formula="KAN -> relu -> Linear -> code -> Linear -> relu -> KAN",
        parameters="2 I h (n + 1) + 2 h z + 2 h + z + I, h = hidden, z = latent, n as for kan-linear",
        use="Codes of smooth low-dimensional data.",
        avoid="Images: plain convolutions do better at a fraction of the cost.",
        source="arXiv 2410.02077",
        aliases=("kan-ae",),
        presets={"kae": {"layer": "polynomial"}},
        example={"in_features": 6, "latent": 2, "hidden": (5,)},
    ),
    Entry(
        name="polynomial-linear",
        kind="layer",
        target="appliedpapers.nn.kan_autoencoder:PolynomialLinear",
        formula="y_o = sum_i sum_d c_oid x_i^d + bias_o",
        parameters="I·O·order + O",
        use="Bounded inputs and targets that are low polynomials; the layer of kae.",
        avoid="Unbounded inputs: powers explode.",
        source="Yu et al. 2025, arXiv 2501.00420 (KAE)",
        aliases=("poly-kan-linear",),
        example={"in_features": 4, "out_features": 3},
    ),
    Entry(
        name="daruan",
        kind="activation",
        target="appliedpapers.nn.daruan:DARUAN",
        formula="w <Z> + b of a qubit turned reps times by Rz(theta) Ry(theta) Rz(w x + b)",
        parameters="C (4 reps + 4)",
        use="Periodic structure of several unknown frequencies, with a handful of weights for a feature.",
        avoid="Trends and unbounded targets: the function is periodic and bounded.",
        source="Jiang et al. 2025, arXiv 2509.14026 (QKAN)",
        example={"in_features": 4},
    ),
    Entry(
        name="qkan-linear",
        kind="layer",
        target="appliedpapers.nn.daruan:QKANLinear",
        formula="y_o = sum_i [ b_oi silu(x_i) + w_oi daruan_oi(x_i) ] + bias_o",
        parameters="I·O·(4 reps + 4) + O",
        use="Few inputs with oscillations, when weights are to be few.",
        avoid="Wide layers: every edge is evaluated for every row, no product of matrices does it.",
        source="Jiang et al. 2025, arXiv 2509.14026",
        aliases=("qkan",),
        example={"in_features": 4, "out_features": 3},
    ),
    Entry(
        name="mixshift2d",
        kind="block",
        target="appliedpapers.nn.mixshift:MixShift2d",
        formula="x + gamma MLP(LN(sum over both axes of dwconv_i(roll(chunk_i, s_i))))",
        parameters="2 Σ C_i (k_i² + 1) + 2 C + (C + 1) h + (h + 1) C + C, C channels, h = hidden_features",
        use="Images where near and far regions matter and attention is too dear.",
        avoid="Small maps, where rolled borders meet: the block takes opposite edges for neighbours.",
        source="Zheng et al. 2022, arXiv 2202.06510 (MS-MLP)",
        aliases=("mix-shift", "ms-mlp"),
        example={"in_features": 5},
    ),
    Entry(
        name="karat",
        kind="attention",
        target="appliedpapers.nn.karat:KArAt",
        formula="W KAN(a) for each row a of scores, Fourier edges R^N -> R^r, linear R^r -> R^N",
        parameters="heads (2 grid N r + r + r N)",
        use="Experiments with attention over a fixed number of tokens.",
        avoid="Masks, causal attention, padding and other lengths: it can do none; results are unverified.",
        source="Maity et al. 2025, arXiv 2503.10632",
        aliases=("kan-attention",),
        example={"length": 6, "rank": 3},
    ),
)

ENTRIES: tuple[Entry, ...] = (*_CONVOLUTIONS, *_CELLS, *_LAYERS)
