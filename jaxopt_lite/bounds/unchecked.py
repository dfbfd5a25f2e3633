"""Finds the accesses by index that XLA would silently clamp, drop or fill."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import PyTree

from jaxopt_lite.bounds.accesses import Line, access_of, index_given, indices_of, line_of_access
from jaxopt_lite.bounds.intervals import Interval
from jaxopt_lite.bounds.ranges import ranges_of

__all__ = ["Unchecked", "find_unchecked"]


class Unchecked(NamedTuple):
    """One axis of an access by index that is not proved to stay in range.

    Attributes:
        primitive: the primitive that makes it: `gather`, `scatter-add`, `dynamic_slice`, ...; or the function
            of JAX that clips its index first: `switch`, `bincount`, `insert` or `delete`.
        outcome: what happens out of range: "clamped" to the nearest element, "filled" (a read gives NaN or
            another fill value), "dropped" (the write is left out), "clamped or dropped" (`bincount`, below 0
            and above), "wrapped" (a negative index whose type cannot hold the length reaches another element)
            or "undefined" (in range was promised).
        shape: the shape of the array that is read or written; of a `switch`, the number of its branches.
        axis: the axis that is indexed.
        lo: the least the index can be, as far as is known.
        hi: the most it can be.
        limit: the largest index in range: the axis's length less the size of the window.
        file: the source file of the access.
        line: the line in it.
        function: the function the line belongs to.
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
            f"{Line(self.file, self.line, self.function)}: "
            f"{self.primitive} on axis {self.axis} of {self.shape} needs an index in [0, {self.limit}], "
            f"its known range is [{self.lo}, {self.hi}]; out of range it is {self.outcome}"
        )


def find_unchecked(fun: Callable, *args: PyTree, **kwargs: PyTree) -> list[Unchecked]:
    """List the accesses by index in a function that are not proved to stay in range.

    XLA checks no index: a gather or slice out of range is clamped or filled, a scatter dropped. The function
    is traced, not run, and the range of every integer worked out from the constants, `iota`, `argmin`,
    `clip`, `%`, `where` guards, loop counters and so on in it. An access is listed unless all its indices are
    proved to be in range for every argument of these shapes. Nested functions, loops, branches and derivative
    rules as traced are searched too.

    An index counts as JAX sees it, after a negative one has had the length added, but before `lax.switch`,
    `jnp.bincount`, `jnp.insert` or `jnp.delete` clips it. Where the index's type is too narrow to add the
    length (an int8 and 256 elements or more), a negative index is out of range. What the program itself clips
    is in range. Not examined are reads and writes of references (Pallas kernels, `jax.new_ref`), programs that
    `jax.export` made, the indices given to `jnp.unravel_index` and, with it, `jnp.put`, those of `jnp.insert`
    and `jnp.delete` in the derivative of a loop, and a switch of one branch, which leaves no trace in the jaxpr.
    Shapes are those given: another batch size is another program.

    Args:
        fun: any function that JAX can trace.
        *args: arguments to trace it with: arrays, pytrees of arrays or `jax.ShapeDtypeStruct`s. Only shapes
            and dtypes count. Bind arguments that must stay Python values with `functools.partial`.
        **kwargs: keyword arguments, likewise.

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
    found: dict[Unchecked, None] = {}

    def visit(equation, values):
        access = access_of(equation)
        if access is None:
            return
        for axis, limit, index in zip(access.axes, access.limits, indices_of(access, values), strict=True):
            value, outcome = index_given(access, axis, index)
            known = value.interval
            if known not in Interval(0, limit):
                what = (access.by, outcome, access.shape, axis, int(known.lo), int(known.hi), limit)
                found[Unchecked(*what, *line_of_access())] = None

    # A new function each time: for one that it has traced, JAX returns the old trace, even if globals have changed.
    ranges_of(jax.make_jaxpr(lambda *args, **kwargs: fun(*args, **kwargs))(*args, **kwargs), visit)
    return list(found)
