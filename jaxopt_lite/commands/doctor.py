"""`jaxopt-lite doctor`: what is installed here, its known problems, and whether the package works."""

import argparse
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxopt_lite.commands.known import KNOWN, known_problems
from jaxopt_lite.cores import VARIABLE, cores
from jaxopt_lite.progress import working

__all__ = ["add", "doctor"]

_PACKAGE = "jaxopt-lite"
_DEVELOPERS = {"test", "bench", "docs"}  # extras that no user needs
_SHOWN = ("jax", "jaxlib", "numpy")  # listed first
_SETTINGS = ("JAX_", "XLA_", "JAXOPT_LITE_")  # prefixes of environment variables that change what happens
_BATCH = 10_000  # problems
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command to a parser."""
    parser.set_defaults(run=doctor)


def doctor(_: argparse.Namespace, console: Console) -> int:
    """Say what is installed here, and try it; returns 1 if something keeps the package from working."""
    wrong = list(_unmet())
    _show(console, "Versions", _versions())
    backend, works = None, ""
    try:
        with working("loading JAX"):
            from jaxopt_lite.commands import machine

            devices = machine.devices()
        backend = devices[0][1]
        _show(console, "Machine", [*devices, *machine.precision(), *_cores(), *_settings()])
        _show(console, f"How {_BATCH:,} problems are solved in one call", machine.ways(_BATCH))
        with working("compiling and solving"):
            works = machine.solve()
    except Exception as error:  # any error is what this command looks for
        wrong.append(f"{type(error).__name__}: {error}")
    _show(console, "Known problems of exactly these versions", _known(backend))
    console.print()
    for each in wrong:
        console.print(f"Wrong: {each}", markup=False)
    if not wrong:
        console.print(f"It works: {works}.")
    return 1 if wrong else 0


def _show(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    console.print()
    console.rule(title, align="left")
    lines = Table.grid(padding=(0, 2))
    for name, text in rows:
        lines.add_row(Text(name), Text(text, overflow="fold"))  # so that long paths are shown in full
    console.print(lines)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _requirements(extra: str = "") -> Iterator[Requirement]:
    """What the package needs here, by itself or only with an extra."""
    for each in map(Requirement, requires(_PACKAGE) or ()):
        always, asked = (each.marker is None or each.marker.evaluate({"extra": name}) for name in ("", extra))
        if asked and (not extra or not always):
            yield each


def _unmet() -> Iterator[str]:
    """What the package needs that is missing, or has the wrong version."""
    for each in _requirements():
        there = _installed(each.name)
        if there is None:
            yield f"{each.name} is not installed; expected {each.name}{each.specifier}"
        elif not each.specifier.contains(there, prereleases=True):
            yield f"{each.name} is {there}; expected {each.name}{each.specifier}"


def _versions() -> list[tuple[str, str]]:
    """The versions of Python, of what the package needs, and of what it can also use."""

    def listed(names: list[str]) -> str:
        return ", ".join(f"{name} {_installed(name) or '(not installed)'}" for name in names)

    needed = [each.name for each in _requirements()]
    rows = [
        ("this package", f"{_PACKAGE} {version(_PACKAGE)}"),
        ("Python", f"{platform.python_version()} on {platform.system()}, {platform.machine()}"),
        ("JAX, NumPy", listed(list(_SHOWN))),
        ("also needed", listed([name for name in needed if name not in _SHOWN])),
    ]
    for extra in sorted(set(metadata(_PACKAGE).get_all("Provides-Extra") or ()) - _DEVELOPERS):
        rows.append((f"extra `{extra}`", listed([each.name for each in _requirements(extra)])))
    return rows


def _cores() -> list[tuple[str, str]]:
    """How many cores are used, and what bounds them."""
    used, there = cores(), os.cpu_count() or 1
    affinity = "the affinity of the process" if used < there else ""
    bound = f"the variable {VARIABLE}" if VARIABLE in os.environ else affinity
    rows = [("cores", f"{used} of {there}" + (f", bounded by {bound}" if bound else ""))]
    given = _quota()
    if given is not None and given < used:
        rows.append(("", f"the container gives the time of {given:g}; {VARIABLE}={max(1, int(given))} fits that"))
    return rows


def _quota() -> float | None:
    """How many cores' time Linux gives this group of processes; None if there is no limit."""
    try:
        quota, period = _QUOTA.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _settings() -> list[tuple[str, str]]:
    """The environment variables that change what happens."""
    found = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(_SETTINGS)]
    return [("settings", " ".join(found))] if found else []


def _known(backend: str | None) -> list[tuple[str, str]]:
    """The known problems of exactly these versions."""
    there = {name: found for name in {each.package for each in KNOWN} if (found := _installed(name)) is not None}
    rows, before = [], None
    for each in known_problems(there, backend):
        rows.append(("" if each.package == before else f"{each.package} {there[each.package]}", each.sentence))
        before = each.package
    return rows or [("", "None.")]
