"""Hourglass networks: skips where it is wide, weights where it is narrow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from appliedpapers.nn.activations import ActivationSpec
from appliedpapers.nn.mlp import ResidualBlock, one_width, reset_each
from appliedpapers.nn.module import Module, check_choice, check_features, check_positive


class HourglassBlock(ResidualBlock):
    """Residual block that is narrow inside, ``z + W2 act(W1 norm(z))`` (arXiv 2510.01796).

    As :class:`ResidualBlock`, with a full LayerNorm and ``in_features // 4`` inside by default.
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
        super().__init__(
            in_features,
            hidden_features,
            out_features,
            act=act,
            norm=norm,
            bias=bias,
            drop=drop,
            device=device,
            dtype=dtype,
        )

    @staticmethod
    def default_hidden(in_features: int) -> int:
        """Return the size inside when none is given."""
        return max(1, in_features // 4)


class Hourglass(Module):
    """Lift to a wide space, ``depth`` blocks that narrow inside, project (arXiv 2510.01796).

    The skips run where it is wide, the weights where it is narrow: ``hidden < in_features < width`` in the
    paper. The lift may be a fixed random projection, which is then no parameter but is saved with the
    weights.

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        width: Size of the wide space; ``4 in_features`` if not given (our default).
        hidden: Size inside the blocks; half of ``in_features`` if not given (our default).
        depth: Number of blocks; 2 is our default.
        lift: ``learned``, or ``fixed`` for a random projection, normal with variance ``1 / in_features``.
        act: Activation, see :func:`appliedpapers.nn.activations.make_activation`.
        norm: Normalisation, see :func:`appliedpapers.nn.norms.make_norm`.
        drop: Dropout inside the blocks.
        bias: Whether the linear layers have a bias; a fixed lift has none.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``

    Raises:
        ValueError: A size is not positive or does not fit the input, ``hidden`` is not below ``width``, or a
            name is unknown.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        width: int | None = None,
        hidden: int | Sequence[int] | None = None,
        depth: int = 2,
        lift: str = "learned",
        act: ActivationSpec = "gelu",
        norm: str | None = "layer",
        drop: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        wide = 4 * in_features if width is None else width
        narrow = max(1, in_features // 2) if hidden is None else one_width("Hourglass", hidden)
        check_positive(
            "Hourglass", in_features=in_features, out_features=out_features, width=wide, depth=depth
        )
        check_choice("Hourglass", "lift", lift, ("learned", "fixed"))
        if narrow >= wide:
            raise ValueError(f"Hourglass: hidden must be below width={wide}, not {narrow}; it is the waist")
        self.in_features, self.out_features = in_features, out_features
        self.width, self.hidden = wide, narrow
        if lift == "learned":
            self.lift: nn.Module = nn.Linear(in_features, wide, bias=bias, device=device, dtype=dtype)
        else:
            self.lift = FixedProjection(in_features, wide, device=device, dtype=dtype)
        self.blocks = nn.Sequential(
            *(
                HourglassBlock(
                    wide, narrow, act=act, norm=norm, bias=bias, drop=drop, device=device, dtype=dtype
                )
                for _ in range(depth)
            )
        )
        self.project = nn.Linear(wide, out_features, bias=bias, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw the weights of every layer anew, a fixed lift included."""
        reset_each(nn.ModuleList((self.lift, *self.blocks, self.project)))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the stack."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        out: Tensor = self.project(self.blocks(self.lift(x)))
        return out

    def extra_repr(self) -> str:
        """Return the sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, width={self.width}, "
            f"hidden={self.hidden}"
        )


class FixedProjection(nn.Module):
    """Random linear map that is not trained, a buffer ``(out_features, in_features)``."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.weight: Tensor
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the map anew, normal with variance ``1 / in_features``."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.weight.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Project."""
        return nn.functional.linear(x, self.weight)
