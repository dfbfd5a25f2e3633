"""Where rounds run: on the host by NumPy, here, or on a device by JAX, in `on_device.py`, with the same results.

The table stays where it is. What travels in a round are the chosen merges, the new pairs, and the counts of the
candidates.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lite.bpe.arrays import Host, Ops
from jaxopt_lite.bpe.choose import Candidates
from jaxopt_lite.bpe.groups import Groups
from jaxopt_lite.bpe.rounds import Chosen, apply, table

__all__ = ["Backend", "Found", "OnHost", "Words", "padded", "summary"]


class Words(NamedTuple):
    """Distinct words, one after the other: the symbols, int32 [N]; which end a word; its count at each, int64 [N]."""

    symbols: np.ndarray
    last: np.ndarray
    counts: np.ndarray


class Backend(ABC):
    """Rounds somewhere. `pairs` are those of the words before the first round."""

    pairs: Candidates
    _pairs = _places = 0  # how many there are so far

    @abstractmethod
    def merge(self, chosen: Candidates, made: np.ndarray, watched: np.ndarray) -> tuple[Candidates, np.ndarray]:
        """Merge the chosen pairs into the symbols `made`. Returns the new pairs, and the counts of the watched ones."""

    @abstractmethod
    def counts(self) -> np.ndarray:
        """The counts of all pairs as they are now."""

    def _numbered(self, found: "Found") -> Candidates:
        """New groups as pairs, numbered on from those so far."""
        new = _as_candidates(found, self._pairs, self._places)
        self._pairs, self._places = self._pairs + new.pair.size, self._places + int(new.length.sum())
        return new


class OnHost(Backend):
    """Rounds by NumPy."""

    def __init__(self, words: Words):
        size = words.symbols.size
        self._table, groups = table(Host, words.symbols, words.last, words.counts, size, 3 * size)
        self.pairs = self._numbered(summary(Host, groups))

    def merge(self, chosen: Candidates, made: np.ndarray, watched: np.ndarray) -> tuple[Candidates, np.ndarray]:
        size = int(chosen.length.sum())
        self._make_room(2 * size)
        wanted = padded(chosen, made, chosen.pair.size, self._table.counts.size - 1)
        self._table, groups = apply(Host, self._table, wanted, size, self._pairs, self._places)
        return self._numbered(summary(Host, groups)), self._table.counts[watched]

    def _make_room(self, more: int) -> None:
        """Room for so many more pairs and places."""
        t, no_pair = self._table, self._table.counts.size - 1
        if self._pairs + more > no_pair:
            room = 2 * no_pair + more
            count = np.zeros(room + 1, t.counts.dtype)
            count[:no_pair] = t.counts[:no_pair]
            t = t._replace(counts=count, pair=np.where(t.pair == no_pair, np.int32(room), t.pair))
        if self._places + more > t.arena.size:
            t = t._replace(arena=np.concatenate([t.arena[: self._places], np.zeros(2 * more, np.int32)]))
        self._table = t

    def counts(self) -> np.ndarray:
        return self._table.counts[: self._pairs].copy()


def padded(pairs: Candidates, made: np.ndarray, size: int, no_pair: int) -> Chosen:
    """The merges of a round, padded to a size."""
    unused = size - pairs.pair.size
    end = np.cumsum(pairs.length, dtype=np.int32)

    def filled(array, value):
        filler = np.full(unused, value, np.int32)
        return np.concatenate([array.astype(np.int32), filler])

    return Chosen(
        pair=filled(pairs.pair, no_pair), left=filled(pairs.left, -2), right=filled(pairs.right, -2),
        new=filled(made, -1), start=filled(pairs.start, 0), end=filled(end, end[-1]),
    )  # fmt: skip


class Found(NamedTuple):
    """Groups of occurrences without the occurrences: what the host needs to know."""

    left: Any
    right: Any
    counts: Any
    start: Any
    number: Any
    occurrences: Any


def summary(ops: Ops, groups: Groups) -> Found:
    occurrences = ops.np.sum(groups.valid, dtype=np.int32)
    return Found(groups.left, groups.right, groups.counts, groups.start, groups.number, occurrences)


def _as_candidates(found: Found, pairs: int, places: int) -> Candidates:
    """Groups as pairs, numbered from `pairs`, their places from `places`."""
    number = int(found.number)
    start = found.start[:number]
    length = np.diff(np.append(start, found.occurrences))
    return Candidates(
        pair=np.arange(pairs, pairs + number),
        left=found.left[:number],
        right=found.right[:number],
        counts=found.counts[:number],
        start=(places + start).astype(np.int32),
        length=length.astype(np.int32),
    )
