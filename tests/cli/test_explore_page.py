"""The page of `explore`, as a browser shows it, and the command that serves it."""

import json
import os
import socket
import subprocess
import sys
import urllib.request

import cv2
import numpy as np
import pytest

import miamix_cpu
from miamix_cpu import MiAMixConfig
from miamix_cpu.cli.explore_controls import CONTROLS
from miamix_cpu.methods import METHODS
from tests.cli.common import Page, executed, served


def test_without_gradio_one_line_names_the_extra():
    code = "import sys; sys.modules['gradio'] = None; from miamix_cpu.cli import main; sys.exit(main(['explore']))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert "pip install 'miamix_cpu[explore]'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_other_commands_do_without_gradio():
    code = "import sys, miamix_cpu.cli.demo, miamix_cpu.cli.preview; sys.exit('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_ports_are_checked(port, capsys):
    with pytest.raises(SystemExit) as ended:
        miamix_cpu.cli.main(["explore", "--port", port])
    assert ended.value.code == 2
    assert f"argument --port: must be an integer from 1 to 65535, got '{port}'" in capsys.readouterr().err


def test_every_control_is_on_the_page(server):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{server}config") as answer:
        parts = [part["props"] for part in json.load(answer)["components"]]
    labels = [part["label"] for part in parts if part.get("label")]
    assert {control.name for control in CONTROLS} | {"seed", "rows", "size"} <= set(labels)
    assert len(set(labels)) == len(labels)


def test_a_slider_redraws(page):
    before = page.mixed()
    slider = page.tab.locator("#k_max input[type=range]")
    slider.focus()
    page.redrawn(lambda: slider.press("ArrowRight"))
    assert "config = MiAMixConfig(k_max=3)\n" in page.code()
    after = page.mixed()
    assert after.shape == before.shape
    assert (after != before).any()
    page.redrawn(lambda: slider.press("ArrowLeft"))
    np.testing.assert_array_equal(page.mixed(), before)


def reproduced(page, folder):
    """Whether the copied code, in a process of its own, makes the page's pictures."""
    code = page.code() + "\nimport numpy\nnumpy.save('images.npy', batch.images.permute(0, 2, 3, 1).numpy())\n"
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    shown = page.mixed()
    np.testing.assert_array_equal(np.load(folder / "images.npy")[: len(shown)], shown)
    return code


def test_the_copied_code_makes_the_pictures(page, tmp_path):
    reproduced(page, tmp_path)
    page.redrawn(lambda: page.type("weights-gmix", 3.5))
    page.redrawn(lambda: page.type("alpha", 0.35))
    seed = int(page.tab.locator("#seed input").input_value())
    page.open("Output")
    page.redrawn(lambda: page.tab.locator("#merge").get_by_text("sum", exact=True).click())
    page.open("Options of cutmix")
    page.redrawn(lambda: page.tab.locator("#cutmix-minmax input[type=checkbox]").click())
    page.redrawn(lambda: page.tab.locator("#another").click())
    page.open("Pictures")
    page.redrawn(lambda: page.type("rows", 9))
    page.redrawn(lambda: page.type("size", 48))
    code = reproduced(page, tmp_path)
    words = ("alpha=0.35", 'merge="sum"', "minmax=(0.2, 0.8)", "(2, 1, 1, 1, 3.5, 1)", f"seed={seed + 1},", "(48, 48)")
    for part in words:
        assert part in code
    assert len(page.mixed()) == 9


def test_a_preset_sets_every_control(page):
    def choose():
        page.tab.locator("#preset input").click()
        page.tab.get_by_role("option", name="fmix", exact=True).click()

    page.redrawn(choose)
    assert page.tab.locator("#weights-mixup input[type=number]").input_value() == "0"
    assert page.tab.locator("#k_max input[type=number]").input_value() == "1"
    code = executed(page.code().split("transform =")[0])
    assert code["config"] == MiAMixConfig.plain("fmix")
    page.redrawn(lambda: page.type("alpha", 2))
    assert page.tab.locator("#preset input").input_value() == ""


