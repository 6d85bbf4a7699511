"""Convolutions whose kernels are learned functions, and plain ones with the same interface.

Sources: KAN (arXiv 2404.19756) for the edge functions; Convolutional Kolmogorov-Arnold Networks
(arXiv 2406.13155) for the convolution. Written from the formulas.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from appliedpapers.nn.activations import make_activation
from appliedpapers.nn.basis import Basis, ChebyshevBasis, FourierBasis, GaussianBasis, Outside, SplineBasis
from appliedpapers.nn.expansion import expand
from appliedpapers.nn.mlp import reset_each
from appliedpapers.nn.module import Module, check_choice, check_positive

CONV_NORMS = ("batch", "instance", "layer", "none")
_BASES = ("bspline", "rbf", "chebyshev", "fourier")
_DEFAULT_GRID = {"bspline": 5, "rbf": 8, "chebyshev": 5, "fourier": 5}
_DEFAULT_DOMAIN = {"rbf": (-2.0, 2.0)}
_CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_AXES = {1: "(batch, channels, length)", 2: "(batch, channels, height, width)"}
_AXES[3] = "(batch, channels, depth, height, width)"

Size = int | Sequence[int]


class _Convolution(Module):
    """What both kinds of convolution share: the geometry, and norm and activation after it."""

    dimensions: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        geometry: dict[str, Any],
        norm: str | None,
        act: str | nn.Module | None,
        where: dict[str, Any],
    ) -> None:
        super().__init__()
        kind, groups = type(self).__name__, geometry["groups"]
        check_positive(kind, in_channels=in_channels, out_channels=out_channels, groups=groups)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{kind}: groups={groups} must divide {name}={channels}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.geometry = {name: self._checked(name, value) for name, value in geometry.items()}
        self.norm = _norm(kind, norm, self.dimensions, out_channels, where)
        self.act = _activation(act, out_channels, where)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise, activate."""
        kind = type(self).__name__
        if x.ndim != self.dimensions + 2:
            raise ValueError(f"{kind}: the input must be {_AXES[self.dimensions]}, got {tuple(x.shape)}")
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"{kind}: axis 1 of the input must be in_channels={self.in_channels}, got {x.shape[1]} "
                f"(shape {tuple(x.shape)})"
            )
        if not x.is_floating_point():
            raise TypeError(
                f"{kind}: the input must be floating point, got {x.dtype}; convert it with x.float()"
            )
        out: Tensor = self.act(self.norm(self.convolve(x)))
        return out

    @abstractmethod
    def convolve(self, x: Tensor) -> Tensor:
        """Apply the convolution alone."""

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_channels={self.in_channels}, out_channels={self.out_channels}, groups={self.groups}"

    def _checked(self, name: str, value: Any) -> Any:
        kind, number = type(self).__name__, self.dimensions
        if name == "groups" or (name == "padding" and value in ("same", "valid")):
            return value
        sizes = (value,) * number if isinstance(value, int) else tuple(value)
        least = 0 if name == "padding" else 1
        if isinstance(value, str) or len(sizes) != number or any(size < least for size in sizes):
            words = ", 'same' or 'valid'" if name == "padding" else ""
            raise ValueError(
                f"{kind}: {name} must be a whole number of at least {least}, or {number} of them{words}, "
                f"not {value!r}"
            )
        return sizes


