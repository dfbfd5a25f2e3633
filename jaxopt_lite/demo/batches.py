"""Solves a long batch with its progress shown, has every answer certified, and keeps count of both."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree
from rich.console import Console

import jaxopt_lite as jol

__all__ = ["Tally", "solve_and_verify"]


@dataclass
class Tally:
    """How far one batch has come, and how long it took. Kept up to date while the batch runs."""

    name: str
    size: int
    reached: int = 0
    solved: int = 0  # the solver's criterion, recomputed at the answer, holds
    verified: int = 0  # and so does a certificate that knows nothing of the solver
    compile_seconds: float = 0.0
    solve_seconds: float = 0.0
    verify_seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether every problem is solved and verified."""
        return self.solved == self.verified == self.size


def solve_and_verify(
    tally: Tally,
    solve: Callable[[PyTree, PyTree], jol.Solution],
    certify: Callable[[PyTree, PyTree], tuple[Bool[Array, " B"], Float[Array, " B"]]],
    x0: PyTree,
    args: PyTree,
    console: Console,
    chunk: int = 1000,
) -> tuple[jol.Solution, Float[np.ndarray, " B"]]:
    """Solve a batch chunk by chunk, certify the answers, and enter both in the tally.

    Args:
        tally: of this batch; brought up to date.
        solve: `solve(x0, args)` for a chunk.
        certify: `certify(x, args)` for the whole batch: whether each answer is valid, and its estimated error.
        x0: starts, NumPy arrays `[B, ...]`.
        args: NumPy arrays `[B, ...]`.
        console: where progress is shown.
        chunk: how many problems at a time.

    Returns:
        The solution and the estimated error of each answer, as NumPy arrays.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the tally says how far the batch had come.
    """
    chunk = min(chunk, tally.size)
    with console.status("compiling"):
        solve, tally.compile_seconds = _compiled(solve, *jax.tree.map(lambda leaf: leaf[:chunk], (x0, args)))
    start = time.perf_counter()
    solution = jol.in_chunks(solve, x0, args, chunk=chunk)
    tally.solve_seconds = time.perf_counter() - start
    tally.reached = int(np.sum(solution.status != jol.Status.NOT_STARTED))
    tally.solved = int(np.sum(solution.success))
    if tally.reached < tally.size:
        raise KeyboardInterrupt  # in_chunks has caught it, to hand over what was done
    with console.status("verifying"):
        certify, seconds = _compiled(certify, solution.x, args)
        tally.compile_seconds += seconds
        start = time.perf_counter()
        valid, error = jax.tree.map(np.asarray, certify(solution.x, args))
        tally.verify_seconds = time.perf_counter() - start
    tally.verified = int(np.sum(solution.success & valid))
    return solution, error


def _compiled(function: Callable, *operands: PyTree) -> tuple[Callable[..., Any], float]:
    """The function compiled for operands of these shapes, and the seconds that took."""
    start = time.perf_counter()
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), operands)
    compiled = jax.jit(function).lower(*shapes).compile()
    return compiled, time.perf_counter() - start
