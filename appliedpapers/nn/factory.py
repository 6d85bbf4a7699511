"""Building shared modules by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from appliedpapers.nn.registry import Entry, Kind, SpecError, check_options, parse

Spec = str | Mapping[str, Any] | nn.Module


def build(spec: Spec, in_features: int | None = None, out_features: int | None = None, **options: Any) -> Any:
    """Build a shared module from its specification.

    Args:
        spec: ``"kan"``, ``"kan(basis=rbf, grid=8)"``, a mapping with the key ``name`` (as
            :meth:`Module.config` returns it), or a module, which is given back as it is.
        in_features: Size of the last axis of the input, for modules that have one.
        out_features: Size of the last axis of the output, for modules that have one.
        options: Further options of the constructor; those of ``spec`` take precedence.

    Returns:
        The module.

    Raises:
        SpecError: The name or an option is unknown (with the nearest ones), or an option is missing.
        ValueError: The module refuses a value.
    """
    if isinstance(spec, nn.Module):
        return spec
    entry, given = parse(spec)
    sizes = {"in_features": in_features, "out_features": out_features}
    merged = {**{key: value for key, value in sizes.items() if value is not None}, **options, **given}
    return _construct(entry, merged)


def build_conv(spec: Spec, in_channels: int, out_channels: int, kernel_size: int = 3, **options: Any) -> Any:
    """Build a convolution form from its specification.

    Args:
        spec: As for :func:`build`, of kind ``conv``.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Edge of the kernel.
        options: Further options; those of ``spec`` take precedence.

    Raises:
        SpecError: As for :func:`build`, or the module is no convolution.
    """
    sizes = {"in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size}
    return _build_kind(spec, "conv", {**sizes, **options})


def build_cell(spec: Spec, input_size: int, hidden_size: int, **options: Any) -> Any:
    """Build a recurrent cell from its specification.

    Args:
        spec: As for :func:`build`, of kind ``cell``.
        input_size: Features of the input.
        hidden_size: Features of the state.
        options: Further options; those of ``spec`` take precedence.

    Raises:
        SpecError: As for :func:`build`, or the module is no cell.
    """
    return _build_kind(spec, "cell", {"input_size": input_size, "hidden_size": hidden_size, **options})


def _build_kind(spec: Spec, kind: Kind, options: dict[str, Any]) -> Any:
    if isinstance(spec, nn.Module):
        return spec
    entry, given = parse(spec)
    if entry.kind != kind:
        from appliedpapers.nn.registry import list_modules

        raise SpecError(
            f"'{entry.name}' is of kind {entry.kind}, expected {kind}: {', '.join(list_modules(kind=kind))}"
        )
    return _construct(entry, {**options, **given})


def _construct(entry: Entry, options: dict[str, Any]) -> Any:
    check_options(entry, options)
    if isinstance(options.get("dtype"), str):
        options["dtype"] = _dtype(options["dtype"])
    if isinstance(options.get("hidden"), list):
        options["hidden"] = tuple(options["hidden"])
    try:
        return entry.load()(**options)
    except TypeError as error:
        # Python's own words name the constructor, not the entry that the user wrote
        if "missing" not in str(error):
            raise
        missing = str(error).split(": ")[-1]
        raise SpecError(f"'{entry.name}' needs {missing}") from error


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise SpecError(f"dtype must be the name of a torch dtype such as float32, not '{name}'")
    return dtype
