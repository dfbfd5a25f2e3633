"""NIST's nonlinear regressions: models, bounds, residuals, resampling. Imports JAX and NumPy only.

Each data set fits a model f(x; b) to m observations y by least squares and comes with two starts, with parameters that
NIST certifies to 11 digits, and with their standard deviations (`nist.py`).

*Unknowns.* The parameters of one model differ by up to eight orders of magnitude. Least squares does not mind. Whether
an answer is good enough, though, is a question of standard errors, so an answer is certified as seen from *near* a
fit: b = center + directions @ z, where the center is the fit and directions @ directionsᵀ the covariance of the
estimates. One unit of z is one standard error.

*Objective.* The sum of squares S(b) = sum (y - f(x; b))² has the square of y's unit. Seen from near a fit it is
measured in 2s², twice the variance of the errors: its Hessian is roughly the identity, and a slope is an error in
standard errors. The place it is seen from is given by numbers, not functions: one compiled certificate serves all fits
of a data set.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_lite.demo.nist import Dataset

__all__ = ["MODELS", "POSITIVE", "bootstrap", "independent_directions", "near", "residuals", "sum_of_squares"]


def _polynomial(coefficients, x):
    """Horner's rule, coefficients from the constant up."""
    *lower, value = coefficients
    for coefficient in reversed(lower):
        value = value * x + coefficient
    return value


