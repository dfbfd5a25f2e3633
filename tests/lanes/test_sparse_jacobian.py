"""Jacobians of functions that use their unknowns one by one are those of forward mode, with less work."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.jaxprs import equations_in
from jaxopt_lite.lanes.lanes_last import lanes_last
from jaxopt_lite.lanes.sparse_jacobian import value_sparse_jacobian_and_aux

pytestmark = pytest.mark.hardly_optimized

T = np.linspace(0.5, 3, 7)
X = np.array([1.5, -0.7, 2.5, 0.3])


def unpacked(b):
    height, rate, power, offset = b
    return height * jnp.exp(rate * T) + jnp.asarray(T) ** power + offset


@jax.custom_jvp
def doubled(x):
    return 2 * x


doubled.defjvp(lambda x, dx: (doubled(*x), 2 * dx[0]))

SPARSE = {
    "unpacked": unpacked,
    "indexed": lambda b: jnp.stack([b[0] * b[1], b[-1] ** b[2], jnp.maximum(b[1], b[3]), b[3] + 0.0]),
    "slices and reshapes": lambda b: b[1:3].reshape(2, 1)[1] * T + b[::2][1:] - b[:1],
    "split": lambda b: (lambda p: p[0] * jnp.sin(T * p[1]) + p[2] / p[3])(jnp.split(b, 4)),
    "calls": lambda b: jax.nn.softplus(T * b[0]) + jax.jit(lambda c: c * T)(b[1]) + doubled(b[3]) * b[2],
    "sums and products": lambda b: jnp.stack([jnp.sum(b[0] * T), T @ (T * b[1]), jnp.sum(jnp.cumsum(T + b[3]))]),
    "without one of them": lambda b: b[0] + b[2] * T,
    "of none": lambda b: jnp.ones(3),
    "one of two branches": lambda b: jnp.where(T > 1, b[0] * T, b[1]) * b[3],
}
DENSE = {
    "a vector": lambda b: jnp.sin(b) * b[0],
    "part of a vector": lambda b: b[:2] * b[2],
    "mixed early": lambda b: jnp.sin(jnp.cos(jnp.sin(jnp.cos(b[0] * b[1] * b[2] * b[3] * T)))),
    "a loop": lambda b: jax.lax.fori_loop(0, 3, lambda _, c: c * b[1], b[0] * T),
    "another rule": lambda b: jax.lax.scan(lambda c, t: (c * b[1], c * t), b[0], T)[1],
}


@pytest.mark.parametrize("name", SPARSE)
def test_the_jacobian_is_that_of_forward_mode(name):
    f = SPARSE[name]

    def both(x):
        value, j, aux = value_sparse_jacobian_and_aux(lambda x: (f(x), {"first": x[0] + 1, "whole": f(x)}), x)
        return (value, j, aux["whole"]), (f(x), jax.jacfwd(f)(x), f(x)), aux["first"]

    found, expected, first = jax.jit(both)(X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14, strict=True), found, expected)
    assert first == X[0] + 1
    lanes = np.stack([X, X + 0.1, X - 0.1], axis=-1)
    found, expected, _ = jax.jit(lanes_last(both, (True,)))(lanes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), found, expected)


@pytest.mark.parametrize("name", DENSE)
def test_it_is_left_to_forward_mode_where_that_is_better(name):
    assert value_sparse_jacobian_and_aux(lambda x: (DENSE[name](x), None), jnp.asarray(X)) is None


def test_it_is_for_few_unknowns_and_more_than_one():
    for count in (0, 1, 9):
        assert value_sparse_jacobian_and_aux(lambda x: (jnp.ones(2), None), jnp.ones(count)) is None


def test_no_operation_has_only_zeros_to_work_on():
    f = lambda b: (b[0] * jnp.exp(b[1] * T) + jnp.sin(b[2] * T) + b[3], None)
    jaxpr = jax.make_jaxpr(lambda x: value_sparse_jacobian_and_aux(f, x)[1])(X)
    names = Counter(equation.primitive.name for equation, *_ in equations_in(jaxpr))
    assert names["exp"] == names["sin"] == names["cos"] == 1
    assert names["add"] + names["add_any"] == 2  # those of the value; no column is a sum
    assert names["mul"] == 3 + 1 + 3 + 2  # in the value; e¹; b₀ t e¹; t cos


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_slope_of_a_power_is_that_of_jax(dtype):
    """Also at zero, where the power is no number, and where it has overflowed or underflowed; in lanes of their own."""
    bases = [0.0, -0.0, 2.0, -2.0, 1e-30, 1e30, np.inf, -np.inf, np.nan, 1.0, 5e-324]
    exponents = [0.0, 1.0, 2.0, 3.0, 0.5, -1.0, -0.5, 20.0, -20.0, np.inf, np.nan]
    lanes = np.stack([each.ravel() for each in np.meshgrid(bases, exponents)]).astype(dtype)
    f = lambda b: (jnp.stack([b[0] ** b[1], b[0] ** 1.5, b[2] + 0.0]), None)

    def both(b):
        of_base = [jax.jacfwd(lambda x, y=y: x**y)(b[0]) for y in (b[1], 1.5)]
        return value_sparse_jacobian_and_aux(f, b)[1][:2, :2], [*of_base, jax.jacfwd(lambda y: b[0] ** y)(b[1])]

    found, expected = jax.jit(lanes_last(both, (True,)))(np.concatenate([lanes, lanes[:1]]))
    for entry, of_jax in zip((found[0, 0], found[1, 0], found[0, 1]), expected, strict=True):
        np.testing.assert_allclose(entry, of_jax, rtol=4 * np.finfo(dtype).eps)


def test_it_can_be_differentiated_again():
    f = lambda b: (jnp.stack([b[0] ** b[1], jnp.exp(b[2]) * b[3]]), None)
    j = lambda x: value_sparse_jacobian_and_aux(f, x)[1]
    for again in (jax.jacfwd, jax.jacrev):
        found, expected = jax.jit(lambda x: (again(j)(x), jax.jacfwd(jax.jacfwd(lambda x: f(x)[0]))(x)))(abs(X))  # noqa: B023
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)
