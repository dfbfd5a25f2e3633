"""Minima and least squares, with bounds and without: `python -m benchmarks.bounded [--quick] [--only PATTERN]`.

All objectives of Moré, Garbow and Hillstrom, each the sum of the squares of its residuals, from 20 perturbed starts. In
the part "bounded", every second unknown is kept away from where it is at the free minimum. One batched call for each
method and problem; SciPy's methods get one start after the other.
"""

import argparse
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
import optimistix as optx
import scipy.optimize
from rich.console import Console
from rich.table import Table

import jaxopt_lite as jol
from benchmarks import harness
from benchmarks.peers import scipy_objective
from benchmarks.timing import use_cpu
from tests.problems import MGH_LEAST_SQUARES, MGH_UNCONSTRAINED, Problem, perturbed

_STARTS, _FEW_STARTS = 20, 5
_GRADIENT = 1e-6  # the largest entry of the projected gradient of a solved problem
_SAME = 1e-10  # relative to the best value known: solved as well, since rounding may hide the gradient
_AS_GOOD = 1e-3, 1e-8  # relative and absolute, to the best value known: another minimum, as good
_TIGHT = 1e-10  # for peers that stop by the size of steps: none may stop too early
_FINE = 1e-12  # for those that would otherwise go on, at rounding, to the last step
_MAX_STEPS = 1000
_EPS = float(np.finfo(float).eps)


class Task(NamedTuple):
    """A function of one problem, its box, and the starts in it, `[count, n]`."""

    residual: Callable
    lower: np.ndarray
    upper: np.ndarray
    starts: np.ndarray

    def value(self, x):
        """Half the sum of the squares, which is what least squares minimizes."""
        return jnp.sum(self.residual(x) ** 2) / 2


def task_of(problem: Problem, count: int, bounded: bool) -> Task:
    """The box cuts off, in every second unknown, the free minimum that is found from the standard start."""
    starts, n = perturbed(problem, count), problem.start.size
    if not bounded:
        return Task(problem.residual, np.full(n, -np.inf), np.full(n, np.inf), starts)
    start, free = problem.start, _free_minimum(problem)
    from_above = start >= free
    width = np.maximum(np.abs(start - free), 0.1 * np.maximum(1, np.abs(free)))
    wall = np.where(from_above, free + 0.2 * width, free - 0.2 * width)
    cut = np.arange(n) % 2 == 0
    far = 10 * np.maximum(1, width)
    lower = np.where(cut & from_above, wall, np.minimum(start, free) - far)
    upper = np.where(cut & ~from_above, wall, np.maximum(start, free) + far)
    return Task(problem.residual, lower, upper, np.clip(starts, lower, upper))


def _free_minimum(problem: Problem) -> np.ndarray:
    """Where SciPy ends without bounds."""
    residual, jacobian = jax.jit(problem.residual), jax.jit(jax.jacfwd(problem.residual))
    tight = dict.fromkeys(("ftol", "xtol", "gtol"), _EPS)
    options: dict[str, Any] = {"jac": jacobian, "x_scale": "jac", "max_nfev": 2000} | tight
    return scipy.optimize.least_squares(residual, problem.start, **options).x


# --- Every solver as a task -> the answers, and which of them it calls a success ---------------------------------


def ours(task: Task, solver) -> tuple:
    settings = solver(atol=_GRADIENT, rtol=0.0, max_steps=_MAX_STEPS)
    found = jol.minimize(lambda x, args: task.value(x), task.starts, bounds=_bounds(task), solver=settings)
    return found.x, found.success


def our_least_squares(task: Task) -> tuple:
    settings = jol.LevenbergMarquardt(max_steps=_MAX_STEPS)
    found = jol.least_squares(lambda x, args: task.residual(x), task.starts, bounds=_bounds(task), solver=settings)
    return found.x, found.success


def _bounds(task: Task):
    return None if np.all(np.isinf(task.lower)) else (task.lower, task.upper)


