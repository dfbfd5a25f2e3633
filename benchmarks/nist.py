"""NIST's nonlinear regressions as they come: `python -m benchmarks.nist [--quick] [--only NAMES] [--solvers NAMES]`.

All 27 of NIST's StRD, each from both of NIST's starts. The minimizers get the unscaled sum of the squares of the
residuals, methods for least squares the residuals. One judge: a start is solved where every parameter agrees with the
certified one to 6 digits, and precise where every parameter does to 8 and every standard deviation to 6. The deviations
are the solver's own if it gives them, else those from the model's slopes at its answer.
"""

import argparse
import importlib
import importlib.util
import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
import optimistix as optx
import scipy.optimize
import tensorflow_probability.substrates.jax as tfp
from rich.console import Console
from rich.table import Table

import jaxopt_lite as jol
from benchmarks import harness
from benchmarks.peers import scipy_objective
from benchmarks.timing import use_cpu
from jaxopt_lite.demo import nist, regression

_DIGITS = 6  # with which an answer counts as solved
_PRECISE, _DEVIATIONS = 8, 6  # digits of parameters and of standard deviations with which it counts as precise
_CERTIFIED_DIGITS = 11
_TOLERANCE = 1e-12  # on the gradient, for those that stop by it
_OPTIMISTIX = {"rtol": 1e-10, "atol": 1e-13}  # on steps and changes of the value
_SMALLEST = 1e-15  # the least tolerance that SciPy and NLSQ accept
_MAX_STEPS = 20_000
_FEW = ("Misra1a", "Nelson", "Lanczos3", "BoxBOD")
_LEVELS = ("lower", "average", "higher")
_FOLDERS = (Path(nist.__file__).parent / "data" / "nist", Path(__file__).parent / "data" / "nist")


def _gaussians(b, x):
    """Two peaks on a baseline that decays."""
    peaks = b[2] * jnp.exp(-(((x - b[3]) / b[4]) ** 2)) + b[5] * jnp.exp(-(((x - b[6]) / b[7]) ** 2))
    return b[0] * jnp.exp(-b[1] * x) + peaks


def _exponentials(b, x):
    return b[0] * jnp.exp(-b[1] * x) + b[2] * jnp.exp(-b[3] * x) + b[4] * jnp.exp(-b[5] * x)


def _cycle(cosine, sine, period, x):
    return cosine * jnp.cos(2 * jnp.pi * x / period) + sine * jnp.sin(2 * jnp.pi * x / period)


MODELS: dict[str, Callable] = regression.MODELS | {
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Chwirut1": lambda b, x: jnp.exp(-b[0] * x) / (b[1] + b[2] * x),
    "Lanczos1": _exponentials,
    "Lanczos2": _exponentials,
    "Lanczos3": _exponentials,
    "Gauss1": _gaussians,
    "Gauss2": _gaussians,
    "Gauss3": _gaussians,
    "ENSO": lambda b, x: b[0] + _cycle(b[1], b[2], 12, x) + _cycle(b[4], b[5], b[3], x) + _cycle(b[7], b[8], b[6], x),
    "Nelson": lambda b, x: b[0] - b[1] * x[0] * jnp.exp(-b[2] * x[1]),
    "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
}


def read(name: str) -> nist.Dataset:
    """A data set, shipped with the package or kept here. Nelson's two predictors are the rows of `x`."""
    path = next(path for folder in _FOLDERS if (path := folder / f"{name}.dat").exists())
    text = path.read_text(encoding="ascii")
    if name != "Nelson":
        return nist.parse(text, name)
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if re.match(r"Data:\s+y", line)) + 1
    y, *x = np.loadtxt(lines[first:]).T
    one = [line.rsplit(maxsplit=1)[0] for line in lines[first:]]  # the parser knows one predictor
    return nist.parse("\n".join(lines[:first] + one), name)._replace(x=np.array(x), y=np.log(y))


def check(dataset: nist.Dataset, residual: Callable) -> dict:
    """Check that the model has the certified sum of squares at the certified parameters; returns its condition there.

    The parameters are certified to 11 digits, which matters for Lanczos1: its residuals are 1e-13. `condition` is that
    of the Jacobian, `condition_scaled` the same with columns of length one. A sum of squares has their squares.
    """
    b = jnp.asarray(dataset.parameters)
    slopes = np.asarray(jax.jacfwd(residual)(b))
    found = float(jnp.sum(residual(b) ** 2))
    rounding = np.sum((np.abs(slopes) @ np.abs(dataset.parameters) * 0.5 * 10.0 ** (1 - _CERTIFIED_DIGITS)) ** 2)
    certified = dataset.residual_sum_of_squares
    assert abs(found - certified) <= 1e-9 * certified + rounding, (dataset.name, found, certified, rounding)
    scaled = slopes / np.linalg.norm(slopes, axis=0)
    return {
        "certified_value": certified,
        "value_at_certified": found,
        "condition": float(np.linalg.cond(slopes)),
        "condition_scaled": float(np.linalg.cond(scaled)),
    }


