"""On the CPU a whole solve is one native call: the request reaches the compiler as meant, and does it no harm."""

import functools
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol


def objective(x, args=None):
    return jnp.sum((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2) + jnp.sum(jax.nn.softplus(x))


def system(x, args=None):
    return jnp.where(x > 0, x**3 - 1 + jax.nn.sigmoid(x), jnp.arctan2(x, 2.0)) + jnp.roll(x, 1) / 10


# name: (the solve, how many native calls are in it). Those are its methods; what numbers the problems that a later
# method takes on; and in a batch what verifies it, and two for what rounding does: which problems, and that.
SOLVES = {
    "bfgs": (lambda x: jol.minimize(objective, x), 1 + 3),
    "bfgs, alone": (lambda x: jol.minimize(objective, x[0], batched=False), 1),
    "lbfgs": (lambda x: jol.minimize(objective, x, solver=jol.LBFGS()), 1 + 3),
    "broyden": (lambda x: jol.root(system, x), 3 + 3),
    "broyden, alone, recorded": (lambda x: jol.root(system, x[0], batched=False, keep_state=True, record=3), 3),
    "limited broyden": (lambda x: jol.root(system, x, solver=jol.LimitedBroyden()), 3 + 3),
}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other platforms ignore the request")
@pytest.mark.parametrize("name", SOLVES)
def test_each_part_is_one_native_call_and_nothing_inside_asks_for_another(name):
    """An operation inside that inherits the request becomes a function of its own, called at every step."""
    solve, calls = SOLVES[name]
    text = jax.jit(solve).lower(jnp.ones((3, 5))).as_text()
    asking = [line for line in text.splitlines() if 'xla_cpu_small_call = "true"' in line]
    assert len(asking) == calls
    assert all(re.search(r"\bcall @", line) for line in asking)


CONSTANTS = """
def rosenbrock(x, args): return jnp.sum((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2)
def solve(x):
    solution = jol.minimize(rosenbrock, x, solver=jol.BFGS(atol=1e-6, rtol=0.0), batched=False)
    return solution
for returned in (lambda s: s, lambda s: (s.x, s.error), lambda s: s.error):
    jax.block_until_ready(jax.jit(lambda x: returned(solve(x)))(jnp.full(10, 0.3)))
"""

UNUSED = """
def square(x, args): return jnp.sum((x - 1) ** 2)
def solve(a):
    solver = jol.BFGS(atol=0.0, rtol=7.0, max_steps=0)
    return jol.minimize(square, jnp.zeros((1, 6)), {"u": a, "v": jnp.zeros((1, 6))}, solver=solver)
twice = jax.jit(lambda a: jax.lax.scan(lambda c, _: (c * 2, solve(c)), a, None, length=2))
jax.block_until_ready(twice(jnp.ones((1, 6))))
"""


def test_constants_do_not_end_the_process():
    """With `rtol` a constant shared by a loop outside, XLA used to abort, which no exception handler can catch."""
    status, printed, errors = run_apart()
    assert "constants: done" in printed, (status, errors)


def test_unused_arguments_do_not_end_the_process():
    """In a loop of the user's, with arguments that the function ignores."""
    status, printed, errors = run_apart()
    assert status == 0 and "unused: done" in printed, errors


@functools.cache
def run_apart():
    """Run both in one process of their own: its exit status, what it printed, and its errors."""
    script = f"""
import jax, jax.numpy as jnp, jaxopt_lite as jol
jax.config.update("jax_enable_x64", True)
{CONSTANTS}
print("constants: done", flush=True)
jax.config.update("jax_enable_x64", False)
{UNUSED}
print("unused: done")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_what_all_problems_share_may_be_of_no_use():
    """XLA ends the process over an argument of a native function that nothing uses."""
    captured = jnp.ones(3)

    def valley(x, args):
        own, shared = args
        unused = x[0] + captured, shared["spare"] * x[1]  # noqa: F841
        return jnp.sum((x - own) ** 2)

    own = np.arange(6.0).reshape(3, 2)
    solution = jol.minimize(valley, np.zeros((3, 2)), (own, {"spare": np.ones(4)}), args_axes=(0, None))
    assert solution.success.all() and np.allclose(solution.x, own, atol=1e-4)


def test_one_problem_whose_own_sums_are_large():
    """A lane by itself has no rows of lanes to add up, and XLA gives a large sum to a library."""
    found = jol.root(lambda x: x**3 - 8, jnp.full(70, 1.5), batched=False, solver=jol.Broyden(rescue=False))
    np.testing.assert_allclose(found.x, 2.0, rtol=1e-6)
    t, solver = np.linspace(0, 1, 1100), jol.LevenbergMarquardt(rescue=False)
    fit = jol.least_squares(lambda b: b[0] + b[1] * t - (3 * t + 1), jnp.ones(2), batched=False, solver=solver)
    np.testing.assert_allclose(fit.x, [1.0, 3.0], rtol=1e-5)
