"""Normals by Box and Muller, against their law and against double precision."""

import numpy as np
import pytest
from miamix_cpu.plan.normals import bits_of, draw_normals, make_normals, radius_of, sine_of
from scipy import stats

BOTH = pytest.mark.parametrize("run", [lambda f: f.py_func, lambda f: f], ids=["python", "compiled"])


def test_law(rng):
    """Normal, pairs uncorrelated also in their squares, tails as thick as they should be: to 4 standard errors."""
    n = 2_000_000
    found = draw_normals(n, rng.random(2))
    assert found.dtype == np.float32
    assert stats.kstest(found[:500_000].astype(np.float64), "norm").pvalue > 1e-3
    cosines, sines = found[: n // 2].astype(np.float64), found[n // 2 :].astype(np.float64)
    for one, other in ((cosines, sines), (cosines**2, sines**2), (cosines[1:], cosines[:-1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(n / 2)
    for limit in (2.0, 3.0, 4.0):
        expected = 2 * stats.norm.sf(limit)
        assert abs((np.abs(found) > limit).mean() - expected) < 4 * np.sqrt(expected / n)


def test_the_same_in_every_version():
    """To the last bit, for a seed's plans depend on them."""
    found = draw_normals(6, np.array([0.25, 0.7]))
    expected = [0x3FD2B46A, 0xBF1723A1, 0x3E90089D, 0x3E829242, 0x3F4F09E3, 0x3F01CFF8]
    assert found.view(np.uint32).tolist() == expected


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_count(count, rng):
    assert draw_normals(count, rng.random(2)).shape == (count,)


def words(n, uniforms):
    """The bits of the first n pairs, as `make_normals` makes them."""
    first, second = (np.uint64(u * 2.0**64) for u in uniforms)
    return np.array([bits_of(np.uint64(i), first, second) for i in range(n)], dtype=np.uint64)


def test_bits_are_random(rng):
    """Each is set in one word of two, and none goes with another, with the word before, or with those of streams nearby."""
    n = 20_000
    uniforms = rng.random(2)
    nearby = [uniforms, [uniforms[0] + 2.0**-53, uniforms[1]], [uniforms[0], uniforms[1] + 2.0**-53], [0.0, 0.0]]
    streams = np.array([words(n, u) for u in nearby])
    bits = (streams[:, :, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).astype(np.float32) * 2 - 1
    columns = np.concatenate([bits[0, 1:].T, bits[0, :-1].T, *(other[1:].T for other in bits[1:])])
    found = columns @ columns.T / (n - 1)
    np.fill_diagonal(found, 0)
    assert np.abs(columns.mean(axis=1)).max() < 4.5 / np.sqrt(n)
    assert np.abs(found).max() < 6 / np.sqrt(n)
    assert len(np.unique(streams)) == 4 * n


def test_no_stream_is_a_part_of_another(rng):
    """SplitMix64's are: begun one step further it is a word ahead."""
    golden = 0x9E3779B97F4A7C15 / 2.0**64
    first, second = rng.random(2)
    ahead = words(100, [(first + golden) % 1, (second + 0.25) % 1])
    assert not np.isin(ahead, words(102, [first, second])).any()


@BOTH
def test_radius(run):
    upper = np.unique(np.concatenate([np.arange(50), 2 ** np.arange(32), 2**32 - 1 - np.arange(50), [2**31 - 1]]))
    found = np.array([run(radius_of)(np.uint32(u)) for u in upper])
    exact = np.sqrt(-2 * np.log((upper + 0.5) / 2**32))
    # A float32 has 24 bits, so that u within 2^-24 of 1 counts as 1, where the radius is below 3.5e-4.
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=3.6e-4)
    far = exact > 0.01
    np.testing.assert_allclose(found[far], exact[far], rtol=5e-7)


@BOTH
def test_sine(run):
    turns = np.linspace(-(2**31), 2**31 - 1, 2001).astype(np.int32)
    found = np.array([run(sine_of)(t) for t in turns])
    np.testing.assert_allclose(found, np.sin(2 * np.pi * turns.astype(np.float64) / 2**32), atol=1e-6)


def test_python_and_compiled_agree(rng):
    uniforms = rng.random(2)
    one, other = np.empty(400, np.float32), np.empty(400, np.float32)
    make_normals(one, uniforms)
    with np.errstate(over="ignore"):
        make_normals.py_func(other, uniforms)
    np.testing.assert_array_equal(one, other)
