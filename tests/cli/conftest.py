"""A server, a browser, its page, and files that are no pictures."""

import contextlib
import os
import shutil
import socket
import struct
import threading
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tests.cli.common import Page, free_port, needs, served


def enormous(side):
    """The PNG of a black square that no one should decode: a header, and hardly any data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.fixture
def bad(tmp_path):
    """Files that are no pictures, by what is said of them."""
    noise = np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)
    files = {
        "text.png": (b"not a picture", "text.png is not a picture, or is damaged"),
        "empty.png": (b"", "empty.png is not a picture, or is damaged"),
        "half.jpg": (cv2.imencode(".jpg", noise)[1].tobytes()[:3000], "half.jpg is not a picture, or is damaged"),
        "large.png": (enormous(12_000), "large.png is too large: at most 100 million pixels"),
        "enormous.png": (enormous(60_000), "enormous.png is too large: at most 100 million pixels"),
    }
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
    return {tmp_path / name: words for name, (_, words) in files.items()}


@pytest.fixture(scope="module")
def world():
    """A proxy that is all that the server sees of the world: it notes who was asked for, and answers nothing."""
    asked = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def listen():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        asked.append(connection.recv(100))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield SimpleNamespace(address=f"http://127.0.0.1:{listener.getsockname()[1]}", asked=asked)
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory, world):
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), world.address)
    port = free_port()
    with served("--port", str(port), folder=tmp_path_factory.mktemp("server"), **proxies) as address:
        assert address == f"http://127.0.0.1:{port}/"
        yield address


@pytest.fixture(scope="module")
def browser():
    needs("playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome", playwright.chromium.executable_path)
        path = next(filter(None, map(shutil.which, names)), None)
        if path is None:
            words = "no chromium is found: install the system's, or python -m playwright install chromium"
            pytest.fail(words) if os.environ.get("REQUIRE_EXTRAS") else pytest.skip(words)
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    page = Page(browser, server)
    yield page
    page.context.close()
