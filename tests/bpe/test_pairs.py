"""Pair counts are those of a plain count; the kernel's indices are in bounds."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite import bounds
from jaxopt_lite.bpe.arrays import Host
from jaxopt_lite.bpe.device import Device
from jaxopt_lite.bpe.groups import group
from jaxopt_lite.bpe.pairs import count_pairs
from tests.bpe.corpora import random_words
from tests.oracles.merges import count_slowly


def in_a_row(words):
    """Symbols with a −1 behind each word, and their weights."""
    symbols = [symbol for word, _ in words for symbol in (*word, -1)]
    weights = [count for word, count in words for _ in range(len(word) + 1)]
    return np.array(symbols, np.int32), np.array(weights, np.int64)


@pytest.mark.parametrize("seed", range(20))
def test_counts_are_those_of_a_plain_count(seed):
    words, _ = random_words(seed)
    symbols, weights = (np.resize(a, 400) for a in in_a_row(words))  # one shape, one program
    symbols[sum(len(word) + 1 for word, _ in words) :] = -1
    found = count_pairs(symbols, weights)
    number = int(found.number)
    pairs = zip(found.left[:number].tolist(), found.right[:number].tolist(), strict=True)
    assert dict(zip(pairs, found.counts[:number].tolist(), strict=True)) == count_slowly(words)


def test_pairs_are_in_order():
    found = count_pairs(jnp.array([3, 1, 2, -1, 1, 2, 3]), jnp.ones(7, jnp.int32))
    number = int(found.number)
    assert list(zip(found.left[:number].tolist(), found.right[:number].tolist(), strict=True)) == [
        (1, 2),
        (2, 3),
        (3, 1),
    ]
    assert found.counts.dtype == jnp.int32


def test_counts_beyond_32_bits():
    found = count_pairs(jnp.array([0, 1, -1, 0, 1]), jnp.full(5, 2**40))
    assert int(found.counts[0]) == 2**41


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int16, jnp.int64])
def test_other_integers_are_counted_alike(dtype):
    found = count_pairs(jnp.array([3, 1, 2, -1, 1, 2, 3, -1], dtype), jnp.ones(8, jnp.int32))
    assert (int(found.number), found.left[:3].tolist(), found.counts[:3].tolist()) == (3, [1, 2, 3], [2, 1, 1])


def test_symbols_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match="expected signed integers"):
        count_pairs(jnp.ones(3), jnp.ones(3, jnp.int32))


@pytest.mark.parametrize("symbols", [[], [5], [-1, -1], [4, -1, 4]])
def test_rows_without_pairs(symbols):
    found = count_pairs(jnp.array(symbols, jnp.int32), jnp.ones(len(symbols), jnp.int32))
    assert int(found.number) == 0


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected \[N\] for both"):
        count_pairs(jnp.zeros((2, 3), jnp.int32), jnp.zeros((2, 3), jnp.int32))


def test_every_index_is_in_bounds():
    symbols, weights = in_a_row(random_words(3)[0])
    found = bounds.checked(count_pairs)(jnp.asarray(symbols), jnp.asarray(weights))
    assert int(found.number) == len(count_slowly(random_words(3)[0]))


@pytest.mark.parametrize("seed", range(5))
def test_host_and_device_group_alike(seed):
    choice = np.random.default_rng(seed)
    left, right = choice.integers(0, 3, (2, 50)).astype(np.int32)
    place, weight = np.arange(50, dtype=np.int32), choice.integers(1, 9, 50)
    valid = choice.random(50) < 0.7
    host = group(Host, left, right, place, weight, valid)
    device = group(Device, *map(jnp.asarray, (left, right, place, weight, valid)))
    number = int(host.number)
    assert number == int(device.number)
    for name in ("left", "right", "counts", "start"):
        assert np.array_equal(getattr(host, name)[:number], getattr(device, name)[:number])
    assert np.array_equal(host.place[host.valid], np.asarray(device.place)[np.asarray(device.valid)])
