"""Least squares from the front door: answers, bounds, losses, derivatives, what is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxopt_lite as jol
from jaxopt_lite import Status
from jaxopt_lite.demo import nist, regression
from jaxopt_lite.solvers.losses import LOSSES, twice_cost, weighted

pytestmark = pytest.mark.hardly_optimized

T = np.linspace(0.1, 4, 25)


def decay(b, t=T):
    return b[0] * jnp.exp(-b[1] * t) + b[2]


def misfit(b, y):
    return decay(b) - y


@pytest.fixture(scope="module")
def data():
    """Noisy decays, a few with outliers, and starts; the same for every test."""
    rng = np.random.default_rng(7)
    truth = np.array([3.0, 0.9, 0.5]) * rng.uniform(0.7, 1.3, (12, 3))
    y = np.array([decay(b) for b in truth]) + 0.05 * rng.standard_normal((12, len(T)))
    y[:4, 5] += 2
    return truth * rng.uniform(0.8, 1.25, truth.shape), y


def by_scipy(x0, y, **settings):
    return scipy.optimize.least_squares(
        lambda b: np.asarray(misfit(b, y)), x0, xtol=1e-15, ftol=1e-15, gtol=1e-12, **settings
    )


# --- Answers -----------------------------------------------------------------------------------------------------


def test_curves_are_fitted(data):
    x0, y = data
    found = jol.least_squares(misfit, x0, y)
    peers = [by_scipy(*one) for one in zip(x0, y, strict=True)]
    assert (found.status == Status.CONVERGED).all() and (found.error <= 1e-11).all()
    np.testing.assert_allclose(found.x, [peer.x for peer in peers], rtol=1e-6)
    np.testing.assert_allclose(found.cost, [peer.cost for peer in peers], rtol=1e-12)
    np.testing.assert_allclose(found.fun, jax.vmap(misfit)(found.x, y), rtol=1e-9, atol=1e-12)
    assert found.grad.shape == (12, 3) and abs(found.grad).max() < 1e-9 and found.active is None
    assert found.evaluations.max() < 25


@pytest.mark.parametrize(
    ("name", "start"),
    [("Misra1a", 0), ("MGH09", 0)]
    + [pytest.param(name, start, marks=pytest.mark.slow) for name in sorted(regression.MODELS) for start in (0, 1)],
)
def test_regressions_are_solved_to_eight_digits_as_they_come(name, start):
    data = nist.read(name)
    fun = lambda b: regression.MODELS[name](b, data.x) - data.y
    found = jol.least_squares(fun, data.starts[start], batched=False, solver=jol.LevenbergMarquardt(max_steps=3000))
    assert found.success
    np.testing.assert_allclose(found.x, data.parameters, rtol=1e-8)
    np.testing.assert_allclose(found.covariance().standard_errors, data.standard_deviations, rtol=1e-6)


def test_residuals_and_unknowns_are_any_pytrees():
    """An exact fit, and fewer residuals than unknowns: of the many answers one."""

    def fun(x, args):
        return {"sum": x["a"] + jnp.sum(x["b"]) - args[0], "product": [x["a"] * x["b"][0] - args[1]]}

    x0 = {"a": jnp.ones(3), "b": jnp.full((3, 2), 0.5)}
    found = jol.least_squares(fun, x0, (jnp.array([3.0, 4.0, 5.0]), jnp.array([1.0, 2.0, 3.0])))
    assert found.success.all() and found.evaluations.max() < 15
    assert abs(found.fun["sum"]).max() < 1e-12 and abs(found.fun["product"][0]).max() < 1e-12
    assert found.x["b"].shape == (3, 2)


def test_a_scale_of_the_residuals_or_of_an_unknown_changes_nothing(data):
    x0, y = data
    scale = jnp.array([1e-5, 1e3, 1e7])
    scaled = jol.least_squares(lambda b, y: 1e-9 * misfit(b * scale, y), x0 / scale, y)
    found = jol.least_squares(misfit, x0, y)
    assert scaled.success.all()
    np.testing.assert_allclose(scaled.x * scale, found.x, rtol=1e-7)
    assert abs(scaled.evaluations - found.evaluations).max() <= 2


def test_single_precision(data):
    x0, y = (jnp.asarray(a, jnp.float32) for a in data)
    found = jol.least_squares(lambda b, y: b[0] * jnp.exp(-b[1] * jnp.float32(T)) + b[2] - y, x0, y)
    assert found.x.dtype == jnp.float32 and found.success.all() and found.evaluations.max() < 20
    np.testing.assert_allclose(found.x, jol.least_squares(misfit, *data).x, rtol=5e-3)


@pytest.mark.parametrize("bounds", [None, pytest.param((0, [9, 1, 9]), marks=pytest.mark.slow)])
def test_mapped_over_it_is_one_batch(data, bounds):
    x0, y = data
    fit = partial(jol.least_squares, misfit, bounds=bounds)
    plain, mapped = fit(x0, y), jax.jit(jax.vmap(fit))(x0.reshape(3, 4, 3), y.reshape(3, 4, -1))
    np.testing.assert_allclose(mapped.x.reshape(12, 3), plain.x, rtol=1e-9)
    np.testing.assert_array_equal(mapped.evaluations.reshape(12), plain.evaluations)


def test_a_solve_goes_on_and_shows_its_progress(data):
    x0, y = data
    fit = partial(jol.least_squares, misfit, x0, y, keep_state=True, record=30)
    first = fit(solver=jol.LevenbergMarquardt(max_steps=2))
    assert (first.status == Status.MAX_STEPS).all() and (first.steps == 2).all()
    rest, whole = fit(solver=jol.LevenbergMarquardt(), resume=first.state), fit()
    np.testing.assert_array_equal(rest.x, whole.x)
    np.testing.assert_array_equal(rest.evaluations, whole.evaluations)
    value = np.asarray(whole.history.value)
    assert (np.diff(value) <= 1e-9).sum() == np.isfinite(value[:, 1:]).sum()
    np.testing.assert_allclose(value[:, 0], np.sum(np.asarray(jax.vmap(misfit)(x0, y)) ** 2, axis=1) / 2)


def test_what_cannot_be_fitted_says_so():
    """A start that is not finite; a model that is not finite nearby, which shortens the step."""
    fun = lambda x, a: jnp.array([jnp.log(x[0]) - a, x[0] - 1.0])
    found = jol.least_squares(fun, jnp.array([[-1.0], [0.01], [jnp.nan]]), jnp.array([0.0, 0.0, 0.0]))
    assert found.status.tolist() == [Status.NONFINITE_START, Status.CONVERGED, Status.NONFINITE_START]
    np.testing.assert_allclose(found.x[1], 1.0)


def test_the_best_of_many_starts():
    """A wave, whose cost has many minima in its frequency."""
    wave = lambda b, y: b[0] * jnp.sin(b[1] * T) - y
    y = np.array([2 * np.sin(3.1 * T), -1.5 * np.sin(5.2 * T)])
    starts = jnp.stack([jnp.ones(12), jnp.linspace(0.5, 6, 12)], axis=1)
    best = jol.multistart(wave, jnp.tile(starts, (2, 1, 1)), y, solver=jol.LevenbergMarquardt())
    assert best.success.all() and best.cost.max() < 1e-20
    np.testing.assert_allclose(best.x, [[2, 3.1], [-1.5, 5.2]], rtol=1e-9)


# --- Bounds ------------------------------------------------------------------------------------------------------


def test_bounds_hold(data):
    """Each fit with bounds of its own: none, one that cuts the answer off, both, a fixed unknown; starts outside."""
    x0, y = data
    free = np.asarray(jol.least_squares(misfit, x0, y).x)
    lower, upper = np.full((12, 3), -np.inf), np.full((12, 3), np.inf)
    upper[2:5, 1] = 0.8 * free[2:5, 1]
    lower[5:8, 2] = 1.2 * free[5:8, 2]
    lower[8:, 0], upper[8:, 0] = 1.1 * free[8:, 0], 1.3 * free[8:, 0]
    lower[10:, 1] = upper[10:, 1] = 0.7
    found = jol.least_squares(misfit, x0, y, bounds=(lower, upper))
    assert found.success.all() and (found.x >= lower).all() and (found.x <= upper).all()
    np.testing.assert_allclose(found.x[:2], free[:2], rtol=1e-9)
    for k in range(2, 10):
        peer = by_scipy(np.clip(x0[k], lower[k], upper[k]), y[k], bounds=(lower[k], upper[k]))
        np.testing.assert_allclose(found.cost[k], peer.cost, rtol=1e-8)
        np.testing.assert_array_equal(found.active[k], np.where(peer.active_mask, peer.active_mask, 0))
    assert (found.x[10:, 1] == 0.7).all() and (found.active[:2] == 0).all()


def test_bounds_take_the_forms_of_x0():
    fun = lambda x, a: jnp.concatenate([x["a"][None] - a, x["b"] + a])
    x0 = {"a": jnp.zeros(2), "b": jnp.zeros((2, 2))}
    fit = lambda bounds: jol.least_squares(fun, x0, jnp.array([1.0, 3.0]), bounds=bounds)
    one = fit((-2, None))
    assert one.x["a"].tolist() == [1.0, 3.0] and one.x["b"].tolist() == [[-1.0, -1.0], [-2.0, -2.0]]
    assert one.active["b"].tolist() == [[0, 0], [-1, -1]] and one.active["a"].dtype == jnp.int32
    tree = fit((None, {"a": 2.0, "b": jnp.array([-1.5, 0.0])}))
    assert tree.x["a"].tolist() == [1.0, 2.0] and tree.x["b"].tolist() == [[-1.5, -1.0], [-3.0, -3.0]]
    assert fit((0, 0)).success.all()


@pytest.mark.parametrize(
    ("bounds", "error", "message"),
    [
        (3, TypeError, r"bounds is a int; expected the pair \(lower, upper\)"),
        ([(0, 1)] * 3, TypeError, "bounds is a list of 3"),
        ((0, [1, 2]), ValueError, r"the upper bounds have shape \(2,\); expected one that broadcasts"),
        (({"a": 0}, 1), ValueError, "the lower bounds have the structure"),
        ((2, [1, 3, 4]), ValueError, r"bounds at index \(0,\) are 2 and 1; expected lower ≤ upper"),
        ((np.nan, 1), ValueError, "no NaN"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(bounds, error, message):
    with pytest.raises(error, match=message):
        jol.least_squares(misfit, np.ones((2, 3)), np.ones((2, 25)), bounds=bounds)


# --- Losses ------------------------------------------------------------------------------------------------------


def test_losses_are_those_of_scipy(data):
    """The cost and its minimum, with a scale for all or one for each; the first four have an outlier."""
    x0, y = (a[:6] for a in data)
    for loss in LOSSES:
        scale = 1.0 if loss == "linear" else np.linspace(0.05, 0.2, 6)
        found = jol.least_squares(misfit, x0, y, loss=loss, f_scale=scale)
        assert found.success.all(), loss
        for k, each in enumerate(np.broadcast_to(scale, 6)):
            peer = by_scipy(found.x[k], y[k], loss=loss, f_scale=each)
            assert found.cost[k] <= peer.cost * (1 + 1e-12), loss
            np.testing.assert_allclose(found.cost[k], peer.cost, rtol=1e-7, err_msg=loss)
            np.testing.assert_allclose(found.x[k], peer.x, rtol=1e-4, err_msg=loss)


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"linear"}))
def test_a_loss_is_what_its_weights_say(loss):
    """Jᵀ F of what is weighted is the gradient of the cost, and JᵀJ its Hessian where that is positive."""
    f, scale = jnp.array([-3.0, -0.4, 0.0, 0.1, 0.9, 5.0]), 0.8
    cost = lambda f: jnp.sum(twice_cost(loss, scale, f)) / 2
    weighted_f, j = weighted(loss, scale, f, jnp.eye(6))
    np.testing.assert_allclose(j.T @ weighted_f, jax.grad(cost)(f), atol=1e-12)
    curvature = jnp.diagonal(jax.hessian(cost)(f))
    np.testing.assert_allclose(jnp.diagonal(j) ** 2, jnp.maximum(curvature, np.finfo(float).eps), atol=1e-12)


# --- Derivatives -------------------------------------------------------------------------------------------------


def test_derivatives_of_a_fit(data):
    """By the data, the bounds, and through a loss; with and without second derivatives of the model."""
    x0, y = data[0][0], data[1][0]
    direction = np.cos(np.arange(len(T)))

    def answer(shift, bound, **settings):
        upper = jnp.array([9.0, 0.8, 9.0]) + jnp.array([0.0, 1.0, 0.0]) * bound
        return jol.least_squares(
            misfit, x0, y + shift * direction, bounds=(0, upper), loss="soft_l1", f_scale=0.1, batched=False, **settings
        ).x

    found = jax.jacobian(answer, (0, 1))(0.0, 0.0)
    step = 1e-5
    np.testing.assert_allclose(found[0], (answer(step, 0.0) - answer(-step, 0.0)) / (2 * step), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found[1], (answer(0.0, step) - answer(0.0, -step)) / (2 * step), rtol=1e-5)
    np.testing.assert_allclose([found[0][1], found[1][1]], [0, 1], atol=1e-12)  # at its bound


def test_gauss_newton_derivatives_leave_the_curvature_of_the_model_out(data):
    x0, y = data[0][0], data[1][0]
    fit = lambda y, by: jol.least_squares(misfit, x0, y, batched=False, derivatives=by).x
    j = np.asarray(jax.jacobian(misfit)(fit(y, "exact"), y))
    np.testing.assert_allclose(jax.jacobian(fit)(y, "gauss-newton"), np.linalg.pinv(j), rtol=1e-8)
    assert abs(jax.jacobian(fit)(y, "exact") - np.linalg.pinv(j)).max() > 1e-4


# --- What is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"loss": "square"}, ValueError, "loss='square': expected one of 'linear', 'soft_l1'"),
        ({"f_scale": -1.0}, ValueError, "f_scale=-1.0"),
        ({"derivatives": "none"}, ValueError, "derivatives='none'"),
        ({"solver": jol.BFGS()}, TypeError, "does not fit `least_squares`: expected LevenbergMarquardt"),
        ({"method": "trf"}, TypeError, "`solver` says by which method"),
        ({"backend": "kernel"}, ValueError, "cannot be a kernel"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        jol.least_squares(misfit, np.ones((2, 3)), np.ones((2, 25)), **settings)


def test_a_function_without_residuals_is_refused():
    with pytest.raises(ValueError, match="fun\\(x, args\\) returned no numbers"):
        jol.least_squares(lambda x: x[:0], np.ones((2, 3)))
    with pytest.raises(TypeError, match="does not fit `minimize`"):
        jol.minimize(lambda x: x[0], np.ones((2, 3)), solver=jol.LevenbergMarquardt())
