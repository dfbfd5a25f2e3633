"""The few array operations in which NumPy on the host and JAX on a device differ. Used by `groups.py` and `rounds.py`.

The algorithms of this room are written once, against `Ops`. On the host they run by NumPy: a round of merges touches a
thousand numbers here and there, which is no work for a compiled loop, and nothing has to be compiled. On a device the
same lines run by JAX, with static shapes: what NumPy leaves out of an array stays in it there, masked.
"""

from typing import Any

import numpy as np

__all__ = ["Host", "Ops"]


class Host:
    """NumPy. Arrays are changed in place, and shrink to what is used."""

    np = np

    @staticmethod
    def index(array):
        """The array as indices: NumPy would convert any other integers each time they are used."""
        return array.astype(np.intp)

    @staticmethod
    def put(array, index, values):
        """`array[index] = values`. Entries that share an index must share the value."""
        array[index] = values
        return array

    @staticmethod
    def add(array, index, values):
        """`array[index] += values`, entries that share an index added up."""
        np.add.at(array, index, values)
        return array

    @staticmethod
    def put_range(array, start, values):
        """`array[start : start + len(values)] = values`."""
        array[start : start + len(values)] = values
        return array

    @staticmethod
    def keep(mask, *arrays):
        """The mask and the arrays without what is masked out, where arrays may shrink."""
        return np.ones(np.count_nonzero(mask), bool), *(array[mask] for array in arrays)

    @staticmethod
    def order(left, right, valid):
        """The order by (left, right), equal ones as they come; entries that are not valid at the end."""
        if max(left.max(initial=0), right.max(initial=0)) < 1 << 15:  # NumPy sorts 16 bits by counting
            if not valid.all():
                left, right = np.where(valid, left, -1), np.where(valid, right, -1)
            left, right = left.astype(np.uint16), right.astype(np.uint16)
            order = np.argsort(right, kind="stable")
            return order[np.argsort(left[order], kind="stable")]
        key = np.where(valid, (left.astype(np.int64) << 32) | right, np.iinfo(np.int64).max)
        return np.argsort(key, kind="stable")

    @staticmethod
    def starts(begins, group):
        """Where each group begins, of entries in order of their groups."""
        return np.flatnonzero(begins)

    @staticmethod
    def totals(values, group, start):
        """The sum of each group's values, of entries in order of their groups."""
        return np.add.reduceat(values, start) if start.size else values[:0]

    @staticmethod
    def spread(end, size):
        """For each of `size` entries the first row whose running total `end` is larger; the last one if none is."""
        return np.repeat(np.arange(end.size), np.diff(end, prepend=0))

    @staticmethod
    def may_be(condition) -> bool:
        """Whether something must be worked out, which it need not be where the condition is known to be false."""
        return bool(condition)

    @staticmethod
    def running_max(values):
        """The largest entry up to each one."""
        return np.maximum.accumulate(values)


Ops = Any  # `type[Host]` or `type[Device]` of `device.py`; pyright cannot follow either through `np`
