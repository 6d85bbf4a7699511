"""Recurrent cells with one interface: TKAN, and LSTM and GRU beside it.

Source: Genet and Inzirillo 2024, TKAN: Temporal Kolmogorov-Arnold Networks (arXiv 2405.07344), section 3.
Written from the formulas.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from appliedpapers.nn.kan_linear import KANLinear
from appliedpapers.nn.module import Module, check_choice, check_features, check_positive

State = tuple[Tensor, ...]


class Cell(Module):
    """A recurrent cell: ``forward(x, state)`` gives the new hidden features and the new state.

    Attributes:
        input_size: Features of the input.
        hidden_size: Features of the output; the first part of the state is the last output.
    """

    input_size: int
    hidden_size: int

    def _sizes(self, input_size: int, hidden_size: int) -> None:
        check_positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size

    @property
    @abstractmethod
    def state_sizes(self) -> tuple[int, ...]:
        """Features of each part of the state."""

    @abstractmethod
    def step(self, x: Tensor, state: State) -> State:
        """Return the new state, the hidden features first."""

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Take one step.

        Args:
            x: ``(..., input_size)``.
            state: What the last step gave, each part ``(..., size)``; zeros if not given.

        Returns:
            The hidden features ``(..., hidden_size)`` and the new state, of which they are the first part.
        """
        check_features(x, self.input_size, self, "input_size")
        new = self.step(x, self.checked(x, state))
        return new[0], new

    def checked(self, x: Tensor, state: State | None) -> State:
        """Return the state, or zeros for none, for ``x (..., input_size)``.

        Raises:
            ValueError: The number or size of its parts does not fit.
        """
        if state is None:
            return tuple(x.new_zeros(*x.shape[:-1], size) for size in self.state_sizes)
        kind, expected = type(self).__name__, self.state_sizes
        found = tuple(part.shape[-1] for part in state)
        if found != expected:
            raise ValueError(f"{kind}: the last axes of the state must be {expected}, got {found}")
        return tuple(state)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}"


class LSTMCell(Cell):
    """torch's LSTM cell with the interface of the shelf; the state is ``(h, c)``.

    Args:
        input_size: Features of the input.
        hidden_size: Features of the state.
        bias: Whether there are biases.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., input_size)``; state: two of ``(..., hidden_size)``
        - output: ``(..., hidden_size)`` and the state

    Raises:
        ValueError: A size is not positive or does not fit the input.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._sizes(input_size, hidden_size)
        self.cell = nn.LSTMCell(input_size, hidden_size, bias=bias, device=device, dtype=dtype)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Features of each part of the state."""
        return (self.hidden_size, self.hidden_size)

    def step(self, x: Tensor, state: State) -> State:
        """Return the new ``(h, c)``."""
        flat = tuple(part.reshape(-1, self.hidden_size) for part in state)
        new = self.cell(x.reshape(-1, self.input_size), flat)
        return tuple(part.view(*x.shape[:-1], self.hidden_size) for part in new)


class GRUCell(Cell):
    """torch's GRU cell with the interface of the shelf; the state is ``(h,)``.

    Args:
        input_size: Features of the input.
        hidden_size: Features of the state.
        bias: Whether there are biases.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., input_size)``; state: one of ``(..., hidden_size)``
        - output: ``(..., hidden_size)`` and the state

    Raises:
        ValueError: A size is not positive or does not fit the input.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._sizes(input_size, hidden_size)
        self.cell = nn.GRUCell(input_size, hidden_size, bias=bias, device=device, dtype=dtype)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Features of each part of the state."""
        return (self.hidden_size,)

    def step(self, x: Tensor, state: State) -> State:
        """Return the new ``(h,)``."""
        new = self.cell(x.reshape(-1, self.input_size), state[0].reshape(-1, self.hidden_size))
        return (new.view(*x.shape[:-1], self.hidden_size),)


