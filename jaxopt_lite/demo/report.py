"""Prints the counts and times of a batch, and the distribution of a number."""

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from jaxopt_lite.demo.batches import Tally

__all__ = ["print_histogram", "print_tally"]

_BARS = 40  # characters


def print_tally(console: Console, tally: Tally, criterion: str, certificate: str) -> None:
    """Print how many problems were solved and verified, and how fast.

    Args:
        console: where to print.
        tally: the tally of the batch.
        criterion: when the solver calls a problem solved.
        certificate: what verified the answers.
    """
    per_second = tally.reached / max(tally.solve_seconds, 1e-9)
    lines = Table.grid(padding=(0, 2))
    lines.add_row("solved", f"{tally.solved:,} of {tally.size:,}: {criterion}")
    lines.add_row("verified", f"{tally.verified:,} of {tally.size:,}: {certificate}")
    lines.add_row(
        "time",
        f"compiling {tally.compile_seconds:.1f} s, solving {tally.solve_seconds:.2f} s "
        f"({per_second:,.0f} a second), verifying {tally.verify_seconds:.2f} s",
    )
    console.print(lines)


def print_histogram(console: Console, values: Float[np.ndarray, " B"], bins: int = 12) -> None:
    """Print how often values fall into each of a few equal intervals.

    Args:
        console: where to print.
        values: finite numbers.
        bins: how many intervals.
    """
    counts, edges = np.histogram(values, bins)
    mark = "#" if console.options.ascii_only else "█"
    rows = Table.grid(padding=(0, 1))
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = mark * round(_BARS * count / counts.max())
        rows.add_row(f"{low:.4f} to {high:.4f}", bar, f"{count:,}")
    console.print(rows)
