"""The front door: check the input, solve the batch, verify every answer, report."""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxopt_lite.lanes.arithmetic import max_abs
from jaxopt_lite.lanes.calls import split
from jaxopt_lite.lanes.capture import Signature, run
from jaxopt_lite.lanes.derivatives import value_and_grad
from jaxopt_lite.lanes.engine import Limits, Outcome
from jaxopt_lite.lanes.fan_out import Rows
from jaxopt_lite.lanes.problem import Batch, Function, axis_per_leaf, batch_of, signature_of, trace
from jaxopt_lite.lanes.settings import checks_numbers, in_own_settings, unchecked_numbers
from jaxopt_lite.lanes.status import Status, is_solved
from jaxopt_lite.lanes.tiles import EVALUATIONS, FEWEST_IN_A_PART, Lanes
from jaxopt_lite.solvers import cascade
from jaxopt_lite.solvers.bfgs import BFGS
from jaxopt_lite.solvers.broyden import Broyden
from jaxopt_lite.solvers.cascade import Plan, without_numbers
from jaxopt_lite.solvers.implicit import known, with_implicit_derivatives
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.solvers.limited_broyden import LimitedBroyden
from jaxopt_lite.solvers.paths import PATHS
from jaxopt_lite.solvers.solution import History, Solution
from jaxopt_lite.solvers.tolerances import checked
from jaxopt_lite.solvers.tolerances import limits as limits_of

__all__ = ["check_function", "expect", "lanes_for", "minimize", "root", "rows_of", "solve", "solved"]

Kind = Literal["root", "minimum"]
RootSolver = Broyden | LimitedBroyden
Minimizer = BFGS | LBFGS


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
    path: str = "auto",
) -> Solution:
    """Solve F(x) = 0 for a batch of problems in one call.

    Args:
        fun: `fun(x, args) -> residual`, written for one problem; the residual has as many numbers as `x`. It may be
            `fun(x)` where there are no args.
        x0: starts; a pytree whose leaves are `[B, ...]`.
        args: a pytree passed to `fun`, one entry a problem along the leading axis. Names, functions, `True` and `False`
            among its leaves are passed as they are.
        solver: `Broyden()` (the default) or `LimitedBroyden()`, with its tolerances.
        args_axes: like `jax.vmap`'s `in_axes` for `args`: `None` for what all problems share.
        batched: False to solve one problem, without a batch axis anywhere.
        has_aux: whether `fun` returns `(residual, aux)`.
        record: how many steps of progress to record, `Solution.history`.
        keep_state: keep what is needed to go on with lanes that ran out of steps, `Solution.state`.
        resume: the `state` of an earlier solution of the same problems; pass a larger `max_steps` with it.
        path: how to compute it. `"auto"`: by a kernel on an NVIDIA GPU where possible (`explain` says whether it is);
            `"kernel"`: the same, but an error where it is not possible; `"loop"`: never by a kernel.

    Returns:
        A `Solution`. Its derivatives with respect to `args`, and to anything `fun` closes over, are those of the
        implicit function theorem.

    Raises:
        ValueError: shapes that do not fit; the message names the argument.
        TypeError: complex or non-numeric unknowns; a function that is not called as fun(x, args), or that JAX cannot
            differentiate as the solver needs; a keyword that is not one.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> sol = jol.root(lambda x, a: jnp.cos(x) - a * x, jnp.ones((3, 1)), jnp.array([[1.0], [2.0], [3.0]]))
        >>> bool(sol.success.all())
        True
    """
    solver = expect(Broyden() if solver is None else solver, RootSolver, "root", "Broyden() or LimitedBroyden()")
    return solve(fun, x0, args, solver, args_axes, batched, has_aux, record, keep_state, resume, path)


@says_what_instead
def minimize(
    fun: Callable,
    x0: PyTree,
    args: PyTree = None,
    *,
    solver: Minimizer | None = None,
    args_axes: PyTree = 0,
    batched: bool = True,
    has_aux: bool = False,
    record: int = 0,
    keep_state: bool = False,
    resume: Any = None,
    path: str = "auto",
) -> Solution:
    """Minimise f(x) for a batch of problems in one call.

    Args:
        fun: `fun(x, args) -> scalar`, written for one problem, smooth and differentiable by JAX. It may be `fun(x)`
            where there are no args.
        x0: starts; a pytree whose leaves are `[B, ...]`.
        args: a pytree passed to `fun`, one entry a problem along the leading axis. Names, functions, `True` and `False`
            among its leaves are passed as they are.
        solver: `BFGS()` (the default) or `LBFGS()` for many unknowns, with its tolerances.
        args_axes: like `jax.vmap`'s `in_axes` for `args`: `None` for what all problems share.
        batched: False to solve one problem, without a batch axis anywhere.
        has_aux: whether `fun` returns `(value, aux)`.
        record: how many steps of progress to record, `Solution.history`.
        keep_state: keep what is needed to go on with lanes that ran out of steps, `Solution.state`.
        resume: the `state` of an earlier solution of the same problems; pass a larger `max_steps` with it.
        path: how to compute it. `"auto"`: by a kernel on an NVIDIA GPU where possible (`explain` says whether it is);
            `"kernel"`: the same, but an error where it is not possible; `"loop"`: never by a kernel.

    Returns:
        A `Solution`. Its derivatives with respect to `args`, and to anything `fun` closes over, are those of the
        implicit function theorem.

    Raises:
        ValueError: shapes that do not fit; the message names the argument.
        TypeError: complex or non-numeric unknowns; a function that is not called as fun(x, args), or that JAX cannot
            differentiate as the solver needs; a keyword that is not one.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> rosenbrock = lambda x, a: a * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
        >>> sol = jol.minimize(rosenbrock, jnp.zeros((4, 2)), 10.0 * jnp.arange(1.0, 5.0))
        >>> bool(jnp.allclose(sol.x, 1.0, atol=1e-2))
        True
    """
    solver = expect(BFGS() if solver is None else solver, Minimizer, "minimize", "BFGS() or LBFGS()")
    return solve(fun, x0, args, solver, args_axes, batched, has_aux, record, keep_state, resume, path)


