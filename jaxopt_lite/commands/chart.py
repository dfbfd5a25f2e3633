"""The measurements as a table and bars for a terminal, and as a picture. Only the picture loads matplotlib."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from jaxopt_lite.files import write
from jaxopt_lite.plots.style import BLUE, ORANGE

if TYPE_CHECKING:
    from jaxopt_lite.commands.measure import Measured

__all__ = ["FORMATS", "bars", "picture", "table"]

FORMATS = ("png", "svg", "pdf")
_BAR = 30  # characters
_UNITS = {"problems": "problems solved per second", "bytes": "megabytes per second"}


def table(console: Console, measured: Sequence["Measured"]) -> None:
    """Print one row for each kind of work."""
    lines = Table("", "success", "compiling", "a run", "per second", box=None, padding=(0, 2, 0, 0))
    for column in lines.columns[1:]:
        column.justify = "right"
    for each in measured:
        compiling = "" if each.compiling is None else f"{each.compiling:.2f} s"
        lines.add_row(each.name, f"{each.success:.2%}", compiling, _seconds(each.run), _rate(each))
    console.print(lines)


def bars(console: Console, measured: Sequence["Measured"]) -> None:
    """Print the rates as bars, those of problems on a logarithmic scale."""
    mark = "#" if console.options.ascii_only else "█"
    for unit, caption in _UNITS.items():
        chosen = [each for each in measured if each.unit == unit and each.rate > 0]
        if not chosen:
            continue
        low, high = _ends(chosen) if unit == "problems" else (0.0, max(each.rate for each in chosen))
        scale = f": a full bar is {high:,.0f}, none is {low:,.0f}, logarithmic" if unit == "problems" else ""
        console.print(f"\n{caption.capitalize()}{scale}")
        lines = Table.grid(padding=(0, 1))
        lines.add_column()
        lines.add_column()
        lines.add_column(justify="right")
        for each in chosen:
            share = math.log(each.rate / low) / math.log(high / low) if low else each.rate / high
            lines.add_row(each.name, mark * max(1, round(_BAR * share)), _rate(each))
        console.print(lines)


def picture(measured: Sequence["Measured"], title: str, path: Path) -> None:
    """Save a picture of the rates and of the time for compiling, in the format that the file's suffix says.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    figure = Figure(figsize=(9, 5), layout="constrained", facecolor="white")
    problems, compiling, data, empty = figure.subplots(2, 2, width_ratios=(3, 1.4), height_ratios=(5, 2)).flat
    empty.remove()
    solved = [each for each in measured if each.unit == "problems"][::-1]
    encoded = [each for each in measured if each.unit == "bytes"][::-1]
    labels = [_rate(each) + (f" ({each.success:.1%} solved)" if each.success < 1 else "") for each in solved]
    _draw(problems, solved, [each.rate for each in solved], labels, BLUE)
    problems.set(xscale="log", xlim=_ends(solved), xlabel=f"{_UNITS['problems']} (logarithmic)")
    seconds = [each.compiling or 0.0 for each in solved]
    _draw(compiling, solved, seconds, [f"{each:.1f} s" for each in seconds], ORANGE)
    compiling.set(xlabel="seconds to compile, once", yticklabels=[])
    rates = [each.rate / 1e6 for each in encoded]
    _draw(data, encoded, rates, [f"{rate:.1f}" for rate in rates], BLUE)
    data.set(xlabel=_UNITS["bytes"])
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=160)
    write(path, buffer.getvalue())


def _draw(axes, measured: Sequence["Measured"], values: list[float], labels: list[str], color: str) -> None:
    """Horizontal bars with labels."""
    drawn = axes.barh([each.name for each in measured], values, color=color)
    axes.bar_label(drawn, labels, padding=3, fontsize="small")
    axes.margins(x=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _ends(measured: Sequence["Measured"]) -> tuple[float, float]:
    """Powers of ten around the rates."""
    rates = [each.rate for each in measured if each.rate > 0] or [1.0]
    low, high = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _rate(each: "Measured") -> str:
    return f"{float(f'{each.rate:.3g}'):,.0f}" if each.unit == "problems" else f"{each.rate / 1e6:.1f} MB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
