"""Bringing equal pairs together: by sorting. The kernel of counting pairs, written for the host and for a device.

Windows overlap: `a a a` holds the pair (a, a) twice. Each occurrence counts with the weight of its word.
"""

from typing import Any, NamedTuple

from jaxopt_lite.bpe.arrays import Ops

__all__ = ["Groups", "group"]


class Groups(NamedTuple):
    """Occurrences of pairs, sorted by pair and then by place; entries that are no occurrence are at the end.

    Per occurrence, `[N]`: its `place`, the number of its `group`, and whether it is `valid`. Per group, in the first
    `number` entries: its symbols, the sum of its weights, and where its occurrences begin.
    """

    place: Any
    group: Any
    valid: Any
    left: Any
    right: Any
    counts: Any
    start: Any
    number: Any


def group(ops: Ops, left, right, place, weight, valid) -> Groups:
    """Bring the occurrences of equal pairs together. Those of one pair must come in order of their places.

    Args:
        ops: where to compute, `Host` or `Device`.
        left: the first symbol of each occurrence, a signed integer [N], not negative where valid.
        right: the second.
        place: where it is, int32 [N].
        weight: what it counts, an integer [N].
        valid: which entries are occurrences, bool [N].
    """
    np = ops.np
    valid, left, right, place, weight = ops.keep(valid, left, right, place, weight)
    size = left.size
    order = ops.order(left, right, valid)
    left, right, valid = left[order], right[order], valid[order]
    place, weight = place[order], weight[order]  # in turn: of a whole corpus they are large
    differs = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    begins = valid & np.concatenate([np.ones(min(size, 1), bool), differs])
    index = np.cumsum(begins, dtype=np.int32) - 1
    index = np.where(valid, index, size)  # a spare group for the rest
    start = ops.starts(begins, index)
    counts = ops.totals(weight, index, start)
    return Groups(place, index, valid, left[start], right[start], counts, start, np.sum(begins, dtype=np.int32))
