"""Every shared module through every way out of eager Python, compared with eager.

    python -m benchmarks.nn_portability
    python -m benchmarks.nn_portability --only kan --way onnx --json

Ways: ``compile`` (whole graph, any batch), ``export`` (torch.export, any batch), ``onnx`` (run by
onnxruntime), ``script`` (TorchScript; KAN layers as ``appliedpapers.nn.kan_script.scriptable`` freezes them,
traced where the source does not compile). Each is given two batch sizes; the figure is the largest
difference from eager.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from appliedpapers.nn import build, entries
from appliedpapers.nn.kan_script import scriptable

WAYS = ("compile", "export", "onnx", "script")
_BATCHES = (4, 7)
_IMAGES = {"conv1d": (9,), "conv2d": (9, 8), "conv3d": (5, 6, 7)}


def example_inputs(name: str, module: nn.Module, rows: int = 4) -> tuple[Tensor, ...]:
    """Return inputs that an example of the catalogue takes.

    Args:
        name: Name in the catalogue.
        module: The example, for its dtype.
        rows: Size of the first axis.
    """
    entry = next(entry for entry in entries() if entry.name == name)
    sizes = entry.example
    shape: tuple[int, ...]
    if entry.kind == "conv":
        shape = (sizes["in_channels"], *_IMAGES[name[-6:]])
    elif entry.kind == "attention":
        shape = (5, sizes["length"])
    elif name == "mixshift2d":
        shape = (sizes["in_features"], 8, 8)
    elif name == "tkan-sequence":
        shape = (2, sizes["input_size"])  # compilers unroll time
    elif entry.kind == "cell":
        shape = (sizes["input_size"],)
    elif entry.kind == "block":
        shape = (6, sizes["in_features"])
    else:
        shape = (sizes["in_features"],)
    parameter = next(module.parameters(), torch.zeros(()))
    return (torch.randn(rows, *shape, dtype=parameter.dtype),)


def difference(name: str, way: str) -> float:
    """Return the largest absolute difference from eager over two batch sizes."""
    torch.manual_seed(0)
    entry = next(entry for entry in entries() if entry.name == name)
    module = build(name, **entry.example).eval()
    small, large = (example_inputs(name, module, rows) for rows in _BATCHES)
    run = _WAYS[way](module, small)
    worst = 0.0
    for inputs in (small, large):
        for ours, theirs in zip(flat(run(*inputs)), flat(module(*inputs)), strict=True):
            worst = max(worst, float((torch.as_tensor(ours) - theirs).detach().abs().max()))
    return worst


def flat(output: Any) -> list[Tensor]:
    """Return the tensors of an output, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    return [tensor for item in output for tensor in flat(torch.as_tensor(item) if _is_array(item) else item)]


def _is_array(item: Any) -> bool:
    return hasattr(item, "__array__") and not isinstance(item, Tensor)


def _compiled(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
    compiled = torch.compile(module, fullgraph=True)

    def run(*tensors: Tensor) -> Any:
        for tensor in tensors:
            torch._dynamo.mark_dynamic(tensor, 0)
        return compiled(*tensors)

    return run


def _exported(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
    program = torch.export.export(module, inputs, dynamic_shapes=_any_rows(inputs))
    return program.module()


def _onnx(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.onnx"
        torch.onnx.export(
            module, inputs, path, dynamo=True, dynamic_shapes=_any_rows(inputs), verbose=False, optimize=True
        )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def run(*tensors: Tensor) -> Any:
        return session.run(None, {name: item.numpy() for name, item in zip(names, tensors, strict=True)})

    return run


def _scripted(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
    script: Callable[..., Any]
    try:
        script = torch.jit.script(scriptable(module))
    except Exception:  # the compiler of scripts knows less Python than the tracer meets
        script = torch.jit.trace(module, inputs, check_trace=False)
    return script


def _any_rows(inputs: tuple[Tensor, ...]) -> tuple[dict[int, Any], ...]:
    return tuple({0: torch.export.Dim("rows")} for _ in inputs)


_WAYS: dict[str, Callable[[nn.Module, tuple[Tensor, ...]], Callable[..., Any]]] = {
    "compile": _compiled,
    "export": _exported,
    "onnx": _onnx,
    "script": _scripted,
}


def main() -> int:
    """Measure and print; the exit code is 1 where a way fails or differs by more than 1e-5."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="MODULE", help="may be repeated")
    parser.add_argument("--way", action="append", default=[], choices=WAYS, help="may be repeated")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    document: dict[str, dict[str, Any]] = {}
    for entry in entries():
        if options.only and entry.name not in options.only:
            continue
        found: dict[str, Any] = {}
        for way in options.way or WAYS:
            torch._dynamo.reset()
            try:
                found[way] = difference(entry.name, way)
            except Exception as error:  # the table is the place where failures are reported
                found[way] = (
                    f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
                )
            if not options.json:
                shown = found[way] if isinstance(found[way], str) else f"{found[way]:.1e}"
                print(f"{entry.name:20} {way:8} {shown}", flush=True)
        document[entry.name] = found
    if options.json:
        json.dump(document, sys.stdout, indent=1)
        print()
    values = [value for found in document.values() for value in found.values()]
    return int(any(isinstance(value, str) or not value <= 1e-5 for value in values))


if __name__ == "__main__":
    raise SystemExit(main())
