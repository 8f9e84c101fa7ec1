# SPDX-License-Identifier: GPL-3.0-or-later
"""Headless Chromium, driven over a pipe by its own protocol (CDP): clicks and keys are those of a person."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--remote-debugging-pipe", "--window-size=1400,900"),
]
WAIT_SECONDS = 60
KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "ArrowRight": (39, ""), "ArrowDown": (40, ""), "/": (191, "/")}


@contextmanager
def browser():
    """A Browser for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True) as profile:
        to_it, commands = os.pipe()
        answers, from_it = os.pipe()

        def wire():  # it reads commands at 3 and writes answers at 4
            read, write = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_it, from_it))
            os.dup2(read, 3)
            os.dup2(write, 4)

        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=wire,
        )
        os.close(to_it)
        os.close(from_it)
        try:
            with open(commands, "wb", buffering=0) as writer, open(answers, "rb", buffering=0) as reader:
                yield Browser(writer, reader)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Browser:
    """The only page of a Chromium. ``requests`` are the URLs that it asked for, ``faults`` what it complained about."""

    def __init__(self, commands, answers):
        self._commands, self._answers = commands, answers
        self._number, self._held, self._session = 0, b"", None
        self.requests, self.faults = [], []
        (target,) = [each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """One command of the protocol; returns its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        self._commands.write(json.dumps(command).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def open(self, url):
        """Go to a page and wait until its script has run."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script):
        """The value of an expression on the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script):
        """Wait until an expression is true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.run(script):
            assert time.monotonic() < deadline, f"it did not come to this: {script}"
            time.sleep(0.05)

    def text(self, selector):
        """The visible text of the first element, which is brought into view: what is far away is not rendered."""
        return self.run(
            "(async selector => { const found = document.querySelector(selector); "
            "found.scrollIntoView({block: 'nearest'}); "
            "await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))); "
            f"return found.innerText; }})({json.dumps(selector)})"
        )

    def count(self, selector):
        """How many elements there are that can be seen."""
        elements = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return self.run(f"{elements}.filter(each => each.checkVisibility()).length")

    def click(self, selector, containing=""):
        """Press the mouse in the middle of the first element that has the text; it has to be the one that is hit.

        What is scrolled to moves for some frames, while it and what is above it are rendered.
        """
        place = self.run(
            "(async (selector, text) => { const found = [...document.querySelectorAll(selector)].find(each => "
            "each.checkVisibility() && each.innerText.includes(text)); found.scrollIntoView({block: 'center'}); "
            "let box = {}, still = 0; while (still < 4) { await new Promise(requestAnimationFrame); "
            "const now = found.getBoundingClientRect(); still = now.y === box.y ? still + 1 : 0; box = now; } "
            "const x = box.x + box.width / 2, y = box.y + box.height / 2; "
            "return found.contains(document.elementFromPoint(x, y)) ? [x, y] : null; "
            f"}})(...{json.dumps([selector, containing])})"
        )
        assert place, f"{selector} is covered"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def key(self, name):
        """Press a key."""
        code, text = KEYS[name]
        about = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text):
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def select(self, selector, value):
        """Choose an option of a select, as the browser does it when a person has chosen."""
        self.run(
            "((selector, value) => { const field = document.querySelector(selector); field.value = value; "
            f"field.dispatchEvent(new Event('change', {{bubbles: true}})); }})(...{json.dumps([selector, value])})"
        )

    def screenshot(self, path, scheme="light"):
        """Write what is to be seen as PNG."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _next(self):
        while b"\0" not in self._held:
            piece = self._answers.read(1 << 20)
            assert piece, "Chromium ended"
            self._held += piece
        message, _end, self._held = self._held.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        params = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.faults.append(params["exceptionDetails"]["exception"].get("description", "exception"))
        elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
            self.faults.append(params["entry"]["text"])
