"""Broyden's method in limited memory: the inverse Jacobian as a few rank-one terms, for thousands of unknowns.

    B = β I + Σₖ uₖ vₖᵀ

Each update adds one term; when the memory is full it restarts from β I, with β from the last step. The fallback
is a damped Newton method whose directions come from conjugate gradients, so that no matrix is ever formed.

Sources: Kelley, Solving Nonlinear Equations with Newton's Method, chapter 4; Paige and Saunders, ACM TOMS 8 (1982) 43,
and Björck, Numerical Methods for Least Squares Problems, section 7.4, for CGLS.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from jaxopt_lite.arguments import assign, flag, whole_number
from jaxopt_lite.lanes.arithmetic import at, dot, on_cpu, positive, take_where
from jaxopt_lite.lanes.widths import Work
from jaxopt_lite.solvers.broyden import damping
from jaxopt_lite.solvers.broyden_family import Move, Secant
from jaxopt_lite.solvers.damped_newton import DampedNewton
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.tolerances import equal_settings

__all__ = ["LimitedBroyden"]

_CG_STEPS = 100


class _Terms(NamedTuple):
    """β and the terms u vᵀ, the first `used` of them valid; and B f at the current point, if there are any."""

    scale: Float[Array, "*L"]
    u: Float[Array, "m n *L"]
    v: Float[Array, "m n *L"]
    used: Int[Array, "*L"]
    bf: Float[Array, "n *L"]


class _RankOneTerms(NamedTuple):
    """B as up to `m` rank-one terms. A step takes one pass over them, for B f and sᵀB, and writes one term."""

    m: int

    def multiple(self, scale, x):
        terms = jnp.zeros((self.m, *x.shape), x.dtype)
        return _Terms(scale, terms, terms, jnp.zeros(x.shape[1:], jnp.int32), jnp.zeros_like(x))

    def update(self, b: _Terms, move: Move, f):
        s = jnp.where(move.usable, move.alpha * move.p, 0)
        bf, v = _products(b, f, s)
        by = jnp.where(move.usable, bf - jnp.where(b.used == 0, b.scale * move.f, b.bf), 0)
        theta, denominator = damping(s, by)
        usable = move.usable & (denominator != 0)
        weight = jax.lax.optimization_barrier(jnp.where(usable, theta / jnp.where(usable, denominator, 1), 0))
        u = weight * (s - by)
        bf += u * jnp.where(usable, dot(v, f), 0)
        full = usable & (b.used == self.m)
        beta = jnp.where(full, _best_multiple(s, jnp.where(usable, f - move.f, 0)), b.scale)
        put = usable & ~full
        b = _Terms(
            beta, _put(b.u, b.used, put, u), _put(b.v, b.used, put, v),
            jnp.where(full, 0, b.used + put), jnp.where(move.usable, bf, b.bf),
        )  # fmt: skip
        return b, -jnp.where(full, beta * f, bf)

    def refresh(self, problem, x, b: _Terms):
        """There is no matrix to recompute: forget the terms, and start along the true Newton direction."""
        f = jax.lax.optimization_barrier(problem.value(x))
        p, _, _ = krylov_direction(problem, x, f, (), jnp.zeros_like(x), jnp.zeros_like(b.scale))
        return f, self.multiple(b.scale, x), p


def _products(b: _Terms, f, s):
    """B f and Bᵀ s, in one pass over the terms that any lane uses."""

    def add(k, products):
        u, v = at(b.u, k), at(b.v, k)
        new = products[0] + u * dot(v, f), products[1] + v * dot(u, s)
        return take_where(k < b.used, new, products)  # adding 0 instead would turn -0 into 0

    count = b.u.shape[0]  # except on a CPU, a loop of fixed length is faster
    most = jnp.minimum(jnp.max(b.used), count) if on_cpu() and b.used.ndim else count
    return jax.lax.fori_loop(0, most, add, (b.scale * f, b.scale * s))


def _put(terms, index, lanes, term):
    """The terms, with `term` put at the `index` of each of these lanes."""
    if not (on_cpu() and index.ndim):
        here = (jnp.arange(len(terms)).reshape((-1,) + (1,) * term.ndim) == index) & lanes
        return jnp.where(here, term, terms)

    def row(k, terms):
        return jax.lax.dynamic_update_index_in_dim(terms, jnp.where(lanes & (index == k), term, at(terms, k)), k, 0)

    first, end = jnp.min(jnp.where(lanes, index, len(terms))), jnp.max(jnp.where(lanes, index + 1, 0))
    return jax.lax.fori_loop(jnp.maximum(first, 0), jnp.minimum(end, len(terms)), row, terms)


def _best_multiple(s, y):
    """β = sᵀy / yᵀy: β I is the multiple of the identity that fits a step best."""
    yy = dot(y, y)
    return dot(s, y) / positive(yy)


def krylov_direction(problem, x, f, _, d, damping):
    """p ≈ −(JᵀJ + damping D²)⁻¹ Jᵀf, by CGLS without forming J; D, an estimate of ‖J‖; and J p."""
    slope = lambda p: problem.value_and_slope(x, p, needed=True)[1]  # noqa: E731
    gradient = problem.pullback(x, f)
    size = jnp.sqrt(dot(gradient, gradient) / positive(dot(f, f)))
    d = jnp.maximum(d, size)
    weight = damping * d**2
    target = jnp.finfo(x.dtype).eps * dot(gradient, gradient)

    def conjugate(_, carry):
        p, jp, r, q, rr = carry
        live = rr > target  # a lane that is done stays as it is, whatever its neighbors need
        jq = slope(q)
        alpha = jnp.where(live, rr / positive(dot(jq, jq) + dot(weight * q, q)), 0)
        p, jp = p + alpha * q, jp + alpha * jq
        r = jnp.where(live, -problem.pullback(x, f + jp) - weight * p, r)
        new = dot(r, r)
        q = jnp.where(live, r + new / positive(rr) * q, q)
        return p, jp, r, q, jnp.where(live, new, rr)

    start = (jnp.zeros_like(x), jnp.zeros_like(f), -gradient, -gradient, dot(gradient, gradient))
    p, jp, *_ = jax.lax.fori_loop(0, min(_CG_STEPS, 2 * x.shape[0]), conjugate, start)
    return p, d, jp


@says_what_instead
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LimitedBroyden:
    """Settings of limited-memory Broyden. Each problem holds 2 · memory · n numbers.

    Args:
        atol: as for `Broyden`.
        rtol: as for `Broyden`.
        max_steps: as for `Broyden`.
        memory: how many rank-one terms are kept, usually 10 to 50; static, so changing it compiles a new program.
        rescue: whether problems that make no progress get Newton directions by conjugate gradients.
        slopes: whether a step evaluates the derivative of F along it, which tells a trial that is too short from one
            that is too long. Without it a step costs about half as much.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> wave = lambda x, a: x + 0.1 * jnp.sin(x) - 1.0
        >>> sol = jol.root(wave, jnp.zeros((2, 1000)), solver=jol.LimitedBroyden())
        >>> bool(sol.success.all())
        True
    """

    kind: ClassVar[Literal["root"]] = "root"
    work: ClassVar[Work] = Work.TERMS

    atol: Float[ArrayLike, "*B"] | None = None
    rtol: Float[ArrayLike, "*B"] | None = None
    max_steps: ArrayLike | None = None
    memory: int = field(default=20, metadata={"static": True})
    rescue: bool = field(default=True, metadata={"static": True})
    slopes: bool = field(default=True, metadata={"static": True})

    __eq__ = equal_settings

    def __post_init__(self):
        memory = whole_number("memory", self.memory, least=1)
        assign(self, memory=memory, rescue=flag("rescue", self.rescue), slopes=flag("slopes", self.slopes))

    def methods(self):
        """The iterations, for the engine: each takes on the lanes that the one before it could not solve."""
        secant = Secant(_RankOneTerms(self.memory), False, self.rescue, self.slopes)
        damped = DampedNewton(krylov_direction, keeps_jacobian=False)
        return (secant, damped) if self.rescue else (secant,)
