"""Covariance, standard errors and intervals of fits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import jaxopt_lite as jol
from jaxopt_lite.solvers.covariance import covariance_of

pytestmark = pytest.mark.hardly_optimized

T = np.linspace(0.1, 4, 25)


def curve(t, a, k, c):
    return a * np.exp(-k * t) + c


def fit(y):
    fun = lambda b, y: (b["a"] * jnp.exp(-b["k"] * T) + b["c"] - y) / 0.05
    size = len(y)
    return jol.least_squares(fun, {"a": np.full(size, 3.0), "c": np.full(size, 0.5), "k": np.ones(size)}, y)


@pytest.fixture(scope="module")
def y():
    return curve(T, 3.0, 0.9, 0.5) + 0.05 * np.random.default_rng(3).standard_normal((5, len(T)))


def test_it_is_that_of_scipy(y):
    """Names sort the unknowns: a, c, k."""
    order = [0, 2, 1]
    for absolute in (False, True):
        found = fit(y).covariance(absolute_sigma=absolute)
        for k, each in enumerate(y):
            _, peer = scipy.optimize.curve_fit(
                curve, T, each, [3, 1, 0.5], np.full(len(T), 0.05), absolute_sigma=absolute, ftol=1e-14, xtol=1e-14
            )
            np.testing.assert_allclose(found.matrix[k], peer[np.ix_(order, order)], rtol=1e-5)
        errors = np.stack([found.standard_errors[name] for name in "ack"], axis=1)
        np.testing.assert_allclose(errors**2, np.diagonal(found.matrix, axis1=1, axis2=2))
        assert all(np.all(found.determined[name]) for name in "ack")


def test_what_the_data_do_not_determine_is_named(y):
    """The sum of two offsets is determined and neither of them; a third unknown has no effect at all."""
    fun = lambda b, y: b[0] * jnp.exp(-b[1] * T) + b[2] + 3 * b[3] - y + 0 * b[4]

    def asked(y):
        fits = jol.least_squares(fun, np.tile([3.0, 1.0, 0.2, 0.1, 7.0], (5, 1)), y)
        found = fits.covariance()
        return fits.success, found, found.propagate(lambda b: b[2] + 3 * b[3]), found.propagate(lambda b: b[2])[1]

    success, found, (value, error), of_one = jax.device_get(jax.jit(asked)(y))
    plain = fit(y).covariance()
    assert success.all() and found.determined.tolist() == [[True, True, False, False, False]] * 5
    assert np.isinf(found.standard_errors[:, 2:]).all() and np.isfinite(found.matrix[:, :2, :2]).all()
    scale = np.sqrt(22 / 20)  # by five unknowns there are two degrees of freedom fewer
    np.testing.assert_allclose(found.standard_errors[:, 0], scale * plain.standard_errors["a"], rtol=1e-6)
    np.testing.assert_allclose(error, scale * plain.standard_errors["c"], rtol=1e-6)
    np.testing.assert_allclose(value, fit(y).x["c"], rtol=1e-6)
    assert np.isinf(of_one).all()


def test_infinite_errors_are_no_finds():
    """By hand: three residuals with the slopes 1, 1 and 0 in the first unknown, none in the second."""
    with jax.debug_infs(True), jax.debug_nans(True):
        found = covariance_of(jnp.ones(2), jnp.diag(jnp.array([jnp.sqrt(2), 0])), jnp.asarray(4.0), 4, False)
        np.testing.assert_allclose(found.standard_errors, [1, np.inf])
        assert np.isinf(found.interval(lambda b: b[0] * b[1])).all()
        with pytest.raises(FloatingPointError):  # what the function returns is still looked at
            found.propagate(lambda b: b[0] / (b[1] - 1))


def test_many_residuals_in_float32_determine_what_they_do():
    """Errors are those in float64; of two columns that are only rounding apart, neither unknown is determined."""
    m, rng = 50_000, np.random.default_rng(0)
    a, b, other = 0.5 + rng.random((3, m))  # of one sign, so that rounding errors of sums do not cancel
    near, same = (np.float32([a, b, (1 + 1e-7) * a + c * other]).T for c in (1e-2, 0))
    j = near.astype(float)
    expected = np.sqrt(np.diag(np.linalg.inv(j.T @ j)))
    r = np.stack([np.linalg.qr(a)[1] for a in (near, same)])
    found = covariance_of(np.zeros((2, 3), np.float32), r, np.ones(2, np.float32), m, True)
    assert found.determined.tolist() == [[True] * 3, [False, True, False]]
    np.testing.assert_allclose(found.standard_errors[0], expected, rtol=1e-2)


def test_errors_are_propagated(y):
    """To a half-life and a curve: the errors by the matrix, the ends by Student's distribution."""
    solution = fit(y)
    found = solution.covariance()
    (k, _), (same, _) = found.propagate(lambda b: b["k"]), found.propagate(lambda b, _: b["k"])
    np.testing.assert_array_equal(k, same)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        _, error = found.propagate(lambda b, t: {"half": jnp.log(2.0) / b["k"], "at": b["a"] * t}, jnp.arange(5.0))
    np.testing.assert_allclose(error["half"], np.log(2) / solution.x["k"] ** 2 * found.standard_errors["k"])
    np.testing.assert_allclose(error["at"], np.arange(5) * found.standard_errors["a"], atol=1e-15)
    lower, upper = found.interval(lambda b: b["k"], level=jnp.array(0.9))
    times = scipy.stats.t.ppf(0.95, len(T) - 3)
    np.testing.assert_allclose((upper - lower) / 2, times * found.standard_errors["k"])
    lower, upper = solution.covariance(absolute_sigma=True).interval(lambda b: b["k"])
    width = scipy.stats.norm.ppf(0.975) * solution.covariance(absolute_sigma=True).standard_errors["k"]
    np.testing.assert_allclose((upper - lower) / 2, width)


