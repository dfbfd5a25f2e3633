"""What a status says to try helps: for each status a problem that ends with it, and
which is solved when one tries it.

NOT_STARTED is in `test_chunks.py`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import Status
from jaxopt_lite.lanes.status import MESSAGES

pytestmark = pytest.mark.hardly_optimized

PLAIN = jol.Broyden(rescue=False)  # which compiles in less time


def valley(x, _):
    return 10 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def program(entry, fun, **settings):
    """The call as one program, which compiles in less time where a first try would not do."""
    return jax.jit(partial(entry, fun, **settings))


def ends(solution, status: Status, advice: str) -> None:
    """Every problem ends with this status, whose message gives this advice."""
    assert np.all(solution.status == status), solution.summary()
    assert advice in MESSAGES[status]


def test_out_of_steps():
    start = np.array([[-1.2, 1.0], [0.5, 2.0]])
    short = jol.minimize(valley, start, solver=jol.BFGS(max_steps=4), keep_state=True)
    ends(short, Status.MAX_STEPS, "raise `max_steps`, or solve with `keep_state=True` and pass `resume=solution.state`")
    whole = jol.minimize(valley, start, solver=jol.BFGS(max_steps=200), keep_state=True)
    later = jol.minimize(valley, start, solver=jol.BFGS(max_steps=200), keep_state=True, resume=short.state)
    assert whole.success.all() and later.success.all()
    np.testing.assert_array_equal(whole.x, later.x)


def test_stalled_at_a_kink():
    distance = lambda x, softness: jnp.sum(jnp.sqrt((x - 0.3) ** 2 + softness**2))
    start = np.array([[1.0], [-2.0]])
    solve = program(jol.minimize, distance, args_axes=None)
    ends(solve(start, 0.0), Status.STALLED, "smooth a kink")
    smooth = solve(start, 1e-4)
    assert smooth.success.all() and np.allclose(smooth.x, 0.3, atol=1e-6)


def test_not_finite_at_the_start():
    log = lambda x, _: jnp.log(x)
    ends(jol.root(log, np.full((2, 1), -1.0), solver=PLAIN), Status.NONFINITE_START, "Start elsewhere")
    assert not jol.check_derivatives(log, np.full((2, 1), -1.0)).agree.any()
    assert jol.root(log, np.full((2, 1), 2.0), solver=PLAIN).success.all()


def test_unbounded():
    cost = lambda x, penalty: jnp.sum(-(x**2) + penalty * x**4)
    start = np.array([[0.5], [-0.1]])
    ends(jol.minimize(cost, start, 0.0, args_axes=None), Status.UNBOUNDED, "Add a bound or a penalty")
    bounded = jol.minimize(cost, start, 0.5, args_axes=None)
    assert bounded.success.all() and np.allclose(np.abs(bounded.x), 1)


def test_no_root_near():
    cubic = lambda x, _: x**3 - 3 * x + 3  # its only root is at -2.1, beyond a local minimum of |F|
    ends(program(jol.root, cubic, solver=PLAIN)(np.array([[1.5]])), Status.NO_ROOT, "Try other starts (`multistart`)")
    found = program(jol.multistart, cubic, solver=PLAIN)(np.array([[[1.5], [-3.0]]]))
    assert found.success.all() and np.allclose(found.x, -2.103803, atol=1e-6)


def test_at_precision():
    rng = np.random.default_rng(0)
    system = rng.normal(size=(8, 3, 3)), rng.normal(size=(8, 3))
    strict = jol.Broyden(atol=1e-9, rtol=0.0, rescue=False)
    solve = program(jol.root, lambda x, ab: ab[0] @ x - ab[1], solver=strict)
    single, double = (
        solve(np.zeros((8, 3), dtype), tuple(m.astype(dtype) for m in system)) for dtype in ("float32", "float64")
    )
    assert single.success.all() and (single.status == Status.AT_PRECISION).any()
    assert "For more digits use float64" in MESSAGES[Status.AT_PRECISION]
    assert np.all(double.status == Status.CONVERGED)
