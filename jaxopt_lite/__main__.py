"""The command line: `jaxopt-lite`, or `python -m jaxopt_lite`. Without a command it runs the demo."""

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
    "doctor": (doctor.add, "versions, devices, cores and known problems, and whether it works here"),
    "bench": (bench.add, "how fast this machine is, in half a minute"),
    "bpe": (bpe.add_commands, "byte-pair encoding: train, encode, decode, inspect"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: by default those of the command line.

    Returns:
        The exit status: 0 if all is well, 1 if a command fails or not all is solved and verified, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words.insert(0, "demo")
    parser = _parser()
    options, console = parser.parse_args(words), _console()
    try:
        cores()
    except ValueError as error:  # a wrong environment variable is like a wrong option; `doctor` says more
        if words[0] != "doctor":
            parser.error(str(error))
    try:
        return _run(options, console)
    except (OSError, MemoryError) as error:  # because of a full disk, for instance
        if sys.stderr is not None:
            print(f"{_called()} {words[0]}: error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, console: Console) -> int:
    try:
        return options.run(options, console)
    except KeyboardInterrupt:  # while JAX is being loaded, for instance
        console.print("\nStopped.")
        return bpe.INTERRUPTED


def _console() -> Console:
    """For standard output. Characters that its encoding lacks, such as ×, are written as Python escapes."""
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
    """The name by which the user started it."""
    name = Path(sys.argv[0]).name
    return "jaxopt-lite" if name.startswith("jaxopt-lite") else "python -m jaxopt_lite"


if __name__ == "__main__":
    sys.exit(main())
