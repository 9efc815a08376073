"""Headless Chromium driven through its debugging pipe: no driver, no port, no network."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
         "--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe")
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35, " ": 32, "Tab": 9}
PATIENCE = 120  # seconds for one answer: test machines may be busy


class Browser:
    """One tab. Messages are JSON, each ended by a zero byte."""

    def __init__(self, read, write):
        self.read, self.write, self.number, self.rest, self.session = read, write, 0, b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self.rest:
                ready, _, _ = select.select([self.read], [], [], max(0, until - time.monotonic()))
                assert ready, f"no answer to {method}"
                piece = os.read(self.read, 1 << 16)
                assert piece, f"the browser ended at {method}"
                self.rest += piece
            line, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(line)
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def run(self, script):
        """The value of an expression on the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def open(self, url, width=1200, height=1500, dark=False, scripts=True):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Page.navigate", url="about:blank")  # an address that differs in its fragment only would not load anew
        self.call("Page.navigate", url=url)
        until = time.monotonic() + PATIENCE
        while self.run("document.readyState + location.protocol") != "completefile:" and time.monotonic() < until:
            time.sleep(0.05)

    def press(self, key):
        """A key goes down and up, as the system would send it."""
        text = {"text": " "} if key == " " else {}
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code="Space" if text else key,
                      windowsVirtualKeyCode=KEYS[key], **(text if kind == "keyDown" else {}))

    def screenshot(self):
        """PNG bytes of what is in the window."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def browser():
    """A running browser with a profile of its own, which is deleted in the end."""
    (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
        # the browser reads at descriptor 3 and writes at 4; a shell moves ours there, by way of numbers that are free
        moves = f"exec 8<&{their_read} 9>&{their_write}; exec 3<&8 4>&9 8<&- 9>&-; exec \"$@\""
        process = subprocess.Popen(
            ["bash", "-c", moves, "bash", *command], pass_fds=(their_read, their_write), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(their_read)
        os.close(their_write)
        try:
            yield Browser(our_read, our_write)
        finally:
            os.close(our_write)  # the browser ends with its pipe
            os.close(our_read)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
