"""checked: the same result while every index is in range, an error with place and index when one is not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.experimental import checkify
from jax.experimental import pallas as pl
from jax.scipy.ndimage import map_coordinates

from jaxopt_lite.bounds import OutOfRangeError, checked, find_unchecked
from tests.bounds import test_unchecked as programs
from tests.lines import here

pytestmark = pytest.mark.hardly_optimized

X = jax.device_put(np.arange(5.0))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert jnp.asarray(x).dtype == jnp.asarray(y).dtype
        np.testing.assert_array_equal(x, y)


# Program, an index that keeps it in range, one that does not, and the index that is then out of range.
LINES = [
    (programs.plain, 3, 5, 5),
    (programs.plain, -5, -7, -2),
    (programs.in_jit, 4, 9, 9),
    (programs.in_scan, 0, 2, 5),
    (programs.in_while, 5, 7, 5),
    (programs.in_while_condition, 0, 5, 5),
    (programs.in_vmap, 4, 8, 8),
    (programs.in_checkpoint, 4, 5, 5),
    (programs.in_custom_jvp, 4, 5, 5),
    (programs.in_custom_vjp, 4, 5, 5),
    (programs.in_custom_vmap, 4, 5, 5),
    (programs.in_linear_call, 4, 5, 5),
    (programs.in_custom_root, 4, 5, 5),
    (programs.in_shards, 4, 5, 5),
    (programs.on_lanes, 4, 5, 5),
]


@pytest.mark.parametrize(("fun", "good", "bad", "index"), LINES)
def test_passes_in_range_and_names_the_line_out_of_range(fun, good, bad, index):
    """In every call, loop and branch."""
    good, bad = jnp.int32(good), jnp.int32(bad)
    assert_same(checked(fun)(X, good), jax.jit(fun)(X, good))
    with pytest.raises(OutOfRangeError) as error:
        checked(fun)(X, bad)
    file, line = here(fun)
    assert f"index out of range at {file}:{line} (" in str(error.value)
    assert f"expected 0 to 4, got {index} " in str(error.value)


def test_only_the_branch_that_is_taken_counts():
    """A guarded access may hold any index where the guard fails."""

    def guarded(x, i):
        return lax.cond(i < 5, lambda: x[i], lambda: -1.0)

    assert float(checked(guarded)(X, 7)) == -1.0
    assert float(checked(guarded)(X, 4)) == 4.0
    with pytest.raises(OutOfRangeError, match="got -2 "):
        checked(guarded)(X, -7)
    assert float(checked(programs.in_branch)(X - 9, 99)) == 0.0
    with pytest.raises(OutOfRangeError, match="got 99 "):
        checked(programs.in_branch)(X + 1, 99)


def test_switch():
    """Each branch of a switch is checked when it runs."""

    def pick(x, k, i):
        return lax.switch(k, [lambda: x[i], lambda: x[i + 1], lambda: 0.0])

    assert [float(checked(pick)(X, k, 3)) for k in range(3)] == [3.0, 4.0, 0.0]
    with pytest.raises(OutOfRangeError, match="got 5 "):
        checked(pick)(X, 1, 4)


@pytest.mark.parametrize(
    ("access", "primitive", "outcome"),
    [
        (lambda x, i: x.at[i].get(mode="clip"), "gather", "clamped"),
        (lambda x, i: x.at[i].get(mode="fill"), "gather", "filled"),
        (lambda x, i: x.at[i].get(mode="promise_in_bounds"), "gather", "undefined"),
        (lambda x, i: jnp.take(x, i), "gather", "filled"),
        (lambda x, i: x.at[i].set(1.0), "scatter", "dropped"),
        (lambda x, i: x.at[i].add(1.0), "scatter-add", "dropped"),
        (lambda x, i: x.at[i].subtract(1.0), "scatter-sub", "dropped"),
        (lambda x, i: x.at[i].multiply(2.0), "scatter-mul", "dropped"),
        (lambda x, i: x.at[i].min(0.0), "scatter-min", "dropped"),
        (lambda x, i: x.at[i].max(0.0), "scatter-max", "dropped"),
        (lambda x, i: lax.dynamic_slice(x, (i[1],), (1,)), "dynamic_slice", "clamped"),
        (lambda x, i: lax.dynamic_update_slice(x, x[:1], (i[1],)), "dynamic_update_slice", "clamped"),
        (lambda x, i: jax.vmap(lambda j: lax.dynamic_slice(x, (j,), (1,)))(i), "gather", "clamped"),
        (lambda x, i: jax.vmap(lambda v, j: v.at[j].set(1.0))(jnp.stack([x, x]), i), "scatter", "dropped"),
        (
            lambda x, i: jax.vmap(lambda v, j: lax.dynamic_update_slice(v, v[:1], (j,)))(jnp.stack([x, x]), i),
            "scatter",
            "clamped",
        ),
    ],
)
def test_each_primitive_and_mode(access, primitive, outcome):
    """Every kind of access is checked, alone and in a batch, and says what JAX would have done."""
    fine = jnp.array([0, 4])
    assert_same(checked(access)(X, fine), jax.jit(access)(X, fine))
    with pytest.raises(OutOfRangeError, match=rf"got 6 \({primitive} on axis \d .* unchecked it is {outcome}"):
        checked(access)(X, jnp.array([2, 6]))


def test_a_window_must_fit_as_a_whole():
    """A slice that starts in range and ends outside is out of range."""
    slices = checked(lambda x, i: lax.dynamic_slice(x, (i,), (3,)))
    assert slices(X, 2).tolist() == [2.0, 3.0, 4.0]
    with pytest.raises(OutOfRangeError, match="expected 0 to 2, got 3 "):
        slices(X, 3)


@pytest.mark.parametrize(
    "dtype", [jnp.uint8, jnp.int64, *(pytest.param(other, marks=pytest.mark.slow) for other in (jnp.int16, jnp.uint32))]
)
def test_any_integer_type_can_index(dtype):
    """Narrow types do not make the limit wrap round, wide ones are not cut off."""
    table = jnp.arange(300)
    take = checked(lambda i: table.at[i].get(mode="clip"))
    assert take(jnp.array([0, 100], dtype)).tolist() == [0, 100]
    last = lax.dynamic_slice_in_dim
    assert checked(lambda i: last(table, i, 2))(jnp.asarray(90, dtype)).tolist() == [90, 91]


# Each program as it is and through one of these, in turn; through all in a slow test.
IN_TURN = ("scan", "vmap of grad", "grad of vmap of scan")


@pytest.mark.parametrize(
    ("name", "some"),
    [(name, {"none", IN_TURN[k % len(IN_TURN)]}) for k, name in enumerate(programs.CHANGED)]
    + [pytest.param(name, set(programs.TRANSFORMATIONS), marks=pytest.mark.slow) for name in programs.CHANGED],
)
def test_judges_an_index_before_jax_changes_it(name, some):
    """Through any transformation, what is in range passes with the same result, and what is not says what was given."""
    _, good, bad, _, (primitive, outcome) = programs.CHANGED[name]
    given = int(np.ravel(bad)[np.argmax(np.ravel(bad) != np.ravel(good))])
    for which, (run, alone) in calls_of(name, some).items():
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), run(good), alone(good))
        with pytest.raises(OutOfRangeError, match=f"unchecked it is {outcome}; ") as error:
            run(bad)
        assert f"{programs.__file__}:" in str(error.value)
        if which == "none":
            assert f"got {given} ({primitive} on axis" in str(error.value)


def calls_of(name, some):
    """The transformed programs, checked and not: branches of one program, of which only the one taken is checked."""
    funs = {which: fun for which, fun in programs.transformed(name).items() if which in some}
    if name == "narrow, most negative":  # JAX 0.10 damages the heap where it fuses such an access, checked or not
        apart = {which: (checked(fun), jax.jit(fun)) for which, fun in funs.items()}
        return {which: tuple(functools.partial(f, x=1.0) for f in both) for which, both in apart.items()}

    def sums(fun, i):
        out = jnp.ravel(fun(i, 1.0)).astype(float)
        return jnp.sum(out), jnp.sum(out * jnp.arange(out.size))

    def together(k, i):
        return lax.switch(k, [functools.partial(sums, fun) for fun in funs.values()], i)

    both = checked(together), jax.jit(together)
    return {which: tuple(functools.partial(f, k) for f in both) for k, which in enumerate(funs)}


@pytest.mark.parametrize("n", [100, 128, 200, 256, 300])
@pytest.mark.parametrize("access", [lambda i, n: jnp.arange(n)[i], lambda i, n: jnp.take(jnp.arange(n), i)])
def test_every_narrow_index_is_right_or_raises(access, n):
    """Of all int8 those pass that give the element of the list, and no others."""
    fun = functools.partial(access, n=n)
    run, alone, numbers = checked(fun), jax.jit(fun), list(range(n))
    for i in [-128, -100, -73, -72, -57, -44, -1, 0, 43, 99, 100, 127]:
        wanted = numbers[i] if -n <= i < n else None
        if int(alone(jnp.int8(i))) == wanted:
            assert int(run(jnp.int8(i))) == wanted
        else:
            with pytest.raises(OutOfRangeError):
                run(jnp.int8(i))


@pytest.mark.parametrize("kind", ["own clip", "jax's own", "on purpose", "constants", "short"])
def test_stays_silent_where_nothing_is_changed(kind):
    """Choices of the program, JAX's own use of a switch, and narrow indices into short axes."""
    fun = {
        "own clip": lambda i: (
            lax.switch(lax.clamp(jnp.int32(0), i, jnp.int32(1)), [lambda: 0, lambda: 1])
            + jnp.bincount(jnp.maximum(jnp.array([i, -i]), 0), length=9)
            + jnp.choose(i, [jnp.arange(9), jnp.arange(9)], mode="clip")
        ),
        "jax's own": lambda i: (
            jnp.piecewise(X, [X > 1, X > 3], [jnp.sin, jnp.cos, 0.0]).sum()
            + jnp.select([X > 1, X > 3], [X, -X]).sum()
            + jnp.nonzero(X > 2, size=2)[0].sum()
            + jnp.intersect1d(X, X, size=2).sum()
            + jnp.histogram(X, 4, (1, 3))[0].sum()
            + jax.nn.one_hot(i, 3).sum()
            + lax.platform_dependent(X, cpu=jnp.sin, default=jnp.cos).sum()
        ),
        "on purpose": lambda i: (
            jnp.intersect1d(X, i + X[:2], size=5, return_indices=True),
            jnp.setxor1d(X, i + X[:2], size=9),
            jnp.place(X, X > 1, X[:2], inplace=False),
            jax.grad(lambda x: map_coordinates(x, [jnp.array([-1.5, 0.5, 9.0])], order=1).sum())(X),
        ),
        "constants": lambda i: lax.switch(1, [lambda: 0 * i, lambda: i]) + jnp.arange(300)[jnp.int8(5)],
        "short": lambda i: X[i.astype(jnp.int8) - 10] + X[jnp.asarray(i - 3, jnp.uint8)],
    }[kind]
    assert_same(checked(fun)(jnp.int32(7)), jax.jit(fun)(jnp.int32(7)))