def test_own_pictures(page, bad, tmp_path):
    first = page.mixed()
    page.open("Pictures")
    for path, words in bad.items():
        page.upload(path)
        assert words in page.message()
        np.testing.assert_array_equal(page.mixed(), first)
        page.tab.locator("#files button[aria-label=Clear]").click()
        page.tab.wait_for_selector("#message .miamix-problem", state="detached")
    rng = np.random.default_rng(0)
    for name in ("one.png", "two.jpg"):
        cv2.imwrite(str(tmp_path / name), cv2.blur(rng.integers(0, 256, (90, 70, 3), dtype=np.uint8), (9, 9)))
    page.redrawn(lambda: page.upload(tmp_path / "one.png", tmp_path / "two.jpg"))
    assert "one.png" in page.tab.locator(".miamix-row p").first.inner_text()
    assert '"two.jpg"' in reproduced(page, tmp_path)


def test_what_is_wrong_is_told_and_the_picture_kept(page):
    first = page.mixed()

    def wrong(words):
        assert words in page.message()
        np.testing.assert_array_equal(page.mixed(), first)

    page.type("k_min", 4)
    wrong("k_min must be at most k_max=2, got 4")
    page.type("k_min", 1)
    page.tab.wait_for_selector("#message .miamix-problem", state="detached")
    page.type("seed", "")
    wrong("seed must be an integer, got None")
    page.type("seed", 1)
    page.tab.wait_for_selector("#message .miamix-problem", state="detached")
    page.open("Options of cutmix")
    page.redrawn(lambda: page.tab.locator("#cutmix-minmax input[type=checkbox]").click())
    first = page.mixed()
    page.type("cutmix-minmax-low", 0.9)
    wrong("cutmix.minmax must be (low, high) with 0 <= low <= high <= 1, got (0.9, 0.8)")
    page.type("cutmix-minmax-low", 0.2)
    page.tab.wait_for_selector("#message .miamix-problem", state="detached")
    for method in METHODS:
        page.type(f"weights-{method}", 0)
    page.tab.wait_for_selector("#message .miamix-problem")
    assert "weights must not all be 0, got (0" in page.message()


def test_a_number_beyond_a_sliders_end_is_its_end(page):
    page.redrawn(lambda: page.type("k_max", 99))
    assert "MiAMixConfig(k_max=8)" in page.code()
    assert page.tab.locator("#k_max input[type=number]").input_value() == "8"
    page.redrawn(lambda: page.type("k_max", ""))
    assert "MiAMixConfig(k_max=1)" in page.code()
    assert page.tab.locator("#k_max input[type=number]").input_value() == "1"


def test_nothing_outside_is_asked(page, world):
    assert {url.split("/")[2].split(":")[0] for url in page.asked if url.startswith("http")} == {"127.0.0.1"}
    assert world.asked == []


def test_only_this_machine_is_answered(server):
    port = int(server.rstrip("/").rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10):
        pass
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.2", port), timeout=10):
        pass


def test_a_port_that_is_taken_is_one_line(server):
    port = server.rstrip("/").rsplit(":", 1)[1]
    command = [sys.executable, "-m", "miamix_cpu", "explore", "--port", port]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert result.stderr == f"miamix_cpu explore: --port: port {port} is not free\n"


def test_ctrl_c_ends_it_and_removes_uploads(tmp_path, browser):
    with served(folder=tmp_path) as address:
        page = Page(browser, address)
        cv2.imwrite(str(tmp_path / "one.png"), np.zeros((9, 9, 3), np.uint8))
        page.open("Pictures")
        page.redrawn(lambda: page.upload(tmp_path / "one.png"))
        assert list((tmp_path / "uploads").rglob("one.png"))
        page.context.close()
    assert not list((tmp_path / "uploads").rglob("one.png"))
