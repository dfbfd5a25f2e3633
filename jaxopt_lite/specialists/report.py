"""What an evaluation found, and its units: plain numbers, and a table for people."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, PyTree
from rich import box
from rich.console import Console
from rich.table import Table

from jaxopt_lite import plots
from jaxopt_lite.tables import html_table

__all__ = ["PER_EXAMPLE", "Confusion", "Cost", "Report", "Routing", "Row", "Unit"]

_WIDTH = 80  # characters
_HEADINGS = "", "all", "mean\nof tasks", "worst\ntask", "oracle's\ngain"
_LABELS = {"oracle": "oracle: own specialist"}


class Unit(NamedTuple):
    """A reported loss is Σ w_i loss_i / Σ amount_i, over the examples of one task or of all.

    Attributes:
        name: the name, as printed.
        amount: `amount(x, weight) -> [N]`, how much of it each example has.
    """

    name: str
    amount: Callable[[PyTree, Float[np.ndarray, " N"]], Float[np.ndarray, " N"]]


PER_EXAMPLE = Unit("mean loss", lambda x, weight: weight)


class Row(NamedTuple):
    """How well one way to answer does.

    Attributes:
        name: its name.
        loss: the loss over the examples of all tasks, in the report's unit; NaN where it was not given.
        by_task: the same for each task, or None.
        examples: for the monolith, how many examples it was fitted to, and how many all specialists were; else None.
    """

    name: str
    loss: float
    by_task: Float[np.ndarray, " T"] | None
    examples: tuple[int, int] | None = None

    @property
    def label(self) -> str:
        """Its name in a table, with the examples below."""
        name = _LABELS.get(self.name, self.name)
        return name if self.examples is None else "{}\n  ({:,} of {:,} examples)".format(name, *self.examples)


class Routing(NamedTuple):
    """How well inputs found their specialists.

    Attributes:
        accuracy: the share that went to the specialist of their own task.
        false_fallback: the share that went to the base although there is a specialist for them.
        novel_fallback: the share of the inputs of novel tasks that went to the base; None without such tasks.
    """

    accuracy: float
    false_fallback: float
    novel_fallback: float | None


class Cost(NamedTuple):
    """What adding one more specialist takes.

    Attributes:
        bytes: the size of its parameters, and of what routers and merges know of it.
        seconds: the time to fit the first of the tasks again, compiled; None where no training tasks were given.
        first_seconds: the time of the first fit, which also compiles.
    """

    bytes: int
    seconds: float | None
    first_seconds: float | None


class Confusion(NamedTuple):
    """Where the inputs of each task went.

    Attributes:
        tasks: the rows; the novel ones come last.
        specialists: the columns; the last is the base.
        counts: how many inputs of each task went to each.
    """

    tasks: tuple[str, ...]
    specialists: tuple[str, ...]
    counts: Int[np.ndarray, "T S"]


@dataclass(frozen=True, eq=False)
class Report:
    """An evaluation. `print(report)` shows the table.

    Attributes:
        unit: the unit of all losses.
        tasks: the names of the tasks that have a specialist.
        rows: base, monolith, joint retrain, random routing, uniform merge, oracle, routed.
        routing: how well inputs found their specialists.
        cost: the cost of adding one more.
        specialists: the names of all specialists.
        destinations: where the inputs of each task went, novel ones included, by its name: `[n]`, −1 for the base.
    """

    unit: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    routing: Routing
    cost: Cost
    specialists: tuple[str, ...]
    destinations: Mapping[str, Int[np.ndarray, " n"]]

    def __getitem__(self, name: str) -> Row:
        """The row of this name, or the one whose name begins so.

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

    def confusion(self) -> Confusion:
        """How many inputs of each task went to each specialist, and to the base."""
        columns = len(self.specialists) + 1
        counts = [
            np.bincount(np.where(index < 0, columns - 1, index), minlength=columns)
            for index in self.destinations.values()
        ]
        return Confusion(tuple(self.destinations), (*self.specialists, "base"), np.stack(counts))

    def plot(self, ax: Any = None) -> Any:
        """Draw where the inputs of each task went: `plots.confusion`.

        Args:
            ax: matplotlib axes to draw on; by default those of a new figure.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return plots.confusion(self, ax=ax)

    def summary(self) -> str:
        """A table for people."""
        console = Console(file=io.StringIO(), width=_WIDTH)
        table = Table(title=self._title(), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for heading in _HEADINGS:
            table.add_column(heading, justify="right" if heading else "left", overflow="fold")
        for row in self.rows:
            table.add_row(row.label, *self._cells(row))
        console.print(table)
        console.print(self._notes(), highlight=False)
        return console.file.getvalue().rstrip()  # pyright: ignore[reportAttributeAccessIssue]

    __str__ = summary

    def __repr__(self) -> str:
        return f"Report({self._title()}; routed {self['routed'].loss:.4f}, oracle {self['oracle'].loss:.4f})"

    def _repr_html_(self) -> str:
        rows = ((row.label, *self._cells(row)) for row in self.rows)
        return html_table(self._title(), _HEADINGS, rows) + f"<pre>{escape(self._notes())}</pre>"

    def _title(self) -> str:
        return f"{len(self.tasks)} tasks, {self.unit}"

    def _cells(self, row: Row) -> tuple[str, ...]:
        share = self.share(row.name)
        return *_cells(row), "" if np.isnan(share) else f"{share:.0%}"

    def _notes(self) -> str:
        routing, cost = self.routing, self.cost
        lines = ["100% of the oracle's gain is what each task's own specialist gains over the base."]
        if self.recovered > 1:
            lines.append(
                "Routing gains more than the oracle: for a small task another task's specialist often fits better "
                "than its own."
            )
        lines.append(
            f"Routing: {routing.accuracy:.1%} of the inputs to their own specialist, {routing.false_fallback:.1%} "
            "falsely to the base."
        )
        if routing.novel_fallback is not None:
            lines.append(f"Of the inputs of novel tasks, {routing.novel_fallback:.1%} went to the base.")
        lines.append(f"One more specialist: {cost.bytes:,} bytes{_seconds(cost)}.")
        return "\n".join(lines)


def _seconds(cost: Cost) -> str:
    if cost.seconds is None:
        return ""
    first = f"{cost.first_seconds:.3g} s the first time, including compilation"
    return f" and {cost.seconds:.3g} s to fit once compiled ({first})"


def _cells(row: Row) -> tuple[str, str, str]:
    if row.by_task is None:
        return "not given", "", ""
    return f"{row.loss:.4f}", f"{np.mean(row.by_task):.4f}", f"{np.max(row.by_task):.4f}"
