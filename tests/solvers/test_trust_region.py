"""The fallback of minimizing: the step within a region, and what becomes of problems that a first method gives up."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import Status
from jaxopt_lite.demo import nist, regression
from jaxopt_lite.solvers import trust_region
from jaxopt_lite.solvers.trust_region import has_strayed, is_far, step_within, units
from tests.oracles.solvers import trust_region_step

pytestmark = pytest.mark.hardly_optimized

# --- The step ----------------------------------------------------------------------------------------------------


def models(n: int, count: int):
    """Gradients, Hessians and radii: positive, indefinite and singular, steep and gentle, wide and narrow."""
    rng = np.random.default_rng(n)
    q, _ = np.linalg.qr(rng.normal(size=(count, n, n)))
    w = rng.normal(size=(count, n)) * 10.0 ** rng.uniform(-2, 2, (count, 1))
    w[::3] = np.abs(w[::3])
    h = np.einsum("bij,bj,bkj->bik", q, w, q)
    g = rng.normal(size=(count, n)) * 10.0 ** rng.uniform(-2, 2, (count, 1))
    g[1::6] -= q[1::6, :, 0] * np.einsum("bi,bi->b", g, q[..., 0])[1::6, None]  # nothing along one eigenvector
    g[2::12], h[5::12] = 0, 0
    return g, (h + np.swapaxes(h, 1, 2)) / 2, 10.0 ** rng.uniform(-2, 2, count)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_no_step_within_the_region_is_better(n):
    g, h, radius = models(n, 120)
    p, predicted = jax.jit(step_within)(radius, g.T, np.moveaxis(h, 0, -1))
    for lane in range(len(g)):
        mine, best = np.asarray(p[:, lane]), trust_region_step(g[lane], h[lane], radius[lane])
        model = lambda p, lane=lane: g[lane] @ p + p @ h[lane] @ p / 2
        assert np.linalg.norm(mine) <= radius[lane] * (1 + 1e-6)
        assert model(mine) <= model(best) + 1e-6 * abs(model(best))
        np.testing.assert_allclose(-predicted[lane], model(mine), rtol=1e-9, atol=1e-12)


def test_an_unknown_is_measured_by_its_start():
    np.testing.assert_array_equal(units(jnp.array([[3.0, 0.0], [-1e-5, 0.0], [0.0, 0.0]])).T, [[3, 1e-5, 3], [1, 1, 1]])


# --- Problems that a first method gives up -----------------------------------------------------------------------


def misfit(name: str):
    data = nist.read(name)
    return data, lambda b, _: jnp.sum((data.y - regression.MODELS[name](b, data.x)) ** 2)


def fit(name: str, start: int, jit=lambda solve: solve):
    """A regression by BFGS as a plain call, which has the fallback, or by a program."""
    data, fun = misfit(name)
    solver = jol.BFGS(atol=1e-12, max_steps=5000)
    return data, jit(lambda x: jol.minimize(fun, x, solver=solver, batched=False))(data.starts[start])


HARD = {
    ("MGH10", 0): Status.STALLED,  # an unknown from 2 to 0.006 in a valley
    ("BoxBOD", 1): Status.CONVERGED,  # a first step to where the exponential has died away
    ("Rat43", 0): Status.CONVERGED,
    ("Hahn1", 0): Status.CONVERGED,  # out of all proportion
}


@pytest.mark.parametrize(
    ("name", "start"), [pytest.param(*one, marks=() if one[0] == "BoxBOD" else pytest.mark.slow) for one in HARD]
)
def test_a_regression_in_its_own_units_is_solved(name, start):
    data, found = fit(name, start)
    assert found.success
    np.testing.assert_allclose(found.x, data.parameters, rtol=1e-7)


@pytest.mark.slow  # that a program has no fallback is so of a quick test of fits, too
@pytest.mark.parametrize(("name", "start"), HARD)
def test_the_first_method_does_not_solve_it(name, start):
    data, plain = fit(name, start, jax.jit)  # compiled whole, where it is not asked for
    assert plain.status == HARD[name, start] and plain.fun > 2 * data.residual_sum_of_squares
    assert fit(name, start)[1].evaluations > plain.evaluations


@pytest.mark.slow
def test_a_program_has_the_fallback_where_it_is_asked_for():
    """The tolerance is a hundred times the rounding of the gradient, by which two compilations may differ."""
    data, fun = misfit("BoxBOD")
    solve = partial(jol.minimize, fun, solver=jol.BFGS(atol=1e-9, max_steps=5000, rescue=True), batched=False)
    found, jitted = solve(data.starts[1]), jax.jit(solve)(data.starts[1])
    assert jitted.status == found.status == Status.CONVERGED
    np.testing.assert_allclose(jitted.x, found.x, rtol=1e-12)
    np.testing.assert_allclose(jitted.x, data.parameters, rtol=1e-7)


@pytest.mark.slow
def test_it_is_mapped_over_and_differentiated():
    """From both starts of a regression, of which the first method solves one; d x / d y by finite differences."""
    data, _ = misfit("BoxBOD")
    solve = lambda start, y: jol.minimize(
        lambda b, y: jnp.sum((y - regression.MODELS["BoxBOD"](b, data.x)) ** 2),
        start, y, solver=jol.BFGS(atol=1e-12, rescue=True), batched=False,
    )  # fmt: skip
    found = jax.vmap(solve, in_axes=(0, None))(data.starts, data.y)
    assert found.success.all()
    np.testing.assert_allclose(found.x, [data.parameters] * 2, rtol=1e-7)
    slope = jax.jacobian(lambda y: solve(data.starts[1], y).x)(data.y)
    step = 1e-3 * np.eye(len(data.y))[0]
    change = (solve(data.starts[1], data.y + step).x - solve(data.starts[1], data.y - step).x) / 2e-3
    np.testing.assert_allclose(slope[:, 0], change, rtol=1e-5)


def program(fun, rescue):
    return jax.jit(partial(jol.minimize, fun, solver=jol.BFGS(rescue=rescue)))


def kinked(x, a):
    """Smooth parts, of which one is not convex, and a kink between them, at which every method stalls."""
    return jnp.sum((x**2 - a) ** 2) + jnp.abs(x[0] - 0.3) + 0.1 * jnp.sum(jnp.cos(5 * x))


@cache
def of_kinks():
    """The problems, their solution without the fallback, and which of them stall."""
    rng = np.random.default_rng(0)
    problems = rng.normal(size=(40, 2)), rng.uniform(-1, 1, 40)
    plain = jax.device_get(program(kinked, False)(*problems))
    return problems, plain, plain.status == Status.STALLED


def test_no_answer_is_worse_than_the_first_methods():
    problems, plain, stalled = of_kinks()
    found = jax.device_get(program(kinked, True)(*problems))
    assert stalled.any() and not stalled.all()
    assert (found.fun <= plain.fun + np.finfo(float).eps ** (2 / 3) * np.abs(plain.fun)).all()
    np.testing.assert_array_equal(found.x[~stalled], plain.x[~stalled])
    assert (found.success >= plain.success).all()
    assert found.evaluations.max() < 1000


@jax.custom_vjp
def once(x):
    """Of which JAX has the first derivative, and not the second."""
    return jnp.sum(jnp.abs(x - 0.3))


def sign(x):
    return jax.pure_callback(lambda x: np.where(x < 0.3, -1.0, 1.0), x, x, vmap_method="expand_dims")


once.defvjp(lambda x: (once(x), x), lambda x, u: (u * sign(x),))


@pytest.mark.parametrize(
    "distance",
    [
        once,
        # By its first argument once, too; it takes long to trace.
        pytest.param(
            lambda x: jnp.sum(jnp.abs(jax.scipy.special.gammainc(jnp.exp(x), 1.0) - 0.3)), marks=pytest.mark.slow
        ),
    ],
    ids=["a rule", "the incomplete gamma function"],
)
def test_without_a_hessian_there_is_no_fallback_and_no_error(distance):
    fun, x0 = lambda x, _: distance(x), np.array([[1.0], [-2.0]])
    plain, found = (program(fun, rescue)(x0) for rescue in (False, True))
    assert (found.status == Status.STALLED).all()
    np.testing.assert_array_equal(found.x, plain.x)
    np.testing.assert_array_equal(found.evaluations, plain.evaluations)
    assert "with the fallback" not in str(jol.explain(fun, x0, solver=jol.BFGS()))


def test_many_unknowns_have_no_fallback():
    fun = lambda x, _: jnp.sum(x**4)
    for n, text in ((trust_region.LARGEST, True), (trust_region.LARGEST + 1, False)):
        assert ("with the fallback" in str(jol.explain(fun, np.ones((2, n)), solver=jol.LBFGS()))) == text
    assert "with the fallback" not in str(jol.explain(fun, np.ones((2, 2)), solver=jol.LBFGS(rescue=False)))


def test_a_lane_ends_by_its_evaluations_even_if_no_attempt_ever_does(monkeypatch):
    """A compiled `_is_over` may say different things to different numbers: here it never ends an attempt."""
    monkeypatch.setattr(trust_region, "_is_over", lambda state: jnp.zeros_like(state.f, bool))
    monkeypatch.setattr(trust_region, "_MOST", (3, 4))
    problems, plain, stalled = of_kinks()
    slightly_other = lambda *words: 1.0 * kinked(*words)  # so that nothing traced before is found again
    found = jax.device_get(program(slightly_other, True)(*problems))
    assert (found.status[stalled] == Status.STALLED).all()
    np.testing.assert_array_equal(found.evaluations[stalled], plain.evaluations[stalled] + 7)


# --- Where a small gradient is none ------------------------------------------------------------------------------


def test_what_counts_as_strayed():
    x0, f = jnp.array([100.0, 0.75]), 1e4
    cases = {
        "near": ([170.0, 0.5], [0.0, 1e-30], False),
        "far, and f depends on it": ([170.0, 90.0], [0.0, 1e-9], False),
        "far, and f does not": ([170.0, 90.0], [0.0, 1e-36], True),
        "out of proportion": ([1e11, 0.7], [1e-13, 1e-13], True),
    }
    for name, (x, g, expected) in cases.items():
        assert bool(has_strayed(jnp.array(x), x0, f, jnp.array(g))) == expected, name
        assert bool(is_far(jnp.array(x), x0)) == (name != "near"), name


def test_a_minimum_met_exactly_has_not_strayed():
    """Its gradient is zero, and it is far from its start, but f is not flat around it."""
    start, target = np.linspace(0.01, 0.04, 32).reshape(16, 2), np.array([[3.0, 4.0]] * 16)
    fun = lambda x, a: jnp.sum((x - a) ** 2) + 1
    found = jol.minimize(fun, start, target, solver=jol.BFGS(atol=1e-15))
    assert found.success.all() and (np.asarray(found.grad) == 0).any()
    jitted = jax.jit(lambda x, a: jol.minimize(fun, x, a, solver=jol.BFGS(atol=1e-15)).evaluations)
    np.testing.assert_array_equal(found.evaluations, jitted(start, target))  # which is without the fallback
