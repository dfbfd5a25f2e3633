"""What the benchmark commands share: a process for each race, tables, and dated result files. Does not load JAX."""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.packages import version
from jaxopt_lite.cores import cores

__all__ = ["check_load", "chosen", "in_child", "in_children", "pattern", "print_rows", "save"]

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "optimistix", "lineax", "tfp-nightly", "jaxopt", "nlsq")
_PACKAGES += ("regex", "rustbpe", "tiktoken", "tokenizers", "sentencepiece")


def chosen(parser: argparse.ArgumentParser, names: Iterable[str], kind: str) -> tuple[argparse.Namespace, list[str]]:
    """The options of a command, with `--only` added, and the names it matches; it is an error if it matches none.

    `kind` says what the names are, such as "race".
    """
    names = list(names)
    listed = ", ".join(names)
    parser.add_argument(
        "--only", type=pattern, metavar="PATTERN", default="", help=f"{kind}s whose name matches: {listed}"
    )
    options = parser.parse_args()
    matching = [name for name in names if re.search(options.only, name)]
    if not matching:
        parser.error(f"no {kind} matches {options.only!r}; there are {listed}")
    return options, matching


def pattern(word: str) -> str:
    """A regular expression, as the type of an argument."""
    try:
        re.compile(word)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"expected a regular expression, got {word!r}: {error}") from error
    return word


def in_child(module: str, *arguments: object, xla_flags: str = "") -> list[dict]:
    """Run `python -m module *arguments OUT` in a process of its own, and return the rows it writes; none if it fails.

    `xla_flags` apply to everything in that process, peers included.

    This process must not have loaded JAX: a child's peak memory begins at its parent's.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, "-m", module, *map(str, arguments), str(out)]
        flags = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip()
        subprocess.run(command, cwd=_ROOT, env=os.environ | {"XLA_FLAGS": flags})
        return json.loads(out.read_text()) if out.exists() else []


def in_children(commands: list[tuple]) -> list[dict] | None:
    """The rows of several children, two at a time: for counts, not for times. `None` if one of them fails."""
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda command: in_child(*command), commands))
    return [row for rows in parts for row in rows] if all(parts) else None


def print_rows(title: str, rows: list[dict]) -> None:
    """A table of one race, fastest first."""
    table = Table(title=title, title_justify="left")
    headings = ("problems", "compile s", "run", "per problem", "problems/s", "solved", "x best peer", "cores", "MiB")
    table.add_column("solver", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in sorted(rows, key=lambda row: -row["solved_per_second"]):
        ratio = row["times_best_peer"]
        table.add_row(
            f"[bold]{row['solver']}[/bold]" if row["is_ours"] else row["solver"],
            f"{row['problems']:,}",
            f"{row['compile_s']:.1f}",
            _time(row["run_s"]),
            _time(row["run_s"] / row["problems"]),
            f"{row['problems_per_second']:,.0f}",
            f"{100 * row['solved']:.1f}%",
            "" if ratio is None else f"{ratio:.2f}",
            f"{row['cores_used']:.1f}",
            "" if row["peak_mib"] is None else f"{row['peak_mib']:,.0f}",
        )
    Console(width=130).print(table)


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def save(name: str, rows: list[dict], load: float, only: str = "", device: str = "") -> Path:
    """Write `results/<date>-<device>-<name>.json` with what is needed to run it again.

    `only` is the pattern that chose a part, `device` the name of what it ran on, unless that is this machine's CPU.
    """
    device = _slug(device) if device else _device()
    now = datetime.now(UTC)
    today = now.date().isoformat()
    content = {
        "date": today,
        "time": f"{now:%H:%M}",
        "device": device,
        "load_before": round(load, 2),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in _PACKAGES},
        "commit": _commit(),
        "command": " ".join(["python -m", f"benchmarks.{name}", *map(_without_folders, sys.argv[1:])]),
        "rows": rows,
    }
    part = "-part-" + re.sub(r"\W+", "_", only).strip("_") if only else ""
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{today}-{device}-{name}{part}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def check_load() -> float:
    """The load of the machine before the run; warns when other work is running on it."""
    load = os.getloadavg()[0]
    if load > 0.5:
        Console().print(f"[yellow]The load is {load:.1f}: other work is running, so these are not clean numbers.")
    return load


def _device() -> str:
    """Such as `intel-xeon-2-cores`."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = next((line for line in info.read_text().splitlines() if line.startswith("model name")), name)
    name = name.split(":")[-1].split("@")[0].lower()
    name = re.sub(r"\(r\)|\(tm\)|processor|cpu|\d+-core", " ", name)
    return _slug(f"{name} {cores()} cores")


def _slug(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9.]+", text.lower()))


def _without_folders(word: str) -> str:
    """A path as its last part: where files lie on this machine is private."""
    return Path(word).name if "/" in word else word


def _commit() -> str | None:
    """The commit, with `+` when files of the package or the benchmarks differ from it."""
    git = ["git", "-C", str(_ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        paths = ["jaxopt_lite", "benchmarks/*.py", "tests/problems.py"]
        changed = subprocess.run([*git, "status", "--porcelain", "--", *paths], capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + "+" * bool(changed.stdout.strip())