def test_errors_are_propagated_for_several_axes_of_fits(y):
    fun = lambda b, y: b[0] * jnp.exp(-b[1] * T) + b[2] - y
    many = jax.vmap(lambda y: jol.least_squares(fun, np.tile([3.0, 1.0, 0.5], (2, 1)), y))
    half_lives = jax.jit(lambda y: many(y).covariance().propagate(lambda b: jnp.log(2) / b[1]))
    half_life, error = half_lives(y[:4].reshape(2, 2, -1))
    one_by_one = fit(y).covariance().propagate(lambda b: jnp.log(2) / b["k"])
    np.testing.assert_allclose((half_life.ravel(), error.ravel()), np.asarray(one_by_one)[:, :4], rtol=1e-6)


@pytest.mark.slow  # several axes of fits are in a program, and one fit is among the regressions
def test_one_fit_in_a_program(y):
    fun = lambda b, y: b[0] * jnp.exp(-b[1] * T) + b[2] - y
    one = lambda y: jol.least_squares(fun, jnp.array([3.0, 1.0, 0.5]), y, batched=False).covariance().standard_errors
    np.testing.assert_allclose(jax.jit(one)(y[0])[1], fit(y).covariance().standard_errors["k"][0], rtol=1e-6)


def test_errors_of_a_linear_fit_have_derivatives():
    """Its Jacobian is constant."""
    u = np.random.default_rng(5).standard_normal((2, 6))
    y = 3 * u + 0.3 * np.random.default_rng(6).standard_normal((2, 6))

    def found(y):
        solver = jol.LevenbergMarquardt(rescue=False)
        fit = jol.least_squares(lambda b: b[:, None] * u - y, jnp.ones(2), batched=False, solver=solver)
        return jnp.sum(fit.covariance().standard_errors)

    residuals = np.sum(u * y, axis=1, keepdims=True) / np.sum(u**2, axis=1, keepdims=True) * u - y
    slopes = -residuals / np.linalg.norm(residuals) / np.sqrt(12 - 2) * np.sum(1 / np.linalg.norm(u, axis=1))
    np.testing.assert_allclose(jax.jit(jax.grad(found))(y), slopes, rtol=1e-6)


