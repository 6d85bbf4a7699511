"""Types for configurations that take shared modules by name. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from appliedpapers.nn.registry import SpecError, list_modules, parse

_TRIED = 8
_MOST = 4096
_MOST_GRID = 256


def _head(spec: str) -> str:
    """Refuse a text that names no module from features to features, or options that it does not take.

    Raises:
        SpecError: The message names the nearest modules or options, or those that fit.
        ValueError: An option is out of range.
    """
    entry, options = parse(spec)
    if entry.kind not in ("network", "layer"):
        fitting = sorted({*list_modules(kind="network"), *list_modules(kind="layer")})
        raise SpecError(
            f"'{entry.name}' is of kind {entry.kind} and cannot be a head; there are {', '.join(fitting)}"
        )
    _require_small(options)
    if options or entry.name != "mlp":
        # only a module knows its options; a small one is quickly made, and loads torch only where it must
        from appliedpapers.nn.factory import build

        try:
            build(spec, in_features=_TRIED, out_features=_TRIED)
        # options may ask together for more than memory holds, or be of a kind that the module does not take
        except (MemoryError, RuntimeError, TypeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise SpecError(f"'{spec}' cannot be built: {reason}") from None
    return spec


def _require_small(options: Mapping[str, Any]) -> None:
    """Refuse sizes that no configuration needs, before memory and time are spent on them.

    Raises:
        SpecError: A width or a grid is too large; modules made in Python have no such bound.
    """
    for name, value in options.items():
        if isinstance(value, str) and "(" in value:
            _require_small(parse(value)[1])
        most = _MOST_GRID if name in ("grid", "degree") else _MOST
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and abs(number) > most:
                raise SpecError(f"option {name}={number:.12g} is larger than {most}")


HeadSpec = Annotated[str, AfterValidator(_head), Field(json_schema_extra={"takes": "module"})]
"""Text such as ``mlp`` or ``kan(basis=rbf, grid=8)`` that names a network or layer."""


def _linear_or_head(spec: str) -> str:
    return spec if spec == "linear" else _head(spec)


LinearOrHead = Annotated[str, AfterValidator(_linear_or_head), Field(json_schema_extra={"takes": "module"})]
"""``linear`` for one linear layer, or what :data:`HeadSpec` takes."""
