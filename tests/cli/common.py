"""The page of `explore`: its server, and what a user sees and does."""

import base64
import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest


def executed(code, **names):
    exec(code, names)
    return names


def needs(*modules):
    """Skip where one is not installed; fail instead where REQUIRE_EXTRAS is set, as in CI."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            words = f'{name} is not installed: pip install -c constraints.txt -e ".[dev]"'
            if os.environ.get("REQUIRE_EXTRAS"):
                pytest.fail(words)
            pytest.skip(words)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def served(*arguments, folder, **environment):
    """The command, once it has said where it serves; ended by Ctrl-C, after which it must have left no trace."""
    needs("gradio")
    unset = ("GRADIO_ANALYTICS_ENABLED", "NO_ALBUMENTATIONS_UPDATE", "no_proxy", "NO_PROXY")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env |= {"GRADIO_TEMP_DIR": str(folder / "uploads"), **environment}
    command = [sys.executable, "-m", "miamix_cpu", "explore", *arguments]
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env)
    deadline = threading.Timer(300, process.kill)
    deadline.start()
    try:
        line = process.stdout.readline()
        deadline.cancel()
        assert line.endswith(" (Ctrl-C ends it)\n"), (folder / "stderr").read_text()
        yield line.split()[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stdout.read() == ""
        assert (folder / "stderr").read_text() == ""
    finally:
        deadline.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


class Page:
    """The page, as a user sees it."""

    def __init__(self, browser, address):
        self.context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(120_000)
        self.asked = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(address)
        self.tab.wait_for_selector("img.mixed")

    def mixed(self):
        """The mixed images' pixels, uint8 (rows, H, W, 3)."""
        uris = self.tab.eval_on_selector_all("img.mixed", "images => images.map(image => image.src)")
        encoded = [base64.b64decode(uri.removeprefix("data:image/png;base64,")) for uri in uris]
        return np.array([cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for data in encoded])

    def code(self):
        """What the copy button copies."""
        self.tab.evaluate("navigator.clipboard.writeText('')")
        self.tab.locator("#code button[aria-label=Copy]").click()
        self.tab.wait_for_function("async () => await navigator.clipboard.readText() !== ''")
        return self.tab.evaluate("navigator.clipboard.readText()")

    def open(self, group):
        """Unfold a group; a few frames after it shows new controls, Gradio gives them their values once more."""
        self.tab.get_by_role("button", name=group, exact=False).first.click()
        wait = "let left = 30; const next = () => left-- ? requestAnimationFrame(next) : done(); next()"
        self.tab.evaluate(f"() => new Promise(done => {{ {wait} }})")

    def redrawn(self, act):
        """Do something, and wait until the code says so."""
        before = self.tab.locator("#code .cm-content").inner_text()
        act()
        changed = "before => document.querySelector('#code .cm-content').innerText !== before"
        self.tab.wait_for_function(changed, arg=before)
        self.tab.wait_for_timeout(300)  # the gallery came in the same message; let it be drawn

    def type(self, field, value):
        box = self.tab.locator(f"#{field} input[type=number]")
        box.fill(str(value))
        box.press("Tab")

    def message(self):
        self.tab.wait_for_selector("#message .miamix-problem")
        return self.tab.locator("#message").inner_text()

    def upload(self, *paths):
        self.tab.locator("#files input[type=file]").set_input_files([str(path) for path in paths])
