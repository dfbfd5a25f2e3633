"""The standard problem sets are solved from the standard starts and from 100 perturbed ones each.

Every answer is judged apart from the solvers, by the problem's own function in float64 at the returned point:

- a root in float64: ‖F(x)‖∞ ≤ 1e-8;
- a root in float32: ‖F(x)‖∞ ≤ 1e-4 · max(1, ‖F(x₀)‖∞);
- a minimum in float64: ‖∇f(x)‖∞ ≤ 1e-5 · max(1, |f(x)|);
- a minimum in float32: the same with 1e-2, or ‖∇f(x)‖∞ ≤ 16 ε ‖ |∇²f(x)| |x| ‖∞. The second is what sixteen
  roundings of x alone do to the gradient: a badly scaled problem has no float32 point that is much better.
"""

import functools
import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from tests import problems
from tests.problems import MGH_EQUATIONS, MGH_LEAST_SQUARES, MGH_UNCONSTRAINED, NONLINEAR_23, perturbed

pytestmark = pytest.mark.hardly_optimized

COUNT = 100
ALL = NONLINEAR_23 + MGH_EQUATIONS + MGH_UNCONSTRAINED + MGH_LEAST_SQUARES
BROYDEN, BFGS = jol.Broyden(), jol.BFGS()
EASY_TO_COMPILE = ("wood",)  # and in `tests/test_contract.py` Beale's function and Boggs' system
SHORT = ("powell singular 4",)
FEW_MINIMA = tuple(p for p in MGH_UNCONSTRAINED if p.name in EASY_TO_COMPILE)
FEW_SYSTEMS = tuple(p for p in NONLINEAR_23 if p.name in SHORT)


TESTED = "540fd0de7e19904e"  # of the file that passed `tests/test_problems.py`, the start of its SHA-256


def test_the_problems_are_those_that_were_tested():
    digest = hashlib.sha256(Path(problems.__file__).read_bytes()).hexdigest()
    assert digest.startswith(TESTED), (
        f"tests/problems.py has changed: run `pytest -m '' tests/test_problems.py`, and if all passes write "
        f"TESTED = {digest[: len(TESTED)]!r} here"
    )


def solved(problem, solver_name, dtype):
    """Which of the perturbed starts end in a root or a minimum, and which the solver calls a success."""
    return _solved(problem.name, problem.fun, solver_name, dtype)


@functools.cache
def _solved(name, fun, solver_name, dtype):
    problem = next(p for p in ALL if p.name == name and p.fun is fun)
    start = perturbed(problem, COUNT)
    ask, solver = (jol.root, BROYDEN) if solver_name == "broyden" else (jol.minimize, BFGS)
    solution = ask(lambda x, args: problem.fun(x), jnp.asarray(start, dtype), solver=solver)
    judge = is_root if solver_name == "broyden" else is_minimum
    good = judge(problem.fun, start, np.asarray(solution.x, np.float64), dtype)
    return good, np.asarray(solution.success)


def is_root(fun, start, x, dtype):
    size = jax.jit(lambda points: jax.lax.map(lambda x: jnp.max(jnp.abs(fun(x))), points))
    error = np.asarray(size(jnp.asarray(x)))
    if dtype == "float64":
        return error <= 1e-8
    return error <= 1e-4 * np.maximum(1, np.asarray(size(jnp.asarray(start))))


def is_minimum(fun, start, x, dtype):
    def measures(x):
        hessian = jax.hessian(fun)(x) if dtype == "float32" else jnp.zeros((x.size, x.size))
        rounding = jnp.max(jnp.abs(hessian) @ jnp.abs(x))
        return fun(x), jnp.max(jnp.abs(jax.grad(fun)(x))), rounding

    value, slope, rounding = (
        np.asarray(leaf) for leaf in jax.jit(lambda points: jax.lax.map(measures, points))(jnp.asarray(x))
    )
    enough = 1e-5 if dtype == "float64" else 1e-2
    allowed = np.maximum(enough * np.maximum(1, np.abs(value)), 16 * np.finfo(dtype).eps * rounding)
    return np.isfinite(value) & (slope <= allowed)


