"""Which way a batch is solved: by one GPU kernel, by one native CPU call, or by a loop that XLA compiles.

The methods and the answers are the same on all of them. `cascade` follows the choice and `explain` reports it.
"""

from typing import Any

import jax

from jaxopt_lite.lanes import program, tiles, triton
from jaxopt_lite.lanes.graph import DTYPES, NotInAKernel
from jaxopt_lite.lanes.problem import LaneProblem
from jaxopt_lite.lanes.program import Program

__all__ = ["PATHS", "kernel_for"]

PATHS = ("auto", "kernel", "loop", "emulate")
"""What a caller may ask for: `auto` takes a kernel on a CUDA device where there can be one, `kernel` insists on it,
`loop` never does, and `emulate` runs the kernel in JAX's interpreter, on any platform, to test it."""


def kernel_for(plan: Any, is_mapped: tuple[bool, ...], leaves: tuple, n: int, dtype) -> Program:
    """The kernel of a plan's first method.

    Args:
        plan: what to solve, by which solver.
        is_mapped: which leaves have a batch axis.
        leaves: what a problem is given by; only their shapes and dtypes matter.
        n: the number of unknowns.
        dtype: of the unknowns.

    Raises:
        NotInAKernel: with the reason.
    """
    unavailable = triton.why_unavailable()
    if unavailable:
        raise NotInAKernel(unavailable)
    if plan.keep_state or plan.record:
        wanted = "keep_state" if plan.keep_state else "record"
        raise NotInAKernel(f"`{wanted}` wants numbers that a kernel does not bring out of its registers")
    strange = [str(leaf.dtype) for leaf in leaves if str(leaf.dtype) not in DTYPES]
    if strange:
        raise NotInAKernel(f"an argument is {strange[0]}, and a kernel takes {', '.join(DTYPES)}")
    mapped, shared = [], []
    for leaf, flag in zip(leaves, is_mapped, strict=True):
        (mapped if flag else shared).append(jax.ShapeDtypeStruct(leaf.shape[1:] if flag else leaf.shape, leaf.dtype))

    def bind(mapped, shared):
        mapped, shared = iter(mapped), iter(shared)
        every = tuple(next(mapped) if flag else next(shared) for flag in is_mapped)
        return LaneProblem(plan.function, every, is_mapped)

    traced = program.trace(plan.solver.methods()[0], bind, n, dtype, mapped, shared)
    operations = traced.operations(traced.begin, traced.step)
    reason = tiles.why_no_kernel(dtype, traced.words, operations)
    if reason:
        raise NotInAKernel(reason)
    return traced
