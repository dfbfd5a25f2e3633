"""A library out of its files: what is damaged, missing or of another kind is refused, and the others are loaded."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.folder_index import Entry, Index, plain_file
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.specialist_files import Found, Reader, assemble
from jaxopt_lite.specialists.tensor_files import kin

__all__ = ["Files", "library_of", "read_files"]

_REPORTED = 20  # refused files that a message lists


class Files(NamedTuple):
    """What was read of a folder: each file that is whole, and why each of the others is refused."""

    found: dict[Entry, Found]
    refused: dict[Entry, str]


def read_files(folder: Path, entries: Iterable[Entry], reader: Reader, known: Mapping[Entry, Found]) -> Files:
    """Read files of a folder.

    Args:
        folder: the folder.
        entries: the files; what is empty in an entry is taken as it is found.
        reader: reads one.
        known: those that were read before: a file that an index lists never changes.
    """
    files = Files({}, {})
    names: dict[str, str] = {}
    for entry in entries:
        try:
            if entry not in known:
                plain_file(folder / entry.file)
            one = known[entry] if entry in known else reader(folder / entry.file)
            seen = Entry(one.card.name, one.id, entry.file, one.checksum)
            if entry.checksum and entry != seen:
                raise ValueError("another specialist than the index lists; put the file back, or `rebuild_index`.")
            if names.setdefault(seen.name, seen.file) != seen.file:
                raise ValueError(f"it is named {seen.name!r}, as that in {names[seen.name]}; delete one of them.")
            files.found[seen] = one
        except ValueError as error:
            files.refused[entry] = str(error)
    return files


def library_of(folder: Path, files: Files, base: Base, errors: str, layout: str | None = None) -> tuple[Library, Index]:
    """The library of the files that were read, and the index for it.

    Args:
        folder: the folder.
        files: what was read of it.
        base: the base that they belong to.
        errors: `"raise"`, or `"skip"` for a warning.
        layout: the one they have in common; by default the most frequent.

    Raises:
        ValueError: files that are refused.
    """
    if layout is None:
        layouts = Counter(one.layout for one in files.found.values())
        layout = layouts.most_common(1)[0][0] if layouts else ""
    found = {entry: one for entry, one in files.found.items() if one.layout == layout}
    refused = {entry.file: reason for entry, reason in files.refused.items()} | {
        entry.file: f"it has the layout {one.layout[:200]}, and this library {layout[:200]}; load it by itself."
        for entry, one in files.found.items()
        if one.layout != layout
    }
    total = len(found) + len(refused)
    _report(folder, refused, total, errors)
    if not found and (total or not layout):
        raise ValueError(f"{folder}: none of the {total} files of specialists could be loaded.")
    try:
        library = assemble(base, layout, list(found.values()))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return library, Index(kin(base), layout, tuple(found))


def _report(folder: Path, refused: dict[str, str], total: int, errors: str) -> None:
    if not refused:
        return
    lines = [f"{folder / file}: {reason}" for file, reason in list(refused.items())[:_REPORTED]]
    if len(refused) > _REPORTED:
        lines.append(f"and {len(refused) - _REPORTED} more")
    if errors == "skip":
        message = f"{len(refused)} of {total} specialists were left out:"
        warnings.warn("\n  ".join([message, *lines]), stacklevel=4)
    elif total == 1:
        raise ValueError(lines[0])
    else:
        message = f"{len(refused)} of {total} specialists are refused, errors='skip' loads the others:"
        raise ValueError("\n  ".join([message, *lines]))
