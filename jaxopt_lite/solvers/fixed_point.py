"""Fixed points, g(x) = x, as roots of F(x) = x − g(x).

With this sign, the first step of limited-memory Broyden, from J⁰ = I, is that of the plain iteration,

    x⁺ = x − F(x) = g(x) ,

and each later step also uses what the earlier ones have found out about J = I − g′. Anderson's mixing is the nearest
relative. Both are quasi-Newton methods that start from a multiple of the identity and keep the last few steps s and
changes y of F. Anderson changes the inverse B as little as possible, in the Frobenius norm, to satisfy B y = s for all
kept steps at once, as Broyden's second method does for one. Here J is changed as little as possible to satisfy J s = y
for one step after the other, as in Broyden's first method. Anderson takes every step in full; here the residual has to
fall, and a problem for which it does not goes on with a Newton method.

Sources: Anderson, J. ACM 12 (1965) 547, for the mixing; Eyert, J. Comput. Phys. 124 (1996) 271, and Fang and Saad,
Numer. Linear Algebra Appl. 16 (2009) 197, for both as families of secant methods (theirs of types II and I); Walker and
Ni, SIAM J. Numer. Anal. 49 (2011) 1715, for what it does where g is linear: essentially GMRES.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxopt_lite.lanes.calls import Hint, call
from jaxopt_lite.solvers.choice import Backend, RootSolver
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.limited_broyden import LimitedBroyden
from jaxopt_lite.solvers.solution import Solution
from jaxopt_lite.solvers.solve import expect, solve

__all__ = ["fixed_point"]


@says_what_instead
def fixed_point(
    fun: Callable,
    x0: PyTree,
    args: PyTree = None,
    *,
    solver: RootSolver | None = None,
    args_axes: PyTree = 0,
    batched: bool = True,
    has_aux: bool = False,
    record: int = 0,
    keep_state: bool = False,
    resume: Any = None,
    backend: Backend = "auto",
) -> Solution:
    """Solve g(x) = x for a batch of problems in one call, whether or not the iteration x ← g(x) converges.

    It is `root` of F(x) = x − g(x), by default in limited memory. From J = I, the first step is x ← g(x). What follows
    is a secant method like Anderson's mixing, but of the other of Broyden's two families: it changes the Jacobian as
    little as possible, where Anderson changes the inverse, and it shortens steps that do not reduce ‖F‖. Sources: Fang
    and Saad, Numer. Linear Algebra Appl. 16 (2009) 197; Walker and Ni, SIAM J. Numer. Anal. 49 (2011) 1715.

    Args:
        fun: `fun(x, args) -> g(x)`, written for one problem, with the structure, shapes and dtypes of `x`. Without
            args it may be `fun(x)`.
        x0: starts; a pytree whose leaves are `[B, ...]`.
        args: as for `root`.
        solver: `LimitedBroyden(slopes=False)`, the default, whose steps each evaluate `fun` once; or
            `Broyden()`, which starts from the true Jacobian of F.
        args_axes: as for `root`.
        batched: as for `root`.
        has_aux: whether `fun` returns `(g(x), aux)`.
        record: as for `root`.
        keep_state: as for `root`.
        resume: as for `root`.
        backend: as for `root`.

    Returns:
        A `Solution` as from `root`: its `error` is ‖g(x) − x‖∞, recomputed at `x`, and its `fun` is x − g(x). Its
        derivatives are those of the implicit function theorem; with a limited-memory solver and more than 16 unknowns
        they form no matrix.

    Raises:
        ValueError: the structure or shapes that `fun` returns are not those of `x`; otherwise as for `root`.
        TypeError: the dtypes that `fun` returns are not those of `x`; otherwise as for `root`.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> a = jnp.array([[0.5], [1.0], [2.0]])
        >>> sol = jol.fixed_point(lambda x, a: jnp.cos(a * x), jnp.ones((3, 1)), a)
        >>> [round(float(x), 2) for x in sol.x[:, 0]]
        [0.9, 0.74, 0.51]
    """
    chosen = LimitedBroyden(slopes=False) if solver is None else solver
    chosen = expect(chosen, "fixed_point", "LimitedBroyden() or Broyden()", "root")
    return solve(
        fun, x0, args, chosen, args_axes, resume, called=_residual_and_aux if has_aux else _residual,
        batched=batched, has_aux=has_aux, record=record, keep_state=keep_state, backend=backend,
    )  # fmt: skip


def _residual(fun: Callable, x: PyTree, args: PyTree, hint: Hint | None) -> PyTree:
    """x − g(x). Compiled programs are still kept under the user's function; this is only how it is called."""
    return _without(x, call(fun, x, args, hint), hint)


def _residual_and_aux(fun: Callable, x: PyTree, args: PyTree, hint: Hint | None) -> Any:
    """x − g(x), and what else `fun` returns. If `fun` returns no pair, that is passed on, to be reported later."""
    result = call(fun, x, args, hint)
    if not (isinstance(result, tuple) and len(result) == 2):
        return result
    value, aux = result
    return _without(x, value, hint), aux


def _without(x: PyTree, value: PyTree, hint: Hint | None) -> PyTree:
    """x − value, of the same structure, shapes and dtypes.

    Raises:
        ValueError: another structure, or another shape.
        TypeError: another dtype.
    """
    wanted, arrived = jax.tree.structure(x), jax.tree.structure(value)
    if wanted != arrived:
        raise ValueError(
            f"fun(x, args) returned the structure {arrived}; expected that of x, {wanted}, because a fixed point is "
            "where fun(x, args) = x. If it returns (value, aux), pass has_aux=True."
        )
    for (path, leaf), new in zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(value), strict=True):
        name = jax.tree_util.keystr(path)
        if jnp.shape(new) != leaf.shape:
            raise ValueError(
                f"fun(x, args){name} has shape {jnp.shape(new)}; expected that of x{name}, {leaf.shape}, because a "
                f"fixed point is where fun(x, args) = x.{f' {hint.text}' if hint else ''}"
            )
        if jnp.result_type(new) != leaf.dtype:
            raise TypeError(
                f"fun(x, args){name} has dtype {jnp.result_type(new)}; expected that of x{name}, {leaf.dtype}. Give x0 "
                "and args one dtype, or let fun return value.astype(x.dtype)."
            )
    return jax.tree.map(jnp.subtract, x, value)
