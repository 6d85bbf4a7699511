"""What an expert may be and what it may read: modules, foreign models, tensors, lazily computed inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CLIP = 1e-7


class ExpertError(RuntimeError):
    """An expert raised, or gave something that is no answer; the message says which expert and what."""


class ProbabilityExpert(nn.Module):
    """A frozen model of any library that gives probabilities, as an expert.

    Args:
        model: An object with ``predict_proba``, or a callable; it gets the input and gives probabilities
            ``(rows, classes)``, or ``(rows,)`` with the probability of class 1 of two. A tensor input
            arrives as a NumPy array, anything else (a data frame, say) as it is.

    Shape:
        - output: ``(rows, classes)`` logits ``ln p`` with ``p`` clipped at 1e-7, float32, no gradient.

    Raises:
        TypeError: ``model`` has no ``predict_proba`` and cannot be called.
        ValueError: What it gives are no probabilities.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        predict = getattr(model, "predict_proba", model)
        if not callable(predict):
            raise TypeError(
                f"an expert must be a module, a specification, a callable or have predict_proba, "
                f"not {type(model).__name__}"
            )
        # kept past nn.Module, which would otherwise adopt a module's bound method's owner
        self.__dict__["predict"] = predict

    def forward(self, x: Any) -> Tensor:
        """Return the logits of each row."""
        given = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
        answer: Any = self.__dict__["predict"](given)
        p = torch.as_tensor(np.asarray(answer), dtype=torch.float32)
        if p.ndim == 1:
            p = torch.stack([1 - p, p], dim=-1)
        # a row of NaN is left to the check of the logits, which names the expert
        if p.numel() and bool(((p < -1e-6) | (p > 1 + 1e-6)).any()):
            low, high = float(p.min()), float(p.max())
            raise ValueError(f"a foreign expert must give probabilities, got values {low:.3g} to {high:.3g}")
        logits = p.clamp(min=CLIP).log()
        return logits.to(x.device) if isinstance(x, Tensor) else logits


def as_expert(given: Any, in_features: int | None, out_features: int | None, **where: Any) -> nn.Module:
    """Return a module for a specification of the shelf, a module, or a foreign model."""
    if isinstance(given, nn.Module):
        return given
    if isinstance(given, str | Mapping):
        from appliedpapers.nn.factory import build

        known = {key: value for key, value in where.items() if value is not None}
        module: nn.Module = build(given, in_features, out_features, **known)
        return module
    return ProbabilityExpert(given)


def input_of(x: Any, key: str, rows: Tensor | None = None) -> Any:
    """Return what one expert reads, computed now if it is lazy.

    Args:
        x: One input for all, or a mapping from names to inputs. An input that can be called is lazy: it is
            called with the wanted rows (an int64 tensor, or None for all), or with nothing if it takes
            nothing.
        key: The name in the mapping.
        rows: Rows wanted, int64 ``(n,)``; None means all.

    Raises:
        ValueError: The mapping lacks the name.
        TypeError: Rows cannot be taken from this kind of input.
    """
    value = x
    if isinstance(x, Mapping):
        if key not in x:
            raise ValueError(f"the mixture's input lacks '{key}'; it has {', '.join(map(str, sorted(x)))}")
        value = x[key]
    if callable(value) and not isinstance(value, nn.Module):
        if inspect.signature(value).parameters:
            return value(rows)
        value = value()
    return value if rows is None else take_rows(value, rows)


def take_rows(value: Any, rows: Tensor) -> Any:
    """Return the given rows of a tensor, an array, a data frame, or anything with ``take(rows)``."""
    if isinstance(value, Tensor):
        return value[rows.to(value.device)]
    index = rows.cpu().numpy()
    if isinstance(value, np.ndarray):
        return value[index]
    if hasattr(value, "iloc"):
        return value.iloc[index]
    take: Callable[[Any], Any] | None = getattr(value, "take", None)
    if take is None:
        raise TypeError(
            f"rows cannot be taken from {type(value).__name__}; give a tensor or a callable of rows"
        )
    return take(index)


def take_inputs(x: Any, rows: Tensor) -> Any:
    """Return the given rows of every input, lazy ones as lazy ones."""
    if isinstance(x, Mapping):
        return {key: take_inputs(value, rows) for key, value in x.items()}
    if callable(x) and not isinstance(x, nn.Module):
        return lambda wanted=None: input_of(x, "", rows if wanted is None else rows[wanted])
    return take_rows(x, rows)
