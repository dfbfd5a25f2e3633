"""Interval analysis: every number that a program computes lies in the interval that was worked out for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxopt_lite.bounds.intervals import UNKNOWN, Interval, fit, of_constant, whole
from jaxopt_lite.bounds.ranges import ranges_of

pytestmark = pytest.mark.hardly_optimized

DTYPES = [jnp.int8, jnp.uint8, jnp.int32]
EXAMPLES = [10, pytest.param(60, marks=pytest.mark.slow)]  # of what an operation is given


def intervals_of(fun, *args):
    """The intervals of the results of `fun`, for any arguments of these types."""
    return ranges_of(jax.make_jaxpr(fun)(*args), lambda *_: None)


def assert_inside(fun, *args):
    """What `fun` computes lies in the intervals, and returns these."""
    intervals = intervals_of(fun, *args)
    for interval, out in zip(intervals, jax.tree.leaves(fun(*args)), strict=True):
        out = np.asarray(out)
        assert out.size == 0 or (interval.lo <= out.min() and out.max() <= interval.hi), (interval, out)
    return intervals


BINARY = {
    "add": lax.add,
    "sub": lax.sub,
    "mul": lax.mul,
    "div": lax.div,
    "rem": lax.rem,
    "max": lax.max,
    "min": lax.min,
    "and": lax.bitwise_and,
    "or": lax.bitwise_or,
    "xor": lax.bitwise_xor,
    "shift_left": lax.shift_left,
    "shift_right_arithmetic": lax.shift_right_arithmetic,
    "shift_right_logical": lax.shift_right_logical,
    "lt": lax.lt,
    "le": lax.le,
    "gt": lax.gt,
    "ge": lax.ge,
    "eq": lax.eq,
    "ne": lax.ne,
    "floor_divide": jnp.floor_divide,
    "remainder": jnp.remainder,
    "clamp": lambda x, y: lax.clamp(y, x, lax.add(y, jnp.asarray(3, y.dtype))),
    "where": lambda x, y: jnp.where((x < y) & ~(y < 1), y - x, x),
    "where_or": lambda x, y: jnp.where((x >= y) | (x == 2), jnp.where(x != 0, x, y), -x),
    "concatenate": lambda x, y: jnp.concatenate([x, y]),
    "pad": lambda x, y: lax.pad(x, y[0], [(1, 0, 2)]),
    "update": lambda x, y: x.at[1].set(y[0]),
    "scatter_min": lambda x, y: x.at[0].min(y[0]),
    "apply": lambda x, y: x.at[0].apply(lambda z: ~z),
    "scatter_add": lambda x, y: x.at[0].add(y[0]),
    "take": lambda x, y: jnp.take(x, y),
    "searchsorted": lambda x, y: jnp.searchsorted(x, y),
    "sort": lambda x, y: lax.sort((x, y)),
}
UNARY = {
    "neg": lax.neg,
    "abs": jnp.abs,
    "sign": lax.sign,
    "not": lax.bitwise_not,
    "square": lax.square,
    "integer_pow": lambda x: lax.integer_pow(x, 3),
    "population_count": lax.population_count,
    "sum": lambda x: jnp.sum(x, dtype=x.dtype),
    "cumsum": lambda x: lax.cumsum(x),
    "cummax": lambda x: lax.cummax(x),
    "max": lambda x: x.max(),
    "empty_max": lambda x: lax.reduce_max(x[:0], (0,)),
    "all": lambda x: jnp.all(x > 0),
    "bits": lambda x: lax.reduce_or(x, (0,)),
    "argmin": lambda x: jnp.argmin(x),
    "argsort": lambda x: jnp.argsort(x),
    "top_k": lambda x: lax.top_k(x, 2),
    "iota": lambda x: jnp.arange(5, dtype=x.dtype) + x[0],
    "to_bool": lambda x: x.astype(bool),
    "to_int8": lambda x: x.astype(jnp.int8),
    "to_uint8": lambda x: x.astype(jnp.uint8),
    "through_float": lambda x: x.astype(jnp.float32).astype(jnp.int32),
    "shape": lambda x: x[::-1][None].T.ravel().reshape(3, 1)[1:],
}


@st.composite
def narrowed_arrays(draw, dtype):
    """A function that clips its argument to a drawn range, and an argument."""
    info = jnp.iinfo(dtype)
    near = st.integers(max(int(info.min), -9), 9) | st.integers(int(info.min), int(info.max))
    lo, hi = sorted([draw(near), draw(near)])
    values = draw(st.lists(near, min_size=3, max_size=3))
    return (lambda x: jnp.clip(x, jnp.asarray(lo, dtype), jnp.asarray(hi, dtype))), jnp.asarray(values, dtype)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", BINARY)
def test_binary_results_lie_in_their_interval(name, examples):
    """For operands of any range, with wrap-around, division by zero and shifts by too much."""

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(data=st.data(), dtype=st.sampled_from(DTYPES))
    def check(data, dtype):
        (narrow_x, x), (narrow_y, y) = data.draw(narrowed_arrays(dtype)), data.draw(narrowed_arrays(dtype))
        assert_inside(lambda x, y: BINARY[name](narrow_x(x), narrow_y(y)), x, y)

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", UNARY)
def test_unary_results_lie_in_their_interval(name, examples):
    """For an operand of any range."""

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(data=st.data(), dtype=st.sampled_from(DTYPES))
    def check(data, dtype):
        narrow, x = data.draw(narrowed_arrays(dtype))
        assert_inside(lambda x: UNARY[name](narrow(x)), x)

    check()


@pytest.mark.parametrize("shift", [lax.shift_right_arithmetic, lax.shift_right_logical], ids=["arithmetic", "logical"])
@pytest.mark.parametrize(("dtype", "lo", "hi"), [(jnp.int8, -4, 3), (jnp.int32, -9, -1), (jnp.uint8, 3, 200)])
def test_shifts_of_a_sign(shift, dtype, lo, hi):
    """A logical one takes a sign for data, and an arithmetic one of unsigned numbers data for a sign."""
    x, one = jnp.asarray([lo, hi], dtype), jnp.ones(2, dtype)
    assert_inside(lambda x: shift(jnp.clip(x, jnp.asarray(lo, dtype), jnp.asarray(hi, dtype)), one), x)


def test_a_result_that_could_wrap_round_may_be_anything():
    """An int8 that may exceed 127 has its dtype's whole range."""
    assert intervals_of(lambda i: jnp.clip(i, 0, 100) + jnp.int8(28), jnp.int8(0)) == [Interval(-128, 127)]
    assert intervals_of(lambda i: jnp.clip(i, 0, 99) + jnp.int8(28), jnp.int8(0)) == [Interval(28, 127)]


def test_nothing_is_known_of_numbers_that_are_not_integers():
    """Floats, keys and empty arrays do not disturb the analysis."""
    assert whole(jax.typeof(1.0)) == whole(jax.typeof(jax.random.key(0))) == of_constant(0.5) == UNKNOWN
    assert of_constant(np.array([3, -1])) == Interval(-1, 3)
    assert of_constant(np.zeros(0, int)) == Interval(0, 0)
    assert fit(Interval(0, 300), jax.typeof(jnp.uint8(0))) == Interval(0, 255)
