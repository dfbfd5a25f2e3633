"""Minima within bounds, by BFGS and L-BFGS, against SciPy and the conditions of optimality."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxopt_lite as jol

pytestmark = pytest.mark.hardly_optimized

B, N = 60, 6
SOME = np.arange(B)[::-7]  # of the batch, in another order
SOLVERS = {"bfgs": jol.BFGS(atol=1e-9), "lbfgs": jol.LBFGS(atol=1e-9)}
each_solver = pytest.mark.parametrize("solver", SOLVERS)


def coupled(x, args):
    """Convex, with one minimum in every box; not finite outside of the box."""
    q, b, lower, upper = args
    inside = jnp.all((x >= lower) & (x <= upper))
    value = 0.5 * jnp.sum(q * x[:, None] * x[None, :]) - jnp.sum(b * x) + jnp.sum(x**4) / 4
    return jnp.where(inside, value, jnp.nan)


@functools.cache
def batch():
    """Starts and data: some unknowns fixed, some bounded on one side, some not at all; starts anywhere."""
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(B, N, N))
    q, b = np.einsum("bik,bjk->bij", roots, roots) + 0.1 * np.eye(N), 5 * rng.normal(size=(B, N))
    lower = rng.normal(size=(B, N)) - 0.5
    upper = lower + rng.exponential(size=(B, N)) * rng.choice([0, 1], (B, N), p=[0.1, 0.9])
    lower[rng.random((B, N)) < 0.2], upper[rng.random((B, N)) < 0.2] = -np.inf, np.inf
    return 3 * rng.normal(size=(B, N)), (q, b, lower, upper)


def ask(solver, x0, args, **options):
    return jol.minimize(coupled, x0, args, bounds=args[2:], solver=SOLVERS[solver], **options)


@functools.cache
def solved(solver):
    return ask(solver, *batch())


def gradient(x, args):
    q, b, _, _ = args
    return np.einsum("...ij,...j->...i", q, x) - b + x**3


def scipy_minimum(x0, q, b, lower, upper):
    def value_and_grad(x):
        return 0.5 * x @ q @ x - b @ x + np.sum(x**4) / 4, q @ x - b + x**3

    box, tight = scipy.optimize.Bounds(lower, upper), {"gtol": 1e-12, "ftol": 0, "maxiter": 10_000}
    return scipy.optimize.minimize(value_and_grad, x0, jac=True, method="L-BFGS-B", bounds=box, options=tight).x


@functools.cache
def scipy_minima():
    x0, args = batch()
    return np.stack([scipy_minimum(*row) for row in zip(x0, *args, strict=True)])


@each_solver
def test_the_minimum_is_that_of_scipy(solver):
    _, args = batch()
    found = jax.device_get(solved(solver).raise_if_failed())
    np.testing.assert_allclose(found.x, scipy_minima(), atol=1e-5)
    assert np.array_equal(found.active, np.where(found.x <= args[2], -1, np.where(found.x >= args[3], 1, 0)))
    assert 0.2 < np.mean(np.asarray(found.active) != 0) < 0.8


@each_solver
def test_every_answer_is_optimal_in_its_box(solver):
    _, args = batch()
    found = jax.device_get(solved(solver))
    slope = gradient(found.x, args)
    np.testing.assert_allclose(found.grad, slope, atol=1e-9)
    down, up = (args[2] < found.x), (found.x < args[3])
    error = np.maximum(np.where(down, slope, 0), np.where(up, -slope, 0)).max(axis=1)
    np.testing.assert_allclose(found.error, error, atol=1e-12)
    assert np.all(error <= 1e-9)


@each_solver
def test_no_start_takes_many_evaluations(solver):
    """As many as without bounds, about: the unknowns at bounds cost none."""
    assert np.median(solved(solver).evaluations) <= 20
    assert np.max(solved(solver).evaluations) <= 60


@pytest.mark.parametrize("solver", ["bfgs", pytest.param("lbfgs", marks=pytest.mark.slow)])
def test_alone_it_is_what_it_is_in_the_batch(solver):
    x0, args = batch()
    found = ask(solver, x0[SOME], tuple(arg[SOME] for arg in args))
    assert np.asarray(found.x).tobytes() == np.asarray(solved(solver).x)[SOME].tobytes()
    assert found.evaluations.tolist() == np.asarray(solved(solver).evaluations)[SOME].tolist()


@pytest.mark.parametrize("solver", [pytest.param("bfgs", marks=pytest.mark.slow), "lbfgs"])
def test_resuming_and_recording_change_nothing(solver):
    x0, args = batch()
    first = jol.minimize(
        coupled, x0, args, bounds=args[2:], solver=type(SOLVERS[solver])(atol=1e-9, max_steps=4), keep_state=True,
        record=50,
    )  # fmt: skip
    second = ask(solver, x0, args, resume=first.state)
    assert np.asarray(second.x).tobytes() == np.asarray(solved(solver).x).tobytes()
    done = np.asarray(first.status) == jol.Status.MAX_STEPS
    assert 0 < done.sum()
    history: Any = first.history
    last = np.asarray(history.error)[np.arange(B), np.asarray(first.steps)]
    np.testing.assert_allclose(last, first.error, rtol=1e-9, atol=1e-12)
    assert np.all(np.diff(np.asarray(history.value)[done, :5]) <= 1e-9)


@pytest.mark.slow  # float32 without bounds has quick tests
def test_float32():
    x0, args = batch()
    cast = functools.partial(jax.tree.map, np.float32)
    found = jol.minimize(coupled, cast(x0), cast(args), bounds=cast(args[2:]))
    assert found.x.dtype == np.float32
    assert bool(found.success.all())
    np.testing.assert_allclose(found.x, solved("bfgs").x, atol=2e-3)


def test_an_outer_vmap_over_bounds():
    x0, args = batch()
    x0, args = x0[SOME], tuple(arg[SOME] for arg in args)
    many = np.stack([args[3], args[3] + 0.1])
    got = jax.jit(jax.vmap(lambda upper: ask("bfgs", x0, (*args[:3], upper)).x))(many)
    for k in range(2):
        np.testing.assert_allclose(got[k], ask("bfgs", x0, (*args[:3], many[k])).x, atol=1e-8)


def test_derivatives_respect_the_active_set():
    """With respect to the data and to the bounds themselves, by the Hessian of the unknowns that are free."""
    q, b, _, _ = (arg[:1] for arg in batch()[1])
    lower, upper = np.full((1, N), -0.3), np.full((1, N), 0.4)

    def answer(b, lower, upper):
        everywhere = np.full((1, N), np.inf)
        x = jol.minimize(
            coupled, np.zeros((1, N)), (q, b, -everywhere, everywhere), bounds=(lower, upper),
            solver=jol.BFGS(atol=1e-12, rescue=False),
        ).x[0]  # fmt: skip
        return x, x

    slopes, held = jax.device_get(jax.jit(jax.jacrev(answer, (0, 1, 2), has_aux=True))(b, lower, upper))
    at_lower, at_upper = held == -0.3, held == 0.4
    free = ~(at_lower | at_upper)
    assert at_lower.any() and at_upper.any() and free.any()
    by_b, by_lower, by_upper = (slope[:, 0] for slope in slopes)
    hessian = q[0] + np.diag(3 * held**2)
    expected = np.zeros((N, N))
    expected[np.ix_(free, free)] = np.linalg.inv(hessian[np.ix_(free, free)])
    np.testing.assert_allclose(by_b, expected, atol=1e-7)
    for by_bound, there in ((by_lower, at_lower), (by_upper, at_upper)):
        expected = np.zeros((N, N))
        expected[there, there] = 1
        across = hessian[np.ix_(free, there)]
        expected[np.ix_(free, there)] = -np.linalg.solve(hessian[np.ix_(free, free)], across)
        np.testing.assert_allclose(by_bound, expected, atol=1e-7)


def wells(x, args):
    """Minima near -1 and 1, the first the lower one."""
    return jnp.sum((x**2 - 1) ** 2 + 0.3 * x)


@pytest.mark.parametrize("batched", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_start_of_a_problem_shares_its_bounds(batched):
    starts, lower = np.linspace(-2.0, 2.0, 5)[None, :, None] * np.ones((2, 1, 1)), np.array([[-0.5], [-5.0]])
    if not batched:
        starts, lower = starts[0], lower[0]
    best = jol.multistart(wells, starts, bounds=(lower, None), batched=batched)
    assert bool(best.success.all())
    expected = [0.96, -1.035] if batched else 0.96
    np.testing.assert_allclose(best.x[..., 0], expected, atol=0.01)


def test_everything_fixed_and_a_start_at_the_minimum():
    sol = jol.minimize(wells, np.array([[3.0, 4.0]]), bounds=([1.0, 2.0], [1.0, 2.0]))
    assert sol.x.tolist() == [[1.0, 2.0]]
    assert bool(sol.success[0]) and int(sol.steps[0]) == 0


@functools.cache
def along_lines():
    """Down a slope to a corner from three problems, and down a cubic to bounds or without end from two."""
    slopes, large, no_end = np.array([1e-3, 1.0, 1e3, 0.0, 0.0]), np.array([7.0, 7.0]), np.array([7, np.inf])
    fun = lambda x, a: -jnp.where(a > 0, a * jnp.sum(x), jnp.sum(x**3))
    x0, upper = np.concatenate([np.zeros((3, 2)), np.ones((2, 2))]), np.stack([*np.ones((3, 2)), large, no_end])
    return jax.device_get(jol.minimize(fun, x0, slopes, bounds=(np.array([-1, -1, -1, 0, 0])[:, None], upper)))


def test_without_end_within_bounds():
    """What a bound does not stop goes on without end; what one stops is a minimum there."""
    sol = along_lines()
    assert [jol.Status(code).name for code in sol.status[3:].tolist()] == ["CONVERGED", "UNBOUNDED"]
    assert sol.x[3].tolist() == [7.0, 7.0]


def test_a_search_that_reaches_the_bounds_ends_there():
    """Further along the line nothing moves any more, so that no longer step is looked for."""
    corner = along_lines()
    assert corner.success[:3].all() and np.all(corner.x[:3] == 1) and np.all(corner.evaluations[:3] <= 5)


def test_bounds_that_exclude_each_other_inside_a_program_are_no_success():
    """Where their numbers can be seen they are refused."""
    square = lambda x: jnp.sum((x - 3) ** 2)
    solve = jax.jit(lambda lower: jol.minimize(square, jnp.ones((2, 2)), bounds=(lower, 1.0)).status)
    lower = np.array([[0.0, 0.0], [0.0, 2.0]])
    assert solve(lower).tolist() == [jol.Status.CONVERGED, jol.Status.NONFINITE_START]


def test_no_problems_within_bounds():
    bounds = (np.zeros((0, 3)), 1)
    assert jol.minimize(lambda x: jnp.sum(x**2), np.zeros((0, 3)), bounds=bounds).x.shape == (0, 3)
    assert jol.least_squares(lambda x: x, np.zeros((0, 3)), bounds=(0, 1)).x.shape == (0, 3)