def digits(x: np.ndarray, certified: np.ndarray) -> float:
    """The log relative error of the worst parameter, 0 to 11; absolute where the certified value is 0."""
    error = np.abs(x - certified) / np.where(certified == 0, 1.0, np.abs(certified))
    with np.errstate(divide="ignore"):
        worst = -np.log10(np.max(error)) if np.all(np.isfinite(error)) else 0.0
    return float(np.clip(worst, 0.0, _CERTIFIED_DIGITS))


# --- Every solver as (residual, starts) -> an answer for each start ----------------------------------------------


class Answer(NamedTuple):
    x: np.ndarray
    success: bool  # what the solver says
    outcome: str  # in its words
    steps: int | None
    deviations: np.ndarray | None = None


def _squares(residual: Callable) -> Callable:
    return lambda b: jnp.sum(residual(b) ** 2)


def ours(residual: Callable, starts: np.ndarray, solver) -> list[Answer]:
    fun = _squares(residual)
    settings = solver(atol=_TOLERANCE, rtol=0.0, max_steps=_MAX_STEPS)
    found = jax.device_get(jol.minimize(lambda b, args: fun(b), starts, solver=settings))
    return _answers(found.x, found.success, _names(found), found.steps)


def _names(found: jol.Solution) -> list[str]:
    return [jol.Status(code).name for code in found.status.tolist()]


def our_least_squares(residual: Callable, starts: np.ndarray) -> list[Answer]:
    """With its defaults."""
    found = jol.least_squares(residual, starts)
    deviations = np.asarray(found.covariance().standard_errors)
    answers = _answers(found.x, found.success, _names(found), found.steps)
    return [answer._replace(deviations=each) for answer, each in zip(answers, deviations, strict=True)]


def tfp_bfgs(residual: Callable, starts: np.ndarray) -> list[Answer]:
    value_and_grad = jax.vmap(jax.value_and_grad(_squares(residual)))
    settings = {"tolerance": _TOLERANCE, "max_iterations": _MAX_STEPS}
    solve = jax.jit(lambda x: tfp.optimizer.bfgs_minimize(value_and_grad, x, **settings))
    found = jax.device_get(solve(starts))
    words = np.where(found.failed, "failed", np.where(found.converged, "converged", "out of steps"))
    return _answers(found.position, found.converged & ~found.failed, words, [int(found.num_iterations)] * len(starts))


def optimistix(residual: Callable, starts: np.ndarray, solver) -> list[Answer]:
    settings = solver(**_OPTIMISTIX)
    run, fun = optx.minimise, _squares(residual)
    if issubclass(solver, optx.LevenbergMarquardt | optx.Dogleg):
        run, fun = optx.least_squares, residual

    def solve(start):
        found = run(lambda b, args: fun(b), settings, start, max_steps=_MAX_STEPS, throw=False)
        return found.value, found.result == optx.RESULTS.successful, found.stats["num_steps"]

    x, success, steps = jax.device_get(jax.jit(jax.vmap(solve))(starts))
    return _answers(x, success, np.where(success, "successful", "not successful"), steps)


def jaxopt_least_squares(residual: Callable, starts: np.ndarray) -> list[Answer]:
    """By QR, which does not square the condition; its default is conjugate gradients."""
    settings = {"tol": _TOLERANCE, "xtol": _TOLERANCE, "gtol": _TOLERANCE, "maxiter": _MAX_STEPS}
    solver = jaxopt.LevenbergMarquardt(residual, materialize_jac=True, solver="qr", **settings)
    x, state = jax.device_get(jax.jit(jax.vmap(solver.run))(starts))
    success = state.error <= _TOLERANCE
    return _answers(x, success, np.where(success, "converged", "not converged"), state.iter_num)


def scipy_least_squares(residual: Callable, starts: np.ndarray, method: str) -> list[Answer]:
    """One start after the other, with exact Jacobians, and scaled by them."""
    jitted, jacobian = jax.jit(residual), jax.jit(jax.jacfwd(residual))
    settings = {"ftol": _SMALLEST, "xtol": _SMALLEST, "gtol": _SMALLEST, "x_scale": "jac", "max_nfev": _MAX_STEPS}

    def solve(start):
        found = scipy.optimize.least_squares(
            lambda b: np.asarray(jitted(b)), start, lambda b: np.asarray(jacobian(b)), method=method, **settings
        )
        return Answer(found.x, bool(found.success), found.message, found.nfev)

    return _in_turn(solve, starts)


