"""The command line: `jaxopt-lite`, or `python -m jaxopt_lite`. Without a command it demonstrates."""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

import jaxopt_lite as jol
from jaxopt_lite.bpe import command as bpe
from jaxopt_lite.commands import bench, demo, doctor
from jaxopt_lite.cores import cores

# Each adds its options to a parser; `options.run(options, console)` runs it and returns its exit status.
_COMMANDS = {
    "demo": (demo.add, "ten thousand power flows and regressions, a tokenizer, specialists (default)"),
    "doctor": (doctor.add, "versions, devices, cores and known problems here, and whether it works"),
    "bench": (bench.add, "how fast this machine is, in half a minute"),
    "bpe": (bpe.add_commands, "byte-pair encoding: train, encode, decode, inspect"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: those of the command line by default.

    Returns:
        The exit status: 0 if all is well, 1 if not all is solved and verified or a command fails, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words.insert(0, "demo")
    parser = _parser()
    options, console = parser.parse_args(words), _console()
    try:
        cores()
    except ValueError as error:  # a wrong variable is what a wrong option is; `doctor` says more than this
        if words[0] != "doctor":
            parser.error(str(error))
    try:
        return _run(options, console)
    except (OSError, MemoryError) as error:  # of a disk that is full, for instance, to which all of this is written
        if sys.stderr is not None:
            print(f"{_called()} {words[0]}: error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, console: Console) -> int:
    try:
        return options.run(options, console)
    except KeyboardInterrupt:  # while JAX was loaded, for instance
        console.print("\nStopped.")
        return bpe.INTERRUPTED


def _console() -> Console:
    """For standard output. What its encoding lacks is written as Python escapes it, such as the × of a count."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(_called(), description=(jol.__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"jaxopt_lite {jol.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, (add, what) in _COMMANDS.items():
        add(commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}."))
    return parser


def _called() -> str:
    """By what name the user started it."""
    name = Path(sys.argv[0]).name
    return "jaxopt-lite" if name.startswith("jaxopt-lite") else "python -m jaxopt_lite"


if __name__ == "__main__":
    sys.exit(main())
