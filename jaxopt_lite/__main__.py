"""The command line: `python -m jaxopt_lite` demonstrates, `... devices` shows on what, `... bpe` encodes text."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

import jaxopt_lite as jol
from jaxopt_lite.bpe.command import add_commands, count
from jaxopt_lite.progress import working

# How many of each thing, and how many with `--quick`.
_COUNTS = {"scenarios": (10_000, 1000), "refits": (10_000, 1000), "specialists": (250, 25)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: those of the command line by default.

    Returns:
        The exit status: 0 if all is well, 1 if not all is solved and verified or a command fails, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in ("demo", "devices", "bpe", "-h", "--help", "--version"):
        words.insert(0, "demo")
    options = _parser().parse_args(words)
    return options.run(options, Console(highlight=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m jaxopt_lite", description=(jol.__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"jaxopt_lite {version('jaxopt-lite')}")
    commands = parser.add_subparsers(required=True)
    demo = commands.add_parser(
        "demo", help="ten thousand power flows and regressions, a tokenizer, specialists (default)"
    )
    demo.add_argument("--quick", action="store_true", help="the same with fewer of all: fifteen seconds, not thirty")
    for name, what in (
        ("scenarios", "power flows"),
        ("refits", "refits of each regression"),
        ("specialists", "modules with a specialist each"),
    ):
        many, few = _COUNTS[name]
        demo.add_argument(f"--{name}", type=count, help=f"{what} (default {many}; {few} with --quick)")
    demo.add_argument("--seed", type=int, default=0, help="of the random loads and resamples (default 0)")
    demo.add_argument("--text", type=_file, nargs="+", metavar="FILE", help="to encode (default: Python's library)")
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
    for name, (many, few) in _COUNTS.items():
        if getattr(options, name) is None:
            setattr(options, name, few if options.quick else many)
    with working("loading JAX"):
        from jaxopt_lite.demo.command import demo  # it loads JAX, which `bpe` can do without

    return demo(options, console)


def _devices(options: argparse.Namespace, console: Console) -> int:
    from jaxopt_lite.demo.command import devices

    return devices(options, console)


if __name__ == "__main__":
    sys.exit(main())
