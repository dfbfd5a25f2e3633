"""From arrays with the batch axis first, one row per problem, to tiles with the lane axis last, and back.

On a GPU or TPU this takes a scatter and a cumulative sum. On the CPU neither can be part of a native function
(`lanes/native.py`), and a tile has few lanes, so there it goes lane by lane. Used by the engine.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from jaxopt_lite.lanes.arithmetic import at, on_cpu, take_where, traced_once
from jaxopt_lite.lanes.lanes_last import lanes_last
from jaxopt_lite.lanes.native import as_one_native_call

__all__ = [
    "Chosen", "batch_size", "blank_lanes", "chosen", "count_up_to", "in_tiles", "load", "load_some", "store",
    "tile_by_tile", "twice",
]  # fmt: skip

_MOST_INDEX = 2**31 - 1


def batch_size(batches: Any, names: str) -> int:
    """The length of the leading axis of all leaves; an error calls these `names`."""
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batches)}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError(
            f"the leading axes of {names} are {sorted(sizes)}; expected one batch axis, the same for all. "
            "What all problems share belongs in `solve`."
        )
    return sizes.pop()[0]


Chosen: TypeAlias = tuple[Int[Array, " B"], Int[Array, ""]]
"""The indices of some problems, in order, at the front of an array; and how many there are."""


def in_tiles(fun: Callable, on: PyTree, width: int, some: Chosen | None = None) -> Callable:
    """`fun`, written for one problem, applied to every problem of a batch, one tile at a time.

    Args:
        fun: a function of pytrees of arrays.
        on: which arguments have a batch axis, first: a tuple of bools for them, or for parts of them. One at least has.
        width: the lanes of a tile. If it does not depend on the batch, no result does.
        some: as for `tile_by_tile`. Without it the result is differentiable.
    """

    def of_batch(*arguments: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten(arguments)
        flags = jax.tree.leaves(jax.tree.broadcast(on, arguments))

        def on_tile(mapped):
            lanes = iter(mapped)
            filled = [next(lanes) if flag else leaf for leaf, flag in zip(leaves, flags, strict=True)]
            return lanes_last(fun, on, keeps_rules=True)(*jax.tree.unflatten(tree, filled))

        over = tile_by_tile(on_tile, width, some, in_place=some is not None)
        return over([leaf for leaf, flag in zip(leaves, flags, strict=True) if flag])

    return of_batch


def tile_by_tile(fun: Callable, width: int, some: Chosen | None = None, in_place: bool = True) -> Callable:
    """`fun`, written for a tile of `width` lanes with the lane axis last, applied to all rows of a batch: arguments and
    results have the batch axis first.

    If `some` rows are given, only these are computed, and the results of the others are zeros. Results that are written
    `in_place` have no derivatives; otherwise they are stacked, which takes longer.
    """

    def of_batch(*rows: PyTree) -> PyTree:
        size = len(jax.tree.leaves(rows)[0])
        filled, picked = rows, some
        if size == 1:  # XLA would see that all lanes hold the same values, and round them differently
            filled, picked = twice(rows), None if some is None else (twice(some[0]), some[1])
        results = _in_place(fun, width, filled, picked) if in_place else _stacked(fun, width, filled)
        return jax.tree.map(lambda leaf: leaf[:size], results)

    return of_batch


def twice(batches: PyTree) -> PyTree:
    """A batch of one problem, twice."""
    return jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batches)


def _tiles(size: int, width: int) -> int:
    """How many tiles to use, at least two: XLA compiles a loop over one tile differently, with other roundings."""
    return max(2, -(-size // width))


def _stacked(fun: Callable, width: int, rows: PyTree) -> PyTree:
    size = len(jax.tree.leaves(rows)[0])
    count = _tiles(size, width)

    def tile(k):
        lanes = k * width + jnp.arange(width, dtype=jnp.int32)
        values = fun(*_gather(rows, jnp.minimum(lanes, size - 1)))
        return store(_blank(width, values), jnp.arange(width), values)

    values = jax.lax.map(tile, jnp.arange(count, dtype=jnp.int32))
    return jax.tree.map(lambda leaf: leaf.reshape(count * width, *leaf.shape[2:]), values)


def _in_place(fun: Callable, width: int, rows: PyTree, some: Chosen | None) -> PyTree:
    """Spare lanes repeat the last row, and write the same values again."""
    size = len(jax.tree.leaves(rows)[0])
    order, length = (None, size) if some is None else some
    fun = traced_once(fun)
    count = _tiles(size, width) if some is None else -(-length // width)

    def tile(k, results):
        lanes = jnp.maximum(k * width, 0) + jnp.arange(width, dtype=jnp.int32)
        source = jnp.minimum(lanes, jnp.maximum(length, 1) - 1)
        if order is not None:
            source = order.at[source].get(mode="promise_in_bounds")
        return store(results, source, fun(*load(rows, source)))

    tile_of = jax.eval_shape(lambda rows: fun(*load(rows, jnp.zeros((width,), jnp.int32))), rows)
    return jax.lax.fori_loop(0, count, tile, _blank(size, tile_of))


def _blank(size: int, tile: PyTree) -> PyTree:
    """Room for so many rows of what a tile holds."""
    return jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape[:-1]), leaf.dtype), tile)


def load(rows: Any, source: Int[Array, " L"]) -> Any:
    """The rows of these problems, one per lane; `source` is in bounds."""
    return _load_in_turn(rows, source, blank_lanes(rows, source.size), None) if on_cpu() else _gather(rows, source)


def load_some(rows: Any, source: Int[Array, " L"], into: Any, where: Bool[Array, " L"]) -> Any:
    """The tiles `into`, in which the lanes of `where` are loaded anew."""
    if on_cpu():
        return _load_in_turn(rows, source, into, _chosen_in_turn(where))
    return take_where(where, _gather(rows, source), into)


def blank_lanes(rows: Any, width: int) -> Any:
    """Tiles of zeros, for rows such as these."""
    return jax.tree.map(lambda leaf: jnp.zeros((*leaf.shape[1:], width), leaf.dtype), rows)


def _load_in_turn(rows, source, tiles, some: Chosen | None):
    # Each row is read from its first number to its last. The derivative of this would be slow; that of a gather is not.
    def put(k, tiles):
        lane = k if some is None else at(some[0], k)

        def one(leaf, tile):
            return jax.lax.dynamic_update_index_in_dim(tile, at(leaf, at(source, lane)), lane, leaf.ndim - 1)

        return jax.tree.map(one, rows, tiles)

    return jax.lax.fori_loop(0, source.size if some is None else some[1], put, tiles)


def _gather(rows, source):
    def one(leaf):
        shape, numbers = leaf.shape[1:], math.prod(leaf.shape[1:])
        if not on_cpu() or leaf.size > _MOST_INDEX:
            return jnp.moveaxis(leaf.at[source].get(mode="promise_in_bounds"), 0, -1)
        # Number by number, without a transpose, which would leave the lanes far apart in memory; a loop over such rows
        # may round its last lanes differently, see `lanes_last`.
        index = source * numbers + jnp.arange(numbers, dtype=source.dtype)[:, None]
        return leaf.reshape(-1).at[index].get(mode="promise_in_bounds").reshape(*shape, source.size)

    return jax.tree.map(one, rows)


def store(rows: Any, slots: Int[Array, " L"], lanes: Any, where: Bool[Array, " L"] | None = None) -> Any:
    """Write every lane to its row. The slots are in bounds; if lanes share one, any of them may win. With `where`, the
    slots of all other lanes must be spare: those lanes may or may not be written.
    """
    if on_cpu():
        return _store_in_turn(rows, slots, lanes, None if where is None else _chosen_in_turn(where))
    return _store_at_once(rows, slots, lanes)


def _store_in_turn(rows, slots, lanes, some: Chosen | None):
    def put(k, rows):
        lane = k if some is None else at(some[0], k)

        def one(leaf, tile):
            return jax.lax.dynamic_update_index_in_dim(leaf, at(tile, lane, -1), at(slots, lane), 0)

        return jax.tree.map(one, rows, lanes)

    return jax.lax.fori_loop(0, slots.size if some is None else some[1], put, rows)


def _store_at_once(rows, slots, lanes):
    def put(leaf, tile):
        return leaf.at[slots].set(jnp.moveaxis(tile, -1, 0), mode="promise_in_bounds")

    return jax.tree.map(put, rows, lanes)


def count_up_to(chosen: Bool[Array, " L"]) -> Int[Array, " L"]:
    """How many of the lanes up to each one, itself included, are chosen."""
    return (_count_in_turn if on_cpu() else _count_at_once)(chosen)


def _count_in_turn(chosen):
    def add(k, carry):
        total, counts = carry
        total += at(chosen, k)
        return total, jax.lax.dynamic_update_index_in_dim(counts, total, k, 0)

    return jax.lax.fori_loop(0, chosen.size, add, (jnp.int32(0), jnp.zeros(chosen.shape, jnp.int32)))[1]


def _count_at_once(chosen):
    return jnp.cumsum(chosen, dtype=jnp.int32)


def chosen(todo: Bool[Array, " B"]) -> Chosen:
    """The problems that are to do."""
    return (as_one_native_call(_chosen_in_turn) if on_cpu() else _chosen_at_once)(todo)


def _chosen_in_turn(todo):
    size, inside = todo.size, lambda index, most: jnp.minimum(jnp.maximum(index, 0), most)

    def add(k, carry):
        order, count = carry
        number = jnp.where(at(todo, k), k, 0).astype(jnp.int32)
        order = jax.lax.dynamic_update_index_in_dim(order, number, inside(count, size), 0)
        return order, count + at(todo, k)

    start = jnp.zeros((size + 1,), jnp.int32), jnp.int32(0)
    order, count = jax.lax.fori_loop(0, size, add, start)
    # Both are in range anyway; this makes it visible.
    return inside(order[:size], max(size - 1, 0)), inside(count, size)


def _chosen_at_once(todo):
    size = todo.size
    target = jnp.where(todo, jnp.cumsum(todo, dtype=jnp.int32) - 1, size)
    order = jnp.zeros((size + 1,), jnp.int32).at[target].set(jnp.arange(size, dtype=jnp.int32))
    return order[:size], jnp.sum(todo, dtype=jnp.int32)
