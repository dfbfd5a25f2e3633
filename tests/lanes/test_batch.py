"""A user's pytrees as a batch of arrays, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes.batch import axis_per_leaf, batch_of

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
    "a list of lists": (dict(x0=[[1.0, 2.0], [3.0, 4.0]]), ValueError, ["x0[0][0]", "pass one: a list"]),
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
