"""The distinct pieces of a block of text and how often each occurs, on a device: by hashing and sorting. Exact.

Pieces (`cuts.py`) with equal bytes have equal hashes, so that sorting by hash brings them together. A run of the sorted
pieces ends wherever neighbors differ in a byte or in length: every run is of one piece, whatever the hashes are, and
the counts of all runs add up to those of the pieces. If two pieces share a hash, a piece may have several runs, which
the host adds up, and nothing else happens: 32 bits are plenty.

Every index is in bounds. With n bytes in the block and room for m = n // 2 pieces: the rank of a piece is clipped to m,
an entry that is never read; the indices of pieces in the sort are a permutation of 0 … m − 1; bytes are read at
min(position, n − 1), and those after the end of a piece are masked; there are no more runs than pieces, at most m. If
there are more than m pieces, `pieces` says so, and the host counts the block. The device needs about 40 bytes per byte
of the block.

At the end of this module is `sum_over_hosts`, for one corpus on many hosts.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Bool, Int32, UInt8, UInt32

from jaxopt_lite.bpe import cuts
from jaxopt_lite.bpe.arguments import jax_device, word_counts
from jaxopt_lite.bpe.cuts import END, QUOTE, WALL
from jaxopt_lite.bpe.table import LONGEST
from jaxopt_lite.sizes import round_up

__all__ = ["Runs", "find_pieces", "finder", "piece_starts", "runs", "sum_over_hosts"]

_SMALLEST, _LARGEST = 1 << 12, 1 << 26  # bytes of a block; larger ones are counted on the host
_SEED = np.uint32(0x9E3779B9)
_FACTORS = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)  # of MurmurHash3's last step, public domain
_LAST = np.uint32(0xFFFFFFFF)  # the key of unused entries


class Runs(NamedTuple):
    """Runs of equal pieces, the first `number` columns of `[3, m]`: a start, the length, how many there are.

    They hold all pieces of the block if there are at most m, and otherwise nothing of use.
    """

    found: Int32[Array, "3 m"]
    number: Int32[Array, ""]
    pieces: Int32[Array, ""]


def finder(device: Any) -> Callable[[bytes, str | None], tuple[np.ndarray, ...]]:
    """`find_pieces` bound to this device."""
    return partial(find_pieces, device=jax_device(device))


def find_pieces(data: bytes, pattern: str | None, device: Any) -> tuple[np.ndarray, ...]:
    """The pieces of texts in UTF-8 with `WALL` between them, equal ones counted on a device.

    Args:
        data: the texts, at least one byte.
        pattern: what the words are, one of `patterns.LOCAL`; `None` for words between whitespace.
        device: where to count, a `jax.Device`.

    Returns:
        What a `counting.Find` returns: where pieces start, int64, and, unless the block was too large or had too many
        pieces, their lengths and how often each occurs. A piece may be listed more than once.
    """
    size = len(data)
    if size > _LARGEST:
        return (cuts.starts(data, pattern),)
    block = np.full(_room(size), WALL[0], np.uint8)
    block[:size] = np.frombuffer(data, np.uint8)
    with jax.default_device(device):
        answer = runs(jax.device_put(block, device), np.int32(size), pattern is None, cuts.has_lines(pattern))
        number, pieces = map(int, jax.device_get(answer[1:]))
        if pieces > block.size // 2:
            return (cuts.starts(data, pattern),)
        found = jax.device_get(answer.found[:, : _room(number)])  # of a few shapes only: each compiles a program
    return tuple(found[:, :number].astype(np.int64))


def _room(size: int) -> int:
    return round_up(size, parts=4, least=_SMALLEST)


@partial(jax.jit, static_argnums=(2, 3))
def runs(block: UInt8[Array, " n"], size: Int32[Array, ""], is_whitespace: bool, lines: bool) -> Runs:
    """The pieces of a block, equal ones counted. Sorts 32-bit keys with one payload: on a GPU, by radix.

    Args:
        block: texts in UTF-8 with `WALL` between them and after them, n at least 2.
        size: how many bytes the texts take.
        is_whitespace: whether the words are those between whitespace.
        lines: `cuts.has_lines` of the pattern.
    """
    most = block.size // 2
    position = jnp.arange(block.size, dtype=jnp.int32)
    begins = piece_starts(block, is_whitespace, lines) & (position < size)
    start, pieces = _listed(begins, position, most, size)
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
    """The values where the mask is true, in order, in `most + 1` entries padded with `rest`; and how many."""
    number = jnp.cumsum(mask, dtype=jnp.int32)
    index = jnp.where(mask, jnp.clip(number - 1, 0, most), most)
    listed = jnp.full(most + 1, rest, jnp.int32).at[index].set(values, mode="promise_in_bounds")
    return listed.at[most].set(rest), number[-1]


def _four_bytes(block) -> UInt32[Array, " n"]:
    """For each byte, four bytes from it on as one number; with zeros after the block."""
    wide = jnp.pad(block, (0, 3)).astype(jnp.uint32)
    return sum((wide[k : k + block.size] << (8 * k) for k in range(1, 4)), wide[: block.size])


def _words(words, start, length):
    """The bytes of each piece, four at a time up to `LONGEST`, with zeros after its end."""
    for k in range(0, LONGEST, 4):
        at = jnp.clip(start + k, 0, words.size - 1)
        left = jnp.clip(length - k, 0, 4).astype(jnp.uint32)
        mask = jnp.where(left == 4, _LAST, (np.uint32(1) << (8 * (left & 3))) - 1)
        yield words.at[at].get(mode="promise_in_bounds") & mask


def _hash(words, start, length) -> UInt32[Array, " m"]:
    """A hash: equal for equal pieces, and different for most others."""
    mixed = length.astype(jnp.uint32) ^ _SEED
    for word in _words(words, start, length):
        mixed = (mixed ^ word) * _FACTORS[0]
        mixed = (mixed ^ (mixed >> 15)) * _FACTORS[1]
    return mixed ^ (mixed >> 16)


def _equals_previous(words, start, length):
    """Whether each piece has the bytes of the one before it; false for pieces longer than `LONGEST`."""
    same = (length[1:] == length[:-1]) & (length[1:] <= LONGEST)
    for word in _words(words, start, length):
        same &= word[1:] == word[:-1]
    return jnp.concatenate([jnp.zeros(1, bool), same])


def piece_starts(block: UInt8[Array, " n"], is_whitespace: bool, lines: bool) -> Bool[Array, " n"]:
    """For every byte whether a piece starts there, as in `cuts.starts` of the block with one more `WALL` after it.

    The rules and their proof are in `cuts.py`. Each looks at the bytes next to a position, here by shifting an array,
    except for one: where a run of whitespace ends, which a running minimum from the end finds. Only two tables of 256
    entries are indexed, by bytes.

    Args:
        block: texts in UTF-8 with `WALL` between them, at least one byte.
        is_whitespace: whether the words are those between whitespace.
        lines: whether the pattern has a word for whitespace up to a line end; see `cuts.has_lines`.
    """
    kind = _lookup(cuts.CLASSES, block)
    bits = _lookup(cuts.pair_bits(is_whitespace), (kind << 4) | _at(kind, 1, END))
    cut = bits & cuts.CUT != 0  # after each byte
    if not is_whitespace:
        cut = _look_around(block, kind, bits, cut)
        cut |= _at_line_ends(block, kind, bits, lines)
    wall = block == WALL[0]
    cut |= wall | _at(wall, 1, True)
    return _at(cut, -1, True)


def _lookup(table: bytes, index: Array) -> Array:
    """The entries of a table of 256 bytes, in which every uint8 is in bounds."""
    return jnp.array(list(table), jnp.uint8).at[index].get(mode="promise_in_bounds")


def _at(array: Array, distance: int, beyond) -> Array:
    """For each byte the entry `distance` after it, or before it if negative; `beyond` past either end."""
    edge = jnp.full(min(abs(distance), array.size), beyond, array.dtype)
    return jnp.concatenate([array[distance:], edge] if distance > 0 else [edge, array[:distance]])


def _look_around(block, kind, bits, cut):
    before, behind, byte_before = _at(kind, -1, END), _at(kind, 2, END), _at(block, -1, WALL[0])
    cut |= (bits & cuts.BEHIND_SIGNS != 0) & cuts.signs_end(before, byte_before)
    cut |= (bits & cuts.BEFORE_QUOTE != 0) & cuts.quote_starts(behind)
    return cut & ~((bits & cuts.WIDE_SPACE != 0) & cuts.may_end_whitespace(byte_before, block))


def _at_line_ends(block, kind, bits, lines: bool):
    is_line, behind = kind == cuts.LINE, _at(kind, 1, END)
    visible = cuts.line_ends(behind, _at(block, 1, WALL[0]))
    last_space = (bits & cuts.LAST_SPACE != 0) & (_at(kind, 2, END) <= QUOTE)
    if not lines:
        return (is_line & visible & (_at(kind, -1, END) <= QUOTE)) | last_space
    position, size = jnp.arange(block.size, dtype=jnp.int32), block.size
    run_ends = _first_from(bits & cuts.ENDS_RUN != 0, position, size)
    stops = _at(_first_from(is_line | (kind == END), position, size), 1, size)
    in_run = cuts.run_goes_on(behind) & (run_ends < stops)
    return (is_line & visible) | (((is_line & in_run) | last_space) & ~jnp.any(block == ord("\r")))


def _first_from(mask, position, size: int):
    """For each byte the first position at or after it where the mask is true; the size of the block if none is."""
    return jax.lax.cummin(jnp.where(mask, position, size), reverse=True)


# --- Many hosts -------------------------------------------------------------------------------------------------------


def sum_over_hosts(counts: Mapping[str, int]) -> Counter[str]:
    """Add up the word counts of all processes of a `jax.distributed` job; each gets the sum.

    Each host's distinct words and their counts are transferred once, before training. Every host then learns the same
    merges from the same counts. Every process must call this, even one whose part of the corpus is empty. With a single
    process the result is its own counts.

    Args:
        counts: what this process has counted, for instance with `count_words`.

    Returns:
        The sum, with its words in alphabetical order on every process.

    Raises:
        TypeError: words or counts of the wrong type.
        ValueError: a negative count.

    Example:
        >>> from jaxopt_lite import bpe
        >>> texts = ["to be or not to be"]  # of this host
        >>> words = bpe.count_words(texts, bpe.splitter("whitespace"))
        >>> bpe.sum_over_hosts(words)["be"]
        2
    """
    total = word_counts(counts)
    if jax.process_count() > 1:
        parts = _from_all(json.dumps(total).encode())  # in ASCII, whatever the words hold
        total = Counter()
        for part in parts:
            total.update(json.loads(part))
    return Counter(dict(sorted(total.items())))


def _from_all(message: bytes) -> list[bytes]:
    """The messages of all processes, in order of the processes."""
    lengths = np.ravel(multihost_utils.process_allgather(np.int32(len(message))))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(message)] = np.frombuffer(message, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:length]) for row, length in zip(rows, lengths, strict=True)]
