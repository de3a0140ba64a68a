"""The largest values of a field against sorting, as plain Python and compiled."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miamix_cpu.masks.threshold import (
    bracket,
    choose_largest,
    collect,
    count_above,
    extremes,
    find_threshold,
    in_order,
    narrow,
)
from tests import naive
from tests.kernels import compiled, python
from tests.masks.common import BOTH, blank

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
FEW = 8  # values that are left to be sorted one by one


@given(st.lists(finite, min_size=1, max_size=60))
def test_extremes(values):
    for run in (python, compiled):
        least, greatest = run(extremes)(np.array(values, dtype=np.float32))
        assert (least, greatest) == (min(values), max(values))


@given(finite, finite)
@example(0.0, -0.0)
@example(1e-45, -1e-45)
def test_bits_sort_as_the_numbers(one, other):
    for run in (python, compiled):
        words = np.array([one, other], np.float32).view(np.int32)
        first, second = (np.int32(run(in_order)(word)) for word in words)
        assert (first < second) == (one < other) or one == other
        assert [run(in_order)(first), run(in_order)(second)] == words.tolist()


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=60), st.data())
def test_largest_values_with_ties(values, data):
    values = np.array(values, dtype=np.float32)
    count = data.draw(st.integers(0, len(values)))
    for run in (python, compiled):
        chosen = blank(len(values))
        run(choose_largest)(chosen, values, len(values), count)
        np.testing.assert_array_equal(chosen, naive.largest(values, count))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.data())
def test_largest_of_few_different_values(values, data):
    values = np.array(values, dtype=np.float32)
    count = data.draw(st.integers(0, len(values)))
    chosen = blank(len(values))
    compiled(choose_largest)(chosen, values, len(values), count)
    np.testing.assert_array_equal(chosen, naive.largest(values, count))


def hard_field(kind, size, columns, rng):
    every = np.where(np.arange(size) % (17 if columns == 64 else 13), 0.0, 10.0)
    return {
        "normal": rng.standard_normal(size),
        "few": rng.integers(0, 3, size),
        "constant": np.ones(size),
        "tiny": rng.standard_normal(size) * 1e-44,
        "huge": rng.standard_normal(size) * 1e37,
        "clustered": np.where(rng.random(size) < 0.9, 1 + rng.random(size) * 1e-6, rng.standard_normal(size) * 1e6),
        "ramp": np.arange(size),
        "misleading": rng.standard_normal(size) + every,
        "misleading the other way": rng.standard_normal(size) - every,
    }[kind].astype(np.float32)


@BOTH
@pytest.mark.parametrize(
    ("size", "columns"), [(3000, 50), (6007, 64), (6007, 70)]
)  # from 4096 on every 17th, 13th value
@pytest.mark.parametrize(
    "kind", ["normal", "few", "constant", "tiny", "huge", "clustered", "ramp", "misleading", "misleading the other way"]
)
def test_largest_values_of_hard_fields(run, kind, size, columns, rng):
    values = hard_field(kind, size, columns, rng)
    counts = (1, 2, 15, 16 * 13, size // 3, size // 2, size - 16 * 13, size - 1, size)
    for count in counts if run is compiled else counts[2::3]:  # plain Python takes seconds
        chosen = blank(size)
        run(choose_largest)(chosen, values, columns, count)
        np.testing.assert_array_equal(chosen, naive.largest(values, count))
        threshold, ties, alike = run(find_threshold)(values, columns, count)
        assert threshold == np.sort(values)[-count]
        assert ties == count - (values > threshold).sum()
        assert alike == (values == threshold).sum()


@BOTH
@pytest.mark.parametrize("kind", ["normal", "few", "clustered", "tiny"])
def test_narrowing_keeps_the_wanted_value_inside(run, kind, rng):
    values = hard_field(kind, 1000, 40, rng)
    ordered = np.sort(values)[::-1]
    wide = np.float32(-np.inf), np.float32(np.inf), values.size, np.int64(0)
    closer = np.float32(ordered[700]), np.float32(ordered[3])
    for count in (1, 9, 300, 600, 1000):
        starts = [wide]
        if ordered[3] > ordered[count - 1] > ordered[700]:
            starts.append((*closer, np.sum(values > closer[0]), np.sum(values > closer[1])))
        for start in starts:
            low, high, above_low, above_high = run(narrow)(values, count, *start)
            assert start[0] <= low < ordered[count - 1] <= high <= start[1]
            assert (above_low, above_high) == (np.sum(values > low), np.sum(values > high))
            between = (values > low) & (values <= high)
            assert above_low - above_high <= FEW or (values[between] == high).all()


@BOTH
@pytest.mark.parametrize(("columns", "step"), [(64, 17), (66, 17), (65, 17), (70, 13), (75, 13)])
def test_the_first_bracket_is_the_samples(run, columns, step, rng):
    """16 places of the sample to both sides: infinite where there are not so many, and as close as those."""
    values = rng.standard_normal(6007).astype(np.float32)
    ordered = np.sort(values[: values.size // step * step : step])[::-1]
    for count in (1, 20, 2000, 3000, 6007):
        rank = count * ordered.size // values.size
        low, high = run(bracket)(values, columns, count)
        if rank + 16 > ordered.size:
            assert low == -np.inf
        else:
            assert low < ordered[rank + 15]
            assert np.sum(ordered > low) <= rank + 16 + FEW
        if rank - 16 < 1:
            assert high == np.inf
        else:
            assert high >= ordered[rank - 17]
            assert np.sum(ordered > high) >= rank - 16 - FEW


@BOTH
def test_values_above(run, rng):
    values = rng.integers(-4, 5, 100).astype(np.float32)
    for threshold in (-np.inf, -4, 0, 0.5, 4, np.inf):
        assert run(count_above)(values, np.float32(threshold)) == np.sum(values > threshold)
    assert run(count_above)(values[:0], np.float32(0)) == 0


@BOTH
@pytest.mark.parametrize("size", [1, 15, 16, 17, 63, 64, 65, 100, 200])
def test_values_between(run, size, rng):
    """In their order; nothing is written behind them."""
    values = rng.integers(-4, 5, size).astype(np.float32)
    for low, high in ((-1, 2), (-np.inf, 0), (0, np.inf), (-np.inf, np.inf), (9, 10), (2, 2)):
        expected = values[(values > low) & (values <= high)]
        room = blank(size)
        found = run(collect)(room, values, np.float32(low), np.float32(high))
        np.testing.assert_array_equal(room[:found], expected)
        assert found == expected.size
        assert np.isnan(room[found:]).all()


def test_largest_values_where_denormal_numbers_are_0(rng):
    torch = pytest.importorskip("torch")
    values = np.maximum(0, rng.standard_normal(100)).astype(np.float32)
    expected, chosen = naive.largest(values, 60), blank(100)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU does not take them for 0")
    try:
        compiled(choose_largest)(chosen, values, 10, 60)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(chosen, expected)