def jaxopt_levenberg_marquardt(task: Task) -> tuple:
    solver = jaxopt.LevenbergMarquardt(task.residual, tol=_GRADIENT, maxiter=_MAX_STEPS)
    found = jax.jit(jax.vmap(solver.run))(task.starts)
    return found.params, found.state.error <= _GRADIENT


def optimistix(task: Task, solver) -> tuple:
    settings = solver(rtol=_TIGHT, atol=_TIGHT)

    def solve(start):
        found = optx.least_squares(lambda x, args: task.residual(x), settings, start, max_steps=_MAX_STEPS, throw=False)
        return found.value, found.result == optx.RESULTS.successful

    return jax.jit(jax.vmap(solve))(task.starts)


def scipy_minimum(task: Task, method: str, options: dict) -> tuple:
    objective = scipy_objective(task.value)
    box = list(zip(task.lower, task.upper, strict=True))
    solve = partial(scipy.optimize.minimize, objective, jac=True, method=method, bounds=box, options=options)
    return _in_turn(solve, task.starts)


def scipy_least_squares(task: Task, method: str) -> tuple:
    residual, jacobian = jax.jit(task.residual), jax.jit(jax.jacfwd(task.residual))
    options: dict[str, Any] = {"method": method, "x_scale": "jac", "max_nfev": _MAX_STEPS}
    options["jac"] = lambda x: np.asarray(jacobian(x))
    options |= dict.fromkeys(("ftol", "xtol", "gtol"), _FINE)
    if method != "lm":
        options["bounds"] = (task.lower, task.upper)
    solve = lambda x: scipy.optimize.least_squares(lambda x: np.asarray(residual(x)), x, **options)  # noqa: E731
    return _in_turn(solve, task.starts)


def _in_turn(solve: Callable, starts: np.ndarray) -> tuple:
    answers = []
    for start in starts:
        try:
            with np.errstate(all="ignore"):
                found = solve(start)
        except (ValueError, np.linalg.LinAlgError):  # residuals or derivatives that are not finite
            answers.append((np.full_like(start, np.nan), False))
        else:
            answers.append((found.x, bool(found.success)))
    return tuple(map(np.array, zip(*answers, strict=True)))


def within_bounds() -> dict[str, Callable]:
    by_gradient = {"gtol": _GRADIENT, "ftol": _EPS, "maxfun": 20 * _MAX_STEPS}
    return {
        "BFGS": partial(ours, solver=jol.BFGS),
        "LBFGS": partial(ours, solver=jol.LBFGS),
        "LevenbergMarquardt": our_least_squares,
        "SciPy L-BFGS-B": partial(scipy_minimum, method="L-BFGS-B", options=by_gradient | {"maxiter": _MAX_STEPS}),
        "SciPy TNC": partial(scipy_minimum, method="TNC", options=by_gradient | {"xtol": _EPS, "maxfun": _MAX_STEPS}),
        "SciPy trf": partial(scipy_least_squares, method="trf"),
        "SciPy dogbox": partial(scipy_least_squares, method="dogbox"),
    }


def without_bounds() -> dict[str, Callable]:
    return {
        "LevenbergMarquardt": our_least_squares,
        "SciPy lm": partial(scipy_least_squares, method="lm"),
        "SciPy trf": partial(scipy_least_squares, method="trf"),
        "optimistix LevenbergMarquardt": partial(optimistix, solver=optx.LevenbergMarquardt),
        "optimistix Dogleg": partial(optimistix, solver=optx.Dogleg),
        "jaxopt LevenbergMarquardt": jaxopt_levenberg_marquardt,
    }


PARTS = {"bounded": within_bounds, "free": without_bounds}
_OURS = ("BFGS", "LBFGS", "LevenbergMarquardt")


# --- One judge, and what is printed ------------------------------------------------------------------------------


