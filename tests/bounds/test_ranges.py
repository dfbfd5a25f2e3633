"""Interval analysis: what a guard or a loop says of a range is found, and every computed number lies in its range."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxopt_lite.bounds.intervals import Interval
from tests.bounds.test_intervals import assert_inside

pytestmark = pytest.mark.hardly_optimized

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
def test_carried_values_lie_in_their_interval(name):
    """Every value that a loop carries, in each round and at the end; of all kinds of loops in one program."""

    def loops(steps):
        return [
            loop(STEPS[name], start, rounds, steps[k]) for k, (start, rounds, _) in enumerate(STARTS) for loop in LOOPS
        ]

    assert_inside(jax.jit(loops), jnp.int32([step for *_, step in STARTS]))


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("loop", ["scan", "while", "lanes"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(start=st.integers(-3, 12), rounds=st.integers(0, 40), d=st.integers(0, 3))
def test_many_carried_values_lie_in_their_interval(name, loop, start, rounds, d):
    """The same, from anywhere."""
    kind = dict(zip(("scan", "while", "lanes"), LOOPS, strict=True))[loop]
    assert_inside(lambda d: kind(STEPS[name], start, rounds, d), jnp.int32(d))


def by_scan(step, start, rounds, d):
    return lax.scan(lambda c, _: (step(c, d & 3), c), jnp.int32(start), None, length=rounds)


def by_while(step, start, rounds, d):
    def body(carry):
        n, c = carry
        return n + 1, step(c, d & 3)

    return lax.while_loop(lambda carry: (carry[0] < rounds) & (carry[1] < 30), body, (0, jnp.int32(start)))


def in_lanes(step, start, rounds, d):
    return jax.vmap(lambda d: by_while(step, start, rounds, d))(jnp.stack([d, d + 1]))


LOOPS = (by_scan, by_while, in_lanes)


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