def test_an_update_of_the_whole_array_has_no_index_to_check():
    """It is a scatter without indices."""
    for fun in (lambda x: x.at[:].add(1.0), lambda x: x.at[...].multiply(2.0), lambda x: x[0].at[()].add(1.0)):
        assert find_unchecked(fun, X) == []
        assert_same(checked(fun)(X), fun(X))


def test_shards_after_shards():
    """The gradient of a program of shards is one of two."""
    slope = jax.grad(lambda x, i: jnp.sum(programs.in_shards(programs.in_shards(x, i) ** 2, i)))
    assert_same(checked(slope)(X, jnp.int32(3)), slope(X, jnp.int32(3)))
    with pytest.raises(OutOfRangeError, match=r"^index out of range at .*got 5 "):
        checked(slope)(X, jnp.int32(5))


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_loops_within_shards(kind):
    """Each shard has indices of its own."""
    mesh = jax.make_mesh((1,), ("lanes",), axis_types=(kind,))
    by = jax.sharding.NamedSharding(mesh, jax.P("lanes"))

    def shard(x, i):
        return lax.fori_loop(0, 3, lambda j, total: total + x[i + j], 0 * x[:1])

    added = jax.shard_map(shard, mesh=mesh, in_specs=jax.P("lanes"), out_specs=jax.P("lanes"))
    x, good, bad = jax.device_put((X, np.array([2]), np.array([3])), by)
    assert_same(checked(added)(x, good), added(x, good))
    with pytest.raises(OutOfRangeError, match=r"^index out of range at .*got 5 "):
        checked(added)(x, bad)


