"""NIST's regressions: models, objectives and resamples held against the certified answers, apart from our solvers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.demo import regression
from jaxopt_lite.demo.nist import read

pytestmark = pytest.mark.hardly_optimized

NAMES = sorted(regression.MODELS)
QUICK = {"Chwirut2", "Kirby2", "MGH09", "Rat42", "Thurber"}  # where what is not of the data alone is tried
SOME = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_certified_residual_sum_of_squares_is_reproduced(name):
    dataset = read(name)
    total = float((regression.residuals(dataset, dataset.parameters) ** 2).sum())
    np.testing.assert_allclose(total, dataset.residual_sum_of_squares, rtol=1e-10)


@pytest.mark.parametrize("name", SOME)
def test_certified_parameters_are_stationary_and_a_minimum(name):
    """A Newton step from the certified values stays within their 11 certified digits."""
    dataset = read(name)
    args = regression.near(dataset, dataset.parameters)
    fun = regression.sum_of_squares(dataset)
    slopes = jax.jit(lambda z: (jax.grad(fun)(z, args), jax.hessian(fun)(z, args)))
    gradient, hessian = slopes(jnp.zeros(len(dataset.parameters)))
    assert np.linalg.eigvalsh(hessian).min() > 0
    step = args["directions"] @ np.linalg.solve(hessian, gradient)
    np.testing.assert_allclose(step / dataset.parameters, 0, atol=1e-8)


@pytest.mark.parametrize("name", SOME)
def test_certified_standard_deviations_follow_from_the_models_slopes(name):
    dataset = read(name)
    A = regression.independent_directions(dataset, dataset.parameters)
    np.testing.assert_allclose(np.linalg.norm(A, axis=1), dataset.standard_deviations, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(regression.POSITIVE))
def test_where_parameters_are_positive_so_are_nists(name):
    dataset = read(name)
    assert (dataset.parameters > 0).all() and (dataset.starts > 0).all()


def test_arithmetic_follows_the_dtype():
    dataset = read("Rat42")
    single = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), regression.near(dataset, dataset.parameters))
    assert regression.sum_of_squares(dataset)(np.zeros(3, np.float32), single).dtype == np.float32


def test_bootstrap_resamples_centered_widened_residuals_around_the_certified_fit():
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


@pytest.mark.parametrize("name", SOME)
def test_along_the_independent_directions_the_slopes_are_orthonormal(name):
    """In units of the errors' standard deviation, so that the covariance of the estimates is the identity."""
    dataset = read(name)
    b, A = dataset.parameters, regression.independent_directions(dataset, dataset.parameters)
    J = jax.jit(jax.jacfwd(lambda z: regression.residuals(dataset, b + A @ z)))(jnp.zeros(len(b)))
    variance = dataset.residual_sum_of_squares / dataset.degrees_of_freedom
    np.testing.assert_allclose(J.T @ J / variance, np.eye(len(b)), atol=1e-6)


@pytest.mark.parametrize("name", ["Chwirut2", "Kirby2", "Thurber"])
def test_near_a_fit_is_the_sum_of_squares_in_units_of_the_variance(name):
    dataset = read(name)
    b, args = dataset.parameters, regression.near(dataset, dataset.parameters)
    fun = jax.jit(regression.sum_of_squares(dataset))
    variance = dataset.residual_sum_of_squares / dataset.degrees_of_freedom
    for z in np.random.default_rng(2).normal(size=(5, len(b))):
        expected = (regression.residuals(dataset, b + args["directions"] @ z) ** 2).sum()
        np.testing.assert_allclose(fun(z, args) * 2 * variance, expected, rtol=1e-8)
    np.testing.assert_allclose(fun(np.zeros(len(b)), args), dataset.degrees_of_freedom / 2, rtol=1e-8)


def test_a_senseless_count_is_refused():
    dataset = read("Rat42")
    with pytest.raises(ValueError, match="count: expected a number of resamples >= 0, got -1"):
        regression.bootstrap(dataset, dataset.parameters, -1)
