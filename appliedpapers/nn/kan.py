"""Kolmogorov-Arnold networks: stacks of :class:`~appliedpapers.nn.kan_linear.KANLinear`.

Sources: KAN (arXiv 2404.19756), sections 2.2 and 2.5; multiplication nodes and importance from KAN 2.0
(arXiv 2408.10205).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from appliedpapers.nn.basis import Outside
from appliedpapers.nn.kan_grid import GridReport
from appliedpapers.nn.kan_linear import KANLinear, Path, Scaling
from appliedpapers.nn.kan_prune import PruneReport, connected, edge_scores, factors, moments
from appliedpapers.nn.mlp import layer_widths
from appliedpapers.nn.module import Module, check_features, check_positive

if TYPE_CHECKING:
    from appliedpapers.nn.symbolic import CurveFit


class KAN(Module):
    """A KANLinear for each step of the widths ``in_features, *hidden, out_features`` (KAN, eq. 2.7).

    With ``multiply``, the last nodes of each hidden layer are products of two sums of curves (KAN 2.0);
    the other nodes are sums.

    After training: :meth:`update` moves the grids to the data, :meth:`refine` makes them finer at equal
    functions, :meth:`prune` takes away what does not matter, :meth:`symbolic` names the formula of an edge.

    Args:
        in_features: Inputs.
        out_features: Outputs.
        hidden: Widths of the hidden layers, or one width; ``()`` for a sum of curves of single inputs.
        multiply: How many nodes of each hidden layer are products, one number or one for each.
        basis: ``bspline``, ``rbf``, ``chebyshev`` or ``fourier``, see :class:`KANLinear`; so with the others.
        grid: Cells, centres, degree or frequencies; by default 5, 8, 5, 5.
        order: Order of the B-splines.
        domain: Initial domain of the splines of every layer, or first and last centre.
        base: Whether there is a silu branch; by default for ``bspline`` and ``rbf``.
        scaling: ``none``, ``spline`` or ``edge``.
        outside: ``linear``, ``clamp`` or ``zero``, for B-splines.
        smooth: Divide the initial coefficients of frequency k by k^2 (``fourier``).
        reg: Weight of the regularisation in :meth:`aux_loss`.
        path: How the layers compute.
        bias: Whether the layers have a bias.
        device: Where the parameters live.
        dtype: Their dtype.

    Shape:
        - input: ``(..., in_features)`` floating point
        - output: ``(..., out_features)``

    Raises:
        ValueError: An option is out of range, or the last axis of the input is not ``in_features``.

    Examples:
        >>> net = KAN(2, 1, hidden=(5,), grid=5)
        >>> net(torch.zeros(8, 2)).shape
        torch.Size([8, 1])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden: int | Sequence[int] = (64,),
        multiply: int | Sequence[int] = 0,
        basis: str = "bspline",
        grid: int | None = None,
        order: int = 3,
        domain: tuple[float, float] | None = None,
        base: bool | None = None,
        scaling: Scaling = "none",
        outside: Outside = "linear",
        smooth: bool = False,
        reg: float = 0.0,
        path: Path = "auto",
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("KAN", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.hidden = layer_widths("KAN", hidden)
        self.products = (*_products(multiply, self.hidden), 0)
        widths = (in_features, *self.hidden, out_features)
        options: dict[str, Any] = {
            "basis": basis,
            "grid": grid,
            "order": order,
            "domain": domain,
            "base": base,
            "scaling": scaling,
            "outside": outside,
            "smooth": smooth,
            "reg": reg,
            "path": path,
            "bias": bias,
            "device": device,
            "dtype": dtype,
        }
        self.layers = nn.ModuleList(
            KANLinear(widths[number], widths[number + 1] + count, **options)
            for number, count in enumerate(self.products)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        check_features(x, self.in_features, self)
        for layer, count in zip(self.layers, self.products, strict=True):
            x = _nodes(layer(x), count)
        return x

    def reset_parameters(self) -> None:
        """Draw the weights of every layer anew."""
        for layer in self._kan_layers():
            layer.reset_parameters()

    def regularization(self, x: Tensor, **weights: float) -> Tensor:
        """Return the penalty of KAN (eq. 2.20) on a batch, summed over the layers.

        Args:
            x: ``(..., in_features)``.
            weights: See :func:`~appliedpapers.nn.kan_penalty.penalty`.
        """
        total = x.new_zeros(())
        for layer, count in zip(self._kan_layers(), self.products, strict=True):
            total = total + layer.regularization(layer.activity(x), **weights)
            x = _nodes(layer(x), count)
        return total

    def weight_regularization(self, sparsity: float = 1.0, entropy: float = 1.0) -> Tensor:
        """Return the penalty on coefficients, summed over the layers; it needs no batch."""
        terms = [layer.weight_regularization(sparsity, entropy) for layer in self._kan_layers()]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def update(
        self, x: Tensor, *, uniform_share: float = 0.02, max_drift: float = 0.02
    ) -> tuple[GridReport, ...]:
        """Move the grid of every layer to what reaches it from a sample; other bases do nothing.

        Layer by layer, each on what the layers before it, already updated, make of the sample. Best before
        training and early in it: what was learned in fine detail may not fit on as many cells elsewhere.

        Args:
            x: Sample ``(..., in_features)``; rows with values that are not finite are left out.
            uniform_share: Share of the uniform grid; the rest follows the quantiles.
            max_drift: Largest relative change of the network's output on the sample; a layer whose new
                grid would change it more keeps the old one.

        Returns:
            A report for each layer, with the share of its input that lay outside the old grid.
        """
        rows = _finite(x, self.in_features)
        reports: list[GridReport] = []
        before = self(rows)
        state = rows
        for layer, count in zip(self._kan_layers(), self.products, strict=True):
            knots, weight = getattr(layer.basis, "knots", None), layer.weight.clone()
            report = layer.update(state, uniform_share=uniform_share, max_drift=max_drift)
            if report.updated and knots is not None:
                moved = relative_change(before, self(rows))
                if not moved <= max_drift:
                    layer.weight.copy_(weight)
                    layer.basis.set_knots(knots, knots.device, layer.basis.change.dtype)  # type: ignore[operator]
                    report = dataclasses.replace(report, drift=moved, updated=False)
            reports.append(report)
            state = _nodes(layer(state), count)
        return tuple(reports)

    def refine(self, grid: int) -> None:
        """Change the number of cells in every layer, the functions staying as they are (KAN, section 2.5).

        The coefficients become new parameters, so optimisers must be made anew. Functions are kept exactly
        where ``grid`` is a multiple of the present number of cells, else up to a least-squares fit.

        Raises:
            ValueError: The basis has no grid, or ``grid`` is not positive.
        """
        for layer in self._kan_layers():
            layer.refine(grid)
        self.__dict__["_remembered"]["grid"] = grid

    @torch.no_grad()
    def prune(self, threshold: float, x: Tensor, *, nodes: float | None = None) -> PruneReport:
        """Switch off edges and nodes that hardly matter on a sample, and what they leave dangling.

        Outputs have importance 1; an edge has the share of its node's spread times the node's importance,
        a node the sum over the edges that leave it. The mean of an edge that goes is added to the bias.

        Args:
            threshold: Edges of at most this importance go.
            x: Sample ``(..., in_features)``.
            nodes: Inputs and hidden nodes of at most this importance go; by default ``threshold``.

        Returns:
            What is left, and how much the output changed.

        Raises:
            ValueError: The sample has fewer than 2 finite rows.
        """
        rows = _finite(x, self.in_features)
        if len(rows) < 2:
            raise ValueError(f"KAN: pruning needs a sample of at least 2 finite rows, got {len(rows)}")
        keeps = self._important(rows, threshold, threshold if nodes is None else nodes)
        before = self(rows)
        state = rows
        for layer, keep, count in zip(self._kan_layers(), keeps, self.products, strict=True):
            if layer.bias is not None:
                gone = (layer.mask != 0) & ~keep
                layer.bias.add_((moments(layer, state)[0] * gone).sum(1).to(layer.bias))
            layer.prune(keep)
            state = _nodes(layer(state), count)
        used = [keep.any(0) for keep in keeps]
        return PruneReport(
            edges=tuple(int(keep.sum()) for keep in keeps),
            nodes=(*(int(node.sum()) for node in used), int(keeps[-1].any(1).sum())),
            inputs=self.active_inputs(),
            drift=relative_change(before, state),
        )

    def active_inputs(self) -> tuple[int, ...]:
        """Return the indices of the inputs from which edges lead to an output.

        With ``basis="rbf"`` the layer norm still mixes the inputs of a layer, so there an input without an
        edge acts through the norm.
        """
        keeps = connected([layer.mask != 0 for layer in self._kan_layers()], self.products)
        return tuple(keeps[0].any(0).nonzero().flatten().tolist())

    @torch.no_grad()
    def curve(self, layer: int, output: int, input: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what an edge receives and what it contributes on a sample, each ``(rows,)``.

        Args:
            layer: Number of the layer, from 0.
            output: Output of that layer; with ``multiply``, factors are outputs of their own.
            input: Input of that layer.
            x: Sample ``(..., in_features)`` of the network.

        Raises:
            IndexError: There is no such edge.
        """
        layers = self._kan_layers()
        if not 0 <= layer < len(layers):
            raise IndexError(f"KAN: there is no layer {layer}, it has {len(layers)}, numbered from 0")
        chosen = layers[layer]
        outputs, inputs = chosen.out_features, chosen.in_features
        if not (0 <= output < outputs and 0 <= input < inputs):
            raise IndexError(
                f"KAN: layer {layer} has no edge from input {input} to output {output}; "
                f"it has {inputs} inputs and {outputs} outputs, numbered from 0"
            )
        state = _finite(x, self.in_features)
        for number in range(layer):
            state = _nodes(self.layers[number](state), self.products[number])
        blocks = torch.split(state, max((1 << 22) // (outputs * inputs), 16))
        return state[:, input], torch.cat([chosen.edges(block)[:, output, input] for block in blocks])

    def symbolic(self, layer: int, output: int, input: int, x: Tensor, **options: Any) -> CurveFit:
        """Find a formula for an edge, see :func:`~appliedpapers.nn.symbolic.fit_curve`.

        Args:
            layer: Number of the layer, from 0.
            output: Output of that layer.
            input: Input of that layer.
            x: Sample ``(..., in_features)`` of the network.
            options: Of ``fit_curve``: ``candidates`` and ``complexity``.

        Raises:
            IndexError: There is no such edge.
        """
        from appliedpapers.nn.symbolic import fit_curve

        return fit_curve(*self.curve(layer, output, input, x), **options)

    @classmethod
    def from_efficient_kan(cls, state: Mapping[str, Tensor]) -> KAN:
        """Make a network of the state of an efficient-kan model, see :mod:`appliedpapers.nn.importers`."""
        from appliedpapers.nn.importers import from_efficient_kan

        return from_efficient_kan(state)

    @classmethod
    def from_pykan(cls, state: Mapping[str, Tensor]) -> KAN:
        """Make a network of the state of a pykan model, see :mod:`appliedpapers.nn.importers`."""
        from appliedpapers.nn.importers import from_pykan

        return from_pykan(state)

    def extra_repr(self) -> str:
        """Return the sizes."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, hidden={self.hidden}"
        return f"{sizes}, multiply={self.products[:-1]}" if any(self.products) else sizes

    def _kan_layers(self) -> list[KANLinear]:
        return list(self.layers)  # type: ignore[arg-type]

    def _important(self, rows: Tensor, threshold: float, nodes: float) -> list[Tensor]:
        states = [rows]
        outputs: list[Tensor] = []
        layers = self._kan_layers()
        for layer, count in zip(layers, self.products, strict=True):
            outputs.append(layer(states[-1]))
            states.append(_nodes(outputs[-1], count))
        importance = torch.ones(self.out_features, dtype=torch.float64, device=rows.device)
        keeps: list[Tensor] = []
        for number in range(len(layers) - 1, -1, -1):
            count = self.products[number]
            scores = edge_scores(layers[number], states[number], outputs[number], factors(importance, count))
            importance = scores.sum(0)
            keep = (scores > threshold) & (importance > nodes) & (layers[number].mask != 0)
            keeps.insert(0, keep)
        return connected(keeps, self.products)


def relative_change(before: Tensor, after: Tensor) -> float:
    """Return the rms of ``after - before`` over that of ``before``; undivided where that is 0."""
    if before.numel() == 0:
        return 0.0
    size = before.double().square().mean().sqrt()
    moved = (after.double() - before.double()).square().mean().sqrt()
    return float((moved / size if size > 0 else moved).detach())


def _nodes(out: Tensor, products: int) -> Tensor:
    if not products:
        return out
    sums, pairs = out[..., : -2 * products], out[..., -2 * products :]
    return torch.cat([sums, pairs[..., ::2] * pairs[..., 1::2]], dim=-1)


def _products(multiply: int | Sequence[int], hidden: tuple[int, ...]) -> tuple[int, ...]:
    counts = (multiply,) * len(hidden) if isinstance(multiply, int) else tuple(multiply)
    if len(counts) != len(hidden):
        raise ValueError(f"KAN: multiply has {len(counts)} numbers for {len(hidden)} hidden layers")
    for count, width in zip(counts, hidden, strict=True):
        if not 0 <= count <= width:
            raise ValueError(f"KAN: multiply must be 0 to the hidden width {width}, not {count}")
    return counts


def _finite(x: Tensor, size: int) -> Tensor:
    rows = x.detach().reshape(-1, size)
    return rows[torch.isfinite(rows).all(1)]
