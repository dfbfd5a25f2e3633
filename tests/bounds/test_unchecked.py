"""find_unchecked: lists what is not proved, with its line, and nothing that is proved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import custom_batching, lax
from jax.custom_derivatives import linear_call

import jaxopt_lite
from jaxopt_lite.bounds import find_unchecked
from jaxopt_lite.lanes.lanes_last import lanes_last
from tests.lines import here

X, ROWS, INDEX, IS = jax.device_put((np.arange(5.0), np.ones((3, 5)), np.int32(3), np.array([1, 2, 3])))


def outcomes(fun, *args):
    return [(found.primitive, found.outcome) for found in find_unchecked(fun, *args)]


def test_what_a_function_reads_is_read_at_each_call():
    """Also by a function that JAX has traced before."""
    most = [9]

    def guarded(x, i):
        return x[jnp.clip(i, 0, most[0])]

    assert outcomes(guarded, X, INDEX) == [("dynamic_slice", "clamped")]
    most[0] = 4
    assert outcomes(guarded, X, INDEX) == []


# --- What must be reported ---


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (lambda x, i: x.at[i].get(mode="clip"), ("gather", "clamped")),
        (lambda x, i: x.at[i].get(mode="fill"), ("gather", "filled")),
        (lambda x, i: x.at[i].get(mode="promise_in_bounds"), ("gather", "undefined")),
        (lambda x, i: jnp.take(x, i), ("gather", "filled")),
        (lambda x, i: jnp.take_along_axis(x, i, axis=0), ("gather", "filled")),
        (lambda x, i: x.at[i].set(1.0), ("scatter", "dropped")),
        (lambda x, i: x.at[i].set(1.0, mode="clip"), ("scatter", "clamped")),
        (lambda x, i: x.at[i].set(1.0, mode="promise_in_bounds"), ("scatter", "undefined")),
        (lambda x, i: x.at[i].add(1.0), ("scatter-add", "dropped")),
        (lambda x, i: x.at[i].subtract(1.0), ("scatter-sub", "dropped")),
        (lambda x, i: x.at[i].multiply(2.0), ("scatter-mul", "dropped")),
        (lambda x, i: x.at[i].min(0.0), ("scatter-min", "dropped")),
        (lambda x, i: x.at[i].max(0.0), ("scatter-max", "dropped")),
        (lambda x, i: jax.ops.segment_sum(x[:3], i, 5), ("scatter-add", "dropped")),
        (lambda x, i: lax.dynamic_slice(x, (i[0],), (2,)), ("dynamic_slice", "clamped")),
        (lambda x, i: lax.dynamic_update_slice(x, x[:2], (i[0],)), ("dynamic_update_slice", "clamped")),
        (lambda x, i: jax.vmap(lambda j: lax.dynamic_slice(x, (j,), (2,)))(i), ("gather", "clamped")),
        (
            lambda x, i: jax.vmap(lambda j: lax.dynamic_update_slice(x, x[:2], (j,)))(i),
            ("scatter", "clamped"),
        ),
    ],
)
def test_each_primitive_and_mode(access, expected):
    """Every kind of access is found, with what JAX does out of range."""
    assert outcomes(access, X, IS) == [expected]


def plain(x, i):
    return x[i]  # here


def in_jit(x, i):
    @jax.jit
    def inner(j):
        return x[j]  # here

    return inner(i)


def in_scan(x, i):
    def body(total, j):
        return total + x[j + i], None  # here

    return lax.scan(body, 0.0, jnp.arange(5))


def in_while(x, i):
    def body(carry):
        j, total = carry
        return j + 1, total + x[j]  # here

    return lax.while_loop(lambda carry: carry[0] < i, body, (jnp.int32(0), 0.0))


def in_while_condition(x, i):
    def goes_on(j):
        return x[j] < 3.0  # here

    return lax.while_loop(goes_on, lambda j: j + 1, i)


def in_branch(x, i):
    def branch():
        return x[i]  # here

    return lax.cond(x[0] > 0, branch, lambda: 0.0)


def in_switch(x, i):
    def branch(j):
        return x[j]  # here

    return lax.switch(i % 3, [lambda j: x[0], branch, lambda j: x[1]], i)


def in_vmap(x, i):
    def one(j):
        return x.at[j].set(1.0)  # here

    return jax.vmap(one)(jnp.stack([i, i]))


def in_checkpoint(x, i):
    @jax.checkpoint
    def inner(j):
        return x[j]  # here

    return inner(i)


def in_custom_jvp(x, i):
    @jax.custom_jvp
    def inner(j):
        return x[j]  # here

    inner.defjvp(lambda primals, tangents: (inner(*primals), x[0]))
    return inner(i)


def in_custom_vjp(x, i):
    @jax.custom_vjp
    def inner(j):
        return x[j]  # here

    inner.defvjp(lambda j: (x[0], None), lambda residual, out: (None,))
    return inner(i)


def in_custom_vmap(x, i):
    @custom_batching.sequential_vmap
    def inner(j):
        return x[j]  # here

    return inner(i)


def in_linear_call(x, i):
    def inner(j, x):
        return x[j]  # here

    return linear_call(inner, lambda j, out: jnp.where(jnp.arange(5) == j, out, 0.0), i, x)


def in_custom_root(x, i):
    return lax.custom_root(lambda y: y - 1.0, x[0], lambda f, y: y + x[i], lambda g, y: y / g(1.0))  # here


def in_linear_solve(x, i):
    def solve(matvec, b):
        return b * x[i]  # here

    return lax.custom_linear_solve(lambda v: v, x, solve, symmetric=True)


def in_shards(x, i):
    def shard(x):
        return x + x[i]  # here

    mesh = jax.make_mesh((1,), ("lanes",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.shard_map(shard, mesh=mesh, in_specs=jax.P("lanes"), out_specs=jax.P("lanes"))(x)


def on_lanes(x, i):
    def one(x, i):
        return x[i]  # here

    return lanes_last(one, (False, True))(x, jnp.stack([i, i]))


def in_jaxs_own_function(x, i):
    jnp.take(x, i + 1)  # an earlier line with the same trace
    return jnp.take(x, i % 5) + jnp.take(x, i % 6)  # here


def in_loops_in_loops(x, i):
    def inner(k, total):
        return total + x[k]  # here

    def outer(j, total):
        return lax.cond(total > 3, lambda: lax.fori_loop(0, j, inner, total), lambda: total)

    return lax.fori_loop(0, 7, outer, 0.0)


NESTED = [
    plain,
    in_jit,
    in_scan,
    in_while,
    in_while_condition,
    in_branch,
    in_switch,
    in_vmap,
    in_checkpoint,
    in_custom_jvp,
    in_custom_vjp,
    in_custom_vmap,
    in_linear_call,
    in_custom_root,
    in_linear_solve,
    in_shards,
    on_lanes,
    in_loops_in_loops,
]


@pytest.mark.parametrize("fun", NESTED)
def test_names_the_line_wherever_it_is_nested(fun):
    """One entry, for the marked line, through any call, loop or branch."""
    (found,) = find_unchecked(fun, X, INDEX)
    assert (found.file, found.line) == here(fun)
    assert f"{found.file}:{found.line} (" in str(found)


def test_names_the_line_that_calls_jax():
    """JAX's own functions are traced once and reused; the line is still that of each call."""
    lines = [found.line for found in find_unchecked(in_jaxs_own_function, X, INDEX)]
    _, line = here(in_jaxs_own_function)
    assert lines == [line - 1, line]


