"""Least squares from the front door: answers, bounds, losses, derivatives, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxopt_lite as jol
from jaxopt_lite import Status
from jaxopt_lite.demo import nist, regression
from jaxopt_lite.lanes.losses import LOSSES, twice_cost, weighted
from jaxopt_lite.solvers import pipeline
from jaxopt_lite.solvers.choice import Reach
from tests.problems import MGH_UNCONSTRAINED, beale

pytestmark = pytest.mark.hardly_optimized

T = np.linspace(0.1, 4, 25)
PLAIN = jol.LevenbergMarquardt(rescue=False)  # which compiles in less time inside a program


def misfit(b, y):
    return b[0] * jnp.exp(-b[1] * T) + b[2] - y


def by_numpy(b, y=0.0):
    """The misfit of one problem, or of a batch, without a program for each operation."""
    b = np.asarray(b)[..., None]
    return b[..., 0, :] * np.exp(-b[..., 1, :] * T) + b[..., 2, :] - y


def fitted(*words, **settings):
    """The solution as NumPy's arrays, of which no question compiles a program."""
    return jax.device_get(jol.least_squares(*words, **settings))


@pytest.fixture(scope="module")
def data():
    """Noisy decays, a few with outliers, and starts; the same for every test."""
    rng = np.random.default_rng(7)
    truth = np.array([3.0, 0.9, 0.5]) * rng.uniform(0.7, 1.3, (12, 3))
    y = by_numpy(truth) + 0.05 * rng.standard_normal((12, len(T)))
    y[:4, 5] += 2
    return truth * rng.uniform(0.8, 1.25, truth.shape), y


def by_scipy(x0, y, **settings):
    return scipy.optimize.least_squares(by_numpy, x0, args=(y,), xtol=1e-15, ftol=1e-15, gtol=1e-12, **settings)


# --- Answers -----------------------------------------------------------------------------------------------------


def test_curves_are_fitted(data):
    x0, y = data
    found = fitted(misfit, x0, y)
    peers = [by_scipy(*one) for one in zip(x0, y, strict=True)]
    assert (found.status == Status.CONVERGED).all() and (found.error <= 1e-11).all()
    np.testing.assert_allclose(found.x, [peer.x for peer in peers], rtol=1e-6)
    np.testing.assert_allclose(found.cost, [peer.cost for peer in peers], rtol=1e-12)
    np.testing.assert_allclose(found.fun, by_numpy(found.x, y), rtol=1e-9, atol=1e-12)
    assert found.grad.shape == (12, 3) and abs(found.grad).max() < 1e-9 and found.active is None
    assert found.evaluations.max() < 25


def test_many_residuals_inside_a_program():
    """Their sums are too long for a native function, also those in the question what rounding does to the answer."""
    t = np.linspace(0, 4, 100)
    truth = np.array([[3.0, 0.7, 1.0, 2.0], [2.0, 0.5, 1.5, 1.5]])
    decay_and_peak = lambda b, y, exp=jnp.exp: b[0] * exp(-b[1] * t) + b[2] * exp(-((t - b[3]) ** 2)) - y
    y = np.stack([decay_and_peak(b, 0.0, np.exp) for b in truth])
    fit = jax.jit(lambda x0, y: jol.least_squares(lambda b, y: decay_and_peak(b, y), x0, y, solver=PLAIN))
    found = jax.device_get(fit(1.2 * truth, y))
    assert found.success.all()
    np.testing.assert_allclose(found.x, truth, rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "start"),
    [("MGH09", 0)]
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

    x0 = {"a": np.ones(3), "b": np.full((3, 2), 0.5)}
    found = fitted(fun, x0, (np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0])))
    assert found.success.all() and found.evaluations.max() < 15
    assert abs(found.fun["sum"]).max() < 1e-12 and abs(found.fun["product"][0]).max() < 1e-12
    assert found.x["b"].shape == (3, 2)


