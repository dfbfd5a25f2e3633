"""A user's pytrees and function as arrays on lanes, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes.problem import LaneProblem, axis_per_leaf, batch_of, trace

pytestmark = pytest.mark.hardly_optimized


def batch(x0, args=None, args_axes=0, batched=True):
    return batch_of(x0, args, axis_per_leaf(args, args_axes), batched)


def test_pytrees_come_back_as_they_went_in():
    x0 = {"a": np.arange(12.0).reshape(2, 2, 3), "b": [np.array([7.0, 8.0], np.float32), np.ones((2, 1))]}
    laid_out, layout = batch(x0)
    assert laid_out.x.shape == (2, 8) and laid_out.x.dtype == np.float64
    back = jax.vmap(layout.unravel)(laid_out.x)
    assert jax.tree.structure(back) == jax.tree.structure(x0)
    for got, expected in zip(jax.tree.leaves(back), jax.tree.leaves(x0), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "x0, dtype",
    [
        (np.zeros((2, 1), np.float32), "float32"),
        (np.zeros((2, 1), np.float64), "float64"),
        (np.zeros((2, 1), np.int32), "float64"),
        (np.zeros((2, 1), bool), "float64"),
        ([np.zeros((2, 1), np.float32), np.zeros((2, 1), np.int32)], "float32"),
        ([np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float64)], "float64"),
    ],
)
def test_the_dtype_is_that_of_the_floats_or_the_default(x0, dtype):
    laid_out, layout = batch(x0)
    assert laid_out.x.dtype == dtype
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(layout.unravel(laid_out.x[0])))


def test_a_single_problem_gets_a_batch_axis():
    laid_out, _ = batch(np.arange(3.0), np.arange(5), batched=False)
    assert laid_out.x.shape == (1, 3) and laid_out.is_mapped == (False,)
    assert laid_out.leaves[0].shape == (5,)


def test_batch_axes_come_first():
    args = {"last": np.zeros((3, 4, 2)), "middle": np.zeros((3, 2, 4)), "shared": np.zeros(9)}
    laid_out, _ = batch(np.zeros((2, 1)), args, {"last": -1, "middle": 1, "shared": None})
    assert [leaf.shape for leaf in laid_out.leaves] == [(2, 3, 4), (2, 3, 4), (9,)]
    assert laid_out.is_mapped == (True, True, False)


@pytest.mark.parametrize(
    "args_axes, expected",
    [(0, (0, 0, 0)), (None, (None, None, None)), ({"a": 1, "b": None}, (1, None, None)),
     ({"a": None, "b": (0, -1)}, (None, 0, -1)), (np.int64(1), (1, 1, 1))],
)  # fmt: skip
def test_a_prefix_is_spread_over_the_leaves(args_axes, expected):
    assert axis_per_leaf({"a": 1, "b": (2, 3)}, args_axes) == expected


ERRORS = {
    "no leaves": (dict(x0={}), ValueError, ["x0", "at least one array"]),
    "no unknowns": (dict(x0=np.zeros((2, 0))), ValueError, ["x0", "size zero", "at least one number"]),
    "no batch axis": (dict(x0=1.0), ValueError, ["x0", "()", "batched=False"]),
    "sizes of x0": (dict(x0={"a": np.zeros((2, 1)), "b": np.zeros((3, 1))}), ValueError, ["x0['a']: 2", "x0['b']: 3"]),
    "complex": (dict(x0=[np.zeros((2, 1), complex)]), TypeError, ["x0[0]", "complex128", "real"]),
    "text": (dict(x0="abc"), TypeError, ["x0", "numbers"]),
    "sizes of args": (
        dict(x0=np.zeros((2, 1)), args={"k": np.zeros(5)}), ValueError,
        ["args['k']", "5", "axis 0", "expected 2", "args_axes=None"],
    ),
    "no axis": (dict(x0=np.zeros((2, 1)), args=[3.0]), ValueError, ["args[0]", "batch axis 0", "args_axes=None"]),
    "too few axes": (
        dict(x0=np.zeros((2, 1)), args=np.zeros(2), args_axes=3), ValueError, ["args", "(2,)", "batch axis 3"],
    ),
    "not a prefix": (
        dict(x0=np.zeros((2, 1)), args={"a": np.zeros(2)}, args_axes={"b": 0}), ValueError,
        ["args_axes={'b': 0}", "not a prefix", "'a'"],
    ),
    "not an axis": (
        dict(x0=np.zeros((2, 1)), args=np.zeros(2), args_axes="0"), ValueError, ["args_axes", "'0'", "whole numbers"],
    ),
    "a truth value": (
        dict(x0=np.zeros((2, 1)), args=np.zeros((2, 2)), args_axes=True), ValueError, ["args_axes holds True", "whole"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_is_wrong(case):
    arguments, kind, words = ERRORS[case]
    with pytest.raises(kind) as caught:
        batch(**arguments)
    for word in words:
        assert word in str(caught.value)


def lane_problem(fun, x0, args=None, args_axes=0, has_aux=False):
    laid_out, layout = batch(x0, args, args_axes)
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
