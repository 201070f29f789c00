"""A headless Chromium for tests, spoken to in the DevTools protocol through two pipes."""

import base64
import json
import os
import shutil
import subprocess
import tempfile

import pytest


def find_chromium():
    """The program; without it the test is skipped."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return program or pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")


class Chromium:
    """One page in a browser of its own; a context manager."""

    def __init__(self, width=1280, height=900):
        self.program, self.size, self.number = find_chromium(), (width, height), 0

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="chromium-")
        theirs, self.commands = os.pipe()
        self.answers, ours = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={self.folder}", "about:blank"]
        words = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{ours}', "bash", self.program, *flags]
        self.process = subprocess.Popen(
            words, pass_fds=(theirs, ours), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs)
        os.close(ours)
        self.buffer, self.session = b"", None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self("Page.enable")
        self.resize(*self.size)
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait()
        os.close(self.commands)
        os.close(self.answers)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __call__(self, method, **parameters):
        """Send a command and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != self.number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def receive(self):
        while b"\0" not in self.buffer:
            piece = os.read(self.answers, 1 << 20)
            assert piece, "Chromium ended"
            self.buffer += piece
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def resize(self, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self("Emulation.setDeviceMetricsOverride", **metrics)

    def open(self, path):
        self("Page.navigate", url=path.as_uri())
        while self.receive().get("method") != "Page.loadEventFired":
            pass

    def run(self, script):
        """Return what an expression gives in the page."""
        result = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path, whole=True):
        form = {".png": {"format": "png"}, ".jpg": {"format": "jpeg", "quality": 80}}[path.suffix]
        shot = self("Page.captureScreenshot", captureBeyondViewport=whole, **form)
        path.write_bytes(base64.b64decode(shot["data"]))
