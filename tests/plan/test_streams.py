import numpy as np
import pytest
import torch
from scipy import stats

from miamix_cpu.plan.streams import PLAN, VIEWS, batch_key, fingerprint_of, index_bytes, samples_digest, stream


def test_keys_depend_on_everything():
    keys = [
        batch_key(*arguments[:2], fingerprint_of(arguments[2]))
        for arguments in [
            (0, 0, [b"ab", b"c"]), (1, 0, [b"ab", b"c"]), (0, 1, [b"ab", b"c"]), (0, 0, [b"a", b"bc"]),
            (0, 0, [b"abc"]), (0, 0, []), (0, 0, [b""]), (-1, 0, []), (2**80, 0, []), (0, 10, []), (1, 0, []), (10, 0, []),
            (0, 0, [b"a", b"b"]), (0, 0, [b"a|b"]), (0, 0, [b"a|1:b"]),
        ]
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {16}
    assert batch_key(0, 0, fingerprint_of([b"ab", b"c"])) == keys[0]


def test_the_digest_of_the_samples_is_theirs_alone():
    prints = [fingerprint_of(parts) for parts in ([b"a", b"b"], [b"ab"], [b"b", b"a"], [])]
    digests = [samples_digest(fingerprint) for fingerprint in prints]
    assert len(set(digests)) == len(prints)
    assert {len(digest) for digest in digests} == {16}
    assert samples_digest(prints[0]) == digests[0]
    assert not set(digests) & {batch_key(0, 0, fingerprint) for fingerprint in prints}


def test_streams_are_independent_and_uniform():
    keys = [batch_key(0, 0, fingerprint_of([b"%d" % i])) for i in range(20_000)]
    firsts = np.array([[stream(key, which).random() for which in (PLAN, VIEWS)] for key in keys])
    for column in firsts.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
        assert abs(np.corrcoef(column[1:], column[:-1])[0, 1]) < 4 / np.sqrt(20_000)
    assert abs(np.corrcoef(firsts.T)[0, 1]) < 4 / np.sqrt(20_000)


def test_indices_alike_and_not_alike():
    assert len({index_bytes(i, 0) for i in (3, np.int64(3), torch.tensor(3), np.array(3, np.uint8))}) == 1
    different = [3, "3", b"3", "\udcff", (3,), ("a", 3), ("a3",), (1, 23), (12, 3), ((1,), 23)]
    assert len({index_bytes(i, 0) for i in different}) == len(different)
    with pytest.raises(TypeError, match="the index of sample 4 must be an integer, a string or bytes, got float"):
        index_bytes(1.5, 4)
