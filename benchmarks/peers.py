"""The solvers that are compared: this library and its peers, each as `starts -> answers` of one compiled call.

Tolerances. The judge asks ‖∇f‖∞ ≤ tolerance or ‖F‖∞ ≤ tolerance of all. This library, TensorFlow Probability,
`jax.scipy` and jaxopt stop at exactly that. Optimistix stops when steps and changes of the value are small instead: for
speed it gets a loose power of ten that loses it no answers, so that it does no needless work, and where only success
counts a tight one.
"""

from collections.abc import Callable

import jax
import jax.scipy.optimize
import jaxopt
import numpy as np
import optimistix as optx
import scipy.optimize
import tensorflow_probability.substrates.jax as tfp

import jaxopt_lite as jol

MAX_STEPS = 1000
_ROOT_STEPS = 256  # optimistix's default; in a vmapped loop one lost lane keeps all waiting for this many
_EARLY = {optx.Newton: 1e-5, optx.Dogleg: 1e-5, optx.LevenbergMarquardt: 1e-8, optx.BFGS: 1e-9}


# --- This library -------------------------------------------------------------------------------------------


def our_minimum(fun: Callable, tolerance: float, solver=jol.BFGS, batched: bool = True) -> Callable:
    """`jol.minimize`, as a user calls it."""
    settings = solver(atol=tolerance, rtol=0.0, max_steps=MAX_STEPS)
    with_args = _with_args(fun)
    return lambda x: jol.minimize(with_args, x, solver=settings, batched=batched).x


def our_root(fun: Callable, tolerance: float, solver=jol.Broyden, batched: bool = True, **options) -> Callable:
    """`jol.root`, as a user calls it."""
    settings = solver(atol=tolerance, rtol=0.0, **options)
    with_args = _with_args(fun)
    return lambda x: jol.root(with_args, x, solver=settings, batched=batched).x


def _with_args(fun: Callable) -> Callable:
    return lambda x, args: fun(x)


# --- JAX peers: one problem, to be vmapped -------------------------------------------------------------------


def optimistix_minimum(fun: Callable, solver=optx.BFGS, tolerance: float | None = None) -> Callable:
    early = _EARLY[solver] if tolerance is None else tolerance
    settings, with_args = solver(rtol=early, atol=early), _with_args(fun)
    return lambda x: optx.minimise(with_args, settings, x, max_steps=MAX_STEPS, throw=False).value


def optimistix_root(
    fun: Callable, solver=optx.Newton, tolerance: float | None = None, max_steps: int = _ROOT_STEPS
) -> Callable:
    early = _EARLY[solver] if tolerance is None else tolerance
    settings, with_args = solver(rtol=early, atol=early), _with_args(fun)
    return lambda x: optx.root_find(with_args, settings, x, max_steps=max_steps, throw=False).value


def jax_scipy_minimum(fun: Callable, tolerance: float) -> Callable:
    options = {"gtol": tolerance, "maxiter": MAX_STEPS}
    return lambda x: jax.scipy.optimize.minimize(fun, x, method="BFGS", options=options).x


def jaxopt_minimum(fun: Callable, tolerance: float, solver=jaxopt.BFGS) -> Callable:
    # Its tolerance is on the Euclidean norm, at most √n times stricter: a fraction of a superlinear step.
    settings = solver(fun=fun, tol=tolerance, maxiter=MAX_STEPS)
    return lambda x: settings.run(x).params


def vmapped(solve: Callable) -> Callable:
    return jax.jit(jax.vmap(solve))


# --- Native batches, and SciPy --------------------------------------------------------------------------------


def tfp_minimum(fun: Callable, tolerance: float) -> Callable:
    """TensorFlow Probability's BFGS on its own batch axis."""
    value_and_grad = jax.vmap(jax.value_and_grad(fun))

    def solve(x):
        return tfp.optimizer.bfgs_minimize(value_and_grad, x, tolerance=tolerance, max_iterations=MAX_STEPS).position

    return jax.jit(solve)


def scipy_minimum(fun: Callable, tolerance: float) -> Callable:
    """SciPy's BFGS with exact gradients, one problem after the other."""
    objective, options = scipy_objective(fun), {"gtol": tolerance, "maxiter": MAX_STEPS}
    return _in_turn(lambda x: scipy.optimize.minimize(objective, x, jac=True, method="BFGS", options=options).x)


def scipy_objective(fun: Callable) -> Callable:
    """The value and gradient as SciPy wants them where `jac=True`."""
    value_and_grad = jax.jit(jax.value_and_grad(fun))

    def objective(x):
        value, grad = value_and_grad(x)
        return float(value), np.asarray(grad)

    return objective


def scipy_root(fun: Callable, tolerance: float) -> Callable:
    """MINPACK's hybrid method with exact Jacobians, one problem after the other."""
    residual, jacobian = jax.jit(fun), jax.jit(jax.jacfwd(fun))

    def solve_one(start):
        # Its tolerance is on the relative size of a step.
        return scipy.optimize.root(
            lambda x: np.asarray(residual(x)), start, jac=lambda x: np.asarray(jacobian(x)), tol=tolerance
        ).x

    return _in_turn(solve_one)


def _in_turn(solve_one: Callable) -> Callable:
    def solve(starts):
        with np.errstate(all="ignore"):
            return np.stack([solve_one(np.array(start)) for start in starts])

    return solve
