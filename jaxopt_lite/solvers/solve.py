"""The front door: `root` and `minimize` check their arguments and pass them to `solve`."""

from collections.abc import Callable
from typing import Any

from jaxtyping import PyTree

from jaxopt_lite.arguments import flag, one_of, whole_number
from jaxopt_lite.lanes.batch import axis_per_leaf, signature_of
from jaxopt_lite.lanes.calls import call, split
from jaxopt_lite.lanes.capture import run
from jaxopt_lite.lanes.devices import check_together
from jaxopt_lite.lanes.settings import checks_numbers, unchecked_numbers
from jaxopt_lite.solvers.bfgs import BFGS
from jaxopt_lite.solvers.box import axes_of, checked_bounds
from jaxopt_lite.solvers.broyden import Broyden
from jaxopt_lite.solvers.choice import (
    BACKENDS,
    Backend,
    Minimizer,
    Options,
    RootSolver,
    Solver,
    lanes_for,
    rows_of,
)
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.pipeline import SHORTER, solved, solved_in_a_program
from jaxopt_lite.solvers.solution import Solution
from jaxopt_lite.solvers.tolerances import checked

__all__ = ["check_function", "check_options", "expect", "minimize", "root", "solve"]


@says_what_instead
def root(
    fun: Callable,
    x0: PyTree,
    args: PyTree = None,
    *,
    solver: RootSolver | None = None,
    args_axes: PyTree = 0,
    batched: bool = True,
    has_aux: bool = False,
    record: int = 0,
    keep_state: bool = False,
    resume: Any = None,
    backend: Backend = "auto",
) -> Solution:
    """Solve F(x) = 0 for a batch of problems in one call.

    Args:
        fun: `fun(x, args) -> residual`, written for one problem; the residual has as many numbers as `x`. Without args
            it may be `fun(x)`.
        x0: starts; a pytree whose leaves are `[B, ...]`.
        args: a pytree passed to `fun`, one entry per problem along the leading axis. Strings, functions and bools among
            its leaves are passed as they are.
        solver: `Broyden()` (the default) or `LimitedBroyden()`, with its tolerances.
        args_axes: like `jax.vmap`'s `in_axes` for `args`: `None` for what all problems share.
        batched: False to solve one problem, without a batch axis anywhere.
        has_aux: whether `fun` returns `(residual, aux)`.
        record: how many steps of progress to record in `Solution.history`.
        keep_state: whether to keep, in `Solution.state`, what is needed to go on with problems that ran out of steps.
        resume: the `state` of an earlier solution of the same problems; pass a larger `max_steps` with it.
        backend: how to compute it. `"auto"` and `"loop"`: by a loop that XLA compiles, on a CPU as one native function
            where possible (`explain` says whether it is); `"kernel"`: by one kernel on an NVIDIA GPU, by the loop on
            other platforms, and an error where a kernel is impossible; `"emulate"`: by an emulated kernel, for tests.

    Returns:
        A `Solution`. Its derivatives with respect to `args`, and to anything `fun` closes over, are those of the
        implicit function theorem.

    Raises:
        ValueError: shapes that do not fit; the message names the argument.
        TypeError: complex or non-numeric unknowns; a function that cannot be called as fun(x, args), or that JAX cannot
            differentiate as the solver needs; an unknown keyword.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> a = jnp.array([[1.0], [2.0], [3.0]])
        >>> sol = jol.root(lambda x, a: jnp.cos(x) - a * x, jnp.ones((3, 1)), a)
        >>> bool(sol.success.all())
        True
    """
    chosen = expect(Broyden() if solver is None else solver, "root", "Broyden() or LimitedBroyden()", "root")
    return solve(
        fun, x0, args, chosen, args_axes, resume,
        batched=batched, has_aux=has_aux, record=record, keep_state=keep_state, backend=backend,
    )  # fmt: skip


