"""Solvers and merging on the first device of JAX: `python -m benchmarks.accelerator [--quick] [--only PATTERN]`.

First it checks that the answers are right on this device. Then float32 batches large enough to fill a GPU race beside
vmapped peers in the same process, every answer judged in float64. A table of all races comes last, beside what they
should take on an H200 and the least they could. `--quick` takes small batches, to see on a CPU that it works.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import optimistix as optx
from rich.console import Console
from rich.table import Table

import jaxopt_lite as jol
from benchmarks import harness, limits, merging, peers, timing
from benchmarks.lanes import rosenbrock
from benchmarks.races import uniform
from benchmarks.timing import Entry, Race, gradient_error, residual_error
from tests.problems import broyden_tridiagonal

_GRADIENT, _RESIDUAL = 1e-3, 1e-5  # the library's defaults in float32
_SLACK = 1.05  # a float32 gradient at the tolerance may be slightly larger in float64
_CHECKED, _EMULATED = 200, 2  # problems that a kernel is checked on; the most unknowns for which it is emulated
_ALIKE = 0.98  # the share of the checked problems on which kernel and loop have to agree
_SECONDS = 480  # after which no further race begins
_ON_GPU = jax.default_backend() == "gpu"


@dataclass(frozen=True)
class Kind:
    """Problems of one kind: how this library solves them, where they start, the judge, and the peers."""

    entry: Callable
    fun: Callable
    solver: Any
    start: tuple[float, float]  # the center and the radius
    error: Callable
    threshold: float
    peers: tuple[Entry, ...]

    def starts(self, n: int, count: int) -> np.ndarray:
        return uniform(*self.start, count, n, "float32")

    def solve(self, backend: str) -> Callable:
        """starts -> the solution, as a user would compile it."""
        return jax.jit(lambda x: self.entry(lambda x, _: self.fun(x), x, solver=self.solver, backend=backend))

    def race(self, n: int, count: int) -> Race:
        """Ours, on a GPU also as one kernel where there can be one, and the peers."""
        starts = self.starts(n, count)
        backends = {"": "loop"} | ({", one kernel": "kernel"} if _ON_GPU and self.can_be_a_kernel(starts) else {})
        ours = (self._entry(type(self.solver).__name__ + suffix, backend) for suffix, backend in backends.items())
        return Race(starts, self.error, self.threshold, (*ours, *self.peers))

    def can_be_a_kernel(self, starts: np.ndarray) -> bool:
        """Whether these problems can be solved by one GPU kernel."""
        fun = lambda x, _: self.fun(x)  # noqa: E731
        found = jol.explain(fun, starts, solver=self.solver, platform="gpu", backend="kernel")
        return found.backend == "kernel"

    def _entry(self, name: str, backend: str) -> Entry:
        solve = self.solve(backend)
        return Entry(name, lambda x: solve(x).x, is_ours=True)


MINIMA = Kind(
    jol.minimize, rosenbrock, jol.BFGS(atol=_GRADIENT), (0, 2), gradient_error(rosenbrock), _GRADIENT * _SLACK,
    (
        Entry("TensorFlow Probability BFGS", peers.tfp_minimum(rosenbrock, _GRADIENT)),
        Entry("optimistix BFGS", peers.vmapped(peers.optimistix_minimum(rosenbrock, tolerance=1e-5))),
        Entry("jax.scipy BFGS", peers.vmapped(peers.jax_scipy_minimum(rosenbrock, _GRADIENT)), 100_000),
    ),
)  # fmt: skip
ROOTS = Kind(
    jol.root, broyden_tridiagonal, jol.Broyden(atol=_RESIDUAL, rtol=0.0), (-1, 0.5),
    residual_error(broyden_tridiagonal), _RESIDUAL * _SLACK,
    (Entry("optimistix Newton", peers.vmapped(peers.optimistix_root(broyden_tridiagonal, optx.Newton, 1e-4))),),
)  # fmt: skip


class Work(NamedTuple):
    """A race: unknowns, problems, problems with `--quick`, and the seconds it should take on an H200."""

    kind: Kind
    n: int
    problems: int
    few: int
    goal: float | None = None


RACES = {
    "bfgs-n2": Work(MINIMA, 2, 1_000_000, 1_000, 0.5e-3),
    "bfgs-n10": Work(MINIMA, 10, 1_000_000, 200, 8e-3),
    "broyden-n10": Work(ROOTS, 10, 1_000_000, 500, 5e-3),
    "bfgs-n32": Work(MINIMA, 32, 100_000, 50),
    "bfgs-n64": Work(MINIMA, 64, 30_000, 20),
    "broyden-n2": Work(ROOTS, 2, 1_000_000, 1_000),
    "broyden-n32": Work(ROOTS, 32, 100_000, 100),
}
_MERGING, _MERGING_GOAL = "merging", 1.0
_WORDS, _FEW_WORDS = (5_000_000, 32_000), (20_000, 600)  # symbols, and tokens; with --quick, and to check
_FACTOR = 3  # a race of the loop should take at most this many times its limit


def check(names: list[str]) -> list[dict]:
    """Check that kernels give the loop's answers, and the device the host's merges. Ends the process if not."""
    rows = []
    for name in names:
        new = _checked_merging() if name == _MERGING else _checked_kernel(RACES[name])
        rows += [{"race": name, "check": True} | row for row in new]
        if new:
            Console().print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in new[0].items()))
    wrong = sorted({row["race"] for row in rows if not row["right"]})
    if wrong:
        sys.exit(f"the answers are not right on this device: {', '.join(wrong)}. Wrong answers are not timed.")
    return rows


def _checked_kernel(work: Work) -> list[dict]:
    """What the kernel solves beside the loop, emulated where there is no GPU; no row where there is no kernel."""
    kind, starts = work.kind, work.kind.starts(work.n, _CHECKED)
    if not kind.can_be_a_kernel(starts) or not (_ON_GPU or work.n <= _EMULATED):
        return []
    kernel, loop = (kind.solve(backend)(starts) for backend in ("kernel" if _ON_GPU else "emulate", "loop"))
    solved = [float(np.mean(np.asarray(kind.error(answer.x)) <= kind.threshold)) for answer in (kernel, loop)]
    alike = float(np.mean(kernel.status == loop.status))
    right = solved[0] >= _ALIKE * solved[1] and alike >= _ALIKE
    return [{"right": right, "kernel": solved[0], "loop": solved[1], "same_status": alike}]


def _checked_merging() -> list[dict]:
    return [{"right": merging.race(*_FEW_WORDS)[0]["same"]}]


def measure(name: str, quick: bool) -> list[dict]:
    """The rows of a race, with its limit and its goal, which small batches do not have."""
    jax.clear_caches()
    if name == _MERGING:
        rows, goal = merging.race(*(_FEW_WORDS if quick else _WORDS)), None if quick else _MERGING_GOAL
        return [row | {"goal_s": goal} for row in rows]
    kind, n, problems, few, goal = RACES[name]
    count, goal = (few, None) if quick else (problems, goal)
    rows = timing.run(kind.race(n, count))
    harness.print_rows(f"{name} on {_device()}", rows)
    least = limits.limit(kind.entry, kind.fun, kind.starts(n, count), kind.solver)
    known = {"unknowns": n, "goal_s": goal, "limit": None, "limit_s": None}
    if least is not None:
        known |= {"limit": least.kind, "limit_s": least.seconds}
        known["goal_s"] = _FACTOR * least.seconds if least.kind == "bandwidth" else goal
    return [row | known for row in rows]


def print_table(rows: list[dict], missed: list[str]) -> None:
    """Our row of each race beside its goal, its limit and its peers; also the races that were not measured."""
    table = Table(title=f"All races on {_device()}; goals are for an H200", title_justify="left")
    for heading in ("race", "ms", "goal ms", "of the limit", "solved", "x best peer"):
        table.add_column(heading, justify="left" if heading == "race" else "right")
    first = {}
    for row in rows:
        first.setdefault(row["race"], row)
    for name, row in first.items():
        least, goal, ratio = row.get("limit_s"), row.get("goal_s"), row.get("times_best_peer")
        table.add_row(
            name,
            f"{1e3 * row['run_s']:,.4g}",
            "" if goal is None else f"{1e3 * goal:,.4g}",
            "" if least is None else f"{least / row['run_s']:.0%} ({row['limit']})",
            "" if "solved" not in row else f"{row['solved']:.1%}",
            "" if ratio is None else f"{ratio:.1f}",
        )
    for name in missed:
        table.add_row(name, "not measured")
    Console(width=110).print(table)


def _device() -> str:
    return jax.devices()[0].device_kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small batches, to see that it works")
    options, names = harness.chosen(parser, (*RACES, _MERGING), "race")
    jax.config.update("jax_enable_x64", True)  # for the judge: the problems are float32

    begin, load, missed = time.monotonic(), harness.check_load(), []
    checked, measured = check(names), []
    for name in names:
        if time.monotonic() - begin > _SECONDS:
            missed.append(name)
        else:
            measured += [{"race": name} | row for row in measure(name, options.quick)]
    print_table(measured, missed)
    if not options.quick:
        print("wrote", harness.save("accelerator", checked + measured, load, options.only, _device()))


if __name__ == "__main__":
    main()
