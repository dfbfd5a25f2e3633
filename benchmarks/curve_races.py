"""The races of `benchmarks.curve_fits`: every solver as starts -> answers, with bounds on all parameters and without.

Tolerances are powers of ten in each solver's own criterion: the loosest with which it loses no fit by stopping early.
"""

import importlib
import importlib.util
import logging
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import jaxopt
import jaxopt.projection
import numpy as np
import optimistix as optx
import scipy.optimize

import jaxopt_lite as jol
from benchmarks import timing
from benchmarks.curves import CURVES, TIMES, Fits, draw
from benchmarks.timing import Entry, Race

__all__ = ["RACES"]

_WITHIN = 1e-8  # relative to the best known cost
_TOLERANCE = 1e-6
_OF_SIGMOIDS = 1e-7  # for jaxopt, whose criterion is the gradient, which a sigmoid makes smaller
_MAX_STEPS = 256
_SLOW, _ONE_BY_ONE, _VERY_SLOW = 1_000, 250, 50


class Judge:
    """How far the cost is above the best known one, relative to it; infinite outside the bounds.

    The best known is the best that any solver found, polished, or that of a fit from the true parameters.
    """

    def __init__(self, fits: Fits, bounded: bool) -> None:
        self._fits, self._bounds = fits, (fits.lower, fits.upper) if bounded else (-np.inf, np.inf)
        self._cost = jax.jit(jax.vmap(lambda b, y: jnp.sum(fits.residuals(b, y) ** 2)))
        self._best, self._told = np.full(len(fits.y), np.inf), False

    def learn(self, answers: np.ndarray) -> None:
        y, best = self._fits.y[: len(answers)], self._best[: len(answers)]
        bounds = None if np.isinf(self._bounds[0]).all() else self._bounds
        start = np.where(np.isfinite(answers), answers, self._fits.truth[: len(answers)])
        polished = jol.least_squares(self._fits.residuals, start, y, bounds=bounds).x
        for each in (answers, np.asarray(polished)):
            np.minimum(best, self._costs(each), out=best)

    def error(self, answers: np.ndarray) -> np.ndarray:
        if not self._told:
            self._told = True
            self.learn(self._fits.truth)
        return self._costs(answers) / self._best[: len(answers)] - 1

    def _costs(self, answers: np.ndarray) -> np.ndarray:
        lower, upper = self._bounds
        within = np.all((answers >= lower) & (answers <= upper), axis=1)
        cost = np.asarray(self._cost(answers, self._fits.y[: len(answers)]))
        return np.where(within & np.isfinite(cost), cost, np.inf)


# --- Batched solvers --------------------------------------------------------------------------------------------


def _ours(fits: Fits, bounded: bool, solver: jol.LevenbergMarquardt) -> Callable:
    bounds = (fits.lower, fits.upper) if bounded else None
    return lambda x: jol.least_squares(fits.residuals, x, fits.y[: len(x)], bounds=bounds, solver=solver).x


def _vmapped(fits: Fits, solve: Callable) -> Callable:
    """All fits at once, by `solve(x, y)` for one."""
    batched = jax.jit(jax.vmap(solve))
    return lambda x: batched(x, fits.y[: len(x)])


def _optimistix(residuals: Callable) -> Callable:
    solver = optx.LevenbergMarquardt(rtol=_TOLERANCE, atol=_TOLERANCE)
    return lambda x, y: optx.least_squares(residuals, solver, x, y, max_steps=_MAX_STEPS, throw=False).value


def _jaxopt(residuals: Callable, tolerance: float = _TOLERANCE) -> Callable:
    """With the settings for few unknowns; its default, conjugate gradients, takes longer."""
    settings = {"tol": tolerance, "xtol": tolerance, "gtol": tolerance, "maxiter": _MAX_STEPS}
    solver = jaxopt.LevenbergMarquardt(residuals, materialize_jac=True, solver="cholesky", **settings)
    return lambda x, y: solver.run(x, y).params


def _through_sigmoids(fits: Fits, prepare: Callable) -> Callable:
    """A method without bounds, in unknowns that a sigmoid maps into the box."""
    size = fits.upper - fits.lower

    def inside(u):
        return fits.lower + size * jax.nn.sigmoid(u)

    solve = prepare(lambda u, y: fits.residuals(inside(u), y))

    def solve_inside(x, y):
        share = jnp.clip((x - fits.lower) / size, 1e-3, 1 - 1e-3)
        return inside(solve(jnp.log(share / (1 - share)), y))

    return solve_inside


