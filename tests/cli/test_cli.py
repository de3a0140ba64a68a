import subprocess
import sys

import cv2
import numpy as np
import pytest

from miamix_cpu import MiAMix, MiAMixConfig
from miamix_cpu.cli import main
from miamix_cpu.cli.gallery import layer_masks
from miamix_cpu.cli.preview import read_folder
from miamix_cpu.methods import METHODS


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "miamix_cpu", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def picture(path, value=0):
    cv2.imwrite(str(path), np.full((40, 50, 3), value, np.uint8))


def test_preview_of_photographs(tmp_path, capsys):
    out = tmp_path / "gallery.png"
    assert main(["preview", "--rows", "3", "--size", "48", "--seed", "5", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(line.startswith(f"sample {i} with ") for i, line in enumerate(lines[:3]))
    assert lines[3] == f"wrote {out}"
    drawn = cv2.imread(str(out))
    assert drawn.shape[0] > 600
    assert drawn.std() > 10
    first = out.read_bytes()
    main(["preview", "--rows", "3", "--size", "48", "--seed", "5", "--out", str(out)])
    assert out.read_bytes() == first
    main(["preview", "--rows", "3", "--size", "48", "--seed", "6", "--out", str(out)])
    assert out.read_bytes() != first


@pytest.mark.parametrize("method", METHODS)
def test_preview_of_a_folder_by_one_method(method, tmp_path, capsys):
    for i in range(3):
        picture(tmp_path / f"{i}.png", 80 * i)
    (tmp_path / "notes.txt").write_text("not a picture")
    assert (
        main(
            [
                "preview",
                str(tmp_path),
                "--method",
                method,
                "--rows",
                "2",
                "--size",
                "32",
                "--out",
                str(tmp_path / "out.PNG"),
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert all(f": {method} " in line and ".png with " in line for line in lines[:2])


def test_a_single_picture_is_enough(tmp_path, capsys):
    picture(tmp_path / "one.jpg", 9)
    assert main(["preview", str(tmp_path), "--rows", "1", "--size", "16", "--out", str(tmp_path / "out.png")]) == 0


def test_layers_are_shown_as_they_are_merged(rng):
    config = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS), k_max=3, p_aug=0.5)
    mix, images = MiAMix(9, config, return_masks=True), np.zeros((9, 20, 24), np.uint8)
    batch = mix(images, range(9), second=images, rng=rng)
    for i in range(9):
        product = np.prod([mask for _, mask in layer_masks(batch.plan, i)], axis=0)
        np.testing.assert_allclose(product, batch.masks[i], atol=1e-6)


def test_demo_trains_and_draws(tmp_path):
    out = tmp_path / "demo.png"
    result = run("demo", "--epochs", "1", "--seeds", "2", "--out", out)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split()[-5:] == ["plain", "mixup", "+", "cutmix", "MiAMix"]
    rows = [line.split("  ")[0] for line in lines[1:9]]
    assert rows == ["clean", "noise", "blur", "occlusion", "low contrast", "clean, 30% of labels wrong",
                    "calibration error, clean (low: good)", "images/s of the loader"]  # fmt: skip
    assert all(line.count("±") == 3 for line in lines[1:8])
    assert "Beside plain training, MiAMix " in result.stdout
    assert "training with correct labels\ntraining with 30% wrong labels\n" in result.stderr
    assert "\r" not in result.stderr
    assert cv2.imread(str(out)) is not None
    assert cv2.imread(str(tmp_path / "demo_chart.png")) is not None


def test_demo_says_what_is_gained_and_what_is_lost():
    from miamix_cpu.cli import demo

    def found(**values):
        return {**dict.fromkeys((*demo.TESTS, demo.WRONG), 0.5), "confidence": 0.9, **values}

    plain, mixed = found(), found(noise=0.75, blur=0.4, confidence=0.3)
    words = demo.sentences({"plain": [plain], "MiAMix": [mixed]})
    assert "gains points of accuracy: 25.0 with noise; it loses 10.0 blurred." in words
    assert "its confidence is 20 points below its accuracy" in words
    assert "under-confident" not in demo.sentences({"plain": [plain], "MiAMix": [found(noise=1)]})


def test_demo_corrupts_and_mislabels_as_it_says():
    import torch

    from miamix_cpu.cli import demo

    training, test = demo.digits(0)
    changed = demo.mislabelled(training, 0)
    assert sum(a[1] != b[1] for a, b in zip(training, changed, strict=True)) == round(0.3 * len(training))
    images = torch.ones(5, 1, 16, 16)
    made = demo.corrupted(images, 0)
    assert tuple(made) == demo.TESTS
    assert (made["occlusion"] == 0).sum(dim=(1, 2, 3)).tolist() == [36] * 5
    assert made["blur"].shape == images.shape
    assert torch.equal(made["low contrast"], 0.3 * images)

    class Sure(torch.nn.Module):
        def forward(self, images):
            return torch.tensor([[100.0, 0.0] + [0.0] * 8]).expand(len(images), 10)

    zeros = [(image, 0) for image, _ in test[:10]] + [(image, 1) for image, _ in test[10:20]]
    assert demo.evaluate(Sure(), zeros, 0)["clean"] == 0.5
    assert demo.evaluate(Sure(), zeros, 0)["calibration error"] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(("arguments", "words"), [
    (["train"], "invalid choice: 'train'"),
    (["preview", "--rows", "0"], "argument --rows: must be an integer of at least 1, got '0'"),
    (["preview", "--size", "x"], "argument --size: must be an integer of at least 1, got 'x'"),
    (["preview", "--seed", "-1"], "argument --seed"),
    (["demo", "--seed", "99999999999999999999"], "argument --seed: must be an integer of at least 0 and below 2^63"),
    (["preview", "--method", "cutmx"], "argument --method: invalid choice: 'cutmx'"),
    (["preview", "--out", "a.jpg"], "--out must end in .png, got a.jpg"),
    (["preview", "--out", "/no/such/folder/a.png"], "--out: there is no folder /no/such/folder"),
    (["preview", "/no/such/folder"], "/no/such/folder is not a folder"),
    (["demo", "--epochs", "1.5"], "argument --epochs: must be an integer of at least 1, got '1.5'"),
    (["demo", "--what"], "unrecognized arguments: --what"),
])  # fmt: skip
def test_wrong_use_is_one_line_and_exit_2(arguments, words):
    result = run(*arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr
    assert not result.stdout


def test_bad_folders_are_one_line_and_exit_2(tmp_path, capsys):
    def words(folder):
        assert main(["preview", str(folder), "--out", str(tmp_path / "out.png")]) == 2
        captured = capsys.readouterr()
        assert not captured.out
        assert captured.err.count("\n") == 1
        return captured.err

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "contains no pictures" in words(empty)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    picture(damaged / "a.png")
    (damaged / "b.png").write_bytes((damaged / "a.png").read_bytes()[:30])
    assert "b.png is not a picture, or is damaged" in words(damaged)
    (damaged / "b.png").write_bytes(b"")
    assert "b.png is not a picture, or is damaged" in words(damaged)
    assert "is not a folder" in words(damaged / "a.png")


def test_an_unreadable_folder_is_one_line(tmp_path, monkeypatch, capsys):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    assert main(["preview", str(tmp_path), "--out", str(tmp_path / "out.png")]) == 2
    assert "can't be read: Permission denied" in capsys.readouterr().err


def test_an_unreadable_picture_is_one_line(tmp_path, monkeypatch, capsys):
    picture(tmp_path / "a.png")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("numpy.fromfile", refuse)
    assert main(["preview", str(tmp_path), "--out", str(tmp_path / "out.png")]) == 2
    assert "a.png can't be read: Permission denied" in capsys.readouterr().err


def test_a_folder_is_read_by_name_in_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "b.png"), np.full((4, 4, 3), (255, 0, 0), np.uint8))
    picture(tmp_path / "a.png", 7)
    pictures = read_folder(tmp_path, 9)
    assert [name for name, _ in pictures] == ["a.png", "b.png"]
    assert pictures[1][1][0, 0].tolist() == [0, 0, 255]
    assert len(read_folder(tmp_path, 1)) == 1


def test_without_a_command_there_is_the_help():
    result = run()
    assert result.returncode == 0
    assert all(command in result.stdout for command in ("demo", "preview", "explore", "doctor"))


def test_any_file_name_can_be_a_caption(tmp_path, capsys):
    picture(tmp_path / "a$x^$_b.png", 9)
    assert main(["preview", str(tmp_path), "--rows", "1", "--size", "16", "--out", str(tmp_path / "out.png")]) == 0


def test_out_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert main(["preview", "--out", str(tmp_path / "out.png")]) == 2
    assert capsys.readouterr().err == f"miamix_cpu preview: --out: {tmp_path}/out.png can't be written\n"
    assert main(["preview", "--rows", "1", "--size", "16", "--out", "/proc/out.png"]) == 2


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    command = f"{sys.executable} -m miamix_cpu preview --rows 3 --size 16 --out {tmp_path}/out.png | head -n 1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr


def test_version_and_help():
    assert run("--version").stdout.startswith("miamix_cpu ")
    assert "preview" in run("--help").stdout
