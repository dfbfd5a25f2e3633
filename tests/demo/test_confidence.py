"""Least squares on NIST's regressions: certified values from both starts, and bootstrap refits against SciPy's."""

import jax
import numpy as np
import pytest
from scipy import optimize

from jaxopt_lite.demo import confidence, regression
from jaxopt_lite.demo.nist import read
from jaxopt_lite.demo.programs import Compiler

pytestmark = pytest.mark.hardly_optimized

NAMES = sorted(regression.MODELS)
DIGITS = 8
DIGITS_OF_ERRORS = 6


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in confidence.SUBJECTS])
def test_fits_from_both_starts_have_the_certified_digits(name):
    dataset = read(name)
    check_fits(dataset, jax.jit(confidence.solver(dataset)))


def check_fits(dataset, solve):
    solution, errors = confidence.fit(dataset, solve)
    assert solution.success.all(), solution.summary()
    assert (confidence.digits(solution.x, dataset.parameters) >= DIGITS).all()
    assert (confidence.digits(errors, dataset.standard_deviations) >= DIGITS_OF_ERRORS).all()
    if dataset.name in regression.POSITIVE:
        assert (np.asarray(solution.active) == 0).all()


@pytest.mark.slow  # of one of them a quick test, in `test_demonstration.py`, asks the program of the demonstration
@pytest.mark.parametrize("name", confidence.SUBJECTS)
def test_fits_and_refits_are_one_program(name):
    dataset = read(name)
    b = dataset.parameters
    with Compiler(hurried=True) as compiler:
        solve = compiler.begin(name, 20, confidence.solver(dataset), b, dataset.y, 1e-11)
    check_fits(dataset, solve)
    check_refits(dataset, solve)


def check_refits(dataset, solve):
    """20 refits are SciPy's least squares, to a thousandth of a standard error."""
    b = dataset.parameters
    y = regression.bootstrap(dataset, b, count=20, seed=7)
    solution = solve(np.broadcast_to(b, (20, len(b))), y, 1e-9)
    assert solution.success.all()
    A = regression.independent_directions(dataset, b)
    errors = jax.jit(lambda z, y: y - regression.MODELS[dataset.name](b + A @ z, dataset.x))
    slopes = jax.jit(jax.jacfwd(errors))
    tight = {"xtol": 1e-12, "gtol": 1e-12, "ftol": 1e-15}
    for k in range(20):
        expected = optimize.least_squares(errors, np.zeros(len(b)), slopes, args=(y[k],), **tight)
        np.testing.assert_allclose(np.linalg.solve(A, solution.x[k] - b), expected.x, atol=1e-5)
