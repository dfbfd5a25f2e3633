"""Curves of four parameters and noisy data from them: what `benchmarks.curve_fits` fits. Solves nothing.

Starts are guessed from the data of each fit, as people do: the true parameters are not used. The bounds are such as one
knows beforehand, and keep between 1% and 20% of the fits of a kind at a bound, where the truth is near it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

__all__ = ["CURVES", "TIMES", "Curve", "Fits", "draw"]

POINTS, _NOISE = 50, 0.05
TIMES = np.linspace(0.05, 5, POINTS)


class Curve(NamedTuple):
    """A model with what is known about its parameters.

    `model(xp, t, *b)` with the functions of xp, NumPy or jax.numpy; the true parameters are drawn uniformly from
    `truth`; `guess(y)` is a start for data `[fits, points]`.
    """

    model: Callable
    truth: tuple[tuple[float, float], ...]
    bounds: tuple[tuple[float, float], ...]
    guess: Callable[[np.ndarray], tuple]


def _decay(xp: Any, t, height, rate, offset, slope):
    return height * xp.exp(-rate * t) + offset + slope * t


def _peak(xp: Any, t, height, center, width, offset):
    return height * xp.exp(-0.5 * ((t - center) / width) ** 2) + offset


def _logistic(xp: Any, t, height, steepness, middle, offset):
    return height / (1 + xp.exp(-steepness * (t - middle))) + offset


def _hill(xp: Any, t, height, middle, exponent, offset):
    """Michaelis-Menten saturation with Hill's exponent."""
    power = xp.abs(t / middle) ** exponent
    return height * power / (1 + power) + offset


def _ends(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the first and of the last five points."""
    return y[:, :5].mean(axis=1), y[:, -5:].mean(axis=1)


def _rise(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The height of a step, where half of it is first reached, and its foot."""
    foot, top = y.min(axis=1), y.max(axis=1)
    middle = TIMES[np.argmax(y >= ((foot + top) / 2)[:, None], axis=1)]
    return top - foot, middle, foot


def _guess_decay(y: np.ndarray) -> tuple:
    first, last = _ends(y)
    return first - last, 1.0, last, 0.0


def _guess_peak(y: np.ndarray) -> tuple:
    foot = np.median(y, axis=1)
    above = y > ((foot + y.max(axis=1)) / 2)[:, None]  # a peak is 2.35 widths wide at half its height
    return y.max(axis=1) - foot, TIMES[np.argmax(y, axis=1)], above.mean(axis=1) * np.ptp(TIMES) / 2.35, foot


def _guess_logistic(y: np.ndarray) -> tuple:
    height, middle, foot = _rise(y)
    return height, 3.0, middle, foot


def _guess_hill(y: np.ndarray) -> tuple:
    height, middle, foot = _rise(y)
    return height, middle, 2.0, foot


CURVES = {
    "decay": Curve(_decay, ((2, 5), (0.7, 2), (0, 1), (0, 0.3)), ((0.1, 20), (0.2, 10), (0, 5), (0, 2)), _guess_decay),
    "peak": Curve(
        _peak, ((1, 4), (1.5, 3.5), (0.2, 0.8), (0, 0.3)), ((0.1, 20), (0, 5), (0.05, 3), (0, 5)), _guess_peak
    ),
    "logistic": Curve(
        _logistic, ((1, 4), (1.5, 5), (1.5, 3.5), (0, 0.5)), ((0.1, 20), (0.1, 20), (0, 5), (0, 5)), _guess_logistic
    ),
    "hill": Curve(
        _hill, ((1.5, 4), (0.7, 1.8), (1, 4), (0, 0.5)), ((0.1, 20), (0.05, 10), (1, 10), (0, 5)), _guess_hill
    ),
}


class Fits(NamedTuple):
    """Data `[fits, points]` of one kind of curve, starts `[fits, 4]`, and the bounds `[4]`."""

    curve: Curve
    y: Float[np.ndarray, "fits points"]
    starts: Float[np.ndarray, "fits 4"]
    lower: Float[np.ndarray, " 4"]
    upper: Float[np.ndarray, " 4"]
    truth: Float[np.ndarray, "fits 4"]

    def residuals(self, b, y):
        """The residuals of one fit, for JAX."""
        return self.curve.model(jnp, TIMES, *b) - y


def draw(name: str, count: int) -> Fits:
    """The same data in every run; a larger draw begins with those of a smaller one."""
    curve = CURVES[name]
    rng, noise = np.random.default_rng(0), np.random.default_rng(1)
    low, high = np.array(curve.truth, float).T
    b = low + (high - low) * rng.random((count, len(low)))
    y = curve.model(np, TIMES, *b.T[..., None]) + _NOISE * noise.standard_normal((count, POINTS))
    guesses = np.stack(np.broadcast_arrays(*curve.guess(y)), axis=1)
    lower, upper = np.array(curve.bounds, float).T
    return Fits(curve, y, guesses, lower, upper, b)