def test_names_the_users_line_inside_a_solve():
    """What is evaluated on tiles of lanes still has the line that the user wrote."""

    def fun(x, i):
        return jnp.sin(x) + lax.scan(lambda c, t: (c + x[i], t), x[0], x)[0] - jnp.take(x, i)  # here

    def solve(x, i):
        return jaxopt_lite.root(fun, x, i, solver=jaxopt_lite.Broyden(rescue=False)).x

    found = find_unchecked(solve, jnp.ones((2, 3)), jnp.arange(2))
    assert {entry.outcome for entry in found} == {"clamped", "filled"}
    assert {(entry.file, entry.line) for entry in found} == {here(fun)}


def test_says_what_is_known():
    """An entry has the shape, the axis, the range that is known and the one that is allowed."""
    (found,) = find_unchecked(lambda x, i: x[i % 3, i % 6], ROWS, INDEX)
    assert found[:7] == ("dynamic_slice", "clamped", (3, 5), 1, 0, 5, 4)
    assert "dynamic_slice on axis 1 of (3, 5) needs an index in [0, 4], its known range is [0, 5]" in str(found)


def test_a_window_must_fit_as_a_whole():
    """A slice of two may not start at the last element."""
    assert find_unchecked(lambda x, i: lax.dynamic_slice(x, (i % 4,), (2,)), X, INDEX) == []
    (found,) = find_unchecked(lambda x, i: lax.dynamic_slice(x, (i % 5,), (2,)), X, INDEX)
    assert (found.limit, found.hi) == (3, 4)


