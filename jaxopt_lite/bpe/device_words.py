"""The distinct pieces of a block of text and how often each occurs, on a device: by hashing and sorting. Exact.

Pieces (`cuts.py`) with equal bytes have equal hashes, so that sorting by hash brings them together. A run of the sorted
pieces ends wherever neighbours differ in a byte or in length: every run is of one piece, whatever the hashes are, and
the counts of all runs add up to those of the pieces. When two pieces share a hash, a piece may have several runs, which
the host adds up, and nothing else happens: 32 bits are plenty.

Every index is in bounds, with n bytes in the block and m = n // 2 places for pieces: the rank of a piece is cut off at
m, an entry that nobody reads; the numbers of pieces in the sort are a permutation of 0 … m − 1; bytes are read at
min(place, n − 1), those behind the end of a piece are masked; a run's number is below that of its pieces, m. When there
are more than m pieces, `pieces` says so, and the host counts the block. The device holds some 40 bytes for each of the
block.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt8, UInt32

from jaxopt_lite.bpe.cuts import WALL, has_lines, starts
from jaxopt_lite.bpe.device_cuts import piece_starts
from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.table import LONGEST

__all__ = ["Runs", "find_pieces", "finder", "runs"]

_SMALLEST, _LARGEST = 1 << 12, 1 << 26  # bytes of a block; what is larger is counted on the host
_SEED = np.uint32(0x9E3779B9)
_FACTORS = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)  # of MurmurHash3's last step, public domain
_LAST = np.uint32(0xFFFFFFFF)  # the key of what is no piece


class Runs(NamedTuple):
    """Runs of equal pieces, the first `number` columns of `[3, m]`: a start, the length, how many there are.

    They hold all pieces of the block if these are at most m, and otherwise nothing of use.
    """

    found: Int32[Array, "3 m"]
    number: Int32[Array, ""]
    pieces: Int32[Array, ""]


def finder(device: Any) -> Callable[[bytes, Splitter], tuple[np.ndarray, ...]]:
    """`find_pieces` on this device."""
    if not isinstance(device, jax.Device):
        raise TypeError(f"device={device!r} ({type(device).__name__}): expected a jax.Device such as jax.devices()[0].")
    return partial(find_pieces, device=device)


def find_pieces(data: bytes, splitter: Splitter, device: Any) -> tuple[np.ndarray, ...]:
    """The pieces of texts in UTF-8 with `WALL` between them, equal ones counted on a device.

    Args:
        data: the texts, at least one byte.
        splitter: "whitespace" or a pattern of `patterns.LOCAL`.
        device: where to count, a `jax.Device`.

    Returns:
        What a `counting.Find` does: where pieces start, int64, and unless the block was too large or had too many
        pieces, their lengths and how often each occurs. Pieces may come more than once.
    """
    size = len(data)
    if size > _LARGEST:
        return (starts(data, splitter),)
    block = np.full(_room(size), WALL[0], np.uint8)
    block[:size] = np.frombuffer(data, np.uint8)
    with jax.default_device(device):
        answer = runs(jax.device_put(block, device), np.int32(size), splitter.pattern is None, has_lines(splitter))
        number, pieces = map(int, jax.device_get(answer[1:]))
        if pieces > block.size // 2:
            return (starts(data, splitter),)
        found = jax.device_get(answer.found[:, : _room(number)])  # one of a few shapes: each is a program
    return tuple(found[:, :number].astype(np.int64))


def _room(size: int) -> int:
    """A size rounded up to one of a few: four from one power of two to the next."""
    unit = max(1 << max(size.bit_length() - 3, 0), _SMALLEST)
    return -(-size // unit) * unit


@partial(jax.jit, static_argnums=(2, 3))
def runs(block: UInt8[Array, " n"], size: Int32[Array, ""], is_whitespace: bool, lines: bool) -> Runs:
    """The pieces of a block, equal ones counted. Sorts 32-bit keys with one payload: on a GPU, by radix.

    Args:
        block: texts in UTF-8 with `WALL` between them and behind them, n at least 2.
        size: how many bytes the texts are.
        is_whitespace: whether the words are those of "whitespace".
        lines: as `cuts.has_lines` says of the pattern.
    """
    most = block.size // 2
    place = jnp.arange(block.size, dtype=jnp.int32)
    begins = piece_starts(block, is_whitespace, lines) & (place < size)
    start, pieces = _listed(begins, place, most, size)
    length = start[1:] - start[:-1]
    start = start[:-1]
    words = _four_bytes(block)
    rank = jnp.arange(most, dtype=jnp.int32)
    key = jnp.where(rank < pieces, jnp.minimum(_hash(words, start, length), _LAST - np.uint32(1)), _LAST)
    order = jax.lax.sort((key, rank), num_keys=1)[1]
    start, length = (array.at[order].get(mode="promise_in_bounds") for array in (start, length))
    first = (rank < pieces) & ~_equals_previous(words, start, length)
    at, runs_found = _listed(first, rank, most, jnp.minimum(pieces, most))
    kept = jnp.minimum(at[:-1], most - 1)
    found = [array.at[kept].get(mode="promise_in_bounds") for array in (start, length)]
    return Runs(jnp.stack([*found, at[1:] - at[:-1]]), runs_found, pieces)


def _listed(mask, values, most: int, rest) -> tuple[Array, Array]:
    """The values where the mask is true, in order, in `most + 1` entries, filled up with `rest`; and how many."""
    number = jnp.cumsum(mask, dtype=jnp.int32)
    index = jnp.where(mask, jnp.clip(number - 1, 0, most), most)
    listed = jnp.full(most + 1, rest, jnp.int32).at[index].set(values, mode="promise_in_bounds")
    return listed.at[most].set(rest), number[-1]


def _four_bytes(block) -> UInt32[Array, " n"]:
    """From each byte on four of them as one number; zeros behind the block."""
    wide = jnp.pad(block, (0, 3)).astype(jnp.uint32)
    return sum((wide[k : k + block.size] << (8 * k) for k in range(1, 4)), wide[: block.size])


def _words(words, start, length):
    """The bytes of each piece, four at a time up to `LONGEST`, zeros behind its end."""
    for k in range(0, LONGEST, 4):
        at = jnp.clip(start + k, 0, words.size - 1)
        left = jnp.clip(length - k, 0, 4).astype(jnp.uint32)
        mask = jnp.where(left == 4, _LAST, (np.uint32(1) << (8 * (left & 3))) - 1)
        yield words.at[at].get(mode="promise_in_bounds") & mask


def _hash(words, start, length) -> UInt32[Array, " m"]:
    """A number that equal pieces share; most others have another."""
    mixed = length.astype(jnp.uint32) ^ _SEED
    for word in _words(words, start, length):
        mixed = (mixed ^ word) * _FACTORS[0]
        mixed = (mixed ^ (mixed >> 15)) * _FACTORS[1]
    return mixed ^ (mixed >> 16)


def _equals_previous(words, start, length):
    """Whether each piece has the bytes of the one before it. Of pieces that are not read whole, none does."""
    same = (length[1:] == length[:-1]) & (length[1:] <= LONGEST)
    for word in _words(words, start, length):
        same &= word[1:] == word[:-1]
    return jnp.concatenate([jnp.zeros(1, bool), same])
