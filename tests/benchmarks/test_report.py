"""Tables by hand, and the report that gathers, writes and draws them."""

import json

import cv2

from benchmarks import report
from benchmarks.training import methods, tables


def run_of(name, seed, accuracy, **settings):
    return {
        "run": f"{name}-{seed}",
        "settings": {"data": "d", "network": "n", "training_images": 10, "epochs": 3, "batch": 2, "lr": 0.1,
                     "momentum": 0.9, "weight_decay": 0, "amp": "off", "augment": "crop", "method": name, "seed": seed,
                     "config": methods.method(name).describe(), **settings},
        "environment": {"device": "cpu", "cpu": "c", "cores": 1, "python": "3", "date": "2023-08-07",
                        "versions": {"torch": "1", "albumentations": "2", "numba": "3"}},
        "curves": {"loss": [2.0, 1.0, 0.5], "training_accuracy": [None, 0.5, 0.9], "held_out_accuracy": [None, 0.4, 0.5]},
        "final": {"on": "test", "images": 100, "accuracy": accuracy, "training_accuracy": 1.0, "seconds": 1.0},
    }  # fmt: skip


RUNS = [
    run_of("vanilla", 0, 0.50), run_of("vanilla", 1, 0.60), run_of("vanilla", 2, 0.40),
    run_of("miamix", 0, 0.54), run_of("miamix", 1, 0.62), run_of("miamix", 5, 0.10),
    run_of("miamix:k_min=4+k_max=4", 0, 0.51), run_of("miamix:gauss_scale=area", 0, 0.49),
]  # fmt: skip


def test_tables_pair_by_seed():
    """miamix: +4 and +2 points where vanilla has the same seed, so +3 with a standard error of 1; seed 5 has no pair."""
    lines = tables.report(RUNS).splitlines()
    assert "| vanilla | 3 | 50.00 ± 10.00 |  | -3.00 ± 1.00 (2) | 100.00 ± 0.00 |" in lines
    assert "| MiAMix (Table 1) | 3 | 42.00 ± 28.00 | +3.00 ± 1.00 (2) |  | 100.00 ± 0.00 |" in lines
    assert "| k_min=4, k_max=4 | 1 | 51.00 | +1.00 (1) | -3.00 (1) | 100.00 | 67.0 |" in lines
    assert "| gauss_scale=area | 1 | 49.00 | -1.00 (1) | -5.00 (1) | 100.00 |" in lines
    assert any(line.startswith("Table 2") and "Not run: mixup; cutmix" in line for line in lines)
    assert not any(line.startswith("Table 7") for line in lines)


def test_runs_with_other_settings_are_kept_apart():
    text = tables.report([*RUNS, run_of("vanilla", 0, 0.9, epochs=7)])
    assert text.count("Table 2") == 2
    assert "| vanilla | 3 | 50.00" in text
    assert "| vanilla | 1 | 90.00 |" in text


def test_report_names_runs_by_what_was_configured_not_by_the_defaults_of_their_time(tmp_path):
    old = run_of("miamix", 0, 0.3)
    old["settings"]["config"]["config"]["smooth_max"] = 0.125
    plain = run_of("cutmix", 0, 0.2)
    plain["settings"]["config"]["config"]["smooth_max"] = 0.125  # nothing is smoothed
    both = tmp_path / "runs.jsonl"
    both.write_text("\n".join(json.dumps({**run, "run": str(i)}) for i, run in enumerate((old, plain, RUNS[3]))))
    found = json.loads(json.dumps([run["settings"]["method"] for run in tables.read([both])]))
    assert found == ["miamix:smooth_max=0.125", "cutmix", "miamix"]


def test_a_configuration_that_is_none_today_is_no_run(tmp_path, capsys):
    foreign = run_of("miamix", 0, 0.3)
    foreign["settings"]["config"]["config"]["no_such_field"] = 1
    file = tmp_path / "runs.jsonl"
    file.write_text(json.dumps(foreign))
    assert report.main([str(file)]) == 2
    assert "runs.jsonl, line 1: expected a run" in capsys.readouterr().err


def test_two_runs_of_the_same_are_named(tmp_path, capsys):
    twice = tmp_path / "runs.jsonl"
    twice.write_text("\n".join(json.dumps({**RUNS[0], "run": name}) for name in ("one", "another")))
    assert report.main([str(twice)]) == 2
    assert "another and one are both vanilla, seed 0: give one of them" in capsys.readouterr().err


def test_report_gathers_writes_and_draws(tmp_path, capsys):
    for i, run in enumerate(RUNS):
        (tmp_path / "runs" / str(i)).mkdir(parents=True)
        (tmp_path / "runs" / str(i) / "run.json").write_text(json.dumps(run) + "\n")
    (tmp_path / "runs" / "0" / "run.json").write_text(json.dumps({**RUNS[0], "final": None}))
    gathered, page, figure = tmp_path / "all.jsonl", tmp_path / "page.md", tmp_path / "curves.png"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    outputs = ["--gather", str(gathered), "--write", str(page), "--plot", str(figure), "--cost"]
    assert report.main([str(tmp_path / "runs"), *outputs]) == 0
    assert len(gathered.read_text().splitlines()) == len(RUNS) - 1
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n**100 test images.**")
    assert text.endswith(f"|\n{report.END}\nafter\n")
    assert cv2.imread(str(figure)).std() > 1
    assert report.main([str(gathered)]) == 0
    assert capsys.readouterr().out in text
    assert report.main([]) == 0
    assert "Training cost" in capsys.readouterr().out
    assert report.main([str(gathered), "--cost", str(tmp_path / "no.json")]) == 2
    assert "no.json" in capsys.readouterr().err

    page.write_text("no marks")
    assert report.main([str(gathered), "--cost", "--write", str(page)]) == 2
    gathered.write_text("{}\n")
    assert report.main([str(gathered)]) == 2
    assert "all.jsonl, line 1: expected a run" in capsys.readouterr().err
