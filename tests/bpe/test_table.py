"""Equal strings have one number and different ones different numbers, whatever their lengths, number and room."""

import random
from collections import Counter

import numpy as np
import pytest

from jaxopt_lite.bpe import table
from jaxopt_lite.bpe.table import Table


def numbers(of: Table, strings: list[bytes]) -> list[int]:
    ends = np.cumsum([len(string) for string in strings])
    return of.numbers(b"".join(strings), np.append(0, ends[:-1])).tolist()


def strings_of(choose: random.Random, number: int, longest: int) -> list[bytes]:
    """Most of them equal to others, or nearly; with zero bytes inside."""
    letters = choose.choice([b"ab", b"a\0", bytes(range(256))])
    words = [bytes(choose.choices(letters, k=choose.randint(0, longest))) + b"z" for _ in range(number // 3)]
    return choose.choices(words, k=number)


@pytest.mark.parametrize("longest", [1, 7, 8, 31, 40])
@pytest.mark.parametrize("slots", [(2, 2), (2, 5), (16, 19)])
def test_a_number_is_of_one_string(monkeypatch, slots, longest):
    """In one call a string has one number; in all of them together a number is of one string, and none is left out."""
    monkeypatch.setattr(table, "_FIRST_SLOTS", slots[0])
    monkeypatch.setattr(table, "_MOST_SLOTS", slots[1])
    choose, known, found, times = random.Random(longest), Table(), {}, Counter()
    for _ in range(10):
        strings = strings_of(choose, 200, longest)
        given = numbers(known, strings)
        assert len(set(given)) == len(set(zip(given, strings, strict=True))) == len(set(strings))
        assert all(found.setdefault(number, string) == string for number, string in zip(given, strings, strict=True))
        times.update(given)
    assert sorted(found) == list(range(len(known)))
    listed = list(known.items(np.arange(len(known)) * 2))
    assert sorted(listed, key=lambda item: item[1]) == [(found[number], 2 * number) for number in range(len(known))]


def test_numbers_stay_where_there_is_room():
    known = Table()
    assert numbers(known, [b"one", b"two", b"one"]) == [0, 1, 0] or numbers(known, [b"one", b"two"]) == [1, 0]
    before = numbers(known, [b"one", b"two", b"a longer string", b"z" * 40])
    numbers(known, [b"%d" % k for k in range(100_000)])  # the table grows
    assert numbers(known, [b"one", b"two", b"a longer string", b"z" * 40]) == before


def test_some_of_the_data():
    """In any order, a string more than once."""
    data, known = b"one, a much longer string than fits into the words, two", Table()
    places, lengths = np.array([52, 0, 5, 52, 52]), np.array([3, 3, 45, 3, 1])
    two, one, long, again, t = known.numbers(data, places, lengths).tolist()
    assert two == again and len({two, one, long, t}) == 4 == len(known)
    strings = dict(zip((two, one, long, t), (b"two", b"one", data[5:50], b"t"), strict=True))
    assert {number: string for string, number in known.items(np.arange(4))} == strings


def test_equal_slots_are_no_equal_strings(monkeypatch):
    """With factors of zero all strings fall into one slot."""
    monkeypatch.setattr(table, "_MIX", np.zeros(4, np.uint64))
    one, two, again, long, other, *_ = numbers(Table(), [b"one", b"two", b"one", b"a longer one", b"a longer two"])
    assert one == again and len({one, two, long, other}) == 4


def test_it_says_when_it_is_full():
    known = Table()
    numbers(known, [b"one", b"two", b"one"])
    assert not known.is_full(2, 0) and known.is_full(1, 0)
    numbers(known, [b"x" * 40])
    assert known.is_full(9, 39) and not known.is_full(9, 40)
