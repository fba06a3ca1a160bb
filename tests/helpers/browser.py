"""Headless Chromium, driven over its remote debugging pipe: what it gets are real keys and real taps."""

import base64
import itertools
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
_CODES = {"Enter": 13, "Backspace": 8, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "Escape": 27}
_PATIENCE = 300  # seconds, after which the browser is taken to hang, and ended


class Browser:
    """One page of a browser with a fresh profile; use it in a ``with`` statement.

    Args:
        folder: For its profile and its downloads.
    """

    def __init__(self, folder: Path) -> None:
        command = [CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        pipes = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'  # it reads commands from 3 and answers on 4
        self._process = subprocess.Popen(
            ["sh", "-c", pipes, "sh", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        self._events: list[dict[str, Any]] = []
        self._timer = threading.Timer(_PATIENCE, self._process.kill)
        self._timer.start()
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = {
            "sessionId": self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        }
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.downloads = folder / "downloads"
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads), eventsEnabled=True)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the Chrome DevTools protocol and wait for its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **self._session}
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        while (answer := self._next()).get("id") != number:
            self._events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def wait_for(self, event: str, **expected: Any) -> None:
        """Wait until an event comes, or find it among those since the last call, with these parameters."""
        pending = iter(self._events)
        while True:
            message = next(pending, None) or self._next()
            if message.get("method") == event and expected.items() <= message["params"].items():
                self._events.clear()
                return

    def emulate(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}  # what moves would be clicked beside
        self.call("Emulation.setEmulatedMedia", features=[scheme, still])

    def open(self, page: Path) -> None:
        self._events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def reload(self) -> None:
        self._events.clear()
        self.call("Page.reload")
        self.wait_for("Page.loadEventFired")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, or what the promise brings that it is."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for_layout(self) -> None:
        """Wait until two frames are drawn: what has come into view is laid out in the first, and may move others."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def press(self, key: str) -> None:
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        keys = {"key": key, "windowsVirtualKeyCode": _CODES.get(key, ord(key[0].upper()))}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **keys)
        self.call("Input.dispatchKeyEvent", type="keyUp", **keys)

    def tap(self, element: str) -> None:
        """Touch the middle of the element that a JavaScript expression gives, where a finger would find it."""
        box = f"(() => {{ const box = ({element}).getBoundingClientRect(); "
        x, y = self.run(f"{box} return [box.x + box.width / 2, box.y + box.height / 2]; }})()")
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _next(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._process.stdout.read(1)) not in (b"\0", b""):
            message += byte
        assert message, "the browser has ended"
        message = json.loads(message)
        assert message.get("method") != "Runtime.exceptionThrown", message
        return message
