"""The command line: `python -m jaxopt_lite` demonstrates, `... devices` shows on what, `... bpe` encodes text."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

import jaxopt_lite as jol
from jaxopt_lite.bpe.command import add_commands, count


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
    demo = commands.add_parser(
        "demo", help="ten thousand power flows and regressions, a tokenizer, specialists (default)"
    )
    demo.add_argument("--scenarios", type=count, default=10_000, help="power flows (default 10000)")
    demo.add_argument("--refits", type=count, default=10_000, help="refits of each regression (default 10000)")
    demo.add_argument("--specialists", type=count, default=250, help="modules with a specialist each (default 250)")
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
    from jaxopt_lite.demo.command import demo  # it loads JAX, which `bpe` can do without

    return demo(options, console)


def _devices(options: argparse.Namespace, console: Console) -> int:
    from jaxopt_lite.demo.command import devices

    return devices(options, console)


if __name__ == "__main__":
    sys.exit(main())
