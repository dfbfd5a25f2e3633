"""Rounds on a device, by JAX. Loaded by `learn.py` when a device is asked for.

Sizes are rounded up to a few, so that a few programs serve all rounds.
"""

from functools import partial

import jax
import numpy as np

from jaxopt_lite.bpe.backends import Backend, Words, padded, summary
from jaxopt_lite.bpe.choose import LOOK_AHEAD, Candidates
from jaxopt_lite.bpe.device import Device
from jaxopt_lite.bpe.rounds import Chosen, Table, apply, table

__all__ = ["OnDevice"]

_SMALLEST, _GROWTH = 1024, 4  # static sizes: the first, and from one to the next


class OnDevice(Backend):
    """Rounds by JAX."""

    def __init__(self, words: Words, device):
        self._device = device
        size = words.symbols.size
        with jax.enable_x64(True), jax.default_device(device):
            self._table, found = _start(*jax.device_put(words, device), _room(size), 3 * size + 2 * _room(size))
            self.pairs = self._numbered(jax.device_get(found))

    def merge(self, chosen: Candidates, made: np.ndarray, watched: np.ndarray) -> tuple[Candidates, np.ndarray]:
        size = _room(int(chosen.length.sum()))
        self._make_room(2 * size)
        wanted = padded(chosen, made, LOOK_AHEAD, self._table.counts.size - 1)
        asked = np.full(_room(watched.size), self._table.counts.size - 1, np.int32)
        asked[: watched.size] = watched
        used = np.int32(self._pairs), np.int32(self._places)
        with jax.enable_x64(True), jax.default_device(self._device):
            self._table, *found = _apply(self._table, wanted, asked, *used, size)
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
        with jax.enable_x64(True):
            return np.array(self._table.counts)[: self._pairs]


def _room(size: int) -> int:
    """A size rounded up to one of a few."""
    room = _SMALLEST
    while room < size:
        room *= _GROWTH
    return room


@partial(jax.jit, static_argnums=(3, 4))
def _start(symbols, last, counts, pairs: int, places: int):
    t, groups = table(Device, symbols, last, counts, pairs, places)
    return t, summary(Device, groups)


@partial(jax.jit, static_argnums=5, donate_argnums=0)
def _apply(t: Table, chosen: Chosen, watched, pairs, places, size: int):
    t, groups = apply(Device, t, chosen, size, pairs, places)
    return t, summary(Device, groups), t.counts.at[watched].get(mode="promise_in_bounds")


@partial(jax.jit, static_argnums=1)
def _with_more_pairs(t: Table, room: int) -> Table:
    no_pair = t.counts.size - 1
    count = Device.np.zeros(room + 1, t.counts.dtype).at[:no_pair].set(t.counts[:no_pair])
    return t._replace(counts=count, pair=Device.np.where(t.pair == no_pair, room, t.pair).astype(t.pair.dtype))


@partial(jax.jit, static_argnums=1)
def _with_more_places(t: Table, more: int) -> Table:
    return t._replace(arena=Device.np.pad(t.arena, (0, more)))
