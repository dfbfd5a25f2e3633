"""The outcome of a problem: a code, and for each code a sentence that says what to try."""

from enum import IntEnum
from typing import Any

from jaxtyping import ArrayLike

__all__ = ["MESSAGES", "Status", "is_solved"]


class Status(IntEnum):
    """The verdict on one problem. `CONVERGED` is zero; negative codes never leave a solve."""

    CONVERGED = 0
    MAX_STEPS = 1
    STALLED = 2
    NONFINITE_START = 3
    UNBOUNDED = 4
    NO_ROOT = 5
    UNVERIFIED = 6
    NOT_STARTED = 7
    AT_PRECISION = 8

    RUNNING = -1
    WAITING = -2
    EMPTY = -3


def is_solved(status: ArrayLike) -> Any:
    """Which of these mean that the problem is solved."""
    return (status == Status.CONVERGED) | (status == Status.AT_PRECISION)


MESSAGES: dict[Status, str] = {
    Status.CONVERGED: "converged: the criterion was recomputed at the returned point and holds.",
    Status.MAX_STEPS: (
        "out of steps: raise `max_steps`, or solve with `keep_state=True` and pass `resume=solution.state`."
    ),
    Status.STALLED: (
        "stalled: many evaluations without a visible decrease. The returned point is the best seen. Try "
        "float64, other units or other starts (`multistart`), loosen `atol`/`rtol`, or smooth a kink, like that of |x|."
    ),
    Status.NONFINITE_START: (
        "not finite at the start: `x0`, the function or its derivative there, or the sum of squared residuals is NaN "
        "or infinite, or bounds exclude each other. Start elsewhere, or run `check_derivatives` there."
    ),
    Status.UNBOUNDED: "unbounded below: the function falls without end along a direction. Add a bound or a penalty.",
    Status.NO_ROOT: (
        "no root near: ‖F‖ has a local minimum above zero here, or F's Jacobian is singular. Try other starts "
        "(`multistart`); a system without a root ends like this."
    ),
    Status.UNVERIFIED: (
        "not verified: the loop met its criterion, but recomputed at the answer it does not hold. The function may "
        "not be deterministic, or squared residuals too small for the dtype: try other units. Else please report it."
    ),
    Status.NOT_STARTED: "not started: stopped before this lane's turn. Run the rest: `in_chunks(done=…)`.",
    Status.AT_PRECISION: (
        "solved as far as this dtype allows: the residual, or gradient, is above the tolerance but no larger than the "
        "rounding error of computing it. For more digits use float64 or other units."
    ),
    Status.RUNNING: "running.",
    Status.WAITING: "waiting for its derivative to be refreshed.",
    Status.EMPTY: "no problem in this lane.",
}
