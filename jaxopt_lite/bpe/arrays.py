"""The few array operations in which NumPy on the host and JAX on a device differ. Used by `pairs.py` and `rounds.py`.

The algorithms of this room are written once, against `Ops`. On the host they run by NumPy: a round of merges touches a
thousand numbers here and there, which is no work for a compiled loop, and nothing has to be compiled. On a device the
same lines run by JAX, with static shapes: what NumPy leaves out of an array stays in it there, masked.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Device", "Host", "Ops"]


class Host:
    """NumPy. Arrays are changed in place, and shrink to what is used."""

    np = np

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
            left, right = (np.where(valid, symbols, -1).astype(np.uint16) for symbols in (left, right))
            order = np.argsort(right, kind="stable")
            return order[np.argsort(left[order], kind="stable")]
        key = np.where(valid, (left.astype(np.int64) << 32) | right, np.iinfo(np.int64).max)
        return np.argsort(key, kind="stable")

    @staticmethod
    def running_max(values):
        """The largest entry up to each one."""
        return np.maximum.accumulate(values)


class Device:
    """JAX. Arrays keep their shapes, and masked entries stay in them."""

    np = jnp

    @staticmethod
    def put(array, index, values):
        """`array[index] = values`. Entries that share an index must share the value."""
        return array.at[index].set(values, mode="promise_in_bounds")

    @staticmethod
    def add(array, index, values):
        """`array[index] += values`, entries that share an index added up."""
        return array.at[index].add(values, mode="promise_in_bounds")

    @staticmethod
    def put_range(array, start, values):
        """`array[start : start + len(values)] = values`; the range must be in bounds."""
        return jax.lax.dynamic_update_slice(array, values, (start,))

    @staticmethod
    def keep(mask, *arrays):
        """The mask and the arrays without what is masked out, where arrays may shrink."""
        return mask, *arrays

    @staticmethod
    def order(left, right, valid):
        """The order by (left, right), equal ones as they come; entries that are not valid at the end.

        On a GPU a single unsigned key is sorted by radix, many times faster. It has room for both symbols when they are
        16-bit integers, or in 64-bit mode.
        """
        index = jnp.arange(left.size, dtype=jnp.int32)
        narrow = left.dtype.itemsize <= 2
        if narrow or jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            word, shift = (jnp.uint32, 16) if narrow else (jnp.uint64, 32)
            key = jnp.where(valid, (left.astype(word) << shift) | right.astype(word), word(jnp.iinfo(word).max))
            return jax.lax.sort((key, index), num_keys=1)[1]
        last = jnp.iinfo(left.dtype).max
        left, right = (jnp.where(valid, symbols, last) for symbols in (left, right))
        return jax.lax.sort((left, right, index), num_keys=2)[2]

    @staticmethod
    def running_max(values):
        """The largest entry up to each one."""
        return jax.lax.cummax(values)


Ops = Any  # one of the two classes above: `type[Host] | type[Device]`, which pyright cannot follow through `np`
