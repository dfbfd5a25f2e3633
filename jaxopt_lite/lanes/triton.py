"""The one place that knows which compiler makes the GPU kernel: Pallas with its Triton backend.

Another backend replaces this file. A kernel sees arrays of lanes `[rows, lanes]` and reads and writes chosen lanes of
a row; all else it does is elementwise on a tile, with loops and one minimum over the tile.
"""

import warnings
from collections.abc import Callable

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jax.extend.core import Primitive  # pyright: ignore[reportPrivateImportUsage]
from jax.interpreters import mlir

__all__ = ["LANES_PER_WARP", "ds", "launch", "tile_number", "when"]

LANES_PER_WARP = 32

ds, when = pl.ds, pl.when


def tile_number():
    """Which tile this is."""
    return pl.program_id(0)



def launch(kernel: Callable, tiles: int, width: int, operands: list, carried: list, interpret: bool) -> list:
    """Run `kernel(*operands, *carried, *new)` for every tile of `width` lanes, all of them references to arrays.

    The new arrays are the carried ones, in place. With `interpret` the kernel is emulated, on any platform.
    """
    whole = pl.BlockSpec(memory_space=pl.ANY)
    call = pl.pallas_call(
        kernel,
        out_shape=[jax.ShapeDtypeStruct(array.shape, array.dtype) for array in carried],
        grid=(tiles,),
        in_specs=[whole] * (len(operands) + len(carried)),
        out_specs=[whole] * len(carried),
        input_output_aliases={len(operands) + k: k for k in range(len(carried))},
        compiler_params=plgpu.CompilerParams(num_warps=max(1, width // LANES_PER_WARP), num_stages=1),
        interpret=interpret,
        name="lanes",
    )
    if interpret:
        return call(*operands, *carried)
    return _quietly.bind(*operands, *carried, call=call, count=len(carried))


# Pallas says while a call is lowered that this backend will go. That is for us to hear, not for the user.
_quietly = Primitive("lane_kernel")
_quietly.multiple_results = True
_quietly.def_abstract_eval(lambda *arrays, call, count: arrays[len(arrays) - count :])


def _lower_quietly(ctx, *arrays, call, count):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
        return mlir.lower_fun(call, multiple_results=True)(ctx, *arrays)


mlir.register_lowering(_quietly, _lower_quietly, platform="cuda")