def _projected(fits: Fits, method: str) -> Callable:
    def cost(x, y):
        return jnp.sum(fits.residuals(x, y) ** 2) / 2

    box = (fits.lower, fits.upper)
    if method == "gradient":
        projection = jaxopt.projection.projection_box
        solver = jaxopt.ProjectedGradient(cost, projection, maxiter=1000, tol=_TOLERANCE)
        return lambda x, y: solver.run(projection(x, box), hyperparams_proj=box, y=y).params
    solver = jaxopt.LBFGSB(cost, maxiter=_MAX_STEPS, tol=_TOLERANCE)
    return lambda x, y: solver.run(jnp.clip(x, *box), bounds=box, y=y).params


# --- One fit after the other ---------------------------------------------------------------------------------------


def _in_turn(fits: Fits, bounded: bool, solve: Callable) -> Callable:
    """One fit after the other by `solve(start, y, bounds)`; NaN where it gives up."""
    bounds = (fits.lower, fits.upper) if bounded else (-np.inf, np.inf)

    def solve_all(starts):
        answers = []
        for start, y in zip(np.clip(starts, *bounds), fits.y, strict=False):
            try:
                answers.append(solve(start, y, bounds))
            except RuntimeError:  # too many evaluations
                answers.append(np.full(len(start), np.nan))
        return np.stack(answers)

    return solve_all


def _scipy(fits: Fits, bounded: bool) -> Callable:
    """`curve_fit` as it is called: a model in NumPy, differences for its slopes."""

    def model(t, *b):
        return fits.curve.model(np, t, *b)

    def solve(start, y, bounds):
        with np.errstate(all="ignore"):
            return scipy.optimize.curve_fit(model, TIMES, y, start, bounds=bounds)[0]

    return _in_turn(fits, bounded, solve)


def _nlsq(fits: Fits, bounded: bool) -> Callable:
    """One `CurveFit` for all, which compiles once."""
    logging.disable(logging.WARNING)  # it reports every iteration
    curve_fit = importlib.import_module("nlsq").CurveFit()

    def model(t, *b):
        return fits.curve.model(jnp, t, *b)

    return _in_turn(
        fits, bounded, lambda start, y, bounds: curve_fit.curve_fit(model, TIMES, y, p0=start, bounds=bounds).popt
    )


# --- The races -----------------------------------------------------------------------------------------------------


def _race(name: str, bounded: bool, n: int, batch: int) -> Race:
    fits = draw(name, batch)
    default, equal = jol.LevenbergMarquardt(), jol.LevenbergMarquardt(atol=_TOLERANCE)
    entries = [
        Entry("ours, as it comes", _ours(fits, bounded, default), is_ours=True),
        Entry(f"ours, atol={_TOLERANCE:.0e}", _ours(fits, bounded, equal), is_ours=True),
        Entry("ours, inside a jit", jax.jit(_ours(fits, bounded, equal)), is_ours=True),
    ]
    peers = {"optimistix LM": _optimistix(fits.residuals), "jaxopt LM": _jaxopt(fits.residuals)}
    if bounded:  # neither has bounds: what they find outside does not count
        peers = {f"{name}, no bounds": solve for name, solve in peers.items()}
        peers["optimistix LM, sigmoids"] = _through_sigmoids(fits, _optimistix)
        peers["jaxopt LM, sigmoids"] = _through_sigmoids(fits, partial(_jaxopt, tolerance=_OF_SIGMOIDS))
    for name, solve in peers.items():
        if name.startswith("jaxopt") and not name.endswith("sigmoids"):  # quick enough for all
            entries.append(Entry(name, _vmapped(fits, solve)))
        entries.append(Entry(f"{name}, of {_SLOW:,}", _vmapped(fits, solve), _SLOW))
    if bounded:
        for name, method in (("ProjectedGradient", "gradient"), ("LBFGSB", "L-BFGS-B")):
            entries.append(Entry(f"jaxopt {name}", _vmapped(fits, _projected(fits, method)), _SLOW))
    if importlib.util.find_spec("nlsq"):  # it needs Python 3.12
        entries.append(Entry("NLSQ CurveFit", _nlsq(fits, bounded), _VERY_SLOW))
    entries.append(Entry("SciPy curve_fit", _scipy(fits, bounded), _ONE_BY_ONE))
    judge = Judge(fits, bounded)
    return Race(fits.starts, judge.error, _WITHIN, tuple(entries), learn=judge.learn)


RACES = {
    f"{name}-{kind}": partial(_race, name, bounded)
    for kind, bounded in (("bounded", True), ("free", False))
    for name in CURVES
}


if __name__ == "__main__":
    timing.main(RACES)
