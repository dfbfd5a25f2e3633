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

from jaxopt_lite.lanes.arithmetic import take_where

__all__ = ["End", "Search", "accepts", "is_endless", "is_exhausted", "start", "tighten"]

SUFFICIENT_DECREASE = 1e-4
CURVATURE = 0.9
MAX_TRIALS = 40
_KEEP_OFF = 0.1  # a trial stays this fraction of the bracket away from its ends
_AFTER_NONFINITE = 0.2


class End(NamedTuple):
    """One end of the bracket: a step, φ there and φ' there."""

    step: Float[Array, "*L"]
    f: Float[Array, "*L"]
    slope: Float[Array, "*L"]


class Search(NamedTuple):
    """The trial step and the bracket around an acceptable one: `low` is good enough but too short, `high` too long."""

    trial: Float[Array, "*L"]
    low: End
    high: End
    trials: Int[Array, "*L"]


def start(trial, f, slope) -> Search:
    """A search from α = 0, where φ is `f` and φ' is `slope`, with `trial` as the first step."""
    zero, infinite = jnp.zeros_like(f), jnp.full_like(f, jnp.inf)
    return Search(trial, End(zero, f, slope), End(infinite, infinite, zero), jnp.zeros(f.shape, jnp.int32))


def accepts(alpha, f, slope, f_trial, slope_trial) -> tuple[Bool[Array, "*L"], Bool[Array, "*L"]]:
    """Whether a trial is low enough, and whether it is long enough. An acceptable one is both.

    Differences of f below its `_noise` mean nothing: there the approximate Wolfe condition decides, by slopes.
    """
    decrease = f_trial <= f + SUFFICIENT_DECREASE * alpha * slope
    approximate = (f_trial <= f + _noise(f)) & (slope_trial <= (2 * SUFFICIENT_DECREASE - 1) * slope)
    return decrease | approximate, slope_trial >= CURVATURE * slope


def _noise(f):
    """How wrong f may be. A sum of terms that nearly cancel is far less accurate than its last digit."""
    return jnp.finfo(f.dtype).eps ** (2 / 3) * jnp.abs(f)


def is_endless(search: Search) -> Bool[Array, "*L"]:
    """Whether the search has used up its trials, this being the last, without finding a step too long."""
    return jnp.isposinf(search.high.step) & (search.trials + 1 >= MAX_TRIALS)


def is_exhausted(search: Search, f, slope) -> Bool[Array, "*L"]:
    """Whether more trials are useless: there have been too many, or the bracket promises no visible change of f."""
    promise = (search.high.step - search.low.step) * -slope
    return (search.trials >= MAX_TRIALS) | (promise <= 1e-3 * jnp.finfo(f.dtype).eps * jnp.abs(f))


def tighten(search: Search, low_enough, f_trial, slope_trial) -> Search:
    """Put a rejected trial into the bracket and choose the next one."""
    tried = End(search.trial, f_trial, slope_trial)
    low = take_where(low_enough, tried, search.low)
    high = take_where(low_enough, search.high, tried)
    between = _interpolate(low, high, bisect=(search.trials & 3) == 3)
    trial = jnp.where(jnp.isfinite(high.step), between, _extrapolate(search.low, tried))
    return Search(trial, low, high, search.trials + 1)


def _extrapolate(low: End, tried: End):
    """The secant's zero of φ', kept between 2 and 10 times the trial."""
    gain = low.slope - tried.slope
    secant = tried.step + (tried.step - low.step) * tried.slope / jnp.where(gain < 0, gain, -1)
    secant = jnp.where(gain < 0, secant, jnp.inf)
    return jnp.clip(secant, 2 * tried.step, 10 * tried.step)


def _interpolate(low: End, high: End, bisect):
    """The minimum of the cubic through both ends, or the middle where it has none. Nocedal and Wright, (3.59).

    Kept off the ends; every fourth trial halves the bracket, so that it always shrinks.
    """
    width = high.step - low.step
    usable = jnp.isfinite(high.f) & jnp.isfinite(high.slope)
    d1 = low.slope + high.slope - 3 * (high.f - low.f) / width
    d2 = jnp.sqrt(jnp.maximum(d1 * d1 - low.slope * high.slope, 0))
    cubic = high.step - width * (high.slope + d2 - d1) / (high.slope - low.slope + 2 * d2)
    trial = jnp.where(jnp.isfinite(cubic) & ~bisect, cubic, low.step + width / 2)
    trial = jnp.clip(trial, low.step + _KEEP_OFF * width, high.step - _KEEP_OFF * width)
    return jnp.where(usable, trial, low.step + _AFTER_NONFINITE * width)
