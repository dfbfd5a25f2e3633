"""Where rounds run: on the host by NumPy, or on a device by JAX, with the same results. Used by `learn.py`.

The table stays where it is. What travels in a round are the chosen merges, the new pairs, and the counts of the
candidates.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_lite.bpe.arrays import Device, Host, Ops
from jaxopt_lite.bpe.choose import LOOK_AHEAD, Candidates
from jaxopt_lite.bpe.pairs import Groups
from jaxopt_lite.bpe.rounds import Chosen, Table, apply, table

__all__ = ["OnDevice", "OnHost", "Words"]

_SMALLEST, _GROWTH = 1024, 4  # static sizes on a device: the first, and from one to the next


class Words(NamedTuple):
    """Distinct words, one after the other: the symbols, int32 [N]; which end a word; its count at each, int64 [N]."""

    symbols: np.ndarray
    last: np.ndarray
    counts: np.ndarray


class _Backend:
    """What both have in common: how many pairs and places there are so far."""

    _pairs = _places = 0

    def _numbered(self, found: "_Found") -> Candidates:
        """New groups as pairs, numbered on from those so far."""
        new = _as_candidates(found, self._pairs, self._places)
        self._pairs, self._places = self._pairs + new.pair.size, self._places + int(new.length.sum())
        return new


class OnHost(_Backend):
    """Rounds by NumPy."""

    def __init__(self, words: Words):
        size = words.symbols.size
        self._table, groups = table(Host, words.symbols, words.last, words.counts, size, 3 * size)
        self.pairs = self._numbered(_summary(Host, groups))

    def merge(self, chosen: Candidates, made: np.ndarray, watched: np.ndarray) -> tuple[Candidates, np.ndarray]:
        """Merge the chosen pairs into the symbols `made`. Returns the new pairs, and the counts of the watched ones."""
        size = int(chosen.length.sum())
        self._make_room(2 * size)
        wanted = _chosen(chosen, made, chosen.pair.size, self._table.counts.size - 1)
        self._table, groups = apply(Host, self._table, wanted, size, self._pairs, self._places)
        return self._numbered(_summary(Host, groups)), self._table.counts[watched]

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
        """The counts of all pairs as they are now."""
        return self._table.counts[: self._pairs].copy()


class OnDevice(_Backend):
    """Rounds by JAX. Sizes are rounded up to a few, so that a few programs serve all rounds."""

    def __init__(self, words: Words, device):
        self._device = device
        size = words.symbols.size
        with jax.enable_x64(True), jax.default_device(device):
            self._table, found = _start(*jax.device_put(words, device), _room(size), 3 * size + 2 * _room(size))
            self.pairs = self._numbered(jax.device_get(found))

    def merge(self, chosen: Candidates, made: np.ndarray, watched: np.ndarray) -> tuple[Candidates, np.ndarray]:
        """Merge the chosen pairs into the symbols `made`. Returns the new pairs, and the counts of the watched ones."""
        size = _room(int(chosen.length.sum()))
        self._make_room(2 * size)
        wanted = _chosen(chosen, made, LOOK_AHEAD, self._table.counts.size - 1)
        padded = np.full(_room(watched.size), self._table.counts.size - 1, np.int32)
        padded[: watched.size] = watched
        used = np.int32(self._pairs), np.int32(self._places)
        with jax.enable_x64(True), jax.default_device(self._device):
            self._table, *found = _apply(self._table, wanted, padded, *used, size)
            found, counts = jax.device_get(found)  # all at once: each transfer waits for the device
        return self._numbered(found), counts[: watched.size]

    def _make_room(self, more: int) -> None:
        """Room for so many more pairs and places; what a round writes beyond what it needs must fit too."""
        no_pair = self._table.counts.size - 1
        with jax.enable_x64(True), jax.default_device(self._device):
            if self._pairs + more > no_pair:
                self._table = _with_more_pairs(self._table, _room(2 * no_pair + more))
            if self._places + more > self._table.arena.size:
                self._table = _with_more_places(self._table, 2 * more)

    def counts(self) -> np.ndarray:
        """The counts of all pairs as they are now."""
        with jax.enable_x64(True):
            return np.array(self._table.counts)[: self._pairs]


def _room(size: int) -> int:
    """A size rounded up to one of a few."""
    room = _SMALLEST
    while room < size:
        room *= _GROWTH
    return room


def _chosen(pairs: Candidates, made: np.ndarray, size: int, no_pair: int) -> Chosen:
    """The merges of a round, padded to a size."""
    unused = size - pairs.pair.size
    end = np.cumsum(pairs.length, dtype=np.int32)

    def padded(array, value):
        filler = np.full(unused, value, np.int32)
        return np.concatenate([array.astype(np.int32), filler])

    return Chosen(
        pair=padded(pairs.pair, no_pair), left=padded(pairs.left, -2), right=padded(pairs.right, -2),
        new=padded(made, -1), start=padded(pairs.start, 0), end=padded(end, end[-1]),
    )  # fmt: skip


class _Found(NamedTuple):
    """Groups of occurrences without the occurrences: what the host needs to know."""

    left: Any
    right: Any
    counts: Any
    start: Any
    number: Any
    occurrences: Any


def _summary(ops: Ops, groups: Groups) -> _Found:
    occurrences = ops.np.sum(groups.valid, dtype=np.int32)
    return _Found(groups.left, groups.right, groups.counts, groups.start, groups.number, occurrences)


def _as_candidates(found: _Found, pairs: int, places: int) -> Candidates:
    """Groups as pairs, numbered from `pairs`, their places from `places`."""
    number = int(found.number)
    start = found.start[:number]
    length = np.diff(np.append(start, found.occurrences))
    return Candidates(
        pair=np.arange(pairs, pairs + number, dtype=np.int32),
        left=found.left[:number],
        right=found.right[:number],
        counts=found.counts[:number],
        start=(places + start).astype(np.int32),
        length=length.astype(np.int32),
    )


@partial(jax.jit, static_argnums=(3, 4))
def _start(symbols, last, counts, pairs: int, places: int):
    t, groups = table(Device, symbols, last, counts, pairs, places)
    return t, _summary(Device, groups)


@partial(jax.jit, static_argnums=5, donate_argnums=0)
def _apply(t: Table, chosen: Chosen, watched, pairs, places, size: int):
    t, groups = apply(Device, t, chosen, size, pairs, places)
    return t, _summary(Device, groups), t.counts.at[watched].get(mode="promise_in_bounds")


@partial(jax.jit, static_argnums=1)
def _with_more_pairs(t: Table, room: int) -> Table:
    no_pair = t.counts.size - 1
    count = Device.np.zeros(room + 1, t.counts.dtype).at[:no_pair].set(t.counts[:no_pair])
    return t._replace(counts=count, pair=Device.np.where(t.pair == no_pair, room, t.pair).astype(t.pair.dtype))


@partial(jax.jit, static_argnums=1)
def _with_more_places(t: Table, more: int) -> Table:
    return t._replace(arena=Device.np.pad(t.arena, (0, more)))
