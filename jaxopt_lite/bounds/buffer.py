"""A buffer of fixed capacity that counts what did not fit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Int32, PyTree

from jaxopt_lite.arguments import whole_number

__all__ = ["Buffer", "BufferOverflowError"]


class BufferOverflowError(RuntimeError):
    """More items were pushed into a `Buffer` than it has room for; the surplus was counted, not stored."""


class Buffer(NamedTuple):
    """At most `capacity` items of one kind, and the number of items that found no room.

    An immutable pytree of arrays: `push` and `extend` return a new buffer, and work under `jit`, `vmap`,
    `scan` and `grad`. What is stored is never damaged: an item without room is counted in `overflow` and
    written nowhere.

    Attributes:
        data: the slots: a pytree whose leaves have shape `[capacity, ...]`. Those from `size` on are empty.
        size: how many items are stored, `0 <= size <= capacity`.
        overflow: how many items did not fit: the number wanted minus the capacity, or 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite import bounds
        >>> values = jnp.array([1.0, 2.0, 3.0, 4.0, 5.0])
        >>> buffer = bounds.Buffer.empty(3, jnp.array(0.0)).extend(values)
        >>> print(buffer.to_array(), buffer.size, buffer.overflow)
        [1. 2. 3.] 3 2
    """

    data: PyTree
    size: Int32[Array, "..."]
    overflow: Int32[Array, "..."]

    @classmethod
    def empty(cls, capacity: int, example: PyTree) -> "Buffer":
        """A buffer without items.

        Args:
            capacity: the number of slots, at least 1. It is part of the shape and cannot grow.
            example: one item: a pytree of arrays or `jax.ShapeDtypeStruct`s, of the shapes and dtypes of all.

        Returns:
            A buffer with every slot zero, `size` 0 and `overflow` 0.

        Raises:
            TypeError: `example` holds keys of random numbers.
            ValueError: `capacity` is not a whole number of at least 1, or `example` has no leaves.
        """
        capacity = whole_number("capacity", capacity, least=1)
        if not jax.tree.leaves(example):
            raise ValueError("example: expected a pytree with at least one array, got none; pass one item")
        shapes = jax.eval_shape(lambda item: jax.tree.map(jnp.asarray, item), example)
        for leaf in jax.tree.leaves(shapes):
            if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
                raise TypeError(
                    f"example: expected numbers, got {leaf.dtype}; keep jax.random.key_data of a key instead"
                )
        data = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)
        return cls(data, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    @property
    def capacity(self) -> int:
        """The number of slots (of each buffer, when a batch of buffers came out of `vmap`)."""
        return jax.tree.leaves(self.data)[0].shape[jnp.ndim(self.size)]

    @property
    def overflowed(self) -> Bool[Array, "..."]:
        """Whether any item did not fit."""
        return self.overflow > 0

    @property
    def valid(self) -> Bool[Array, " capacity"]:
        """Which slots hold an item (`[..., capacity]` of a batch of buffers)."""
        return jnp.arange(self.capacity, dtype=jnp.int32) < jnp.asarray(self.size)[..., None]

    def push(self, item: PyTree, where: ArrayLike = True) -> "Buffer":
        """Append one item.

        Args:
            item: a pytree like the buffer's example.
            where: whether to push at all, a bool; default True.

        Returns:
            The buffer with the item at slot `size`; with `overflow` one more if it was full.

        Raises:
            TypeError: `item` differs from the buffer's items in structure, shape or dtype.
            ValueError: a Python number that the dtype of its slots cannot hold; `where` is not one bool.
        """
        if jax.tree.structure(item) == jax.tree.structure(self.data):  # else `extend` says so
            jax.tree.map(lambda slot, leaf: _refuse_too_large("item", leaf, slot.dtype), self.data, item)
        where = jnp.asarray(where)
        if where.shape != () or where.dtype != bool:
            raise ValueError(f"where: expected one bool, got {where.dtype}{list(where.shape)}")
        items = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], item)
        return self.extend(items, mask=where[None])

    def extend(
        self,
        items: PyTree,
        *,
        count: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> "Buffer":
        """Append many items, in order. Costs O(m) whatever the capacity, and can update the slots in place.

        Args:
            items: a pytree like the buffer's example, with one more leading axis `m` on each leaf.
            count: append only the first `count` items, an integer; default all. A count above `m` is a mistake
                that shapes cannot reveal: it counts as `m`, and one below 0 as 0.
            mask: append only the items where `mask`, bool[m], is True. Give `count` or `mask`, not both.

        Returns:
            The buffer with as many of the items as fit, from the first on; `overflow` grows by the others.

        Raises:
            TypeError: `items` differ from the buffer's items in structure, shape or dtype; `count` is not an integer.
            ValueError: both `count` and `mask` were given, `count` is not one number, `mask` has another length than
                `items`, or the buffer is a batch of them.
        """
        if jnp.ndim(self.size):
            raise ValueError(f"buffer: expected one, got a batch of shape {self.size.shape}; append inside jax.vmap")
        items = _as_items(self, items)
        m = jax.tree.leaves(items)[0].shape[0]
        chosen = _chosen(m, count, mask)
        if m == 0:
            return self
        wanted = jnp.sum(chosen, dtype=jnp.int32)
        stored = jnp.minimum(wanted, self.capacity - self.size)
        lost = wanted - stored
        # A count that wrapped round would report no overflow: it stays at the largest int32 instead.
        overflow = self.overflow + jnp.minimum(lost, np.iinfo(np.int32).max - self.overflow)
        return Buffer(_write(self, items, chosen, stored), self.size + stored, overflow)

    def to_array(self, fill: PyTree = 0) -> PyTree:
        """The slots, with each empty one set to `fill`.

        Args:
            fill: a number, or a pytree like the buffer's example of values that broadcast against one item;
                default 0.

        Returns:
            A pytree whose leaves have shape `[capacity, ...]`: `size` items, then `fill`.

        Raises:
            TypeError: `fill` is a fraction, and the slots hold integers or bools.
            ValueError: `fill` does not have the structure or shape of one item, or is a Python number that the dtype of
                its slots cannot hold.
        """
        leaves, structure = jax.tree.flatten(self.data)
        given = jax.tree.structure(fill)
        if given not in (structure, jax.tree.structure(0)):
            raise ValueError(f"fill: expected a number or the structure {structure}, got {given}")
        fills = jax.tree.leaves(fill) if given == structure else [fill] * len(leaves)
        filled = [
            jnp.where(_along(self.valid, leaf), leaf, _filling(value, leaf.dtype, leaf.shape[self.valid.ndim :]))
            for leaf, value in zip(leaves, fills, strict=True)
        ]
        return structure.unflatten(filled)

    def raise_if_overflowed(self, name: str = "buffer") -> "Buffer":
        """Raise on the host if any item did not fit.

        Args:
            name: what to call the buffer in the message.

        Returns:
            The buffer itself.

        Raises:
            BufferOverflowError: an item did not fit, in this buffer or in any of a batch of buffers.
            TypeError: called while tracing, where no value is known yet.
        """
        if isinstance(self.overflow, Tracer):
            raise TypeError(
                f"{name}: raise_if_overflowed needs the numbers, got a tracer; return the buffer from the "
                "transformed function and call it on the result, or use `overflowed` inside"
            )
        overflow = np.asarray(self.overflow)
        if overflow.any():
            lost = int(overflow.max())
            which = f"; {np.count_nonzero(overflow)} of {overflow.size} buffers overflowed, first "
            which += str([int(i) for i in np.argwhere(overflow)[0]])
            raise BufferOverflowError(
                f"{name}: expected at most capacity={self.capacity} items, got {self.capacity + lost} "
                f"({lost} did not fit{which if overflow.ndim else ''}); "
                "make it with a larger capacity, or push fewer items"
            )
        return self


def _filling(value, dtype, shape):
    """`value` as the fill of slots for items of a dtype and shape."""
    given = jnp.result_type(value)
    kinds = (jnp.inexact, jnp.complexfloating)
    if any(jnp.issubdtype(given, kind) and not jnp.issubdtype(dtype, kind) for kind in kinds):
        raise TypeError(f"fill: expected a value that {dtype} can hold, got {given}; give each leaf a fill of its own")
    beside = zip(jnp.shape(value)[::-1], shape[::-1], strict=False)
    if jnp.ndim(value) > len(shape) or any(have not in (1, want) for have, want in beside):
        raise ValueError(f"fill: expected a number or the shape of one item, {shape}, got {jnp.shape(value)}")
    _refuse_too_large("fill", value, dtype)
    return jnp.asarray(value, dtype)


def _along(flags, leaf):
    """`flags [*B, m]` as an array that broadcasts against `leaf [*B, m, ...]`."""
    return flags.reshape(flags.shape + (1,) * (leaf.ndim - flags.ndim))


def _chosen(m, count, mask):
    """The items to append, as a mask `[m]`."""
    if count is not None and mask is not None:
        raise ValueError("count, mask: expected at most one of the two, got both; put the count into the mask")
    if mask is None:
        return jnp.arange(m, dtype=jnp.int32) < (m if count is None else _count(m, count))
    mask = jnp.asarray(mask)
    if mask.shape != (m,) or mask.dtype != bool:
        raise ValueError(f"mask: expected bool[{m}], one for each item, got {mask.dtype}{list(mask.shape)}")
    return mask


def _count(m, count):
    """How many of `m` items, as an int32: a wider or unsigned integer may not be compared with one."""
    if not jnp.issubdtype(jnp.result_type(count), jnp.integer):
        raise TypeError(f"count: expected a whole number, got {count}")
    if jnp.ndim(count):
        raise ValueError(f"count: expected one number, got shape {jnp.shape(count)}; say which items by mask")
    if not isinstance(count, jax.Array):
        return min(max(int(count), 0), m)
    return jnp.minimum(count, min(m, int(jnp.iinfo(count.dtype).max))).astype(jnp.int32)


def _refuse_too_large(name, value, dtype):
    """Raise for a Python integer that would wrap round in slots of a dtype. Arrays are cast as everywhere in JAX."""
    if isinstance(value, int) and jnp.issubdtype(dtype, jnp.integer):
        info = jnp.iinfo(dtype)
        if not info.min <= value <= info.max:
            raise ValueError(f"{name}: expected {info.min} to {info.max}, for slots of {dtype}, got {value}")


def _as_items(buffer, items):
    """`items` as arrays `[m, ...]` of the buffer's dtypes; only Python numbers are cast to them."""
    wanted = jax.tree.structure(buffer.data)
    if jax.tree.structure(items) != wanted:
        raise TypeError(f"items: expected the structure {wanted}, got {jax.tree.structure(items)}")
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(items)}
    if len(lengths) > 1 or () in lengths:
        raise TypeError(f"items: expected one leading axis of the same length on each leaf, got {sorted(lengths)}")

    def convert(slot, leaf):
        leaf = jnp.asarray(leaf)
        if leaf.shape[1:] != slot.shape[1:]:
            raise TypeError(f"items: expected each of shape {slot.shape[1:]}, got {leaf.shape[1:]}")
        same = leaf.dtype == slot.dtype or (leaf.weak_type and jnp.result_type(slot.dtype, leaf) == slot.dtype)
        if not same:
            raise TypeError(f"items: expected dtype {slot.dtype}, got {leaf.dtype}; convert them with astype first")
        return leaf.astype(slot.dtype)

    return jax.tree.map(convert, buffer.data, items)