def test_each_axis_is_judged_alone():
    """A pair of indices that are swapped is found, and only on the axis that is too short."""
    found = find_unchecked(lambda x, i: x[i % 5, i % 3], ROWS, IS)
    assert [(entry.axis, entry.hi, entry.limit) for entry in found] == [(0, 4, 2)]


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, i: x[i % 6],
        lambda x, i: x[jnp.where(i < 5, i, 0)],
        lambda x, i: x[jnp.where((i < 6) & (i >= 0), i, 0)],
        lambda x, i: lax.cond(i < 5, lambda: x[i], lambda: 0.0),
        lambda x, i: lax.fori_loop(0, 6, lambda j, s: s + x[j], 0.0),
        lambda x, i: lax.while_loop(lambda c: c[0] <= 5, lambda c: (c[0] + 1, c[1] + x[c[0]]), (0, 0.0)),
        lambda x, i: lax.scan(lambda c, e: (c + (e > 0), x[c + 1]), jnp.int32(0), x),
        lambda x, i: x[jnp.minimum(i, 4)],
        lambda x, i: x[jnp.array([0, 5])],
        lambda x, i: x[jnp.searchsorted(x, 2.0)],
        lambda x, i: x[jnp.cumsum(x > 2)],
        lambda x, i: x[(i % 5).astype(jnp.int8) * jnp.int8(2)],
        lambda x, i: x[x.astype(int)],
        # Bit by bit, `and` is not "both": 3 & 1 is 1, and 3 is no truth value.
        lambda x, i: lax.switch((i & 1) & 1, [lambda: 0.0, lambda: x[i & 7]]),
    ],
)
def test_almost_right_is_reported(fun):
    """An index that can be out of range by one, or on one side, is not let pass."""
    if outcomes(fun, X, INDEX) == []:
        pytest.fail("the index can leave the array, but nothing was reported")


# --- Indices that JAX changes before the access ---

LONG = jax.device_put(np.arange(300.0))
INT8, UINT8 = jnp.int8, jnp.uint8


def branches(i, x):
    return lax.switch(i, [lambda x: 2 * x, jnp.sin, lambda x: -x], x)


def counts(i, x):
    return jnp.bincount(i, weights=jnp.full(i.shape, x), length=3)


def window(i, x):
    return lax.dynamic_slice(jnp.ones((300, 300)) * x, (i, i), (1, 2))


