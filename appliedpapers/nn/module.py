"""What every shared module has in common: its configuration, auxiliary loss, grid update and input check."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Module(nn.Module):
    """Base of the shared modules.

    A subclass is built from plain values (numbers, strings, tuples, other modules), keyword arguments
    ``device`` and ``dtype`` included, and :meth:`config` gives them back, so that
    ``nn.build(module.config())`` is an equal module with fresh weights.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Make the constructor of a subclass remember its arguments."""
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]

    def config(self) -> dict[str, Any]:
        """Return ``{"name": ..., option: value, ...}`` that :func:`appliedpapers.nn.build` accepts.

        Values are JSON-like, with nested modules as nested configurations. ``device`` is left out, since it
        is a property of the place and not of the module.
        """
        from appliedpapers.nn.registry import name_of

        remembered: Mapping[str, Any] = self.__dict__["_remembered"]
        return {"name": name_of(type(self)), **{key: _plain(value) for key, value in remembered.items()}}

    def aux_loss(self) -> Tensor:
        """Return what the module adds to the training loss, a scalar; 0 where it adds nothing.

        The default is the sum over the nearest shared modules below this one.
        """
        losses = [module.aux_loss() for module in _nearest(self)]
        if losses:
            return torch.stack(losses).sum()
        parameter = next(self.parameters(), None)
        return torch.zeros(()) if parameter is None else parameter.new_zeros(())

    def update(self, x: Tensor) -> Any:
        """Fit what depends on the data's range (grids) to a sample ``(..., in_features)``; most need not."""

    def reset_parameters(self) -> None:
        """Draw all weights anew; the default asks every direct child that can."""
        for child in self.children():
            reset = getattr(child, "reset_parameters", None)
            if callable(reset):
                reset()


def _remembering(init: Any) -> Any:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def remember(self: Module, *args: Any, **kwargs: Any) -> None:
        if "_remembered" not in self.__dict__:
            bound = signature.bind(self, *args, **kwargs)
            kept: dict[str, Any] = {}
            for name, value in list(bound.arguments.items())[1:]:
                extra = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
                kept.update(value if extra else {name: value})
            kept.pop("device", None)
            if kept.get("dtype", ...) is None:
                del kept["dtype"]
            # set past nn.Module, whose own constructor has not run yet
            self.__dict__["_remembered"] = kept
        init(self, *args, **kwargs)

    return remember


def _plain(value: Any) -> Any:
    if isinstance(value, Module):
        return value.config()
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _nearest(module: nn.Module) -> list[Module]:
    found: list[Module] = []
    for child in module.children():
        found.extend([child] if isinstance(child, Module) else _nearest(child))
    return found


def check_features(x: Tensor, size: int, owner: nn.Module, name: str = "in_features") -> None:
    """Refuse an input whose last axis or dtype does not fit.

    Raises:
        ValueError: The last axis of ``x`` is not ``size``, or ``x`` has no axis.
        TypeError: ``x`` is not floating point.
    """
    kind = type(owner).__name__
    if x.ndim == 0 or x.shape[-1] != size:
        last = "no axis" if x.ndim == 0 else f"{x.shape[-1]}"
        raise ValueError(
            f"{kind}: the last axis of the input must be {name}={size}, got {last} (shape {tuple(x.shape)})"
        )
    if not x.is_floating_point():
        raise TypeError(f"{kind}: the input must be floating point, got {x.dtype}; convert it with x.float()")


def check_positive(owner: str, **sizes: int) -> None:
    """Refuse sizes that are not whole numbers of at least 1.

    Raises:
        ValueError: One of them is not; the message names it.
    """
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{owner}: {name} must be a whole number of at least 1, not {size!r}")


def check_choice(owner: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices.

    Raises:
        ValueError: The message lists the choices and the nearest one.
    """
    if value in choices:
        return
    from appliedpapers.nn.registry import nearest

    raise ValueError(
        f"{owner}: {name} must be one of {', '.join(choices)}, not {value!r}{nearest(str(value), choices)}"
    )
