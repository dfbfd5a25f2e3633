"""A bracketing line search as a state machine on lanes: one trial a step, no inner loop.

The next trial comes from what the last one showed, so that a solver's step is always exactly one evaluation and lanes
in different stages of their searches run side by side. The search works on φ(α) = f(x + α p) and accepts by the Wolfe
conditions, or by the approximate ones near the optimum, where differences of φ drown in rounding errors and only
slopes can be trusted.

Sources: Nocedal and Wright, Numerical Optimization, 2nd ed., section 3.5; Hager and Zhang, SIAM J. Optim. 16 (2005),
"A new conjugate gradient method with guaranteed descent and an efficient line search", equations (22) and (23).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = ["MAX_TRIALS", "Search", "accepts", "start", "tighten"]

SUFFICIENT_DECREASE = 1e-4
CURVATURE = 0.9
MAX_TRIALS = 40
_KEEP_OFF = 0.1  # a trial stays this fraction of the bracket away from its ends
_AFTER_NONFINITE = 0.2


class Search(NamedTuple):
    """The trial step and the bracket around an acceptable one: `low` is good enough but too short, `high` too long."""

    trial: Float[Array, "*L"]
    low: Float[Array, "*L"]
    f_low: Float[Array, "*L"]
    slope_low: Float[Array, "*L"]
    high: Float[Array, "*L"]
    f_high: Float[Array, "*L"]
    slope_high: Float[Array, "*L"]
    trials: Int[Array, "*L"]


def start(trial, f, slope) -> Search:
    """A search from α = 0, where φ is `f` and φ' is `slope`, with `trial` as the first step."""
    zero, infinite = jnp.zeros_like(f), jnp.full_like(f, jnp.inf)
    return Search(trial, zero, f, slope, infinite, infinite, zero, jnp.zeros(f.shape, jnp.int32))


def accepts(alpha, f, slope, noise, f_trial, slope_trial) -> tuple[Bool[Array, "*L"], Bool[Array, "*L"]]:
    """Whether a trial is low enough, and whether it is long enough. An acceptable one is both.

    `noise` is the size of the rounding errors in f. Within it the approximate Wolfe condition decides, by slopes.
    """
    decrease = f_trial <= f + SUFFICIENT_DECREASE * alpha * slope
    approximate = (f_trial <= f + noise) & (slope_trial <= (2 * SUFFICIENT_DECREASE - 1) * slope)
    return decrease | approximate, slope_trial >= CURVATURE * slope


def tighten(search: Search, low_enough, f_trial, slope_trial) -> Search:
    """Put a rejected trial into the bracket and choose the next one."""
    low, high = search, search
    low = [jnp.where(low_enough, new, old) for new, old in zip(
        (search.trial, f_trial, slope_trial), (search.low, search.f_low, search.slope_low), strict=True)]  # fmt: skip
    high = [jnp.where(low_enough, old, new) for new, old in zip(
        (search.trial, f_trial, slope_trial), (search.high, search.f_high, search.slope_high), strict=True)]  # fmt: skip
    longer = _extrapolate(search, slope_trial)
    between = _interpolate(*low, *high, bisect=search.trials % 3 == 2)
    trial = jnp.where(jnp.isfinite(high[0]), between, longer)
    return Search(trial, *low, *high, search.trials + 1)


def _extrapolate(search: Search, slope_trial):
    """The secant's zero of φ', kept between 2 and 10 times the trial."""
    gain = search.slope_low - slope_trial
    secant = search.trial + (search.trial - search.low) * slope_trial / jnp.where(gain < 0, gain, -1)
    secant = jnp.where(gain < 0, secant, jnp.inf)
    return jnp.clip(secant, 2 * search.trial, 10 * search.trial)


def _interpolate(low, f_low, slope_low, high, f_high, slope_high, bisect):
    """The minimum of the cubic through both ends, or the secant's zero of φ' where the cubic has none.

    Kept off the ends; every third trial halves the bracket, so that it always shrinks. Nocedal and Wright, (3.59).
    """
    width = high - low
    usable = jnp.isfinite(f_high) & jnp.isfinite(slope_high)
    d1 = slope_low + slope_high - 3 * (f_high - f_low) / width
    d2 = jnp.sqrt(jnp.maximum(d1 * d1 - slope_low * slope_high, 0))
    cubic = high - width * (slope_high + d2 - d1) / (slope_high - slope_low + 2 * d2)
    trial = jnp.where(jnp.isfinite(cubic), cubic, low + width / 2)
    trial = jnp.where(bisect, low + width / 2, trial)
    trial = jnp.clip(trial, low + _KEEP_OFF * width, high - _KEEP_OFF * width)
    return jnp.where(usable, trial, low + _AFTER_NONFINITE * width)
