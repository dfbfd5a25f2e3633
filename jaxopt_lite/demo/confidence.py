"""How sure are fitted parameters? Standard errors and ten thousand bootstrap refits each of three NIST regressions."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

import jaxopt_lite as jol
from jaxopt_lite.demo.batches import CHUNK, Tally, solve_and_verify
from jaxopt_lite.demo.nist import Dataset, read
from jaxopt_lite.demo.programs import Compiler, Program
from jaxopt_lite.demo.regression import MODELS, POSITIVE, bootstrap, near, sum_of_squares
from jaxopt_lite.demo.report import print_tally
from jaxopt_lite.progress import working

__all__ = ["SUBJECTS", "Programs", "certificate", "digits", "fit", "prepare", "run", "solver"]

# One data set of each level of difficulty.
SUBJECTS = {
    "Chwirut2": "ultrasonic calibration",
    "Kirby2": "electron microscope line widths",
    "Thurber": "electron mobility in a semiconductor",
}
_FIT_TOLERANCE = 1e-11  # cosines of residuals and slopes: nine digits of these parameters and more
_REFIT_TOLERANCE = 1e-9  # rounding keeps some of Thurber's refits from 1e-10
_DIGITS = 6  # to which a fit and its standard errors must agree with NIST
_CERTIFIED = 1e-3  # standard errors; where the sum of squares is flatter, a slope leaves more room


class Programs(NamedTuple):
    """What solves a data set's fits and refits, and what certifies the refits."""

    dataset: Dataset
    solve: Program
    certify: Program


def prepare(name: str, compiler: Compiler) -> Programs:
    """Begin to compile the programs for a data set, one of `SUBJECTS`."""
    dataset = read(name)
    b = dataset.starts[0]
    shared = _without_observations(near(dataset, b))
    return Programs(
        dataset,
        compiler.begin(f"the regression of {name}", CHUNK, solver(dataset), b, dataset.y, _FIT_TOLERANCE),
        compiler.begin("its certificate", CHUNK, certificate(dataset), b, dataset.y, shared, well=False),
    )


def run(programs: Programs, count: int, seed: int, console: Console, tallies: list[Tally]) -> None:
    """Fit a data set, refit its resamples, verify them, and print errors and intervals beside NIST's certified values.

    A refit starts at the fit of the original data, as is usual: the resamples scatter around it.

    Args:
        programs: as prepared.
        count: how many refits.
        seed: seed of the resampling.
        console: where to print.
        tallies: those of the fits and of the refits are appended.
    """
    dataset, name = programs.dataset, programs.dataset.name
    console.print()
    console.rule(f"Least squares: {name}, {SUBJECTS[name]}", align="left")
    console.print(
        f"NIST's {dataset.level} level of difficulty: {len(dataset.parameters)} parameters, {len(dataset.y)} "
        f"observations. Then {count:,} refits of resampled data, a bootstrap, by Levenberg-Marquardt, each from the "
        "fit of the original."
    )
    b, errors = _fit_and_print(programs, console, tallies)
    args = near(dataset, b)
    to_errors = np.linalg.inv(args["directions"])
    shared, y = _without_observations(args), bootstrap(dataset, b, count, seed)
    tally = Tally(f"{name} refits", count)
    tallies.append(tally)
    tally.compile_seconds = programs.solve.wait() + programs.certify.wait()
    solution, error = solve_and_verify(
        tally,
        lambda b0, y: programs.solve(b0, y, _REFIT_TOLERANCE),
        lambda b_refit, y: programs.certify((b_refit - b) @ to_errors.T, y, shared),
        np.broadcast_to(b, (count, len(b))),
        y,
    )
    print_tally(
        console,
        tally,
        f"cosines of residuals and slopes at most {_REFIT_TOLERANCE:.0e}, recomputed at the answer",
        f"strict minima by the true Hessian, none off by more than {error.max():.0e} standard errors",
    )
    if not tally.is_complete:
        console.print(solution.summary())
    refits = solution.x[solution.success]
    if len(refits):
        _print_intervals(console, dataset, errors, refits)