def expect(solver, kind, caller: str, wanted: str):
    """The solver, where it is one of this kind; else a TypeError."""
    if not isinstance(solver, kind):
        raise TypeError(f"solver={solver!r} does not fit `{caller}`: expected {wanted}.")
    return solver


def check_function(fun) -> None:
    """Raises TypeError for what is no function."""
    if not callable(fun):
        raise TypeError(f"fun is {type(fun).__name__}; expected a function fun(x, args).")


def solve(
    fun, x0, args, solver, args_axes, batched, has_aux, record=0, keep_state=False, resume=None, path="auto"
) -> Solution:
    """What `root` and `minimize` share: the solver says which of the two it is."""
    check_function(fun)
    if record < 0:
        raise ValueError(f"record={record}: expected how many steps to record, 0 for none.")
    if path not in PATHS:
        raise ValueError(f"path={path!r}: expected one of {', '.join(map(repr, PATHS))}.")
    solver = checked(solver)
    fun, args = split(fun, args)
    axes = axis_per_leaf(args, args_axes)
    options = axes, batched, has_aux, record, keep_state, path
    signature = signature_of(x0, args, axes, batched)
    rows, lanes = (rows_of(x0, axes, solver, resume), lanes_for(solver, signature)) if batched else (None, None)
    functions = [(fun, signature)]

    def call(options) -> Solution:
        return run(solved, options, functions, x0, args, solver, resume, rows=rows, lanes=lanes, short=_briefly)

    if not (checks_numbers() and (record or keep_state)):
        return call(options)
    # Records end in NaN and states hold infinity, so that what JAX checks is an answer without them.
    call((axes, batched, has_aux, 0, False, path))
    with unchecked_numbers():
        return call(options)


def rows_of(x0, axes, solver, resume=None, starts: int = 1) -> Rows | None:
    """The batch in the last arguments of `solved`, whose shapes have been checked; None for one so small that it has
    one part. `x0` has so many starts of each problem.
    """
    leaves = jax.tree.leaves(x0)
    size = np.shape(leaves[0])[0]
    if size < 2 * FEWEST_IN_A_PART:
        return None
    settings, states = jax.tree.leaves(solver), jax.tree.leaves(resume)
    of_settings = tuple(0 if np.ndim(leaf) else None for leaf in settings)
    unknowns = sum(math.prod(np.shape(leaf)[1:]) for leaf in leaves) // starts
    evaluations = EVALUATIONS[solver.kind]
    return Rows(size, ((0,) * len(leaves), axes, of_settings, (0,) * len(states)), unknowns, evaluations, starts)


def lanes_for(solver, signature: Signature) -> Lanes:
    """The lanes on which a solver works for a function of these arguments."""
    return _lanes_for(jax.tree.structure(solver), signature)


@lru_cache(1024)
@in_own_settings
def _lanes_for(settings, signature: Signature) -> Lanes:
    x, _ = jax.tree.unflatten(signature.tree, signature.flat)
    leaves = jax.tree.leaves(x)
    return cascade.lanes_of(settings, sum(leaf.size for leaf in leaves), jnp.result_type(*leaves))


def _briefly(*operands: Any) -> tuple[Solution, Array]:
    """What is tried first, without what few batches need and takes as long to compile: later methods, second thoughts.

    And which problems need it.
    """
    solution = solved(*operands, only_first=True)
    return solution, _is_doubtful(solution.status, solution.error)


