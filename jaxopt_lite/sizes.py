"""Sizes rounded up to one of a few, so that few programs are compiled. Imports nothing."""

__all__ = ["round_up"]


def round_up(size: int, *, parts: int = 1, least: int = 1) -> int:
    """A size rounded up to one of a few: `parts` of them from each power of two to the next.

    Args:
        size: at least 0.
        parts: a power of two. 1 gives only powers of two; 4 wastes at most a quarter.
        least: the smallest size, a power of two; all others are multiples of it.

    Example:
        >>> from jaxopt_lite.sizes import round_up
        >>> [round_up(size) for size in (0, 1, 5, 8, 9)]
        [1, 1, 8, 8, 16]
        >>> [round_up(size, parts=4) for size in (16, 17, 21, 33)]
        [16, 20, 24, 40]
    """
    unit = max((1 << max(size.bit_length() - 1, 0)) // parts, least)
    return max(-(-size // unit), 1) * unit
