"""One word on the host: as the textbook has it, for any order of merges, and quickly however long it is."""

import random
import time

import pytest

from jaxopt_lite.bpe.merging import merge_word
from tests.oracles.bpe import encode_word_slowly


def random_rules(seed, ordered):
    """Merges over three base symbols; not `ordered`: in any order, so that parts may come after the whole."""
    choose = random.Random(seed)
    merges, merged = [], []
    while len(merges) < 12:
        pair = (choose.randrange(3 + len(merges)), choose.randrange(3 + len(merges)))
        if pair not in merges:
            merges.append(pair)
            merged.append(2 + len(merges))
    if not ordered:
        order = choose.sample(range(len(merges)), len(merges))
        merges, merged = [merges[k] for k in order], [merged[k] for k in order]
    return merges, merged, 3 + len(merges)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("longest", [12, 600])
def test_as_the_textbook(ordered, longest):
    """Below and above the length from which a heap is used."""
    for seed in range(60 if longest > 100 else 600):
        merges, merged, size = random_rules(seed, ordered)
        choose = random.Random(seed)
        letters = choose.randint(1, 3)
        word = [choose.randrange(letters) for _ in range(choose.randint(longest // 2, longest))]
        ranks = {a * size + b: rank for rank, (a, b) in enumerate(merges)}
        assert merge_word(word, ranks, merged, size) == encode_word_slowly(word, merges, merged), (seed, word)


def test_no_symbols_and_no_merges():
    """Nothing stays nothing, and without merges all stays as it is."""
    assert merge_word([], {}, [], 3) == []
    assert merge_word([1, 2, 1], {}, [], 3) == [1, 2, 1]


def test_very_long_word():
    """A hundred thousand equal symbols take a moment and not minutes."""
    start = time.perf_counter()
    ids = merge_word([0] * 100_000, {0: 0, 1 * 3 + 1: 1}, [1, 2], 3)
    assert ids == [2] * 25_000
    assert time.perf_counter() - start < 5
