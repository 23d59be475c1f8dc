"""Chromium without a package: the WebDriver protocol of chromedriver, as far as pages of ours need it."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")
MISSING = "" if CHROMIUM and DRIVER else "no Chromium here: apt-get install chromium chromium-driver"


class Browser:
    """Chromium, by the WebDriver protocol of chromedriver: no package is needed for it."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder}",
            "--force-device-scale-factor=1",
        ]
        options = {"binary": CHROMIUM, "args": arguments}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "unhandledPromptBehavior": "ignore"}}}
        self._session = ""
        self._session = f"/session/{self._ask('POST', '/session', wanted)['sessionId']}"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        data = None if method != "POST" else json.dumps(body or {})
        connection.request(method, self._session + path, data, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())["value"]
        connection.close()
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(answer["message"])
        return answer

    def open(self, file: Path, fragment: str = "") -> None:
        self._ask("POST", "/url", {"url": "about:blank"})
        self._ask("POST", "/url", {"url": file.as_uri() + fragment})

    def run(self, script: str, *arguments: Any) -> Any:
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_to_the_end(self, script: str) -> Any:
        return self._ask("POST", "/execute/async", {"script": script, "args": []})

    def press(self, key: str) -> None:
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": keys}]})

    def emulate(self, *, width: int, height: int, scheme: str = "light") -> None:
        """Set the size of the page and the colours that the reader prefers."""
        self._devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self._devtools("Emulation.setEmulatedMedia", features=features)

    def _devtools(self, command: str, **parameters: Any) -> Any:
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def count_cpu(self) -> None:
        """Begin to count what the page's own thread does; `cpu_seconds` tells it."""
        self._devtools("Performance.disable")
        self._devtools("Performance.enable", timeDomain="threadTicks")

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of the page's own thread since `count_cpu`."""
        told = {one["name"]: one["value"] for one in self._devtools("Performance.getMetrics")["metrics"]}
        return float(told["TaskDuration"])

    def has_dialog(self) -> bool:
        try:
            self._ask("GET", "/alert/text")
        except AssertionError:
            return False
        return True

    def screenshot(self) -> bytes:
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def close(self) -> None:
        self._ask("DELETE", "")


@contextmanager
def opened_browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty folder as its profile. Raises OSError where its driver does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as driver:
        assert driver.stdout is not None
        try:
            if not any(b"started successfully" in line for line in driver.stdout):
                raise OSError("chromedriver does not start here")
            one = Browser(port, profile)
            yield one
            one.close()
        finally:
            driver.terminate()
