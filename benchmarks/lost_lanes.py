"""The child process of `benchmarks.robustness`: solve half of a problem set with every method, and judge the lanes."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import optimistix as optx

import jaxopt_lite as jol
from benchmarks import peers
from benchmarks.timing import gradient_error, residual_error, use_cpu
from tests import problems
from tests.problems import Problem, perturbed

_GRADIENT, _RESIDUAL = 1e-6, 1e-8  # what the judge asks
_TIGHT = 1e-10  # for peers that stop by the size of steps: none may stop too early
_GRADIENT_32 = 1e-3  # the library's default in float32
_RELATIVE_32 = 1e-5  # in a second row, relative to ‖∇f‖∞ at the start: where f is large, float32 can do no better


def equations() -> dict[str, tuple[Problem, list[str]]]:
    """The systems of both sets, by name, each once."""
    return _by_name(NONLINEAR_23=problems.NONLINEAR_23, MGH_EQUATIONS=problems.MGH_EQUATIONS)


def minima() -> dict[str, tuple[Problem, list[str]]]:
    """The objectives."""
    return _by_name(MGH_UNCONSTRAINED=problems.MGH_UNCONSTRAINED)


def _by_name(**sets: tuple[Problem, ...]) -> dict[str, tuple[Problem, list[str]]]:
    found = {}
    for set_name, members in sets.items():
        for problem in members:
            found.setdefault(problem.name, (problem, []))[1].append(set_name)
    return found


def root_methods(fun: Callable) -> Iterator[tuple[str, Callable]]:
    """Name and solver of one batch, all asked for the same residual."""
    yield "Broyden", peers.our_root(fun, _RESIDUAL)
    yield "LimitedBroyden", peers.our_root(fun, _RESIDUAL, jol.LimitedBroyden)
    for solver in (optx.Newton, optx.Dogleg, optx.LevenbergMarquardt):
        yield (
            f"optimistix {solver.__name__}",
            peers.vmapped(peers.optimistix_root(fun, solver, _TIGHT, peers.MAX_STEPS)),
        )
    yield "SciPy hybr", peers.scipy_root(fun, _TIGHT)


def minimum_methods(fun: Callable) -> Iterator[tuple[str, Callable]]:
    """Name and solver of one batch, all asked for the same gradient."""
    yield "BFGS", peers.our_minimum(fun, _GRADIENT)
    yield "LBFGS", peers.our_minimum(fun, _GRADIENT, jol.LBFGS)
    yield "TensorFlow Probability BFGS", peers.tfp_minimum(fun, _GRADIENT)
    yield "optimistix BFGS", peers.vmapped(peers.optimistix_minimum(fun, tolerance=_TIGHT))
    yield "SciPy BFGS", peers.scipy_minimum(fun, _GRADIENT)


def judge_equations(fun: Callable, starts: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each method, and which lanes it solved."""
    error = residual_error(fun)
    for method, solve in root_methods(fun):
        yield method, error(solve(starts)) <= _RESIDUAL


def judge_minima(fun: Callable, starts: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each method, and which lanes it solved."""
    error = gradient_error(fun)
    for method, solve in minimum_methods(fun):
        yield method, error(solve(starts)) <= _GRADIENT
    starts = starts.astype(np.float32)
    at_start = error(starts)
    for name, rtol in (("BFGS, float32", 0.0), ("BFGS, float32, relative", _RELATIVE_32)):
        x = jol.minimize(lambda x, args: fun(x), starts, solver=jol.BFGS(atol=_GRADIENT_32, rtol=rtol)).x
        yield name, error(x) <= 1.05 * (_GRADIENT_32 + rtol * at_start)


def main() -> None:
    kind, part, every, count, out = sys.argv[1:]
    use_cpu()
    members, judge = {"equations": (equations, judge_equations), "minima": (minima, judge_minima)}[kind]
    rows = []
    for problem, sets in list(members().values())[:: int(every)][int(part) :: 2]:
        for method, solved in judge(problem.fun, perturbed(problem, int(count))):
            row = {"kind": kind, "sets": sets, "problem": problem.name, "method": method, "lanes": len(solved)}
            rows.append(row | {"solved": float(np.mean(solved)), "standard_start": bool(solved[0])})
        jax.clear_caches()  # hundreds of programs would stay in memory
    Path(out).write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
