"""FreTS as the paper writes it, the same maths at a third of the cost, and two linear networks.

Source: "Frequency-domain MLPs are More Effective Learners in Time Series Forecasting"
(arXiv 2311.06184), sections 3.1-3.3.

Axes: ``batch`` B, ``lookback`` L, ``horizon`` H, ``series`` N, ``embed_dim`` D, ``freqs`` F = L // 2 + 1.
Every network maps ``(batch, lookback, series)`` to ``(batch, horizon, series)``, floating point, in the
units it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliedpapers.plugins.frets.frequency import FrequencyMLP, Mixing, rank_one_features
from appliedpapers.plugins.frets.heads import NamedHead

Skip = Literal["none", "linear"]

_NORM_EPSILON = 1e-5
# Without gradients the rows are independent, so inference walks in blocks and its memory stays bounded.
_ROWS_PER_BLOCK = 2048


@dataclass(frozen=True)
class SpectrumExplanation:
    """What the temporal learner does to each frequency.

    Attributes:
        frequencies: Cycles per step, ``(freqs,)`` from 0 to 0.5.
        amplitude_in: Mean modulus of the learner's input over batch, series and features, ``(freqs,)``.
        amplitude_out: Mean modulus |Y| of the learner's output, ``(freqs,)``.
        gain: ``amplitude_out / amplitude_in``, ``(freqs,)``; 0 where the input is silent.
        weight_gain: Modulus of the learned complex weights, ``(embed_dim,)``.
    """

    frequencies: Tensor
    amplitude_in: Tensor
    amplitude_out: Tensor
    gain: Tensor
    weight_gain: Tensor


class FreTS(nn.Module):
    """Embedding, channel learner, temporal learner and head (sections 3.1-3.3).

    With ``mixing="diagonal"`` and no channel mixing the temporal learner runs on the rank-one spectrum:
    the transform of the ``lookback`` values replaces that of ``embed_dim`` copies of them. Set
    :attr:`force_direct` to compute the same function as the formulas are written.

    Deviations, all off by default: ``instance_norm`` subtracts mean and divides by ``sqrt(var + 1e-5)``
    of each window and series and undoes it on the output, without learned scale; ``dropout`` acts on the
    hidden layer; ``skip="linear"`` adds ``last + W (x - last) + b`` with one map shared by the series,
    computed on the values as given. Then the network predicts a correction to that line, so under
    ``instance_norm`` its output is multiplied by the window's deviation and the mean is left to the skip.
    The map starts at zero, which is the last-value forecast; :meth:`set_linear_skip` starts it elsewhere.

    The first head layer keeps its weight feature-major, ``(hidden, embed_dim * lookback)``, so that the
    transforms run along contiguous memory; :meth:`load_reference_weights` reorders time-major weights.

    Args:
        lookback: Input steps L.
        horizon: Output steps H.
        series: Number of series N; the weights do not depend on it, the input is checked against it.
        embed_dim: Size D of the embedding.
        hidden: Width of the head.
        channel_mixing: Whether the channel learner exists.
        mixing: Product of both frequency learners, see :class:`FrequencyMLP`.
        sparsity: Shrinkage of both learners.
        init_scale: Scale of the initial weights of both learners.
        instance_norm: Normalise each window and series.
        dropout: Probability of dropping a hidden unit while training.
        skip: ``"none"`` or ``"linear"``.
        head: ``"mlp"`` is the paper's LeakyReLU and linear layer on ``hidden`` features; any other network
            or layer of :mod:`appliedpapers.nn` takes their place, on the normalised features.
        zero_head: Start the last layer at zero, so that the untrained network is exactly its skip.

    Shape:
        - input: ``(batch, lookback, series)`` floating point, without NaN
        - output: ``(batch, horizon, series)``

    Raises:
        ValueError: An option is out of range, or the input has another lookback or number of series.
    """

    def __init__(
        self,
        lookback: int,
        horizon: int,
        series: int,
        embed_dim: int = 128,
        hidden: int = 256,
        channel_mixing: bool = False,
        mixing: Mixing = "diagonal",
        sparsity: float = 0.01,
        init_scale: float = 0.02,
        instance_norm: bool = False,
        dropout: float = 0.0,
        skip: Skip = "none",
        head: str = "mlp",
        zero_head: bool = False,
    ) -> None:
        super().__init__()
        if skip not in ("none", "linear"):
            raise ValueError(f"skip must be 'none' or 'linear', not {skip!r}")
        self.lookback, self.horizon, self.series = lookback, horizon, series
        self.embed_dim, self.hidden, self.mixing = embed_dim, hidden, mixing
        self.channel_mixing, self.instance_norm, self.zero_head = channel_mixing, instance_norm, zero_head
        self.force_direct = False
        self.embedding = nn.Parameter(torch.empty(embed_dim))
        self.channel_mlp = FrequencyMLP(embed_dim, mixing, sparsity, init_scale) if channel_mixing else None
        self.temporal_mlp = FrequencyMLP(embed_dim, mixing, sparsity, init_scale)
        self.hidden_layer = nn.Linear(lookback * embed_dim, hidden)
        self.dropout = nn.Dropout(dropout)
        self.output_layer = (
            nn.Linear(hidden, horizon) if head == "mlp" else NamedHead(head, hidden, horizon, zero=zero_head)
        )
        self.linear_skip = nn.Linear(lookback, horizon) if skip == "linear" else None
        self.reset_parameters()

    @property
    def uses_fast_path(self) -> bool:
        """Whether :meth:`forward` takes the rank-one path."""
        return self.mixing == "diagonal" and self.channel_mlp is None and not self.force_direct

    def reset_parameters(self) -> None:
        """Draw the weights as the paper's implementation does; the skip, where there is one, is zero."""
        nn.init.normal_(self.embedding)
        for learner in (self.channel_mlp, self.temporal_mlp):
            if learner is not None:
                learner.reset_parameters()
        for layer in (self.hidden_layer, self.output_layer):
            if isinstance(layer, NamedHead):
                layer.reset_parameters()
                continue
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -bound, bound)
        if self.zero_head and isinstance(self.output_layer, nn.Linear):
            nn.init.zeros_(self.output_layer.weight)
            nn.init.zeros_(self.output_layer.bias)
        if self.linear_skip is not None:
            nn.init.zeros_(self.linear_skip.weight)
            nn.init.zeros_(self.linear_skip.bias)

    def set_linear_skip(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Start the skip from a known map, for example the closed-form ridge solution.

        Args:
            weight: ``(horizon, lookback)``, applied to the values minus the last one.
            bias: ``(horizon,)``; zero when left out.

        Raises:
            ValueError: There is no skip, or a shape is wrong.
        """
        if self.linear_skip is None:
            raise ValueError("set_linear_skip needs a network with skip='linear'")
        bias = torch.zeros(self.horizon) if bias is None else bias
        for name, given, own in (
            ("weight", weight, self.linear_skip.weight),
            ("bias", bias, self.linear_skip.bias),
        ):
            if given.shape != own.shape:
                raise ValueError(f"{name} must have shape {tuple(own.shape)}, not {tuple(given.shape)}")
        with torch.no_grad():
            self.linear_skip.weight.copy_(weight)
            self.linear_skip.bias.copy_(bias)

    def aux_loss(self) -> Tensor | float:
        """Return what the head adds to the training loss; 0 for the paper's."""
        return self.output_layer.module.aux_loss() if isinstance(self.output_layer, NamedHead) else 0.0

    @torch.no_grad()
    def scale_correction(self, factor: float) -> None:
        """Multiply what the network adds to its skip by ``factor``; 0 leaves the skip alone."""
        if isinstance(self.output_layer, NamedHead):
            self.output_layer.factor.mul_(factor)
            return
        self.output_layer.weight.mul_(factor)
        self.output_layer.bias.mul_(factor)

    def embed(self, x: Tensor) -> Tensor:
        """Map ``(batch, lookback, series)`` to ``(batch, series, lookback, embed_dim)``."""
        return x.transpose(1, 2).unsqueeze(-1) * self.embedding

    def channel_learner(self, embedded: Tensor) -> Tensor:
        """Mix the series in the frequency domain, ``(batch, series, lookback, embed_dim)`` to the same.

        Raises:
            ValueError: The network was built without channel mixing.
        """
        if self.channel_mlp is None:
            raise ValueError("this network was built with channel_mixing=False")
        mixed = self._learn(embedded.transpose(1, 2), self.channel_mlp)
        return mixed.transpose(1, 2)

    def temporal_learner(self, embedded: Tensor) -> Tensor:
        """Learn along time in the frequency domain, ``(batch, series, lookback, embed_dim)`` to the same."""
        return self._learn(embedded, self.temporal_mlp)

    def head(self, features: Tensor) -> Tensor:
        """Map features ``(batch, series, lookback, embed_dim)`` to ``(batch, horizon, series)``."""
        return self._project(features.transpose(2, 3).flatten(2)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast ``(batch, horizon, series)`` from ``(batch, lookback, series)``."""
        if x.shape[1:] != (self.lookback, self.series):
            raise ValueError(
                f"expected (batch, {self.lookback}, {self.series}), got {tuple(x.shape)}: "
                "lookback and series are fixed at construction"
            )
        if not self.instance_norm:
            out = self._network(x)
            return out if self.linear_skip is None else out + self._skip(x)
        mean = x.mean(1, keepdim=True)
        deviation = (x.var(1, keepdim=True, correction=0) + _NORM_EPSILON).sqrt()
        out = self._network((x - mean) / deviation) * deviation
        return out + (mean if self.linear_skip is None else self._skip(x))

    @torch.no_grad()
    def explain_spectrum(self, x: Tensor) -> SpectrumExplanation:
        """Describe what the temporal learner does to the frequencies of ``(batch, lookback, series)``."""
        if self.instance_norm:
            spread = (x.var(1, keepdim=True, correction=0) + _NORM_EPSILON).sqrt()
            x = (x - x.mean(1, keepdim=True)) / spread
        embedded = self.embed(x)
        if self.channel_mlp is not None:
            embedded = self.channel_learner(embedded)
        spectrum = torch.fft.rfft(embedded, dim=2, norm="ortho")
        amplitude_in = spectrum.abs().mean((0, 1, 3))
        amplitude_out = self.temporal_mlp(spectrum).abs().mean((0, 1, 3))
        silent = amplitude_in <= torch.finfo(amplitude_in.dtype).eps
        gain = torch.where(silent, torch.zeros_like(amplitude_in), amplitude_out / amplitude_in)
        frequencies = torch.fft.rfftfreq(self.lookback, device=x.device)
        return SpectrumExplanation(frequencies, amplitude_in, amplitude_out, gain, self.temporal_mlp.gain())

    @torch.no_grad()
    def load_reference_weights(self, weights: Mapping[str, Any]) -> None:
        """Take weights in the naming and layout of the public reference implementations.

        Args:
            weights: Arrays named ``embeddings (1, D)``; ``r2, i2 (D, D)``, ``rb2, ib2 (D,)`` of the temporal
                learner and, with channel mixing, the same with suffix 1; ``fc.0.weight (hidden, L * D)``
                time-major, ``fc.0.bias``, ``fc.2.weight``, ``fc.2.bias``. In diagonal mode the diagonal
                of a matrix is taken, since the rest of it never was in use.

        Raises:
            KeyError: A name is missing.
            ValueError: The head is not the paper's.
        """
        if not isinstance(self.output_layer, nn.Linear):
            raise ValueError("reference weights are of the paper's head; build the network with head='mlp'")

        def tensor(name: str) -> Tensor:
            return torch.as_tensor(weights[name]).to(self.embedding)

        self.embedding.copy_(tensor("embeddings").reshape(-1))
        for suffix, learner in (("1", self.channel_mlp), ("2", self.temporal_mlp)):
            if learner is None:
                continue
            for name, own in (("r", learner.real), ("i", learner.imag)):
                matrix = tensor(name + suffix)
                own.copy_(matrix.diagonal() if matrix.ndim > own.ndim else matrix)
            learner.real_bias.copy_(tensor("rb" + suffix))
            learner.imag_bias.copy_(tensor("ib" + suffix))
        time_major = tensor("fc.0.weight").view(self.hidden, self.lookback, self.embed_dim)
        self.hidden_layer.weight.copy_(time_major.transpose(1, 2).flatten(1))
        self.hidden_layer.bias.copy_(tensor("fc.0.bias"))
        self.output_layer.weight.copy_(tensor("fc.2.weight"))
        self.output_layer.bias.copy_(tensor("fc.2.bias"))

    def _network(self, x: Tensor) -> Tensor:
        if self.uses_fast_path:
            rows = x.transpose(1, 2).reshape(-1, self.lookback)
            size = max(1, len(rows)) if torch.is_grad_enabled() else _ROWS_PER_BLOCK
            out = torch.cat([self._rank_one_head(block) for block in torch.split(rows, size)])
            return out.view(x.shape[0], self.series, self.horizon).transpose(1, 2)
        embedded = self.embed(x)
        mixed = embedded if self.channel_mlp is None else self.channel_learner(embedded)
        return self.head(self.temporal_learner(mixed) + embedded)

    def _rank_one_head(self, rows: Tensor) -> Tensor:
        # Transforms exist in single and double precision only, so they stay out of mixed precision.
        with torch.autocast(rows.device.type, enabled=False):
            features = rank_one_features(rows.to(self.embedding.dtype), self.embedding, self.temporal_mlp)
        return self._project(features.flatten(1))

    def _learn(self, embedded: Tensor, learner: FrequencyMLP) -> Tensor:
        """Run a learner along axis 2 of ``(..., ..., steps, embed_dim)``."""
        with torch.autocast(embedded.device.type, enabled=False):
            spectrum = torch.fft.rfft(embedded.to(learner.real.dtype), dim=2, norm="ortho")
            out: Tensor = torch.fft.irfft(learner(spectrum), n=embedded.shape[2], dim=2, norm="ortho")
        return out

    def _project(self, features: Tensor) -> Tensor:
        hidden = self.hidden_layer(features)
        if isinstance(self.output_layer, nn.Linear):
            hidden = F.leaky_relu(hidden, 0.01)
        out: Tensor = self.output_layer(self.dropout(hidden))
        return out

    def _skip(self, x: Tensor) -> Tensor:
        assert self.linear_skip is not None
        return _from_last_value(self.linear_skip, x)


def _from_last_value(linear: nn.Linear, x: Tensor) -> Tensor:
    """Apply a map along time to the values minus the last one, which is added back."""
    last = x[:, -1:]
    change: Tensor = linear((x - last).transpose(1, 2))
    return change.transpose(1, 2) + last


class NLinear(nn.Module):
    """Subtract the last value, one linear map shared by the series, add it back (arXiv 2205.13504).

    Args:
        lookback: Input steps.
        horizon: Output steps.

    Shape:
        - input: ``(batch, lookback, series)``
        - output: ``(batch, horizon, series)``
    """

    def __init__(self, lookback: int, horizon: int) -> None:
        super().__init__()
        self.linear = nn.Linear(lookback, horizon)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast ``(batch, horizon, series)`` from ``(batch, lookback, series)``."""
        return _from_last_value(self.linear, x)


class DLinear(nn.Module):
    """Separate linear maps, shared by the series, for moving average and remainder (arXiv 2205.13504).

    Args:
        lookback: Input steps.
        horizon: Output steps.
        width: Odd width of the moving average; the edges are replicated.

    Shape:
        - input: ``(batch, lookback, series)``
        - output: ``(batch, horizon, series)``

    Raises:
        ValueError: ``width`` is even or not positive.
    """

    def __init__(self, lookback: int, horizon: int, width: int = 25) -> None:
        super().__init__()
        if width < 1 or width % 2 == 0:
            raise ValueError(f"width must be odd and positive, not {width}")
        self.width = width
        self.trend = nn.Linear(lookback, horizon)
        self.remainder = nn.Linear(lookback, horizon)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast ``(batch, horizon, series)`` from ``(batch, lookback, series)``."""
        rows = x.transpose(1, 2)
        edge = self.width // 2
        trend = F.avg_pool1d(F.pad(rows, (edge, edge), mode="replicate"), self.width, stride=1)
        out: Tensor = self.trend(trend) + self.remainder(rows - trend)
        return out.transpose(1, 2)
