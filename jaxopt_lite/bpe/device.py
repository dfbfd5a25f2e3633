"""The operations of `arrays.Host` in JAX."""

import jax
import jax.numpy as jnp

__all__ = ["Device"]


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
