"""A page in headless Chromium, driven over its own DevTools protocol; nothing to install but the browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
needs_chromium = [
    pytest.mark.chromium,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
)


class Page:
    """One tab.

    Attributes:
        requests: Address of everything that it asked for.
        complaints: What it wrote to the console as an error: exceptions, and what its policy forbade.
    """

    def __init__(self, socket: Any, session: str) -> None:
        self._socket, self._session, self._number = socket, session, 0
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "sessionId": self._session, "method": method, "params": params}
        self._socket.send(json.dumps(message))
        while True:
            said = json.loads(self._socket.recv(timeout=120))
            self._note(said)
            if said.get("id") == self._number and said.get("sessionId") == self._session:
                assert "error" not in said, said["error"]
                return said["result"]

    def open(self, address: str, *, width: int = 1280, dark: bool = False) -> None:
        """Load a page at a width, in light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Return what an expression gives, once it is settled."""
        said = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Return what an expression gives, once that is true."""
        for _ in range(4000):
            found = self.run(condition)
            if found:
                return found
            time.sleep(0.025)
        raise AssertionError(f"never true: {condition}; the page says {self.run('document.body.innerText')}")

    def choose(self, selector: str, *paths: Path) -> None:
        """Choose files as a person does in a file field."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node)

    def press(self, key: str) -> None:
        """Press a key such as Tab or Enter."""
        codes = {"Enter": 13, "Tab": 9}
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=codes[key], **text)

    def picture(self) -> bytes:
        """Return the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def _note(self, said: dict[str, Any]) -> None:
        method, params = said.get("method"), said.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])


@contextmanager
def browser() -> Iterator[Page]:
    """Start a browser with a fresh profile and yield a tab of it; both end with the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [str(CHROMIUM), *_FLAGS, f"--user-data-dir={profile}"], stderr=subprocess.PIPE, text=True
        )
        try:
            lines = iter(process.stderr.readline, "")
            found = next(match for line in lines if (match := re.search(r"ws://\S+", line)))
            with connect(found.group(), max_size=None, compression=None) as socket:
                page = Page(socket, "")
                page._session = _attach(socket)
                for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
                    page.call(f"{domain}.enable")
                yield page
        finally:
            process.kill()
            process.wait(10)
            process.stderr.close()


def _attach(socket: Any) -> str:
    def ask(number: int, method: str, **params: Any) -> dict[str, Any]:
        socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (said := json.loads(socket.recv(timeout=120))).get("id") != number:
            pass
        return said["result"]

    target = ask(1, "Target.createTarget", url="about:blank")["targetId"]
    return str(ask(2, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
