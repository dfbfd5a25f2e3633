"""The cuts of `cuts.py` on a device: for every byte of a block whether a piece starts there. Dense, with static shapes.

The rules and their proof are there. Each looks at the bytes beside a place, which here is a shifted array, but for one:
where a run of whitespace ends, which a running minimum from behind finds. Nothing is indexed but two tables of 256
entries, by bytes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, UInt8

from jaxopt_lite.bpe.cuts import (
    BEFORE_QUOTE,
    BEHIND_SIGNS,
    CLASSES,
    CUT,
    END,
    ENDS_RUN,
    LAST_SPACE,
    LETTER,
    LINE,
    QUOTE,
    SIGN,
    SPACE,
    WALL,
    WIDE,
    WIDE_SPACE,
    may_end_whitespace,
    pair_bits,
)

__all__ = ["piece_starts"]


def piece_starts(block: UInt8[Array, " n"], is_whitespace: bool, lines: bool) -> Bool[Array, " n"]:
    """Where the pieces start that `cuts.starts` finds in the block with one more `WALL` behind it.

    Args:
        block: texts in UTF-8 with `WALL` between them, at least one byte.
        is_whitespace: whether the words are those of "whitespace".
        lines: whether the pattern has a word for whitespace up to a line end; see `cuts.has_lines`.
    """
    kind = _lookup(CLASSES, block)
    bits = _lookup(pair_bits(is_whitespace), (kind << 4) | _at(kind, 1, END))
    cut = bits & CUT != 0  # behind each byte
    if not is_whitespace:
        cut = _look_around(block, kind, bits, cut)
        cut |= _at_line_ends(block, kind, bits, lines)
    wall = block == WALL[0]
    cut |= wall | _at(wall, 1, True)
    return _at(cut, -1, True)


def _lookup(table: bytes, index: Array) -> Array:
    """The entries of a table of 256 bytes: no uint8 is out of its bounds."""
    return jnp.array(list(table), jnp.uint8).at[index].get(mode="promise_in_bounds")


def _at(array: Array, distance: int, beyond) -> Array:
    """For each byte the entry so far behind it, or before it; at the ends what is beyond them."""
    edge = jnp.full(min(abs(distance), array.size), beyond, array.dtype)
    return jnp.concatenate([array[distance:], edge] if distance > 0 else [edge, array[:distance]])


def _look_around(block, kind, bits, cut):
    before, behind, byte_before = _at(kind, -1, END), _at(kind, 2, END), _at(block, -1, WALL[0])
    signs = ((before == SIGN) | (before == QUOTE)) & (byte_before != ord("/"))
    cut |= (bits & BEHIND_SIGNS != 0) & (signs | (before == SPACE))
    cut |= (bits & BEFORE_QUOTE != 0) & (behind != LETTER) & (behind != WIDE)
    return cut & ~((bits & WIDE_SPACE != 0) & may_end_whitespace(byte_before, block))


def _at_line_ends(block, kind, bits, lines: bool):
    is_line, behind = kind == LINE, _at(kind, 1, END)
    visible = (behind <= QUOTE) & (_at(block, 1, WALL[0]) != ord("/"))
    last_space = (bits & LAST_SPACE != 0) & (_at(kind, 2, END) <= QUOTE)
    if not lines:
        return (is_line & visible & (_at(kind, -1, END) <= QUOTE)) | last_space
    place, size = jnp.arange(block.size, dtype=jnp.int32), block.size
    run_ends = _first_from(bits & ENDS_RUN != 0, place, size)
    stops = _at(_first_from(is_line | (kind == END), place, size), 1, size)
    in_run = (behind >= SPACE) & (behind != LINE) & (behind != END) & (run_ends < stops)
    return (is_line & visible) | (((is_line & in_run) | last_space) & ~jnp.any(block == ord("\r")))


def _first_from(mask, place, size: int):
    """For each byte the first place from it on where the mask is true; the size of the block if there is none."""
    return jax.lax.cummin(jnp.where(mask, place, size), reverse=True)
