"""Types for configurations that take shared modules by name. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from appliedpapers.nn.registry import SpecError, list_modules, parse

_TRIED = 8


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
    if options or entry.name != "mlp":
        # only a module knows its options; a small one is quickly made, and loads torch only where it must
        from appliedpapers.nn.factory import build

        build(spec, in_features=_TRIED, out_features=_TRIED)
    return spec


HeadSpec = Annotated[str, AfterValidator(_head), Field(json_schema_extra={"takes": "module"})]
"""Text such as ``mlp`` or ``kan(basis=rbf, grid=8)`` that names a network or layer."""


def _linear_or_head(spec: str) -> str:
    return spec if spec == "linear" else _head(spec)


LinearOrHead = Annotated[str, AfterValidator(_linear_or_head), Field(json_schema_extra={"takes": "module"})]
"""``linear`` for one linear layer, or what :data:`HeadSpec` takes."""
