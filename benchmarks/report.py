"""README's and docs' tables and pictures from the committed results: `python -m benchmarks.report [--check]`.

A page asks for a table of `report_tables.py` by two comments, and what is between them is written anew:

    <!-- report: speeds bfgs-n2 bfgs-n10 -->
    <!-- /report -->

The first word is the name of the table, the others are its arguments. Below each table are the device, the version of
JAX and the files it comes from. The pictures of `report_pictures.py` go to docs/pictures. With `--check` nothing is
written, and a page or picture that differs from what the results say is an error.
"""

import argparse
import inspect
import re
import sys
from pathlib import Path

from benchmarks import records, report_pictures
from benchmarks.records import Results
from benchmarks.report_tables import TABLES, device_name

__all__ = ["PAGES", "ReportError", "rewritten", "stale"]

_ROOT = Path(__file__).parent.parent
PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("**/*.md"))]
_MARKER = re.compile(r"<!-- (?P<end>/?)report(?:: *(?P<asked>.*?))? *-->")


class ReportError(ValueError):
    """A page asks for something that cannot be written."""


def rewritten(text: str, results: Results, page: str) -> str:
    """A page with every block between two markers written anew.

    Raises:
        ReportError: A marker is unpaired or asks for what does not exist; the message has the page and the line.
        MissingResultError: What it asks for was not measured.
    """
    lines, new, asked_at = text.split("\n"), [], None
    for number, line in enumerate(lines, start=1):
        marker = _MARKER.fullmatch(line.strip())
        if marker is None:
            if _MARKER.search(line):
                raise ReportError(f"{page}:{number}: a marker wants a line of its own")
            new += [] if asked_at else [line]
        elif bool(marker["end"]) != bool(asked_at):
            raise ReportError(f"{page}:{asked_at or number}: " + _UNPAIRED[bool(asked_at)])
        elif marker["end"]:
            new.append(line)
            asked_at = None
        else:
            try:
                new += [line, "", block(marker["asked"] or "", results), ""]
            except ValueError as error:
                raise type(error)(f"{page}:{number}: {error}") from error
            asked_at = number
    if asked_at:
        raise ReportError(f"{page}:{asked_at}: " + _UNPAIRED[True])
    return "\n".join(new)


_UNPAIRED = {
    True: "this block has no end; write <!-- /report --> below it",
    False: "an end without a beginning; write <!-- report: NAME --> above it",
}


def block(asked: str, results: Results) -> str:
    """A table and, below it, where it comes from."""
    name, *arguments = asked.split() or [""]
    if name not in TABLES:
        raise ReportError(f"no table is called {name!r}; there are {', '.join(sorted(TABLES))}")
    results = results.apart()
    try:
        inspect.signature(TABLES[name]).bind(results, *arguments)
    except TypeError as error:
        raise ReportError(f"{name!r} was given {arguments}: {error}") from error
    try:
        return f"{TABLES[name](results, *arguments)}\n\n{sources(results)}"
    except KeyError as error:
        used = ", ".join(results.used)
        raise records.MissingResultError(f"{asked!r} needs {error}, which is not among the rows of {used}") from error


def sources(results: Results) -> str:
    """The devices, versions and files that a table comes from."""
    used = [file for file in results.files if file.name in results.used]
    where = dict.fromkeys((file.device, file.jax) for file in used)
    parts = []
    for device, jax in where:
        names = (f"`{file.name}`" for file in used if (file.device, file.jax) == (device, jax))
        parts.append(f"{device_name(device)}, JAX {jax}: {', '.join(names)}")
    return f"*{'; '.join(parts)}*"


def stale(results: Results, write: bool) -> list[str]:
    """What differs from the results; written anew if `write`."""
    found = []
    for path in PAGES:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(_ROOT).as_posix()
        new = rewritten(text, results, name)
        if new != text:
            found.append(name)
            if write:
                path.write_text(new, encoding="utf-8")
    return found + report_pictures.stale(results, write)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something is not up to date")
    options = parser.parse_args()
    try:
        found = stale(records.read(), write=not options.check)
    except ValueError as error:
        sys.exit(str(error))
    for name in found:
        print(name, "is not what the results say" if options.check else "written")
    if options.check and found:
        sys.exit("run `python -m benchmarks.report`")


if __name__ == "__main__":
    main()