def nlsq(residual: Callable, starts: np.ndarray) -> list[Answer]:
    """One start after the other, with the residuals as a curve that is fitted to zero."""
    logging.disable(logging.WARNING)  # it reports every iteration
    settings = {"ftol": _SMALLEST, "xtol": _SMALLEST, "gtol": _SMALLEST, "max_nfev": _MAX_STEPS}
    zeros = np.zeros(jax.eval_shape(residual, starts[0]).shape)

    def solve(start):
        found = (
            importlib.import_module("nlsq")
            .CurveFit()
            .curve_fit(
                lambda t, *b: residual(jnp.stack(b)), np.arange(len(zeros), dtype=float), zeros, start, **settings
            )
        )
        deviations = np.sqrt(np.maximum(np.diag(found.pcov), 0))
        return Answer(np.asarray(found.popt), bool(found.success), str(found.message), None, deviations)

    return _in_turn(solve, starts, Exception)


def scipy_minimum(residual: Callable, starts: np.ndarray, method: str, options: dict, hess: bool = False):
    """One start after the other, with exact gradients."""
    fun = _squares(residual)
    objective, hessian = scipy_objective(fun), jax.jit(jax.hessian(fun))
    more = {"hess": lambda b: np.asarray(hessian(b))} if hess else {}

    def solve(start):
        found = scipy.optimize.minimize(objective, start, jac=True, method=method, options=options, **more)
        return Answer(found.x, bool(found.success), found.message, found.nit)

    return _in_turn(solve, starts)


def _in_turn(solve: Callable, starts: np.ndarray, errors=(ValueError, np.linalg.LinAlgError)) -> list[Answer]:
    """One start after the other; where an error is raised, as for a Hessian that is not finite, it is the outcome."""
    answers = []
    for start in starts:
        try:
            with np.errstate(all="ignore"):
                answers.append(solve(start))
        except errors as error:
            answers.append(Answer(np.full(len(start), np.nan), False, f"{type(error).__name__}: {error}", None))
    return answers


def _answers(x, success, outcome, steps) -> list[Answer]:
    columns = (np.asarray(x), map(bool, success), map(str, outcome), map(int, steps))
    return [Answer(*row) for row in zip(*columns, strict=True)]


def methods() -> dict[str, Callable]:
    few = {"gtol": _TOLERANCE, "maxiter": _MAX_STEPS}
    limited = few | {"maxfun": 10 * _MAX_STEPS, "ftol": 0.0}
    return {
        "BFGS": partial(ours, solver=jol.BFGS),
        "LBFGS": partial(ours, solver=jol.LBFGS),
        "LevenbergMarquardt": our_least_squares,
        "SciPy BFGS": partial(scipy_minimum, method="BFGS", options=few),
        "SciPy L-BFGS-B": partial(scipy_minimum, method="L-BFGS-B", options=limited),
        "SciPy trust-exact": partial(scipy_minimum, method="trust-exact", options=few, hess=True),
        "TensorFlow Probability BFGS": tfp_bfgs,
        "optimistix BFGS": partial(optimistix, solver=optx.BFGS),
        "optimistix LevenbergMarquardt": partial(optimistix, solver=optx.LevenbergMarquardt),
        "optimistix Dogleg": partial(optimistix, solver=optx.Dogleg),
        "jaxopt LevenbergMarquardt": jaxopt_least_squares,
        "SciPy lm": partial(scipy_least_squares, method="lm"),
        "SciPy trf": partial(scipy_least_squares, method="trf"),
    } | ({"NLSQ": nlsq} if importlib.util.find_spec("nlsq") else {})  # it needs Python 3.12


_OURS = ("BFGS", "LBFGS", "LevenbergMarquardt")


# --- The race, and what is printed -------------------------------------------------------------------------------


def deviations(residual: Callable, b: np.ndarray) -> np.ndarray:
    """Standard deviations from the slopes at b."""
    slopes, rest = np.asarray(jax.jacfwd(residual)(jnp.asarray(b))), np.asarray(residual(jnp.asarray(b)))
    if not np.isfinite(slopes).all():
        return np.full(len(b), np.nan)
    sizes = np.linalg.norm(slopes, axis=0)
    sizes = np.where(sizes > 0, sizes, 1)
    _, sigma, vt = np.linalg.svd(slopes / sizes, full_matrices=False)
    with np.errstate(all="ignore"):
        spread = np.sqrt(np.sum((vt / sigma[:, None]) ** 2, axis=0)) / sizes
        return spread * np.sqrt(np.sum(rest**2) / (len(rest) - len(b)))


