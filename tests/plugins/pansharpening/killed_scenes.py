"""Commands that end in the middle of a scene: in a module of its own, which a new process can import."""

from __future__ import annotations

import json
import os
import resource
import signal
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from appliedpapers.cli import main
from appliedpapers.plugins.pansharpening.adaptation import NetworkBands
from appliedpapers.plugins.pansharpening.products import _FileStore


def command(words: list[str], said: Path, end_after: int = 0, how: str = "", most_bytes: int = 0) -> None:
    """Run ``apps`` in this process and write exit code, output and the number of adapted bands as JSON.

    Args:
        words: The command.
        said: The JSON file; absent where the process was killed.
        end_after: How many bands are stored before the process is disturbed; 0 never.
        how: ``"kill"`` or ``"interrupt"``.
        most_bytes: Size that no file may exceed; 0 for no limit.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    adapted, stored = [], []
    make, add = NetworkBands.make, _FileStore.add

    def counted(self: NetworkBands, position: int) -> Any:
        adapted.append(position)
        return make(self, position)

    def disturbed(self: _FileStore, *arguments: Any) -> None:
        add(self, *arguments)
        stored.append(arguments[0])
        if len(stored) == end_after:
            os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGINT)

    NetworkBands.make, _FileStore.add = counted, disturbed  # type: ignore[method-assign]
    if most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    code: Any = None
    with StringIO() as said_all, redirect_stdout(said_all), redirect_stderr(said_all):
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code
        text = said_all.getvalue()
    said.write_text(json.dumps({"code": code, "said": text, "adapted": len(adapted)}))
