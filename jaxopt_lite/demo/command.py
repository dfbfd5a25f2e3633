"""`python -m jaxopt_lite` and `python -m jaxopt_lite devices`. Each ends with the exit status that it returns."""

import argparse
import sys

import jax
from rich.console import Console
from rich.table import Table

from jaxopt_lite.bpe.command import INTERRUPTED
from jaxopt_lite.cores import cores
from jaxopt_lite.demo import confidence, encoding, lowest_voltage, specialists
from jaxopt_lite.demo.batches import Tally
from jaxopt_lite.lanes.tiles import Lanes, Work, tile_width
from jaxopt_lite.progress import interruptible

__all__ = ["demo", "devices"]


def demo(options: argparse.Namespace, console: Console) -> int:
    """Run all four parts, and say whether everything was solved and verified."""
    jax.config.update("jax_enable_x64", True)  # certified digits and tight tolerances want float64
    tallies: list[Tally] = []
    try:
        with interruptible():
            lowest_voltage.run(options.scenarios, options.seed, console, tallies)
            for name in confidence.SUBJECTS:
                confidence.run(name, options.refits, options.seed, console, tallies)
            encoding.run(options.text, console, tallies)
            specialists.run(options.specialists, options.seed, console, tallies)
    except KeyboardInterrupt:
        console.print("\nStopped. Until then:")
        for tally in tallies:
            console.print(
                f"  {tally.name}: {tally.size:,} problems, {tally.reached:,} reached, {tally.solved:,} solved"
            )
        return INTERRUPTED
    incomplete = [tally.name for tally in tallies if not tally.is_complete]
    console.print()
    console.print(f"Not all solved and verified: {', '.join(incomplete)}" if incomplete else "All solved and verified.")
    return 1 if incomplete else 0


def devices(options: argparse.Namespace, console: Console) -> int:
    """Say what JAX runs on, and how problems are laid out on it."""
    platform = jax.default_backend()
    lines = Table.grid(padding=(0, 2))
    lines.add_row("JAX", jax.__version__)
    lines.add_row("backend", platform)
    lines.add_row("devices", ", ".join(f"{device.id}: {device.device_kind}" for device in jax.devices()))
    lines.add_row("cores", str(cores()))
    lines.add_row("path", _path(platform))
    console.print(lines)
    return 0


def _path(platform: str) -> str:
    """In words, how a batch is laid out on this platform."""

    def width(work: Work, n: int, batch: int) -> int:
        return tile_width(Lanes(work, "float64", 8 * n * n), platform, batch)

    if platform != "cpu":
        return f"one pool of lanes for the whole batch, up to {width(Work.RANK_ONE, 1, sys.maxsize):,} at a time"
    works = Work.RANK_TWO, Work.RANK_ONE
    bfgs, broyden = (", ".join(f"{width(work, n, 1)} for {n}" for n in (2, 10, 100)) for work in works)
    return (
        "a pool of lanes that fits the cache, one native function where the problem allows; "
        f"lanes by the number of unknowns, float64: BFGS {bfgs}; Broyden {broyden}"
    )
