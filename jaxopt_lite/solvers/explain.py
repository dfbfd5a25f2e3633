"""How a batch will be solved, and why: the question to ask before a long run on an accelerator."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxopt_lite.jaxprs import operations
from jaxopt_lite.lanes.batch import Batch, axis_per_leaf, batch_of, signature_of
from jaxopt_lite.lanes.calls import split
from jaxopt_lite.lanes.fan_out import Rows, why_undivided
from jaxopt_lite.lanes.gpu import kernel
from jaxopt_lite.lanes.problem import trace
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.lanes.widths import EVALUATIONS
from jaxopt_lite.solvers.choice import Backend, Options, Plan, Solver, choose
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.pipeline import check_size
from jaxopt_lite.solvers.solve import check_function, check_options, expect
from jaxopt_lite.solvers.tolerances import checked

__all__ = ["Explanation", "explain"]

PLATFORMS = ("cpu", "gpu", "tpu")


@dataclass(frozen=True)
class Explanation:
    """What solves a batch on a platform. `str()` of it is a short summary.

    Attributes:
        backend: `"kernel"`, one GPU kernel from the first evaluation to the last; `"native call"`, one compiled CPU
            function; `"loop"`, a loop that XLA compiles.
        platform: `"cpu"`, `"gpu"` (an NVIDIA GPU) or `"tpu"`.
        width: how many lanes a tile has.
        tiles: how many tiles work at the same time: one, except in a kernel.
        problems: the number of problems in the batch.
        reason: why it is not a kernel, or not one native call; empty if it is.
        later: what becomes of the lanes that the first method gives up.
        words: for a kernel, how many 32-bit registers a lane's numbers take; else None.
        operations: for a kernel, how many operations on single numbers the start and one step take together.
        step_operations: how many of these one step takes.
        cores: how many CPU cores a plain call uses, one not inside a `jax.jit` or another transformation.
        undivided: why that is only one; empty otherwise.
    """

    backend: Literal["kernel", "native call", "loop"]
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
        }[self.backend]
        tiles = f"{self.tiles:,} tiles" if self.tiles > 1 else "a tile"
        lines = [f"{self.problems:,} problems on a {self.platform.upper()}: {way}, {tiles} of {self.width:,} lanes."]
        if self.words is not None:
            lines.append(f"A lane has {self.words} numbers of 32 bits in registers and {self.operations:,} operations.")
        if self.reason:
            lines.append(f"{'Not a kernel' if self.platform == 'gpu' else 'Not one function'}: {self.reason}.")
        if self.undivided:
            lines.append(f"On one core: {self.undivided}.")
        elif self.cores > 1:
            lines.append(f"A plain call, outside jit and other transformations, divides it over {self.cores} cores.")
        return "\n".join([*lines, self.later] if self.later else lines)


@says_what_instead
def explain(
    fun: Callable,
    x0: PyTree,
    args: PyTree = None,
    *,
    solver: Solver,
    args_axes: PyTree = 0,
    batched: bool = True,
    has_aux: bool = False,
    record: int = 0,
    keep_state: bool = False,
    platform: Literal["cpu", "gpu", "tpu"] | None = None,
    backend: Backend = "auto",
) -> Explanation:
    """Say how `root`, `minimize` or `least_squares` would solve this batch, without solving it. Nothing is compiled.

    The call is taken to have no bounds and the loss "linear".

    Args:
        fun: as for the function that takes this solver.
        x0: starts; leaves `[B, ...]`, arrays or `jax.ShapeDtypeStruct`s.
        args: as for `minimize`.
        solver: what would solve it; the default of `root` is `Broyden()`, that of `minimize` is `BFGS()`.
        args_axes: as for `minimize`.
        batched: as for `minimize`.
        has_aux: as for `minimize`.
        record: as for `minimize`.
        keep_state: as for `minimize`.
        platform: `"cpu"`, `"gpu"` (NVIDIA) or `"tpu"`, even one that is not present; `None`: the one JAX would use.
            For `"cpu"`, if JAX would use another platform, only the operations of `fun` itself are examined. An
            operation in its derivatives may still rule out a native call.
        backend: as for `minimize`; on a GPU, where `"kernel"` is impossible, the reason says why.

    Returns:
        An `Explanation`. Its reason names the operation that rules out a kernel, and its line.

    Raises:
        ValueError: an unknown platform or backend, an invalid flag or setting, or a function that does not fit the
            solver.
        TypeError: `fun` is not a function, or `solver` not a solver.

    Example:
        >>> import jax, jax.numpy as jnp, jaxopt_lite as jol
        >>> bowl = lambda x, a: jnp.sum((x - a) ** 2)
        >>> start = jax.ShapeDtypeStruct((1000, 3), jnp.float32)
        >>> how = jol.explain(bowl, start, 1.0, args_axes=None, solver=jol.BFGS(), platform="cpu")
        >>> print(how.backend)
        native call
    """
    chosen: str = jax.default_backend() if platform is None else platform
    if chosen not in PLATFORMS:
        raise ValueError(f"platform={platform!r}: expected one of {', '.join(map(repr, PLATFORMS))}.")
    check_function(fun)
    solver = checked(expect(solver, "explain", "a solver, such as BFGS()", "minimum", "root", "least squares"))
    fun, args = split(fun, args)
    options = Options(axis_per_leaf(args, args_axes), batched, has_aux, record, keep_state, backend)
    check_options(options)
    called, found = partial(signature_of(x0, args, options.axes, batched).call, fun), []

    @in_own_settings
    def look(x0, args):
        batch, layout = batch_of(x0, args, options.axes, batched)
        function, batch = trace(called, batch, layout, has_aux)
        check_size(solver.kind, function, batch)
        found.append(_explained(Plan(function, solver, options, not batched), batch, chosen))
        return jnp.zeros(())

    jax.eval_shape(look, x0, args)
    return found[0]


def _explained(plan: Plan, batch: Batch, platform: str) -> Explanation:
    size, n = batch.x.shape
    later = _LATER if plan.later_methods() else ""
    choice = choose(plan, batch.is_mapped, batch.leaves, batch.x, platform=platform)
    if choice.backend == "kernel":
        program: Any = choice.program
        return Explanation(
            "kernel", platform, kernel.WIDTH, kernel.tiles(size), size, later=later,
            words=program.words, operations=program.operations(program.begin, program.step),
            step_operations=program.operations(program.step),
        )  # fmt: skip
    if platform != "cpu":
        reason = choice.why_no_kernel if platform == "gpu" else ""
        return Explanation(choice.backend, platform, choice.width, 1, size, reason, later)
    computed = operations(plan.function.closed)
    rows = Rows(size, (), n, EVALUATIONS[plan.solver.kind])
    undivided = "it is one problem" if plan.alone else why_undivided(rows, computed)
    return Explanation(
        choice.backend, platform, choice.width, 1, size, choice.why_not_native or "", later,
        cores=1 if undivided else rows.parts(computed), undivided=undivided or "",
    )  # fmt: skip


_LATER = "Problems it leaves as STALLED or NO_ROOT go on with the fallback, in a loop compiled by XLA."
