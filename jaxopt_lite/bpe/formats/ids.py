"""Tokens by their ids, of which a file may leave some out."""

from collections.abc import Mapping

__all__ = ["tokens_by_id"]

_MOST_GAPS = 1 << 16  # and as many again as there are tokens


def tokens_by_id(known: Mapping[int, bytes]) -> tuple[bytes, ...]:
    """The tokens of all ids from 0 to the largest; ids that are left out stand for nothing.

    Raises:
        ValueError: a negative id, or one so far beyond the others that it must be a mistake.
    """
    last = max(known, default=-1)
    if min(known, default=0) < 0 or last > 2 * len(known) + _MOST_GAPS:
        wrong = min(known) if min(known) < 0 else last
        raise ValueError(f"{len(known)} tokens, one of which has the id {wrong}; expected ids from 0 on, with few gaps")
    return tuple(known.get(k, b"") for k in range(last + 1))
