"""On a tile every function is what `jax.vmap` makes of it, and no lane's result depends on which lane it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes.lanes_last import lanes_last
from tests.forms import FORMS, batch

pytestmark = pytest.mark.hardly_optimized

LANES = 16


@functools.cache
def data():
    x, a = batch(LANES, seed=3)
    return jax.tree.map(lambda leaf: jnp.asarray(np.moveaxis(leaf, 0, -1)), (x, a))


def derivatives(name):
    """What solvers ask of a function, for one problem."""
    form = FORMS[name]

    def one(x, a):
        value, slope = jax.jvp(lambda x: form(x, a), (x,), (jnp.cos(x),))
        return value, slope, jax.jacfwd(lambda x: form(x, a))(x)

    def backwards(x, a):
        return jax.grad(lambda x: jnp.sum(form(x, a) ** 2))(x)

    return [one] if name == "a loop until it is enough" else [one, backwards]  # JAX has no such loop backwards


def compare(functions):
    """What `jax.vmap` makes of each of these functions, and `lanes_last` with each setting; all by one program."""
    x, a = data()

    def settings(one):
        """Rules are kept or not only where there are some."""
        jaxpr = jax.make_jaxpr(one)(x[..., 0], jax.tree.map(lambda leaf: leaf[..., 0], a))
        return (False, True) if "custom_" in str(jaxpr) else (False,)

    keeps = {name: list(map(settings, ones)) for name, ones in functions.items()}

    def compute(x, a):
        return {
            name: [
                (
                    jax.vmap(one, in_axes=-1, out_axes=-1)(x, a),
                    [lanes_last(one, (True, True), keeps_rules=keep)(x, a) for keep in each],
                )
                for one, each in zip(ones, keeps[name], strict=True)
            ]
            for name, ones in functions.items()
        }

    return jax.tree.map(np.asarray, jax.jit(compute)(x, a))


def assert_same(results):
    for expected, found in results:
        for got in found:
            assert jax.tree.structure(got) == jax.tree.structure(expected)
            for mine, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
                assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
                np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)


# Other ways to write what another form has too: their values are compared below, their derivatives in a slow test.
ALIKE = {
    "the last three", "backwards", "its own matrix transposed", "a quadratic form", "the square of its matrix",
    "a shared matrix from the right", "an outer product", "a column", "joined", "rolled", "cases", "exponentials",
    "powers", "a softmax", "a polynomial", "a curve", "a loop of known length", "a condition", "running sums",
    "products and norms",
}  # fmt: skip


@functools.cache
def forms(alike):
    return compare({name: derivatives(name) for name in FORMS if (name in ALIKE) == alike})


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in FORMS]
)
def test_it_is_vmap(name):
    assert_same(forms(name in ALIKE)[name])


SHARED = ("m", "c", "k", "x")


@functools.cache
def shared_in_turn(alike):
    """What forms are where lanes share one of their arguments: by `lanes_last`, and by `jax.vmap`."""
    x, a = data()
    forms = {shared: {name: FORMS[name] for name in forms_to_share(alike, shared)} for shared in SHARED}

    def every(shared, x, a):
        return {name: form(x, a) for name, form in forms[shared].items()}

    def spread(shared):
        """The arguments with a lane axis everywhere, and each lane of the shared one the same."""
        return jax.tree.map(
            lambda flag, leaf: leaf if flag else jnp.broadcast_to(leaf[..., :1], leaf.shape), axes_but(shared), (x, a)
        )

    def compute(x, a):
        got = {}
        for shared in SHARED:
            arguments = jax.tree.map(lambda flag, leaf: leaf if flag else leaf[..., 0], axes_but(shared), (x, a))
            got[shared] = lanes_last(functools.partial(every, shared), axes_but(shared))(*arguments)
        together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=-1), *map(spread, SHARED))
        whole = {name: form for shared in SHARED for name, form in forms[shared].items()}
        by_vmap = jax.vmap(lambda x, a: {name: form(x, a) for name, form in whole.items()}, in_axes=-1, out_axes=-1)
        return got, by_vmap(*together)

    got, expected = jax.tree.map(np.asarray, jax.jit(compute)(x, a))
    lanes = {shared: slice(LANES * k, LANES * (k + 1)) for k, shared in enumerate(SHARED)}
    return {
        shared: (got[shared], {name: expected[name][..., lanes[shared]] for name in forms[shared]}) for shared in SHARED
    }


@functools.cache
def read_by(name):
    """Which of its arguments a form reads: to the others it is the same whether lanes share them or not."""
    x, a = jax.tree.map(lambda leaf: leaf[..., 0], data())
    jaxpr = jax.make_jaxpr(FORMS[name])(x, a).jaxpr
    read = {id(var) for equation in jaxpr.eqns for var in equation.invars}
    return {arg for arg, var in zip(("x", *sorted(a)), jaxpr.invars, strict=True) if id(var) in read}


def forms_to_share(alike, shared):
    names = {name for name in FORMS if (name in ALIKE) == alike and name not in ("a transform", "a factorisation")}
    return {name for name in names if shared in read_by(name)}


def axes_but(shared):
    """Which arguments have a lane axis: all but this one."""
    return shared != "x", {name: name != shared for name in ("c", "k", "m")}


@pytest.mark.parametrize("alike", [False, pytest.param(True, marks=pytest.mark.slow, id="alike")])
@pytest.mark.parametrize("shared", SHARED)
def test_what_lanes_share_needs_no_lane_axis(shared, alike):
    got, expected = shared_in_turn(alike)[shared]
    assert set(got) == set(expected) == forms_to_share(alike, shared)
    assert alike or got
    for name, mine in got.items():
        np.testing.assert_allclose(mine, expected[name], rtol=1e-12, atol=1e-12, err_msg=name)


OTHERS = {
    "an update at an index": lambda x, a: x.at[1].set(a["c"][0]).at[jnp.array([0, 2])].add(a["c"][1:3]),
    "more updates at an index": lambda x, a: (
        x.at[0].multiply(a["c"][1]).at[1].subtract(a["c"][0]).at[1:].max(a["c"][:2]).at[:2].min(a["c"][2:4])
    ),
    "an update at its own index": lambda x, a: a["c"].at[a["k"]].multiply(x[0]),
    "a window": lambda x, a: jax.lax.dynamic_slice(a["c"], (jnp.int32(2),), (3,)) * x,
    "a window of its own": lambda x, a: jax.lax.dynamic_slice(a["c"], (a["k"],), (3,)) * x,
    "a window put in": lambda x, a: jax.lax.dynamic_update_slice(a["c"], x, (jnp.int32(1),)),
    "a product of matrices": lambda x, a: jnp.einsum("ij,jk->ik", a["m"], jnp.outer(x, a["c"])),
    "a product of three axes": lambda x, a: jnp.einsum("ij,kj,k->ki", a["m"], a["m"], x),
    "a large product": lambda x, a: jnp.tile(a["m"], (7, 7)) @ jnp.tile(a["m"], (7, 7)).T,
    "of whole numbers": lambda x, a: jnp.arange(3) * a["k"] // 2 + jnp.argmax(x),
    "of truth": lambda x, a: jnp.any(x > 0) & ~jnp.isnan(a["c"][0]),
    "constants alone": lambda x, a: (jnp.arange(3.0), 2.0),
    "an empty array": lambda x, a: x[:0],
    "the operands themselves": lambda x, a: (x, a),
    "random numbers": lambda x, a: x + jax.random.normal(jax.random.key(a["k"]), (3,)),
    "a loop backwards": lambda x, a: jax.lax.scan(lambda c, t: (c + t, c * t), 0.0, a["c"], reverse=True),
    "two loops": lambda x, a: jax.lax.scan(
        lambda c, t: (jax.lax.fori_loop(0, a["k"], lambda i, y: y + t * i, c), c[0]), x, jnp.arange(4.0)
    ),
    "a condition that is shared": lambda x, a: jax.lax.cond(jnp.ones(3).sum() > 2, jnp.sin, jnp.cos, x),
    "a checkpoint": lambda x, a: jax.checkpoint(lambda y: jnp.sin(y) * a["c"][0])(x),
    "sums": lambda x, a: (a["m"].sum(0), a["m"].max(1), a["m"].prod(), a["m"].min(), a["m"].argmin(0), a["m"].all()),
    "turned": lambda x, a: (a["m"].T, jnp.flip(a["m"], 1), jnp.rot90(a["m"]), a["c"].reshape(1, 2, 3).swapaxes(0, 2)),
    "sums along": lambda x, a: (jnp.cumsum(a["m"], 1), jax.lax.cummax(a["m"], 0, reverse=True)),
    "sorted by another": lambda x, a: (jnp.argsort(x), jax.lax.sort((x, a["c"][:3]), num_keys=1), jax.lax.top_k(x, 2)),
    "put together": lambda x, a: (jnp.stack([x[0], a["c"][1]]), jnp.tile(x, 2), jnp.unstack(a["m"])[1]),
    "special functions": lambda x, a: (jax.scipy.special.gammainc(x**2, 1.0), jax.scipy.special.i0e(x)),
    "complex numbers": lambda x, a: jnp.real(jnp.conj(x + 1j * a["c"][:3]) * 2),
}  # fmt: skip


@functools.cache
def others():
    return compare({name: [one] for name, one in OTHERS.items()})


@pytest.mark.parametrize("name", OTHERS)
def test_other_operations(name):
    assert_same(others()[name])


def test_nothing_is_moved():
    """No operation has the lane axis elsewhere than last, but those of which JAX alone has a form."""
    x, a = data()
    by_vmap = {
        "chosen by its own index",
        "a linear solve",
        "a factorisation",
        "a transform",
        "interpolated",
        "a switch",
    }
    forms = {name: derivatives(name) for name in set(FORMS) - by_vmap}
    forms |= {name: [OTHERS[name]] for name in ("an update at an index", "more updates at an index")}
    for name, mine in forms.items():
        for one in mine:
            jaxpr = jax.make_jaxpr(lanes_last(one, (True, True)))(x, a)
            assert not list(off_last(jaxpr.jaxpr)), f"{name}: {list(off_last(jaxpr.jaxpr))}"


def hares(p, steps):
    """Lotka and Volterra's equations by the midpoint rule, step after step; `p` has both start values and a rate."""
    rate = lambda y: jnp.stack([y[0] * (1 - y[1]), y[1] * (y[0] - p[2])])
    y, h = p[:2], 0.1
    for _ in range(steps):
        y = y + h * rate(y + h / 2 * rate(y))
    return y


