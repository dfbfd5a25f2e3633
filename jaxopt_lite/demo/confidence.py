"""How sure are fitted parameters? Ten thousand bootstrap refits each of three NIST regressions, by BFGS."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

import jaxopt_lite as jol
from jaxopt_lite.demo.batches import CHUNK, Tally, solve_and_verify
from jaxopt_lite.demo.nist import Dataset, read
from jaxopt_lite.demo.programs import Compiler, Program
from jaxopt_lite.demo.regression import bootstrap, initial, near, sum_of_squares
from jaxopt_lite.demo.report import print_tally

__all__ = ["SUBJECTS", "Programs", "certificate", "digits", "fit", "prepare", "run", "solver"]

# One data set of each level of difficulty.
SUBJECTS = {
    "Chwirut2": "ultrasonic calibration",
    "Kirby2": "electron microscope line widths",
    "Thurber": "electron mobility in a semiconductor",
}
_FIT_TOLERANCE = 1e-8  # gradient of the unexplained share of the scatter: seven digits of these parameters and more
_DIGITS = 6  # a fit agrees with NIST
_REFIT_TOLERANCE = 1e-5  # standard errors
_CERTIFIED = 1e-3  # standard errors; where the sum of squares is flatter, a slope leaves more room


class Programs(NamedTuple):
    """What solves and certifies a data set's fits, and its refits. Both are called with what they share last."""

    dataset: Dataset
    solve: Program
    certify: Program


def prepare(name: str, compiler: Compiler) -> Programs:
    """Begin to compile for a data set, one of `SUBJECTS`."""
    dataset = read(name)
    z, args = initial(dataset)
    solve, certify = solver(dataset), certificate(dataset)
    shared = _without_observations(args)
    return Programs(
        dataset,
        compiler.begin(f"the regression of {name}", CHUNK, solve, z, dataset.y, shared, _FIT_TOLERANCE),
        compiler.begin("its certificate", CHUNK, certify, z, dataset.y, shared, well=False),
    )


def run(programs: Programs, count: int, seed: int, console: Console, tallies: list[Tally]) -> None:
    """Fit a data set, refit its resamples, verify them, and print intervals beside NIST's certified values.

    A refit starts at the fit of the original data, as is usual: the resamples scatter around it.

    Args:
        programs: as prepared.
        count: how many refits.
        seed: of the resampling.
        console: where to print.
        tallies: those of the fits and of the refits are appended.
    """
    dataset, name = programs.dataset, programs.dataset.name
    console.print()
    console.rule(f"Minimisation: {name}, {SUBJECTS[name]}", align="left")
    console.print(
        f"NIST's {dataset.level} level of difficulty: {len(dataset.parameters)} parameters, {len(dataset.y)} "
        f"observations; {count:,} bootstrap refits by BFGS, from the fit of the original data."
    )
    b = _fit_and_print(programs, console, tallies)
    args = near(dataset, b)
    shared, y, z0 = _without_observations(args), bootstrap(dataset, b, count, seed), np.zeros((count, len(b)))
    tally = Tally(f"{name} refits", count)
    tallies.append(tally)
    tally.compile_seconds = programs.solve.wait() + programs.certify.wait()
    solution, error = solve_and_verify(
        tally,
        lambda z, y: programs.solve(z, y, shared, _REFIT_TOLERANCE),
        lambda z, y: programs.certify(z, y, shared),
        z0,
        y,
    )
    print_tally(
        console,
        tally,
        f"slope at most {_REFIT_TOLERANCE:.0e} per standard error, recomputed at the answer",
        f"strict minima by the true Hessian, none off by more than {error.max():.0e} standard errors",
    )
    if not tally.is_complete:
        console.print(solution.summary())
    refits = b + solution.x[solution.success] @ args["directions"].T
    if len(refits):
        _print_intervals(console, dataset, refits)


def solver(dataset: Dataset) -> Callable:
    """`solve(z0, y, shared, atol)`, for starts [B, k] and observations [B, m] seen from one place.

    `shared` is what `initial` or `near` gives, but for the observations; `atol` is of the gradient. From wherever it is
    seen, and to whatever tolerance: it compiles once.
    """
    fun = sum_of_squares(dataset)

    def solve(z0, y, shared, atol):
        args, axes = _of_batch(y, shared)
        return jol.minimize(fun, z0, args, args_axes=axes, solver=jol.BFGS(atol=atol))

    return solve


def certificate(dataset: Dataset) -> Callable:
    """`certify(z, y, shared)`: whether each is a minimum, by the true Hessian, and its estimated error."""
    fun = sum_of_squares(dataset)

    def certify(z, y, shared):
        args, axes = _of_batch(y, shared)
        verdict = jol.certify_minimum(fun, z, args, args_axes=axes, atol=_CERTIFIED)
        return (verdict.kind == jol.Curvature.MINIMUM) & (verdict.error <= _CERTIFIED), verdict.error

    return certify


def _without_observations(args: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: leaf for name, leaf in args.items() if name != "y"}


def _of_batch(y, shared):
    """The arguments of the objective, and their batch axes."""
    return {**shared, "y": y}, {**dict.fromkeys(shared), "y": 0}


def fit(
    dataset: Dataset, solve: Callable, atol: float = _FIT_TOLERANCE
) -> tuple[jol.Solution, Float[np.ndarray, "2 k"]]:
    """Fit a data set from both of NIST's starts.

    Args:
        dataset: the data set.
        solve: its `solver`, compiled.
        atol: largest gradient of the unexplained share of the scatter.

    Returns:
        The solution and the parameters, one row a start.

    Example:
        >>> rat42 = read("Rat42")
        >>> solution, b = fit(rat42, jax.jit(solver(rat42)), atol=1e-4)
        >>> bool(np.allclose(b, rat42.parameters, rtol=0.1))
        True
    """
    solutions, parameters = [], []
    for start in (0, 1):
        u, args = initial(dataset, start)
        solutions.append(solve(u[None], dataset.y[None], _without_observations(args), atol))
        parameters.append(args["directions"] @ np.asarray(solutions[-1].x[0]))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *solutions), np.stack(parameters)


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


def _fit_and_print(programs: Programs, console: Console, tallies: list[Tally]) -> Float[np.ndarray, " k"]:
    """The better of the two fits."""
    dataset = programs.dataset
    tally = Tally(f"{dataset.name} fits", 2)
    tallies.append(tally)
    tally.compile_seconds = programs.solve.wait()
    start = time.perf_counter()
    solution, b = fit(dataset, programs.solve)
    tally.solve_seconds = time.perf_counter() - start
    agreed = digits(b, dataset.parameters)
    tally.reached, tally.solved = 2, int(np.sum(solution.success))
    tally.verified = int(np.sum(solution.success & (agreed >= _DIGITS)))
    console.print(
        f"The fits from NIST's two starts agree with the certified values to {agreed[0]:.1f} and {agreed[1]:.1f} "
        f"digits ({tally.solve_seconds:.2f} s, by the program that then solves the refits)."
    )
    if not tally.is_complete:
        console.print(solution.summary())
    return b[int(np.argmin(solution.fun))]


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
