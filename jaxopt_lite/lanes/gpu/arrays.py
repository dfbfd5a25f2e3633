"""JAX's primitives on whole arrays, where an array is a NumPy array of scalars of a `Graph`.

What only moves numbers (slices, pads, transposes, accesses by a known index) is bookkeeping and leaves no operation
behind. Sums and products become chains of elementwise operations, in a fixed order. Used by `scalar`.
"""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
from jax import lax

from jaxopt_lite.lanes.gpu.elementwise import ELEMENTWISE
from jaxopt_lite.lanes.gpu.graph import Graph, NotInAKernel, is_known, number

__all__ = ["ARRAYS", "as_scalars", "known"]


def as_scalars(array) -> np.ndarray:
    """An array of numbers as an array of scalars."""
    array = np.asarray(array)
    scalars = np.empty(array.shape, object)
    for index in np.ndindex(array.shape):
        scalars[index] = array[index]
    return scalars


def known(array: np.ndarray, what: str) -> np.ndarray:
    """The numbers of an array of scalars, which must be the same in every lane and known in advance."""
    if not all(map(is_known, array.flat)):
        raise NotInAKernel(
            f"{what} depends on the unknowns or on arguments, and a kernel keeps numbers in registers, which have no "
            "addresses"
        )
    return np.array([scalar.item() for scalar in array.flat], array.flat[0].dtype if array.size else int).reshape(
        array.shape
    )


def filled(shape, scalar) -> np.ndarray:
    array = np.empty(shape, object)
    array[...] = scalar
    return array


# --- Moving numbers ------------------------------------------------------------------------------------------


def _broadcast_in_dim(graph, params, x, *_):
    shape, axes = params["shape"], params["broadcast_dimensions"]
    spread = [1] * len(shape)
    for axis, size in zip(axes, x.shape, strict=True):
        spread[axis] = size
    return np.broadcast_to(x.reshape(spread), shape)


def _slice(graph, params, x):
    strides = params["strides"] or (1,) * x.ndim
    return x[tuple(map(slice, params["start_indices"], params["limit_indices"], strides))]


def _pad(graph, params, x, value):
    config = params["padding_config"]
    spread = filled([low + high + size + max(size - 1, 0) * inner
                     for size, (low, high, inner) in zip(x.shape, config, strict=True)], value[()])  # fmt: skip
    for index in np.ndindex(x.shape):
        target = tuple(int(low + i * (inner + 1)) for i, (low, _, inner) in zip(index, config, strict=True))
        if all(0 <= t < size for t, size in zip(target, spread.shape, strict=True)):
            spread[target] = x[index]
    return spread


def _split(graph, params, x):
    return np.split(x, np.cumsum(params["sizes"])[:-1], axis=params["axis"])


def _unstack(graph, params, x):
    moved = np.moveaxis(x, params["axis"], 0)
    return [moved[k, ...] for k in range(len(moved))]


def _iota(graph, params):
    numbers = np.arange(params["shape"][params["dimension"]]).astype(params["dtype"])
    shape = [1] * len(params["shape"])
    shape[params["dimension"]] = -1
    return as_scalars(np.broadcast_to(numbers.reshape(shape), params["shape"]))


def _zeros(graph, params):
    return as_scalars(np.zeros(params.get("shape", ()), params["dtype"]))


def _dynamic_slice(graph, params, x, *start):
    start = _starts(start, x.shape, params["slice_sizes"])
    return x[tuple(slice(s, s + size) for s, size in zip(start, params["slice_sizes"], strict=True))]


def _dynamic_update_slice(graph, params, x, update, *start):
    start = _starts(start, x.shape, update.shape)
    x = x.copy()
    x[tuple(slice(s, s + size) for s, size in zip(start, update.shape, strict=True))] = update
    return x


def _starts(start, shape, sizes) -> list[int]:
    """Where a slice starts; XLA moves one that sticks out back inside."""
    numbers = [int(known(s, "an index")) for s in start]
    return [min(max(s, 0), whole - size) for s, whole, size in zip(numbers, shape, sizes, strict=True)]


