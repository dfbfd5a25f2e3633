"""Robust losses: how much a large residual counts, with SciPy's names.

The cost of residuals f is ½ Σ C² ρ((f/C)²) with C the scale beyond which a residual is an outlier. Its gradient is
Jᵀ(ρ' f), and its Hessian about Jᵀ diag(ρ' + 2 ρ'' f²/C²) J: as for a sum of squares with other residuals and
another Jacobian, so that a method for sums of squares need not know about the loss.

Source: Triggs, McLauchlan, Hartley and Fitzgibbon, "Bundle adjustment: a modern synthesis", LNCS 1883 (2000), section
4.3; the losses are those of `scipy.optimize.least_squares`.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["LOSSES", "Loss", "LossName", "twice_cost", "weighted"]


class Loss(NamedTuple):
    """ρ(z), ρ'(z) and ρ''(z), for z ≥ 0."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    curvature: Callable[[Array], Array]


def _root(z):
    """√z for z > 1. Other z are clipped: their √z is not used, and its derivative at zero would be infinite."""
    return jnp.sqrt(jnp.maximum(z, 1))


LOSSES: dict[str, Loss | None] = {
    "linear": None,
    "soft_l1": Loss(
        lambda z: 2 * z / (jnp.sqrt(1 + z) + 1),  # 2 (√(1 + z) − 1), which would cancel
        lambda z: 1 / jnp.sqrt(1 + z),
        lambda z: -0.5 / jnp.sqrt(1 + z) ** 3,
    ),
    "huber": Loss(
        lambda z: jnp.where(z <= 1, z, 2 * _root(z) - 1),
        lambda z: 1 / _root(z),
        lambda z: jnp.where(z <= 1, 0, -0.5 / _root(z) ** 3),
    ),
    "cauchy": Loss(jnp.log1p, lambda z: 1 / (1 + z), lambda z: -1 / (1 + z) ** 2),
    "arctan": Loss(jnp.arctan, lambda z: 1 / (1 + z * z), lambda z: -2 * z / (1 + z * z) ** 2),
}
"""By name; "linear" is the sum of squares itself."""

LossName = Literal["linear", "soft_l1", "huber", "cauchy", "arctan"]


def twice_cost(loss: str | None, scale: Any, f: Float[Array, "m *L"]) -> Float[Array, "m *L"]:
    """What each residual adds to twice the cost; the scale is one number per lane, or None for "linear"."""
    rho = LOSSES[loss or "linear"]
    return f * f if rho is None else scale * scale * rho.value((f / scale) ** 2)


def weighted(loss: str | None, scale: Any, f: Float[Array, "m *L"], jt: Float[Array, "n m *L"]) -> tuple[Array, Array]:
    """Residuals f and a Jᵀ such that Jᵀf is the gradient of the cost, and JᵀJ about its Hessian.

    A residual where the cost has negative curvature keeps its part of the gradient, and next to none of the Hessian.
    """
    rho = LOSSES[loss or "linear"]
    if rho is None:
        return f, jt
    z = (f / scale) ** 2
    slope = rho.slope(z)
    weight = jnp.sqrt(jnp.maximum(slope + 2 * z * rho.curvature(z), jnp.finfo(f.dtype).eps))
    return f * slope / weight, jt * weight
