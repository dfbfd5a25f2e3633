"""How far rounding may move the value of a function, found by evaluating it in slightly less exact arithmetic.

Every number that is rounded, including those of x, is changed by a small known fraction of itself, with a sign of its
own. What that does to the value, scaled down to the last digit of the dtype, is the error of evaluating it there. It is
far smaller than any value that means something. At a root or a stationary point, where terms cancel, it is all that is
left of them, and no solver gets below it. A pole is not taken for a root: within the last digits of x the value jumps
from one end of the range to the other, and a coarse change of x moves it no farther than a fine one.

Source: Parker, Monte Carlo Arithmetic, UCLA CSD-970002 (1997). Here the signs are orthogonal to each other instead of
random, so that few evaluations are enough, and they are the same for every problem.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxopt_lite.jaxprs import Equation, Interpreter, Scan, bind, branches, called

__all__ = ["is_rounding"]

_PROBES = 8  # evaluations, for which there are seven rows of signs that are orthogonal to each other
_MOST_SIGNS, _PERIOD, _STRIDE = 1024, 64, 5  # most signs of an array; number of offsets; step from one to the next
_UNITS = 16  # eps by which a number is changed: a pole shows, and curvature hardly does
_ENOUGH = 2  # errors: a value up to this is rounding. An error takes each rounding as eps, twice what it can be

_EXACT = {
    "abs", "and", "argmax", "argmin", "broadcast_in_dim", "ceil", "clamp", "concatenate", "copy", "cummax", "cummin",
    "dynamic_slice", "dynamic_update_slice", "floor", "gather", "iota", "max", "min", "neg",
    "optimization_barrier", "pad", "real", "imag", "reduce_max", "reduce_min", "reshape", "rev", "round", "scatter",
    "scatter-max", "scatter-min", "select_n", "sign", "slice", "sort", "split", "squeeze", "stack", "stop_gradient",
    "tile", "transpose", "unstack",
}  # fmt: skip
_SUMS = {
    "conv_general_dilated", "cumsum", "cumlogsumexp", "dot_general", "reduce_sum", "scatter-add", "scatter-sub",
}  # fmt: skip


def is_rounding(fun: Callable[[Array], Array], x: Float[Array, "n"]) -> Bool[Array, ""]:
    """Whether every number of fun(x) is no larger than its rounding error, from x and from inside `fun`.

    `fun` returns a vector. A loop of unknown length or a linear solve inside it counts as one operation.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.lanes.rounding import is_rounding
        >>> [bool(is_rounding(lambda x: x**2 - 2e8, jnp.float32([x]))) for x in (14142.136, 14142.2)]
        [True, False]
    """
    closed, shape = jax.make_jaxpr(fun, return_shape=True)(x)
    eps = float(jnp.finfo(x.dtype).eps)

    def probe(carry, factors):
        value, total = carry
        arithmetic = _Arithmetic(factors)
        (moved,) = arithmetic.run(closed, [arithmetic.rounded(x)])
        value = jnp.where(factors[0] == 1, moved, value)
        change = (moved - value) / jnp.where(value == 0, 1, value)  # relative, so that no square overflows
        return (value, total + jnp.where(jnp.isfinite(moved), change, jnp.nan) ** 2), None

    # The first round changes nothing and gives the value itself, so that the program holds the function only once.
    signs = np.concatenate([np.zeros_like(_signs()[:1]), _signs()])
    factors = jnp.asarray(1 + _UNITS * eps * signs, x.dtype)
    start = jnp.zeros(shape.shape, shape.dtype)
    (value, total), _ = lax.scan(probe, (start, start), factors)
    error = jnp.sqrt(total / _PROBES) / _UNITS
    return jnp.all((value == 0) | (jnp.isfinite(value) & (_ENOUGH * error >= 1)))


class _Arithmetic(Interpreter):
    """Evaluates jaxprs, and multiplies what is rounded by factors near 1, different ones for each number."""

    def __init__(self, factors: Float[Array, "signs"]):
        self._factors, self._count = factors, count()

    def rounded(self, value: Any) -> Any:
        """The value, changed by about a rounding error."""
        dtype, shape = jnp.result_type(value), jnp.shape(value)
        if not jnp.issubdtype(dtype, jnp.floating):
            return value
        if math.prod(shape) > _MOST_SIGNS:  # rows share their factors, and a long row repeats them
            shape = shape[-1:]
        start = _STRIDE * next(self._count) % _PERIOD
        factors = self._factors[start : start + min(math.prod(shape), _MOST_SIGNS)]
        return value * jnp.resize(factors, shape).astype(dtype)

    def results(self, equation: Equation, values: list[Any]) -> Sequence[Any]:
        name, inner = equation.primitive.name, called(equation)
        if inner is not None:
            return self.call(inner, values)
        if name == "scan":
            return self._scan(Scan.of(equation, values))
        if name == "cond":
            which, *operands = values
            return list(lax.switch(which, [partial(self._branch, branch) for branch in branches(equation)], *operands))
        if name in _SUMS:
            values = list(map(self.rounded, values))
        results = bind(equation, values)
        if name in _EXACT or (name == "convert_element_type" and _widens(equation)):
            return results
        return list(map(self.rounded, results))

    def _branch(self, branch: Any, *operands: Any) -> list[Any]:
        return self.run(branch, operands)

    def _scan(self, loop: Scan) -> list[Any]:
        def step(carry, each):
            results = self.run(loop.body, [*loop.fixed, *carry, *each])
            return results[: len(carry)], results[len(carry) :]

        carry, outputs = lax.scan(step, loop.carried, loop.scanned, **loop.options)
        return [*carry, *outputs]


@lru_cache(1)
def _signs() -> np.ndarray:
    """Signs `[probes, numbers]`: rows of a Hadamard matrix in turn, except the first, each negated or not at random."""
    rng, numbers = np.random.default_rng(0), _PERIOD + _MOST_SIGNS
    two = np.array([[1, 1], [1, -1]])
    rows = np.kron(two, np.kron(two, two))[1:]
    return (rng.choice([-1, 1], (numbers, 1)) * np.resize(rows, (numbers, _PROBES))).T


def _widens(equation: Equation) -> bool:
    """Whether a conversion keeps every digit."""
    before, after = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
    if not (jnp.issubdtype(before, jnp.floating) and jnp.issubdtype(after, jnp.floating)):
        return True
    return jnp.finfo(after).nmant >= jnp.finfo(before).nmant
