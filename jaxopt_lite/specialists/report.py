"""What an evaluation found, and its units: plain numbers, and a table for people."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, PyTree
from rich.console import Console
from rich.table import Table

__all__ = ["PER_EXAMPLE", "Cost", "Report", "Routing", "Row", "Unit"]

_WIDTH = 100  # characters
_LABELS = {"oracle": "oracle: own specialist"}


class Unit(NamedTuple):
    """A reported loss is Σ w_i loss_i / Σ amount_i, over the examples of one task or of all.

    Attributes:
        name: as printed.
        amount: `amount(x, weight) -> [N]`, what of it each example has.
    """

    name: str
    amount: Callable[[PyTree, Float[np.ndarray, " N"]], Float[np.ndarray, " N"]]


PER_EXAMPLE = Unit("mean loss", lambda x, weight: weight)


class Row(NamedTuple):
    """How one way to answer did.

    Attributes:
        name: of the way.
        loss: over the examples of all tasks, in the report's unit; NaN where it was not given.
        by_task: the same for each task, or None.
        examples: of the monolith, how many it was fitted to, and how many all specialists together; else None.
    """

    name: str
    loss: float
    by_task: Float[np.ndarray, " T"] | None
    examples: tuple[int, int] | None = None

    @property
    def label(self) -> str:
        """What it is in a table, with the examples below it."""
        name = _LABELS.get(self.name, self.name)
        return name if self.examples is None else "{}\n  ({:,} of {:,} examples)".format(name, *self.examples)


class Routing(NamedTuple):
    """How well inputs found their specialists.

    Attributes:
        accuracy: the share that went to the specialist of its own task.
        false_fallback: the share that went to the base though there is a specialist for it.
        novel_fallback: of the inputs of novel tasks, the share that went to the base; None without such tasks.
    """

    accuracy: float
    false_fallback: float
    novel_fallback: float | None


class Cost(NamedTuple):
    """What adding one more specialist takes.

    Attributes:
        bytes: its parameters, and what routers and merges know of it.
        seconds: to fit the first of the tasks again, compiled; None where no training tasks were given.
        first_seconds: the same for the first time, with what had to be compiled.
    """

    bytes: int
    seconds: float | None
    first_seconds: float | None


@dataclass(frozen=True, eq=False)
class Report:
    """An evaluation. `print(report)` shows the table.

    Attributes:
        unit: of all losses.
        tasks: the names of the tasks that have a specialist.
        rows: base, monolith, joint retrain, random routing, uniform merge, oracle, routed.
        routing: how well inputs found their specialists.
        cost: of adding one more.
    """

    unit: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    routing: Routing
    cost: Cost

    def __getitem__(self, name: str) -> Row:
        """The row of this name; the beginning of the name will do, where no other begins so.

        Raises:
            KeyError: no such row, or several.
        """
        found = [row for row in self.rows if row.name == name] or [r for r in self.rows if r.name.startswith(name)]
        if len(found) != 1:
            raise KeyError(f"{len(found)} rows {name!r}; there are {', '.join(row.name for row in self.rows)}.")
        return found[0]

    @property
    def recovered(self) -> float:
        """The share of the oracle's gain over the base that routing keeps; NaN where the oracle gains nothing."""
        return self.share("routed")

    def share(self, name: str) -> float:
        """The gain of a row over the base, as a share of the oracle's."""
        gain = self["base"].loss - self["oracle"].loss
        return (self["base"].loss - self[name].loss) / gain if gain > 0 else float("nan")

    def summary(self) -> str:
        """A table for people."""
        console = Console(file=io.StringIO(), width=_WIDTH)
        table = Table(title=f"{len(self.tasks)} tasks, {self.unit}", title_justify="left")
        for heading in ("", "all", "mean of tasks", "worst task", "oracle's gain"):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
        for row in self.rows:
            share = self.share(row.name)
            table.add_row(row.label, *_cells(row), "" if np.isnan(share) else f"{share:.0%}")
        console.print(table)
        console.print(self._sentence(), highlight=False)
        return console.file.getvalue().rstrip()  # pyright: ignore[reportAttributeAccessIssue]

    __str__ = summary

    def _sentence(self) -> str:
        routing, cost = self.routing, self.cost
        lines = ["100% of the oracle's gain is what each task's own specialist gains over the base."]
        if self.recovered > 1:
            lines.append(
                "Routing gains more: another's specialist often fits an input better than its own, of a small task."
            )
        lines.append(
            f"Routing: {routing.accuracy:.1%} of the inputs to their own specialist, {routing.false_fallback:.1%} "
            "falsely to the base."
        )
        if routing.novel_fallback is not None:
            lines.append(f"Of the inputs of novel tasks {routing.novel_fallback:.1%} went to the base.")
        lines.append(f"One more specialist: {cost.bytes:,} bytes{_seconds(cost)}.")
        return "\n".join(lines)


def _seconds(cost: Cost) -> str:
    if cost.seconds is None:
        return ""
    return f" and {cost.seconds:.3g} s to fit, compilation apart ({cost.first_seconds:.3g} s the first time, with it)"


def _cells(row: Row) -> tuple[str, str, str]:
    if row.by_task is None:
        return "not given", "", ""
    return f"{row.loss:.4f}", f"{np.mean(row.by_task):.4f}", f"{np.max(row.by_task):.4f}"