@says_what_instead
def minimize(
    fun: Callable,
    x0: PyTree,
    args: PyTree = None,
    *,
    bounds: tuple[Any, Any] | list[Any] | None = None,
    solver: Minimizer | None = None,
    args_axes: PyTree = 0,
    batched: bool = True,
    has_aux: bool = False,
    record: int = 0,
    keep_state: bool = False,
    resume: Any = None,
    backend: Backend = "auto",
) -> Solution:
    """Minimize f(x) for a batch of problems in one call.

    Args:
        fun: `fun(x, args) -> scalar`, written for one problem, smooth and differentiable by JAX. Without args it may be
            `fun(x)`.
        x0: starts; a pytree whose leaves are `[B, ...]`. A start outside the bounds is moved onto them.
        args: a pytree passed to `fun`, one entry per problem along the leading axis. Strings, functions and bools among
            its leaves are passed as they are.
        bounds: `(lower, upper)`, each one number for all unknowns, or a pytree like `x0` of arrays that broadcast
            against its leaves: `[n]` for all problems, `[B, n]` for one set per problem. Infinite or None means no
            bound; equal bounds fix an unknown. `fun` is evaluated only within the bounds.
        solver: `BFGS()` (the default) or `LBFGS()` for many unknowns, with its tolerances.
        args_axes: like `jax.vmap`'s `in_axes` for `args`: `None` for what all problems share.
        batched: False to solve one problem, without a batch axis anywhere.
        has_aux: whether `fun` returns `(value, aux)`.
        record: how many steps of progress to record in `Solution.history`.
        keep_state: whether to keep, in `Solution.state`, what is needed to go on with problems that ran out of steps.
        resume: the `state` of an earlier solution of the same problems; pass a larger `max_steps` with it.
        backend: how to compute it. `"auto"` and `"loop"`: by a loop that XLA compiles, on a CPU as one native function
            where possible (`explain` says whether it is); `"kernel"`: by one kernel on an NVIDIA GPU, by the loop on
            other platforms, and an error where a kernel is impossible; `"emulate"`: by an emulated kernel, for tests.

    Returns:
        A `Solution`. With bounds, `active` says which unknowns are at one, and their `grad` is by how much the minimum
        changes with the bound. Derivatives of the solution with respect to `args`, the bounds, and anything `fun`
        closes over are those of the implicit function theorem, for the unknowns that no bound holds.

    Raises:
        ValueError: shapes that do not fit, bounds that exclude each other; the message names the argument.
        TypeError: complex or non-numeric unknowns; a function that cannot be called as fun(x, args), or that JAX cannot
            differentiate as the solver needs; an unknown keyword.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> rosenbrock = lambda x, a: a * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
        >>> sol = jol.minimize(rosenbrock, jnp.zeros((4, 2)), 10.0 * jnp.arange(1.0, 5.0))
        >>> bool(jnp.allclose(sol.x, 1.0, atol=1e-2))
        True
    """
    chosen = expect(BFGS() if solver is None else solver, "minimize", "BFGS() or LBFGS()", "minimum")
    return solve(
        fun, x0, args, chosen, args_axes, resume, checked_bounds(bounds, x0),
        batched=batched, has_aux=has_aux, record=record, keep_state=keep_state, backend=backend,
    )  # fmt: skip


def expect(solver: Any, caller: str, wanted: str, *kinds: str) -> Solver:
    """The solver, if it is of one of these kinds; otherwise raises TypeError."""
    if isinstance(solver, type) or getattr(solver, "kind", None) not in kinds:
        raise TypeError(f"solver={solver!r} does not fit `{caller}`: expected {wanted}.")
    return solver


def check_function(fun) -> None:
    """Raises TypeError if this is not a function."""
    if not callable(fun):
        raise TypeError(f"fun is {type(fun).__name__}; expected a function fun(x, args).")


def check_options(asked: Options) -> None:
    """Raises ValueError for an invalid flag, number of records or backend."""
    for name in ("batched", "has_aux", "keep_state"):
        flag(name, getattr(asked, name))
    whole_number("record", asked.record, least=0)
    one_of("backend", asked.backend, BACKENDS)


def solve(
    fun: Callable,
    x0: PyTree,
    args: PyTree,
    solver: Solver,
    args_axes: PyTree,
    resume: Any = None,
    beside: dict[str, PyTree] | None = None,
    called: Callable = call,
    **options: Any,
) -> Solution:
    """What `root`, `minimize` and `least_squares` share: the solver says which of them it is.

    What is solved is `called(fun, x, args, hint)`, as `calls.call` calls a function.
    """
    check_function(fun)
    solver = checked(solver)
    fun, args = split(fun, args)
    asked = Options(axis_per_leaf(args, args_axes), **options)
    check_options(asked)
    check_together(x0=x0, args=args, solver=solver, resume=resume, **(beside or {}))
    signature = signature_of(x0, args, asked.axes, asked.batched, called)
    rows, lanes = (None, None)
    if asked.batched:
        aside = axes_of(beside or {}, x0, asked.batched)
        rows, lanes = rows_of(x0, asked.axes, solver, resume, beside=aside), lanes_for(solver, signature)
    functions = [(fun, signature)]

    def answer(asked: Options) -> Solution:
        return run(
            solved, (asked,), functions, x0, args, solver, resume, beside,
            rows=rows, lanes=lanes, shorter=SHORTER[solver.kind], in_a_program=solved_in_a_program,
        )  # fmt: skip

    if not (checks_numbers() and (asked.record or asked.keep_state)):
        return answer(asked)
    # Records end in NaN and states hold infinity, so JAX checks an answer without them.
    answer(asked._replace(record=0, keep_state=False))
    with unchecked_numbers():
        return answer(asked)
