"""A race: solvers on the same problems, timed in turn in one process, with one judge for all."""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Entry", "Race", "gradient_error", "main", "residual_error", "run", "timed", "use_cpu"]

T = TypeVar("T")

_REPEATS = 5
_SLOW_REPEATS, _SLOW_SECONDS = 3, 2.0  # a call longer than this is repeated three times only
_JUDGED_AT_ONCE = 100_000


@dataclass(frozen=True)
class Entry:
    """One solver in a race.

    Args:
        name: name, as printed.
        solve: starts `[batch, n]` -> answers `[batch, n]`; in a race of problems one by one, `[n]` -> `[n]`.
        batch: how many of the race's problems it gets, `None` for all; limits what slow peers cost.
        is_ours: whether it is this library or a peer.
    """

    name: str
    solve: Callable
    batch: int | None = None
    is_ours: bool = False


@dataclass(frozen=True)
class Race:
    """Solvers on the same problems.

    Args:
        starts: `[batch, n]`.
        error: answers -> one error per problem, by the same independent float64 evaluation for all.
        threshold: an answer counts as solved when its error is at most this.
        entries: the solvers.
        one_by_one: give each problem to the solver by itself.
        learn: called with every solver's answers before any are judged, for a judge that compares with the best.
    """

    starts: np.ndarray
    error: Callable
    threshold: float
    entries: tuple[Entry, ...]
    one_by_one: bool = False
    learn: Callable[[np.ndarray], None] | None = None


def run(race: Race) -> list[dict]:
    """The rows of a race: first calls, then interleaved repeats, then the judge."""
    runners = [_Runner(race, entry) for entry in race.entries]
    for runner in runners:
        runner.first_call()
    for repeat in range(_REPEATS):
        for runner in runners:
            if repeat < _SLOW_REPEATS or min(runner.seconds) < _SLOW_SECONDS:
                runner.repeat()
    # Before the judge, which needs memory of its own. With several solvers in the process it would say nothing.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if len(runners) == 1 else None
    for runner in runners:
        if race.learn is not None:
            race.learn(runner.every_answer())
    rows = [runner.row() | {"peak_mib": peak} for runner in runners]
    best_peer = max((row["solved_per_second"] for row in rows if not row["is_ours"]), default=0)
    return [row | {"times_best_peer": _ratio(row["solved_per_second"], best_peer)} for row in rows]


class _Runner:
    """Calls one solver and keeps its answers and times."""

    def __init__(self, race: Race, entry: Entry):
        starts = race.starts[: entry.batch]
        self.race, self.entry, self.count = race, entry, len(starts)
        self.inputs = [jax.device_put(start) for start in (starts if race.one_by_one else (starts,))]
        self.seconds, self.cores, self.first = [], [], 0.0

    def first_call(self) -> None:
        begin = time.perf_counter()
        self._solve(self.inputs[0])
        self.first = time.perf_counter() - begin

    def repeat(self) -> None:
        begin, busy = time.perf_counter(), time.process_time()
        self.answers = [self._solve(start) for start in self.inputs]
        seconds = time.perf_counter() - begin
        self.seconds.append(seconds)
        self.cores.append((time.process_time() - busy) / seconds)

    def _solve(self, start):
        return jax.block_until_ready(self.entry.solve(start))

    def every_answer(self) -> np.ndarray:
        return np.stack(self.answers) if self.race.one_by_one else np.asarray(self.answers[0])

    def row(self) -> dict:
        seconds = statistics.median(self.seconds)
        solved = float(np.mean(np.asarray(self.race.error(self.every_answer())) <= self.race.threshold))
        return {
            "solver": self.entry.name,
            "is_ours": self.entry.is_ours,
            "problems": self.count,
            "first_call_s": self.first,
            "compile_s": max(self.first - seconds / len(self.inputs), 0.0),
            "run_s": seconds,
            "all_runs_s": self.seconds,
            "cores_used": statistics.median(self.cores),
            "problems_per_second": self.count / seconds,
            "solved": solved,
            "solved_per_second": self.count / seconds * solved,
        }


def _ratio(ours: float, best: float) -> float | None:
    return ours / best if best else None


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """The seconds that a call takes, and what it returns."""
    begin = time.perf_counter()
    answer = call()
    return time.perf_counter() - begin, answer


def gradient_error(fun: Callable) -> Callable:
    """The judge of minima: ‖∇f‖∞ at each answer, in float64, independent of any solver."""
    return _error(jax.grad(fun))


def residual_error(fun: Callable) -> Callable:
    """The judge of roots: ‖F‖∞ at each answer, in float64, independent of any solver."""
    return _error(fun)


def _error(vector: Callable) -> Callable:
    largest = jax.jit(jax.vmap(lambda x: jnp.max(jnp.abs(vector(x)))))

    def error(answers):
        answers, step = np.asarray(answers, np.float64), _JUDGED_AT_ONCE
        return np.concatenate([largest(answers[i : i + step]) for i in range(0, len(answers), step)])

    return error


def use_cpu() -> None:
    """Use float64, the CPU alone, and no programs compiled by earlier processes; to be called before JAX starts."""
    jax.config.update("jax_enable_compilation_cache", False)  # importing NLSQ would give it a folder
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)


def main(races: dict[str, Callable]) -> None:
    """The command of a child process: `RACE N BATCH OUT`; writes the rows."""
    name, n, batch, out = sys.argv[1:]
    use_cpu()
    Path(out).write_text(json.dumps(run(races[name](int(n), int(batch)))))
