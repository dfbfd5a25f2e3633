"""The operations of `arrays.Host` in JAX."""

import jax
import jax.numpy as jnp

__all__ = ["Device"]


class Device:
    """JAX. Arrays keep their shapes, and masked entries stay in them."""

    np = jnp

    @staticmethod
    def index(array):
        """The array as indices."""
        return array

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
    def starts(begins, group):
        """Where each group begins, of entries in order of their groups; what is no group begins at 0."""
        size = begins.size
        places = jnp.where(begins, jnp.arange(size, dtype=jnp.int32), 0)
        return Device.put(jnp.zeros(size + 1, jnp.int32), jnp.where(begins, group, size), places)[:size]

    @staticmethod
    def totals(values, group, start):
        """The sum of each group's values, of entries in order of their groups; group N is the rest."""
        return Device.add(jnp.zeros(values.size + 1, values.dtype), group, values)[: values.size]

    @staticmethod
    def spread(end, size):
        """For each of `size` entries the first row whose running total `end` is larger; the last one if none is."""
        rows = jnp.searchsorted(end, jnp.arange(size, dtype=jnp.int32), side="right")
        return jnp.minimum(rows, end.size - 1).astype(jnp.int32)

    @staticmethod
    def may_be(condition) -> bool:
        """Whether something must be worked out: what runs is decided before any value is known."""
        return True

    @staticmethod
    def running_max(values):
        """The largest entry up to each one."""
        return jax.lax.cummax(values)