def test_a_scale_of_the_residuals_or_of_an_unknown_changes_nothing(data):
    x0, y = data
    scale = np.array([1e-5, 1e3, 1e7])
    scaled = fitted(lambda b, y: 1e-9 * misfit(b * scale, y), x0 / scale, y)
    found = fitted(misfit, x0, y)
    assert scaled.success.all()
    np.testing.assert_allclose(scaled.x * scale, found.x, rtol=1e-7)
    assert abs(scaled.evaluations - found.evaluations).max() <= 2


@pytest.mark.slow  # fits in float32 are in the contract of all solvers, and below with squares out of range
def test_single_precision(data):
    x0, y = (a.astype(np.float32) for a in data)
    found = fitted(lambda b, y: b[0] * jnp.exp(-b[1] * T.astype(np.float32)) + b[2] - y, x0, y)
    assert found.x.dtype == np.float32 and found.success.all() and found.evaluations.max() < 20
    np.testing.assert_allclose(found.x, jol.least_squares(misfit, *data).x, rtol=5e-3)


@pytest.mark.parametrize("bounds", [None, pytest.param((0, [9, 1, 9]), marks=pytest.mark.slow)])
def test_mapped_over_it_is_one_batch(data, bounds):
    x0, y = data
    fit = functools.partial(jol.least_squares, misfit, bounds=bounds)
    plain, mapped = fit(x0, y), jax.jit(jax.vmap(fit))(x0.reshape(3, 4, 3), y.reshape(3, 4, -1))
    np.testing.assert_allclose(mapped.x.reshape(12, 3), plain.x, rtol=1e-9)
    np.testing.assert_array_equal(mapped.evaluations.reshape(12), plain.evaluations)


def test_a_solve_goes_on_and_shows_its_progress(data):
    x0, y = data
    fit = functools.partial(fitted, misfit, x0, y, keep_state=True, record=30)
    first = fit(solver=jol.LevenbergMarquardt(max_steps=2))
    assert (first.status == Status.MAX_STEPS).all() and (first.steps == 2).all()
    start = fit(solver=jol.LevenbergMarquardt(max_steps=0))  # evaluated, and no step made
    assert (start.status == Status.MAX_STEPS).all() and (start.steps == 0).all() and (start.evaluations == 1).all()
    whole = fit()
    for paused in (first, start):
        rest = fit(solver=jol.LevenbergMarquardt(), resume=paused.state)
        np.testing.assert_array_equal(rest.x, whole.x)
        np.testing.assert_array_equal(rest.evaluations, whole.evaluations)
    value = np.asarray(whole.history.value)
    assert (np.diff(value) <= 1e-9).sum() == np.isfinite(value[:, 1:]).sum()
    for each in (start, whole):
        np.testing.assert_allclose(each.history.value[:, 0], np.sum(by_numpy(x0, y) ** 2, axis=1) / 2)


def test_large_residuals_are_fitted_to_the_last_digit_by_the_hessian():
    """Brown and Dennis's function, 85822 at its minimum, where a linear model of the residuals converges slowly."""
    problem = next(p for p in MGH_UNCONSTRAINED if p.name == "brown dennis")

    def fit(rescue):
        solver = jol.LevenbergMarquardt(rescue=rescue)
        return jax.jit(lambda x: jol.least_squares(lambda x: problem.residual(x), x, batched=False, solver=solver))

    plain, found = fit(None)(problem.start), fit(True)(problem.start)  # in a program only where it is asked for
    assert plain.status == Status.STALLED and found.success and found.error < 1e-11
    np.testing.assert_allclose(2 * found.cost, problem.answers[0], rtol=1e-9)
    assert found.cost <= plain.cost


def test_what_cannot_be_fitted_says_so():
    """A start that is not finite; a model that is not finite nearby, which shortens the step."""
    fun = lambda x, a: jnp.array([jnp.log(x[0]) - a, x[0] - 1.0])
    found = fitted(fun, np.array([[-1.0], [0.01], [np.nan]]), np.zeros(3), record=1)
    assert found.status.tolist() == [Status.NONFINITE_START, Status.CONVERGED, Status.NONFINITE_START]
    assert np.isnan(found.history.value[:, 0]).tolist() == [True, False, True]
    np.testing.assert_allclose(found.x[1], 1.0)


