"""What an equation calls is found in any version of JAX, and an interpreter computes what JAX does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxopt_lite.jaxprs import (
    Interpreter,
    Scan,
    While,
    as_function,
    branches,
    called,
    current_line,
    equations_in,
    inner_jaxprs,
    is_jaxpr,
    is_literal,
    largest_array,
    line_of,
    opened,
    operations,
    without_consts,
)
from tests.lines import here

pytestmark = pytest.mark.hardly_optimized

X = jnp.arange(3.0)
TABLE = np.arange(6.0).reshape(2, 3)


@jax.custom_jvp
def squared(x):
    return x**2


squared.defjvp(lambda p, t: (squared(p[0]), 7 * t[0]))


@jax.custom_vjp
def cubed(x):
    return x**3


cubed.defvjp(lambda x: (cubed(x), x), lambda x, u: (7 * u,))


def everything(x):
    """Calls, loops, a conditional, several results, captured arrays and literals."""
    y = lax.scan(lambda c, t: (c + t, c * 2.0), x, jnp.stack([x, x + 1]))[1] @ TABLE.T
    y = lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, y))[1]
    y = lax.cond(y[0, 0] > 0, lambda y: y, lambda y: -y, y)
    y = jnp.sum(y) + squared(x) + cubed(x) + jax.checkpoint(jnp.cos)(x) + jax.jit(jnp.sort)(x)
    return lax.top_k(jax.nn.softmax(y), 2), jax.nn.relu(x)


class _Inlined(Interpreter):
    """Evaluates what is called equation by equation."""

    def __init__(self):
        self.lines = []

    def results(self, equation, values):
        inner = called(equation)
        if inner is not None:
            return self.call(inner, values)
        self.lines.append((equation.primitive.name, current_line()))
        return super().results(equation, values)


@pytest.mark.parametrize("interpreter", [Interpreter, _Inlined])
def test_an_interpreter_computes_what_jax_does(interpreter):
    closed, shape = jax.make_jaxpr(everything, return_shape=True)(X)

    def both(x):
        return everything(x), jax.tree.unflatten(jax.tree.structure(shape), interpreter().run(closed, [x]))

    expected, got = jax.jit(both)(X + 0.5)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_a_part_of_the_equations_can_be_evaluated():
    closed = jax.make_jaxpr(lambda x, y: (x * 2 + y, 5.0))(1.0, 1.0)
    jaxpr, _ = opened(closed)
    first, second = jaxpr.eqns
    known = dict(zip(jaxpr.invars, (3.0, 4.0), strict=True))
    (doubled,) = Interpreter().evaluate([first], known, first.outvars)
    assert doubled == 6.0
    assert Interpreter().evaluate([second], known, jaxpr.outvars) == [10.0, 5.0]


def equation_of(fun, name, *args):
    return next(
        equation for equation, *_ in equations_in(jax.make_jaxpr(fun)(*args)) if equation.primitive.name == name
    )


def test_loops_and_conditionals_are_taken_apart():
    table = jnp.ones((4, 3))
    key = jax.random.key(0)  # of rank 0, with numbers behind it

    def by_scan(x, n):
        body = lambda c, t: ((c[0] + n * table[0], jax.random.fold_in(c[1], 1)), (t[0], c[0]))
        return lax.scan(body, (x, key), (jnp.ones((5, 2)), jnp.zeros(5)), reverse=True)

    loop = Scan.of(equation := equation_of(by_scan, "scan", X, 2.0), range(len(equation.invars)))
    assert list(map(len, loop[1:4])) == [2, 2, 2] and [*loop.fixed, *loop.carried, *loop.scanned] == list(range(6))
    assert (loop.options["length"], loop.options["reverse"]) == (5, True) and is_jaxpr(loop.body)

    def by_while(x, n):
        return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] @ table.T @ table), (0, x))

    loop = While.of(equation := equation_of(by_while, "while", X, 2), range(len(equation.invars)))
    assert list(map(len, loop[2:])) == [1, 1, 2] and is_jaxpr(loop.condition) and is_jaxpr(loop.body)
    choice = equation_of(lambda x: lax.switch(x, [lambda: 0.0, lambda: 1.0, lambda: 2.0]), "cond", 1)
    assert len(branches(choice)) == len(list(inner_jaxprs(choice))) == 3


@pytest.mark.parametrize("call", [jax.jit(jnp.sin), jax.checkpoint(jnp.sin), squared, cubed, jax.nn.relu])
def test_plain_calls_are_found_and_others_not(call):
    (equation,) = opened(jax.make_jaxpr(call)(X))[0].eqns
    has_rule = "custom" in equation.primitive.name
    assert called(equation) is not None
    assert (called(equation, despite_rules=False) is None) == has_rule
    (addition,) = opened(jax.make_jaxpr(lambda x: x + 1)(X))[0].eqns
    assert called(addition) is None and not is_literal(addition.invars[0]) and is_literal(addition.invars[1])
    assert called(equation_of(everything, "scan", X)) is None


def test_constants_can_be_left_out_and_given_again():
    table = jnp.asarray(TABLE)
    closed = jax.make_jaxpr(lambda x: table @ x)(X)
    _, consts = opened(closed)
    bare = without_consts(closed)
    assert len(consts) == 1 and opened(bare)[1] == [None]
    for jaxpr in (closed, bare, opened(bare)[0]):
        np.testing.assert_array_equal(as_function(jaxpr, [2 * table])(X)[0], 2 * TABLE @ np.arange(3.0))


def test_sizes_are_found_inside_calls_and_loops():
    def fun(x):
        return jax.jit(lambda x: jnp.sum(jnp.outer(x, x)))(x) + jnp.sum(lax.fori_loop(0, 4, lambda _, x: 2 * x, x))

    jaxpr = jax.make_jaxpr(fun)(jnp.ones(30, jnp.float32))
    assert largest_array(jaxpr) == largest_array(opened(jaxpr)[0]) == 30 * 30 * 4
    assert 30 * 30 + 4 * 30 < operations(jaxpr) < 2 * (30 * 30 + 4 * 30)
    assert operations(jaxpr, {"mul"}) == 30 * 30 + 4 * 30
    nothing = jax.make_jaxpr(lambda x: x)(1.0)
    assert largest_array(nothing) == operations(nothing) == 0


def test_what_is_inside_an_equation_comes_after_it():
    jaxpr = jax.make_jaxpr(everything)(X)
    found = list(equations_in(jaxpr))
    seen = [equation for equation, *_ in found]
    for k, (_, *outer) in enumerate(found):
        assert all(any(each is before for before in seen[:k]) for each in outer)
    at_top = [equation for equation, *_ in equations_in(jaxpr, lambda equation: False)]
    assert at_top == opened(jaxpr)[0].eqns and len(at_top) < len(seen)


def looked_up(x, i):
    return jax.jit(lambda i: jnp.take(x, i % 2))(lax.scan(lambda c, _: (c % 3 + 1, None), i, None, length=2)[0])  # here


def test_an_equation_has_the_line_of_the_user_who_wrote_it():
    """JAX's own functions are traced once for all callers: there it is the line of the call."""
    jnp.take(X, jnp.int32(1) % 2)  # an earlier line with the same trace
    closed = jax.make_jaxpr(looked_up)(X, jnp.int32(1))
    interpreter = _Inlined()
    interpreter.run(closed, [X, jnp.int32(1)])
    file, line = here(looked_up)
    assert {"gather", "rem", "scan"} <= {name for name, _ in interpreter.lines}
    assert all(text.startswith(f"{file}:{line}:") for _, text in interpreter.lines)
    assert all(line_of(*found).startswith(f"{file}:{line}:") for found in equations_in(closed))
    assert line_of() == ""


def test_what_an_interpreter_traces_is_written_where_the_equation_was():
    traced = jax.make_jaxpr(functools.partial(_Inlined().run, jax.make_jaxpr(looked_up)(X, jnp.int32(1))))([X, 1])
    file, line = here(looked_up)
    assert all(line_of(*found).startswith(f"{file}:{line}:") for found in equations_in(traced))


def test_settings_are_those_of_the_trace():
    def drawn(x):
        with jax.threefry_partitionable(False):
            return x + jax.random.normal(jax.random.key(0), (4,))

    closed = jax.make_jaxpr(drawn)(0.0)
    with jax.threefry_partitionable(True):
        (got,) = Interpreter().run(closed, [0.0])
        np.testing.assert_array_equal(got, drawn(0.0))
        assert not np.array_equal(got, jax.random.normal(jax.random.key(0), (4,)))
