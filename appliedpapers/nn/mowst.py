"""Mixture of a weak and a strong expert, weighted row by row by how sure the weak one is.

Source: "Mixture of Weak and Strong Experts on Graphs" (ICLR 2024, arXiv 2311.05185). Deviations, on purpose:
the confidence at test comes from one softmax, as in training (the released code takes two); the expectation
over the gate's choice is computed instead of sampled; training starts at the strong expert (gate bias -2).

Above 400 lines because one class is one model: losses, routing and prediction share its state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliedpapers.nn.module import Module, check_choice, check_features
from appliedpapers.nn.mowst_checks import check_labels, check_pair
from appliedpapers.nn.mowst_experts import ExpertError, ProbabilityExpert, as_expert, input_of
from appliedpapers.nn.mowst_gates import ConfidenceGate, dispersion, dispersion_of_variance
from appliedpapers.nn.mowst_routing import Evidence, Routed, Weight, choose_threshold, cost_curve

__all__ = ["ConfidenceGatedMixture", "ExpertError", "ProbabilityExpert", "dispersion"]

Side = Literal["weak", "strong"]
MODES = ("mowst", "star")
PREDICT_MODES = ("expected", "threshold", "sample")


class ConfidenceGatedMixture(Module):
    """A weak and a strong expert with a confidence gate: training losses, prediction, and routing.

    With the weak expert's probabilities ``p``, the strong one's ``p'`` and the confidence ``c`` in the weak
    one, the prediction is ``c p + (1 - c) p'``, or one of the two by a threshold on ``c``. Then the strong
    expert runs only on the rows where the weak one is unsure.

    Args:
        weak: The cheap expert: a specification of the shelf (built with ``in_features`` and
            ``out_features``), a module that gives logits, or a model of another library that gives
            probabilities (then frozen).
        strong: The dear expert, likewise.
        in_features: Size of the last axis of the input; needed for experts given by specification.
        out_features: Number of classes, 1 for experts with one logit (of class 1 of two), or the number of
            targets in regression.
        gate: ``mlp``, ``monotone``, ``power`` or ``constant``, see :class:`ConfidenceGate`.
        mode: Training loss. ``mowst``: the gated mean of both experts' losses; ``star``: the loss of the
            gated mean of their logits, never larger.
        mix: What :meth:`forward` and ``expected`` predictions mix: ``probabilities``, or ``logits`` as
            ``star`` is trained.
        task: ``classification``, or ``regression`` with a weak expert that gives ``(mean, variance)``.
        features: Which input each part reads where the input is a mapping: keys ``weak``, ``strong``,
            ``gate``; by default inputs of the same names (``gate`` reads what ``weak`` reads).
        gate_features: Number of features the gate reads beside the dispersion; 0 for none.
        gate_hidden: Width of the gate.
        gate_depth: Number of linear layers of the gate.
        gate_drop: Dropout in the gate.
        gate_bias: Initial bias of its last layer.
        detach_dispersion: No gradient through the dispersion to the weak expert, as released.
        freeze: ``none``, ``weak``, ``strong`` or ``both``: experts that are not trained and stay in
            evaluation mode. Foreign experts always are.
        target_variance: Variance of the regression target over the training rows.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Attributes:
        weight: What :meth:`forward` uses in evaluation: ``"gate"``, or a fixed weight of the weak expert
            (1 weak alone, 0 strong alone, 0.5 the plain average), as the selection on the validation rows
            has set it.
        signal: What thresholds read: ``"gate"``, or ``"variance"``, the first dispersion of the weak expert.

    Shape:
        - input: ``(..., in_features)``, or a mapping from names to inputs, see
          :func:`appliedpapers.nn.mowst_experts.input_of`
        - output: ``(..., out_features)`` logits (means in regression); in evaluation their softmax is the
          mixture's probability

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        weak: Any,
        strong: Any,
        in_features: int | None = None,
        out_features: int | None = None,
        *,
        gate: str = "mlp",
        mode: str = "star",
        mix: str = "probabilities",
        task: str = "classification",
        features: Mapping[str, str] | None = None,
        gate_features: int = 0,
        gate_hidden: int = 64,
        gate_depth: int = 2,
        gate_drop: float = 0.3,
        gate_bias: float = -2.0,
        detach_dispersion: bool = True,
        freeze: str = "none",
        target_variance: float = 1.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = "ConfidenceGatedMixture"
        check_choice(name, "mode", mode, MODES)
        check_choice(name, "mix", mix, ("probabilities", "logits"))
        check_choice(name, "task", task, ("classification", "regression"))
        check_choice(name, "freeze", freeze, ("none", "weak", "strong", "both"))
        if not target_variance > 0:
            raise ValueError(f"{name}: target_variance must be above 0, not {target_variance}")
        where = {"device": device, "dtype": dtype}
        self.in_features, self.out_features = in_features, out_features
        self.mode, self.mix, self.task = mode, mix, task
        self.detach_dispersion, self.target_variance = detach_dispersion, target_variance
        self.keys = {"weak": "weak", "strong": "strong", **(features or {})}
        self.weak = as_expert(weak, in_features, out_features, **where)
        self.strong = as_expert(strong, in_features, out_features, **where)
        self.gate = ConfidenceGate(
            gate, gate_features, gate_hidden, gate_depth, gate_drop, gate_bias, device=device, dtype=dtype
        )
        self.weight: Weight = "gate"
        self.signal: Literal["gate", "variance"] = "gate"
        self.frozen = frozenset(
            side
            for side in ("weak", "strong")
            if freeze in (side, "both") or isinstance(self.expert(side), ProbabilityExpert)
        )
        for side in self.frozen:
            self.expert(side).requires_grad_(False).eval()

    def expert(self, side: str) -> nn.Module:
        """Return the expert ``weak`` or ``strong``."""
        return self.weak if side == "weak" else self.strong

    def train(self, mode: bool = True) -> ConfidenceGatedMixture:
        """Set the training mode; frozen experts stay in evaluation mode."""
        super().train(mode)
        for side in self.frozen:
            self.expert(side).eval()
        return self

    def reset_parameters(self) -> None:
        """Draw the weights of the gate and of the experts that are not frozen anew."""
        self.gate.reset_parameters()
        for side in {"weak", "strong"} - self.frozen:
            reset = getattr(self.expert(side), "reset_parameters", None)
            if callable(reset):
                reset()

    def update(self, x: Tensor) -> None:
        """Fit the grids of those experts that have one."""
        for expert in (self.weak, self.strong):
            if isinstance(expert, Module):
                expert.update(x)

    # ---- the parts -----------------------------------------------------------------------------------------

    def answer(self, side: Side, x: Any, rows: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Run one expert.

        Args:
            side: Which.
            x: The input of the mixture.
            rows: Rows to run on, int64, by position in the first axis; None for all.

        Returns:
            ``(..., classes)`` logits and None; in regression ``(..., targets)`` means and variances (None
            where the strong expert gives none).

        Raises:
            ExpertError: The expert raised, or its answer is no such tensor or holds NaN.
            ValueError: The input does not fit, or there are fewer than two classes.
        """
        value = input_of(x, self.keys[side] if isinstance(x, Mapping) else side, rows)
        if self.in_features is not None and isinstance(value, Tensor) and not isinstance(x, Mapping):
            check_features(value, self.in_features, self)
        if torch.compiler.is_compiling():
            return self._read(side, self.expert(side)(value))
        try:
            raw = self.expert(side)(value)
        except Exception as error:
            count = "all rows" if rows is None else f"{len(rows)} routed rows"
            raise ExpertError(f"the {side} expert failed on {count}: {error}") from error
        answer, variance = self._read(side, raw)
        if answer.numel() and not bool(answer.isfinite().all()):
            bad = int((~answer.isfinite()).reshape(-1, answer.shape[-1]).any(-1).sum())
            raise ExpertError(f"the {side} expert gave NaN or infinite values in {bad} rows; check its input")
        return answer, variance

    def confidence(self, weak: tuple[Tensor, Tensor | None], x: Any = None) -> Tensor:
        """Return the confidence in the weak expert's answer.

        Args:
            weak: What :meth:`answer` gave for the weak expert.
            x: The input, where the gate reads features.

        Returns:
            ``(...)`` in [0, 1].
        """
        answer, variance = weak
        spread = (
            dispersion(answer)
            if self.task == "classification"
            else dispersion_of_variance(_given(variance), self.target_variance)
        )
        spread = spread.detach() if self.detach_dispersion else spread
        if self.signal == "variance":
            return spread[..., 0]
        if not self.gate.features:
            return self.gate(spread)  # type: ignore[no-any-return]
        key = self.keys.get("gate", "gate" if isinstance(x, Mapping) and "gate" in x else self.keys["weak"])
        return self.gate(spread, input_of(x, key))  # type: ignore[no-any-return]

    def row_loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each row, ``(...)``: cross-entropy, or the mean squared error over targets."""
        if self.task == "regression":
            return (answer - y.reshape(answer.shape)).square().mean(-1)
        flat = F.cross_entropy(answer.reshape(-1, answer.shape[-1]), y.reshape(-1), reduction="none")
        return flat.reshape(answer.shape[:-1])

    def mixture_loss(
        self, weak: Tensor, strong: Tensor, c: Tensor, y: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss of given answers and confidences, a scalar.

        ``mowst`` multiplies the losses row by row and then takes the mean; ``star`` takes the loss of the
        mixed answers.

        Args:
            weak: ``(..., classes)`` answers of the weak expert.
            strong: Those of the strong expert.
            c: ``(...)`` confidence in the weak expert.
            y: ``(...)`` int64 classes, or ``(..., targets)`` in regression.
            weights: ``(...)`` weights of the rows; the mean is over their sum.
        """
        if self.mode == "star":
            rows = self.row_loss(_mixed(c, weak, strong), y)
        else:
            rows = c * self.row_loss(weak, y) + (1 - c) * self.row_loss(strong, y)
        return rows.mean() if weights is None else (rows * weights).sum() / weights.sum()

    def loss(self, x: Any, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the training loss of labelled rows; see :meth:`mixture_loss`.

        Raises:
            ValueError: A label is outside 0..classes-1, or there are no rows.
            ExpertError: As for :meth:`answer`.
        """
        weak, strong = self.answer("weak", x), self.answer("strong", x)
        check_pair(weak[0], strong[0])
        check_labels(y, weak[0], self.task)
        return self.mixture_loss(weak[0], strong[0], self.confidence(weak, x), y, weights)

    def forward(self, x: Any) -> Tensor:
        """Return the mixture's logits (means in regression)."""
        fixed = self.weight if not self.training else "gate"
        if fixed == 1.0 or fixed == 0.0:
            return self._narrow(self.answer("weak" if fixed else "strong", x)[0])
        weak, strong = self.answer("weak", x), self.answer("strong", x)
        check_pair(weak[0], strong[0])
        c = self.confidence(weak, x) if isinstance(fixed, str) else weak[0].new_full((), fixed)
        if self.task == "regression" or self.mix == "logits" or (self.training and self.mode == "star"):
            return self._narrow(_mixed(c, weak[0], strong[0]))
        return self._narrow(_log_mixed(c, weak[0], strong[0]))

    # ---- prediction ----------------------------------------------------------------------------------------

    def evidence(self, x: Any) -> Evidence:
        """Run both experts and the gate in evaluation mode, timed."""
        with self._evaluating():
            started = time.perf_counter()
            weak = self.answer("weak", x)
            weak_done = time.perf_counter()
            c = self.confidence(weak, x)
            gate_done = time.perf_counter()
            strong = self.answer("strong", x)
            seconds = {
                "weak": weak_done - started,
                "gate": gate_done - weak_done,
                "strong": time.perf_counter() - gate_done,
            }
            check_pair(weak[0], strong[0])
            return Evidence(self._final(weak[0]), self._final(strong[0]), c, seconds)

    def predict(
        self, x: Any, mode: str = "expected", *, tau: float | None = None, seed: int | None = None
    ) -> Tensor:
        """Return predictions in evaluation mode, without gradient.

        Args:
            x: The input.
            mode: ``expected`` mixes by the confidence (or by :attr:`weight` where selection has fixed it);
                ``threshold`` takes the weak expert where ``c >= tau``, else the strong one; ``sample`` draws
                one of the two with probability ``c``.
            tau: For ``threshold``.
            seed: For ``sample``.

        Returns:
            ``(..., classes)`` probabilities, or ``(..., targets)`` means in regression.

        Raises:
            ValueError: ``tau`` or ``seed`` is missing, or the mode is unknown.
        """
        check_choice("predict", "mode", mode, PREDICT_MODES)
        if mode == "expected":
            with self._evaluating():
                final = self(x)
                return final if self.task == "regression" else self._final(self._widened(final))
        if mode == "threshold" and tau is None:
            raise ValueError("predict: mode='threshold' needs tau; tau_for(...) chooses one")
        if mode == "sample" and seed is None:
            raise ValueError("predict: mode='sample' needs a seed")
        found = self.evidence(x)
        if tau is not None and mode == "threshold":
            chosen = found.confidence >= tau
        else:
            source = torch.Generator().manual_seed(seed or 0)
            draws = torch.rand(found.confidence.shape, generator=source, dtype=torch.float64)
            chosen = draws.to(found.confidence.device) < found.confidence
        return torch.where(chosen.unsqueeze(-1), found.weak, found.strong)

    def expected_score(self, x: Any, y: Tensor) -> float:
        """Return the exact expectation over the gate's choice of the accuracy (minus the MSE in regression).

        That is ``mean[c 1(weak is right) + (1 - c) 1(strong is right)]``; nothing is sampled.
        """
        return self.evidence(x).expected_score(y)

    def route(self, x: Any, tau: float, *, answer: Weight = 0.0) -> Routed:
        """Run the weak expert on all rows and the strong one only where ``c < tau``.

        Args:
            x: The input; lazy inputs of the strong expert are computed for the routed rows only.
            tau: The threshold.
            answer: Weight of the weak expert on routed rows: 0 takes the strong expert's answer, as
                ``predict("threshold", tau)`` does; 0.5 averages; ``"gate"`` mixes by the confidence.

        Returns:
            Predictions, the routed rows, and the seconds of each part.

        Raises:
            ExpertError: As for :meth:`answer`.
        """
        with self._evaluating():
            started = time.perf_counter()
            weak = self.answer("weak", x)
            weak_done = time.perf_counter()
            c = self.confidence(weak, x)
            routed = c < tau
            prediction = self._final(weak[0])
            gate_done = time.perf_counter()
            rows = routed.reshape(-1).nonzero().squeeze(-1)
            if rows.numel():
                lead = routed.shape
                inputs = x if len(lead) == 1 else _flattened(x, len(lead))
                strong = self._final(self.answer("strong", inputs, rows)[0])
                flat = prediction.reshape(-1, prediction.shape[-1]).clone()
                check_pair(flat[rows], strong)
                share = c.reshape(-1)[rows].unsqueeze(-1) if answer == "gate" else float(answer)
                flat[rows] = share * flat[rows] + (1 - share) * strong if answer != 0.0 else strong
                prediction = flat.reshape(prediction.shape)
            seconds = {
                "weak": weak_done - started,
                "gate": gate_done - weak_done,
                "strong": time.perf_counter() - gate_done,
            }
            return Routed(prediction, c, routed, seconds)

    def tau_for(
        self,
        x: Any,
        y: Tensor | None = None,
        *,
        budget: float | None = None,
        max_loss: float | None = None,
        answer: Weight = 0.0,
    ) -> float:
        """Choose the threshold of :meth:`route` on validation rows.

        Args:
            x: Validation input.
            y: Its labels, for ``max_loss``.
            budget: Largest share of rows to route.
            max_loss: Largest loss in points of accuracy (of the MSE in regression) against routing
                every row; the smallest share that keeps to it is taken.
            answer: As for :meth:`route`.

        Raises:
            ValueError: Not exactly one of ``budget`` and ``max_loss`` is given, or ``y`` is missing.
        """
        return choose_threshold(self.evidence(x), y, budget=budget, max_loss=max_loss, answer=answer)

    def curve(
        self,
        x: Any,
        y: Tensor,
        shares: tuple[float, ...] | None = None,
        answer: Weight = 0.0,
    ) -> list[dict[str, float]]:
        """Return cost against quality over the share of rows routed; see :func:`cost_curve`."""
        return cost_curve(self.evidence(x), y, shares, answer)

    # ---- keeping -------------------------------------------------------------------------------------------

    def save(self, folder: Path | str) -> None:
        """Write the mixture, the gate and the selection included, as JSON and safetensors."""
        from appliedpapers.nn.mowst_bundle import save

        save(self, Path(folder))

    @classmethod
    def load(cls, folder: Path | str, *, weak: Any = None, strong: Any = None) -> ConfidenceGatedMixture:
        """Read what :meth:`save` wrote.

        Args:
            folder: The folder.
            weak: The weak expert, where it is not one of the shelf: a module of the same architecture
                (its weights are read), or the foreign model.
            strong: Likewise.
        """
        from appliedpapers.nn.mowst_bundle import load

        return load(Path(folder), weak, strong)

    def extra_repr(self) -> str:
        """Name what the parts do not show."""
        return f"mode={self.mode}, mix={self.mix}, task={self.task}, weight={self.weight}"

    # ---- shapes ------------------------------------------------------------------------------------------

    def _read(self, side: Side, raw: Any) -> tuple[Tensor, Tensor | None]:
        if self.task == "regression":
            mean, variance = raw if isinstance(raw, tuple) else (raw, None)
            if side == "weak" and variance is None:
                raise ValueError(
                    "regression needs a weak expert that gives (mean, variance): without a variance there is "
                    "no confidence to route by"
                )
            return mean, variance
        if not isinstance(raw, Tensor):
            raise ExpertError(f"the {side} expert must give a tensor of logits, got {type(raw).__name__}")
        return self._widened(raw), None

    def _widened(self, logits: Tensor) -> Tensor:
        """One logit of class 1 becomes two classes."""
        if logits.shape[-1] != 1:
            return logits
        if self.out_features != 1:
            raise ValueError(
                "classification needs at least two classes; for experts with one logit give out_features=1"
            )
        return torch.cat([torch.zeros_like(logits), logits], dim=-1)

    def _narrow(self, answer: Tensor) -> Tensor:
        if self.task == "regression" or self.out_features != 1:
            return answer
        return answer[..., 1:] - answer[..., :1]

    def _final(self, answer: Tensor) -> Tensor:
        return answer if self.task == "regression" else answer.softmax(-1)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, training in modes:
                module.training = training


def _mixed(c: Tensor, weak: Tensor, strong: Tensor) -> Tensor:
    share = c.unsqueeze(-1)
    return share * weak + (1 - share) * strong


def _log_mixed(c: Tensor, weak: Tensor, strong: Tensor) -> Tensor:
    """``ln(c p + (1 - c) p')``, finite where one of the two vanishes."""
    tiny = math.log(torch.finfo(weak.dtype).tiny)
    mixed = _mixed(c, weak.softmax(-1), strong.softmax(-1))
    return mixed.clamp(min=math.exp(tiny)).log()


def _given(variance: Tensor | None) -> Tensor:
    assert variance is not None  # _read has refused a weak expert without one
    return variance


def _flattened(x: Any, axes: int) -> Any:
    if isinstance(x, Mapping):
        return {key: _flattened(value, axes) for key, value in x.items()}
    return x.flatten(0, axes - 1) if isinstance(x, Tensor) else x