def slope_of_hares(p, steps):
    return jax.grad(lambda p: jnp.sum(hares(p, steps) ** 2))(p)


def barriers(one, p):
    return str(jax.make_jaxpr(lanes_last(one, (True,)))(p)).count("optimization_barrier")


def test_what_took_some_work_is_kept_where_it_is_used_again():
    p = jnp.ones((3, LANES))
    short = lambda p: jnp.sum(100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2)
    once = lambda p: functools.reduce(lambda y, k: y * p + k, range(20), p)
    assert barriers(short, p) == barriers(jax.grad(short), p) == barriers(once, p) == 0
    few, many = (barriers(functools.partial(slope_of_hares, steps=steps), p) for steps in (2, 4))
    assert 2 <= few < many <= 16  # no more than a few a step
    # A vector that is spread over a matrix is used in each of its columns.
    spread = lambda p: jnp.broadcast_to(once(p), (5, 3))
    assert barriers(spread, p) == 1


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="XLA had no regard for these barriers")
def test_nothing_is_computed_much_oftener_than_it_is_written():
    """Without barriers some 4 times as often."""
    program = jax.jit(lanes_last(functools.partial(slope_of_hares, steps=4), (True,))).lower(jnp.ones((3, LANES)))
    written, computed = program.as_text().count("stablehlo.multiply"), program.compile().as_text().count(" multiply(")
    assert written > 50 and computed <= 1.7 * written