def solved(
    fun, axes, batched, has_aux, record, keep_state, path, x0, args, solver, resume, *, only_first: bool = False
) -> Solution:
    """What `solve` compiles; for `lanes.capture.run`."""
    kind: Kind = solver.kind
    batch, layout = batch_of(x0, args, axes, batched)
    function, batch = trace(fun, batch, layout, has_aux)
    _check_size(kind, function, batch)
    plan = Plan(function, without_numbers(solver), keep_state, record, not batched, path, only_first)
    _check_resume(resume, solver, batch)
    limits = limits_of(solver, kind, batch.x.shape[0], batch.x.dtype)
    one, is_mapped = partial(_verified, kind, function), batch.is_mapped

    def verified(x, leaves):
        return cascade.evaluate(plan, is_mapped, x, leaves, one)

    @in_own_settings
    def run(leaves, others):
        outcome = cascade.solve(plan, is_mapped, leaves, *others)
        values = value, _, _, error = verified(outcome.x, leaves)
        status = _verdict(outcome, others[1], value, error)
        if not only_first:
            exact = cascade.at_precision(plan, is_mapped, outcome.x, leaves, _is_doubtful(status, error))
            status = jnp.where(exact, Status.AT_PRECISION, status)
            status = jnp.where(status == Status.RUNNING, Status.MAX_STEPS, status)
        return outcome.x, is_solved(status), (values, status, outcome)

    others = jax.lax.stop_gradient((batch.x, limits, resume))
    solve = with_implicit_derivatives(run, partial(cascade.condition, plan), is_mapped)
    x, success, (values, status, outcome) = solve(batch.leaves, others)
    value, grad, aux, error = known(verified, values)(x, batch.leaves)
    solution = Solution(
        x=jax.vmap(layout.unravel)(x),
        fun=jax.vmap(function.unravel_value)(value) if kind == "root" else value[:, 0],
        grad=None if grad is None else jax.vmap(layout.unravel)(grad),
        error=error,
        status=status,
        success=success,
        steps=outcome.steps,
        evaluations=outcome.evaluations,
        aux=aux,
        history=History(*outcome.record) if record else None,
        state=outcome.states,
    )
    return solution if batched else _without_batch_axis(solution)


def _check_size(kind: Kind, function: Function, batch: Batch) -> None:
    n = batch.x.shape[1]
    if kind == "minimum" and not function.is_scalar:
        raise ValueError(
            f"fun(x, args) returned {function.size} numbers; expected one scalar, of shape (). For a least-squares "
            "problem return the sum of the squares; if it returns (value, aux), pass has_aux=True."
        )
    if kind == "root" and function.size != n:
        raise ValueError(
            f"fun(x, args) returned {function.size} numbers for {n} unknowns; a root needs as many equations as "
            "unknowns. For more equations minimise the sum of their squares; if it returns (residual, aux), pass "
            "has_aux=True."
        )


def _check_resume(resume, solver, batch: Batch) -> None:
    """A state fits only the same solver, the same number of problems and the same unknowns."""
    if resume is None:
        return
    size, n = batch.x.shape
    expected = jax.eval_shape(solver.methods()[0].init, jax.ShapeDtypeStruct((n, size), batch.x.dtype))
    shapes = [(leaf.shape[-1:] + leaf.shape[:-1], leaf.dtype) for leaf in jax.tree.leaves(expected)]
    arrived = [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(resume)]
    if jax.tree.structure(resume) != jax.tree.structure(expected) or arrived != shapes:
        raise ValueError(
            f"resume does not fit: expected the `state` of a solution by {type(solver).__name__} of {size} problems "
            f"with {n} unknowns of {batch.x.dtype}, from a solve with keep_state=True; got {type(resume).__name__} "
            f"with leaves of shapes {sorted({shape for shape, _ in arrived})[:4]}."
        )


def _verified(kind: Kind, function: Function, x, leaves):
    """Value, gradient, aux and error at one point, by autodiff and independent of any solver."""
    if kind == "root":
        value, aux = function(x, leaves)
        value = value.astype(x.dtype)
        return value, None, aux, max_abs(value)

    def scalar(x):
        value, aux = function(x, leaves)
        return value[0].astype(x.dtype), aux

    (value, aux), grad = value_and_grad(scalar, x)
    return value[None], grad, aux, max_abs(grad)


def _verdict(outcome: Outcome, limits: Limits, value, error):
    """The status by what was recomputed at the answer: the loop's own opinion does not count.

    An infinite answer is none, though a function may be flat there.
    """
    first_error = jnp.where(jnp.isfinite(outcome.first_error), outcome.first_error, 0)
    holds = jnp.isfinite(error) & (error <= limits.atol + limits.rtol * first_error)
    holds &= jnp.all(jnp.isfinite(value), axis=1) & jnp.all(jnp.isfinite(outcome.x), axis=1)
    claimed = outcome.status == Status.CONVERGED
    status = jnp.where(claimed, Status.UNVERIFIED, outcome.status)
    return jnp.where(holds, Status.CONVERGED, status).astype(jnp.int32)


def _is_doubtful(status, error):
    """Which problems failed at a point that may be as good as the dtype allows."""
    doubtful = (status == Status.STALLED) | (status == Status.NO_ROOT) | (status == Status.UNVERIFIED)
    return (doubtful | (status == Status.RUNNING)) & jnp.isfinite(error)


def _without_batch_axis(solution: Solution) -> Solution:
    """The same for one problem. The state keeps its axis: it goes back in as it came out."""
    without = jax.tree.map(lambda leaf: leaf[0], Solution(**{**vars(solution), "state": None}))
    return Solution(**{**vars(without), "state": solution.state})