def test_the_derivative_of_a_covariance_is_that_of_the_inverse():
    """Also where singular values are equal, as those of columns at right angles."""
    rng = np.random.default_rng(7)
    r = np.stack([np.diag([1.0, 3.0, 0.2]), np.triu(rng.uniform(1, 2, (3, 3)))])
    change, squares = jnp.array([2.0, -3.0, 0.5]), jnp.array([4.0, 5.0])
    x = jnp.ones((2, 3))

    def found(r):
        found = covariance_of(x, r, squares, 9, False)
        return found.matrix, found.propagate(lambda x: jnp.dot(change, x))[1]

    def expected(r):
        matrix = squares[:, None, None] / 6 * jnp.linalg.inv(jnp.swapaxes(r, 1, 2) @ r)
        return matrix, jnp.sqrt(jnp.einsum("bij,i,j->b", matrix, change, change))

    agree = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    slopes = jax.jit(lambda r: (jax.jacrev(found)(r), jax.jacrev(expected)(r)))
    jax.tree.map(agree, *slopes(r))


@pytest.mark.slow
def test_half_precision():
    """A line: s² (AᵀA)⁻¹, in float64 from the same data."""
    dtype = "bfloat16"
    a = np.stack([np.ones(8), np.arange(8.0)], axis=1)
    y = jnp.asarray([1, 3, 5, 8, 9, 11, 12, 15], dtype)

    def line(x0):
        found = jol.least_squares(lambda b: jnp.asarray(a, dtype) @ b - y, x0).covariance()
        return found.matrix, found.propagate(lambda b: b[0] + 10 * b[1])

    matrix, (value, error) = jax.jit(line)(jnp.ones((1, 2), dtype))
    b, squares, *_ = np.linalg.lstsq(a, np.asarray(y, "f8"))
    expected = squares[0] / 6 * np.linalg.inv(a.T @ a)
    np.testing.assert_allclose(matrix[0], expected, rtol=0.05)
    assert value.dtype == dtype
    np.testing.assert_allclose(np.asarray(value, "f8"), [b[0] + 10 * b[1]], rtol=0.02)
    np.testing.assert_allclose(error, [np.sqrt([1, 10] @ expected @ [1, 10])], rtol=0.05)


def test_what_has_no_covariance():
    with pytest.raises(ValueError, match="only a solution of `least_squares`"):
        jax.eval_shape(lambda: jol.minimize(lambda x: jnp.sum(x**2), jnp.ones((1, 2)))).covariance()
    exact = jol.least_squares(lambda x: x**2 - 2, jnp.ones((1, 2)))
    with pytest.raises(ValueError, match="2 residuals and 2 unknowns leave no degree of freedom"):
        exact.covariance()
    with pytest.raises(ValueError, match="absolute_sigma='no': expected True or False"):
        exact.covariance(absolute_sigma="no")
    found = exact.covariance(absolute_sigma=True)
    np.testing.assert_allclose(found.standard_errors, np.full((1, 2), 1 / np.sqrt(8)))
    with pytest.raises(ValueError, match=r"args\['t'\] has shape \(5,\); expected the batch axis .*, \(1,\)"):
        found.propagate(lambda x, a: x[0] * a["t"], {"t": jnp.ones(5)})
    for level in (95, "95", None):
        with pytest.raises(ValueError, match=f"level={level!r}: expected a probability"):
            found.interval(lambda x: x[0], level=level)
    with pytest.raises(TypeError, match="returned numbers of int64, which have no derivative"):
        found.propagate(lambda x: jnp.round(x[0]).astype(int))