def _gather(graph, params, x, indices):
    options = {key: params[key] for key in ("dimension_numbers", "slice_sizes", "mode")}
    sources = _flat_indices(x.shape, known(indices, "an index"), **options)
    inexact = np.issubdtype(x.flat[0].dtype, np.inexact) if x.size else True
    default = params["fill_value"] if params["fill_value"] is not None else (np.nan if inexact else 0)
    missing = number(default, x.flat[0].dtype if x.size else float)
    taken = filled(sources.shape, missing)
    for index in np.ndindex(sources.shape):
        if sources[index] >= 0:
            taken[index] = x.flat[sources[index]]
    return taken


def _flat_indices(shape, indices: np.ndarray, dimension_numbers, slice_sizes, mode) -> np.ndarray:
    """The index, in the flattened array, of each number of a gather; -1 for one outside, if the mode says so."""
    at = dimension_numbers
    single = (*at.collapsed_slice_dims, *at.operand_batching_dims)
    window = [1 if d in single else size for d, size in enumerate(slice_sizes)]
    numbers = np.arange(math.prod(shape)).reshape(shape)
    last = np.array(shape) - np.array(slice_sizes, int)
    rows = []
    for batch in np.ndindex(indices.shape[:-1]):
        start = np.zeros(len(shape), int)
        start[list(at.start_index_map)] = indices[batch]
        start[list(at.operand_batching_dims)] = [batch[d] for d in at.start_indices_batching_dims]
        inside = np.clip(start, 0, last)
        row = numbers[tuple(slice(s, s + size) for s, size in zip(inside, window, strict=True))]
        is_missing = mode == lax.GatherScatterMode.FILL_OR_DROP and np.any(inside != start)
        rows.append(np.full_like(row, -1) if is_missing else row)
    kept = [size for d, size in enumerate(slice_sizes) if d not in single]
    result = np.array(rows, int).reshape([*indices.shape[:-1], *kept])
    of_batch = indices.ndim - 1
    return np.moveaxis(result, range(of_batch, result.ndim), at.offset_dims)


def _scatter(combine: str | None):
    def rule(graph, params, x, indices, updates):
        at = params["dimension_numbers"]
        window = iter([updates.shape[d] for d in at.update_window_dims])
        single = (*at.inserted_window_dims, *at.operand_batching_dims)
        sizes = tuple(1 if d in single else next(window) for d in range(x.ndim))
        gathering = lax.GatherDimensionNumbers(
            at.update_window_dims, at.inserted_window_dims, at.scatter_dims_to_operand_dims,
            at.operand_batching_dims, at.scatter_indices_batching_dims,
        )  # fmt: skip
        mode = params["mode"]
        mode = lax.GatherScatterMode.FILL_OR_DROP if mode is None else mode
        targets = _flat_indices(x.shape, known(indices, "an index"), gathering, sizes, mode)
        result = x.copy()
        for target, update in zip(targets.flat, updates.flat, strict=True):
            if target >= 0:
                old = result.flat[target]
                result.flat[target] = update if combine is None else ELEMENTWISE[combine](graph, {}, old, update)
        return result

    return rule


# --- Combining numbers ---------------------------------------------------------------------------------------


_OF_NONE = {"add": 0, "mul": 1, "max": -np.inf, "min": np.inf, "and": True, "or": False}


def _reduce(combine: str) -> Callable:
    def rule(graph: Graph, params, x):
        axes = params["axes"]
        rest = [axis for axis in range(x.ndim) if axis not in axes]
        count = math.prod(x.shape[axis] for axis in axes)
        rows = x.transpose(*rest, *axes).reshape([*(x.shape[axis] for axis in rest), count])
        result = np.empty(rows.shape[:-1], object)
        for index in np.ndindex(result.shape):
            result[index] = _fold(graph, combine, rows[index], params["out_dtype"])
        return result

    return rule


def _fold(graph: Graph, combine: str, scalars, dtype):
    if not len(scalars):
        return number(_OF_NONE[combine], dtype)
    return functools.reduce(lambda a, b: ELEMENTWISE[combine](graph, {}, a, b), scalars)


