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

pytestmark = pytest.mark.hardly_optimised

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


STEPS = {
    "count": lambda c, d: c + d,
    "down": lambda c, d: c - 2,
    "ring": lambda c, d: (c + d) % 7,
    "saturate": lambda c, d: jnp.minimum(c + d, 9),
    "until": lambda c, d: jnp.where(c < 9, c + d, c),
    "sometimes": lambda c, d: jnp.where(d > 0, c, c + 1),
    "double": lambda c, d: c + c,
    "flip": lambda c, d: -c,
    "keep": lambda c, d: c,
    "wrap": lambda c, d: c + jnp.int32(2**30),
}


STARTS = [(0, 40, 1), (-3, 7, 3), (12, 0, 0)]  # where a loop starts, how often it turns, and its step


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("loop", ["scan", "while", "lanes"])
def test_carried_values_lie_in_their_interval(name, loop):
    """Every value that a loop carries, in each turn and at the end."""
    for start, turns, d in STARTS:
        assert_carried_inside(name, loop, start, turns, d)


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("loop", ["scan", "while", "lanes"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(start=st.integers(-3, 12), turns=st.integers(0, 40), d=st.integers(0, 3))
def test_many_carried_values_lie_in_their_interval(name, loop, start, turns, d):
    """The same, from anywhere."""
    assert_carried_inside(name, loop, start, turns, d)


def assert_carried_inside(name, loop, start, turns, d):
    """What a loop of this kind carries lies in its intervals, with this step."""

    def by_scan(d):
        return lax.scan(lambda c, _: (STEPS[name](c, d & 3), c), jnp.int32(start), None, length=turns)

    def by_while(d):
        def body(carry):
            n, c = carry
            return n + 1, STEPS[name](c, d & 3)

        return lax.while_loop(lambda carry: (carry[0] < turns) & (carry[1] < 30), body, (0, jnp.int32(start)))

    def in_lanes(d):
        return jax.vmap(by_while)(jnp.stack([d, d + 1]))

    assert_inside({"scan": by_scan, "while": by_while, "lanes": in_lanes}[loop], jnp.int32(d))


@pytest.mark.parametrize(
    ("fun", "expected"),
    [
        (lambda i: i % 5, [(0, 4)]),
        (lambda i: (i % 15) // 5, [(0, 2)]),
        (lambda i: jnp.divmod(i % 15, 5), [(0, 2), (0, 4)]),
        (lambda i: jnp.where((i >= 0) & (i < 5), i, 2), [(0, 4)]),
        (lambda i: jnp.where(i < 0, 0, jnp.where(i > 4, 4, i)), [(0, 4)]),
        (lambda i: lax.cond((i >= 0) & (i < 5), lambda: i + 1, lambda: i * 0), [(0, 5)]),
        (lambda i: lax.fori_loop(0, 7, lambda k, c: c + (i > k), 0), [(0, 7)]),
        (lambda i: lax.fori_loop(0, 99, lambda k, c: (c + 1) % 5, 0), [(0, 4)]),
        (lambda i: lax.fori_loop(0, 99, lambda k, c: jnp.where(c < 4, c + 1, c), 0), [(0, 4)]),
        (lambda i: lax.while_loop(lambda c: c < 5, lambda c: c + 1, 0), [(0, 5)]),
        (lambda i: lax.while_loop(lambda c: c < i, lambda c: jnp.minimum(c + 1, 5), i * 0), [(0, 5)]),
        (lambda i: jax.jit(lambda j: j & 7)(i) >> 1, [(0, 3)]),
    ],
)
def test_is_sharp_where_code_is_idiomatic(fun, expected):
    """The usual ways to keep an index in range give exactly that range."""
    assert assert_inside(fun, jnp.int32(3)) == [Interval(*pair) for pair in expected]


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
