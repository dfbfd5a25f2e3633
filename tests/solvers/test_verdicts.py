"""The verdict is true: right to rounding is a success, whatever the units, and what is bounded is not unbounded."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxopt_lite as jol
from jaxopt_lite import Status

hardly_optimized = pytest.mark.hardly_optimized  # not where rounding decides, which is another then
# Where some problem needs the later methods, one program with all of them compiles in less time than one after another.
root, minimize = (jax.jit(entry, static_argnames="fun") for entry in (jol.root, jol.minimize))

# --- Roots in units that leave no digit for an absolute tolerance ------------------------------------------------


def gas(p, density):
    """A pressure of some 1e8 Pa, of a gas that is not quite ideal."""
    return p * (1 + 3e-11 * p) - density * 296.8 * 310.0


def gas_pressure(density):
    a, c = 3e-11, np.asarray(density, np.float64) * 296.8 * 310.0
    return 2 * c / (1 + np.sqrt(1 + 4 * a * c))


def radiating(t, before):
    """A step of implicit Euler of a temperature near 300 K."""
    return t - before + 0.1 * (t - 280.0) + 2e-9 * (t**4 - 280.0**4)


@pytest.mark.parametrize(
    "solver",
    [
        jol.Broyden(rescue=False),
        pytest.param(jol.Broyden(), marks=pytest.mark.slow),
        pytest.param(jol.LimitedBroyden(), marks=pytest.mark.slow),
        pytest.param(jol.Broyden(jacobian="identity"), marks=pytest.mark.slow),
    ],
)
def test_a_pressure_in_pascal_is_found(solver):
    density = np.linspace(500, 1500, 64)
    answer = lambda d: (lambda found: (found.x, found))(jol.root(gas, d * 9e4, d, solver=solver))
    slope_of = jax.jit(lambda d: jax.jvp(answer, (d,), (jnp.ones_like(d),), has_aux=True)[1:])
    slope, found = slope_of(density)
    assert found.success.all() and (found.status == Status.AT_PRECISION).any()
    np.testing.assert_allclose(found.x, gas_pressure(density), rtol=1e-14)
    assert found.evaluations.max() < 100
    np.testing.assert_allclose(slope, np.gradient(gas_pressure(density), density), rtol=1e-3)


@pytest.mark.slow
def test_temperatures_in_float32_are_found():
    before = np.random.default_rng(0).uniform(220, 380, 500).astype(np.float32)
    found = jol.root(radiating, before, before)
    assert found.success.all() and found.evaluations.max() < 100
    exact = jol.root(radiating, before.astype(np.float64), before.astype(np.float64)).x
    np.testing.assert_allclose(found.x, exact, rtol=2e-7)


@pytest.mark.parametrize("rescue", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_tolerance_is_too_small(rescue):
    """With a tolerance of zero a linear system is solved as well as it can be, and is told so."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(50, 3, 3)), rng.normal(size=(50, 3))
    solver = jol.Broyden(atol=0.0, rtol=0.0, rescue=rescue)
    found = root(lambda x, ab: ab[0] @ x - ab[1], np.zeros((50, 3)), (a, b), solver=solver)
    assert found.success.all() and found.evaluations.max() < 100
    np.testing.assert_allclose(found.x, np.linalg.solve(a, b[..., None])[..., 0], rtol=1e-9)


@hardly_optimized
def test_what_is_off_by_more_than_rounding_is_no_success():
    """Equations without a root that come close to zero, in units in which the distance looks like rounding, or not."""
    close, units = np.array([1e-3, 1e-6, 1.0, 1e3]), np.array([1.0, 1.0, 1e9, 1e9])
    found = root(lambda x, a: a[1] * (x - 3.0) ** 2 + a[0], np.full(4, 2.0), (close, units))
    assert not found.success.any()


# --- Minima ------------------------------------------------------------------------------------------------------


def test_fits_in_float32_end_where_rounding_ends_them():
    """χ² of a decay with 150 points: f is some 100, and its gradient cannot come below 1e-3 for rounding."""
    t = np.linspace(0, 2, 150, dtype=np.float32)
    heights = np.linspace(40, 160, 40, dtype=np.float32)
    noise = np.random.default_rng(2).standard_normal((40, 150)).astype(np.float32)
    data = heights[:, None] * np.exp(-0.8 * t) + noise

    def misfit(p, d):
        return jnp.sum((p[0] * jnp.exp(-p[1] * t.astype(p.dtype)) - d) ** 2)

    found = minimize(misfit, np.tile(np.float32([80, 0.5]), (40, 1)), data)
    model = lambda t, height, rate: height * np.exp(-rate * t)
    exact = [scipy.optimize.curve_fit(model, t.astype(float), d, [80, 0.5], ftol=1e-14, xtol=1e-14)[0] for d in data]
    assert found.success.all() and (found.status == Status.AT_PRECISION).any()
    np.testing.assert_allclose(found.x, exact, rtol=1e-5)
    assert found.evaluations.max() < 250


