"""Functions that compute the same have equal jaxprs, and others have others."""

from functools import partial

import jax
import jax.nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes.jaxpr_content import content_of_jaxpr
from tests.lanes.test_content import key, nested, with_cell


def jaxpr(fun, *args):
    return content_of_jaxpr(jax.make_jaxpr(lambda *a: fun(*a))(*args))


def test_functions_that_compute_the_same_have_equal_jaxprs():
    x = jnp.ones(3)

    def branches(k):
        return lambda x: jax.lax.cond(
            x[0] > 0, lambda y: y * k, lambda y: y, jax.lax.fori_loop(0, k, lambda i, y: y + k, x)
        )

    def inner_jit(k):
        return lambda x: jax.jit(lambda y: jnp.where(y > k, y, 0))(x)

    for make in (with_cell, branches, inner_jit, nested):
        assert jaxpr(make(2), x) == jaxpr(make(2), x) is not None
        assert jaxpr(make(2), x) != jaxpr(make(3), x)
    assert jaxpr(with_cell(2), x) != jaxpr(with_cell(2), jnp.ones(4))
    assert jaxpr(with_cell(2), x) != jaxpr(with_cell(2), x.astype(jnp.float16))
    # Captured arrays are inputs.
    assert jaxpr(with_cell(jnp.zeros(3)), x) == jaxpr(with_cell(jnp.ones(3)), x) != jaxpr(with_cell(jnp.ones(1)), x)


def with_jvp(slope, value=1.0):
    @jax.custom_jvp
    def f(x):
        return x * value

    f.defjvp(lambda p, t: (f(p[0]), slope * t[0]))
    return f


def with_vjp(slope):
    @jax.custom_vjp
    def f(x):
        return x * 1.0

    f.defvjp(lambda x: (f(x), None), lambda _, ct: (slope * ct,))
    return f


def rule_in_a_rule(slope, inner=with_jvp):
    inner = inner(slope)

    @jax.custom_jvp
    def f(x):
        return x * 1.0

    f.defjvp(lambda p, t: (f(p[0]), inner(p[0]) * t[0]))
    return f


def backward_in_a_rule(slope):
    return rule_in_a_rule(slope, with_vjp)


def forward_beside_backward(slope):
    forward, backward = with_jvp(slope), with_vjp(1.0)
    return lambda x: forward(x) + backward(x)


@pytest.mark.parametrize("make", [with_jvp, with_vjp, rule_in_a_rule, backward_in_a_rule, forward_beside_backward])
def test_differentiation_rules_are_part_of_what_a_function_computes(make):
    x, random = jnp.ones(3), jax.random.key(0)
    for wrap in (lambda f: f, lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, length=2)[0]):
        same, other = jaxpr(wrap(make(2.0)), x), jaxpr(wrap(make(3.0)), x)
        assert same == jaxpr(wrap(make(2.0)), x) is not None and same != other
    odd = x.astype(jnp.bfloat16), random  # whose dtypes NumPy does not know
    same, again, other = (jaxpr(partial(lambda f, x, _: f(x), f), *odd) for f in map(make, (2.0, 2.0, 3.0)))
    assert same == again is not None and same != other
    assert key(make(2.0)) == key(make(2.0)) != key(make(3.0))


def test_functions_with_rules_are_traced_backward_only_where_rules_go_backward(monkeypatch):
    trace, count = jax.make_jaxpr, 0

    def counted(*args):
        nonlocal count
        count += 1
        return trace(*args)

    one_way, other_way = (trace(make(2.0))(jnp.ones(3)) for make in (with_jvp, with_vjp))
    monkeypatch.setattr(jax, "make_jaxpr", counted)
    assert content_of_jaxpr(one_way) is not None and count == 2  # the first and the second derivative
    assert content_of_jaxpr(other_way) is not None and count > 3


def test_rules_within_jitted_functions_are_as_old_as_these_are_for_jax():
    x = jnp.ones(3)
    assert jaxpr(lambda x: jax.nn.relu(x) * 2, x) == jaxpr(lambda x: jax.nn.relu(x) * 2, x) is not None
    one, other = jax.jit(with_jvp(2.0)), jax.jit(with_jvp(3.0))
    assert jaxpr(one, x) == jaxpr(one, x) != jaxpr(other, x)


def test_callbacks_are_known_by_their_functions():
    def calling(f):
        return lambda x: jax.pure_callback(f, jax.ShapeDtypeStruct((3,), jnp.float32), x)

    x = jnp.ones(3, jnp.float32)
    assert jaxpr(calling(np.asarray), x) == jaxpr(calling(np.asarray), x) != jaxpr(calling(np.abs), x)
    assert jaxpr(lambda x: (jax.debug.print("{x}", x=x), x)[1], x) is not None


def test_callbacks_are_the_same_if_what_they_see_later_is():
    def logging(log):
        return lambda x: (jax.debug.callback(lambda x: log.append(x), x), x)[1]

    def scaled_by(store, name):
        scaling = lambda x: np.asarray(x) * store[name]
        return lambda x: jax.pure_callback(lambda x: scaling(x), x, x)

    x, log, store = jnp.ones(3, jnp.float32), [], {"a": 1.0}
    before = jaxpr(logging(log), x), jaxpr(scaled_by(store, "a"), x)
    log.append(1.0)
    store["a"] = 2.0
    assert before == (jaxpr(logging(log), x), jaxpr(scaled_by(store, "a"), x))
    assert before[0] != jaxpr(logging([]), x) != jaxpr(logging([]), x)
    assert before[1] != jaxpr(scaled_by({"a": 1.0}, "a"), x) and before[1] != jaxpr(scaled_by(store, "b"), x)