def _write(buffer, items, chosen, stored):
    """The slots with the first `stored` of the `chosen` items at `size`, `size + 1`, ...

    Every index is in bounds by construction. With `m` items, `c` slots, and `w = min(m, c)`, the most to fit:

    - `order [w]` lists the chosen items' positions. It is scattered into `w + 1` slots: the r-th chosen item
      goes to `min(r, w)`, an item not chosen to `w`, the spare slot that is cut off afterwards.
    - The slots `start .. start + w - 1` are rewritten, with `start = clip(size, 0, c - w)`: the window ends
      at or before slot `c - 1`, and reaches `size + stored - 1`, as `stored <= w`, `size + stored <= c`.
    - Slot `start + k` receives the item number `k - (size - start)` where that lies in `0 .. stored - 1`, and
      keeps its content elsewhere, so nothing stored is damaged; the number is clipped into `0 .. w - 1`
      before it is used.
    """
    capacity, m = buffer.capacity, chosen.shape[0]
    w = min(m, capacity)
    rank = jnp.cumsum(chosen, dtype=jnp.int32) - 1
    slot = jnp.where(chosen, jnp.clip(rank, 0, w), w)
    order = jnp.zeros(w + 1, jnp.int32).at[slot].set(jnp.arange(m, dtype=jnp.int32))[:w]
    start = jnp.clip(buffer.size, 0, capacity - w)
    number = jnp.arange(w, dtype=jnp.int32) - (buffer.size - start)
    is_new = (number >= 0) & (number < stored)
    source = order[jnp.clip(number, 0, w - 1)]

    def write(slots, leaf):
        window = jax.lax.dynamic_slice_in_dim(slots, start, w)
        window = jnp.where(_along(is_new, window), leaf[source], window)
        return jax.lax.dynamic_update_slice_in_dim(slots, window, start, axis=0)

    return jax.tree.map(write, buffer.data, items)
