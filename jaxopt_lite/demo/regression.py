"""NIST's nonlinear regressions as minimisation: data, models, certified answers. Imports JAX and NumPy only.

Each data set fits a model f(x; b) to m observations y by least squares and comes with two starts and with
parameters that NIST certifies to 11 digits. Two choices bring very different data sets within reach of one
solver setting.

*Unknowns.* The parameters of one model differ by up to eight orders of magnitude, so the solver sees u with
b = scale * u and scale = |start|: every component starts at +1 or -1. Nothing but the start is used.

*Objective.* The sum of squares S(b) = sum (y - f(x; b))² has the square of y's unit, so that no gradient
tolerance means the same twice. `sum_of_squares` takes it in units of the data's own scatter, the sum of (y -
mean y)². Use it from far starts, with a tight tolerance: the best fits leave 1e-5 of the scatter
and less, and a gradient of 1e-6 can then be digits away from the minimiser, one of 1e-10 is not.
`negative_log_likelihood`, m/2 log S(b) + constant, has the same minimiser and no unit at all: it is the
likelihood of normal errors of unknown variance, its Hessian is roughly the inverse covariance of the
estimates, and a gradient g displaces them by roughly covariance * g, so that an ordinary tolerance serves.
But from a far start the logarithm is more easily drawn to a plateau, and where the estimates are very sharp
(MGH10) rounding alone leaves a gradient of 1e-4 to 1e-2. Both want float64.

Sources: Statistical Reference Datasets, National Institute of Standards and Technology, public domain;
G. A. F. Seber, C. J. Wild, "Nonlinear Regression" (1989), section 2.2 (likelihood concentrated in the
variance).
"""

import re
from collections.abc import Callable
from importlib import resources
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

HEADER = "NIST/ITL StRD"


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


class Dataset(NamedTuple):
    """One regression with NIST's certified answer."""

    name: str
    level: str  # of difficulty, as NIST rates it: "lower", "average" or "higher"
    x: Float[np.ndarray, " m"]
    y: Float[np.ndarray, " m"]
    starts: Float[np.ndarray, "2 k"]
    parameters: Float[np.ndarray, " k"]
    standard_deviations: Float[np.ndarray, " k"]
    residual_sum_of_squares: float
    degrees_of_freedom: int


def read(name: str) -> Dataset:
    """Reads a data set shipped with the package.

    Args:
        name: one of `MODELS`, such as "Thurber".

    Returns:
        The data set.

    Raises:
        ValueError: if no such data set is shipped.

    Example:
        >>> read("Misra1a").starts.tolist()
        [[500.0, 0.0001], [250.0, 0.0005]]

    Source: NIST StRD, nonlinear regression.
    """
    if name not in MODELS:
        raise ValueError(f"name: expected one of {sorted(MODELS)}, got {name!r}")
    file = resources.files("jaxopt_lite.demo") / "data" / "nist" / f"{name}.dat"
    return parse(file.read_text(encoding="ascii"), name)


def parse(text: str, name: str) -> Dataset:
    """Reads the text of a NIST StRD nonlinear regression file with one predictor.

    The header says which lines hold what; a file that breaks its own word is refused.

    Args:
        text: the whole file.
        name: the data set's name, which the file must bear.

    Returns:
        The data set.

    Raises:
        ValueError: if the text is not such a file, bears another name, is cut short, or contradicts its
            header.

    Example:
        >>> parse("time,volume", "Misra1a")
        Traceback (most recent call last):
        ValueError: Misra1a: expected a NIST StRD file that begins with 'NIST/ITL StRD', got 'time,volume'

    Source: NIST StRD file format, stated in every file's header.
    """
    lines = text.splitlines()
    if not lines or lines[0].strip() != HEADER:
        found = lines[0] if lines else "an empty text"
        raise ValueError(f"{name}: expected a NIST StRD file that begins with {HEADER!r}, got {found!r}")
    bears = _find(text, r"Dataset Name:\s*(\S+)", name)
    if bears != name:
        raise ValueError(f"{name}: expected the file of that data set, got the file of {bears!r}")
    table = _block(lines, text, "Starting Values", 4, name)
    data = _block(lines, text, "Data", 2, name)
    dataset = Dataset(
        name=name,
        level=_find(text, r"(Lower|Average|Higher) Level of Difficulty", name).lower(),
        x=data[:, 1],
        y=data[:, 0],
        starts=table[:, :2].T,
        parameters=table[:, 2],
        standard_deviations=table[:, 3],
        residual_sum_of_squares=float(_find(text, r"Residual Sum of Squares:\s*([\d.E+-]+)", name)),
        degrees_of_freedom=len(data) - len(table),
    )
    _check_counts(dataset, text)
    return dataset


def residuals(dataset: Dataset, b: Float[Array | np.ndarray, " k"]) -> Float[Array, " m"]:
    """Observed less fitted values at parameters in the data's own units.

    Args:
        dataset: the data set.
        b: [k] parameters, such as `dataset.parameters`.

    Returns:
        y - f(x; b), [m].

    Example:
        >>> rat42 = read("Rat42")
        >>> round(float((residuals(rat42, rat42.parameters) ** 2).sum()), 3)
        8.057
    """
    return dataset.y - MODELS[dataset.name](jnp.asarray(b), dataset.x)