def judged(task: Task, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The value and the largest entry of the projected gradient; both infinite where not finite or not in the box."""
    value, grad = jax.jit(jax.vmap(jax.value_and_grad(task.value)))(x)
    slope = np.max(np.abs(np.clip(x - grad, task.lower, task.upper) - x), axis=1)
    inside = np.all((x >= task.lower) & (x <= task.upper), axis=1) & np.isfinite(value) & np.isfinite(slope)
    return np.where(inside, value, np.inf), np.where(inside, slope, np.inf)


def race(name: str, problem: Problem, count: int) -> Iterator[dict]:
    """A row for each method."""
    task, found = task_of(problem, count, bounded=name == "bounded"), {}
    for method, solve in PARTS[name]().items():
        x, success = jax.device_get(solve(task))
        found[method] = (*judged(task, np.asarray(x)), np.asarray(success))
    best = min(np.min(value) for value, _, _ in found.values())
    nothing = _EPS**2 * float(task.value(task.starts[0]))  # where residuals are rounding beside those at the start
    for method, (value, slope, success) in found.items():
        solved = (slope <= _GRADIENT) | (value <= best * (1 + _SAME) + nothing)
        as_good = value <= best * (1 + _AS_GOOD[0]) + _AS_GOOD[1]
        yield {
            "part": name, "problem": problem.name, "method": method, "lanes": len(value), "best_value": float(best),
            "solved": float(np.mean(solved)), "standard_start": bool(solved[0]),
            "at_the_best": float(np.mean(solved & as_good)), "called_a_success": float(np.mean(success)),
            "of_these_not_solved": float(np.mean(success & ~solved)), "lost": np.flatnonzero(~solved).tolist(),
        }  # fmt: skip
    jax.clear_caches()  # hundreds of programs would stay in memory


def print_summary(rows: list[dict]) -> None:
    """A table for each part."""
    for name in PARTS:
        mine = [row for row in rows if row["part"] == name]
        if not mine:
            continue
        problems = len({row["problem"] for row in mine})
        table = Table(title=f"{name}: {problems} problems", title_justify="left")
        table.add_column("method", no_wrap=True)
        for heading in ("starts each", "solved", "standard starts", "at the best", "false successes", "with losses"):
            table.add_column(heading, justify="right")
        for method in dict.fromkeys(row["method"] for row in mine):
            those = [row for row in mine if row["method"] == method]
            mean = lambda key, those=those: f"{100 * sum(row[key] for row in those) / len(those):.2f}%"  # noqa: E731
            table.add_row(
                f"[bold]{method}[/bold]" if method in _OURS else method,
                str(those[0]["lanes"]), mean("solved"), str(sum(row["standard_start"] for row in those)),
                mean("at_the_best"), mean("of_these_not_solved"), str(sum(row["solved"] < 1 for row in those)),
            )  # fmt: skip
        Console(width=130).print(table)


def print_losses(rows: list[dict]) -> None:
    """The problems on which this library lost starts."""
    for row in rows:
        if row["method"] in _OURS and row["lost"]:
            others = {
                other["method"]: other["solved"]
                for other in rows
                if other["method"] not in _OURS and (other["part"], other["problem"]) == (row["part"], row["problem"])
            }
            lost = f"{row['part']}, {row['problem']}: {row['method']} loses {row['lost']}"
            print(f"{lost}; peers solve {others}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every fifth problem and few starts; nothing is saved")
    parser.add_argument(
        "--only", type=harness.pattern, metavar="PATTERN", default="", help="such as 'free' or 'bounded b'"
    )
    options = parser.parse_args()
    problems = (MGH_UNCONSTRAINED + MGH_LEAST_SQUARES)[:: 5 if options.quick else 1]
    races = [(part, each) for part in PARTS for each in problems if re.search(options.only, f"{part} {each.name}")]
    if not races:
        parser.error(
            f"--only {options.only!r} matches no part and problem, such as '{next(iter(PARTS))} {problems[0].name}'."
        )
    load = harness.check_load()
    use_cpu()
    count = _FEW_STARTS if options.quick else _STARTS
    rows = []
    for place, (part, problem) in enumerate(races, start=1):
        print(f"{place} of {len(races)}: {part} {problem.name}", flush=True)
        more = list(race(part, problem, count))
        print_losses(more)
        rows += more
    print_summary(rows)
    if not options.quick:
        print("wrote", harness.save("bounded", rows, load, options.only))


if __name__ == "__main__":
    main()