class TKANCell(Cell):
    """An LSTM cell whose output gate is made by KAN layers with a memory of their own (arXiv 2405.07344).

    ``i, f, g = sigmoid(x W + h U + b)`` and ``c <- f c + i g``. Each sub-layer l has a memory ``s_l``:
    ``u = x A_l + s_l C_l``, ``r_l = KAN_l(u)``, ``s_l <- alpha_l r_l + beta_l s_l``. Then
    ``o = sigmoid([r_1, ..., r_L] W_o + b_o)`` and ``h = o tanh(c)``. The state is ``(h, c, s_1, ..., s_L)``.

    The public implementations disagree on g: ours is the sigmoid, ``gate="tanh_sigmoid"`` takes
    ``tanh(sigmoid(.))``.

    Args:
        input_size: Features of the input.
        hidden_size: Features of h and c.
        sublayers: Number L of KAN sub-layers; 1 is our default.
        sub_features: Features of each sub-layer; ``input_size`` if not given.
        gate: ``sigmoid`` or ``tanh_sigmoid``.
        basis: Basis of the KAN layers, see :class:`~appliedpapers.nn.kan_linear.KANLinear`.
        grid: Its grid.
        order: Order of its splines.
        bias: Whether there are biases.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., input_size)``; state: ``(..., hidden_size)`` twice, ``(..., sub_features)`` L times
        - output: ``(..., hidden_size)`` and the state

    Raises:
        ValueError: A size is not positive or does not fit the input or the state, or a name is unknown.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        sublayers: int = 1,
        sub_features: int | None = None,
        gate: str = "sigmoid",
        basis: str = "bspline",
        grid: int | None = None,
        order: int = 3,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._sizes(input_size, hidden_size)
        sub = input_size if sub_features is None else sub_features
        check_positive("TKANCell", sublayers=sublayers, sub_features=sub)
        check_choice("TKANCell", "gate", gate, ("sigmoid", "tanh_sigmoid"))
        self.gate, self.sublayers, self.sub_features = gate, sublayers, sub
        self._parts = [3 * hidden_size, *(sub,) * sublayers]
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        # W and all A_l read the input, so they are one matrix
        self.read = nn.Linear(input_size, 3 * hidden_size + sublayers * sub, bias=False, **where)
        self.recur = nn.Linear(hidden_size, 3 * hidden_size, bias=bias, **where)
        self.recall = nn.ModuleList(nn.Linear(sub, sub, bias=False, **where) for _ in range(sublayers))
        self.kans = nn.ModuleList(
            KANLinear(sub, sub, basis=basis, grid=grid, order=order, bias=bias, **where)
            for _ in range(sublayers)
        )
        self.alpha = nn.Parameter(torch.empty(sublayers, sub, **where))
        self.beta = nn.Parameter(torch.empty(sublayers, sub, **where))
        self.out = nn.Linear(sublayers * sub, hidden_size, bias=bias, **where)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: memories start as even means of old and new (our default)."""
        for layer in (self.read, self.out, *self.recall, *self.kans):
            layer.reset_parameters()
        nn.init.orthogonal_(self.recur.weight)
        if self.recur.bias is not None:
            nn.init.zeros_(self.recur.bias)
            # an open forget gate lets gradients through from the start
            nn.init.ones_(self.recur.bias[self.hidden_size : 2 * self.hidden_size])
        nn.init.constant_(self.alpha, 0.5)
        nn.init.constant_(self.beta, 0.5)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Features of each part of the state."""
        return (self.hidden_size, self.hidden_size, *(self.sub_features,) * self.sublayers)

    def step(self, x: Tensor, state: State) -> State:
        """Return the new ``(h, c, s_1, ..., s_L)``."""
        return self.advance(self.read(x), state)

    def advance(self, projected: Tensor, state: State) -> State:
        """Take a step from ``read(x)``, which a sequence computes for all its steps at once."""
        hidden, memory, *subs = state
        gates, *fresh = torch.split(projected, self._parts, -1)
        into, forget, new = torch.sigmoid(gates + self.recur(hidden)).chunk(3, -1)
        if self.gate == "tanh_sigmoid":
            new = torch.tanh(new)
        memory = forget * memory + into * new
        results, kept = [], []
        for index, (own, sub, recall, kan) in enumerate(
            zip(fresh, subs, self.recall, self.kans, strict=True)
        ):
            result = kan(own + recall(sub))
            results.append(result)
            kept.append(self.alpha[index] * result + self.beta[index] * sub)
        hidden = torch.sigmoid(self.out(torch.cat(results, -1))) * torch.tanh(memory)
        return (hidden, memory, *kept)

    def update(self, x: Tensor) -> None:
        """Move the grids of the KAN layers to where a sample ``(..., input_size)`` lies at the first step."""
        own = torch.split(self.read(x)[..., 3 * self.hidden_size :], self.sub_features, -1)
        for part, kan in zip(own, self.kans, strict=True):
            kan.update(part.detach())  # type: ignore[operator]

    def extra_repr(self) -> str:
        """Return the sizes and the gate."""
        return f"{super().extra_repr()}, sublayers={self.sublayers}, gate={self.gate!r}"


class TKAN(Module):
    """:class:`TKANCell` along a sequence.

    Args:
        input_size: Features of the input.
        hidden_size: Features of the output.
        sublayers: See :class:`TKANCell`, as all that follow.
        sub_features: Features of each sub-layer.
        gate: ``sigmoid`` or ``tanh_sigmoid``.
        basis: Basis of the KAN layers.
        grid: Its grid.
        order: Order of its splines.
        bias: Whether there are biases.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., time, input_size)``
        - output: ``(..., time, hidden_size)``

    Raises:
        ValueError: As for :class:`TKANCell`, or the input has no time axis.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        sublayers: int = 1,
        sub_features: int | None = None,
        gate: str = "sigmoid",
        basis: str = "bspline",
        grid: int | None = None,
        order: int = 3,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.cell = TKANCell(
            input_size,
            hidden_size,
            sublayers=sublayers,
            sub_features=sub_features,
            gate=gate,
            basis=basis,
            grid=grid,
            order=order,
            bias=bias,
            device=device,
            dtype=dtype,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the hidden features of every step, from a state of zeros."""
        return self.run(x)[0]

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the hidden features of every step and the last state.

        Args:
            x: ``(..., time, input_size)``.
            state: State before the first step; zeros if not given.
        """
        check_features(x, self.input_size, self, "input_size")
        if x.ndim < 2 or not x.shape[-2]:
            raise ValueError(
                f"TKAN: the input must be (..., time, input_size), time >= 1, got {tuple(x.shape)}"
            )
        state = self.cell.checked(x[..., 0, :], state)
        outputs = []
        for projected in self.cell.read(x).unbind(-2):
            state = self.cell.advance(projected, state)
            outputs.append(state[0])
        return torch.stack(outputs, -2), state

    def update(self, x: Tensor) -> None:
        """Move the grids of the KAN layers, see :meth:`TKANCell.update`."""
        self.cell.update(x)
