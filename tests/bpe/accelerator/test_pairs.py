"""Pairs on a device: counts are those of a plain count, rounds are those of the host, and indices are in bounds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxopt_lite import bounds
from jaxopt_lite.bpe.accelerator.pairs import Device, OnDevice, count_pairs
from jaxopt_lite.bpe.accelerator.words import runs
from jaxopt_lite.bpe.merges import prefix
from jaxopt_lite.bpe.pairs import Candidates, Host, Linked, OnHost, Words, apply_merges, group, link
from jaxopt_lite.bpe.reference import count
from tests.bpe.corpora import laid_out, random_words

pytestmark = pytest.mark.hardly_optimized  # all is of whole numbers

SIZE = 400  # symbols in a row: one shape, one program


def in_a_row(words):
    """Symbols with a −1 behind each word, filled up with −1, and their weights."""
    symbols, weights = np.full(SIZE, -1, np.int32), np.zeros(SIZE, np.int64)
    row = [symbol for word, _ in words for symbol in (*word, -1)]
    symbols[: len(row)] = row
    weights[: len(row)] = [times for word, times in words for _ in range(len(word) + 1)]
    return symbols, weights


def counted(symbols, weights):
    """Pair -> count, by the kernel, in its order."""
    found = count_pairs(symbols, weights)
    number = int(found.number)
    pairs = zip(found.left[:number].tolist(), found.right[:number].tolist(), strict=True)
    return dict(zip(pairs, found.counts[:number].tolist(), strict=True))


def test_counts_are_those_of_a_plain_count_in_order():
    for seed in range(20):
        words, _ = random_words(seed)
        found = counted(*in_a_row(words))
        assert found == count(words) and list(found) == sorted(found), seed


def test_counts_beyond_32_bits_and_rows_without_pairs():
    """Of the same program."""
    assert counted(*in_a_row([((0, 1), 2**40), ((0, 1, 2), 2**40)])) == {(0, 1): 2**41, (1, 2): 2**40}
    for words in ([], [((5,), 1)], [((4,), 1), ((4,), 2)]):
        assert counted(*in_a_row(words)) == {}
    assert counted(np.zeros(0, np.int32), np.zeros(0, np.int32)) == {}


@pytest.mark.parametrize("dtype", [jnp.int16, jnp.int64])
def test_other_integers_are_counted_alike(dtype):
    """Up to the largest, and those alike whose last 32 bits are."""
    large, like_one = jnp.iinfo(dtype).max, min(2**32 + 1, jnp.iinfo(dtype).max - 1)
    row = [large, 1, 2, -1, like_one, 2, -1, 1, 2, large, large, -1, like_one, 2]
    found = count_pairs(np.array(row, dtype), np.ones(len(row), np.int32))
    pairs = zip(*(column[: int(found.number)].tolist() for column in found[:3]), strict=True)
    assert list(pairs) == [(1, 2, 2), (2, large, 1), (like_one, 2, 2), (large, 1, 1), (large, large, 1)]
    assert found.counts.dtype == jnp.int32


def test_the_largest_symbols_without_64_bits():
    """They are told from what is no pair."""
    large = 2**31 - 1
    with jax.enable_x64(False):
        found = count_pairs(np.array([large, large, -1, large, large, 1], np.int32), np.ones(6, np.int32))
    assert (int(found.number), found.right[:2].tolist(), found.counts[:2].tolist()) == (2, [1, large], [1, 2])


def test_wrong_symbols_are_refused():
    with pytest.raises(TypeError, match="expected signed integers"):
        count_pairs(jnp.ones(3), jnp.ones(3, jnp.int32))
    with pytest.raises(ValueError, match=r"expected \[N\] for both"):
        count_pairs(jnp.zeros((2, 3), jnp.int32), jnp.zeros((2, 3), jnp.int32))


def test_every_index_of_counting_is_in_bounds():
    words, _ = random_words(3)
    symbols, weights = in_a_row(words)
    assert int(bounds.checked(count_pairs)(symbols[:64], weights[:64]).number) == len(count(words))


def test_host_and_device_group_alike():
    on_device = jax.jit(partial(group, Device))
    for seed in range(5):
        choice = np.random.default_rng(seed)
        left, right = choice.integers(0, 3, (2, 50)).astype(np.int32)
        position, weight = np.arange(50, dtype=np.int32), choice.integers(1, 9, 50)
        valid = choice.random(50) < 0.7
        mine, _, is_mine, host = group(Host, left, right, position, weight, valid)
        other, _, is_other, device = on_device(left, right, position, weight, valid)
        number = int(host.number)
        assert number == int(device.number) and int(host.occurrences) == int(device.occurrences)
        for name in ("left", "right", "counts", "start"):
            assert np.array_equal(getattr(host, name)[:number], getattr(device, name)[:number])
        assert np.array_equal(mine[is_mine], np.asarray(other)[np.asarray(is_other)])


def test_every_index_of_a_round_is_in_bounds():
    words, _ = random_words(3)
    row = laid_out(words)
    size = row.symbols.size
    t, found = bounds.checked(lambda words: link(Device, words, 8 * size, 8 * size))(Words(*map(jax.device_put, row)))
    host = OnHost(row)
    best = host.pairs.of([int(np.argmax(found.counts))])
    chosen = Candidates(*(jnp.asarray(column, jnp.int32) for column in best))
    made = jnp.full(1, 9, jnp.int32)
    merge = bounds.checked(lambda t, chosen: apply_merges(Device, t, chosen, made, size, found.number, jnp.int32(size)))
    after, _ = merge(t, chosen)
    host.merge(best, np.array([9], np.int32), host.pairs.pair)
    assert np.array_equal(after.symbol, host._linked.symbol)


def test_room_is_made_for_more_pairs_and_positions():
    """Both backends grow when what a round may write would not fit."""
    words = [(tuple(np.random.default_rng(0).integers(0, 4, SIZE).tolist()), 2)]
    ends = []
    for backend in (OnHost(laid_out(words)), OnDevice(laid_out(words), jax.devices()[0])):
        backend._make_room(10 * backend._linked.postings.size)
        chosen = prefix(backend.pairs, 3, [])
        new, counts = backend.merge(chosen, np.arange(4, 4 + chosen.pair.size, dtype=np.int32), backend.pairs.pair)
        ends.append((new, counts))
    (new, counts), (other, others) = ends
    assert all(np.array_equal(a, b) for a, b in zip(new, other, strict=True)) and np.array_equal(counts, others)


# --- Lowering for accelerators that this machine need not have --------------------------------------------------------

N, P, A, K, LOOKED_AT = 50, 200, 300, 8, 16


def spec(shape, dtype):
    return jax.ShapeDtypeStruct(shape, dtype)


INT, LONG = partial(spec, dtype=jnp.int32), partial(spec, dtype=jnp.int64)
LINKED = Linked(*(INT((N + 1,)) for _ in range(4)), LONG((N + 1,)), LONG((P + 1,)), INT((A,)))
KERNELS = {
    "count pairs": (count_pairs, (INT((N,)), INT((N,)))),
    "count pairs of 16 bits": (count_pairs, (spec((N,), jnp.int16), INT((N,)))),
    "words": (partial(runs, is_whitespace=False, lines=True), (spec((64,), jnp.uint8), INT(()))),
    "links": (
        lambda words: link(Device, words, P, A),
        (Words(INT((N,)), spec((N,), jnp.bool_), LONG((N,))),),
    ),
    "round": (
        lambda t, chosen, made, pairs, used: apply_merges(Device, t, chosen, made, LOOKED_AT, pairs, used),
        (LINKED, Candidates(*(INT((K,)) for _ in range(6))), INT((K,)), INT(()), INT(())),
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_lowers_for_accelerators(name):
    kernel, specs = KERNELS[name]
    for platform in ("cuda", "tpu"):
        exported = export.export(jax.jit(kernel), platforms=(platform,))(*specs)
        assert exported.platforms == (platform,)
        assert "sort" in exported.mlir_module()
