"""`jaxopt-lite bench`: how fast this machine is, how long compiling takes, and how much was solved."""

import argparse
import json
import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from jaxopt_lite.bpe.command import INTERRUPTED, count
from jaxopt_lite.commands import chart
from jaxopt_lite.cores import cores
from jaxopt_lite.files import write
from jaxopt_lite.progress import interruptible, working

if TYPE_CHECKING:
    from jaxopt_lite.commands.measure import Measured

__all__ = ["add"]

_SIZE = 10_000
_BUSY = 0.5  # cores, kept busy by other programs
_WORDS = (
    "Problems per second are those solved and verified, in the median of five runs after the first. Compiling is how "
    "much longer the first run took; JAX keeps what it has compiled until the program ends. The text is this package's "
    "source code; it is encoded by tokenizers that have not encoded it before."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command to a parser."""
    parser.add_argument("--problems", type=count, default=_SIZE, metavar="N", help=f"in each batch (default {_SIZE:,})")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="(default float64)")
    parser.add_argument("--save", type=_picture, metavar="FILE", help="save a picture: .png, .svg or .pdf")
    parser.add_argument("--json", type=_place, metavar="FILE", help="save all numbers, of every run")
    parser.set_defaults(run=_bench)


def _place(word: str) -> Path:
    path = Path(word)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected the name of a file in an existing folder, got {word!r}")
    return path


def _picture(word: str) -> Path:
    path = _place(word)
    if path.suffix[1:].lower() not in chart.FORMATS:
        raise argparse.ArgumentTypeError(f"expected a name that ends with .png, .svg or .pdf, got {word!r}")
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("a picture needs matplotlib; install it with: pip install 'jaxopt-lite[plot]'")
    return path


def _bench(options: argparse.Namespace, console: Console) -> int:
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    with working("loading JAX"):
        from jaxopt_lite.commands import machine, measure

        machine.use(options.dtype)
        about = _about(options, dict(machine.devices()), busy)
    console.print(_title(about), soft_wrap=True)
    if busy > _BUSY:
        console.print(f"Other programs are running (load {busy:.1f}): this machine is faster when idle.")
    measured: list[Measured] = []
    status = 0
    try:
        with interruptible(), working("compiling, solving, encoding"):
            for each in chain(measure.solving(options.dtype, options.problems), measure.encoding()):
                measured.append(each)
    except KeyboardInterrupt:
        status = INTERRUPTED
        console.print("\nStopped. Until then:")
    if measured:
        console.print()
        chart.table(console, measured)
        chart.bars(console, measured)
        console.print(f"\n{_WORDS}")
    return status or _keep(options, console, measured, about)


def _about(options: argparse.Namespace, device: dict[str, str], busy: float) -> dict[str, Any]:
    """The machine and the versions that are measured."""
    return {
        **{name: version(name) for name in ("jaxopt-lite", "jax", "numpy")},
        "python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}", **device,
        "cores": cores(), "load": busy, "dtype": options.dtype,
    }  # fmt: skip


def _title(about: dict[str, Any]) -> str:
    return (
        f"jaxopt_lite {about['jaxopt-lite']}, JAX {about['jax']}, {about['dtype']} on {about['devices']}; "
        f"{about['cores']} CPU cores, {about['system']}"
    )


def _keep(options: argparse.Namespace, console: Console, measured: list["Measured"], about: dict[str, Any]) -> int:
    """Write the files asked for; returns the exit status."""
    try:
        if options.json is not None:
            content = {"about": about, "measured": [each.as_dict() for each in measured]}
            write(options.json, json.dumps(content, indent=2).encode() + b"\n")
        if options.save is not None:
            chart.picture(measured, _title(about), options.save)
    except OSError as error:
        console.print(f"Not written: {error}", markup=False)
        return 1
    return 0
