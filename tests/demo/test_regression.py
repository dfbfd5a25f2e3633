"""NIST's regressions: models, objectives and resamples held against the certified answers, apart from our solvers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxopt_lite.demo import regression
from jaxopt_lite.demo.nist import read

pytestmark = pytest.mark.hardly_optimized

NAMES = sorted(regression.MODELS)
EASY = ["Misra1a", "DanWood", "Kirby2", "Hahn1", "Rat42", "Thurber"]


@pytest.mark.parametrize("name", NAMES)
def test_certified_residual_sum_of_squares_is_reproduced(name):
    dataset = read(name)
    total = float((regression.residuals(dataset, dataset.parameters) ** 2).sum())
    np.testing.assert_allclose(total, dataset.residual_sum_of_squares, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_certified_parameters_are_stationary_and_a_minimum(name):
    """A Newton step from the certified values stays within their 11 certified digits."""
    dataset = read(name)
    _, args = regression.initial(dataset, start=1)
    u = dataset.parameters / np.diag(args["directions"])
    objectives = (regression.sum_of_squares(dataset), regression.negative_log_likelihood(dataset))
    slopes = jax.jit(lambda u: [(jax.grad(fun)(u, args), jax.hessian(fun)(u, args)) for fun in objectives])
    for gradient, hessian in slopes(u):
        assert np.linalg.eigvalsh(hessian).min() > 0
        np.testing.assert_allclose(np.linalg.solve(hessian, gradient) / u, 0, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_certified_standard_deviations_follow_from_the_models_slopes(name):
    dataset = read(name)
    A = regression.independent_directions(dataset, dataset.parameters)
    np.testing.assert_allclose(np.linalg.norm(A, axis=1), dataset.standard_deviations, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_starts_are_scaled_to_one_and_give_the_starts_back(name):
    dataset = read(name)
    for start in (0, 1):
        u, args = regression.initial(dataset, start)
        np.testing.assert_array_equal(np.abs(u), 1)
        np.testing.assert_allclose(args["center"] + args["directions"] @ u, dataset.starts[start], rtol=1e-15)


@pytest.mark.parametrize("name", EASY)
def test_scipys_bfgs_finds_the_certified_parameters(name):
    """The scaled likelihood needs no tuning: SciPy's defaults reach six digits, from both starts."""
    dataset = read(name)
    value_and_gradient = jax.jit(jax.value_and_grad(regression.negative_log_likelihood(dataset)))
    for start in (0, 1):
        check_scipys_bfgs(dataset, value_and_gradient, start)


def check_scipys_bfgs(dataset, value_and_gradient, start):
    u, args = regression.initial(dataset, start)
    found = optimize.minimize(
        lambda u: [np.asarray(part, float) for part in value_and_gradient(u, args)],
        u,
        jac=True,
        method="BFGS",
    )
    np.testing.assert_allclose(args["directions"] @ found.x, dataset.parameters, rtol=1e-6)


def test_objectives_are_the_unexplained_share_and_its_logarithm():
    dataset = read("Thurber")
    u, args = regression.initial(dataset, start=1)
    share = regression.sum_of_squares(dataset)(u, args)
    expected = (regression.residuals(dataset, dataset.starts[1]) ** 2).sum() / (dataset.y.var() * 37)
    np.testing.assert_allclose(share, expected, rtol=1e-12)
    np.testing.assert_allclose(regression.negative_log_likelihood(dataset)(u, args), 37 / 2 * np.log(share))


def test_arithmetic_follows_the_dtype():
    dataset = read("Rat42")
    single = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), regression.initial(dataset))
    for objective in (regression.sum_of_squares(dataset), regression.negative_log_likelihood(dataset)):
        assert objective(*single).dtype == np.float32


def test_bootstrap_resamples_centred_widened_residuals_around_the_certified_fit():
    dataset = read("Kirby2")
    rows = regression.bootstrap(dataset, dataset.parameters, count=2000, seed=4)
    errors = np.asarray(regression.residuals(dataset, dataset.parameters))
    noise = rows - (dataset.y - errors)
    possible = (errors - errors.mean()) * np.sqrt(151 / 146)
    assert np.abs(noise[:50, :, None] - possible).min(axis=-1).max() < 1e-10
    spread = np.sqrt(dataset.residual_sum_of_squares / dataset.degrees_of_freedom)
    np.testing.assert_allclose(noise.std(), spread, rtol=0.01)
    assert abs(noise.mean()) < 0.01 * spread


def test_bootstrap_is_repeatable_and_extends():
    dataset = read("Rat42")
    long, short = (regression.bootstrap(dataset, dataset.parameters, count, seed=1) for count in (20, 5))
    np.testing.assert_array_equal(long[:5], short)
    assert (long[0] != regression.bootstrap(dataset, dataset.parameters, 1, seed=2)[0]).any()


def test_bootstrap_refits_spread_as_the_certified_deviations_say():
    """Gauss-Newton refits of resamples scatter about the certified parameters by the certified deviations."""
    dataset = read("Misra1a")
    scale = dataset.parameters
    model = lambda u: regression.MODELS["Misra1a"](scale * u, dataset.x)

    def refit(y):
        u = np.ones(2)
        for _ in range(5):
            J = jax.jacfwd(model)(u)
            u = u + jnp.linalg.solve(J.T @ J, J.T @ (y - model(u)))
        return scale * u

    refits = np.asarray(jax.jit(jax.vmap(refit))(regression.bootstrap(dataset, dataset.parameters, count=400, seed=0)))
    np.testing.assert_allclose(refits.std(axis=0), dataset.standard_deviations, rtol=0.1)
    assert (np.abs(refits.mean(axis=0) - dataset.parameters) < 0.15 * dataset.standard_deviations).all()


@pytest.mark.parametrize("name", NAMES)
def test_along_the_independent_directions_the_slopes_are_orthonormal(name):
    """In units of the errors' standard deviation, so that the covariance of the estimates is the identity."""
    dataset = read(name)
    b, A = dataset.parameters, regression.independent_directions(dataset, dataset.parameters)
    J = jax.jit(jax.jacfwd(lambda z: regression.residuals(dataset, b + A @ z)))(jnp.zeros(len(b)))
    variance = dataset.residual_sum_of_squares / dataset.degrees_of_freedom
    np.testing.assert_allclose(J.T @ J / variance, np.eye(len(b)), atol=1e-6)


@pytest.mark.parametrize("name", ["Chwirut2", "Kirby2", "Thurber"])
def test_near_a_fit_is_the_same_sum_of_squares_in_other_units(name):
    dataset = read(name)
    b, args = dataset.parameters, regression.near(dataset, dataset.parameters)
    fun = jax.jit(regression.sum_of_squares(dataset))
    _, far = regression.initial(dataset)
    variance = dataset.residual_sum_of_squares / dataset.degrees_of_freedom
    for z in np.random.default_rng(2).normal(size=(5, len(b))):
        u = (b + args["directions"] @ z) / np.diag(far["directions"])
        np.testing.assert_allclose(fun(z, args) * 2 * variance, fun(u, far) * far["unit"], rtol=1e-8)
    np.testing.assert_allclose(fun(np.zeros(len(b)), args), dataset.degrees_of_freedom / 2, rtol=1e-8)


def test_senseless_starts_and_counts_are_refused():
    dataset = read("Rat42")
    with pytest.raises(ValueError, match="start: expected 0 or 1, got 2"):
        regression.initial(dataset, 2)
    with pytest.raises(ValueError, match="count: expected a number of resamples >= 0, got -1"):
        regression.bootstrap(dataset, dataset.parameters, -1)
