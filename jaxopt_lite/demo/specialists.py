"""Is a model of Python better with a specialist for each module? Each learns from some lines and changes 64 numbers."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxopt_lite import bpe
from jaxopt_lite.demo.batches import Tally, passing_ctrl_c_on
from jaxopt_lite.demo.modules import Module, modules, tasks
from jaxopt_lite.demo.programs import in_a_hurry
from jaxopt_lite.progress import working
from jaxopt_lite.specialists.adapters import IA3, Shift
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.evaluate import evaluate, task_losses
from jaxopt_lite.specialists.fit import fit
from jaxopt_lite.specialists.language import bits_per_byte, language_model, window_loss
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.report import Report
from jaxopt_lite.specialists.routers.calibration import calibrate
from jaxopt_lite.specialists.routers.lda import LDA
from jaxopt_lite.specialists.tasks import Task

__all__ = ["STEPS", "run"]

STEPS = 400  # of the base's training
_TOKENS = 384
_LENGTH = 32  # tokens of a window
_WINDOWS = 8, 3  # of a module, to learn from and held out
_MODEL: dict[str, Any] = dict(embed=32, hidden=32, length=_LENGTH)
_ADAPTER = IA3("out/w", axis=0) + Shift("hidden/b")
_PRIOR = 30.0  # of 10, 40 and 160, 40 did best on held-out code
_FALLBACK = 0.01  # the share of known modules' inputs that may go to the base
_SAME = 1e-3  # relative to the loss


def run(
    count: int,
    seed: int,
    console: Console,
    tallies: list[Tally],
    found: Sequence[Module] | None = None,
    steps: int = STEPS,
) -> None:
    """Train a base, fit a specialist for each module in one solve, route held-out code to them, and print how it went.

    Args:
        count: how many modules, at most.
        seed: seed of the base and of random routing.
        console: where to print.
        tallies: this batch's is appended: specialists whose fit converged (solved), and those of them whose loss,
            computed again in batches of mixed tasks, is what the fit said and not above the base's (verified).
        found: the modules; `None` for those of Python's standard library.
        steps: steps of the base's training.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the tally says how far the batch had come.
    """
    console.print()
    console.rule("Specialists: one for each module of Python's standard library", align="left")
    found = list(modules() if found is None else found)[:count]
    if not found:
        console.print("Its sources are not installed here.")
        return
    tally = Tally("specialists", len(found))
    tallies.append(tally)
    lines = Table.grid(padding=(0, 2))
    with passing_ctrl_c_on():
        base, learned, held_out = _base(found, seed, steps, lines)
        library = _fitted(base, learned, tally, lines)
    with in_a_hurry():  # each program runs once or twice from here on
        _verify(library, learned, tally, lines)
        console.print(
            f"{len(found):,} modules. The base is a small language model of all of them; a specialist is fitted to one "
            f"and changes {library.size} of its numbers. The last fourth of every file is held out: the better a "
            f"model, the fewer bits it needs per byte of that. A router sends every {_LENGTH} tokens to the specialist "
            "of the module that they look like."
        )
        console.print(lines)
        report = _evaluated(library, learned, held_out, seed)
    console.print(str(report), highlight=False)


def _base(
    found: Sequence[Module], seed: int, steps: int, lines: Table
) -> tuple[Base, dict[str, Task], dict[str, Task]]:
    """A tokenizer and a language model of the learned parts of all modules, and the tasks."""
    texts = [module.learned for module in found]
    start = time.perf_counter()
    with working("encoding the modules"):
        tokenizer = bpe.train(texts, _TOKENS, progress=False)
        learned, held_out = tasks(found, tokenizer, _LENGTH, _WINDOWS)
    _add_time(lines, "encoding", start, f"{tokenizer.vocab_size} tokens")
    start = time.perf_counter()
    with working("compiling and training the base"):
        base = language_model(texts, tokenizer, **_MODEL, steps=steps, seed=seed, progress=False)
    size = sum(leaf.size for leaf in jax.tree.leaves(base.params))
    _add_time(lines, "base", start, f"{size:,} parameters, {steps} steps")
    return base, learned, held_out


def _fitted(base: Base, learned: dict[str, Task], tally: Tally, lines: Table) -> Library:
    start = time.perf_counter()
    with working("compiling and fitting the specialists"):
        library = fit(base, _ADAPTER, learned, window_loss, prior=_PRIOR, progress=False)
    tally.solve_seconds = time.perf_counter() - start
    tally.reached = len(library)
    tally.solved = sum(card.solved for card in library.cards)
    _add_time(
        lines, "specialists", start, f"{tally.solved:,} of {tally.size:,} fitted in one solve, with its compilation"
    )
    return library


def _verify(library: Library, learned: dict[str, Task], tally: Tally, lines: Table) -> None:
    """Compare each specialist's loss, computed again as it is served, with what its fit said and with the base's."""
    start = time.perf_counter()
    with working("serving the specialists"):
        own, base = (task_losses(some, learned, window_loss) for some in (library, library[[]]))
    said = np.array([card.loss for card in library.cards])
    converged = np.array([card.solved for card in library.cards])
    tally.verified = int(np.sum(converged & (np.abs(own - said) <= _SAME * said) & (own <= base)))
    tally.verify_seconds = time.perf_counter() - start
    _add_time(
        lines, "verified", start, f"{tally.verified:,} of {tally.size:,}: served in mixed batches, as good as fitted"
    )


def _evaluated(library: Library, learned: dict[str, Task], held_out: dict[str, Task], seed: int) -> Report:
    """A comparison with the alternatives that need no fit: a monolith's would take as long as all the rest together."""
    enough = sum(task.examples for task in learned.values()) > 2 / _FALLBACK
    with working("calibrating the router"):
        router = LDA.of(library, calibrate(library.base, learned, fallback=_FALLBACK if enough else 0.0))
    with working("evaluating on held-out code"):
        report = evaluate(library, router, held_out, window_loss, unit=bits_per_byte(library.base.tokenizer), seed=seed)
    return replace(report, rows=tuple(row for row in report.rows if row.by_task is not None))


def _add_time(lines: Table, name: str, start: float, words: str) -> None:
    lines.add_row(name, f"{words}; {time.perf_counter() - start:.1f} s")