def _cumulative(combine: str) -> Callable:
    def rule(graph: Graph, params, x):
        moved = np.moveaxis(x, params["axis"], 0).copy()
        order = range(len(moved))
        order = list(reversed(order)) if params["reverse"] else list(order)
        for before, here in itertools.pairwise(order):
            for index in np.ndindex(moved.shape[1:]):
                moved[(here, *index)] = ELEMENTWISE[combine](graph, {}, moved[(before, *index)], moved[(here, *index)])
        return np.moveaxis(moved, 0, params["axis"])

    return rule


def _arg(compare: str) -> Callable:
    """The first index of the largest or smallest number; of the first NaN if there is one."""

    def rule(graph: Graph, params, x):
        (axis,) = params["axes"]
        moved = np.moveaxis(x, axis, 0)
        result = np.empty(moved.shape[1:], object)
        of = params["index_dtype"]
        for index in np.ndindex(result.shape):
            best, where = moved[(0, *index)], number(0, of)
            for k in range(1, len(moved)):
                here = moved[(k, *index)]
                better = graph("or", graph(compare, here, best), graph("ne", here, here))
                better = graph("and", better, graph("eq", best, best))
                best, where = graph("select", better, here, best), graph("select", better, number(k, of), where)
            result[index] = where
        return result

    return rule


def _dot_general(graph: Graph, params, a, b):
    (a_sum, b_sum), (a_batch, b_batch) = params["dimension_numbers"]
    a_free = [axis for axis in range(a.ndim) if axis not in (*a_sum, *a_batch)]
    b_free = [axis for axis in range(b.ndim) if axis not in (*b_sum, *b_batch)]
    sizes = [[a.shape[axis] for axis in axes] for axes in (a_batch, a_free, a_sum)]
    batch, rows, terms = map(math.prod, sizes)
    b_sizes, dtype = [b.shape[axis] for axis in b_free], params["out_dtype"]
    left = a.transpose(*a_batch, *a_free, *a_sum).reshape(batch, rows, terms)
    right = b.transpose(*b_batch, *b_free, *b_sum).reshape(batch, math.prod(b_sizes), terms)
    result = np.empty((batch, rows, right.shape[1]), object)
    for k, i, j in np.ndindex(result.shape):
        pairs = ([graph.convert(x, dtype) for x in pair] for pair in zip(left[k, i], right[k, j], strict=True))
        result[k, i, j] = _fold(graph, "add", [graph("mul", u, v) for u, v in pairs], dtype)
    return result.reshape([*sizes[0], *sizes[1], *b_sizes])


ARRAYS: dict[str, Callable] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": lambda graph, params, *parts: np.concatenate(parts, axis=params["dimension"]),
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "empty": _zeros,
    "empty2": _zeros,
    "gather": _gather,
    "iota": _iota,
    "pad": _pad,
    "reshape": lambda graph, params, x: x.reshape(params["new_sizes"]),
    "rev": lambda graph, params, x: np.flip(x, params["dimensions"]),
    "slice": _slice,
    "split": _split,
    "squeeze": lambda graph, params, x: x.squeeze(tuple(params["dimensions"])),
    "stack": lambda graph, params, *parts: np.stack(parts, axis=params["axis"]),
    "transpose": lambda graph, params, x: x.transpose(params["permutation"]),
    "unstack": _unstack,
    "scatter": _scatter(None),
    "scatter-add": _scatter("add"),
    "scatter-sub": _scatter("sub"),
    "scatter-mul": _scatter("mul"),
    "scatter-max": _scatter("max"),
    "scatter-min": _scatter("min"),
    "reduce_sum": _reduce("add"),
    "reduce_prod": _reduce("mul"),
    "reduce_max": _reduce("max"),
    "reduce_min": _reduce("min"),
    "reduce_and": _reduce("and"),
    "reduce_or": _reduce("or"),
    "argmax": _arg("gt"),
    "argmin": _arg("lt"),
    "cumsum": _cumulative("add"),
    "cumprod": _cumulative("mul"),
    "cummax": _cumulative("max"),
    "cummin": _cumulative("min"),
}
"""Every primitive on arrays, as `rule(graph, params, *arrays)`."""
