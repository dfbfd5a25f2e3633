"""What rounding may do to a value: as much as it does, and no more where the value means something."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes.rounding import is_rounding

LARGE = 3e8


def noise(fun, x):
    """Whether the value of a function is rounding alone."""
    return bool(jax.jit(lambda x: is_rounding(fun, x))(x))


def exact_root(fun, low, high):
    """A root by bisection, in the dtype of the ends: the last two neighbours."""
    for _ in range(200):
        middle = low + (high - low) / 2
        low, high = (middle, high) if fun(middle) * fun(low) > 0 else (low, middle)
    return low, high


def by_scan(x):
    """x³ − 2e6, by a loop over three factors."""
    return jax.lax.scan(lambda y, _: (y * x, None), jnp.ones_like(x), None, length=3)[0] - 2e6


SIMPLE = {
    "in large units": (lambda x: x * (1 + 1e-10 * x) - LARGE, 1.0, 1e9),
    "a cubic in a loop": (by_scan, 1.0, 1e3),
    "a choice": (lambda x: jax.lax.cond(x[0] > 5, lambda x: x - LARGE, lambda x: x - 1.0, x), 10.0, 1e9),
    "an exponential": (lambda x: jnp.exp(x) - 1e7, 1.0, 50.0),
    "under a rule of its own": (lambda x: jax.nn.softplus(x) - 1e5, 1.0, 1e6),
    "a sum of many": (lambda x: jnp.sum(jnp.sin(jnp.arange(3000.0, dtype=x.dtype)) + x)[None] - 3e7, 1.0, 1e6),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SIMPLE)
def test_neighbours_of_a_root_are_as_good_as_it_and_no_point_farther_off_is(name, dtype):
    fun, low, high = SIMPLE[name]
    value, check = jax.jit(fun), jax.jit(lambda x: is_rounding(fun, x))
    low, high = np.array([low, high], dtype)
    ends = exact_root(lambda x: float(value(np.array([x]))[0]), low, high)
    assert all(check(np.array([end])) for end in ends)
    for far in (1 - 1e3 * np.finfo(dtype).eps, 1 + 1e3 * np.finfo(dtype).eps, 0.9, 1.1):
        assert not check(np.array([ends[0] * far], dtype))


@pytest.mark.parametrize("dtype", [pytest.param("float16", marks=pytest.mark.slow), "bfloat16", "float32", "float64"])
def test_a_step_and_infinity_are_no_roots(dtype):
    x = np.ones(1, jnp.dtype(dtype))
    above = np.nextafter(x, 2 * x)
    assert not noise(lambda x: jnp.where(x > 1, 1, -1).astype(x.dtype), x)
    assert not noise(lambda x: 1 / (x - 1), x)
    assert not noise(lambda x: jnp.log(x - 2), x)
    if jnp.finfo(dtype).bits > 16:  # a pole beside x, whose value changes its sign there
        assert not noise(lambda x: 1 / (x - 1), above)


def test_a_double_root_is_as_good_as_the_terms_that_cancel():
    """1e8 (x² − 2x + 1) is zero or 1e-8 anywhere within 1e-8 of 1: its slope is no measure of its rounding."""
    fun = lambda x: 1e8 * (x * x - 2 * x + 1)
    check = jax.jit(jax.vmap(lambda x: is_rounding(fun, x[None])))
    assert check(1 + np.array([0.0, 1e-9, 1e-8])).all() and not check(1 + np.array([1e-6, 1e-4, 0.1])).any()


def test_every_number_counts_and_data_are_exact():
    """One equation of two is solved; and what does not depend on x is not rounded unless it is computed."""
    fun = lambda x: jnp.stack([x[0] - LARGE, x[1] - 1.0])
    assert noise(fun, np.array([LARGE + 3e-8, 1.0]))
    assert not noise(fun, np.array([LARGE, 1.1]))
    assert not noise(lambda x: 0 * x + 1e-300, np.array([1.0]))


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_neither_large_nor_small_numbers_overflow(size):
    fun = lambda x: jnp.float32(size) * (x - 3)
    assert noise(fun, np.float32([3])) and noise(fun, np.float32([3 + 2e-7]))
    assert not noise(fun, np.float32([3.01])) and not noise(fun, np.float32([1e9]))
