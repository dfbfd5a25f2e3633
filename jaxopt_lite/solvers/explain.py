"""How a batch will be solved, and why: the question to ask before a long run on an accelerator."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxopt_lite.jaxprs import operations
from jaxopt_lite.lanes import tiles
from jaxopt_lite.lanes.calls import split
from jaxopt_lite.lanes.fan_out import Rows, why_undivided
from jaxopt_lite.lanes.graph import NotInAKernel
from jaxopt_lite.lanes.problem import axis_per_leaf, batch_of, signature_of, trace
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.solvers.broyden import Broyden
from jaxopt_lite.solvers.cascade import Plan
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.paths import PATHS, kernel_for
from jaxopt_lite.solvers.solve import check_function

__all__ = ["Explanation", "explain"]

PLATFORMS = ("cpu", "gpu", "tpu")


@dataclass(frozen=True)
class Explanation:
    """Which path a batch takes on a platform. `str()` of it is a few lines to read.

    Args:
        path: `"kernel"`, one GPU kernel from the first evaluation to the last; `"native call"`, one compiled CPU
            function; `"loop"`, a loop that XLA compiles.
        platform: `"cpu"`, `"gpu"` (an NVIDIA GPU) or `"tpu"`.
        width: how many lanes a tile has.
        tiles: how many tiles work at the same time: one, but for a kernel.
        problems: the problems of the batch.
        reason: why it is not a kernel, or not one native call; empty where it is.
        later: what becomes of the lanes that the first method gives up.
        words: how many 32-bit registers a lane's numbers take in a kernel, where one was considered and traced.
        operations: how many operations on single numbers setting out and a step take together, likewise.
        step_operations: of these, those of a step.
        cores: on how many cores of a CPU a call solves it that is not inside a `jax.jit` or another transformation.
        undivided: why that is one, if so.
    """

    path: Literal["kernel", "native call", "loop"]
    platform: str
    width: int
    tiles: int
    problems: int
    reason: str = ""
    later: str = ""
    words: int | None = None
    operations: int | None = None
    step_operations: int | None = None
    cores: int = 1
    undivided: str = ""

    def __str__(self) -> str:
        way = {
            "kernel": "one GPU kernel",
            "native call": "one native CPU function",
            "loop": "a loop compiled by XLA",
        }[self.path]
        tiles = f"{self.tiles:,} tiles" if self.tiles > 1 else "a tile"
        lines = [f"{self.problems:,} problems on a {self.platform.upper()}: {way}, {tiles} of {self.width:,} lanes."]
        if self.words is not None:
            lines.append(f"A lane has {self.words} numbers of 32 bits in registers and {self.operations:,} operations.")
        if self.reason:
            lines.append(f"{'Not a kernel' if self.platform == 'gpu' else 'Not one function'}: {self.reason}.")
        if self.undivided:
            lines.append(f"On one core: {self.undivided}.")
        elif self.cores > 1:
            lines.append(f"A plain call, inside no jit or other transformation, divides it over {self.cores} cores.")
        return "\n".join([*lines, self.later] if self.later else lines)


@says_what_instead
def explain(
    fun: Callable,
    x0: PyTree,
    args: PyTree = None,
    *,
    solver: Any,
    args_axes: PyTree = 0,
    batched: bool = True,
    has_aux: bool = False,
    record: int = 0,
    keep_state: bool = False,
    platform: Literal["cpu", "gpu", "tpu"] | None = None,
    path: str = "auto",
) -> Explanation:
    """Say how `root` or `minimize` would solve this batch, without solving it. Nothing is compiled.

    Args:
        fun: as for `root` or `minimize`.
        x0: starts; leaves `[B, ...]`, arrays or `jax.ShapeDtypeStruct`s.
        args: as for `minimize`.
        solver: what would solve it; `root` and `minimize` take `Broyden()` and `BFGS()` by themselves.
        args_axes: as for `minimize`.
        batched: as for `minimize`.
        has_aux: as for `minimize`.
        record: as for `minimize`.
        keep_state: as for `minimize`.
        platform: `"cpu"`, `"gpu"` (NVIDIA) or `"tpu"`, even one that is not present; `None`: the one JAX would use.
        path: as for `minimize`.

    Returns:
        An `Explanation`. Its reason names the operation that stands in the way of a kernel, and its line.

    Raises:
        ValueError: an unknown platform or path.

    Example:
        >>> import jax, jax.numpy as jnp, jaxopt_lite as jol
        >>> bowl = lambda x, a: jnp.sum((x - a) ** 2)
        >>> start = jax.ShapeDtypeStruct((1000, 3), jnp.float32)
        >>> print(jol.explain(bowl, start, 1.0, args_axes=None, solver=jol.BFGS(), platform="gpu").path)
        kernel
    """
    chosen: str = jax.default_backend() if platform is None else platform
    if chosen not in PLATFORMS:
        raise ValueError(f"platform={platform!r}: expected one of {', '.join(map(repr, PLATFORMS))}.")
    if path not in PATHS:
        raise ValueError(f"path={path!r}: expected one of {', '.join(map(repr, PATHS))}.")
    check_function(fun)
    fun, args = split(fun, args)
    axes, found = axis_per_leaf(args, args_axes), []
    called = partial(signature_of(x0, args, axes, batched).call, fun)

    @in_own_settings
    def look(x0, args):
        batch, layout = batch_of(x0, args, axes, batched)
        function, batch = trace(called, batch, layout, has_aux)
        found.append(_explained(Plan(function, solver, keep_state, record, not batched, path), batch, chosen))
        return jnp.zeros(())

    jax.eval_shape(look, x0, args)
    return found[0]


def _explained(plan: Plan, batch, platform: str) -> Explanation:
    size, n = batch.x.shape
    dtype, reason = batch.x.dtype, ""
    later = _LATER if isinstance(plan.solver, Broyden) and len(plan.solver.methods()) > 1 else ""
    if platform == "gpu" or plan.path == "emulate":
        try:
            if plan.path == "loop":
                raise NotInAKernel('path="loop" forbids it')
            program = kernel_for(plan, batch.is_mapped, batch.leaves, n, dtype)
            return Explanation(
                "kernel", platform, tiles.KERNEL_WIDTH, tiles.kernel_tiles(size), size, later=later,
                words=program.words, operations=program.operations(program.begin, program.step),
                step_operations=program.operations(program.step),
            )  # fmt: skip
        except NotInAKernel as error:
            reason = str(error)
    width = plan.width(size, n, dtype, platform)
    if platform != "cpu":
        return Explanation("loop", platform, width, 1, size, reason, later)
    columns = 1 if plan.function.is_scalar else n
    why = tiles.why_not_native(plan.function.closed.jaxpr, width, plan.lanes(n, dtype).bytes, columns)
    rows = Rows(size, (), n, tiles.EVALUATIONS[plan.solver.kind])
    computed = operations(plan.function.closed)
    undivided = "it is one problem" if plan.alone else why_undivided(rows, computed)
    return Explanation(
        "loop" if why else "native call", platform, width, 1, size, why or "", later,
        cores=1 if undivided else rows.parts(computed), undivided=undivided or "",
    )  # fmt: skip


_LATER = "Lanes that it gives up as STALLED or NO_ROOT go on in a loop compiled by XLA, by the damped Newton method."