def test_an_upper_end_that_wraps_round_is_found():
    """300 places are 44 in eight bits, where `insert` clips to."""
    insert = checked(lambda i: jnp.insert(jnp.zeros(300), i, 1.0))
    with pytest.raises(OutOfRangeError, match=r"expected 0 to 44, got 99 \(insert"):
        insert(jnp.uint8(99))


def test_an_index_that_is_cut_off_is_judged_before():
    """Of 64 bits JAX keeps 32: 2**32 + 1 would be element 1."""
    take = checked(lambda i: X[i])
    assert take(jnp.array([0, 4])).tolist() == [0.0, 4.0]
    with pytest.raises(OutOfRangeError, match=f"got {2**32 + 1} "):
        take(jnp.array([0, 2**32 + 1]))


def test_the_first_failure_is_named():
    """Of several accesses out of range, the first in the program; of a loop, the first turn."""
    with pytest.raises(OutOfRangeError, match="got 6 "):
        checked(lambda x, i: x[i] + x[i + 1])(X, 6)
    with pytest.raises(OutOfRangeError, match="got 5 "):
        checked(lambda x: lax.fori_loop(0, 99, lambda j, s: s + x[j], 0.0))(X)
    for reverse, index in ((False, 7), (True, 6)):
        scan = checked(lambda i, reverse=reverse: lax.scan(lambda s, i: (s + X[i], s), 0.0, i, reverse=reverse))
        with pytest.raises(OutOfRangeError, match=f"got {index} "):
            scan(jnp.array([1, 7, 2, 6, 3]))
    assert scan(jnp.array([], int))[0] == 0


