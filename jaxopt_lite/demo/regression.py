"""NIST's nonlinear regressions as minimisation: models, objectives, resampling. Imports JAX and NumPy only.

Each data set fits a model f(x; b) to m observations y by least squares and comes with two starts and with
parameters that NIST certifies to 11 digits (`nist.py`). Two choices bring very different data sets within reach of
one solver setting.

*Unknowns.* The parameters of one model differ by up to eight orders of magnitude, so the solver sees u with
b = center + directions @ u. From a start the center is zero and the directions are the axes, each |start| long: every
component starts at +1 or -1, and nothing but the start is used (`initial`). *Near a fit*, where the bootstrap's refits
begin, better unknowns are known: the center is the fit and directions @ directionsᵀ the covariance of the estimates, so
that one unit of u is one standard error (`near`).

*Objective.* The sum of squares S(b) = sum (y - f(x; b))² has the square of y's unit, so that no gradient
tolerance means the same twice. `sum_of_squares` takes it in a unit of the data's own. From a far start that is their
scatter, the sum of (y - mean y)²; it wants a tight tolerance, for the best fits leave 1e-5 of the scatter and less, and
a gradient of 1e-6 can then be digits away from the minimiser, one of 1e-10 is not. Near a fit it is 2s², twice the
variance of the errors: the Hessian is roughly the identity, so that BFGS needs few steps and its tolerance is an error
in standard errors. What is seen from where are numbers, not functions: one compiled solve serves both.

`negative_log_likelihood`, m/2 log S(b) + constant, has the same minimiser and no unit at all: it is the
likelihood of normal errors of unknown variance, its Hessian is roughly the inverse covariance of the
estimates, and a gradient g displaces them by roughly covariance * g, so that an ordinary tolerance serves.
But from a far start the logarithm is more easily drawn to a plateau, and where the estimates are very sharp
(MGH10) rounding alone leaves a gradient of 1e-4 to 1e-2. Both want float64.

Source: G. A. F. Seber, C. J. Wild, "Nonlinear Regression" (1989), section 2.2 (likelihood concentrated in the
variance).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_lite.demo.nist import Dataset

__all__ = [
    "MODELS",
    "bootstrap",
    "independent_directions",
    "initial",
    "near",
    "negative_log_likelihood",
    "residuals",
    "sum_of_squares",
]


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


@partial(jax.jit, static_argnames="name")  # one program for both; without it each operation would be one
def _values_and_slopes(name: str, b, x):
    model = partial(MODELS[name], x=x)
    return model(b), jax.jacfwd(model)(b)


def initial(dataset: Dataset, start: int = 0) -> tuple[Float[np.ndarray, " k"], dict[str, np.ndarray]]:
    """A start, and the arguments of either objective as seen from it.

    Args:
        dataset: the data set.
        start: 0 or 1, which of NIST's two starts; default 0, the farther one.

    Returns:
        `u` [k], each component +1 or -1, and `args`, {"x": [m], "y": [m], "center": [k], "directions": [k, k],
        "unit": []}. The parameters are `args["center"] + args["directions"] @ u`.

    Raises:
        ValueError: if `start` is neither 0 nor 1.

    Example:
        >>> from jaxopt_lite.demo.nist import read
        >>> u, args = initial(read("Kirby2"))
        >>> u.tolist()
        [1.0, -1.0, 1.0, -1.0, 1.0]
    """
    if start not in (0, 1):
        raise ValueError(f"start: expected 0 or 1, got {start}; NIST gives two starts")
    b = dataset.starts[start]
    scale = np.where(b == 0, 1.0, np.abs(b))  # a start of 0 has no magnitude to offer
    scatter = np.sum((dataset.y - dataset.y.mean()) ** 2)
    return b / scale, _args(dataset, np.zeros(len(b)), np.diag(scale), scatter)


def near(dataset: Dataset, b: Float[np.ndarray, " k"]) -> dict[str, np.ndarray]:
    """The arguments of either objective as seen from a fit, in standard errors. The fit itself is u = 0.

    Args:
        dataset: the data set.
        b: [k] its fitted parameters.

    Returns:
        `args` as `initial` gives them, whose directions are the `independent_directions`. Other observations of the
        same design take the place of `args["y"]`.

    Example:
        >>> from jaxopt_lite.demo.nist import read
        >>> rat42 = read("Rat42")
        >>> fun, args = sum_of_squares(rat42), near(rat42, rat42.parameters)
        >>> float(fun(np.zeros(3), args)) < float(fun(np.ones(3), args))
        True
    """
    return _args(dataset, b, independent_directions(dataset, b), 2 * _variance(dataset, residuals(dataset, b)))


def _args(dataset: Dataset, center, directions, unit) -> dict[str, np.ndarray]:
    return {"x": dataset.x, "y": dataset.y, "center": center, "directions": directions, "unit": np.asarray(unit)}


def _variance(dataset: Dataset, errors) -> float:
    """s², that of the errors."""
    return float(np.sum(np.asarray(errors) ** 2)) / dataset.degrees_of_freedom


def sum_of_squares(dataset: Dataset) -> Callable:
    """Sum of squared residuals, in the unit that the arguments say.

    From `initial` it is 1 - R², the share of the scatter that stays unexplained.

    Args:
        dataset: the data set.

    Returns:
        `fun(u, args)`, a scalar, for unknowns `u` [k] and `args` as `initial` or `near` gives them.

    Example:
        >>> from jaxopt_lite.demo.nist import read
        >>> rat42 = read("Rat42")
        >>> u, args = initial(rat42, start=1)
        >>> round(float(sum_of_squares(rat42)(u, args)), 3)
        0.033
    """
    model = MODELS[dataset.name]

    def fun(u, args):
        # directions @ u, spelled out: for so small a matrix a sum is cheaper in a solver's loop than a matrix product.
        b = args["center"] + (args["directions"] * u).sum(axis=1)
        return jnp.sum((args["y"] - model(b, args["x"])) ** 2) / args["unit"]

    return fun


def negative_log_likelihood(dataset: Dataset) -> Callable:
    """Half the number of observations times the logarithm of `sum_of_squares`: least squares, free of units.

    Args:
        dataset: the data set.

    Returns:
        `fun(u, args)`, a scalar, for unknowns `u` [k] and `args` as `initial` gives them.

    Example:
        >>> from jaxopt_lite.demo.nist import read
        >>> rat42 = read("Rat42")
        >>> u, args = initial(rat42, start=1)
        >>> round(float(negative_log_likelihood(rat42)(u, args)), 1)
        -15.4

    Source: Seber and Wild (1989), section 2.2.
    """
    share, half = sum_of_squares(dataset), len(dataset.y) / 2

    def fun(u, args):
        return half * jnp.log(share(u, args))

    return fun


def independent_directions(dataset: Dataset, b: Float[np.ndarray, " k"]) -> Float[np.ndarray, "k k"]:
    """Directions in which the estimates vary independently, each one standard error long.

    Args:
        dataset: the data set.
        b: [k] fitted parameters.

    Returns:
        A [k, k], whose columns they are. A Aᵀ = s² (JᵀJ)⁻¹ is the covariance of the estimates, so that the norm of
        row i is the standard error of parameter i.

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
    add to zero, so they are centred; fitting has shrunk them, so they are widened by sqrt(m / (m - k)).

    Args:
        dataset: the data set.
        b: [k] its fitted parameters.
        count: how many resamples.
        seed: of NumPy's generator; default 0. A longer run begins with the resamples of a shorter one.

    Returns:
        [count, m] observations, each row to be used as `args["y"]`.

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
