"""Finds the accesses by index that XLA would silently clamp, drop or fill.

Uses `ranges`; used by tests and developers.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import PyTree

from jaxopt_lite.bounds.guards import Value
from jaxopt_lite.bounds.intervals import Interval
from jaxopt_lite.bounds.jaxprs import access_of, place_of, shape_of
from jaxopt_lite.bounds.ranges import unknowns, walk


class Unchecked(NamedTuple):
    """One axis of an access by index that is not proved to stay in range.

    Attributes:
        primitive: The primitive that makes it: `gather`, `scatter-add`, `dynamic_slice`, ...
        outcome: What happens out of range: "clamped" to the nearest place, "filled" (a read gives NaN or
            another fill value), "dropped" (the write is left out) or "undefined" (in range was promised).
        shape: The shape of the array that is read or written.
        axis: The axis that is indexed.
        lo: The least the index can be, as far as is known.
        hi: The most it can be.
        limit: The largest index in range: the axis's length less the size of the window.
        file: The source file of the access.
        line: The line in it.
        function: The function the line belongs to.
    """

    primitive: str
    outcome: str
    shape: tuple[int, ...]
    axis: int
    lo: int
    hi: int
    limit: int
    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line} ({self.function}): "
            f"{self.primitive} on axis {self.axis} of {self.shape} needs an index in [0, {self.limit}], "
            f"known is [{self.lo}, {self.hi}]; out of range it is {self.outcome}"
        )


def find_unchecked(fun: Callable, *args: PyTree, **kwargs: PyTree) -> list[Unchecked]:
    """List the accesses by index in a function that are not proved to stay in range.

    XLA checks no index: a gather or slice out of range is clamped or filled, a scatter dropped. The function
    is traced, not run, and the range of every integer worked out from the constants, `iota`, `argmin`,
    `clip`, `%`, `where` guards, loop counters and so on in it. An access is listed unless all its indices are
    proved to be in range for every argument of these shapes. Nested functions, loops, branches and derivative
    rules as traced are searched too.

    An index counts as JAX sees it, after a negative one has had the length added. Not examined are reads and
    writes of references (Pallas kernels, `jax.new_ref`). Shapes are those given: another batch size is
    another program.

    Args:
        fun: Any function that JAX can trace.
        *args: Arguments to trace it with: arrays, pytrees of arrays or `jax.ShapeDtypeStruct`s. Only shapes
            and dtypes count. Bind arguments that must stay Python values with `functools.partial`.
        **kwargs: Keyword arguments, likewise.

    Returns:
        What was not proved, one entry for each axis, in the order of the program; empty if all is proved.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite import bounds
        >>> found = bounds.find_unchecked(lambda x, i: x[i], jnp.zeros(5), 0)
        >>> found[0].primitive, found[0].outcome, found[0].limit
        ('dynamic_slice', 'clamped', 4)
        >>> bounds.find_unchecked(lambda x, i: x[i % 5], jnp.zeros(5), 0)
        []
    """
    jaxpr = jax.make_jaxpr(fun)(*args, **kwargs)
    found: dict[Unchecked, None] = {}

    def visit(eqn, ins, caller):
        access = access_of(eqn)
        if access is None:
            return
        for axis, limit, index in zip(access.axes, access.limits, _ranges(access, ins), strict=True):
            if index not in Interval(0, limit):
                place = place_of(caller or eqn)
                what = (eqn.primitive.name, access.outcome, access.shape, axis)
                found[Unchecked(*what, int(index.lo), int(index.hi), limit, *place)] = None

    walk(jaxpr, unknowns(jaxpr), visit)
    return list(found)


def _ranges(access, ins):
    """The range of the index for each axis of an access."""
    indices = ins[access.first :]
    return _columns(indices[0], len(access.axes)) if access.packed else [value.interval for value in indices]


def _columns(index: Value, count: int) -> list[Interval]:
    """The range of each column of an index array `[..., count]`, where it was put together from columns."""
    eqn = index.eqn
    if eqn is None or index.name != "concatenate" or eqn.params["dimension"] != len(shape_of(eqn.invars[0])) - 1:
        return [index.interval] * count
    parts = zip(index.args, eqn.invars, strict=True)
    return [interval for part, var in parts for interval in _columns(part, shape_of(var)[-1])]