def test_loops_under_vmap():
    """A loop whose lanes end at different times gives the same result, and its accesses are checked."""

    def total(x, n):
        def body(carry):
            j, s = carry
            return j + 1, s + x[jnp.minimum(j, 4)]

        return lax.while_loop(lambda carry: carry[0] < n, body, (0, 0.0))

    def careless(x, n):
        return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] + x[c[0]]), (0, 0.0))

    counts = jnp.array([0, 5, 3])
    assert_same(checked(jax.vmap(total, (None, 0)))(X, counts), jax.vmap(total, (None, 0))(X, counts))
    with pytest.raises(OutOfRangeError, match="got 5 "):
        checked(jax.vmap(careless, (None, 0)))(X, counts + 1)


def test_scans_forwards_and_backwards():
    """Carried and stacked results, their order and structure are those of the scan."""

    def running(x):
        def body(carry, element):
            return {"sum": carry["sum"] + x[element["i"]]}, (element["i"], carry["sum"])

        return lax.scan(body, {"sum": 0.0}, {"i": jnp.arange(5)}, reverse=True)

    assert_same(checked(running)(X), running(X))


def test_derivatives():
    """The gradient is that of the function, with its own rules, and its accesses are checked."""

    @jax.custom_jvp
    def odd(v):
        return v**2

    odd.defjvp(lambda primals, tangents: (odd(*primals), 100 * tangents[0]))

    def loss(x, i):
        return lax.fori_loop(0, 3, lambda j, s: s + odd(x[i + j]), 0.0)

    assert checked(jax.grad(loss))(X, 1).tolist() == [0.0, 100.0, 100.0, 100.0, 0.0]
    with pytest.raises(OutOfRangeError, match="got 5 "):
        checked(jax.grad(loss))(X, 3)


