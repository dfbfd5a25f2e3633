"""The order of pairs, and how many of the first are sure to be the next merges."""

import numpy as np
import pytest

from jaxopt_lite.bpe.choose import LOOK_AHEAD, TIES, Candidates, Floor, in_order, prefix


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