def test_the_best_of_many_starts():
    """A wave, whose cost has many minima in its frequency."""
    wave = lambda b, y: b[0] * jnp.sin(b[1] * T) - y
    y = np.array([2 * np.sin(3.1 * T), -1.5 * np.sin(5.2 * T)])
    starts = np.stack([np.ones(12), np.linspace(0.5, 6, 12)], axis=1)
    best = jol.multistart(wave, np.tile(starts, (2, 1, 1)), y, solver=PLAIN)
    assert best.success.all() and best.cost.max() < 1e-20
    np.testing.assert_allclose(best.x, [[2, 3.1], [-1.5, 5.2]], rtol=1e-9)


# --- Bounds ------------------------------------------------------------------------------------------------------


def test_bounds_hold(data):
    """Each fit with bounds of its own: none, one that cuts the answer off, both, a fixed unknown; starts outside."""
    x0, y = data
    free = fitted(misfit, x0, y).x
    lower, upper = np.full((12, 3), -np.inf), np.full((12, 3), np.inf)
    upper[2:5, 1] = 0.8 * free[2:5, 1]
    lower[5:8, 2] = 1.2 * free[5:8, 2]
    lower[8:, 0], upper[8:, 0] = 1.1 * free[8:, 0], 1.3 * free[8:, 0]
    lower[10:, 1] = upper[10:, 1] = 0.7
    found = fitted(misfit, x0, y, bounds=(lower, upper))
    assert found.success.all() and (found.x >= lower).all() and (found.x <= upper).all()
    np.testing.assert_allclose(found.x[:2], free[:2], rtol=1e-9)
    for k in range(2, 10):
        peer = by_scipy(np.clip(x0[k], lower[k], upper[k]), y[k], bounds=(lower[k], upper[k]))
        np.testing.assert_allclose(found.cost[k], peer.cost, rtol=1e-8)
        np.testing.assert_array_equal(found.active[k], np.where(peer.active_mask, peer.active_mask, 0))
    assert (found.x[10:, 1] == 0.7).all() and (found.active[:2] == 0).all()


@pytest.mark.parametrize(
    ("bounds", "a", "b", "active"),
    [
        ((None, {"a": 2.0, "b": np.array([-1.5, 0.0])}), [1.0, 2.0], [[-1.5, -1.0], [-3.0, -3.0]], [[1, 0], [0, 0]]),
        pytest.param((-2, None), [1.0, 3.0], [[-1.0, -1.0], [-2.0, -2.0]], [[0, 0], [-1, -1]], marks=pytest.mark.slow),
        pytest.param((0, 0), [0.0, 0.0], [[0.0, 0.0]] * 2, None, marks=pytest.mark.slow),
    ],
)
def test_bounds_take_the_forms_of_x0(bounds, a, b, active):
    fun = lambda x, a: jnp.concatenate([x["a"][None] - a, x["b"] + a])
    found = fitted(fun, {"a": np.zeros(2), "b": np.zeros((2, 2))}, np.array([1.0, 3.0]), bounds=bounds)
    assert found.success.all() and found.x["a"].tolist() == a and found.x["b"].tolist() == b
    assert active is None or found.active["b"].tolist() == active
    assert found.active["a"].dtype == np.int32


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


