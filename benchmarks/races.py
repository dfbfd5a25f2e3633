"""The races of `benchmarks.solvers`: each makes the problems, and enters this library and its peers."""

from collections.abc import Callable

import jax
import jaxopt
import numpy as np
import optimistix as optx

from benchmarks import peers, timing
from benchmarks.lanes import rosenbrock
from benchmarks.timing import Entry, Race, gradient_error, residual_error
from tests.problems import broyden_tridiagonal, trigonometric

_GRADIENT, _RESIDUAL = 1e-6, 1e-8  # what all have to reach
_SLOW, _VERY_SLOW = 1_000, 200  # problems for peers that would take minutes with all of them


def uniform(center: float, radius: float, batch: int, n: int, dtype: str = "float64") -> np.ndarray:
    """Starts `[batch, n]` around a point; the same in every run."""
    return (center - radius) + 2 * radius * np.random.default_rng(0).random((batch, n), dtype)


def bfgs(n: int, batch: int) -> Race:
    """Rosenbrock from starts uniform in [-2, 2]ⁿ."""
    ours = peers.our_minimum(rosenbrock, _GRADIENT)
    one = peers.vmapped
    entries = (
        Entry("BFGS", ours, is_ours=True),
        Entry("BFGS, inside a jit", jax.jit(ours), is_ours=True),
        Entry("TensorFlow Probability BFGS", peers.tfp_minimum(rosenbrock, _GRADIENT)),
        Entry("optimistix BFGS", one(peers.optimistix_minimum(rosenbrock))),
        Entry("jax.scipy BFGS", one(peers.jax_scipy_minimum(rosenbrock, _GRADIENT)), _SLOW),
        Entry("jaxopt BFGS", one(peers.jaxopt_minimum(rosenbrock, _GRADIENT)), _VERY_SLOW),
        Entry("jaxopt LBFGS", one(peers.jaxopt_minimum(rosenbrock, _GRADIENT, jaxopt.LBFGS)), _VERY_SLOW),
    )
    return Race(uniform(0, 2, batch, n), gradient_error(rosenbrock), _GRADIENT, entries)


def broyden(n: int, batch: int) -> Race:
    """Broyden's tridiagonal system from starts around -1."""
    return _roots(broyden_tridiagonal, uniform(-1, 0.5, batch, n), (optx.Newton, None))


def trigonometric_system(n: int, batch: int) -> Race:
    """The trigonometric system of MINPACK from starts around 1/n; Newton's method alone loses some of them."""
    return _roots(trigonometric, uniform(1 / n, 0.05, batch, n), (optx.Newton, None), (optx.LevenbergMarquardt, _SLOW))


def _roots(system: Callable, starts: np.ndarray, *rivals: tuple[type, int | None]) -> Race:
    ours = peers.our_root(system, _RESIDUAL)
    entries = [
        Entry("Broyden", ours, is_ours=True),
        Entry("Broyden, inside a jit", jax.jit(ours), is_ours=True),
    ]
    for solver, limit in rivals:
        solve = peers.vmapped(peers.optimistix_root(system, solver))
        entries.append(Entry(f"optimistix {solver.__name__}", solve, limit))
    return Race(starts, residual_error(system), _RESIDUAL, tuple(entries))


def alone_bfgs(n: int, batch: int) -> Race:
    """Rosenbrock, one problem a call, inside a jit of the user's."""
    entries = (
        Entry("BFGS", jax.jit(peers.our_minimum(rosenbrock, _GRADIENT, batched=False)), is_ours=True),
        Entry("optimistix BFGS", jax.jit(peers.optimistix_minimum(rosenbrock))),
    )
    return Race(uniform(0, 2, batch, n), gradient_error(rosenbrock), _GRADIENT, entries, one_by_one=True)


def alone_broyden(n: int, batch: int) -> Race:
    """Broyden's tridiagonal system, one problem a call, inside a jit of the user's."""
    system = broyden_tridiagonal
    entries = (
        Entry("Broyden", jax.jit(peers.our_root(system, _RESIDUAL, batched=False)), is_ours=True),
        Entry("optimistix Newton", jax.jit(peers.optimistix_root(system))),
    )
    return Race(uniform(-1, 0.5, batch, n), residual_error(system), _RESIDUAL, entries, one_by_one=True)


if __name__ == "__main__":
    functions = (bfgs, broyden, trigonometric_system, alone_bfgs, alone_broyden)
    timing.main({function.__name__: function for function in functions})
