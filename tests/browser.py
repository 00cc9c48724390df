"""A real browser for tests: headless Chromium, steered by the DevTools protocol over two pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import LIMIT

# Chromium wants the ends of its pipes as descriptors 3 and 4.
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)

# A key's name, and what it types.
TEXT_OF_KEY = {"Enter": "\r"}

LOADED = """new Promise(done => document.readyState === "complete" ? done(true) : addEventListener("load", done))"""
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


class Browser:
    """One run of Chromium, with a profile of its own and one page, which shows `url` first."""

    def __init__(self, folder: Path, url: str) -> None:
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if chromium is None:
            pytest.skip("no Chromium is installed")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command = [chromium, *options, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-pipe", url]
        with ExitStack() as its_own:
            reads, writes = os.pipe(), os.pipe()
            self._to, self._from = os.fdopen(reads[1], "wb"), os.fdopen(writes[0], "rb")
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (reads[0], writes[1])]
            for end in (reads[0], writes[1], *ends):
                its_own.callback(os.close, end)
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, *map(str, ends), *command],
                pass_fds=ends,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._url = url
        self._calls = 0
        self._session: dict[str, str] = {}
        self._received = bytearray()
        self.events: list[dict[str, Any]] = []

    def _next_message(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            data = os.read(self._from.fileno(), 1 << 16)
            assert data, "the browser has ended"
            self._received += data
        message, _, rest = self._received.partition(b"\0")
        self._received = rest
        return json.loads(message)

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """One call of the DevTools protocol, and its result; an error is an empty one."""
        self._calls += 1
        request = {"id": self._calls, "method": method, "params": params, **self._session}
        self._to.write(json.dumps(request).encode() + b"\0")
        self._to.flush()
        while True:
            message = self._next_message()
            if message.get("id") == self._calls:
                return message.get("result", {})
            self.events.append(message)

    def wait_for(self, method: str, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event of this kind that is the one; those that have come already count."""
        while True:
            for event in self.events:
                if event.get("method") == method and is_it(event["params"]):
                    return event["params"]
            self.events.append(self._next_message())

    def attach(self) -> None:
        """From now on calls are about the page."""
        if not self._session:
            targets = self.call("Target.getTargets")["targetInfos"]
            page = next(each for each in targets if each["type"] == "page" and each["url"] == self._url)
            attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
            self._session = {"sessionId": attached["sessionId"]}

    def evaluate(self, expression: str) -> Any:
        """What an expression in the page, or the promise that it is, comes to."""
        self.attach()
        while True:
            result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
            if result:  # none: it was the empty page before this one
                assert "exceptionDetails" not in result, result
                return result["result"].get("value")

    def go_to(self, url: str) -> None:
        """Show another page, and wait for all of it."""
        self.attach()
        self.call("Page.navigate", url=url)
        self.evaluate(LOADED)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other: a character, or a name such as ``ArrowDown``."""
        for key in keys:
            text = TEXT_OF_KEY.get(key, key if len(key) == 1 else "")
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, element: str) -> None:
        """Click in the middle of the element that this expression gives."""
        x, y = self.evaluate(
            f"(() => {{ const box = ({element}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2] })()"
        )
        for what in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=what, x=x, y=y, button="left", clickCount=1)

    def look_like(self, width: int, height: int, *, dark: bool = False, scale: int = 1) -> None:
        """Have a screen of this size, in pixels of CSS, and a person before it who likes it light or dark."""
        self.attach()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call("Emulation.setScrollbarsHidden", hidden=True)

    def screenshot(self) -> bytes:
        """What is seen now, as PNG."""
        self.evaluate(PAINTED)
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """The window is closed."""
        self._session = {}
        self.call("Browser.close")
        self._process.wait(LIMIT)

    def end(self) -> None:
        """However it fares."""
        for pipe in (self._to, self._from):
            pipe.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
