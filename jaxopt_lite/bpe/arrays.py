"""The few array operations in which NumPy on the host and JAX on a device differ. Used by `pairs.py` and `rounds.py`.

The algorithms of this room are written once, against `Ops`. On a CPU they run by NumPy: a round of merges touches a
thousand numbers here and there, which is no work for a compiled loop, and nothing has to be compiled. On an accelerator
the same lines run by JAX, with static shapes: what NumPy leaves out of an array stays in it there, masked.
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
    def order(left, right, place):
        """The order of the entries by three int32 keys, none negative."""
        return np.lexsort((place, (left.astype(np.int64) << 32) | right))

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
    def order(left, right, place):
        """The order of the entries by three int32 keys, none negative."""
        index = jnp.arange(left.size, dtype=jnp.int32)
        return jax.lax.sort((left, right, place, index), num_keys=3)[3]

    @staticmethod
    def running_max(values):
        """The largest entry up to each one."""
        return jax.lax.cummax(values)



Ops = Any  # one of the two classes above: `type[Host] | type[Device]`, which pyright cannot follow through `np`