# The weights of each have quick tests; "linear" and "soft_l1" are solved by others.
@pytest.mark.parametrize(
    "loss", [pytest.param(name, marks=() if name == "cauchy" else pytest.mark.slow) for name in LOSSES]
)
def test_losses_are_those_of_scipy(data, loss):
    """The cost and its minimum, with a scale for all or a list of one for each; the first four have an outlier."""
    x0, y = (a[:6] for a in data)
    scale = 1.0 if loss == "linear" else np.linspace(0.05, 0.2, 6)
    found = fitted(misfit, x0, y, loss=loss, f_scale=scale if loss == "linear" else scale.tolist())
    assert found.success.all()
    for k, each in enumerate(np.broadcast_to(scale, 6)):
        peer = by_scipy(found.x[k], y[k], loss=loss, f_scale=each)
        assert found.cost[k] <= peer.cost * (1 + 1e-12)
        np.testing.assert_allclose(found.cost[k], peer.cost, rtol=1e-7)
        np.testing.assert_allclose(found.x[k], peer.x, rtol=1e-4)


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"linear"}))
def test_a_loss_is_what_its_weights_say(loss):
    """Jᵀ F of what is weighted is the gradient of the cost, and JᵀJ its Hessian where that is positive."""
    scale = 0.8
    cost = lambda f: jnp.sum(twice_cost(loss, scale, f)) / 2
    every = jax.jit(lambda f: (*weighted(loss, scale, f, jnp.eye(6)), jax.grad(cost)(f), jax.hessian(cost)(f)))
    weighted_f, j, gradient, hessian = map(np.asarray, every(np.array([-3.0, -0.4, 0.0, 0.1, 0.9, 5.0])))
    np.testing.assert_allclose(j.T @ weighted_f, gradient, atol=1e-12)
    curvature = np.maximum(np.diagonal(hessian), np.finfo(float).eps)
    np.testing.assert_allclose(np.diagonal(j) ** 2, curvature, atol=1e-12)


# --- Derivatives -------------------------------------------------------------------------------------------------


def test_derivatives_of_a_fit(data):
    """By the data, the bounds, and through a loss; with and without second derivatives of the model."""
    x0, y = data[0][0], data[1][0]
    direction = np.cos(np.arange(len(T)))

    def answer(shift, bound):
        upper = np.array([9.0, 0.8, 9.0]) + np.array([0.0, 1.0, 0.0]) * bound
        x = jol.least_squares(
            misfit, x0, y + shift * direction, bounds=(0, upper), loss="soft_l1", f_scale=0.1, batched=False,
            solver=PLAIN,
        ).x  # fmt: skip
        return x, x

    with_slopes, step = jax.jit(jax.jacobian(answer, (0, 1), has_aux=True)), 1e-5
    at = lambda shift, bound: np.asarray(with_slopes(shift, bound)[1])
    found = np.asarray(with_slopes(0.0, 0.0)[0])
    np.testing.assert_allclose(found[0], (at(step, 0.0) - at(-step, 0.0)) / (2 * step), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found[1], (at(0.0, step) - at(0.0, -step)) / (2 * step), rtol=1e-5)
    np.testing.assert_allclose([found[0][1], found[1][1]], [0, 1], atol=1e-12)  # at its bound


def test_the_curvature_of_a_cost_in_reverse_mode():
    """A line is fitted to y: the cost is ½ yᵀ(I − P) y, with P the projection on what lines can be."""
    columns = np.stack([np.ones(5), np.arange(5.0)], axis=1)

    def cost(y):
        return jol.least_squares(lambda b, y: columns @ b - y, np.zeros(2), y, batched=False, solver=PLAIN).cost

    found = jax.jit(jax.jacrev(jax.grad(cost)))(np.array([1.0, 3.0, 2.0, 5.0, 4.0]))
    np.testing.assert_allclose(found, np.eye(5) - columns @ np.linalg.pinv(columns), atol=1e-12)


def test_gauss_newton_derivatives_leave_the_curvature_of_the_model_out(data):
    x0, y = data[0][0], data[1][0]

    def fit(y):
        x = jol.least_squares(misfit, x0, y, batched=False, derivatives="gauss-newton", solver=PLAIN).x
        return x, x

    slope = jax.jit(jax.jacobian(fit, has_aux=True))
    without, (a, k, _) = map(np.asarray, slope(y))
    j = np.stack([np.exp(-k * T), -a * T * np.exp(-k * T), np.ones_like(T)], axis=1)
    np.testing.assert_allclose(without, np.linalg.pinv(j), rtol=1e-8)
    steps = 1e-5 * np.eye(len(T))
    with_it = np.stack([np.subtract(slope(y + step)[1], slope(y - step)[1]) / 2e-5 for step in steps], axis=1)
    assert abs(with_it - np.linalg.pinv(j)).max() > 1e-4


