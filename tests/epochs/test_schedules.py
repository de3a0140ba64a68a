"""How probable mixing is in which epoch."""

import pytest

from miamix_cpu import MixSchedule


def test_a_schedule_starts_ramps_and_switches_off():
    schedule = MixSchedule(start=2, ramp=3, off=8, probability=0.8)
    found = [schedule.probability_at(epoch) for epoch in range(10)]
    assert found == pytest.approx([0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0, 0])
    assert [MixSchedule().probability_at(epoch) for epoch in (0, 100)] == [1, 1]
    assert MixSchedule(probability=0.5).probability_at(0) == 0.5


@pytest.mark.parametrize(("changes", "error", "words"), [
    ({"start": -1}, ValueError, "start must be at least 0, got -1"),
    ({"ramp": 1.5}, TypeError, "ramp must be an integer, got 1.5"),
    ({"off": -2}, ValueError, "off must be at least 0, got -2"),
    ({"probability": 2}, ValueError, r"probability must be in \[0, 1\], got 2"),
    ({"probability": "1"}, TypeError, "probability must be a number"),
])  # fmt: skip
def test_bad_schedules_are_named(changes, error, words):
    with pytest.raises(error, match=words):
        MixSchedule(**changes)


@pytest.mark.parametrize(("options", "words"), [
    ({"off": 0}, r"off=0\) never mixes.*In timm, 0 means never: use off=args.mixup_off_epoch or None"),
    ({"start": 5, "off": 3}, r"start=5, off=3\) never mixes"),
    ({"start": 3, "off": 3}, r"start=3, off=3\) never mixes"),
])  # fmt: skip
def test_a_schedule_that_never_mixes_is_warned_of(options, words):
    with pytest.warns(UserWarning, match=words):
        MixSchedule(**options)
