"""Networks as ONNX files whose answers were compared with the network's own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.errors import PluginError, RunError
from appliedpapers.core.files import whole_file

if TYPE_CHECKING:
    from torch import Tensor, nn

CLOSE = 1e-5
"""Largest difference between an exported network and ours."""


def export_onnx(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    *,
    dynamic_shapes: Any = None,
) -> None:
    """Write a module as one ONNX file and check what it answers.

    Args:
        module: In eval mode, on the CPU.
        inputs: Typical inputs by name, in the order of ``forward``.
        outputs: Names of what it returns.
        path: The file; it appears whole.
        dynamic_shapes: As in ``torch.export``: which axes may have any length.

    Raises:
        PluginError: A library for ONNX is missing.
        RunError: The file does not answer as the module does, to 1e-5.
    """
    import torch

    try:
        import onnxruntime
        import onnxscript  # noqa: F401  what torch writes with
    except ImportError as error:
        raise PluginError(f"ONNX needs {error.name}.", hint='pip install "applied-papers[onnx]"') from None
    tensors = tuple(inputs.values())
    with whole_file(path) as aside, _silence():
        torch.onnx.export(
            module,
            tensors,
            str(aside),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic_shapes,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        session = onnxruntime.InferenceSession(str(aside), providers=["CPUExecutionProvider"])
        fed = {item.name: inputs[item.name].numpy() for item in session.get_inputs()}
        answered = session.run(list(outputs), fed)
        with torch.inference_mode():
            expected = module(*tensors)
        ours = expected if isinstance(expected, tuple) else (expected,)
        worst = max(
            float(abs(found - value.numpy()).max()) for found, value in zip(answered, ours, strict=True)
        )
        if not worst <= CLOSE:
            raise RunError(
                f"{path.name}: the exported model differs from ours by {worst:.2g}.",
                hint=f"Expected at most {CLOSE:g}; try another version of onnxscript.",
            )


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's warnings about its own inside, and about libraries that nobody needs, to itself."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
