"""How often byte strings occur, very many of them, most of them short: a hash table in NumPy arrays. Exact.

A string of up to 8 bytes is one 64-bit number, of up to 32 bytes four, filled up with zeros. The table holds these
numbers themselves and compares all of them, so that no two strings are ever taken for one.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import chain

import numpy as np

__all__ = ["LONGEST", "Table"]

_SHORT, _LONG = 1, 4  # numbers of a string
LONGEST = 8 * _LONG
"""Bytes of a string in the table. Longer ones are counted by Python."""
_FIRST_SLOTS, _MOST_SLOTS = 16, 19  # bits of a slot's number: in the beginning, and at most
_LOAD = 0.5  # the part of the slots from which there are to be more
_PROBES = 3  # slots in which a string may be
_AT_ONCE = 10_000  # strings that are made of numbers together
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)  # of a number's first bytes
_LITTLE = np.dtype("<u8")  # so that the first bytes are the low ones, everywhere


class Table:
    """Counts of byte strings. None of them may end with a zero byte."""

    def __init__(self):
        self._short, self._long = _Slots(_SHORT), _Slots(_LONG)
        self._others: Counter[bytes] = Counter()  # longer ones, and those for which there is no room
        self._size = 0  # bytes of the longer ones

    def add(
        self, data: bytes, starts: np.ndarray, lengths: np.ndarray | None = None, counts: np.ndarray | None = None
    ) -> None:
        """Count the strings that begin at the places in the data.

        Args:
            data: the bytes.
            starts: where the strings begin, int64.
            lengths: their lengths, int64. Default: each up to the next, the last up to the end of the data.
            counts: how often each is to be counted, int64. Default: once.
        """
        if lengths is None:
            lengths = np.diff(starts, append=len(data))
        padded = data + bytes(LONGEST)
        numbers = [np.ndarray((len(data),), _LITTLE, padded, 8 * k, (1,)) for k in range(_LONG)]
        least = 0
        for slots in (self._short, self._long):
            most = 8 * slots.width
            chosen = np.flatnonzero((lengths > least) & (lengths <= most))
            begins, sizes = starts[chosen], lengths[chosen]
            keys = np.empty((slots.width, chosen.size), _LITTLE)
            for k, number in enumerate(numbers[: slots.width]):
                np.bitwise_and(number[begins], _MASKS.take(sizes - 8 * k, mode="clip"), out=keys[k])
            for string, count in slots.add(keys, 1 if counts is None else counts[chosen]):
                self._others[string] += count
            least = most
        chosen = np.flatnonzero(lengths > least)
        ends = starts[chosen] + lengths[chosen]
        self._size += int(lengths[chosen].sum())
        strings = (data[a:b] for a, b in zip(starts[chosen].tolist(), ends.tolist(), strict=True))
        if counts is None:
            self._others.update(strings)
        else:
            for string, count in zip(strings, counts[chosen].tolist(), strict=True):
                self._others[string] += count

    def is_full(self, most: int, size: int) -> bool:
        """Whether it holds more than about so many strings, or longer ones of more than so many bytes."""
        return self._short.used + self._long.used + len(self._others) > most or self._size > size

    def items(self) -> Iterator[tuple[bytes, int]]:
        """The strings and how often they occurred; one may come more than once, which is to be added up."""
        return chain(self._others.items(), self._short.items(), self._long.items())


class _Slots:
    """The table for strings of one width, in numbers of 64 bits. It grows, up to a size."""

    def __init__(self, width: int):
        self.width = width
        self._reset(_FIRST_SLOTS)

    def _reset(self, bits: int) -> None:
        self._bits, self.used = bits, 0
        self._keys = np.zeros((self.width, 1 << bits), _LITTLE)
        self._counts = np.zeros(1 << bits, np.int64)

    def add(self, keys: np.ndarray, times: np.ndarray | int = 1) -> Iterator[tuple[bytes, int]]:
        """Count strings, given as their numbers `[width, n]`. Returns those that found no slot, with their counts."""
        mixed = np.zeros(keys.shape[1], np.uint64)
        for number, factor in zip(keys, _MIX, strict=False):
            mixed = (mixed ^ number) * factor
        times = np.broadcast_to(times, mixed.shape)
        for factor in _MIX[:_PROBES]:
            slot = (mixed >> np.uint64(64 - self._bits)).view(np.int64)
            missing = self._count(keys, slot, times)
            if missing.size:
                keys, slot, mixed, times = keys[:, missing], slot[missing], mixed[missing], times[missing]
                self._settle(keys, slot)
                missing = self._count(keys, slot, times)
            keys, mixed, times = keys[:, missing], mixed[missing] * factor, times[missing]
            if not missing.size:
                break
        if self._bits < _MOST_SLOTS and self.used > _LOAD * (1 << self._bits):
            return chain(zip(_strings(keys.T), times.tolist(), strict=True), self._grow())
        return zip(_strings(keys.T), times.tolist(), strict=True)

    def _grow(self) -> Iterator[tuple[bytes, int]]:
        """Twice as many slots. Returns the strings that found none."""
        places = np.flatnonzero(self._counts)
        keys, times = self._keys[:, places], self._counts[places]
        self._reset(self._bits + 1)
        return self.add(keys, times)

    def _count(self, keys: np.ndarray, slot: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Count the strings that are in their slots; which are not."""
        here = self._keys[0].take(slot) == keys[0]
        for number, known in zip(keys[1:], self._keys[1:], strict=True):
            here &= known.take(slot) == number
        np.add.at(self._counts, slot[here], times[here])
        return np.flatnonzero(~here)

    def _settle(self, keys: np.ndarray, slot: np.ndarray) -> None:
        """Put strings into free slots; of several for one slot, one."""
        free = np.flatnonzero(self._counts[slot] == 0)
        places, first = np.unique(slot[free], return_index=True)
        self._keys[:, places] = keys[:, free[first]]
        self.used += places.size

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Strings and their counts."""
        taken = np.flatnonzero(self._counts)
        for places in np.split(taken, range(_AT_ONCE, taken.size, _AT_ONCE)):
            yield from zip(_strings(self._keys[:, places].T), self._counts[places].tolist(), strict=True)


def _strings(keys: np.ndarray) -> list[bytes]:
    """Rows of numbers as the strings that they are."""
    rows = np.ascontiguousarray(keys, _LITTLE)
    return rows.view(f"S{8 * rows.shape[1]}").ravel().tolist() if rows.size else []
