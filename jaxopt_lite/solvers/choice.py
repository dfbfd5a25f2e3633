"""How a batch is solved: decided once, as data. `pipeline` does what a `Choice` says, and `explain` prints it.

The methods and the answers are the same on every backend.
"""

import math
from enum import IntEnum
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxopt_lite.jaxprs import largest_array, opened
from jaxopt_lite.lanes.arithmetic import on_cpu
from jaxopt_lite.lanes.capture import Signature
from jaxopt_lite.lanes.derivatives import has_hessian
from jaxopt_lite.lanes.engine import Method
from jaxopt_lite.lanes.fan_out import Rows
from jaxopt_lite.lanes.gpu import program, triton
from jaxopt_lite.lanes.gpu.graph import NotInAKernel
from jaxopt_lite.lanes.gpu.program import Program
from jaxopt_lite.lanes.native import why_not_native
from jaxopt_lite.lanes.problem import Function, LaneProblem
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.lanes.widths import EVALUATIONS, FEWEST_IN_A_PART, Lanes, Work, tile_width
from jaxopt_lite.solvers.trust_region import LARGEST

__all__ = [
    "BACKENDS",
    "Backend",
    "Choice",
    "Derivatives",
    "Kind",
    "LeastSquaresSolver",
    "Minimizer",
    "Options",
    "Plan",
    "Reach",
    "RootSolver",
    "Settings",
    "Solver",
    "choose",
    "lanes_for",
    "rows_of",
    "without_numbers",
]

Kind = Literal["root", "minimum", "least squares"]
"""What a solver finds."""