def initial(dataset: Dataset, start: int = 0) -> tuple[Float[np.ndarray, " k"], dict[str, np.ndarray]]:
    """Scaled start and default arguments of either objective.

    Args:
        dataset: the data set.
        start: 0 or 1, which of NIST's two starts; default 0, the farther one.

    Returns:
        `u` [k], each component +1 or -1, and `args`, {"x": [m], "y": [m], "scale": [k]}. The parameters are
        `args["scale"] * u`.

    Raises:
        ValueError: if `start` is neither 0 nor 1.

    Example:
        >>> u, args = initial(read("Kirby2"))
        >>> u.tolist()
        [1.0, -1.0, 1.0, -1.0, 1.0]
    """
    if start not in (0, 1):
        raise ValueError(f"start: expected 0 or 1, got {start}; NIST gives two starts")
    b = dataset.starts[start]
    scale = np.where(b == 0, 1.0, np.abs(b))  # a start of 0 has no magnitude to offer
    return b / scale, {"x": dataset.x, "y": dataset.y, "scale": scale}


def sum_of_squares(dataset: Dataset) -> Callable:
    """Sum of squared residuals in units of the data's scatter: 1 - R², the unexplained share.

    Args:
        dataset: the data set; its observations fix the unit.

    Returns:
        `fun(u, args)`, a scalar, for scaled parameters `u` [k] and `args` as `initial` gives them.

    Example:
        >>> rat42 = read("Rat42")
        >>> u, args = initial(rat42, start=1)
        >>> round(float(sum_of_squares(rat42)(u, args)), 3)
        0.033
    """
    model, scatter = MODELS[dataset.name], float(np.sum((dataset.y - dataset.y.mean()) ** 2))

    def fun(u, args):
        return jnp.sum((args["y"] - model(args["scale"] * u, args["x"])) ** 2) / scatter

    return fun


def negative_log_likelihood(dataset: Dataset) -> Callable:
    """Half the number of observations times the logarithm of `sum_of_squares`: least squares, free of units.

    Args:
        dataset: the data set.

    Returns:
        `fun(u, args)`, a scalar, for scaled parameters `u` [k] and `args` as `initial` gives them.

    Example:
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


def bootstrap(dataset: Dataset, count: int, seed: int = 0) -> Float[np.ndarray, "count m"]:
    """Observations resampled by their residuals around the certified fit: one regression a row.

    Residuals are resampled, not cases, because the experimenter chose the x: the design stays as it was, and
    no resample loses the few points that pin a parameter down (the smallest sets have six). Like NIST's
    standard deviations this takes the errors to be independent with one variance, so that the spread of the
    refitted parameters can be held against the certified deviations. A nonlinear model's residuals need not
    add to zero, so they are centred; fitting has shrunk them, so they are widened by sqrt(m / (m - k)).

    Args:
        dataset: the data set.
        count: how many resamples.
        seed: of NumPy's generator; default 0. A longer run begins with the resamples of a shorter one.

    Returns:
        [count, m] observations, each row to be used as `args["y"]`.

    Raises:
        ValueError: if `count` is negative.

    Example:
        >>> bootstrap(read("Rat42"), count=100).shape
        (100, 9)

    Source: B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 9.
    """
    if count < 0:
        raise ValueError(f"count: expected a number of resamples >= 0, got {count}")
    errors = np.asarray(residuals(dataset, dataset.parameters))
    fitted, m = dataset.y - errors, len(errors)
    widened = (errors - errors.mean()) * np.sqrt(m / dataset.degrees_of_freedom)
    return fitted + widened[np.random.default_rng(seed).integers(m, size=(count, m))]


def _find(text: str, pattern: str, name: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"{name}: expected a header entry like {pattern!r}, got none; fetch the file again")
    return found[1]


def _check_counts(dataset: Dataset, text: str) -> None:
    """Rows of data and parameters must be as many as the header's summary implies.

    The summary's own "Degrees of Freedom" is not used: Rat43's says 9, where 15 observations, 4 parameters
    and the residual standard deviation printed beside it all say 11.
    """
    name, m, freedom = dataset.name, len(dataset.y), dataset.degrees_of_freedom
    stated = int(_find(text, r"Number of Observations:\s*(\d+)", name))
    deviation = float(_find(text, r"Residual Standard Deviation:\s*([\d.E+-]+)", name))
    if m != stated:
        raise ValueError(f"{name}: expected {stated} observations, got {m} rows; fetch the file again")
    if freedom < 1 or not np.isclose(dataset.residual_sum_of_squares, freedom * deviation**2, rtol=1e-9):
        raise ValueError(
            f"{name}: expected residual sum of squares = degrees of freedom * standard deviation ** 2, got "
            f"{dataset.residual_sum_of_squares}, {freedom} and {deviation}; fetch the file again"
        )


def _block(lines, text: str, title: str, width: int, name: str) -> Float[np.ndarray, "row width"]:
    """The numbers in the lines that the header gives to `title`, without a parameter's label ("b1 =")."""
    first = int(_find(text, rf"{title}\s+\(lines\s+(\d+)", name))
    last = int(_find(text, rf"{title}\s+\(lines\s+\d+\s+to\s+(\d+)", name))
    if len(lines) < last:
        raise ValueError(
            f"{name}: expected data up to line {last}, got {len(lines)} lines; fetch the file again"
        )
    rows = []
    for number, line in enumerate(lines[first - 1 : last], start=first):
        row = [_number(word) for word in line.split("=")[-1].split()]
        if len(row) != width or not np.all(np.isfinite(row)):
            raise ValueError(
                f"{name}: expected {width} finite numbers in line {number}, got {line.strip()!r}"
            )
        rows.append(row)
    return np.array(rows)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")