def race(name: str, solvers: str = "") -> list[dict]:
    """A row for each start and solver."""
    dataset = read(name)

    def residual(b):
        return dataset.y - MODELS[name](b, dataset.x)

    facts = {"dataset": name, "level": dataset.level} | check(dataset, residual)
    judge = jax.jit(jax.value_and_grad(_squares(residual)))
    rows = []
    for method, solve in methods().items():
        if not re.search(solvers, method):
            continue
        for start, answer in enumerate(solve(residual, dataset.starts), start=1):
            value, grad = judge(answer.x)
            agree = digits(answer.x, dataset.parameters)
            row = facts | {"start": start, "method": method, "digits": agree, "solved": agree >= _DIGITS}
            spread = deviations(residual, answer.x) if answer.deviations is None else answer.deviations
            of_deviations = digits(spread, dataset.standard_deviations)
            row |= {"digits_of_deviations": of_deviations}
            row |= {"precise": agree >= _PRECISE and of_deviations >= _DEVIATIONS}
            row |= {"success": answer.success, "outcome": answer.outcome, "steps": answer.steps}
            row |= {"value": _number(value), "gradient": _number(jnp.max(jnp.abs(grad)))}
            rows.append(row | {"x": [_number(entry) for entry in answer.x]})
    jax.clear_caches()  # hundreds of programs would stay in memory
    return rows


def _number(value) -> float | None:
    """A number as JSON can hold it."""
    return float(value) if np.isfinite(value) else None


def print_summary(rows: list[dict]) -> None:
    """A line for each solver."""
    starts = len({(row["dataset"], row["start"]) for row in rows})
    table = Table(title=f"NIST StRD, nonlinear regression: of {starts} starts", title_justify="left")
    table.add_column("solver", no_wrap=True)
    headings = (
        "solved",
        *_LEVELS,
        f"{_PRECISE} digits",
        "precise",
        "called a success",
        "of these wrong",
        "other order",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        claimed = [row for row in mine if row["success"]]
        table.add_row(
            f"[bold]{method}[/bold]" if method in _OURS else method,
            str(_solved(mine)),
            *(_share([row for row in mine if row["level"] == level]) for level in _LEVELS),
            str(sum(row["digits"] >= _PRECISE for row in mine)),
            str(sum(row["precise"] for row in mine)),
            str(len(claimed)),
            str(len(claimed) - _solved(claimed)),
            str(sum(map(_in_another_order, mine))),
        )
    Console(width=130).print(table)


def _in_another_order(row: dict) -> bool:
    """Far from the certified parameters but as good a fit: the same terms, such as exponentials, in another order."""
    far = row["digits"] < _DIGITS / 2 and row["value"] is not None
    return far and row["value"] <= (1 + 1e-12) * row["value_at_certified"]


def _solved(rows: list[dict]) -> int:
    return sum(row["solved"] for row in rows)


def _share(rows: list[dict]) -> str:
    return f"{_solved(rows)} of {len(rows)}"


def print_misses(rows: list[dict]) -> None:
    """What this library did not solve, and which peers did."""
    for method in sorted({row["method"] for row in rows} & set(_OURS)):
        table = Table(title=f"{method}: not solved", title_justify="left")
        for heading in ("data set", "start", "status", "steps", "digits", "value / certified", "‖∇f‖∞", "condition"):
            table.add_column(heading, justify="left" if heading in ("data set", "status") else "right")
        table.add_column("scaled", justify="right")
        table.add_column("peers that solve it", justify="right")
        for row in rows:
            if row["method"] != method or row["solved"]:
                continue
            same = [other for other in rows if (other["dataset"], other["start"]) == (row["dataset"], row["start"])]
            table.add_row(
                row["dataset"],
                str(row["start"]),
                row["outcome"],
                f"{row['steps']:,}",
                f"{row['digits']:.1f}",
                "" if row["value"] is None else f"{row['value'] / row['certified_value']:.6g}",
                "" if row["gradient"] is None else f"{row['gradient']:.0e}",
                f"{row['condition']:.0e}",
                f"{row['condition_scaled']:.0e}",
                _share([other for other in same if other["method"] not in _OURS]),
            )
        Console(width=130).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four data sets; nothing is saved")
    parser.add_argument(
        "--solvers", type=harness.pattern, metavar="PATTERN", default="", help="solvers of matching names"
    )
    options, names = harness.chosen(parser, MODELS, "data set")
    names = [name for name in names if name in _FEW or not options.quick]
    if not names:
        parser.error(f"--only {options.only!r} matches none of those of --quick, {', '.join(_FEW)}")
    if not any(re.search(options.solvers, method) for method in methods()):
        parser.error(f"--solvers {options.solvers!r} matches none of {list(methods())}.")
    load = harness.check_load()
    use_cpu()
    rows = [row for name in names for row in race(name, options.solvers)]
    print_summary(rows)
    print_misses(rows)
    if not options.quick:
        print("wrote", harness.save("nist", rows, load, f"{options.only} {options.solvers}".strip()))


if __name__ == "__main__":
    main()
