"""What `benchmarks.curve_fits` does not race: standard errors and active sets beside SciPy's, and first calls."""

import json
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import scipy.optimize

import jaxopt_lite as jol
from benchmarks.curves import CURVES, TIMES, Fits, draw
from benchmarks.timing import use_cpu

__all__ = ["CHECKS"]

_TIGHT = {"xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14}
_SAME_COST = 1e-8  # relative; other answers are other minima
_AGREE = 1e-5


def _one(fits: Fits, bounded: bool, row: int, slopes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SciPy's parameters, standard errors and active set of one fit.

    `dogbox` walks on the bounds, so what it calls active is active; `trf` stays strictly inside.
    """
    bounds = (fits.lower, fits.upper) if bounded else (-np.inf, np.inf)
    start, method = np.clip(fits.starts[row], *bounds), "dogbox" if bounded else "lm"

    def model(t, *b):
        return fits.curve.model(np, t, *b)

    def jacobian(t, *b):
        return np.asarray(slopes(np.array(b)))

    with np.errstate(all="ignore"):
        b, covariance = scipy.optimize.curve_fit(
            model, TIMES, fits.y[row], start, bounds=bounds, jac=jacobian, method=method, **_TIGHT
        )
    return b, np.sqrt(np.diag(covariance)), np.where(b <= bounds[0], -1, np.where(b >= bounds[1], 1, 0))


def _errors(bounded: bool, count: int) -> list[dict]:
    """A row for each kind of curve: how far standard errors are from SciPy's, and how often active sets agree."""
    rows = []
    for name in CURVES:
        fits = draw(name, count)
        bounds = (fits.lower, fits.upper) if bounded else None
        ours = jol.least_squares(fits.residuals, fits.starts, fits.y, bounds=bounds)
        errors = np.asarray(ours.covariance().standard_errors)
        slopes = jax.jit(jax.jacfwd(lambda b, fits=fits: fits.curve.model(jnp, TIMES, *b)))
        answers = [_one(fits, bounded, row, slopes) for row in range(count)]
        theirs, their_errors, their_active = map(np.stack, zip(*answers, strict=True))
        cost = jax.vmap(lambda b, y, fits=fits: jnp.sum(fits.residuals(b, y) ** 2) / 2)
        ratio = np.asarray(cost(theirs, fits.y) / ours.cost)
        same = np.abs(ratio - 1) <= _SAME_COST
        off = np.max(np.abs(errors / their_errors - 1), axis=1)[same]
        active = np.zeros_like(their_active) if ours.active is None else np.asarray(ours.active)
        rows.append(
            {
                "curve": name,
                "fits": count,
                "same_minimum": int(same.sum()),
                "ours_lower": int(np.sum(ratio > 1 + _SAME_COST)),
                "scipy_lower": int(np.sum(ratio < 1 - _SAME_COST)),
                "errors_off_median": float(np.median(off)),
                "errors_off_most": float(np.max(off)),
                "errors_agree": int(np.sum(off <= _AGREE)),
                "with_active_bounds": int(np.sum(np.any(active != 0, axis=1))),
                "same_active_set": int(np.sum(np.all(active == their_active, axis=1)[same])),
            }
        )
    return rows


def _first(who: str, bounded: bool, count: int) -> list[dict]:
    """The seconds until a program for this many fits has run, in a process that has run nothing like it."""
    fits = draw("decay", count)
    jax.block_until_ready(jax.jit(lambda y: y.sum())(fits.y))  # JAX itself starts
    bounds = (fits.lower, fits.upper) if bounded else None

    def ours(x, y):
        return jol.least_squares(fits.residuals, x, y, bounds=bounds).x

    def optimistix(x, y):
        solver = optx.LevenbergMarquardt(rtol=1e-6, atol=1e-6)
        one = partial(optx.least_squares, fits.residuals, solver, max_steps=256, throw=False)
        return jax.vmap(lambda x, y: one(x, y).value)(x, y)

    if who != "call":
        return [_stages(optimistix if who == "optimistix" else ours, fits)]
    begin = time.perf_counter()
    jax.block_until_ready(ours(fits.starts, fits.y))
    first = time.perf_counter()
    jax.block_until_ready(ours(fits.starts, fits.y))
    return [{"first_s": first - begin, "again_s": time.perf_counter() - first}]


def _stages(call, fits: Fits) -> dict:
    begin = time.perf_counter()
    traced = jax.jit(call).trace(fits.starts, fits.y)
    trace = time.perf_counter()
    lowered = traced.lower()
    lower = time.perf_counter()
    program = lowered.compile()
    compiled = time.perf_counter()
    jax.block_until_ready(program(fits.starts, fits.y))
    first = time.perf_counter()
    jax.block_until_ready(program(fits.starts, fits.y))
    times = {"first_s": first - begin, "again_s": time.perf_counter() - first}
    return times | {"trace_s": trace - begin, "lower_s": lower - trace, "compile_s": compiled - lower}


CHECKS = {
    "errors-bounded": partial(_errors, True),
    "errors-free": partial(_errors, False),
    "first-call-free": partial(_first, "call", False),
    "first-call-bounded": partial(_first, "call", True),
    "first-jit-free": partial(_first, "jit", False),
    "first-jit-bounded": partial(_first, "jit", True),
    "first-optimistix-free": partial(_first, "optimistix", False),
}


if __name__ == "__main__":
    name, count, out = sys.argv[1:]
    use_cpu()
    rows = [{"race": name} | row for row in CHECKS[name](int(count))]
    Path(out).write_text(json.dumps(rows, allow_nan=False))
