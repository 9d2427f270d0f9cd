"""A headless Chromium for tests, driven by its DevTools protocol over a pipe: no driver and no library in between."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
TIMEOUT_S = 90.0  # for one answer, on a machine that has much else to do

# Chromium reads commands from descriptor 3 and answers on 4; which ones the pipes have here is chance.
_START = """import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])"""

executable = next((found for found in map(shutil.which, NAMES) if found), None)
needs_browser = pytest.mark.skipif(
    executable is None, reason="there is no Chromium: the report was not tried in a browser (apt-get install chromium)"
)


class Browser:
    """One page of a Chromium.

    Attributes:
        events: what the browser told unasked, in order: (method, parameters).
    """

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int, told: Path) -> None:
        self._process, self._write, self._read, self._told = process, write, read, told
        self._number, self._rest, self._session = 0, b"", ""
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        ends = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], max(0.0, ends - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            piece = os.read(self._read, 1 << 16)
            if not piece:
                last = self._told.read_text("utf-8", "replace")[-2000:]
                raise RuntimeError(f"the browser has ended, with {self._process.wait()}: {last}")
            self._rest += piece
        text, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message

    def open(self, path: Path, fragment: str = "") -> None:
        """Load a file and wait until it is there."""
        self.events.clear()
        self.ask("Page.navigate", url=path.resolve().as_uri() + fragment)
        self.wait("document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        done = self.ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(f"{code}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def wait(self, condition: str, seconds: float = 20.0) -> None:
        """Wait until a JavaScript expression is true."""
        ends = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < ends, f"never came true: {condition}"
            time.sleep(0.02)

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def media(self, *, dark: bool = False, kind: str = "") -> None:
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", media=kind, features=scheme)

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path | None = None, *, whole: bool = True) -> bytes:
        """A screenshot as PNG, of the whole page or of what is in sight."""
        data = base64.b64decode(self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"])
        if path is not None:
            path.write_bytes(data)
        return data

    def printed(self) -> bytes:
        """The page as PDF, A4."""
        return base64.b64decode(
            self.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False)["data"]
        )

    def complaints(self) -> list[str]:
        """Errors and warnings of the console so far, uncaught ones and refused content included."""
        self.run("0")  # what came before this answer has been read with it
        told = []
        for method, values in self.events:
            if method == "Runtime.exceptionThrown":
                told.append(str(values["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning", "assert"):
                told.append(str(values["args"]))
            elif method == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
                told.append(values["entry"]["text"])
        # Said of the tests' own looking at pixels.
        return [text for text in told if "willReadFrequently" not in text]

    def requests(self) -> list[str]:
        """Addresses that were asked for so far, but for what stands in the page itself."""
        self.run("0")
        asked = [values["request"]["url"] for method, values in self.events if method == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith("data:")]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium with a profile of its own, which ends with the block."""
    assert executable is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        log = Path(profile) / "stderr.txt"
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), executable, *FLAGS,
             f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=log.open("wb"),
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(process, ours_out, ours_in, log)
        finally:
            os.close(ours_out)
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(ours_in)
