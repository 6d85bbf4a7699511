"""Gated linear units, and the Activator block made of one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from appliedpapers.nn.activations import ActivationSpec, make_activation
from appliedpapers.nn.mlp import check_same
from appliedpapers.nn.module import Module, check_features, check_positive
from appliedpapers.nn.norms import make_dropout, make_norm


class GLU(Module):
    """Gated linear unit ``W3 (act(W1 x) * W2 x)`` (arXiv 2002.05202; bilinear with ``act="identity"``).

    W1 and W2 are one matrix (``up``), so that a single product serves both.

    Args:
        in_features: Size of the last axis of the input.
        hidden_features: Size between; ``in_features`` if not given.
        out_features: Size of the last axis of the output; ``in_features`` if not given.
        act: Activation of the gate, see :func:`appliedpapers.nn.activations.make_activation`.
        norm: Normalisation of the gated values, see :func:`appliedpapers.nn.norms.make_norm`.
        bias: Whether the linear layers have a bias.
        drop: Dropout after the gate.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``

    Raises:
        ValueError: A size is not positive or does not fit the input, or a name is unknown.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        *,
        act: ActivationSpec = "gelu",
        norm: str | None = None,
        bias: bool = True,
        drop: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        hidden = in_features if hidden_features is None else hidden_features
        out = in_features if out_features is None else out_features
        check_positive("GLU", in_features=in_features, hidden_features=hidden, out_features=out)
        self.in_features, self.hidden_features, self.out_features = in_features, hidden, out
        self.up = nn.Linear(in_features, 2 * hidden, bias=bias, device=device, dtype=dtype)
        self.act = make_activation(act, hidden, device, dtype)
        self.norm = make_norm(norm, hidden, device, dtype)
        self.drop = make_dropout(drop)
        self.down = nn.Linear(hidden, out, bias=bias, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        gate, value = torch.chunk(self.up(x), 2, dim=-1)
        out: Tensor = self.down(self.drop(self.norm(self.act(gate) * value)))
        return out

    def extra_repr(self) -> str:
        """Return the sizes."""
        return (
            f"in_features={self.in_features}, hidden_features={self.hidden_features}, "
            f"out_features={self.out_features}"
        )


class Activator(Module):
    """``z + GLU(norm(z))``: one gated unit in the place of attention and MLP (arXiv 2405.15953).

    The unit works on the last axis; to mix tokens, give it the transposed ``(..., features, tokens)``.

    Args:
        in_features: Size of the last axis.
        hidden_features: Size inside; ``2 in_features`` if not given (our default).
        out_features: ``in_features`` or ``None``: the block adds to its input.
        act: Activation of the gate, see :func:`appliedpapers.nn.activations.make_activation`.
        norm: Normalisation of what goes in, see :func:`appliedpapers.nn.norms.make_norm`.
        bias: Whether the linear layers have a bias.
        drop: Dropout after the gate and of what is added.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: the same

    Raises:
        ValueError: A size is not positive or does not fit, or a name is unknown.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        *,
        act: ActivationSpec = "gelu",
        norm: str | None = "layer",
        bias: bool = True,
        drop: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("Activator", in_features=in_features)
        check_same("Activator", in_features, out_features)
        hidden = 2 * in_features if hidden_features is None else hidden_features
        self.in_features = self.out_features = in_features
        self.norm = make_norm(norm, in_features, device, dtype)
        self.glu = GLU(in_features, hidden, act=act, bias=bias, drop=drop, device=device, dtype=dtype)
        self.drop = make_dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Add to ``x`` what the gated unit makes of it."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        out: Tensor = x + self.drop(self.glu(self.norm(x)))
        return out
