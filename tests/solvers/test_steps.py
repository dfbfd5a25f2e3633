"""A step leaves lanes that do not run as they are, but for what the method says is of use to no such lane."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import Status
from jaxopt_lite.lanes.engine import Limits
from jaxopt_lite.lanes.problem import LaneProblem, batch_of, trace

pytestmark = pytest.mark.hardly_optimized

LANES = 8
SOLVERS = {
    "bfgs": jol.BFGS(),
    "lbfgs": jol.LBFGS(memory=3),
    "broyden": jol.Broyden(),
    "limited broyden": jol.LimitedBroyden(),
}


def system(x, a):
    return jnp.stack([x[0] ** 3 - a, x[1] * x[0] - 1])


@pytest.mark.parametrize("solver", SOLVERS)
def test_idle_lanes_stay_as_they_are_and_are_evaluated_where_they_were(solver):
    fun = system if "broyden" in solver else lambda x, a: jnp.sum(system(x, a) ** 2)
    x0, a = np.full((LANES, 2), 1.5), np.linspace(1, 4, LANES)
    batch, layout = batch_of(x0, a, (0,), True)
    function, batch = trace(fun, batch, layout, False)
    problem = LaneProblem(function, batch.leaves, batch.is_mapped)
    limits = Limits(np.full(LANES, 1e-9), np.zeros(LANES), np.full(LANES, 100, np.int32))
    method = SOLVERS[solver].methods()[0]

    @jax.jit
    def after_steps(status):
        state = method.begin(problem, limits, method.init(batch.x.T))
        state = method.step(problem, limits, state)._replace(status=status)
        return state, jax.lax.fori_loop(0, 5, lambda _, state: method.step(problem, limits, state), state)

    idle = np.arange(LANES) % 2 == 1
    before, after = after_steps(np.where(idle, Status.CONVERGED, Status.RUNNING).astype(np.int32))
    assert set(method.loose) < set(before._fields)
    changed = [name for name in before._fields if differs(getattr(before, name), getattr(after, name), ~idle)]
    assert {"x", "p", "search"} <= set(changed)  # the others have gone on
    for name in set(before._fields) - set(method.loose):
        assert not differs(getattr(before, name), getattr(after, name), idle), name
    assert not differs(before.search.trial, after.search.trial, idle)


def differs(before, after, lanes) -> bool:
    return any(
        not np.array_equal(np.asarray(a)[..., lanes], np.asarray(b)[..., lanes], equal_nan=True)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )
