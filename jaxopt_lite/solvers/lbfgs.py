"""L-BFGS: the inverse Hessian as the last few steps, for problems with many unknowns.

The direction comes from the two-loop recursion over the `m` stored pairs (s, y). Nocedal and Wright, Numerical
Optimization, 2nd ed., algorithm 7.4; scaling by equation (7.20). Unknowns that a bound holds are left out of the pairs:
H is then made from the other unknowns' parts of the steps, where these show positive curvature.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxopt_lite.arguments import assign, flag_or_none, whole_number
from jaxopt_lite.lanes.arithmetic import dot
from jaxopt_lite.lanes.widths import Work
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.quasi_newton import Move, QuasiNewton
from jaxopt_lite.solvers.tolerances import equal_settings
from jaxopt_lite.solvers.trust_region import TrustRegion

__all__ = ["LBFGS"]


class _Pairs(NamedTuple):
    """The stored pairs, oldest first. ρ = 1 / yᵀs is zero where an entry is empty, so that it has no effect."""

    s: Float[Array, "m n *L"]
    y: Float[Array, "m n *L"]
    rho: Float[Array, "m *L"]
    scale: Float[Array, "*L"]


class _LastPairs(NamedTuple):
    """H as a product of the last `m` updates."""

    m: int

    is_symmetric = False

    def identity(self, x):
        pairs = jnp.zeros((self.m, *x.shape), x.dtype)
        return _Pairs(pairs, pairs, pairs[:, 0], jnp.ones(x.shape[1:], x.dtype))

    def update(self, h: _Pairs, move: Move, g):
        s, y = move.alpha * move.p, g - move.g
        sy, yy = dot(s, y), dot(y, y)
        usable = move.usable & (sy > 0)
        push = lambda kept, new: jnp.where(usable, jnp.concatenate([kept[1:], new[None]]), kept)  # noqa: E731
        scale = jnp.where(usable, sy / jnp.where(usable, yy, 1), h.scale)
        rho = 1 / jnp.where(usable, sy, 1)
        h = _Pairs(push(h.s, s), push(h.y, y), push(h.rho, rho), scale)
        return h, -_two_loops(h, g)

    def learn(self, h: _Pairs, move: Move, g):
        return self.update(h, move, g)[0]

    def newton(self, h: _Pairs, g, held, moved):
        s, y = (jnp.where(held, 0, pairs) for pairs in (h.s, h.y))
        ss, sy, yy = (jax.vmap(dot)(*pair) for pair in ((s, s), (s, y), (y, y)))
        usable = sy > jnp.finfo(g.dtype).eps * jnp.sqrt(ss * yy)  # false for empty entries
        rho = jnp.where(usable, 1 / jnp.where(usable, sy, 1), 0)
        scales = jnp.where(usable, sy / jnp.where(usable, yy, 1), 0)
        newest = lambda older, scale: (jnp.where(scale > 0, scale, older), None)  # noqa: E731
        scale, _ = jax.lax.scan(newest, h.scale, scales)
        return jnp.where(held, moved, -_two_loops(_Pairs(s, y, rho, scale), jnp.where(held, 0, g)))


def _two_loops(h: _Pairs, g):
    """H g."""

    def newest_first(q, pair):
        s, y, rho = pair
        a = rho * dot(s, q)
        return q - a * y, a

    def oldest_first(r, pair):
        s, y, rho, a = pair
        return r + (a - rho * dot(y, r)) * s, None

    pairs = (h.s, h.y, h.rho)
    q, a = jax.lax.scan(newest_first, g, pairs, reverse=True)
    return jax.lax.scan(oldest_first, h.scale * q, (*pairs, a))[0]


@says_what_instead
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LBFGS:
    """Settings of the limited-memory BFGS minimizer. Each problem holds 2 · memory · n numbers.

    Args:
        atol: as for `BFGS`.
        rtol: as for `BFGS`.
        max_steps: as for `BFGS`.
        memory: how many steps are remembered, usually 5 to 20; static, so changing it compiles a new program.
        rescue: as for `BFGS`.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> bowl = lambda x, args: jnp.sum((x - 1.0) ** 4)
        >>> sol = jol.minimize(bowl, jnp.zeros((8, 500)), solver=jol.LBFGS())
        >>> bool(sol.success.all())
        True
    """

    kind: ClassVar[Literal["minimum"]] = "minimum"
    work: ClassVar[Work] = Work.TERMS

    atol: Float[ArrayLike, "*B"] | None = None
    rtol: Float[ArrayLike, "*B"] | None = None
    max_steps: ArrayLike | None = None
    memory: int = field(default=10, metadata={"static": True})
    rescue: bool | None = field(default=None, metadata={"static": True})

    __eq__ = equal_settings

    def __post_init__(self):
        assign(self, memory=whole_number("memory", self.memory, least=1), rescue=flag_or_none("rescue", self.rescue))

    def methods(self):
        """The iterations, for the engine: each takes on the lanes that the one before it could not solve."""
        first = QuasiNewton(_LastPairs(self.memory))
        return (first,) if self.rescue is False else (first, TrustRegion())
