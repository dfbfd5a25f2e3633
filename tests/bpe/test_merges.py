"""The merges are those of the sequential algorithm, on random words full of ties and runs; the same on a device."""

import random

import jax
import numpy as np
import pytest

from jaxopt_lite.bpe import merges, reference
from jaxopt_lite.bpe.merges import TIES, Floor, Learner, in_order, prefix
from jaxopt_lite.bpe.pairs import LOOK_AHEAD, Candidates, Words
from tests.bpe.corpora import laid_out, random_words
from tests.oracles.bpe import learn_slowly

pytestmark = pytest.mark.hardly_optimized  # all is of whole numbers


# --- The order of pairs, and how many of the first are sure to be the next merges -------------------------------------


def candidates(*pairs):
    """(left, right, count) each."""
    left, right, counts = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    number = np.arange(len(pairs), dtype=np.int32)
    return Candidates(number, left, right, counts, number, number)


def symbols(pairs):
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


def test_the_order_is_by_count_then_left_then_right():
    pairs = candidates((3, 1, 5), (1, 3, 5), (1, 2, 5), (9, 9, 8), (0, 0, 1))
    assert symbols(in_order(pairs, 10)) == [(9, 9), (1, 2), (1, 3), (3, 1), (0, 0)]
    assert symbols(in_order(pairs, 2)) == [(9, 9), (1, 2)]


@pytest.mark.parametrize("pairs, sure", [
    ([(0, 1, 9), (2, 3, 8), (4, 5, 7)], 3),
    ([(0, 1, 9), (0, 2, 8), (3, 1, 7)], 3),  # a shared left, a shared right symbol
    ([(0, 1, 9), (1, 2, 8), (4, 5, 7)], 1),  # the left of a later one is a right of an earlier
    ([(1, 2, 9), (0, 1, 8)], 1),
    ([(0, 1, 9), (2, 2, 8), (4, 5, 7)], 2),  # behind equal symbols
    ([(2, 2, 9), (0, 1, 8)], 1),
    ([(0, 2, 9), (2, 2, 8)], 1),
])  # fmt: skip
def test_a_round_ends_where_merges_could_touch(pairs, sure):
    assert symbols(prefix(candidates(*pairs), 100, [])) == [pair[:2] for pair in pairs[:sure]]


def test_a_round_has_a_largest_size():
    pairs = candidates(*((2 * k, 2 * k + 1, 1000 - k) for k in range(LOOK_AHEAD + 10)))
    assert prefix(pairs, 7, []).pair.size == 7
    assert prefix(pairs, 10**6, []).pair.size == LOOK_AHEAD


def test_the_floor_is_a_place_in_the_order():
    floor = Floor(5, 3, 7)
    pairs = candidates((9, 9, 6), (2, 9, 5), (3, 7, 5), (3, 8, 5), (4, 0, 5), (0, 0, 4))
    assert floor.reached_by(pairs).tolist() == [True, True, True, False, False, False]


TEXTS = [b"a", b"b", b"ab", "é".encode()]


@pytest.mark.parametrize("tie, first", [("subword-nmt", (3, 0)), ("sentencepiece", (0, 0))])
def test_other_rules_choose_by_texts(tie, first):
    pairs = candidates((2, 0, 5), (0, 0, 5), (3, 0, 5), (0, 3, 5), (1, 1, 4))
    assert symbols(TIES[tie](pairs, 100, TEXTS)) == [first]


# --- Learning ---------------------------------------------------------------------------------------------------------


def learned(words, symbols, most, device=None, **settings):
    """Merges (left, right, count) by the learner."""
    learner = Learner(laid_out(words), texts(symbols), device=device, **settings)
    go_on(learner, most)
    return learner.learned


def texts(symbols):
    return [bytes([97 + k]) for k in range(symbols)]


def go_on(learner, most):
    while len(learner.learned) < most and learner.step(most - len(learner.learned)):
        pass


QUICK = 4  # of 20 blocks of 100 corpora


