"""A headless Chromium that opens pages of this machine, measures and draws them.

It is driven through a pair of pipes (``--remote-debugging-pipe``): no port is opened, no
further package is needed, and a window can be as narrow as a phone.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from defect_mf_flows.errors import ServiceError
from defect_mf_flows.report.pdf import find_browser

TIMEOUT = 120.0  # seconds for one answer; the machine may be busy
PHONE = 600  # pixels: narrower pages are laid out as on a phone
COMMAND_FD, ANSWER_FD = 3, 4  # where Chromium expects its pipes
OPTIONS = (
    "--headless", "--no-first-run", "--disable-sync", "--disable-background-networking",
    "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """Chromium without a window; a context manager.

    Raises
    ------
    ResultsError
        If there is no Chromium.
    ServiceError
        If it does not answer, or refuses a command.
    """

    def __init__(self) -> None:
        self._binary = find_browser()
        self._number, self._buffer = 0, b""
        self._session: str | None = None
        self.messages: list[str] = []

    def __enter__(self) -> Browser:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [self._binary, *OPTIONS, f"--user-data-dir={self._profile.name}"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium refuses to start for root with it
        # High numbers, so that no pipe lies where the other shall go.
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for pipe in _pipes() for fd in pipe]
        theirs, self._out, self._in, answers = ends
        quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        moved = [
            (os.POSIX_SPAWN_DUP2, theirs, COMMAND_FD),
            (os.POSIX_SPAWN_DUP2, answers, ANSWER_FD),
        ]
        self._pid = os.posix_spawn(
            self._binary, [*command, "about:blank"], dict(os.environ), file_actions=[*quiet, *moved]
        )
        os.close(theirs)
        os.close(answers)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._out)  # Chromium ends with its pipe
        for _ in range(100):
            if os.waitpid(self._pid, os.WNOHANG)[0]:
                break
            time.sleep(0.1)
        else:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._in)
        self._profile.cleanup()

    def open(self, page: Path, *, width: int, height: int = 900) -> dict[str, float]:
        """Open a page and wait for its load event.

        Parameters
        ----------
        page
            File on this machine.
        width, height
            Of the window, in pixels.

        Returns
        -------
        dict
            Milliseconds since the navigation began, as the browser's own clock tells them:
            ``dom`` (content parsed, scripts run), ``load`` (load event over), ``paint`` (first
            content on the screen).
        """
        self.size(width, height)
        self.messages.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete' && performance.timing.loadEventEnd > 0")
        self.wait("performance.getEntriesByName('first-contentful-paint').length > 0")
        found: dict[str, float] = self.run(
            "(() => { const n = performance.getEntriesByType('navigation')[0];"
            "const p = performance.getEntriesByName('first-contentful-paint')[0];"
            "return {dom: n.domContentLoadedEventEnd, load: n.loadEventEnd,"
            "paint: p.startTime}; })()"
        )
        return found

    def size(self, width: int, height: int) -> None:
        """Give the window a size; a narrow one lays pages out as phones do."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < PHONE,
        )  # fmt: skip
        light = {"name": "prefers-color-scheme", "value": "light"}
        self.call("Emulation.setEmulatedMedia", features=[light])

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression.

        Raises
        ------
        ServiceError
            If it throws.
        """
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise ServiceError(f"{script[:80]}: {answer['exceptionDetails']}"[:400])
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true.

        Raises
        ------
        ServiceError
            If it is not after two minutes.
        """
        end = time.monotonic() + TIMEOUT
        while not self.run(condition):
            if time.monotonic() > end:
                raise ServiceError(f"the page does not come to {condition!r} in {TIMEOUT:g} s")
            time.sleep(0.1)

    def picture(self, x: float, y: float, width: float, height: float) -> bytes:
        """PNG of a part of the page, in its own pixels from its upper left corner."""
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        answer = self.call(
            "Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True
        )
        return base64.b64decode(answer["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and wait for its answer.

        Raises
        ------
        ServiceError
            If Chromium refuses it or is gone.
        """
        self._number += 1
        wanted = self._number
        message: dict[str, Any] = {"id": wanted, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(method)
            if answer.get("id") == wanted:
                break
            self._note(answer)
        if "error" in answer:
            raise ServiceError(f"Chromium refuses {method}: {answer['error'].get('message')}")
        found: dict[str, Any] = answer["result"]
        return found

    def _read(self, method: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], TIMEOUT)
            more = os.read(self._in, 1 << 16) if ready else b""
            if not more:
                raise ServiceError(f"{self._binary} gives no answer to {method}")
            self._buffer += more
        text, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what the page complains about, and what it asks of the network."""
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.messages.append(f"exception: {told['exceptionDetails'].get('text')}")
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.messages.append(f"error: {told['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            url = told["request"]["url"]
            if not url.startswith(("file:", "data:", "blob:", "about:")):
                self.messages.append(f"request: {url}")


def _pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Two pipes, ours to Chromium and Chromium's to us."""
    return os.pipe(), os.pipe()
