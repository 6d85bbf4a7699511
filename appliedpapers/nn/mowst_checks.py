"""Checks of what experts answer and of the labels they are trained on."""

from __future__ import annotations

import torch
from torch import Tensor


def check_pair(weak: Tensor, strong: Tensor) -> None:
    """Refuse experts whose answers do not have the same shape.

    Raises:
        ValueError: They differ; the message says in what.
    """
    if weak.shape[-1] != strong.shape[-1]:
        raise ValueError(
            f"the weak expert gives {weak.shape[-1]} classes, the strong one {strong.shape[-1]}; "
            "both must give the same"
        )
    if weak.shape != strong.shape:
        shapes = f"{tuple(weak.shape)} and {tuple(strong.shape)}"
        raise ValueError(f"the experts' answers have different shapes: {shapes}")


def check_labels(y: Tensor, answer: Tensor, task: str) -> None:
    """Refuse labels that do not fit the answers.

    Args:
        y: ``(...)`` classes, or ``(..., targets)``.
        answer: ``(..., classes)`` or ``(..., targets)``.
        task: ``classification`` or ``regression``.

    Raises:
        ValueError: There are no rows, their number differs, or a label is outside 0..classes-1.
    """
    if not y.numel():
        raise ValueError("there are no labelled rows")
    if task == "regression":
        if y.numel() != answer.numel():
            raise ValueError(f"{y.numel()} target values for {answer.numel()} predictions")
        return
    if y.shape != answer.shape[:-1]:
        raise ValueError(f"labels of shape {tuple(y.shape)} for {tuple(answer.shape[:-1])} rows")
    if torch.compiler.is_compiling():
        return
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= answer.shape[-1]:
        bad = low if low < 0 else high
        raise ValueError(
            f"label {bad} is outside 0..{answer.shape[-1] - 1}; leave unlabelled rows out of the loss"
        )
