"""A round keeps the linked words, the counts and the places true, and stays within its buffers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite import bounds
from jaxopt_lite.bpe.arrays import Host
from jaxopt_lite.bpe.backends import OnHost
from jaxopt_lite.bpe.choose import prefix
from jaxopt_lite.bpe.device import Device
from jaxopt_lite.bpe.on_device import OnDevice
from jaxopt_lite.bpe.rounds import Chosen, apply, table
from tests.bpe.corpora import laid_out, random_words
from tests.oracles.merges import count_slowly, merge_slowly

pytestmark = pytest.mark.hardly_optimised  # all is of whole numbers


def words_in(t):
    """The words of a table on the host, symbols and count each, by following the links."""
    spare = t.symbol.size - 1
    words = []
    for first in np.flatnonzero((t.symbol[:-1] >= 0) & (t.before[:-1] == spare)):
        word, place = [], int(first)
        while place != spare:
            word.append(int(t.symbol[place]))
            place = int(t.after[place])
        words.append((word, int(t.weight[first])))
    return words


def counts_in(t, pairs):
    """What the table says of every pair that still occurs."""
    return {(a, b): n for a, b, n in zip(pairs.left, pairs.right, t.counts[pairs.pair], strict=True) if n}


@pytest.mark.parametrize("seed", range(40))
def test_words_and_counts_stay_true(seed):
    words, symbols = random_words(seed)
    expected = [(list(word), count) for word, count in words]
    host = OnHost(laid_out(words))
    pairs = host.pairs
    while pairs.pair.size:
        live = pairs._replace(counts=host.counts()[pairs.pair])
        live = live.of(live.counts > 0)
        if not live.pair.size:
            break
        chosen = prefix(live, 100, [])
        new, _ = host.merge(chosen, np.arange(symbols, symbols + chosen.pair.size, dtype=np.int32), pairs.pair)
        for left, right in zip(chosen.left.tolist(), chosen.right.tolist(), strict=True):
            for word, _ in expected:
                merge_slowly(word, (left, right), symbols)
            symbols += 1
        pairs = pairs.joined(new)
        assert words_in(host._table) == expected
        assert counts_in(host._table, pairs) == {pair: n for pair, n in count_slowly(expected).items() if n}


def test_places_never_outgrow_the_arena():
    """Three times the symbols is enough for the worst of words."""
    for word in [(0,) * 64, (0, 1) * 40, tuple(range(50)), (0, 0, 1) * 20]:
        host = OnHost(laid_out([(word, 1)]))
        pairs, symbols = host.pairs, 100
        while (live := pairs._replace(counts=host.counts()[pairs.pair])).counts.max(initial=0) > 0:
            live = live.of(live.counts > 0)
            chosen = prefix(live, 100, [])
            made = np.arange(symbols, symbols + chosen.pair.size, dtype=np.int32)
            pairs, symbols = pairs.joined(host.merge(chosen, made, made[:0])[0]), symbols + made.size
        assert int(pairs.length.sum()) <= 3 * len(word)


def test_every_index_of_a_round_is_in_bounds():
    words, _ = random_words(3)
    row = laid_out(words)
    size = row.symbols.size
    start = bounds.checked(lambda *arrays: table(Device, *arrays, 8 * size, 8 * size))
    t, found = start(*map(jnp.asarray, row))
    pair = int(np.argmax(found.counts))
    one = lambda value: jnp.full(1, value, jnp.int32)
    length = int(np.sum(np.asarray(found.group) == pair))
    chosen = Chosen(one(pair), found.left[pair][None], found.right[pair][None], one(9), found.start[pair][None],
                    one(length))  # fmt: skip
    merge = bounds.checked(lambda t, chosen: apply(Device, t, chosen, size, found.number, jnp.int32(size)))
    after, _ = merge(t, chosen)
    host = OnHost(row)
    host.merge(host.pairs.of([pair]), np.array([9], np.int32), host.pairs.pair)
    assert np.array_equal(after.symbol, host._table.symbol)


def test_room_is_made_for_more_pairs_and_places(monkeypatch):
    """Both backends grow when what a round may write would not fit."""
    words = [(tuple(np.random.default_rng(0).integers(0, 4, 300).tolist()), 2)]
    ends = []
    for backend in (OnHost(laid_out(words)), OnDevice(laid_out(words), jax.devices()[0])):
        backend._make_room(10 * backend._table.arena.size)
        chosen = prefix(backend.pairs, 3, [])
        new, counts = backend.merge(chosen, np.arange(4, 4 + chosen.pair.size, dtype=np.int32), backend.pairs.pair)
        ends.append((new, counts))
    (new, counts), (other, others) = ends
    assert all(np.array_equal(a, b) for a, b in zip(new, other, strict=True)) and np.array_equal(counts, others)


def test_the_host_changes_its_table_in_place():
    """No copy of a table of a corpus in every round."""
    host = OnHost(laid_out([((0, 1, 0, 1), 3)]))
    symbol = host._table.symbol
    host.merge(host.pairs.of([0]), np.array([2], np.int32), host.pairs.pair)
    assert host._table.symbol is symbol and Host.np is np