def solver(dataset: Dataset) -> Callable:
    """`solve(b0, y, atol)`, for starts [B, k] and observations [B, m], in the data's own units: it compiles once."""
    model, bounds = MODELS[dataset.name], (0, None) if dataset.name in POSITIVE else None

    def solve(b0, y, atol):
        method = jol.LevenbergMarquardt(atol=atol)
        return jol.least_squares(lambda b, y: model(b, dataset.x) - y, b0, y, bounds=bounds, solver=method)

    return solve


def certificate(dataset: Dataset) -> Callable:
    """`certify(z, y, shared)`: whether each is a minimum, by the true Hessian, and its estimated error.

    The unknowns are those seen from `near` a fit; its arguments, except the observations, are what the problems share.
    """
    fun = sum_of_squares(dataset)

    def certify(z, y, shared):
        args, axes = {**shared, "y": y}, {**dict.fromkeys(shared), "y": 0}
        verdict = jol.certify_minimum(fun, z, args, args_axes=axes, atol=_CERTIFIED)
        return (verdict.kind == jol.Curvature.MINIMUM) & (verdict.error <= _CERTIFIED), verdict.error

    return certify


def _without_observations(args: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: leaf for name, leaf in args.items() if name != "y"}


def fit(dataset: Dataset, solve: Callable) -> tuple[jol.Solution, Float[np.ndarray, "2 k"]]:
    """Fit a data set from both of NIST's starts.

    Args:
        dataset: the data set.
        solve: its `solver`, compiled.

    Returns:
        The solution and the standard errors of the parameters, one row for each start.

    Example:
        >>> rat42 = read("Rat42")
        >>> solution, _ = fit(rat42, solver(rat42))
        >>> bool(np.allclose(solution.x, rat42.parameters, rtol=1e-2))
        True
    """
    solution = solve(dataset.starts, np.stack([dataset.y] * 2), _FIT_TOLERANCE)
    return solution, np.asarray(solution.covariance().standard_errors)


def digits(b: Float[np.ndarray, "*batch k"], certified: Float[np.ndarray, " k"]) -> Float[np.ndarray, "*batch"]:
    """The number of significant digits to which all parameters agree with the certified ones; 11 are certified.

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


def _fit_and_print(programs: Programs, console: Console, tallies: list[Tally]) -> Float[np.ndarray, "2 k"]:
    """The better of the two fits, and its standard errors."""
    dataset = programs.dataset
    tally = Tally(f"{dataset.name} fits", 2)
    tallies.append(tally)
    tally.compile_seconds = programs.solve.wait()
    start = time.perf_counter()
    with working("fitting the original data"):
        solution, errors = fit(dataset, programs.solve)
    tally.solve_seconds = time.perf_counter() - start
    agreed, of_errors = digits(solution.x, dataset.parameters), digits(errors, dataset.standard_deviations)
    tally.reached, tally.solved = 2, int(np.sum(solution.success))
    tally.verified = int(np.sum(solution.success & (np.minimum(agreed, of_errors) >= _DIGITS)))
    console.print(
        f"The fits from NIST's two starts agree with the certified values to {agreed[0]:.1f} and {agreed[1]:.1f} "
        f"digits, their standard errors to {of_errors[0]:.1f} and {of_errors[1]:.1f} ({tally.solve_seconds:.2f} s, by "
        "the program that then solves the refits)."
    )
    if not tally.is_complete:
        console.print(solution.summary())
    best = int(np.argmin(np.asarray(solution.cost)))
    return np.stack([solution.x[best], errors[best]])


def _print_intervals(console: Console, dataset: Dataset, errors, refits: Float[np.ndarray, "count k"]) -> None:
    table = Table("", "NIST's value", "NIST's s.d.", "s.d. here", "of refits", "95 % of refits lie in", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    low, high = np.percentile(refits, (2.5, 97.5), axis=0)
    for k, value in enumerate(dataset.parameters):
        table.add_row(
            f"b{k + 1}",
            f"{value:.7g}",
            f"{dataset.standard_deviations[k]:.5g}",
            f"{errors[k]:.5g}",
            f"{refits[:, k].std():.3g}",
            f"{low[k]:.5g} to {high[k]:.5g}",
        )
    console.print(table)
