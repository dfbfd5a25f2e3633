"""How many lanes a tile has, and how its loop becomes one native function: every measured choice, in one place.

On the CPU, XLA dispatches the operations of a loop one by one unless the whole loop is small enough to compile as a
single function, which is 5 to 20 times faster for tiny problems. JAX 0.12 does so by itself; earlier versions need a
private attribute on a call around the loop. The width is a matter of what LLVM makes of the pass over a lane's matrix:
it unrolls short rows of lanes completely, which keeps the vectors of a rank-two update in registers, and turns a
rank-one update into scalar code. `docs/performance.md` has the measurements.
"""

from collections.abc import Callable
from enum import Enum

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

__all__ = ["Work", "as_one_native_call", "tile_width"]


class Work(Enum):
    """What a step does to the memory of a lane, with the bytes that a row of lanes should have on a CPU for it."""

    RANK_ONE = 512
    RANK_TWO = 128
    TERMS = 256


_FEW_UNKNOWNS, _FEW_ROW_BYTES = 4, 512  # so few that the matrix is no more work than the rest of a step
_CACHE_BYTES, _NARROWEST = 4 << 20, 8  # a tile's state leaves room in the last cache
_GPU_WIDTH = 1 << 17

# XLA gives these to libraries or to its thunk runtime, so a call that holds one cannot be one native function.
_NOT_NATIVE = {
    "conv_general_dilated", "cholesky", "custom_call", "dot_general", "eig", "eigh", "fft", "ffi_call", "lu", "qr",
    "householder_product", "pure_callback", "io_callback", "debug_callback", "reduce_precision", "scatter",
    "scatter-add", "scatter_add", "sort", "svd", "top_k", "triangular_solve", "cumsum", "cumprod", "cumlogsumexp",
    "random_bits", "threefry2x32",
}  # fmt: skip
_LARGEST_NATIVE_REDUCTION = 4096
_LARGEST_NATIVE_ARRAY = 16384  # beyond it XLA may split an operation over threads
_LARGEST_NATIVE_STATE = 1 << 20
_JAX_VERSION = tuple(int(part) for part in jax.__version__.split(".")[:2])


def tile_width(work: Work, n: int, dtype, lane_bytes: int, platform: str, batch: int) -> int:
    """The number of lanes in a tile.

    On the CPU a tile of any width from two rounds alike, so that a batch too small to fill one gets a narrow one; XLA
    makes other sums and products of a single lane, which therefore never has a tile to itself.

    Args:
        work: what the method's steps do.
        n: the number of unknowns.
        dtype: of the unknowns.
        lane_bytes: the size of one lane's state.
        platform: "cpu", "gpu" or "tpu".
        batch: the number of problems.
    """
    if platform == "cpu":
        row_bytes = _FEW_ROW_BYTES if n <= _FEW_UNKNOWNS else work.value
        fitting = _power_of_two(_CACHE_BYTES // max(lane_bytes, 1))
        widest = max(_NARROWEST, min(row_bytes // jnp.dtype(dtype).itemsize, fitting))
        return min(widest, max(2, _power_of_two(2 * batch - 1)))
    return min(_GPU_WIDTH, max(128, _power_of_two(2 * batch - 1)))


def _power_of_two(k: int) -> int:
    """The largest power of two not above k, at least 1."""
    return 1 << max(k.bit_length() - 1, 0)


def as_one_native_call(loop: Callable, jaxpr, width: int, lane_bytes: int) -> Callable:
    """Ask XLA to compile `loop` as one native CPU function, where that is needed and possible.

    `jaxpr` is the user's function: operations inside it decide. On other platforms the request has no effect.
    """
    small = lane_bytes * width <= _LARGEST_NATIVE_STATE
    if not (small and _is_native(jaxpr, width)):
        return loop

    def without_attribute(*operands):
        with set_xla_metadata(xla_cpu_small_call=None, inlineable=None):
            return loop(*operands)

    jitted = jax.jit(without_attribute)

    def call(*operands):
        with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
            return jitted(*operands)

    return call


def _is_native(jaxpr, width: int) -> bool:
    """Whether every operation of a jaxpr, on a tile, can be part of a native function."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in _NOT_NATIVE:
            return False
        # A broadcast becomes a reduction of its output in the derivative.
        reduced = equation.invars[:1] if name.startswith("reduce") else []
        reduced = equation.outvars if name == "broadcast_in_dim" else reduced
        if any(operand.aval.size * width >= _LARGEST_NATIVE_REDUCTION for operand in reduced):
            return False
        if any(out.aval.size * width > _LARGEST_NATIVE_ARRAY for out in equation.outvars):
            return False
        if not all(_is_native(inner, width) for inner in _inner_jaxprs(equation.params)):
            return False
    return True


def _inner_jaxprs(params):
    for leaf in jax.tree.leaves(list(params.values()), is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
        if hasattr(leaf, "eqns"):
            yield leaf
        elif hasattr(leaf, "jaxpr"):
            yield leaf.jaxpr
