"""A large batch on every core of a CPU: one program, run on several parts of the batch at the same time.

What this library compiles runs on one core, however many there are. But programs that are started from several Python
threads run side by side on one device. So a call that is not part of a larger program divides its batch into parts of
equal size, which share a program; each part is started from a thread of its own, and another program joins the results.
No answer depends on it: a problem's bits are the same in any batch (`docs/design.md`).
"""

import os
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import get_opaque_trace_state
from jaxtyping import Array, PyTree

from jaxopt_lite.cores import cores
from jaxopt_lite.lanes import widths
from jaxopt_lite.lanes.settings import in_own_settings

__all__ = ["Part", "Rows", "computes_now", "fan_out", "part_size", "why_undivided"]

_PATIENCE = 0.05  # seconds that a part waits for a thread; then the caller runs it, so that nothing deadlocks
_NOTHING = object()


class Rows(NamedTuple):
    """The batch in the arguments of a call.

    Attributes:
        size: how many problems.
        axes: for each argument, the batch axes of its leaves; None where all problems share a leaf.
        unknowns: how many a problem has.
        evaluations: about how many a problem takes.
        calls: calls of the function per evaluation: one for each of many starts or examples.
    """

    size: int
    axes: tuple[tuple[int | None, ...], ...]
    unknowns: int
    evaluations: int
    calls: int = 1

    def parts(self, operations: int) -> int:
        """How many parts to divide it into, if a call of the function computes `operations` numbers."""
        return min(cores(), widths.parts(self.size, self.unknowns, self.calls * operations, self.evaluations))


class Part(NamedTuple):
    """`core`, for `capture.run`, on `size` problems of a batch; one more argument is the index of the first."""

    core: Callable
    rows: Rows
    size: int

    def __call__(self, *operands: Any) -> PyTree:
        first = len(operands) - 1 - len(self.rows.axes)
        *arguments, start = operands[first:]
        cut = [self._cut(*each, start) for each in zip(arguments, self.rows.axes, strict=True)]
        return self.core(*operands[:first], *cut)

    def _cut(self, argument: PyTree, axes: tuple[int | None, ...], start) -> PyTree:
        leaves, tree = jax.tree.flatten(argument)
        return jax.tree.unflatten(tree, [
            leaf if axis is None else jax.lax.dynamic_slice_in_dim(leaf, start, self.size, axis)
            for leaf, axis in zip(leaves, axes, strict=True)
        ])  # fmt: skip


def computes_now(arguments: PyTree) -> bool:
    """Whether a call with these arguments runs on the CPU at once, not as part of a larger program."""
    if jax.default_backend() != "cpu" or jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
        return False
    if get_opaque_trace_state(convention="nnx") != _no_trace():
        return False
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments))


@lru_cache(1)
def _no_trace() -> Any:
    """JAX's trace state outside of any trace; taken in a new thread, as this may be called within a trace."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(get_opaque_trace_state, convention="nnx").result()


def part_size(rows: Rows, operations: int, arguments: Sequence[PyTree]) -> int | None:
    """How many problems each part has, in a call that `computes_now`; None if the batch is not divided."""
    if why_undivided(rows, operations):
        return None
    sizes = {
        np.shape(leaf)[axis]
        for argument, axes in zip(arguments, rows.axes, strict=True)
        for leaf, axis in zip(jax.tree.leaves(argument), axes, strict=True)
        if axis is not None
    }
    if sizes != {rows.size}:
        return None  # `core` will say what is wrong
    return -(-rows.size // rows.parts(operations))


def why_undivided(rows: Rows, operations: int) -> str | None:
    """Why a call that is not part of a larger program solves its batch on one CPU core; None if it does not.

    A call of the function computes `operations` numbers.
    """
    if rows.parts(operations) == 1:
        if cores() == 1:
            return "this process may use one core"
        return "it is so little work that starting a second thread would take as long"
    if jax.local_device_count("cpu") > 1:
        return "JAX has several devices here, over which `over_devices` divides it"
    return None


def fan_out(
    part: Callable[..., PyTree], arguments: Sequence[PyTree], rows: Rows, size: int, settings: Callable[[], Hashable]
) -> PyTree:
    """`part(*arguments, start)` for parts of `size` problems, side by side, with their results joined.

    The first part runs in this thread, because it may have to be compiled. JAX's settings belong to a thread: one with
    different settings leaves its part to this thread.
    """
    # Once for all parts, and copied, because parts may still run when the caller changes the array.
    arguments = jax.tree.map(lambda leaf: _copied(leaf) if isinstance(leaf, np.ndarray) else leaf, arguments)
    starts = [_on_device(min(k * size, rows.size - size)) for k in range(-(-rows.size // size))]
    results, wanted = [part(*arguments, starts[0])], settings()

    @in_own_settings
    def elsewhere(start: Array) -> Any:
        return part(*arguments, start) if settings() is wanted else _NOTHING

    waiting = [(start, _submitted(elsewhere, start)) for start in starts[1:]]
    for start, future in waiting:
        result = _result(future)
        results.append(part(*arguments, start) if result is _NOTHING else result)
    return _joined(results, rows.size)


def _copied(array: np.ndarray) -> Array:
    return jax.device_put(np.array(array))  # NumPy copies now; JAX may use the array itself, or copy it later


def _submitted(fun: Callable, *arguments: Any) -> Future | None:
    """None if Python is shutting down."""
    try:
        return _threads(cores() - 1).submit(fun, *arguments)
    except RuntimeError:
        return None


def _result(future: Future | None) -> Any:
    """`_NOTHING` if no thread was free: all of them may be waiting for results like this one."""
    if future is None:
        return _NOTHING
    try:
        return future.result(_PATIENCE)
    except NotYet:
        return _NOTHING if future.cancel() else future.result()


@lru_cache(1)
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "jaxopt_lite")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # threads stay with the parent process


@lru_cache(1024)
def _on_device(start: int) -> Array:
    return jax.device_put(np.int32(start))


@partial(jax.jit, static_argnames="size")
def _joined(parts: list[PyTree], size: int) -> PyTree:
    """The parts joined. The last overlaps the one before, to be as long as the others; the overlap is cut off."""

    def join(*leaves):
        *others, last = leaves
        rest = size - sum(map(len, others))
        return jnp.concatenate([*others, last[len(last) - rest :]])

    return jax.tree.map(join, *parts)
