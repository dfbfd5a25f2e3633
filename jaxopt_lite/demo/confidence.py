"""How sure are fitted parameters? Ten thousand bootstrap refits each of three NIST regressions, by BFGS."""

import time
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

import jaxopt_lite as jol
from jaxopt_lite.demo.batches import Tally, solve_and_verify
from jaxopt_lite.demo.nist import Dataset, read
from jaxopt_lite.demo.regression import (
    bootstrap,
    independent_directions,
    initial,
    likelihood_near,
    sum_of_squares,
)
from jaxopt_lite.demo.report import print_tally

__all__ = ["SUBJECTS", "digits", "fit", "run"]

# One data set of each level of difficulty.
SUBJECTS = {
    "Chwirut2": "ultrasonic calibration",
    "Kirby2": "electron microscope line widths",
    "Thurber": "electron mobility in a semiconductor",
}
_FIT_TOLERANCE = 1e-8  # gradient of the unexplained share of the scatter: seven digits of these parameters and more
_DIGITS = 6  # a fit agrees with NIST
_REFIT_TOLERANCE = 1e-5  # standard errors
_CERTIFIED = 1e-3  # standard errors; far from the fit the likelihood is flatter, and a slope leaves more room


def run(name: str, count: int, seed: int, console: Console, tallies: list[Tally]) -> None:
    """Fit a data set, refit its resamples, verify them, and print intervals beside NIST's certified values.

    A refit starts at the fit of the original data, as is usual: the resamples scatter around it.

    Args:
        name: one of `SUBJECTS`.
        count: how many refits.
        seed: of the resampling.
        console: where to print.
        tallies: those of the fits and of the refits are appended.
    """
    dataset = read(name)
    console.print()
    console.rule(f"Minimisation: {name}, {SUBJECTS[name]}", align="left")
    console.print(
        f"NIST's {dataset.level} level of difficulty: {len(dataset.parameters)} parameters, {len(dataset.y)} "
        f"observations; {count:,} bootstrap refits by BFGS, from the fit of the original data."
    )
    b = _fit_and_print(dataset, console, tallies)
    y, z0 = bootstrap(dataset, b, count, seed), np.zeros((count, len(b)))
    solve, certify = _solver_and_certificate(likelihood_near(dataset, b))
    tally = Tally(f"{name} refits", count)
    tallies.append(tally)
    solution, error = solve_and_verify(tally, solve, certify, z0, y, console, chunk=2500)
    print_tally(
        console,
        tally,
        f"slope at most {_REFIT_TOLERANCE:.0e} per standard error, recomputed at the answer",
        f"strict minima by the true Hessian, none off by more than {error.max():.0e} standard errors",
    )
    if not tally.is_complete:
        console.print(solution.summary())
    refits = b + solution.x[solution.success] @ independent_directions(dataset, b).T
    if len(refits):
        _print_intervals(console, dataset, refits)


def fit(dataset: Dataset, atol: float = _FIT_TOLERANCE) -> tuple[jol.Solution, Float[np.ndarray, "2 k"]]:
    """Fit a data set from both of NIST's starts, in one call.

    Args:
        dataset: the data set.
        atol: largest gradient of the unexplained share of the scatter.

    Returns:
        The solution and the parameters, one row a start.

    Example:
        >>> rat42 = read("Rat42")
        >>> solution, b = fit(rat42, atol=1e-4)
        >>> bool(np.allclose(b, rat42.parameters, rtol=0.1))
        True
    """
    u, args = zip(*(initial(dataset, start) for start in (0, 1)), strict=True)
    scale = np.stack([each["scale"] for each in args])
    solution = jol.minimize(
        sum_of_squares(dataset),
        jnp.stack(u),
        {"x": dataset.x, "y": dataset.y, "scale": scale},
        args_axes={"x": None, "y": None, "scale": 0},
        solver=jol.BFGS(atol=atol),
    )
    return solution, scale * np.asarray(solution.x)


def digits(b: Float[np.ndarray, "*batch k"], certified: Float[np.ndarray, " k"]) -> Float[np.ndarray, "*batch"]:
    """To how many significant digits all parameters agree with the certified ones; 11 are certified.

    Args:
        b: [..., k] fitted parameters.
        certified: [k] NIST's.

    Returns:
        −log₁₀ of the largest relative difference, at most 11.

    Example:
        >>> digits(np.array([1.0, 2.0002]), np.array([1.0, 2.0])).round(2).item()
        4.0
    """
    return -np.log10(np.maximum(np.max(np.abs(b / certified - 1), axis=-1), 1e-11))


def _fit_and_print(dataset: Dataset, console: Console, tallies: list[Tally]) -> Float[np.ndarray, " k"]:
    """The better of the two fits."""
    tally = Tally(f"{dataset.name} fits", 2)
    tallies.append(tally)
    start = time.perf_counter()
    with console.status("fitting"):
        solution, b = fit(dataset)
    agreed = digits(b, dataset.parameters)
    tally.reached, tally.solved = 2, int(np.sum(solution.success))
    tally.verified = int(np.sum(np.asarray(solution.success) & (agreed >= _DIGITS)))
    tally.compile_seconds = time.perf_counter() - start  # of two problems, compiling takes practically all of it
    console.print(
        f"The fits from NIST's two starts agree with the certified values to {agreed[0]:.1f} and {agreed[1]:.1f} "
        f"digits ({tally.compile_seconds:.1f} s, nearly all compiling)."
    )
    if not tally.is_complete:
        console.print(solution.summary())
    return b[int(np.argmin(solution.fun))]


def _solver_and_certificate(fun: Callable) -> tuple[Callable, Callable]:
    def solve(z0, y):
        return jol.minimize(fun, z0, y, solver=jol.BFGS(atol=_REFIT_TOLERANCE))

    def certify(z, y):
        verdict = jol.certify_minimum(fun, z, y, atol=_CERTIFIED)
        return (verdict.kind == jol.Curvature.MINIMUM) & (verdict.error <= _CERTIFIED), verdict.error

    return solve, certify


def _print_intervals(console: Console, dataset: Dataset, refits: Float[np.ndarray, "count k"]) -> None:
    table = Table("", "NIST's value", "NIST's s.d.", "refits' s.d.", "95 % of the refits lie", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    low, high = np.percentile(refits, (2.5, 97.5), axis=0)
    for k, value in enumerate(dataset.parameters):
        table.add_row(
            f"b{k + 1}",
            f"{value:.7g}",
            f"{dataset.standard_deviations[k]:.3g}",
            f"{refits[:, k].std():.3g}",
            f"{low[k]:.5g} to {high[k]:.5g}",
        )
    console.print(table)
