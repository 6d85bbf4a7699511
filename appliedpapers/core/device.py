"""Where the numbers are made: device, precision, threads, seeds and memory. Imports torch only when asked."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import random
import re
import sys
from pathlib import Path

from appliedpapers.core.errors import ConfigError

PRECISIONS = ("32", "bf16", "16")

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def resolve_device(name: str) -> str:
    """Return the concrete device for ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    ``auto`` is ``cuda`` where a CUDA device answers and ``cpu`` elsewhere, also where torch is not installed.

    Raises:
        ConfigError: The name is unknown, or CUDA is asked for and absent.
    """
    if not _DEVICE.fullmatch(name):
        raise ConfigError(f"unknown device '{name}'.", hint="Choose one of: auto, cpu, cuda, cuda:1.")
    if name == "cpu":
        return name
    count = _count_cuda()
    if name == "auto":
        return "cuda" if count else "cpu"
    if not count:
        raise ConfigError(
            f"device '{name}' was asked for, but torch finds no CUDA device here.",
            hint="Use --device cpu or auto, or install a CUDA build of torch and check nvidia-smi.",
        )
    if device_index(name) >= count:
        raise ConfigError(
            f"device '{name}' was asked for, but there are {count} CUDA devices.",
            hint=f"Choose cuda:0 to cuda:{count - 1}." if count > 1 else "Choose cuda.",
        )
    return name


def device_index(device: str) -> int:
    """Return the number behind the colon of a resolved device, 0 where there is none."""
    return int(device.partition(":")[2] or 0)


def check_precision(precision: str, device: str) -> None:
    """Refuse a precision that is unknown or that ``device`` does not have.

    Args:
        precision: ``"32"``, ``"bf16"`` or ``"16"``.
        device: A resolved device.

    Raises:
        ConfigError: The precision is unknown, or ``16`` is asked for on the CPU.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"unknown precision '{precision}'.", hint=f"Choose one of: {', '.join(PRECISIONS)}."
        )
    if precision == "16" and not device.startswith("cuda"):
        raise ConfigError(
            f"precision '16' needs a CUDA device, and the device is '{device}'.",
            hint="Use --precision bf16 or 32 on the CPU.",
        )


def set_threads(count: int | None) -> None:
    """Let numerical libraries use ``count`` threads; ``None`` leaves their choice.

    Torch is told directly when it is imported already; it and the processes started from here read
    ``OMP_NUM_THREADS`` otherwise.

    Raises:
        ConfigError: ``count`` is not positive.
    """
    if count is None:
        return
    if count < 1:
        raise ConfigError(
            f"threads must be at least 1, not {count}.", hint="Leave --threads out for all cores."
        )
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)


def derive_seed(seed: int, *path: str | int) -> int:
    """Return a seed in ``[0, 2**63)`` for one purpose, so that streams never share their numbers.

    Args:
        seed: The seed of the run.
        path: What the numbers are for, such as ``("order", epoch)``.
    """
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python and NumPy, and of torch where it is imported."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed % 2**32)
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)


def describe_device(device: str) -> str:
    """Return the device in words for the report, such as ``cpu, 2 threads``."""
    if not device.startswith("cuda"):
        threads = _count_threads()
        return f"{device}, {threads} thread{'s' if threads != 1 else ''}"
    import torch

    properties = torch.cuda.get_device_properties(device_index(device))
    return f"{device}, {properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def peak_memory_mb() -> float:
    """Return the largest resident memory that this process has had, in MiB; its children do not count.

    Linux is asked through ``/proc``, because ``getrusage`` there starts a child at the size of the process
    that forked it. Returns 0 where the system does not tell (Windows).
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    if found := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
        return int(found[1]) / 1024
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _count_cuda() -> int:
    # torch takes seconds to import: not for the answer that a machine without a driver has none
    if importlib.util.find_spec("torch") is None or ("torch" not in sys.modules and not _has_cuda_driver()):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _count_threads() -> int:
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit():
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
