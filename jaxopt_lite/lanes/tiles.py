"""How many lanes a tile has, and how its loop becomes one native function: every measured choice, in one place.

On the CPU, XLA dispatches the operations of a loop one by one unless the whole loop is small enough to compile as a
single function, which is 5 to 20 times faster for tiny problems. JAX 0.12 does so by itself; earlier versions need a
private attribute on a call around the loop. The width balances vector instructions against the cache: a tile's
matrices should stay in the first two cache levels. `docs/performance.md` has the measurements.
"""

from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata

__all__ = ["as_one_native_loop", "tile_width"]

_WIDEST, _NARROWEST = 64, 16
_CACHE_BYTES = 384 * 1024
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


def tile_width(lane_bytes: int, platform: str, batch: int) -> int:
    """The number of lanes in a tile.

    On the CPU it depends on the problem alone, never on the batch, so that a lane's arithmetic does not either.

    Args:
        lane_bytes: the size of one lane's state.
        platform: "cpu", "gpu" or "tpu".
        batch: the number of problems, which matters where one tile should hold them all.
    """
    if platform == "cpu":
        fitting = _CACHE_BYTES // max(lane_bytes, 1)
        return min(_WIDEST, max(_NARROWEST, _power_of_two(fitting)))
    return min(_GPU_WIDTH, max(128, _power_of_two(2 * batch - 1)))


def _power_of_two(k: int) -> int:
    """The largest power of two not above k, at least 1."""
    return 1 << max(k.bit_length() - 1, 0)


def as_one_native_loop(loop: Callable, jaxpr, width: int, lane_bytes: int) -> Callable:
    """Ask XLA to compile `loop` as one native CPU function, where that is needed and possible.

    `jaxpr` is the user's function: operations inside it decide. On other platforms the request has no effect.
    """
    small = lane_bytes * width <= _LARGEST_NATIVE_STATE
    if _JAX_VERSION >= (0, 12) or not (small and _is_native(jaxpr, width)):
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