@pytest.mark.parametrize(
    "outer",
    [
        lambda f: jax.jit(f)(X, 1),
        lambda f: jax.vmap(f, (None, 0))(X, jnp.arange(3)),
        lambda f: jax.grad(f)(X, 1),
        lambda f: jax.jit(lambda: f(X, 1))(),
        lambda f: jax.grad(lambda x: checked(lambda i: x[i])(1))(X),
    ],
)
def test_must_be_outermost(outer):
    """Under another transformation it refuses, since it could not raise or would lose derivative rules."""
    with pytest.raises(TypeError, match=r"write checked\(jax.jit\(f\)\)"):
        outer(checked(lambda x, i: x[i]))


def test_keywords_pytrees_and_names():
    """The checked function takes and gives what the function does, and carries its name."""

    def lookup(tree, *, i):
        """Look up."""
        return {"value": tree["x"][i], "i": (i, None)}

    wrapped = checked(lookup)
    assert (wrapped.__name__, wrapped.__doc__) == ("lookup", "Look up.")
    assert_same(wrapped({"x": X}, i=2), jax.jit(lookup)({"x": X}, i=2))
    assert float(checked(functools.partial(lambda n, x: x[n], 2))(X)) == 2.0


def test_what_a_function_reads_is_read_when_it_is_checked():
    """Also by a function that JAX has traced before."""
    table = np.arange(5.0)

    def look(i):
        return jnp.asarray(table)[i]

    assert float(checked(look)(2)) == 2.0
    table[2] = 100.0
    assert float(checked(look)(2)) == 100.0


def test_a_check_of_the_functions_own_is_its_own():
    """A `checkify.check` in the function still raises, and not as an index error."""

    def positive(x):
        checkify.check(x > 0, "expected more than 0, got {x}", x=x)
        return jnp.arange(3)[x]

    assert int(checked(positive)(jnp.int32(2))) == 2

    def turn(total, i):  # of a loop, the first turn that fails counts, whatever a check says of the others
        checkify.check(i < 9, "is it odd? {odd}", odd=i % 2 == 1)
        return total + X[i], None

    with pytest.raises(OutOfRangeError, match="got 6 "):
        checked(lambda i: lax.scan(turn, 0.0, i))(jnp.array([1, 6, 9]))
    with pytest.raises(checkify.JaxRuntimeError, match="expected more than 0, got -1"):
        checked(positive)(jnp.int32(-1))


def test_what_it_cannot_look_into_still_runs():
    """A Pallas kernel and a linear solve give their result unchanged."""

    def kernel(x_ref, out_ref):
        out_ref[...] = 2 * x_ref[...]

    def both(x):
        doubled = pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)
        return jnp.linalg.solve(jnp.diag(x + 1), doubled)

    assert_same(checked(both)(X), jax.jit(both)(X))


INDEX = st.recursive(
    st.sampled_from(["i", "j", "3", "0", "4"]),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["{} + {}", "{} - {}", "{} * {}", "jnp.minimum({}, {})"]), inner, inner),
        st.tuples(st.sampled_from(["{} % 5", "{} // 2", "abs({})", "jnp.clip({}, 0, 4)", "-{}"]), inner),
        st.tuples(st.sampled_from(["jnp.where({} < {}, {}, {})"]), inner, inner, inner, inner),
        st.tuples(st.sampled_from(["lax.fori_loop(0, 4, lambda k, c: jnp.maximum(c + {}, k), {})"]), inner, inner),
        st.tuples(st.sampled_from(["lax.cond({} >= {}, lambda: {}, lambda: {})"]), inner, inner, inner, inner),
    ),
    max_leaves=6,
)


def text_of(tree):
    """The source of a drawn index expression."""
    if isinstance(tree, str):
        return f"jnp.int32({tree})"
    form, *parts = tree
    return "(" + form.format(*map(text_of, parts)) + ")"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(tree=INDEX, values=st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=4, max_size=4))
def test_what_is_proved_never_raises(tree, values):
    """If find_unchecked reports nothing for an index, no run of it is out of range."""
    fun = eval(f"lambda i, j: X[{text_of(tree)}]", {"jnp": jnp, "lax": lax, "X": X})
    if find_unchecked(fun, jnp.int32(0), jnp.int32(0)) == []:
        run = checked(fun)
        for i, j in [*values, (2**31 - 1, -(2**31))]:
            run(jnp.int32(i), jnp.int32(j))
