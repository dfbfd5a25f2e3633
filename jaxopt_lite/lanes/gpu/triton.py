"""The one file that knows which compiler makes the GPU kernel: Pallas with its Triton backend.

For another backend, replace this file. A kernel reads and writes chosen entries of rows of arrays; all else it does is
elementwise on a tile of lanes, with loops, sums and a running sum over the tile.
"""

# pyright: reportOptionalMemberAccess=false
# The functions below are called only where the import has succeeded.
import warnings
from collections.abc import Callable

from jax.core import ShapedArray
from jax.extend.core import Primitive  # pyright: ignore[reportPrivateImportUsage]
from jax.interpreters import mlir

try:  # JAX has announced that it will be removed
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton as plgpu
except ImportError:
    pl = plgpu = None

__all__ = ["launch", "store", "tile_number", "why_unavailable"]

_LANES_PER_WARP = 32


def why_unavailable() -> str | None:
    """Why no kernel can be made at all; None if one can."""
    return "this version of JAX has no Triton backend of Pallas" if plgpu is None else None


def tile_number():
    """The number of this tile."""
    return pl.program_id(0)


def store(reference, row: int, index, values, mask) -> None:
    """Write the values of the lanes of `mask` to their entries of a row."""
    plgpu.store(reference.at[row, index], values, mask=mask)


def launch(kernel: Callable, tiles: int, width: int, operands: list, out: list, interpret: bool) -> list:
    """Run `kernel(*operands, *out)` for every tile of `width` lanes, with references to all arrays.

    `out` are shapes and dtypes. With `interpret` the kernel is emulated, on any platform.
    """
    whole = pl.BlockSpec(memory_space=pl.ANY)
    call = pl.pallas_call(
        lambda *references: kernel(*references),
        out_shape=out,
        grid=(tiles,),
        in_specs=[whole] * len(operands),
        out_specs=[whole] * len(out),
        compiler_params=plgpu.CompilerParams(num_warps=max(1, width // _LANES_PER_WARP), num_stages=1),
        interpret=interpret,
        name="lanes",
    )
    if interpret:
        return call(*operands)
    return _quietly.bind(*operands, call=call, out=tuple((spec.shape, spec.dtype) for spec in out))


# Pallas warns that this backend is deprecated when it lowers a call. That concerns this library, not its users.
_quietly = Primitive("lane_kernel")
_quietly.multiple_results = True
_quietly.def_abstract_eval(lambda *arrays, call, out: [ShapedArray(*spec) for spec in out])


def _lower_quietly(ctx, *arrays, call, out):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
        return mlir.lower_fun(call, multiple_results=True)(ctx, *arrays)


mlir.register_lowering(_quietly, _lower_quietly, platform="cuda")