def rates(problems, solver_name, dtype):
    """The share of solved starts, whether each standard start is solved, and a table for people."""
    table = {p.name: solved(p, solver_name, dtype) for p in problems}
    share = np.mean([good for good, _ in table.values()])
    first = [good[0] for good, _ in table.values()]
    lines = [
        f"  {good.sum():4d} of {good.size}, standard start {'solved' if good[0] else 'NOT solved'}: {name}"
        for name, (good, _) in table.items()
        if not good.all()
    ]
    return share, sum(first), f"{share:.4%} solved, {sum(first)} of {len(first)} starts:\n" + "\n".join(lines)


def liars(problems, solver_name, dtype):
    """Problems of which some lane is called a success and is none."""
    found = {}
    for problem in problems:
        good, success = solved(problem, solver_name, dtype)
        if (success & ~good).any():
            found[problem.name] = np.flatnonzero(success & ~good).tolist()
    return found


def test_a_few_systems_are_solved_from_perturbed_starts():
    share, first, table = rates(FEW_SYSTEMS, "broyden", "float64")
    assert share >= 0.99 and first == len(FEW_SYSTEMS), table


@pytest.mark.slow
def test_all_23_systems_are_solved_from_their_standard_starts():
    _, first, table = rates(NONLINEAR_23, "broyden", "float64")
    assert first == 23, table


@pytest.mark.slow
def test_99_of_100_perturbed_starts_of_the_23_systems_are_solved():
    share, _, table = rates(NONLINEAR_23, "broyden", "float64")
    assert share >= 0.99, table


def test_a_few_minima_are_found_from_perturbed_starts():
    share, first, table = rates(FEW_MINIMA, "bfgs", "float64")
    assert share >= 0.98 and first == len(FEW_MINIMA), table


def test_what_is_called_a_success_is_one():
    assert liars(FEW_SYSTEMS, "broyden", "float64") == {}
    assert liars(FEW_MINIMA, "bfgs", "float64") == {}


@pytest.mark.slow
def test_22_of_the_23_systems_are_solved_in_float32():
    _, first, table = rates(NONLINEAR_23, "broyden", "float32")
    assert first >= 22, table


@pytest.mark.slow
def test_98_of_100_perturbed_starts_of_the_mgh_systems_are_solved():
    share, _, table = rates(MGH_EQUATIONS, "broyden", "float64")
    assert share >= 0.98, table


@pytest.mark.slow
def test_98_of_100_perturbed_starts_of_the_mgh_objectives_are_solved():
    share, _, table = rates(MGH_UNCONSTRAINED, "bfgs", "float64")
    assert share >= 0.98, table


@pytest.mark.slow
def test_95_of_100_perturbed_starts_of_the_mgh_objectives_are_solved_in_float32():
    share, _, table = rates(MGH_UNCONSTRAINED, "bfgs", "float32")
    assert share >= 0.95, table


@pytest.mark.slow
def test_90_of_100_perturbed_starts_of_the_least_squares_objectives_are_solved():
    """With Meyer and Osborne 1, which defeat every quasi-Newton method that squares their residuals."""
    share, _, table = rates(MGH_LEAST_SQUARES, "bfgs", "float64")
    assert share >= 0.90, table


@pytest.mark.slow
@pytest.mark.parametrize(
    "problems, solver_name, dtype",
    [
        (NONLINEAR_23, "broyden", "float64"),
        (NONLINEAR_23, "broyden", "float32"),
        (MGH_EQUATIONS, "broyden", "float64"),
        (MGH_UNCONSTRAINED, "bfgs", "float64"),
        (MGH_UNCONSTRAINED, "bfgs", "float32"),
    ],
    ids=["systems", "systems, float32", "mgh systems", "mgh objectives", "mgh objectives, float32"],
)
def test_what_is_called_a_success_is_one_everywhere(problems, solver_name, dtype):
    assert liars(problems, solver_name, dtype) == {}
