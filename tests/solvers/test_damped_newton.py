"""The last resort of root finding ends, whatever rounding does to its decisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import Status
from jaxopt_lite.solvers import damped_newton

pytestmark = pytest.mark.hardly_optimized


def test_a_lane_ends_by_its_evaluations_even_if_no_attempt_ever_does(monkeypatch):
    """A compiled `_is_over` may say different things to different numbers: here it never ends an attempt."""
    monkeypatch.setattr(damped_newton, "_is_over", lambda state, finite: jnp.zeros_like(finite))
    monkeypatch.setattr(damped_newton, "_STEPS_PER_ATTEMPT", 2)
    most = 2 * damped_newton._ATTEMPTS
    solver = jol.Broyden(max_steps=10_000)
    solution = jax.jit(lambda x0: jol.root(lambda x, _: x**2 + 1, x0, solver=solver))(np.ones((3, 1)))
    assert (np.asarray(solution.status) == Status.NO_ROOT).all()
    assert (solution.evaluations < 200 + most).all()