MODELS: dict[str, Callable] = {
    "Misra1a": lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
    "Chwirut2": lambda b, x: jnp.exp(-b[0] * x) / (b[1] + b[2] * x),
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "Kirby2": lambda b, x: _polynomial(b[:3], x) / _polynomial((1, *b[3:]), x),
    "Hahn1": lambda b, x: _polynomial(b[:4], x) / _polynomial((1, *b[4:]), x),
    "MGH17": lambda b, x: b[0] + b[1] * jnp.exp(-x * b[3]) + b[2] * jnp.exp(-x * b[4]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / jnp.pi,
    "Thurber": lambda b, x: _polynomial(b[:4], x) / _polynomial((1, *b[4:]), x),
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * jnp.exp(b[1] / (x + b[2])),
    "Rat42": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Eckerle4": lambda b, x: b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "BoxBOD": lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
}

POSITIVE = frozenset({"Misra1a", "Chwirut2", "DanWood", "MGH09", "Rat42", "Rat43", "Eckerle4", "BoxBOD"})
"""The models whose parameters are all amounts, rates and widths, which are not negative: 0 is a lower bound."""


def residuals(dataset: Dataset, b: Float[Array | np.ndarray, " k"]) -> Float[Array, " m"]:
    """Observed less fitted values at parameters in the data's own units.

    Args:
        dataset: the data set.
        b: [k] parameters, such as `dataset.parameters`.

    Returns:
        y - f(x; b), [m].

    Example:
        >>> from jaxopt_lite.demo.nist import read
        >>> rat42 = read("Rat42")
        >>> round(float((residuals(rat42, rat42.parameters) ** 2).sum()), 3)
        8.057
    """
    return dataset.y - _values_and_slopes(dataset.name, jnp.asarray(b), dataset.x)[0]


@partial(jax.jit, static_argnames="name")  # one program for both, instead of one for each operation
def _values_and_slopes(name: str, b, x):
    model = partial(MODELS[name], x=x)
    return model(b), jax.jacfwd(model)(b)


def near(dataset: Dataset, b: Float[np.ndarray, " k"]) -> dict[str, np.ndarray]:
    """The arguments of `sum_of_squares` as seen from a fit, in standard errors. The fit itself is z = 0.

    Args:
        dataset: the data set.
        b: [k] its fitted parameters.

    Returns:
        {"x": [m], "y": [m], "center": [k], "directions": [k, k], "unit": []}, with the `independent_directions`. Other
        observations of the same design take the place of `args["y"]`.

    Example:
        >>> from jaxopt_lite.demo.nist import read
        >>> rat42 = read("Rat42")
        >>> fun, args = sum_of_squares(rat42), near(rat42, rat42.parameters)
        >>> float(fun(np.zeros(3), args)) < float(fun(np.ones(3), args))
        True
    """
    unit = np.asarray(2 * _variance(dataset, residuals(dataset, b)))
    directions = independent_directions(dataset, b)
    return {"x": dataset.x, "y": dataset.y, "center": b, "directions": directions, "unit": unit}


def _variance(dataset: Dataset, errors) -> float:
    """s², the variance of the errors."""
    return float(np.sum(np.asarray(errors) ** 2)) / dataset.degrees_of_freedom


def sum_of_squares(dataset: Dataset) -> Callable:
    """Sum of squared residuals, in the unit that the arguments give.

    Args:
        dataset: the data set.

    Returns:
        `fun(z, args)`, a scalar, for unknowns `z` [k] and `args` as `near` gives them.

    Example:
        >>> from jaxopt_lite.demo.nist import read
        >>> rat42 = read("Rat42")
        >>> args = near(rat42, rat42.parameters)
        >>> round(float(sum_of_squares(rat42)(np.zeros(3), args)), 3)  # half the degrees of freedom
        3.0
    """
    model = MODELS[dataset.name]

    def fun(z, args):
        # directions @ z, spelled out: for so small a matrix a sum is cheaper in a solver's loop than a matrix product.
        b = args["center"] + (args["directions"] * z).sum(axis=1)
        return jnp.sum((args["y"] - model(b, args["x"])) ** 2) / args["unit"]

    return fun


def independent_directions(dataset: Dataset, b: Float[np.ndarray, " k"]) -> Float[np.ndarray, "k k"]:
    """Directions in which the estimates vary independently, each one standard error long.

    Args:
        dataset: the data set.
        b: [k] fitted parameters.

    Returns:
        A [k, k], with one direction in each column. A Aᵀ = s² (JᵀJ)⁻¹ is the covariance of the estimates, so the
        norm of row i is the standard error of parameter i.

    Example:
        >>> from jaxopt_lite.demo.nist import read
        >>> rat42 = read("Rat42")
        >>> A = independent_directions(rat42, rat42.parameters)
        >>> bool(np.allclose(np.linalg.norm(A, axis=1), rat42.standard_deviations, rtol=1e-3))
        True

    Source: Seber and Wild (1989), section 2.1.2.
    """
    values, slopes = _values_and_slopes(dataset.name, jnp.asarray(b), dataset.x)
    J = np.asarray(slopes)
    size = np.linalg.norm(J, axis=0)  # parameters of very different sizes would spoil the inverse
    R = np.linalg.qr(J / size, mode="r")
    return np.sqrt(_variance(dataset, dataset.y - np.asarray(values))) * np.linalg.inv(R) / size[:, None]


def bootstrap(dataset: Dataset, b: Float[np.ndarray, " k"], count: int, seed: int = 0) -> Float[np.ndarray, "count m"]:
    """Observations resampled by their residuals around a fit: one regression a row.

    Residuals are resampled, not cases, because the experimenter chose the x: the design stays as it was, and
    no resample loses the few points that pin a parameter down (the smallest sets have six). Like NIST's
    standard deviations this takes the errors to be independent with one variance, so that the spread of the
    refitted parameters can be held against the certified deviations. A nonlinear model's residuals need not
    add to zero, so they are centered; fitting has shrunk them, so they are widened by sqrt(m / (m - k)).

    Args:
        dataset: the data set.
        b: [k] its fitted parameters.
        count: how many resamples.
        seed: seed of NumPy's generator; default 0. A longer run begins with the resamples of a shorter one.

    Returns:
        [count, m] observations; each row serves as `args["y"]`.

    Raises:
        ValueError: if `count` is negative.

    Example:
        >>> from jaxopt_lite.demo.nist import read
        >>> rat42 = read("Rat42")
        >>> bootstrap(rat42, rat42.parameters, count=100).shape
        (100, 9)

    Source: B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 9.
    """
    if count < 0:
        raise ValueError(f"count: expected a number of resamples >= 0, got {count}")
    errors = np.asarray(residuals(dataset, b))
    fitted, m = dataset.y - errors, len(errors)
    widened = (errors - errors.mean()) * np.sqrt(m / dataset.degrees_of_freedom)
    return fitted + widened[np.random.default_rng(seed).integers(m, size=(count, m))]
