"""A real browser without a window: Chromium, driven through its own protocol over a pipe.

The messages are those of the Chrome DevTools Protocol: JSON, each ended by a NUL byte
(chromium:content/public/browser/devtools_agent_host.h, `--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 30
"""Seconds that the browser may take for one answer."""
NAMES = ("chromium", "chromium-browser", "google-chrome")

# Chromium reads file descriptor 3 and writes 4.
_WITH_PIPE = """\
import fcntl, os, sys
reading, writing = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(reading, 3)
os.dup2(writing, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class BrowserMissing(Exception):
    """This machine has no Chromium, or it does not start."""


@dataclass(slots=True)
class Page:
    """One page.  *complaints* are what it wrote to its console, threw, or was refused."""

    reading: int
    writing: int
    complaints: list[str] = field(default_factory=list)
    _session: str | None = None
    _last: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One call of the protocol, and its result."""
        self._last += 1
        message: dict[str, object] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self.reading], [], [], deadline - time.monotonic())
            part = os.read(self.reading, 1 << 16) if ready else b""
            if not part:
                raise BrowserMissing("the browser does not answer")
            self._buffer += part
        raw, _, rest = bytes(self._buffer).partition(b"\0")
        self._buffer[:] = rest
        message: dict[str, Any] = json.loads(raw)
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.consoleAPICalled":
                self.complaints.append(f"console: {parameters['args']}")
            case "Runtime.exceptionThrown":
                self.complaints.append(f"thrown: {parameters['exceptionDetails']}")
            case "Log.entryAdded":
                self.complaints.append(f"log: {parameters['entry']['text']}")
            case "Page.loadEventFired":
                self._events.append(message)
        return message

    def attach(self) -> None:
        """Open the tab and listen to it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def open(self, file: Path) -> float:
        """Show *file* from the disk, to its end; the seconds that it took."""
        self.complaints.clear()
        self._events.clear()
        began = time.monotonic()
        self.call("Page.navigate", url=file.as_uri())
        while not self._events:
            self._next()
        return time.monotonic() - began

    def value(self, expression: str) -> Any:
        """What JavaScript *expression* gives on this page."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return done["result"].get("value")

    def type(self, selector: str, text: str) -> None:
        """Put *text* into an empty field, as a keyboard would."""
        self.value(f"document.querySelector({selector!r}).focus()")
        self.value(f"document.querySelector({selector!r}).select()")
        self.call("Input.insertText", text=text)

    def picture(self, file: Path, scheme: str = "light", width: int = 1200) -> None:
        """A screenshot of the first screen, as who prefers *scheme* sees it."""
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])  # fmt: skip
        self.call("Emulation.setDeviceMetricsOverride",
                  width=width, height=800, deviceScaleFactor=1, mobile=False)  # fmt: skip
        shot = self.call("Page.captureScreenshot")
        file.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A browser with its profile in *folder*; gone when the block is left."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None or sys.platform == "win32":
        raise BrowserMissing("needs Chromium")
    command = [found, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}"]
    # Root has no sandbox; nothing but our own page is shown, and no network is asked for anything.
    command += ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"]
    command += ["--disable-background-networking", "--disable-dev-shm-usage", "--disable-sync"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--force-color-profile=srgb"]
    theirs, ours = os.pipe(), os.pipe()
    starter = [sys.executable, "-c", _WITH_PIPE, str(theirs[0]), str(ours[1]), *command]
    with (folder / "talk").open("wb") as talk:
        process = subprocess.Popen(
            starter,
            pass_fds=(theirs[0], ours[1]),
            stdout=talk,
            stderr=talk,
            env={**os.environ, "HOME": str(folder)},
        )
    os.close(theirs[0])
    os.close(ours[1])
    page = Page(ours[0], theirs[1])
    try:
        page.attach()
        yield page
        page._session = None
        page.call("Browser.close")
        process.wait(PATIENCE)
    finally:
        process.kill()  # nothing where it has ended
        process.wait(PATIENCE)
        os.close(ours[0])
        os.close(theirs[1])