# Program of an index and a number, an index in range, one out of range, what keeps it in range, and the report.
CHANGED = {
    "above all branches": (branches, 2, 3, lambda i: jnp.clip(i, 0, 2), ("switch", "clamped")),
    "below all branches": (branches, INT8(0), INT8(-1), lambda i: i & 1, ("switch", "clamped")),
    "negative count": (
        counts,
        np.array([0, 2]),
        np.array([0, -1]),
        lambda i: i % 3,
        ("bincount", "clamped or dropped"),
    ),
    "narrow count": (
        counts,
        np.array([0, 2], INT8),
        np.array([-1, 2], INT8),
        lambda i: jnp.maximum(i, 0) & 1,
        ("bincount", "clamped or dropped"),
    ),
    "narrow": (lambda i, x: (LONG * x)[i], INT8(127), INT8(-1), lambda i: i & 127, ("dynamic_slice", "wrapped")),
    "narrow, most negative": (
        lambda i, x: (jnp.ones(2**16) * x)[i],
        np.int16(0),
        np.int16(-(2**15)),
        lambda i: jnp.maximum(i, 0),
        ("dynamic_slice", "wrapped"),
    ),
    "narrow in two axes": (window, INT8(127), INT8(-3), lambda i: i & 127, ("dynamic_slice", "wrapped")),
    "narrow write": (
        lambda i, x: lax.dynamic_update_slice(LONG, LONG[:2] * x, (i,)),
        INT8(127),
        INT8(-1),
        lambda i: jnp.where(i < 0, 5, i),
        ("dynamic_update_slice", "wrapped"),
    ),
    "narrow take": (
        lambda i, x: jnp.take(LONG * x, i),
        np.array([127, 0], INT8),
        np.array([127, -44], INT8),
        lambda i: i & 127,
        ("gather", "wrapped"),
    ),
    "behind the end": (
        lambda i, x: jnp.insert(X * x, i, 9.0),
        np.array(5),
        np.array(6),
        lambda i: i % 6,
        ("insert", "clamped"),
    ),
    "nothing to delete": (
        lambda i, x: jnp.delete(X * x, i, assume_unique_indices=True),
        np.array([4]),
        np.array([5]),
        lambda i: i % 5,
        ("delete", "clamped"),
    ),
}


def in_a_scan(fun):
    """The program's sum, made twice and carried on."""
    return lambda i, x: lax.scan(lambda c, j: (jnp.sum(fun(j, c)), None), x, jnp.stack([i, i]))[0]


def in_lanes(fun):
    return lambda i, x: jax.vmap(fun, (0, None))(jnp.stack([i, i]), x)


def in_gradient(fun):
    return lambda i, x: jax.grad(lambda x: jnp.sum(fun(i, x) ** 2))(x)


TRANSFORMATIONS = {
    "none": lambda fun: fun,
    "jit": jax.jit,
    "scan": in_a_scan,
    "vmap": in_lanes,
    "grad": in_gradient,
    "grad of scan": lambda fun: in_gradient(in_a_scan(fun)),
    "grad of vmap of scan": lambda fun: in_gradient(in_lanes(in_a_scan(fun))),
    "vmap of grad": lambda fun: in_lanes(in_gradient(fun)),
}


def transformed(name):
    """The program under each transformation; not where the derivative of a loop takes JAX's own clip apart."""
    fun, *_, (primitive, _) = CHANGED[name]
    apart = {"grad of scan", "grad of vmap of scan"} if primitive in ("insert", "delete") else ()
    return {which: transform(fun) for which, transform in TRANSFORMATIONS.items() if which not in apart}


@pytest.mark.parametrize("name", CHANGED)
def test_judges_an_index_before_jax_changes_it(name):
    """What a function of JAX would clip, or a narrow type wrap round, is found through any transformation."""
    fun, good, _, _, expected = CHANGED[name]
    assert expected in outcomes(fun, good, 1.0)
    for run in transformed(name).values():
        assert expected[1] in [entry.outcome for entry in find_unchecked(run, good, 1.0)]


@pytest.mark.parametrize("name", [name for name in CHANGED if name != "behind the end"])
def test_a_guard_in_front_of_jaxs_own_proves_it(name):
    """The program's own clip, remainder or mask settles it, through the same transformations."""
    fun, good, _, guard, _ = CHANGED[name]
    for transform in TRANSFORMATIONS.values():
        assert find_unchecked(transform(lambda i, x: fun(guard(i), x)), good, 1.0) == []


def test_says_what_is_known_of_the_index_given():
    """The range is that of the argument, the limit that of the array or of the branches."""
    (found,) = find_unchecked(lambda i: LONG[i], INT8(0))
    assert found[:7] == ("dynamic_slice", "wrapped", (300,), 0, -128, 127, 299)
    (found,) = find_unchecked(lambda i: jnp.bincount(i, length=3), IS.astype(jnp.int32))
    assert found[:7] == ("bincount", "clamped or dropped", (3,), 0, -(2**31), 2**31 - 1, 2)
    (found,) = find_unchecked(lambda i: lax.switch(i, [lambda: 0, lambda: 1]), INDEX)
    assert found[:7] == ("switch", "clamped", (2,), 0, -(2**31), 2**31 - 1, 1)
    (found,) = find_unchecked(lambda i: lax.select_n(i % 4, X, X, X), INDEX)
    assert found[:7] == ("select_n", "undefined", (3,), 0, 0, 3, 2)


