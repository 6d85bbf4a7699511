"""Telling people that a firing failed for good: a command that no shell reads, or a webhook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliedpapers.pipelines.schedule_jobs import Notice

_COMMAND_S = 60.0
_WEB_S = 10.0
_SHOWN = 300
_FROM_ENVIRONMENT = re.compile(r"\$\{(\w+)\}")


def tell(notice: Notice, facts: Mapping[str, Any], folder: Path) -> str:
    """Run the command and call the webhook; return in words what came of it.

    Nothing from a job's output becomes part of a command line: a command reads the facts as JSON on its
    standard input, and as ``APPS_JOB``, ``APPS_REASON`` and so on from its environment.

    Args:
        notice: Who is to be told.
        facts: What happened.
        folder: Where the command runs.
    """
    said = []
    if notice.command is not None:
        said.append(f"command: {_run(notice.command, facts, folder)}")
    if notice.webhook is not None:
        said.append(f"webhook: {_post(notice.webhook, facts)}")
    return "; ".join(said)


def _run(command: tuple[str, ...], facts: Mapping[str, Any], folder: Path) -> str:
    # a null byte cannot be in an environment
    told = {f"APPS_{key.upper()}": str(value).replace("\0", "") for key, value in facts.items()}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(facts).encode(),
            env={**os.environ, **told},
            cwd=folder,
            capture_output=True,
            timeout=_COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {_COMMAND_S:g} s"
    except OSError as error:
        return f"could not be started ({error.strerror or error})"
    complaint = done.stderr.decode("utf-8", errors="replace").strip()[-_SHOWN:]
    return "ok" if done.returncode == 0 else f"exit {done.returncode} {complaint}".strip()


def _post(address: str, facts: Mapping[str, Any]) -> str:
    found = _FROM_ENVIRONMENT.fullmatch(address)
    url = os.environ.get(found[1], "") if found else address
    if not url.startswith(("http://", "https://")):
        # never the value itself: it may hold a secret
        return f"{address} holds no http address"
    headers = {"Content-Type": "application/json", "User-Agent": "applied-papers"}
    try:
        request = urllib.request.Request(url, json.dumps(facts).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=_WEB_S) as answer:
            return f"ok ({answer.status})"
    except urllib.error.HTTPError as error:
        return f"answered {error.code}"
    except (OSError, ValueError) as error:
        return f"failed ({getattr(error, 'reason', None) or error})"
