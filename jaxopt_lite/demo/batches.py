"""Solves a long batch with its progress shown, has every answer certified, and keeps count of both."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

import jaxopt_lite as jol
from jaxopt_lite.progress import working

__all__ = ["CHUNK", "Tally", "passing_ctrl_c_on", "solve_and_verify"]

CHUNK = 512  # problems at a time: a multiple of the 256 that certificates are compiled for, so that none are left over


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
    chunk: int = CHUNK,
) -> tuple[jol.Solution, Float[np.ndarray, " B"]]:
    """Solve a batch chunk by chunk, certify the answers, and enter both in the tally.

    Args:
        tally: the tally of this batch, brought up to date.
        solve: `solve(x0, args)` for a chunk.
        certify: `certify(x, args)` for a chunk: whether each answer is valid, and its estimated error.
        x0: starts, NumPy arrays `[B, ...]`.
        args: NumPy arrays `[B, ...]`.
        chunk: how many problems at a time.

    Returns:
        The solution and the estimated error of each answer, as NumPy arrays.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the tally says how far the batch had come.
    """
    start = time.perf_counter()
    solution = jol.in_chunks(solve, x0, args, chunk=chunk)
    tally.solve_seconds = time.perf_counter() - start
    tally.reached = int(np.sum(solution.status != jol.Status.NOT_STARTED))
    tally.solved = int(np.sum(solution.success))
    if tally.reached < tally.size:
        raise KeyboardInterrupt  # which in_chunks caught, to hand over what was done
    start = time.perf_counter()
    with working("verifying"):
        places = [slice(first, first + chunk) for first in range(0, tally.size, chunk)]
        verdicts = [
            certify(*jax.tree.map(lambda leaf, place=place: leaf[place], (solution.x, args))) for place in places
        ]
        valid, error = map(np.concatenate, zip(*verdicts, strict=True))
    tally.verify_seconds = time.perf_counter() - start
    tally.verified = int(np.sum(solution.success & valid))
    return solution, error


@contextmanager
def passing_ctrl_c_on() -> Iterator[None]:
    """Within, the warning of `bpe.train` and `fit` that they were interrupted is a KeyboardInterrupt.

    They catch Ctrl-C to hand over what was done. That no merges are left goes without saying here.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "nothing left to merge")
        warnings.filterwarnings("error", "interrupted")
        try:
            yield
        except UserWarning:
            raise KeyboardInterrupt from None