def off_last(jaxpr):
    """Equations with an array that has an axis of so many lanes, and that not last."""
    for equation in jaxpr.eqns:
        for out in equation.outvars:
            shape = getattr(out.aval, "shape", ())
            if LANES in shape[:-1]:
                yield str(equation)[:200]
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from off_last(inner)


def test_rules_are_kept_where_the_result_is_differentiated():
    x, a = data()

    @jax.custom_jvp
    def ruled(x):
        return x**2

    ruled.defjvp(lambda p, t: (ruled(p[0]), 7 * t[0]))
    one = lambda x, a: jnp.sum(ruled(x)) + a["c"][0]
    total = lambda keeps: lambda x: jnp.sum(lanes_last(one, (True, True), keeps_rules=keeps)(x, a))
    plain = lambda x: jnp.sum(jax.vmap(one, in_axes=-1)(x, a))
    slopes = jax.jit(lambda x: [jax.grad(f)(x) for f in (plain, total(True), total(False))])
    expected, kept, lost = slopes(5 * np.asarray(x))
    np.testing.assert_allclose(kept, expected)
    assert not np.allclose(lost, expected)


def test_it_can_be_mapped_and_differentiated_itself():
    """Forwards, backwards and twice, with the results that `jax.vmap` has."""
    x, a = data()
    one = FORMS["its own matrix"]

    def compute(x, a, on_lanes):
        mapped = jax.vmap(lambda x: on_lanes(x, a))(jnp.stack([x, 2 * x]))
        total = lambda x: jnp.sum(on_lanes(x, a) ** 3)
        return mapped, jax.jvp(lambda x: on_lanes(x, a), (x,), (x,)), jax.grad(total)(x), jax.hessian(total)(x)

    ours, by_vmap = lanes_last(one, (True, True), keeps_rules=True), jax.vmap(one, in_axes=-1, out_axes=-1)
    got, expected = jax.jit(lambda x, a: (compute(x, a, ours), compute(x, a, by_vmap)))(x, a)
    for mine, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("on", [(True, False), (True, True)])
