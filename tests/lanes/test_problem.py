"""A user's function on lanes computes what it computes for each problem, and so do its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes.batch import axis_per_leaf, batch_of
from jaxopt_lite.lanes.problem import LaneProblem, trace

pytestmark = pytest.mark.hardly_optimized


def lane_problem(fun, x0, args=None, args_axes=0, has_aux=False):
    laid_out, layout = batch_of(x0, args, axis_per_leaf(args, args_axes), True)
    function, laid_out = trace(fun, laid_out, layout, has_aux)
    leaves = tuple(
        jnp.moveaxis(leaf, 0, -1) if mapped else leaf
        for leaf, mapped in zip(laid_out.leaves, laid_out.is_mapped, strict=True)
    )
    return LaneProblem(function, leaves, laid_out.is_mapped), laid_out.x.T, function, laid_out


SHIFT = np.array([0.5, -0.5])


def system(x, a):
    return jnp.stack([x[0] ** 2 * a, x[0] * jnp.sin(x[1])]) + SHIFT


def test_values_and_derivatives_on_lanes_are_those_of_each_problem():
    rng = np.random.default_rng(0)
    x0, a, p = rng.standard_normal((5, 2)), rng.standard_normal(5), rng.standard_normal((2, 5))
    problem, x, _, _ = lane_problem(system, x0, a)
    np.testing.assert_allclose(problem.value(x).T, jax.vmap(system)(x0, a), rtol=1e-14)
    jacobians = np.asarray(jax.vmap(jax.jacrev(system))(x0, a))
    value, jacobian = problem.value_and_jacobian(x)
    np.testing.assert_allclose(value.T, jax.vmap(system)(x0, a), rtol=1e-14)
    np.testing.assert_allclose(np.moveaxis(jacobian, -1, 0), jacobians, rtol=1e-13)
    value, slope = problem.value_and_slope(x, p)
    np.testing.assert_allclose(value.T, jax.vmap(system)(x0, a), rtol=1e-14)
    np.testing.assert_allclose(slope.T, np.einsum("bij,jb->bi", jacobians, p), rtol=1e-13)
    np.testing.assert_allclose(problem.pullback(x, p).T, np.einsum("bji,jb->bi", jacobians, p), rtol=1e-13)


def test_the_gradient_of_a_scalar():
    x0 = np.random.default_rng(1).standard_normal((4, 3))
    fun = lambda x, a: jnp.sum(jnp.exp(x) * a)
    problem, x, function, _ = lane_problem(fun, x0, np.arange(3.0), None)
    assert function.is_scalar and function.size == 1
    value, grad = problem.value_and_grad(x)
    np.testing.assert_allclose(value, np.exp(x0) @ np.arange(3.0), rtol=1e-14)
    np.testing.assert_allclose(grad.T, np.exp(x0) * np.arange(3.0), rtol=1e-14)


def test_what_is_closed_over_becomes_a_leaf():
    table = jnp.arange(6.0).reshape(2, 3)
    _, _, function, laid_out = lane_problem(lambda x, a: jnp.sum(table @ x) + a, np.ones((4, 3)), np.zeros(4))
    assert laid_out.is_mapped == (True, False)
    np.testing.assert_array_equal(laid_out.leaves[1], table)
    value, _ = function(jnp.ones(3), (jnp.float64(1), 2 * table))
    assert value[0] == 1 + 2 * table.sum()


def test_a_pytree_of_residuals_comes_back():
    fun = lambda x, a: {"u": x["p"] * 2, "v": (x["q"], jnp.float64(1))}
    _, _, function, _ = lane_problem(fun, {"p": np.zeros(2), "q": np.zeros((2, 2))})
    assert function.size == 4 and not function.is_scalar
    value, _ = function(jnp.array([1.0, 2.0, 3.0]), ())
    assert jax.tree.map(np.shape, function.unravel_value(value)) == {"u": (), "v": ((2,), ())}


def test_the_function_is_traced_once():
    traces = []
    fun = lambda x, a: (traces.append(x), jnp.sum(x))[1]
    lane_problem(fun, np.zeros((4, 3)))
    assert len(traces) == 1


def test_errors_about_the_value():
    with pytest.raises(TypeError, match=r"the value of fun\(x, args\) is complex"):
        lane_problem(lambda x, a: x * 1j, np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"has_aux=True fun must return a pair \(value, aux\); got"):
        lane_problem(lambda x, a: x, np.zeros((2, 2)), has_aux=True)