Backend = Literal["auto", "kernel", "loop", "emulate"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
"""What a caller may ask for. `auto` is the loop, which on a CPU is one native function where possible; `kernel` is one
kernel on an NVIDIA GPU, the loop on other platforms, and an error where a kernel is impossible; `emulate` runs that
kernel in JAX's interpreter on any platform, for tests."""

Derivatives = Literal["exact", "gauss-newton"]
"""How the derivatives of a least-squares solution are computed: by the exact Hessian, or with JᵀJ in its place."""


class Settings(Protocol):
    """The settings of a solver: a frozen dataclass, registered as a pytree, whose tolerances are its leaves.

    Attributes:
        work: what a step does to the memory of a lane; the width of a tile follows from it.
        atol: the largest residual, or entry of a gradient, of a solved problem; by default it depends on the dtype.
        rtol: the same, relative to that at the start.
        max_steps: the number of steps after which a lane ends.
    """

    work: ClassVar[Work]

    @property
    def atol(self) -> Any: ...
    @property
    def rtol(self) -> Any: ...
    @property
    def max_steps(self) -> Any: ...

    def methods(self) -> tuple[Method, ...]:
        """The iterations, for the engine: each takes on the lanes that the one before it could not solve."""
        ...


class RootSolver(Settings, Protocol):
    """For `root` and `fixed_point`."""

    kind: ClassVar[Literal["root"]]


class Minimizer(Settings, Protocol):
    """For `minimize`."""

    kind: ClassVar[Literal["minimum"]]


class LeastSquaresSolver(Settings, Protocol):
    """For `least_squares`."""

    kind: ClassVar[Literal["least squares"]]


Solver = RootSolver | Minimizer | LeastSquaresSolver
"""Any solver; `kind` says what it finds, and so which function takes it."""


class Options(NamedTuple):
    """What a caller asks for besides the function, the solver and the numbers; the same for every batch.

    Attributes:
        axes: the batch axis of each leaf of `args`, or None, as `batch.axis_per_leaf` gives them.
        batched: whether there is a batch axis at all.
        has_aux: whether the function returns a pair.
        record: how many steps of progress to record.
        keep_state: whether to return the states, with which a solve can go on.
        backend: one of `BACKENDS`.
        loss: the loss of the residuals, one of `losses.LOSSES`.
        derivatives: those of a least-squares solution, "exact" or "gauss-newton".
    """

    axes: tuple[int | None, ...]
    batched: bool = True
    has_aux: bool = False
    record: int = 0
    keep_state: bool = False
    backend: str = "auto"
    loss: str = "linear"
    derivatives: str = "exact"


class Reach(IntEnum):
    """How far a solve goes for problems that its first method gives up. A plain call compiles only what they need."""

    FIRST = 0
    """No further."""
    ROUNDING = 1
    """It tests whether they are as good as the dtype allows."""
    FALLBACK = 2
    """It gives the others to later methods."""


class Plan(NamedTuple):
    """What does not change from batch to batch: the function, the solver, and what was asked for.

    A problem is `alone` when it is not in a batch: then it need not round as it would in one, and has a tile to itself.
    `reach` is how far a solve goes for problems that its first method gives up.
    """

    function: Function
    solver: Solver
    options: Options
    alone: bool
    reach: Reach = Reach.FALLBACK

    def later_methods(self) -> tuple[Method, ...]:
        """The methods for lanes that the first one gives up.

        For minima and least squares only with a Hessian, few unknowns and no bounds.
        """
        _, *later = self.solver.methods()
        bounded = "lower" in self.function.beside
        if later and self.solver.kind != "root" and (bounded or not _has_hessian(self.function)):
            return ()
        return tuple(later)

    def lanes(self, n: int, dtype) -> Lanes:
        """The lanes that tiles are made of."""
        return lanes_of(jax.tree.structure(self.solver), n, dtype)

    def width(self, batch: int, n: int, dtype, platform: str | None = None) -> int:
        """The number of lanes in a tile on this platform, by default the one that JAX uses."""
        size = None if self.alone else batch
        array_bytes = largest_array(self.function.closed)
        platform = jax.default_backend() if platform is None else platform
        return tile_width(self.lanes(n, dtype), platform, size, array_bytes)


class Choice(NamedTuple):
    """How a batch is solved on a platform.

    Attributes:
        backend: what solves the batch.
        width: the number of lanes in a tile of the loop.
        why_not_native: why the loop is not one native CPU function; None if it is.
        program: what a lane of a kernel does, if one is asked for and possible. Elsewhere than on a GPU it is part of
            the program, for use if that is run on a GPU.
        why_no_kernel: why there is no kernel; empty if there is one.
    """

    backend: Literal["kernel", "native call", "loop"]
    width: int
    why_not_native: str | None
    program: Program | None
    why_no_kernel: str


def _has_hessian(function: Function) -> bool:
    """Whether JAX can differentiate the function twice, and there are few enough unknowns to make that worthwhile."""
    inner, _ = opened(function.closed)
    x, *leaves = (jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in (*inner.invars, *inner.constvars))
    at = function._replace(beside=(), loss=None if function.is_scalar else "linear").objective
    return x.size <= LARGEST and has_hessian(lambda x, *leaves: at(x, leaves), x, *leaves)


def choose(
    plan: Plan, is_mapped: tuple[bool, ...], leaves: tuple, x0, *, platform: str | None = None, resumes: bool = False
) -> Choice:
    """Decide how to solve a batch. Only its shapes and dtypes matter.

    Args:
        plan: what to solve, and by which solver.
        is_mapped: which leaves have a batch axis.
        leaves: the arrays that the function takes besides x.
        x0: the starts, `[B, n]`.
        platform: "cpu", "gpu" or "tpu"; None for the one that JAX uses.
        resumes: whether the solve resumes from states.
    """
    (size, n), platform = x0.shape, jax.default_backend() if platform is None else platform
    has_matrix = not plan.function.is_scalar and plan.solver.work != Work.TERMS
    width, columns = plan.width(size, n, x0.dtype, platform), n if has_matrix else 1
    reason = "only a CPU has native functions"
    if platform == "cpu":
        lane_bytes = plan.lanes(n, x0.dtype).bytes
        on_tile = partial(_on_tile, plan, is_mapped, leaves, x0, width) if on_cpu() else None
        reason = why_not_native(plan.function.closed.jaxpr, width, lane_bytes, columns, on_tile, _own_sum(plan, n))
    loop, why = "loop" if reason else "native call", _why_no_kernel(plan, resumes)
    if not why:
        try:
            traced = program.trace(plan.solver.methods()[0], plan.function, is_mapped, leaves, n, x0.dtype)
            runs = platform == "gpu" or plan.options.backend == "emulate"
            return Choice("kernel" if runs else loop, width, reason, traced, "")
        except NotInAKernel as found:
            why = str(found)
    return Choice(loop, width, reason, None, why)


def _own_sum(plan: Plan, n: int) -> int:
    """The most numbers that a solver itself adds up at once, for one problem of n unknowns: JᵀJ, a matrix, a vector."""
    if plan.solver.kind == "least squares":
        return max(n * n, n + 1) * max(plan.function.size, n)
    return n if plan.solver.work == Work.TERMS else n * n


def _on_tile(plan: Plan, is_mapped: tuple[bool, ...], leaves: tuple, x0, width: int) -> Any:
    """The jaxpr of the function on a tile, with the derivatives that the solver's first method takes of it."""

    def evaluate(x, leaves):
        problem = LaneProblem(plan.function, leaves, is_mapped)
        if plan.solver.kind == "root":
            slope = problem.value_and_slope(x, x)  # a Jacobian is made of the same operations, if there is one
            goes_back = plan.solver.work == Work.TERMS and plan.later_methods()  # for lanes that need more than secants
            return (slope, problem.pullback(x, x)) if goes_back else slope
        return problem.value_and_grad(x) if plan.solver.kind == "minimum" else problem.value_and_jacobian(x)

    def tile(leaf, is_mapped: bool):
        shape = (*leaf.shape[1:], width) if is_mapped else leaf.shape
        return jax.ShapeDtypeStruct(shape, leaf.dtype)

    return jax.make_jaxpr(evaluate)(tile(x0, True), tuple(map(tile, leaves, is_mapped)))


def _why_no_kernel(plan: Plan, resumes: bool) -> str:
    """What rules out a kernel for any function; empty if nothing does."""
    options = plan.options
    if options.backend == "auto":
        return 'only backend="kernel" asks for one, until kernels have been timed on a GPU and found faster'
    if options.backend == "loop":
        return 'backend="loop" forbids it'
    if resumes:
        return "a kernel cannot start from the states that `resume` passes"
    if options.keep_state or options.record:
        wanted = "keep_state" if options.keep_state else "record"
        return f"`{wanted}` needs numbers that a kernel keeps in its registers"
    if plan.function.beside:
        return 'a kernel supports neither bounds nor a loss other than "linear"'
    return triton.why_unavailable() or ""


def without_numbers(solver: Solver) -> Solver:
    """A solver without its traced settings, such as tolerances, on which no method depends."""
    return jax.tree.map(lambda _: None, solver)


@lru_cache(1024)
def lanes_of(settings: Any, n: int, dtype) -> Lanes:
    """The lanes on which a solver with these settings, the structure of its pytree, solves problems of n unknowns."""
    solver = jax.tree.unflatten(settings, [None] * settings.num_leaves)
    state = jax.eval_shape(solver.methods()[0].init, jax.ShapeDtypeStruct((n, 1), dtype))
    return Lanes(solver.work, dtype, sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)))