# --- What must not be reported ---


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, i: x[3] + x[-1] + x[jnp.array([0, 4])][0] + x[np.array([-5, -1])][0],
        lambda x, i: x[i % 5],
        lambda x, i: x[(i % 10) // 2],
        lambda x, i: x[jnp.clip(i, 0, 4)],
        lambda x, i: x[jnp.clip(i, -5, 4)],
        lambda x, i: x[lax.clamp(jnp.int32(0), i, jnp.int32(4))],
        lambda x, i: x[lax.rem(jnp.abs(i // 2), jnp.int32(5))],
        lambda x, i: x[i & 3],
        lambda x, i: jnp.zeros(256)[i.astype(jnp.uint8)],
        lambda x, i: x[jnp.where((i >= 0) & (i < 5), i, 0)],
        lambda x, i: x[jnp.where((i < 0) | (i >= 5), 0, i)],
        lambda x, i: lax.cond((i >= -5) & (i < 5), lambda: x[i], lambda: 0.0),
        lambda x, i: lax.cond(jnp.all((IS + i >= 0) & (IS + i < 5)), lambda: x[0], lambda: 0.0),
        lambda x, i: x[jnp.argmin(x)] + x[jnp.argsort(x)] + x[lax.top_k(x, 2)[1][0]],
        lambda x, i: jnp.concatenate([x, x[:1]])[jnp.searchsorted(x, i * 1.0)],
        lambda x, i: x[jax.random.randint(jax.random.key(0), (3,), 0, 5)],
        lambda x, i: jax.random.permutation(jax.random.key(0), x),
        lambda x, i: jnp.roll(x, i),
        lambda x, i: x[jnp.nonzero(x > 2, size=3)[0]] + jnp.unique(x, size=3),
        lambda x, i: ROWS[i % 3, i % 5] + ROWS[jnp.arange(3), jnp.argmax(ROWS, axis=1)],
        lambda x, i: ROWS[jnp.unravel_index(i % 15, (3, 5))],
        lambda x, i: jnp.take_along_axis(ROWS, jnp.argsort(ROWS, axis=1), axis=1),
        lambda x, i: jnp.zeros(6).at[jnp.where(x > 2, jnp.cumsum(x > 2) - 1, 5)].set(x)[:5],
        lambda x, i: jnp.linalg.solve(jnp.diag(x + 1), x),
        lambda x, i: x[jnp.zeros(0, int) + i],
        # A narrow index that is not negative, or whose length its type holds; a length added by the program.
        lambda x, i: LONG[INT8(5)] + LONG[i.astype(UINT8)] + LONG[jnp.minimum(i, 127).astype(UINT8)],
        lambda x, i: x[(i % 5).astype(INT8)] + jnp.zeros(200)[jnp.maximum(i, 0).astype(INT8) & 63],
        lambda x, i: LONG.at[jnp.where(i % 9 < 4, (i % 9).astype(INT8) + INT8(44), INT8(7))].get(),
        lambda x, i: LONG.at[own_length(jnp.clip(i, -9, 9).astype(INT8))].get(wrap_negative_indices=False),
        # Numbers that the program clips itself, also just as JAX does, and those of JAX's own functions.
        lambda x, i: lax.switch(lax.clamp(jnp.int32(0), i, jnp.int32(1)), [lambda: 0.0, lambda: 1.0]),
        lambda x, i: lax.switch(1, [lambda: 0.0, lambda: 1.0]) + lax.cond(i > 3, lambda: 0.0, lambda: 1.0),
        lambda x, i: jnp.bincount(jnp.clip(IS + i, 0, 2), length=3),
        lambda x, i: jnp.choose(jnp.array([i, 1]), [x[:2], x[3:]], mode="clip"),
        lambda x, i: jnp.piecewise(x, [x > 1, x > 3], [jnp.sin, jnp.cos, 0.0]) + jnp.select([x > 1, x > 3], [x, -x]),
        lambda x, i: lax.platform_dependent(x, cpu=jnp.sin, default=jnp.cos),
        lambda x, i: jnp.nonzero(x > i, size=2)[0] + jnp.histogram(x, 2, (1, 3))[0] + jax.nn.one_hot(i, 2),
    ],
)
def test_proved_expressions_are_not_reported(fun):
    """Constants, positions, remainders, clips and guards need no check."""
    assert outcomes(fun, X, INDEX) == []


def own_length(i):
    """A length added to what is negative, by the program itself."""
    return jnp.where(i < 0, i + INT8(10), i)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, n: lax.fori_loop(0, 5, lambda j, s: s + x[j], 0.0),
        lambda x, n: lax.fori_loop(0, 5, lambda j, s: s + x[4 - j], 0.0),
        lambda x, n: lax.fori_loop(0, jnp.minimum(n, 5), lambda j, s: s + x[j], 0.0),
        lambda x, n: lax.fori_loop(0, 5, lambda j, s: lax.fori_loop(0, j, lambda k, s: s + x[k], s), 0.0),
        lambda x, n: lax.scan(lambda s, j: (s + x[j], None), 0.0, jnp.arange(5)),
        lambda x, n: lax.scan(lambda c, e: (c + (e > 0), x[c]), jnp.int32(0), x),
        lambda x, n: lax.scan(lambda c, _: ((c + 1) % 5, x[c]), jnp.int32(0), None, length=99),
        lambda x, n: lax.scan(lambda c, _: (jnp.minimum(c + 1, 4), x[c]), jnp.int32(0), None, length=99),
        lambda x, n: lax.scan(lambda c, _: (jnp.where(c < 4, c + 1, c), x[c]), jnp.int32(0), None, length=99),
        lambda x, n: lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, c[1] + x[c[0]]), (0, 0.0)),
        lambda x, n: lax.while_loop(lambda c: (c[1] < 9) & (c[0] < 5), lambda c: (c[0] + 1, c[1] + x[c[0]]), (0, 0.0)),
        lambda x, n: lax.map(lambda j: x[j], jnp.arange(5), batch_size=2),
        # The derivative takes the remainder apart: what does not depend on the turn is done in front of the loop.
        lambda x, n: jax.grad(lambda v: lax.scan(lambda c, j: (c * v * x[j % 3], None), v, jnp.stack([n, n]))[0])(1.0),
    ],
)
def test_proved_loops_are_not_reported(fun):
    """Loop counters and carried positions stay in the range that the loop gives them."""
    assert outcomes(fun, X, INDEX) == []


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, i: x[i % 5],
        lambda x, i: x.at[i % 5].add(1.0),
        lambda x, i: lax.dynamic_slice(x, (i % 4,), (2,)),
        lambda x, i: lax.dynamic_update_slice(x, x[:2], (i % 4,)),
        lambda x, i: x[jnp.where((i >= 0) & (i < 5), i, 0)] + x[jnp.argmax(x)],
        lambda x, i: jnp.sort(x)[(i % 10) // 2],
    ],
)
def test_what_is_proved_for_one_is_proved_for_a_batch(fun):
    """vmap turns slices into gathers; the proof still holds, and so it does for the derivative."""
    assert outcomes(jax.vmap(fun), ROWS, IS) == []
    assert outcomes(jax.grad(lambda x, i: jnp.sum(jax.vmap(fun)(x, i) ** 2)), ROWS, IS) == []


def test_traces_with_shapes_alone():
    """Abstract arguments, pytrees and keywords serve; nothing is run."""
    example = {"x": jax.ShapeDtypeStruct((5,), jnp.float32), "i": jax.ShapeDtypeStruct((), jnp.int32)}
    assert len(find_unchecked(lambda tree: tree["x"][tree["i"]], example)) == 1
    assert len(find_unchecked(lambda *, x, i: x[i], **example)) == 1


def test_the_same_access_is_listed_once():
    """A loop body that is traced several times makes one entry."""
    assert len(find_unchecked(lambda x, i: [x[i] for _ in range(3)], X, INDEX)) == 1
