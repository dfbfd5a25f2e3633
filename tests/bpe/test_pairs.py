"""Rounds on the host keep the linked words, the counts and the positions true, and stay within their buffers."""

import numpy as np
import pytest

from jaxopt_lite.bpe.merges import prefix
from jaxopt_lite.bpe.pairs import Candidates, Host, OnHost
from jaxopt_lite.bpe.reference import count, merge
from tests.bpe.corpora import laid_out, random_words


def words_in(t):
    """The linked words on the host, symbols and count each, by following the links."""
    spare = t.symbol.size - 1
    words = []
    for first in np.flatnonzero((t.symbol[:-1] >= 0) & (t.before[:-1] == spare)):
        word, at = [], int(first)
        while at != spare:
            word.append(int(t.symbol[at]))
            at = int(t.after[at])
        words.append((word, int(t.weight[first])))
    return words


def joined(pairs, others):
    return Candidates(*(np.concatenate(arrays) for arrays in zip(pairs, others, strict=True)))


def counts_in(t, pairs):
    """What the linked words say of every pair that still occurs."""
    return {(a, b): n for a, b, n in zip(pairs.left, pairs.right, t.counts[pairs.pair], strict=True) if n}


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(k, marks=pytest.mark.slow) for k in range(20, 60))])
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
                merge(word, (left, right), symbols)
            symbols += 1
        pairs = joined(pairs, new)
        assert words_in(host._linked) == expected
        assert counts_in(host._linked, pairs) == {pair: n for pair, n in count(expected).items() if n}


def test_positions_never_outgrow_the_postings():
    """Three times the symbols is enough for the worst of words."""
    for word in [(0,) * 64, (0, 1) * 40, tuple(range(50)), (0, 0, 1) * 20]:
        host = OnHost(laid_out([(word, 1)]))
        pairs, symbols = host.pairs, 100
        while (live := pairs._replace(counts=host.counts()[pairs.pair])).counts.max(initial=0) > 0:
            live = live.of(live.counts > 0)
            chosen = prefix(live, 100, [])
            made = np.arange(symbols, symbols + chosen.pair.size, dtype=np.int32)
            pairs, symbols = joined(pairs, host.merge(chosen, made, made[:0])[0]), symbols + made.size
        assert int(pairs.length.sum()) <= 3 * len(word)


def test_the_host_changes_the_linked_words_in_place():
    """No copy of a whole corpus in every round."""
    host = OnHost(laid_out([((0, 1, 0, 1), 3)]))
    symbol = host._linked.symbol
    host.merge(host.pairs.of([0]), np.array([2], np.int32), host.pairs.pair)
    assert host._linked.symbol is symbol and Host.np is np


def symbols_of(pairs):
    """Number -> (left, right)."""
    symbols = zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
    return dict(zip(pairs.pair.tolist(), symbols, strict=True))


def test_numbers_of_pairs_keep_their_symbols():
    """However many are added."""
    host = OnHost(laid_out([((0, 1, 2, 3) * 9, 2)]))
    known = symbols_of(host.pairs)
    for made in range(4, 12):
        counts = host.counts()
        best = np.flatnonzero(counts == counts.max())[:1]
        new, _ = host.merge(host.of(best, counts[best]), np.array([made], np.int32), best[:0])
        known |= symbols_of(new)
    assert symbols_of(host.of(np.arange(len(known)), host.counts())) == known
