"""Multi-layer perceptrons: plain and residual."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from appliedpapers.nn.activations import ActivationSpec, make_activation
from appliedpapers.nn.module import Module, check_features, check_positive
from appliedpapers.nn.norms import make_dropout, make_norm


def layer_widths(owner: str, hidden: int | Sequence[int]) -> tuple[int, ...]:
    """Return the widths of hidden layers from ``hidden=64`` or ``hidden=(64, 32)``; ``()`` means none.

    Raises:
        ValueError: One of them is no whole number of at least 1.
    """
    widths = (hidden,) if isinstance(hidden, int) else tuple(hidden)
    for width in widths:
        check_positive(owner, hidden=width)
    return widths


def one_width(owner: str, hidden: int | Sequence[int]) -> int:
    """Return the only width from ``hidden=64`` or ``hidden=(64,)``.

    Raises:
        ValueError: There are several or none.
    """
    widths = layer_widths(owner, hidden)
    if len(widths) != 1:
        raise ValueError(f"{owner}: hidden must be one width, such as 64, not {hidden!r}")
    return widths[0]


class MLP(Module):
    """``Linear -> norm -> act -> drop`` for each hidden width, then Linear.

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        hidden: Widths of the hidden layers, or one width; ``()`` for a linear map.
        act: Activation, see :func:`appliedpapers.nn.activations.make_activation`.
        norm: Normalisation before the activation, see :func:`appliedpapers.nn.norms.make_norm`.
        drop: Dropout after the activation.
        bias: Whether the layers have a bias.
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
        out_features: int,
        *,
        hidden: int | Sequence[int] = (64,),
        act: ActivationSpec = "gelu",
        norm: str | None = None,
        drop: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("MLP", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.hidden = layer_widths("MLP", hidden)
        layers: list[nn.Module] = []
        width = in_features
        for wider in self.hidden:
            layers.append(nn.Linear(width, wider, bias=bias, device=device, dtype=dtype))
            parts = (
                make_norm(norm, wider, device, dtype),
                make_activation(act, wider, device, dtype),
                make_dropout(drop),
            )
            layers.extend(part for part in parts if not isinstance(part, nn.Identity))
            width = wider
        layers.append(nn.Linear(width, out_features, bias=bias, device=device, dtype=dtype))
        self.layers = nn.Sequential(*layers)

    def reset_parameters(self) -> None:
        """Draw the weights of every layer anew."""
        reset_each(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        out: Tensor = self.layers(x)
        return out

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, hidden={self.hidden}"


class ResidualBlock(Module):
    """``z + W2 act(W1 norm(z))``.

    Args:
        in_features: Size of the last axis.
        hidden_features: Size inside; ``4 in_features`` if not given.
        out_features: ``in_features`` or ``None``: the block adds to its input.
        act: Activation, see :func:`appliedpapers.nn.activations.make_activation`.
        norm: Normalisation of what goes in, see :func:`appliedpapers.nn.norms.make_norm`.
        bias: Whether the linear layers have a bias.
        drop: Dropout after the activation and after the second layer.
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
        norm: str | None = "layer_no_bias",
        bias: bool = True,
        drop: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        check_positive(kind, in_features=in_features)
        check_same(kind, in_features, out_features)
        hidden = self.default_hidden(in_features) if hidden_features is None else hidden_features
        check_positive(kind, hidden_features=hidden)
        self.in_features, self.hidden_features, self.out_features = in_features, hidden, in_features
        self.norm = make_norm(norm, in_features, device, dtype)
        self.fc1 = nn.Linear(in_features, hidden, bias=bias, device=device, dtype=dtype)
        self.act = make_activation(act, hidden, device, dtype)
        self.fc2 = nn.Linear(hidden, in_features, bias=bias, device=device, dtype=dtype)
        self.drop = make_dropout(drop)

    @staticmethod
    def default_hidden(in_features: int) -> int:
        """Return the size inside when none is given."""
        return 4 * in_features

    def forward(self, x: Tensor) -> Tensor:
        """Add to ``x`` what the two layers make of it."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        inside = self.drop(self.act(self.fc1(self.norm(x))))
        out: Tensor = x + self.drop(self.fc2(inside))
        return out

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, hidden_features={self.hidden_features}"


class ResidualMLP(Module):
    """Linear, ``depth`` blocks ``z + W2 act(W1 LN(z))``, Linear (arXiv 2306.13575, Scaling MLPs).

    The LayerNorms have a weight and no bias, and there is none after the last block.

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        hidden: Width between the blocks.
        depth: Number of blocks; 2 is our default.
        expansion: Width inside a block in widths between them.
        act: Activation, see :func:`appliedpapers.nn.activations.make_activation`.
        norm: Normalisation, see :func:`appliedpapers.nn.norms.make_norm`.
        drop: Dropout inside the blocks.
        bias: Whether the linear layers have a bias.
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
        out_features: int,
        *,
        hidden: int | Sequence[int] = 64,
        depth: int = 2,
        expansion: int = 4,
        act: ActivationSpec = "gelu",
        norm: str | None = "layer_no_bias",
        drop: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(
            "ResidualMLP",
            in_features=in_features,
            out_features=out_features,
            depth=depth,
            expansion=expansion,
        )
        width = one_width("ResidualMLP", hidden)
        self.in_features, self.out_features, self.hidden = in_features, out_features, width
        self.linear_in = nn.Linear(in_features, width, bias=bias, device=device, dtype=dtype)
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(
                    width,
                    expansion * width,
                    act=act,
                    norm=norm,
                    bias=bias,
                    drop=drop,
                    device=device,
                    dtype=dtype,
                )
                for _ in range(depth)
            )
        )
        self.linear_out = nn.Linear(width, out_features, bias=bias, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw the weights of every layer anew."""
        reset_each(nn.ModuleList((self.linear_in, *self.blocks, self.linear_out)))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the stack."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        out: Tensor = self.linear_out(self.blocks(self.linear_in(x)))
        return out

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, hidden={self.hidden}"


def check_same(owner: str, in_features: int, out_features: int | None) -> None:
    """Refuse an output size of a residual block other than its input's.

    Raises:
        ValueError: The sizes differ.
    """
    if out_features not in (None, in_features):
        raise ValueError(f"{owner}: out_features must be in_features={in_features}, not {out_features}")


def reset_each(layers: nn.Module) -> None:
    """Draw the weights of every child anew that can."""
    for layer in layers.children():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
