"""The command line: `python -m jaxopt_lite` demonstrates, `... devices` shows on what, `... bpe` encodes text."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

import jaxopt_lite as jol
from jaxopt_lite.bpe.command import INTERRUPTED, add_commands, count
from jaxopt_lite.demo import confidence, encoding, lowest_voltage
from jaxopt_lite.demo.batches import Tally
from jaxopt_lite.lanes.tiles import Work, tile_width


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: those of the command line by default.

    Returns:
        The exit status: 0 if all is well, 1 if not all is solved and verified or a command fails, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in ("demo", "devices", "bpe", "-h", "--help"):
        words.insert(0, "demo")
    options = _parser().parse_args(words)
    return options.run(options, Console(highlight=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m jaxopt_lite", description=jol.__doc__)
    commands = parser.add_subparsers(required=True)
    demo = commands.add_parser("demo", help="ten thousand power flows and regressions, and a tokenizer (the default)")
    demo.add_argument("--scenarios", type=count, default=10_000, help="power flows (default 10000)")
    demo.add_argument("--refits", type=count, default=10_000, help="refits of each regression (default 10000)")
    demo.add_argument("--seed", type=int, default=0, help="of the random loads and resamples (default 0)")
    demo.add_argument("--text", type=_file, nargs="+", metavar="FILE", help="to encode (default: Python's own library)")
    demo.set_defaults(run=_demo)
    devices = commands.add_parser("devices", help="what JAX runs on here, and how problems are laid out on it")
    devices.set_defaults(run=_devices)
    add_commands(commands.add_parser("bpe", help="byte-pair encoding: train, encode, decode, inspect"))
    return parser


def _file(word: str) -> Path:
    path = Path(word)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {word!r}")
    return path


def _demo(options: argparse.Namespace, console: Console) -> int:
    jax.config.update("jax_enable_x64", True)  # certified digits and tight tolerances want float64
    tallies: list[Tally] = []
    try:
        lowest_voltage.run(options.scenarios, options.seed, console, tallies)
        for name in confidence.SUBJECTS:
            confidence.run(name, options.refits, options.seed, console, tallies)
        encoding.run(options.text, console, tallies)
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


def _devices(options: argparse.Namespace, console: Console) -> int:
    platform = jax.default_backend()
    lines = Table.grid(padding=(0, 2))
    lines.add_row("JAX", jax.__version__)
    lines.add_row("backend", platform)
    lines.add_row("devices", ", ".join(f"{device.id}: {device.device_kind}" for device in jax.devices()))
    lines.add_row("cores", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()))
    lines.add_row("path", _path(platform))
    console.print(lines)
    return 0


def _path(platform: str) -> str:
    """In words, how a batch is laid out on this platform."""

    def width(work: Work, n: int, batch: int) -> int:
        return tile_width(work, n, "float64", 8 * n * n, platform, batch)

    if platform != "cpu":
        return f"one pool of lanes for the whole batch, up to {width(Work.RANK_ONE, 1, sys.maxsize):,} at a time"
    works = Work.RANK_TWO, Work.RANK_ONE
    bfgs, broyden = (", ".join(f"{width(work, n, 1)} for {n}" for n in (2, 10, 100)) for work in works)
    return (
        "a pool of lanes that fits the cache, one native function where the problem allows; "
        f"lanes by the number of unknowns, float64: BFGS {bfgs}; Broyden {broyden}"
    )


if __name__ == "__main__":
    sys.exit(main())