def lanes_for(solver: Solver, signature: Signature) -> Lanes:
    """The lanes on which a solver works for a function of these arguments."""
    return _lanes_for(jax.tree.structure(solver), signature)


@lru_cache(1024)
@in_own_settings
def _lanes_for(settings: Any, signature: Signature) -> Lanes:
    x, _ = jax.tree.unflatten(signature.tree, signature.flat)
    leaves = jax.tree.leaves(x)
    return lanes_of(settings, sum(leaf.size for leaf in leaves), jnp.result_type(*leaves))


def rows_of(
    x0: PyTree, axes: tuple, solver: Solver, resume: Any = None, *, beside: tuple = (), starts: int = 1
) -> Rows | None:
    """The batch as the last arguments of `pipeline.solved` hold it, whose shapes have been checked.

    None if the batch is too small to divide. In `x0` each problem has that many `starts`; `beside` holds the batch axes
    of the bounds and the loss scale.
    """
    leaves = jax.tree.leaves(x0)
    size = np.shape(leaves[0])[0]
    if size < 2 * FEWEST_IN_A_PART:
        return None
    settings, states = jax.tree.leaves(solver), jax.tree.leaves(resume)
    of_settings = tuple(0 if np.ndim(leaf) else None for leaf in settings)
    unknowns = sum(math.prod(np.shape(leaf)[1:]) for leaf in leaves) // starts
    evaluations = EVALUATIONS[solver.kind]
    arguments = (0,) * len(leaves), axes, of_settings, (0,) * len(states), beside
    return Rows(size, arguments, unknowns, evaluations, starts)