def test_gauss_newton_derivatives_need_no_second_derivative_of_the_model():
    """The model's rule calls the host, which JAX cannot differentiate."""

    def slopes(b):
        return np.stack([T**0, -b[1] * T**2 * np.exp(-b[1] * T)], axis=1)

    model = jax.custom_jvp(lambda b: b[0] + jnp.exp(-b[1] * T) * (1 + b[1] * T))
    rule = lambda b: jax.pure_callback(slopes, jax.ShapeDtypeStruct((len(T), 2), b.dtype), b, vmap_method="sequential")
    model.defjvp(lambda b, change: (model(*b), rule(*b) @ change[0]))
    by_b = lambda b: b[0] + np.exp(-b[1] * T) * (1 + b[1] * T)
    true, wave = np.array([0.3, 0.8]), 0.01 * np.cos(5 * T)

    def fit(size):
        y = by_b(true) + size * wave
        found = jol.least_squares(
            lambda b, y: model(b) - y, true, y, batched=False, derivatives="gauss-newton", solver=PLAIN
        )
        return (found.x, found.cost, found.grad), found.x

    (move, cost, unknown), x = jax.jit(jax.jacrev(fit, has_aux=True))(1.0)
    np.testing.assert_allclose(move, np.linalg.pinv(slopes(np.asarray(x))) @ wave, rtol=1e-6)
    np.testing.assert_allclose(cost, (by_b(true) + wave - by_b(np.asarray(x))) @ wave, rtol=1e-6)
    assert np.isnan(unknown).all()


# --- What the dtype cannot hold -----------------------------------------------------------------------------------


def test_squares_out_of_range_are_no_success():
    """In float32 the squares of 1e-23 are zero, and so would all slopes be; those of 1e20 are infinite."""
    t = np.linspace(1, 2, 20, dtype=np.float32)
    fun = lambda b, args: args[0] * (b[0] * t - t - args[1] * jnp.cos(7 * t))
    units, wave = np.float32([1e-23, 1e-16, 1, 1e15, 1e20]), np.repeat(np.float32([0.01, 0]), 5)
    found = fitted(fun, np.full((10, 1), 3, np.float32), (np.tile(units, 2), wave))
    np.testing.assert_array_equal(found.success[:5], [False, True, True, True, False])
    np.testing.assert_allclose(found.x[1:4], np.dot(t, t + 0.01 * np.cos(7 * t)) / np.dot(t, t), rtol=1e-5)
    np.testing.assert_array_equal(found.status[6:9], 0)  # where the fit is exact


def test_a_scale_that_is_not_finite_inside_a_program_is_no_success():
    fun = lambda x: x[0] - jnp.arange(4.0)
    by = lambda scale: jol.least_squares(fun, jnp.zeros((2, 1)), loss="cauchy", f_scale=scale).status
    assert jax.jit(by)(np.array([1.0, np.inf])).tolist() == [Status.CONVERGED, Status.NONFINITE_START]


