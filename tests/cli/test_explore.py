import base64
import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import miamix_cpu
from miamix_cpu import AGMixOptions, CutMixOptions, FMixOptions, GridMixOptions, MiAMixConfig
from miamix_cpu.cli import UserError, explore
from miamix_cpu.cli.explore import CONTROLS, PRESETS, Scene, code_of, config_code, config_of, draw, values_of
from miamix_cpu.cli.explore_html import gallery_html, histogram_html, problem_html
from miamix_cpu.config import METHODS

OTHER = MiAMixConfig(
    alpha=0.35, k_min=2, k_max=5, methods=METHODS, weights=(1, 2, 0.5, 3, 4, 5), p_self=0.4, p_aug=0.6, p_smooth=0.7,
    merge="sum", lam_from="orig", gauss_scale="area", second_view="shared", angle_max=30, shear_max=0.25,
    smooth_max=0.3, cutmix=CutMixOptions(inside=True, minmax=(0.3, 0.6)), fmix=FMixOptions(decay=2.1),
    gridmix=GridMixOptions(cells=(3, 5), pattern="random"), agmix=AGMixOptions(q_max=0.5),
)  # fmt: skip


def leaves(options):
    """The names of all fields, an option's with its method's before it."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from (f"{field.name}.{name}" for name in leaves(value))
        else:
            yield field.name


def executed(code, **names):
    exec(code, names)
    return names


# ---- controls and configurations


def test_every_field_has_a_control():
    shown = {control.name for control in CONTROLS}
    for leaf in leaves(MiAMixConfig()):
        parts = {name for name in shown if name == leaf or name.startswith(f"{leaf}.")}
        assert parts or leaf == "methods", leaf
    assert {name for name in shown if name.startswith("weights.")} == {f"weights.{method}" for method in METHODS}
    assert len(shown) == len(CONTROLS)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_every_control_changes_its_own_field(control):
    values = values_of(OTHER)
    before = values[control.name]
    if control.choices:
        other = next(choice for choice in control.choices if choice != before)
    elif control.low is None:
        other = not before
    else:
        other = before + control.step
        assert control.low < before < control.high
    after = config_of({**values, control.name: other})
    field, _, option = control.name.partition(".")
    changed = [name for name in OTHER.__dataclass_fields__ if getattr(after, name) != getattr(OTHER, name)]
    assert changed == [field]
    if field in ("cutmix", "fmix", "gridmix", "agmix"):
        assert getattr(getattr(after, field), option.split(".")[0]) != getattr(
            getattr(OTHER, field), option.split(".")[0]
        )


@pytest.mark.parametrize("config", [*PRESETS.values(), OTHER])
def test_controls_show_a_configuration(config):
    assert config_of(values_of(config)) == config
    assert set(values_of(config)) == {control.name for control in CONTROLS}
    for control in CONTROLS:
        value = values_of(config)[control.name]
        assert value in control.choices or (isinstance(value, bool) and control.low is None) or (
            control.low <= value <= control.high
        )  # fmt: skip


def test_presets_are_recognised():
    assert explore.preset_of(MiAMixConfig()) == "Table 1 of the paper"
    assert explore.preset_of(MiAMixConfig.plain("fmix")) == "plain fmix"
    assert explore.preset_of(OTHER) is None


@pytest.mark.parametrize(("changes", "words"), [
    ({"k_min": 3}, "k_min must be at most k_max=2, got 3"),
    ({f"weights.{method}": 0 for method in METHODS}, "weights must not all be 0"),
    ({"cutmix.minmax": True, "cutmix.minmax.low": 0.9}, "cutmix.minmax must be 0 <= low <= high <= 1"),
    ({"gridmix.cells.low": 9}, "gridmix.cells must be"),
])  # fmt: skip
def test_wrong_combinations_are_the_librarys_own_errors(changes, words):
    with pytest.raises(ValueError, match=words):
        config_of({**values_of(MiAMixConfig()), **changes})


@pytest.mark.parametrize("changes", [{"seed": None}, {"seed": -1}, {"rows": 0}, {"size": 0}])
def test_a_scene_is_checked(changes):
    with pytest.raises((TypeError, ValueError), match=next(iter(changes))):
        Scene(**{"config": MiAMixConfig(), "seed": 0, "rows": 1, "size": 8, **changes})


def settings():
    """What sliders, boxes and choices can be set to."""

    def of(control):
        if control.choices:
            return st.sampled_from(control.choices)
        if control.low is None:
            return st.booleans()
        steps = st.integers(0, round((control.high - control.low) / control.step))
        whole = isinstance(control.step, int)
        return steps.map(
            lambda n: control.low + n * control.step if whole else round(control.low + n * control.step, 6)
        )

    return st.fixed_dictionaries({control.name: of(control) for control in CONTROLS})


@given(settings())
def test_code_of_a_configuration_is_the_configuration(values):
    try:
        config = config_of(values)
    except ValueError:
        assume(False)
    code, classes = config_code(config)
    names = {name: getattr(miamix_cpu, name) for name in ["MiAMixConfig", *classes]}
    assert executed(f"config = {code}", **names)["config"] == config
    assert max(map(len, f"config = {code}".splitlines())) <= 120


def test_code_holds_only_what_differs():
    assert config_code(MiAMixConfig()) == ("MiAMixConfig()", [])
    config = MiAMixConfig(alpha=0.5, methods=("cutmix",), weights=(1,))
    assert config_code(config) == ('MiAMixConfig(alpha=0.5, methods=("cutmix",), weights=(1,))', [])
    code, classes = config_code(MiAMixConfig(gridmix=GridMixOptions(cells=(2, 3))))
    assert (code, classes) == ("MiAMixConfig(gridmix=GridMixOptions(cells=(2, 3)))", ["GridMixOptions"])


# ---- pictures


@pytest.mark.parametrize("config", [MiAMixConfig(p_self=0.3), OTHER, MiAMixConfig.plain("cutmix")])
def test_rows_are_what_the_code_makes(config):
    scene = Scene(config, 5, 9, 24)
    rows = draw(scene, explore.default_pictures())
    batch = executed(code_of(scene))["batch"]
    assert len(rows) == 9
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(row.mixed, batch.images[i].permute(1, 2, 0).numpy())
        assert row.caption.startswith(batch.describe(i))
        mask = row.mask[..., None]
        assert np.abs(mask * row.first + (1 - mask) * row.second - row.mixed).max() < 0.6
        if config.second_view == "shared":
            np.testing.assert_array_equal(row.second, rows[int(batch.partner[i])].first)


def test_a_scene_of_uploads_is_read_by_name(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name in ('a "b".png', "ü.png"):
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    pictures = explore.read_uploads([str(path) for path in sorted(tmp_path.iterdir())])
    scene = Scene(MiAMixConfig(), 1, 3, 16, tuple(name for name, _ in pictures))
    monkeypatch.chdir(tmp_path)
    images = executed(code_of(scene))["batch"].images
    for i, row in enumerate(draw(scene, pictures)):
        np.testing.assert_array_equal(row.mixed, images[i].permute(1, 2, 0).numpy())


def test_a_histogram_has_a_bar_a_bin():
    drawn = histogram_html(np.array([0.0, 0.01, 0.5, 1.0], np.float32))
    heights = [float(height) for height in re.findall(r'height="([0-9.]+)"', drawn)]
    assert [i for i, height in enumerate(heights) if height] == [0, 20, 39]
    assert heights[0] == 2 * heights[20] == 2 * heights[39] == 100
    assert "50% below 0.05, 25% above 0.95" in drawn


def test_lam_is_measured():
    lam = explore.measure_lam(MiAMixConfig.plain("mixup"), 0)
    assert lam.shape == (explore.LAM_SAMPLES,)
    assert abs(lam.mean() - 0.5) < 3 * np.sqrt(1 / 12 / len(lam))
    np.testing.assert_array_equal(lam, explore.measure_lam(MiAMixConfig.plain("mixup"), 0))
    extreme = explore.measure_lam(MiAMixConfig.plain("mixup", alpha=0.05), 0)
    assert ((extreme < 0.05) | (extreme > 0.95)).mean() > 0.8


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


def test_an_upload_is_read_once(tmp_path):
    """The page's server removes uploads after a day; those on show stay, another's absence is told."""
    path = tmp_path / "mine.png"
    cv2.imwrite(str(path), np.full((4, 5, 3), 7, np.uint8))
    ((_, before),) = explore.read_uploads([str(path)])
    path.unlink()
    ((_, after),) = explore.read_uploads([str(path)])
    assert after is before
    with pytest.raises(UserError, match=r"other\.png is not there any more: upload it again"):
        explore.read_uploads([str(tmp_path / "other.png")])


def test_bad_uploads(bad, tmp_path):
    for path, words in bad.items():
        with pytest.raises(UserError, match=words):
            explore.read_uploads([str(path)])
    good = tmp_path / "good.png"
    cv2.imwrite(str(good), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match=r"two pictures are called good\.png"):
        explore.read_uploads([str(good), str(good)])
    with pytest.raises(UserError, match="17 pictures are too many: at most 16"):
        explore.read_uploads([str(good)] * 17)


# ---- the page


def needs(*modules):
    """Skip where one is not installed; fail instead where REQUIRE_EXTRAS is set, as in CI."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            words = f'{name} is not installed: pip install -c constraints.txt -e ".[dev]"'
            if os.environ.get("REQUIRE_EXTRAS"):
                pytest.fail(words)
            pytest.skip(words)


def test_names_are_escaped():
    rows = draw(Scene(MiAMixConfig(), 0, 1, 8, ("<b>.png",)), [("<b>.png", np.zeros((9, 9, 3), np.uint8))])
    assert "<b>" not in gallery_html(rows)
    assert "&lt;b&gt;.png" in gallery_html(rows)
    assert "<b>" not in problem_html("<b>")


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


@pytest.fixture
def page(browser, server):
    page = Page(browser, server)
    yield page
    page.context.close()


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
        page.tab.get_by_role("option", name="plain fmix").click()

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
    wrong("cutmix.minmax must be 0 <= low <= high <= 1, got (0.9, 0.8)")
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