# Bounded below, and steep at these starts: of each the minimiser and the starts.
STEEP = {
    "a pair of atoms": (lambda x: 4 * (x**-12 - x**-6), 2 ** (1 / 6), [0.5, 1e-2, 1e-4, 1e-7]),
    "a root at zero": (lambda x: x - jnp.sqrt(x), 0.25, [1e-3, 1e-30, 1e-70, 1e-110]),
    "a wall": (lambda x: 1 / x + x, 1.0, [1e-3, 1e-10, 1e-40, 1e-75]),
    "an exponential": (lambda x: jnp.exp(x) - x, 0.0, [5.0, 50.0, 300.0, -1e3]),
    "a quartic": (lambda x: (x - 1) ** 4 + (x - 1) ** 2, 1.0, [10.0, 1e6, 1e20, -1e30]),
}
NAMES = list(STEEP)
FALLING = [lambda x: x, lambda x: -(x**2), lambda x: x**3, lambda x: -jnp.exp(x), lambda x: 1e-8 * x - 1e3]


@functools.cache
def steep_and_falling(solver):
    """The numbers of the functions, four starts each and then three, and the solution of all by one program."""
    branches = [fun for fun, _, _ in STEEP.values()] + FALLING
    x0 = [start for _, _, starts in STEEP.values() for start in starts] + [-0.5, -2.0, -5.0] * len(FALLING)
    which = np.repeat(np.arange(len(branches)), [4] * len(STEEP) + [3] * len(FALLING))
    chosen = replace(solver, atol=np.where(which < len(STEEP), 1e-6, 1e-12))
    fun = lambda x, k: jax.lax.switch(jnp.clip(k, 0, len(branches) - 1), branches, x)
    return which, minimize(fun, np.array(x0), which, solver=chosen)


each_with_a_fallback = pytest.mark.parametrize(
    "solver",
    [jol.BFGS(rescue=True), pytest.param(jol.LBFGS(rescue=True), marks=pytest.mark.slow)],
    ids=["BFGS", "LBFGS"],
)


@hardly_optimized
@each_with_a_fallback
def test_behind_a_steep_start_there_is_a_minimum(solver):
    which, found = steep_and_falling(solver)
    for k, status, x in zip(which, *map(np.asarray, (found.status, found.x)), strict=True):
        if k < len(STEEP):
            assert Status(status).name in ("CONVERGED", "AT_PRECISION"), NAMES[k]
            np.testing.assert_allclose(abs(x), STEEP[NAMES[k]][1], rtol=1e-4, atol=1e-4)


@hardly_optimized
@each_with_a_fallback
def test_what_falls_without_end_is_unbounded(solver):
    which, found = steep_and_falling(solver)
    assert (np.asarray(found.status)[which >= len(STEEP)] == Status.UNBOUNDED).all()


@pytest.mark.slow
@hardly_optimized
def test_what_falls_without_end_is_unbounded_in_float32():
    which = np.repeat(np.arange(5), 3)
    x0 = np.tile([-0.5, -2.0, -5.0], 5)
    fun = lambda x, k: jax.lax.switch(jnp.clip(k, 0, 4), FALLING, x)
    found = jol.minimize(fun, x0.astype("float32"), which, solver=jol.BFGS(atol=1e-12))
    assert (found.status == Status.UNBOUNDED).all()


# --- Signs -------------------------------------------------------------------------------------------------------


@hardly_optimized
@pytest.mark.parametrize(
    "solver",
    [
        jol.Broyden(jacobian="identity", rescue=False),
        pytest.param(jol.LimitedBroyden(rescue=False), marks=pytest.mark.slow),
    ],
)
def test_the_sign_of_the_equations_does_not_matter(solver):
    x0 = np.random.default_rng(3).normal(size=(32, 3))

    def settling(x, sign):
        return sign * (jnp.tanh(0.4 * x + 0.1 * jnp.roll(x, 1) + 0.7) - x)

    plus, minus = (jol.root(settling, x0, np.full(32, sign), solver=solver) for sign in (1.0, -1.0))
    assert plus.success.all() and minus.success.all()
    np.testing.assert_array_equal(plus.x, minus.x)
