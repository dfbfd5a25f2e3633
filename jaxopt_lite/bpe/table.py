"""A hash table in NumPy arrays that numbers very many byte strings, most of them short. Exact.

A string of up to 8 bytes is one 64-bit word, of up to 32 bytes four, padded with zeros. The table holds these words
themselves and compares all of them, so that two strings are never taken for one.
"""

from collections.abc import Iterator

import numpy as np

__all__ = ["LONGEST", "Table"]

_SHORT, _LONG = 1, 4  # words of a string
LONGEST = 8 * _LONG
"""The most bytes of a string in the arrays. Longer ones are in a dict."""
_FIRST_SLOTS, _MOST_SLOTS = 16, 19  # bits of a slot's index: at first, and at most
_LOAD = 0.5  # beyond this share of slots in use, their number is doubled
_PROBES = 3  # slots in which a string may be
_AT_ONCE = 10_000  # strings that are rebuilt from their words together
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)  # of a word's first bytes
_LITTLE = np.dtype("<u8")  # so that the first bytes are the low ones on every machine
_NONE = -1


class Table:
    """Numbers distinct byte strings 0, 1, … None of them may end with a zero byte.

    Equal strings get equal numbers within one call of `numbers`; in a later call a string may get another number, since
    not every string has a slot.
    """

    def __init__(self):
        self._given = _Given()
        self._slots = _Slots(_SHORT, self._given), _Slots(_LONG, self._given)
        self._others = _Others(self._given)  # longer strings, and those for which there is no slot
        self._again: list[tuple[bytes, int]] = []  # further numbers of strings that have one already
        self._size = 0  # bytes of the longer strings

    def __len__(self) -> int:
        """How many numbers have been given."""
        return self._given.number

    def numbers(self, data: bytes, starts: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """The numbers, int64, of the strings that begin at these positions in the data.

        Args:
            data: the bytes.
            starts: where the strings begin, int64.
            lengths: their lengths, int64. Default: each ends where the next begins, the last at the end of the data.
        """
        if lengths is None:
            lengths = np.diff(starts, append=len(data))
        padded = data + bytes(LONGEST)
        words = [np.ndarray((len(data),), _LITTLE, padded, 8 * k, (1,)) for k in range(_LONG)]
        numbers, least = np.full(starts.size, _NONE), 0
        for slots in self._slots:
            most = 8 * slots.width
            chosen = np.flatnonzero((lengths > least) & (lengths <= most))
            begins, sizes = starts[chosen], lengths[chosen]
            keys = np.empty((slots.width, chosen.size), _LITTLE)
            for k, word in enumerate(words[: slots.width]):
                np.bitwise_and(word[begins], _MASKS.take(sizes - 8 * k, mode="clip"), out=keys[k])
            numbers[chosen] = slots.find(keys)
            self._keep(slots.grown())
            least = most
        chosen = np.flatnonzero(numbers == _NONE)
        begins, sizes = starts[chosen], lengths[chosen]
        self._size += int(sizes[sizes > LONGEST].sum())
        strings = [data[a:b] for a, b in zip(begins.tolist(), (begins + sizes).tolist(), strict=True)]
        numbers[chosen] = list(map(self._others.__getitem__, strings))
        return numbers

    def _keep(self, lost: list[tuple[bytes, int]]) -> None:
        """Keep strings that have a number and lost their slot. They may have been here before they had one."""
        for string, number in lost:
            if self._others.setdefault(string, number) != number:
                self._again.append((string, number))

    def is_full(self, most: int, size: int) -> bool:
        """Whether it has given more than so many numbers, or seen longer strings of more than so many bytes."""
        return len(self) > most or self._size > size

    def items(self, values: np.ndarray) -> Iterator[tuple[bytes, int]]:
        """Every string with the value of its number; a string with several numbers comes several times."""
        yield from ((string, values[number].item()) for string, number in (*self._others.items(), *self._again))
        for slots in self._slots:
            yield from slots.items(values)


class _Given:
    """The numbers that have been given so far: those below `number`."""

    number = 0

    def more(self, count: int) -> np.ndarray:
        self.number += count
        return np.arange(self.number - count, self.number)


class _Others(dict[bytes, int]):
    """The numbers of strings without a slot."""

    def __init__(self, given: _Given):
        super().__init__()
        self._given = given

    def __missing__(self, string: bytes) -> int:
        self[string] = number = self._given.number
        self._given.number += 1
        return number


class _Slots:
    """The table for strings of one width, in words of 64 bits. It grows up to a maximum size."""

    def __init__(self, width: int, given: _Given):
        self.width, self._given = width, given
        self._reset(_FIRST_SLOTS)

    def _reset(self, bits: int) -> None:
        self._bits, self._used = bits, 0
        self._keys = np.zeros((self.width, 1 << bits), _LITTLE)
        self._numbers = np.full(1 << bits, _NONE)

    def find(self, keys: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
        """The numbers of strings `[width, n]`; −1 for strings that get no slot.

        Args:
            keys: the strings.
            given: the numbers to give to strings that are not here yet; new ones by default.
        """
        mixed = np.zeros(keys.shape[1], np.uint64)
        for word, factor in zip(keys, _MIX, strict=False):
            mixed = (mixed ^ word) * factor
        numbers = self._probe(keys, mixed, given)
        for factor in _MIX[: _PROBES - 1]:
            rows = np.flatnonzero(numbers == _NONE)
            if not rows.size:
                break
            mixed = mixed * factor
            numbers[rows] = self._probe(keys[:, rows], mixed[rows], None if given is None else given[rows])
        return numbers

    def _probe(self, keys: np.ndarray, mixed: np.ndarray, given: np.ndarray | None) -> np.ndarray:
        """The same with one slot for each string: the one given by the upper bits of its hash."""
        slot = (mixed >> np.uint64(64 - self._bits)).view(np.int64)
        numbers = self._look(keys, slot)
        missing = np.flatnonzero(numbers == _NONE)
        if missing.size:
            self._settle(keys[:, missing], slot[missing], None if given is None else given[missing])
            numbers[missing] = self._look(keys[:, missing], slot[missing])
        return numbers

    def _look(self, keys: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """The numbers of strings that are in their slots, −1 for others."""
        here = self._keys[0].take(slot) == keys[0]
        for word, known in zip(keys[1:], self._keys[1:], strict=True):
            here &= known.take(slot) == word
        return np.where(here, self._numbers.take(slot), _NONE)

    def _settle(self, keys: np.ndarray, slot: np.ndarray, given: np.ndarray | None) -> None:
        """Put strings into free slots; if several want one slot, one of them gets it."""
        free = np.flatnonzero(self._numbers[slot] == _NONE)
        slots, first = np.unique(slot[free], return_index=True)
        self._keys[:, slots] = keys[:, free[first]]
        self._numbers[slots] = self._given.more(slots.size) if given is None else given[free[first]]
        self._used += slots.size

    def grown(self) -> list[tuple[bytes, int]]:
        """Double the number of slots if they have become scarce. Returns the strings that lose their slot."""
        if self._bits >= _MOST_SLOTS or self._used <= _LOAD * (1 << self._bits):
            return []
        slots = np.flatnonzero(self._numbers != _NONE)
        keys, numbers = self._keys[:, slots], self._numbers[slots]
        self._reset(self._bits + 1)
        lost = self.find(keys, numbers) == _NONE
        return [*zip(_strings(keys[:, lost]), numbers[lost].tolist(), strict=True), *self.grown()]

    def items(self, values: np.ndarray) -> Iterator[tuple[bytes, int]]:
        """The strings, each with the value of its number."""
        taken = np.flatnonzero(self._numbers != _NONE)
        for slots in np.split(taken, range(_AT_ONCE, taken.size, _AT_ONCE)):
            yield from zip(_strings(self._keys[:, slots]), values[self._numbers[slots]].tolist(), strict=True)


def _strings(keys: np.ndarray) -> list[bytes]:
    """Words `[width, n]` as byte strings."""
    rows = np.ascontiguousarray(keys.T, _LITTLE)
    return rows.view(f"S{8 * rows.shape[1]}").ravel().tolist() if rows.size else []
