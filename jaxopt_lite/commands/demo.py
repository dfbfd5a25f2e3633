"""`jaxopt-lite demo`: the options of the demonstration, which is in `demo/` and loads JAX."""

import argparse
from pathlib import Path

from rich.console import Console

from jaxopt_lite.bpe.command import count
from jaxopt_lite.progress import working

__all__ = ["add"]

# How many of each thing, and how many with `--quick`.
_COUNTS = {
    "scenarios": (10_000, 1000, "power flows"),
    "refits": (10_000, 1000, "refits of each regression"),
    "specialists": (250, 25, "modules with a specialist each"),
}

_LARGEST_SEED = 2**63 - 1  # the largest that JAX takes


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command to a parser."""
    parser.add_argument("--quick", action="store_true", help="the same with fewer of each: fifteen seconds, not thirty")
    for name, (many, few, what) in _COUNTS.items():
        parser.add_argument(f"--{name}", type=count, metavar="N", help=f"{what} (default {many}; {few} with --quick)")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of all random numbers (default 0)")
    parser.add_argument("--text", type=_file, nargs="+", metavar="FILE", help="to encode (default: Python's library)")
    parser.set_defaults(run=_demo)


def _seed(word: str) -> int:
    if not word.isdecimal() or int(word) > _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2^63 - 1, got {word!r}")
    return int(word)


def _file(word: str) -> Path:
    path = Path(word)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {word!r}")
    return path


def _demo(options: argparse.Namespace, console: Console) -> int:
    for name, (many, few, _) in _COUNTS.items():
        if getattr(options, name) is None:
            setattr(options, name, few if options.quick else many)
    with working("loading JAX"):
        from jaxopt_lite.demo.command import demo  # it loads JAX, which the other commands can do without

    return demo(options, console)
