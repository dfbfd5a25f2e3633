"""Threads that solve at once, and processes started by `spawn`: each gets its own answers."""

import concurrent.futures
import functools
import multiprocessing

import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol

pytestmark = pytest.mark.hardly_optimized

SHARED = np.zeros(2)
PLAIN = jol.Broyden(rescue=False)


class Model:
    def __init__(self, level):
        self.level = level

    def gap(self, x, a):
        return x**3 + x - self.level * a


def shared_gap(x, a):
    return x**3 + x - a - jnp.asarray(SHARED)


def solve(k, times=20):
    """So many solves with numbers of this worker's own, and as many of a function that all share."""
    rng, model = np.random.default_rng(k), Model(None)
    for _ in range(times):
        a, x0 = rng.standard_normal((30, 2)), np.zeros((30, 2))
        model.level = rng.standard_normal(2)
        own, other = jol.root(model.gap, x0, a, solver=PLAIN), jol.root(shared_gap, x0, a, solver=PLAIN)
        assert own.success.all() and other.success.all()
        x, y = np.asarray(own.x), np.asarray(other.x)
        np.testing.assert_allclose(x**3 + x, model.level * a, atol=1e-8)
        np.testing.assert_allclose(y**3 + y, a, atol=1e-8)
    return k


@pytest.mark.parametrize("times", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_threads_that_solve_at_once(times):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(functools.partial(solve, times=times), range(8))) == list(range(8))


def in_double(k):
    import jax

    jax.config.update("jax_enable_x64", True)
    return solve(k)


@pytest.mark.slow
def test_processes_started_by_spawn():
    """Forked processes are no matter of this library: JAX itself does not survive a fork."""
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(in_double, range(2))) == [0, 1]