def test_a_loop_that_the_user_has_mapped_ends_for_each_entry(on):
    """Whatever decides is shared by the lanes, or differs from lane to lane."""

    def powers(x, rounds):
        one = lambda k: jax.lax.while_loop(lambda s: s[0] < k, lambda s: (s[0] + 1, s[1] * x), (0, x))[1]
        return jax.vmap(one)(rounds)

    x = jnp.asarray([[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 2.0, 0.0]])
    rounds = jnp.asarray([[0, 1, 3, 2], [2, 0, 1, 4], [1, 1, 0, 3]])
    rounds = rounds if on[1] else rounds[:, 0]
    expected = x ** (1 + rounds.reshape(3, 1, -1))
    np.testing.assert_allclose(lanes_last(powers, on)(x, rounds), expected)


def test_a_costly_branch_is_skipped_where_no_lane_takes_it():
    """One that would not end in any lane that takes another."""

    def until_large(x):
        return jax.lax.while_loop(lambda x: x < 100, lambda x: 2 * x, x)

    def f(x, k):
        return jax.lax.switch(k, [jnp.sin, until_large, lambda x: x + 1], x)

    x = np.array([-1.0, 2.0, 0.5])
    on_lanes = jax.jit(lanes_last(f, (True, True)))
    np.testing.assert_allclose(on_lanes(x, np.array([0, 2, 0])), [np.sin(-1), 3, np.sin(0.5)], rtol=1e-15)
    np.testing.assert_allclose(on_lanes(abs(x), np.array([0, 1, 2])), [np.sin(1), 128, 1.5], rtol=1e-15)


def test_a_branch_that_a_lane_does_not_take_leaves_its_slopes_finite():
    """Where a is negative, the branch not taken has the slope of a root there; b is what all lanes share."""

    def one(a, b):
        return jax.lax.cond(a > 0, lambda: jnp.sqrt(a + b), lambda: jnp.exp(a * b))

    for a in (np.array([0.5, -1.0, 2.0, -3.0, 1.0]), -np.arange(1.0, 6.0)):
        ours = lambda a, b: jnp.sum(lanes_last(one, (True, False), keeps_rules=True)(a, b))
        each = [jax.grad(one, (0, 1))(number, 0.25) for number in a]
        of_a, of_b = jax.jit(jax.grad(ours, (0, 1)))(a, 0.25)
        assert np.allclose(of_a, [slope for slope, _ in each], rtol=1e-12)
        assert np.isclose(of_b, sum(slope for _, slope in each), rtol=1e-12)