class _ConvLayer(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 3,
        *,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        norm: str | None = "batch",
        act: str | nn.Module | None = "relu",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        geometry = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(in_channels, out_channels, geometry, norm, act, where)
        make = _CONVS[self.dimensions]
        self.conv = make(in_channels, out_channels, bias=bias, **self.geometry, **where)

    def convolve(self, x: Tensor) -> Tensor:
        """Apply the convolution alone."""
        out: Tensor = self.conv(x)
        return out


class ConvLayer1d(_ConvLayer):
    """``act(norm(conv(x)))`` on sequences; see :class:`ConvLayer2d`."""

    dimensions = 1


class ConvLayer2d(_ConvLayer):
    """``act(norm(conv(x)))`` on images, with the interface of :class:`KANConv2d`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Edge of the kernel, or one for each axis.
        stride: Step, or one for each axis.
        padding: Zeros on each side, or one for each axis, or ``same`` or ``valid``.
        dilation: Distance of the kernel's points, or one for each axis.
        groups: Groups of channels that do not see one another.
        norm: ``batch``, ``instance``, ``layer`` (over channels and places of a sample) or ``none``.
        act: ``prelu`` (a slope for each channel) or an activation by name.
        bias: Whether the convolution has a bias.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(batch, in_channels, height, width)``
        - output: ``(batch, out_channels, new_height, new_width)``

    Raises:
        ValueError: A size is not positive or does not fit the input, ``groups`` does not divide the channels,
            or a name is unknown.
    """

    dimensions = 2


class ConvLayer3d(_ConvLayer):
    """``act(norm(conv(x)))`` on volumes; see :class:`ConvLayer2d`."""

    dimensions = 3


class _KANConv(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 3,
        *,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        basis: str = "bspline",
        grid: int | None = None,
        order: int = 3,
        domain: Sequence[float] | None = None,
        outside: Outside = "linear",
        base: str | nn.Module | None = "silu",
        norm: str | None = "batch",
        act: str | nn.Module | None = "prelu",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        geometry = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(in_channels, out_channels, geometry, norm, act, where)
        self.basis_name = basis
        self.basis = _basis(type(self).__name__, basis, grid, order, domain, outside, where)
        make = _CONVS[self.dimensions]
        wide = in_channels * self.basis.size
        self.conv = make(wide, out_channels, bias=bias, **self.geometry, **where)
        self.base_act, self.base_conv = None, None
        if base is not None:
            self.base_act = _activation(base, in_channels, where)
            self.base_conv = make(in_channels, out_channels, bias=False, **self.geometry, **where)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: those of the functions so that each adds the same variance (our default)."""
        super().reset_parameters()
        nn.init.kaiming_uniform_(self.conv.weight, nonlinearity="linear")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def convolve(self, x: Tensor) -> Tensor:
        """Apply the functions and their convolution, and the base."""
        batch, groups = x.shape[0], self.groups
        # the functions of a group of channels stay together, as grouped convolution wants them
        inputs = self.in_channels // groups
        for size in x.shape[2:]:
            inputs = inputs * size
        rows = x.reshape(batch * groups, inputs)
        wide = expand(self.basis, rows).reshape(batch, self.in_channels * self.basis.size, *x.shape[2:])
        out: Tensor = self.conv(wide)
        if self.base_conv is not None and self.base_act is not None:
            out = out + self.base_conv(self.base_act(x))
        return out

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{super().extra_repr()}, basis={self.basis_name!r}, size={self.basis.size}"


class KANConv1d(_KANConv):
    """Convolution of sequences with learned functions; see :class:`KANConv2d`."""

    dimensions = 1


class KANConv2d(_KANConv):
    """``act(norm(conv(phi(x)) + base_conv(silu(x))))``: one convolution of n functions.

    The channels are expanded from C to ``C n`` by the basis and convolved once, which equals a learned
    function for every kernel weight at the price of a convolution of ``C n`` channels. All channels share
    one grid, which does not move: the norm of the layer before keeps its values there. Zeros are padded to
    the functions, so a place beyond the border adds nothing (our default).

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels of the output.
        kernel_size: Edge of the kernel, or one for each axis.
        stride: Step, or one for each axis.
        padding: Zeros on each side, or one for each axis, or ``same`` or ``valid``.
        dilation: Distance of the kernel's points, or one for each axis.
        groups: Groups of channels that do not see one another.
        basis: ``bspline``, ``rbf``, ``chebyshev`` or ``fourier``, as in
            :class:`~appliedpapers.nn.kan_linear.KANLinear`; Gaussians see the input without LayerNorm.
        grid: Cells, centres, degree or frequencies; by default 5, 8, 5, 5.
        order: Order of the B-splines.
        domain: Domain of the splines, (-1, 1), or first and last centre, (-2, 2).
        outside: ``linear``, ``clamp`` or ``zero``, for B-splines.
        base: Activation of the base convolution; ``None`` for no base.
        norm: ``batch``, ``instance``, ``layer`` (over channels and places of a sample) or ``none``.
        act: ``prelu`` (a slope for each channel) or an activation by name.
        bias: Whether the convolution has a bias.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(batch, in_channels, height, width)``
        - output: ``(batch, out_channels, new_height, new_width)``

    Raises:
        ValueError: A size is not positive or does not fit the input, ``groups`` does not divide the channels,
            or a name is unknown.
    """

    dimensions = 2


class KANConv3d(_KANConv):
    """Convolution of volumes with learned functions; see :class:`KANConv2d`."""

    dimensions = 3


class ChannelsLast(nn.Module):
    """An activation with a weight for each feature, applied to axis 1."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act

    def reset_parameters(self) -> None:
        """Draw its weights anew."""
        reset_each(self)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        out: Tensor = self.act(x.movedim(1, -1))
        return out.movedim(-1, 1)


def _activation(act: str | nn.Module | None, channels: int, where: dict[str, Any]) -> nn.Module:
    if act == "prelu":
        return nn.PReLU(channels, **where)
    made = make_activation(act, channels, where["device"], where["dtype"])
    return ChannelsLast(made) if isinstance(made, Module) else made


def _norm(kind: str, name: str | None, dimensions: int, channels: int, where: dict[str, Any]) -> nn.Module:
    if name is None or name == "none":
        return nn.Identity()
    check_choice(kind, "norm", name, CONV_NORMS)
    if name == "layer":
        return nn.GroupNorm(1, channels, **where)
    make: Any = (_BATCH if name == "batch" else _INSTANCE)[dimensions]
    made: nn.Module = make(channels, affine=True, **where)
    return made


def _basis(
    kind: str,
    name: str,
    grid: int | None,
    order: int,
    domain: Sequence[float] | None,
    outside: Outside,
    where: dict[str, Any],
) -> Basis:
    check_choice(kind, "basis", name, _BASES)
    check_choice(kind, "outside", outside, ("linear", "clamp", "zero"))
    grid = _DEFAULT_GRID[name] if grid is None else grid
    check_positive(kind, grid=grid, order=order)
    low, high = domain or _DEFAULT_DOMAIN.get(name, (-1.0, 1.0))
    if not low < high:
        raise ValueError(f"{kind}: domain must rise, not ({low}, {high})")
    if name == "bspline":
        return SplineBasis(1, grid, order, low, high, outside, **where)
    if name == "rbf":
        if grid < 2:
            raise ValueError(f"{kind}: basis='rbf' needs grid >= 2 centres, not {grid}")
        return GaussianBasis(grid, low, high, **where)
    return ChebyshevBasis(grid) if name == "chebyshev" else FourierBasis(grid)
