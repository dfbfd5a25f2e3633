"""Functions evaluated number by number compute what they did before, and so do their gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax

from jaxopt_lite.lanes.gpu import arrays
from jaxopt_lite.lanes.gpu.graph import Graph, NotInAKernel, emit, reachable
from jaxopt_lite.lanes.gpu.scalar import interpret, leaves_like
from tests import problems

pytestmark = pytest.mark.hardly_optimized

MATRIX = np.random.default_rng(0).standard_normal((3, 4))
POINTS = np.random.default_rng(1).standard_normal((4, 8))  # four unknowns, eight lanes


def by_lanes(fun, *rows):
    """`fun`, written for one problem, on lanes: every operand `[k, L]` or `[L]`, every result flat, `[m, L]`."""
    graph = Graph()
    likes = [jax.ShapeDtypeStruct(row.shape[:-1], row.dtype) for row in rows]
    results = interpret(graph, jax.make_jaxpr(fun)(*likes), [leaves_like(graph, like) for like in likes])
    scalars = [scalar for array in results for scalar in array.flat]
    leaves = [jnp.asarray(row) for array in rows for row in array.reshape(-1, array.shape[-1])]
    return jnp.stack(jax.jit(lambda leaves: emit(scalars, leaves, len(leaves[0])))(leaves))


def nodes_of(fun, *likes):
    """The operations that are left."""
    graph = Graph()
    results = interpret(graph, jax.make_jaxpr(fun)(*likes), [leaves_like(graph, like) for like in likes])
    return [node.operation for node in reachable([scalar for array in results for scalar in array.flat])]


def expected(fun, *rows):
    values = jax.tree.leaves(jax.jit(jax.vmap(fun, in_axes=-1, out_axes=-1))(*rows))
    return jnp.concatenate([value.reshape(-1, rows[0].shape[-1]) for value in values])


@jax.custom_jvp
def with_own_derivative(x):
    return jnp.sin(x)


with_own_derivative.defjvp(lambda x, d: (jnp.sin(x[0]), 2 * jnp.cos(x[0]) * d[0]))


@jax.custom_vjp
def with_own_pullback(x):
    return jnp.sin(x)


with_own_pullback.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (3 * jnp.cos(x) * g,))

FUNCTIONS = {
    "slices": lambda x: jnp.sum((x[1:] - x[:-1] ** 2) ** 2) + x[::2].sum() * x[-1],
    "joining": lambda x: jnp.prod(jnp.concatenate([x[2:], jnp.stack([x[0], x[1]]), jnp.array([2.0])])),
    "padding": lambda x: jnp.sum(lax.pad(x, 1.5, ((1, -1, 2),)) ** 2 * jnp.arange(10.0)),
    "shapes": lambda x: jnp.sum(x.reshape(2, 2).T[::-1] * jnp.array([[1.0, 2.0], [3.0, 4.0]])) + x[None].squeeze()[1],
    "rolling": lambda x: x @ jnp.roll(x, 1),
    "products": lambda x: jnp.sum(jnp.tanh(MATRIX @ x) ** 2) + jnp.sum(jnp.outer(x, x) @ x),
    "batched products": lambda x: jnp.einsum("bi,bij->", x.reshape(2, 2), jnp.stack([x.reshape(2, 2)] * 2)),
    "running sums": lambda x: jnp.sum(jnp.cumsum(x) * jnp.cumprod(x)) + lax.cumsum(x, reverse=True)[1],
    "extremes": lambda x: jnp.max(x) * jnp.min(jnp.abs(x)) + lax.cummax(x)[2],
    "all and any": lambda x: jnp.where(jnp.all(x > 0) | jnp.any(x < -1), x[0], x[1] ** 2),
    "largest place": lambda x: jnp.argmax(x) * x[0] + jnp.argmin(x) * x[1],
    "where": lambda x: jnp.sum(jnp.where(x > 0, jnp.log1p(jnp.abs(x)), jnp.expm1(x))),
    "clipping": lambda x: jnp.sum(jnp.clip(x, -0.5, 0.5) ** 3),
    "powers": lambda x: jnp.sum(x**5 + (1 + x**2) ** -2 + jnp.abs(x) ** 1.5 + jnp.power(2.0, x)),
    "rounding": lambda x: jnp.sum(jnp.round(x * 3) + jnp.floor(x) * jnp.ceil(x) + jnp.sign(x)),
    "functions": lambda x: jnp.sum(jax.nn.sigmoid(x) + jax.nn.softplus(x) + jnp.arctan2(x, 2.0) + jnp.cbrt(x)),
    "log-sum-exp": lambda x: jax.nn.logsumexp(x) + jnp.linalg.norm(x) + jnp.var(x),
    "whole numbers": lambda x: jnp.sum(x * (jnp.arange(4) % 3)) + (jnp.int32(7) // 2) * x[0],
    "known places": lambda x: jnp.sum(x[np.array([0, 2, 2])] ** 2) + jnp.take(x, 3, axis=0),
    "pairs of places": lambda x: jnp.sum(
        jnp.take_along_axis(x.reshape(2, 2), np.array([[1, 0], [0, 0]]), axis=1) * jnp.array([[1.0, 2.0], [3.0, 4.0]])
    ) + x.reshape(2, 2)[np.array([1, 0, 1]), np.array([0, 0, 1])] @ jnp.arange(3.0),
    "places outside": lambda x: x.at[7].get(mode="fill", fill_value=2.0) * x[1],
    "rows of places": lambda x: jnp.sum(x.reshape(2, 2)[np.array([1, 1, 0])] ** 2 * jnp.arange(6.0).reshape(3, 2)),
    "writing rows": lambda x: jnp.sum(x.reshape(2, 2).at[:, np.array([1, 1])].add(2 * x[:2]) ** 3)
    + jnp.sum(x.at[np.array([9])].set(1.0)),
    "writing": lambda x: jnp.sum(x.at[np.array([1, 1])].add(x[:2]).at[0].set(2.0).at[3].multiply(x[0]) ** 2),
    "windows": lambda x: jnp.sum(lax.dynamic_slice(x, (1,), (2,)) * lax.dynamic_update_slice(x, x[:1], (2,))[1:3]),
    "branches": lambda x: lax.cond(x[0] > 0, jnp.sum, lambda x: jnp.sum(x**2), x),
    "many branches": lambda x: lax.switch(
        (x[0] > 0).astype(int) + (x[1] > 0), [jnp.sum, jnp.prod, lambda x: x[3] * x[2]], x
    ),
    "scan": lambda x: jnp.sum(lax.scan(lambda c, y: (c * y + 1, c - y), x[0], x)[1] ** 2),
    "backward scan": lambda x: lax.scan(lambda c, y: (c * y + 1, c), x[0], x, reverse=True)[0],
    "loop": lambda x: lax.fori_loop(0, 3, lambda k, x: jnp.sin(x) * (k + 1), x).sum(),
    "known while": lambda x: lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] * x[0]), (0, x[1]))[1],
    "calls": lambda x: jax.jit(jnp.sum)(jax.checkpoint(jnp.sin)(x)) + jnp.sum(with_own_derivative(x)),
    "own pullback": lambda x: jnp.sum(with_own_pullback(x)),
    "polynomial": lambda x: jnp.polyval(np.array([1.0, -2.0, 0.5]), x).sum(),
    "other dtypes": lambda x: jnp.sum(x.astype(jnp.float32)).astype(x.dtype) + (x > 0).astype(x.dtype) @ x,
    "nothing": lambda x: jnp.sum(x[:0]) + x[0] ** 0,
}  # fmt: skip


@functools.cache
def functions():
    """Each with its gradient, number by number and as it was; all by one program."""

    def compute(points):
        results = {}
        for name, fun in FUNCTIONS.items():
            if name != "known while":  # which JAX cannot differentiate backward
                fun = jax.value_and_grad(fun)
            results[name] = by_lanes(fun, points), expected(fun, points)
        return results

    return jax.tree.map(np.asarray, jax.jit(compute)(POINTS))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_gradient_are_what_they_were(name):
    got, want = functions()[name]
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("problem", problems.NONLINEAR_23 + problems.MGH_UNCONSTRAINED, ids=lambda p: p.name)
def test_the_standard_problems(problem):
    points = np.asarray(problems.perturbed(problem, 5).T)
    got, want = by_lanes(problem.fun, points), expected(problem.fun, points)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10 * np.max(np.abs(want)))


SPECIAL = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e300, 4503599627370497.5])
PAIRED = {
    "max": lax.max,
    "min": lax.min,
    "clamp": lambda a, b: lax.clamp(-1.0, a, lax.abs(b)),
    "round to even": lambda a, b: lax.round(a, lax.RoundingMethod.TO_NEAREST_EVEN),
    "round away": lambda a, b: lax.round(a, lax.RoundingMethod.AWAY_FROM_ZERO),
    "sign": lambda a, b: lax.sign(a),
    "is finite": lambda a, b: lax.is_finite(a),
    "logistic": lambda a, b: lax.logistic(a),
    "largest": lambda a, b: jnp.max(jnp.abs(jnp.stack([a, b, a])), initial=0),
    "argmax": lambda a, b: jnp.argmax(jnp.stack([a, b])),
    "argmin": lambda a, b: jnp.argmin(jnp.stack([a, b])),
}


@functools.cache
def compiled(name):
    fun = PAIRED[name]
    return jax.jit(lambda a, b: by_lanes(fun, a, b)), jax.jit(jax.vmap(fun))


@pytest.mark.parametrize("name", PAIRED)
@settings(deadline=None, max_examples=25)
@given(a=st.one_of(SPECIAL, st.floats(allow_subnormal=False)), b=st.one_of(SPECIAL, st.floats(allow_subnormal=False)))
@example(a=1.0, b=np.nan)
@example(a=np.nan, b=1.0)
def test_what_a_kernel_does_otherwise_is_rewritten_to_the_same(name, a, b):
    """NaN wins, ties go to even, whatever the numbers are."""
    ours, jaxs = compiled(name)
    got, want = ours(np.full(1, a), np.full(1, b))[0], jaxs(np.full(1, a), np.full(1, b))
    np.testing.assert_allclose(np.asarray(got, float), np.asarray(want, float), rtol=1e-15)


def test_only_elementwise_operations_are_left():
    """Moving numbers costs nothing, equal expressions are one, and what is known is computed at once."""
    vector = jax.ShapeDtypeStruct((3,), np.dtype(float))
    assert nodes_of(lambda x: jnp.roll(x[::-1], 1).reshape(3, 1).T, vector) == ["leaf"] * 3
    assert sorted(nodes_of(lambda x: (x[0] * x[1]) + (x[1] * x[0]), vector)) == ["add", "leaf", "leaf", "mul"]
    assert nodes_of(lambda x: jnp.eye(3) @ jnp.ones(3), vector) == []
    assert nodes_of(lambda x: x[0] * 1.0 + 0.0, vector) == ["leaf"]
    assert nodes_of(lambda x: lax.cond(jnp.bool_(True), lambda: x[0], lambda: x[1]), vector) == ["leaf"]


def test_a_fault_of_a_rule_is_a_reason_and_no_crash(monkeypatch):
    monkeypatch.setitem(arrays.ARRAYS, "rev", lambda graph, params, x: params["axes"])
    with pytest.raises(NotInAKernel, match="a bug in this library.*KeyError.*`rev` at .*test_scalar.py"):
        nodes_of(lambda x: x[::-1], jax.ShapeDtypeStruct((3,), np.dtype(float)))


UNSUPPORTED = {
    "sort": (lambda x: jnp.sort(x), "it sorts"),
    "erf": (lambda x: jax.scipy.special.erf(x), "error function"),
    "gammaln": (lambda x: jax.scipy.special.gammaln(x), "gamma function"),
    "solve": (lambda x: jnp.linalg.solve(x.reshape(2, 2), x[:2]), "library"),
    "index": (lambda x: x[jnp.argmax(x)], "no addresses"),
    "while": (lambda x: lax.while_loop(lambda x: x[0] < 3, lambda x: x + 1, x), "how many rounds"),
    "long loop": (lambda x: lax.fori_loop(0, 1000, lambda k, x: x * 2, x), "1000 rounds"),
    "remainder": (lambda x: x % 1.5, "remainder"),
    "precision": (lambda x: x.astype(jnp.bfloat16) * 2, "bfloat16"),
    "random": (
        lambda x: x * jax.random.normal(jax.random.key(0), (4,)),
        "it draws|no such operation|dtype|error function",
    ),
    "size": (lambda x: jnp.sum(jnp.exp(x[:, None] * jnp.arange(30_000.0))), "too many"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_has_no_such_form_says_so_and_where(name):
    """In a sentence with the primitive and this file."""
    fun, sentence = UNSUPPORTED[name]
    with pytest.raises(NotInAKernel, match=sentence) as reason:
        nodes_of(fun, jax.ShapeDtypeStruct((4,), np.dtype(float)))
    if name != "size":
        assert "test_scalar.py" in reason.value.line and f"(`{reason.value.primitive}` at " in str(reason.value)
