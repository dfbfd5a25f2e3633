"""Many starts, the best answer of each problem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol

pytestmark = pytest.mark.hardly_optimized


def _wells(x, tilt):
    return jnp.sum((x["a"] ** 2 - 1) ** 2 + tilt * x["a"])


def test_each_problem_keeps_its_own_best_start():
    starts, tilt = {"a": np.tile(np.linspace(-2.0, 2.0, 9)[:, None], (2, 1, 1))}, np.array([0.3, -0.3])
    best = jax.device_get(jol.multistart(_wells, starts, tilt))
    assert best.success.all() and best.x["a"].shape == (2, 1)
    x = best.x["a"][:, 0]
    assert x[0] < 0 < x[1]
    np.testing.assert_allclose(best.fun, (x**2 - 1) ** 2 + tilt * x)


def test_a_solved_start_beats_a_lower_unsolved_one_and_nan():
    def falls_off(x, a):  # unbounded to the left, a minimum at 2
        return jnp.where(x[0] < 0, 10 * x[0], (x[0] - 2) ** 2)

    best = jol.multistart(falls_off, jnp.array([[-1.0], [jnp.nan], [1.5]]), batched=False)
    assert bool(best.success)
    np.testing.assert_allclose(best.x, [2.0], atol=1e-5)


def test_roots_are_ranked_by_their_error():
    fun = lambda x, a: x**2 - 9 + jnp.where(x < 0, 20, 0)
    best = jol.multistart(fun, np.array([[[0.0], [-5.0], [4.0]]]), solver=jol.Broyden(rescue=False))
    assert bool(best.success[0])
    np.testing.assert_allclose(best.x[0], [3.0], atol=1e-6)


def test_starts_without_their_axis_are_refused():
    with pytest.raises(ValueError, match="expected at least one start along axis 1"):
        jol.multistart(_wells, {"a": jnp.ones(3)}, jnp.ones(3))


def test_what_is_no_problem_is_refused():
    with pytest.raises(TypeError, match="fun is int; expected a function"):
        jol.multistart(3, jnp.ones((2, 3, 1)))
    with pytest.raises(TypeError, match="does not fit `multistart`: expected a solver, such as BFGS\\(\\)"):
        jol.multistart(_wells, {"a": jnp.ones((2, 3, 1))}, jnp.ones(2), solver="bfgs")
    with pytest.raises(ValueError, match="the axes of starts disagree: starts\\['a'\\]: 3, starts\\['b'\\]: 4"):
        jol.multistart(_wells, {"a": jnp.ones((2, 3, 1)), "b": jnp.ones((2, 4))}, jnp.ones(2))
    with pytest.raises(ValueError, match="starts={} has no leaves"):
        jol.multistart(_wells, {}, jnp.ones(2))
    with pytest.raises(ValueError, match=r"atol has shape \(6,\); expected one number, or one per problem: \(2,\)"):
        jol.multistart(_wells, {"a": jnp.ones((2, 3, 1))}, jnp.ones(2), solver=jol.BFGS(atol=np.ones(6)))
    with pytest.raises(ValueError, match="args has 3 entries along axis 0; expected 2"):
        jol.multistart(_wells, {"a": jnp.ones((2, 3, 1))}, jnp.ones(3))
