"""What a solve returns: arrays, one entry per problem, with readable views on the host."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from html import escape
from textwrap import wrap
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.export import register_pytree_node_serialization
from jax.tree_util import keystr
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxopt_lite.arguments import flag
from jaxopt_lite.lanes.status import MESSAGES, Status, is_solved
from jaxopt_lite.solvers.covariance import Covariance, covariance_of
from jaxopt_lite.tables import html_table

__all__ = ["History", "Solution", "SolveError"]

_SHOWN = 5
_WIDTH, _INDENT = 80, " " * 12  # of a summary


class SolveError(RuntimeError):
    """Some problems of a batch were not solved."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class History:
    """Progress over the first steps. It is NaN after the last step, and for steps before a resume or in a rescue.

    Attributes:
        value: f(x) for a minimum, ½‖F(x)‖² for a root, the cost for least squares, `[B, record]`. Entry 0 is the start.
        error: the criterion, as `Solution.error` has it.
    """

    value: Float[Array, "*B record"]
    error: Float[Array, "*B record"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Solution:
    """The answers to a batch of problems. Every leaf has the batch axis first, or none where `batched=False`.

    Attributes:
        x: the best points seen, even where a solve failed; a pytree like `x0`.
        fun: for a minimum f(x), `[B]`; for a root or least squares the residual F(x), a pytree like that of `fun`,
            with the batch axis.
        grad: for a minimum ∇f(x), a pytree like `x`; for least squares that of the cost; for a root `None`.
        error: the verified criterion, recomputed at `x`: ‖∇f(x)‖∞ for a minimum, ‖F(x)‖∞ for a root; for least
            squares the largest cosine of an angle between F(x) and a column of its Jacobian. With bounds a slope that
            leads out of them does not count.
        status: the outcome of each problem, a `Status`.
        success: `status` is CONVERGED or AT_PRECISION. NaN is never success.
        steps: accepted steps.
        evaluations: evaluations of `fun` (with a derivative) in the iterations.
        aux: the second output of `fun` at `x`, with `has_aux=True`.
        cost: for least squares, half the sum of the squares of the residuals, or of what the loss makes of them.
        active: with bounds, a pytree like `x`: -1 for an unknown at its lower bound, 1 at its upper one, else 0.
        triangle: for least squares, R of the QR factorization of the Jacobian at `x`, as the loss weighs it.
        history: with `record=K`, progress over the first K steps.
        state: with `keep_state=True`, what `resume` needs.
    """

    x: PyTree
    fun: PyTree
    grad: PyTree
    error: Float[Array, "*B"]
    status: Int[Array, "*B"]
    success: Bool[Array, "*B"]
    steps: Int[Array, "*B"]
    evaluations: Int[Array, "*B"]
    aux: PyTree = None
    cost: Float[Array, "*B"] | None = None
    active: PyTree = None
    triangle: Float[Array, "*B n n"] | None = None
    history: History | None = None
    state: Any = None

    def __repr__(self) -> str:
        if not _is_known(self.status):
            return f"Solution({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in fields(self))})"
        axes = np.ndim(self.status)
        unknowns = sum(math.prod(np.shape(leaf)[axes:]) for leaf in jax.tree.leaves(self.x))
        ended = ", ".join(f"{lanes.size} {status.name}" for status, lanes, _ in self._outcomes())
        return f"Solution({_many(np.size(self.status), 'problem')} of {_many(unknowns, 'unknown')}: {ended})"

    def _repr_html_(self) -> str:
        if not _is_known(self.status):
            return f"<pre>{escape(repr(self))}</pre>"
        evaluations, rows = np.ravel(self.evaluations), []
        for status, lanes, error in self._outcomes():
            row = status.name, lanes.size, error, float(np.median(evaluations[lanes])), int(evaluations[lanes].max())
            rows.append((*row, "" if is_solved(status) else _listed(lanes), MESSAGES[status]))
        columns = "status", "problems", "largest error", "evaluations: median", "most", "which", "meaning"
        return html_table(self._headline(), columns, rows)

    def _headline(self) -> str:
        status = np.ravel(self.status)
        return f"{_many(status.size, 'problem')}, {int(is_solved(status).sum())} solved"

    def _outcomes(self) -> Iterator[tuple[Status, np.ndarray, float]]:
        """Each status that occurs, the problems that have it, and their largest error."""
        status, error = np.ravel(self.status), np.ravel(self.error)
        for code in sorted(set(status.tolist())):
            lanes = np.flatnonzero(status == code)
            yield Status(code), lanes, _largest(error[lanes])

    def _needs_numbers(self, method: str) -> None:
        """Raises TypeError if there are none."""
        if isinstance(self.status, Tracer) or not isinstance(self.status, jax.Array | np.ndarray | np.generic):
            raise TypeError(
                f"{method}() needs numbers, and this solution has none yet: it is traced, by jax.jit for instance. "
                f"Return it and call {method}() outside; inside, mask by `success`."
            )

    def summary(self) -> str:
        """A readable table: how many problems ended how, and what to try for those that failed. Host only."""
        self._needs_numbers("summary")
        evaluations, lines = np.ravel(self.evaluations), [self._headline()]
        for status, lanes, error in self._outcomes():
            first = f"  {lanes.size:>8}  {status.name:<16} "
            lines += wrap(
                MESSAGES[status], _WIDTH, initial_indent=first, subsequent_indent=_INDENT, break_on_hyphens=False
            )
            if not is_solved(status):
                lines.append(f"{_INDENT}problems {_listed(lanes)}; largest error {error:.3g}")
        if evaluations.size:
            median, most, error = np.median(evaluations), evaluations.max(), _largest(np.ravel(self.error))
            lines.append(f"  evaluations: median {median:.0f}, most {most}; largest error {error:.3g}")
        return "\n".join(lines)

    def to_pandas(self) -> Any:
        """A data frame with one row for each problem. Host only.

        The columns are the unknowns, named after their place in `x` as in "x[0]" or "x.rate[2]"; `status` by name,
        `success`, `steps`, `evaluations`, `error`; and `fun` for minima, or `cost` for least squares.

        Raises:
            ImportError: pandas is not installed.
        """
        self._needs_numbers("to_pandas")
        try:
            import pandas  # pyright: ignore[reportMissingImports]  # optional
        except ImportError as error:
            raise ImportError("a data frame needs pandas: pip install 'jaxopt-lite[pandas]'.") from error
        status = np.asarray(self.status)
        columns: dict[str, Any] = dict(_columns(self.x, status.shape))
        names = [Status(code).name for code in np.ravel(status).tolist()]
        columns["status"] = pandas.Categorical(names, [each.name for each in Status if each >= 0])
        rest = dict(success=self.success, steps=self.steps, evaluations=self.evaluations, error=self.error)
        if self.cost is not None:
            rest["cost"] = self.cost
        elif self.grad is not None:
            rest["fun"] = self.fun
        columns |= {name: np.ravel(values) for name, values in rest.items()}
        return pandas.DataFrame(columns, index=_index(pandas, status.shape))

    def covariance(self, *, absolute_sigma: bool = False) -> Covariance:
        """How well the data determine the unknowns of least squares: covariance, standard errors, intervals.

        It comes from the Jacobian at `x`, as in `scipy.optimize.curve_fit`: bounds, active or not, are ignored. For a
        fit that was not solved it means little.

        Args:
            absolute_sigma: whether the residuals are in units of their own standard deviations. If not, the size of the
                errors is estimated from the residuals, by `2 cost / (m − n)`.

        Raises:
            ValueError: this is not a solution of `least_squares`, or it has no more residuals than unknowns and
                `absolute_sigma` is False; or `absolute_sigma` is not a bool.

        Example:
            >>> import jax.numpy as jnp, jaxopt_lite as jol
            >>> t, y = jnp.arange(5.0), jnp.array([1.1, 2.9, 5.2, 6.8, 9.1])
            >>> line = jol.least_squares(lambda b: b[0] + b[1] * t - y, jnp.zeros(2), batched=False)
            >>> [f"{error:.3f}" for error in line.covariance().standard_errors]
            ['0.146', '0.060']
        """
        if self.triangle is None or self.cost is None:
            raise ValueError("only a solution of `least_squares` has a covariance.")
        axes = self.triangle.ndim - 2
        residuals = sum(math.prod(np.shape(leaf)[axes:]) for leaf in jax.tree.leaves(self.fun))
        absolute_sigma = flag("absolute_sigma", absolute_sigma)
        return covariance_of(self.x, self.triangle, 2 * self.cost, residuals, absolute_sigma)

    def raise_if_failed(self) -> "Solution":
        """The solution itself when every problem is solved. Host only.

        Raises:
            SolveError: naming the problems that failed, why, and what to try.
        """
        self._needs_numbers("raise_if_failed")
        if not bool(np.all(self.success)):
            raise SolveError(self.summary())
        return self


for _kind in (Solution, History):  # neither of which holds anything but leaves
    register_pytree_node_serialization(
        _kind,
        serialized_name=f"jaxopt_lite.{_kind.__name__}",
        serialize_auxdata=lambda _: b"",
        deserialize_auxdata=lambda _: (),
    )


def _is_known(status: Any) -> bool:
    """Whether the numbers can be read: neither abstract, as under `jit`, nor on other hosts, nor deleted."""
    if isinstance(status, jax.Array) and not isinstance(status, Tracer):
        return status.is_fully_addressable and not status.is_deleted()
    return isinstance(status, np.ndarray | np.generic)


def _columns(x: PyTree, batch: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """The name and the numbers of each unknown, one after the other."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        values = np.asarray(leaf)
        shape, place = values.shape[len(batch) :], keystr(path, simple=True, separator=".")
        for rest, column in zip(np.ndindex(shape), values.reshape(math.prod(batch), math.prod(shape)).T, strict=True):
            yield f"x{place and f'.{place}'}{list(rest) if rest else ''}", column


def _index(pandas: Any, batch: tuple[int, ...]) -> Any:
    if len(batch) < 2:
        return pandas.RangeIndex(math.prod(batch), name="problem")
    return pandas.MultiIndex.from_product([range(size) for size in batch])


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(lanes: np.ndarray) -> str:
    shown = ", ".join(str(lane) for lane in lanes[:_SHOWN])
    return shown + (f", … ({lanes.size} in all)" if lanes.size > _SHOWN else "")


def _largest(values: np.ndarray) -> float:
    return float("nan") if np.isnan(values).any() else float(values.max())