# --- What is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"loss": "square"}, ValueError, "loss='square': expected one of 'linear', 'soft_l1'"),
        ({"f_scale": -1.0}, ValueError, "f_scale=-1.0"),
        ({"f_scale": [1.0, 0.0]}, ValueError, r"f_scale=\[1.0, 0.0\]: expected positive, finite numbers"),
        ({"f_scale": np.inf}, ValueError, "f_scale=inf"),
        ({"derivatives": "none"}, ValueError, "derivatives='none'"),
        ({"solver": jol.BFGS()}, TypeError, "does not fit `least_squares`: expected LevenbergMarquardt"),
        ({"method": "trf"}, TypeError, "`solver` selects the method"),
        ({"backend": "kernel"}, ValueError, "cannot be a kernel"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        jol.least_squares(misfit, np.ones((2, 3)), np.ones((2, 25)), **settings)


@pytest.mark.parametrize("solve", [jol.least_squares, jol.minimize, jol.root])
def test_whole_numbers_have_no_derivative(solve):
    with pytest.raises(TypeError, match="returned int64, which has no derivative"):
        solve(lambda x: jnp.round(x[0]).astype(int), np.ones((2, 1)))


def test_a_function_without_residuals_is_refused():
    with pytest.raises(ValueError, match="fun\\(x, args\\) returned no numbers"):
        jol.least_squares(lambda x: x[:0], np.ones((2, 3)))
    with pytest.raises(TypeError, match="does not fit `minimize`"):
        jol.minimize(lambda x: x[0], np.ones((2, 3)), solver=jol.LevenbergMarquardt())


CREEPING = np.array([[1.0, 1.0], [0.92, 1.15], [1.0, 1.1]])


@pytest.mark.slow  # a program has no other method in the test of large residuals
def test_in_a_program_a_fit_that_creeps_away_has_all_its_steps():
    jitted = jax.jit(lambda x0: jol.least_squares(lambda x, _: beale(x), x0))(CREEPING)
    assert jitted.status.tolist() == [Status.CONVERGED, Status.MAX_STEPS, Status.MAX_STEPS]
    assert np.all(np.asarray(jitted.steps)[1:] == 1000)


def test_a_fit_that_creeps_away_is_given_to_newtons_method(monkeypatch):
    """From the second and third start steps lead to infinity, slower and slower, as MINPACK's do."""
    traced, method = [], pipeline.run_methods
    monkeypatch.setattr(pipeline, "run_methods", lambda *a: traced.append(a[0].reach) or method(*a))
    x0, fun = CREEPING, lambda x, _: 2 * beale(x)  # a function that no other test has tried
    few = jol.least_squares(fun, x0, solver=jol.LevenbergMarquardt(max_steps=150))
    assert few.status.tolist() == [Status.CONVERGED, Status.MAX_STEPS, Status.MAX_STEPS]
    assert traced == [Reach.FIRST]  # who has no steps left needs no other method
    plain = jol.least_squares(fun, x0)
    assert np.all(plain.status == Status.CONVERGED) and np.all(np.asarray(plain.steps) > [0, 200, 200])
    np.testing.assert_allclose(plain.x, [[3, 0.5]] * 3, rtol=1e-6)
    assert Reach.FALLBACK in traced


@pytest.mark.slow
def test_answers_that_are_no_native_function_are_verified_alike_beside_an_undetermined_fit():
    grid = np.linspace(-1, 1, 40)

    def misfit(b, target):  # Fourier transforms cannot be part of a native function
        slopes, data = target
        return jnp.fft.irfft(jnp.fft.rfft(b[0] * grid + b[1] * slopes + b[2] * b[2]), grid.size) - data

    # In the last problem the first two columns of the Jacobian are the same to six digits.
    slopes = np.stack([grid**3, np.sin(2 * grid), grid + 1e-6 * grid**3])
    data = 2 * grid + slopes + 0.5 + 0.1 * np.cos(9 * grid)
    starts = np.tile([1.0, 0.5, 0.9], (3, 1))
    together = jol.least_squares(misfit, starts, (slopes, data))
    alone = jol.least_squares(misfit, starts[1:2], (slopes[1:2], data[1:2]))
    assert together.success.all()
    for name in ("x", "fun", "grad", "error", "cost", "triangle"):
        assert np.array_equal(getattr(together, name)[1:2], getattr(alone, name)), name
    j = np.stack([np.broadcast_to(grid, slopes.shape), slopes, 2 * together.x[:, 2:] + 0 * slopes], axis=2)
    r = np.linalg.qr(j).R
    assert np.allclose(np.abs(together.triangle), np.abs(r), rtol=1e-8, atol=1e-8)
