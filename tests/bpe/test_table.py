"""Strings are counted as Python counts them, whatever their lengths, their number and the room there is."""

import random
from collections import Counter
from functools import partial

import numpy as np
import pytest

from jaxopt_lite.bpe import table
from jaxopt_lite.bpe.table import Table


def add(into: Table, strings: list[bytes]) -> None:
    ends = np.cumsum([len(string) for string in strings])
    into.add(b"".join(strings), np.append(0, ends[:-1]))


def total(counts: Table) -> Counter[bytes]:
    added: Counter[bytes] = Counter()
    for string, count in counts.items():
        added[string] += count
    return added


def strings_of(choose: random.Random, number: int, longest: int) -> list[bytes]:
    """Most of them equal to others, or nearly; with zero bytes inside."""
    letters = choose.choice([b"ab", b"a\0", bytes(range(256))])
    words = [bytes(choose.choices(letters, k=choose.randint(0, longest))) + b"z" for _ in range(number // 3)]
    return choose.choices(words, k=number)


@pytest.mark.parametrize("longest", [1, 7, 8, 31, 40])
@pytest.mark.parametrize("slots", [(2, 2), (2, 5), (16, 19)])
def test_counts_are_those_of_a_plain_count(monkeypatch, slots, longest):
    monkeypatch.setattr(table, "_FIRST_SLOTS", slots[0])
    monkeypatch.setattr(table, "_MOST_SLOTS", slots[1])
    choose, counts, expected = random.Random(longest), Table(), Counter()
    for _ in range(10):
        strings = strings_of(choose, 200, longest)
        add(counts, strings)
        expected.update(strings)
    assert total(counts) == expected


def test_strings_may_be_counted_many_times_each():
    """Some of the data, in any order, a string more than once."""
    counts, data = Table(), b"one, a much longer string than fits into the numbers, two"
    add_all = partial(counts.add, data, np.array([54, 0, 5, 54, 54]), np.array([3, 3, 47, 3, 1]))
    add_all(np.array([1, 20, 300, 4000, 50_000]))
    add_all(np.array([1, 1, 1, 1, 1]))
    assert total(counts) == {b"one": 21, b"two": 4003, b"t": 50_001, data[5:52]: 301}


def test_equal_slots_are_no_equal_strings(monkeypatch):
    """With factors of zero all strings fall into one slot."""
    monkeypatch.setattr(table, "_MIX", np.zeros(4, np.uint64))
    counts = Table()
    add(counts, [b"one", b"two", b"one", b"a longer one", b"a longer two", b"two", b"one"])
    assert total(counts) == {b"one": 3, b"two": 2, b"a longer one": 1, b"a longer two": 1}


def test_it_says_when_it_is_full():
    counts = Table()
    add(counts, [b"one", b"two", b"one"])
    assert not counts.is_full(2, 0) and counts.is_full(1, 0)
    add(counts, [b"x" * 40])
    assert counts.is_full(9, 39) and not counts.is_full(9, 40)