@pytest.mark.parametrize("block", [*range(QUICK), *(pytest.param(k, marks=pytest.mark.slow) for k in range(QUICK, 20))])
def test_merges_are_those_of_the_sequential_algorithm(block):
    for seed in range(100 * block, 100 * block + 100):
        words, symbols = random_words(seed)
        settings = [{}, {"min_frequency": 1 + seed % 4}, {"max_length": 2 + seed % 5}][seed % 3]
        expected = learn_slowly(words, symbols, 200, **settings)
        assert learned(words, symbols, 200, **settings) == expected, (seed, words)


def test_a_device_learns_the_same():
    """The corpora are made of one size by one more word, of symbols of its own, so that they share their programs."""
    for seed in range(12):
        words, symbols = random_words(seed)
        missing = 400 - sum(len(word) for word, _ in words)
        words = [*words, (tuple(random.Random(seed).choices(range(symbols, symbols + 20), k=missing)), 2)]
        assert learned(words, symbols + 20, 200, jax.devices()[0]) == learned(words, symbols + 20, 200), seed


@pytest.mark.parametrize("most", [0, 1, 5, 17])
def test_no_more_merges_than_asked_for(most):
    words = [(tuple(range(5)) * 8 + (3, 1, 4, 0, 2) * 3, 3)]
    found = learned(words, 5, most)
    assert len(found) == most and found == learn_slowly(words, 5, most)


def test_candidates_are_chosen_again_when_they_are_used_up(monkeypatch):
    monkeypatch.setattr(merges, "_CANDIDATES", 3)
    for seed in range(100):
        words, symbols = random_words(seed)
        assert learned(words, symbols, 200) == learn_slowly(words, symbols, 200), seed


class _Opposite(tuple):
    def __lt__(self, other):
        return tuple(self) > tuple(other)


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 200), marks=pytest.mark.slow)], ids=["60", "200"])
@pytest.mark.parametrize("tie", ["subword-nmt", "sentencepiece"])
def test_other_rules_for_ties(tie, seeds):
    for seed in seeds:
        words, symbols = random_words(seed)
        known = texts(symbols)

        def rank(pair, known=known):
            left, right = known[pair[0]], known[pair[1]]
            return _Opposite((left, right)) if tie == "subword-nmt" else (len(left + right), left + right)

        def choose(counts, known=known, rank=rank):
            best = min(counts, key=lambda pair: (-counts[pair], rank(pair)))
            known.append(known[best[0]] + known[best[1]])
            return best

        assert learned(words, symbols, 60, tie=tie) == reference.learn(words, symbols, 60, choose), seed


def test_a_replayed_run_goes_on_as_if_it_had_never_stopped():
    for seed in range(30):
        words, symbols = random_words(seed)
        whole = learned(words, symbols, 200)
        for done in {0, 1, len(whole) // 2, len(whole)}:
            learner = Learner(laid_out(words), texts(symbols))
            learner.resume(whole[:done])
            go_on(learner, 200)
            assert learner.learned == whole, (seed, done)


def test_merges_that_the_words_do_not_hold_leave_no_trace():
    words = [((0, 1, 0, 1, 2), 5)]
    learner = Learner(laid_out(words), [b"a", b"b", b"c", b"ca", b"ab"])
    learner.replay(np.array([[2, 0], [0, 1]], np.int32), np.array([3, 4], np.int32))
    go_on(learner, 10)
    assert learner.learned == [(4, 2, 5), (4, 5, 5)]


@pytest.mark.parametrize("words", [[], [((0,), 5)], [((0,), 1), ((1,), 1)]])
def test_words_without_pairs(words):
    assert learned(words, 2, 10) == []


def test_counts_beyond_32_bits():
    assert learned([((0, 1), 2**40)], 2, 1) == [(0, 1, 2**40)]


def test_too_many_symbols_are_refused():
    class Huge:
        size = 2**30

    with pytest.raises(ValueError, match="Leave out rare words"):
        Learner(Words(Huge(), None, None), [])
