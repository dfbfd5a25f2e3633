"""A library out of its files: what is damaged, missing or of another kind is refused, and the others are loaded."""

import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.folder_index import Entry, Index, plain_file
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.specialist_files import Found, Reader, assemble
from jaxopt_lite.specialists.tensor_files import kin

__all__ = ["read_library"]

_REPORTED = 20  # refused files that a message lists


def read_library(
    folder: Path, entries: Iterable[Entry], base: Base, errors: str, layout: str | None = None
) -> tuple[Library, Index]:
    """The library of some files of a folder, and the index for it.

    Args:
        folder: the folder.
        entries: the files; what is empty in an entry is taken as it is found.
        base: the base that they belong to.
        errors: `"raise"`, or `"skip"` for a warning.
        layout: the one they have in common; by default the most frequent.

    Raises:
        ValueError: files that are refused.
    """
    if errors not in ("raise", "skip"):
        raise ValueError(f"errors={errors!r}: expected 'raise' or 'skip'.")
    entries = list(entries)
    found, refused = _read_all(folder, entries, base)
    if layout is None:
        layouts = Counter(one.layout for one in found.values())
        layout = layouts.most_common(1)[0][0] if layouts else ""
    refused |= {
        entry.file: f"it has the layout {one.layout[:200]}, and this library {layout[:200]}; load it by itself."
        for entry, one in found.items()
        if one.layout != layout
    }
    found = {entry: one for entry, one in found.items() if entry.file not in refused}
    _report(folder, refused, len(entries), errors)
    if not found and (entries or not layout):
        raise ValueError(f"{folder}: none of the {len(entries)} files of specialists could be loaded.")
    try:
        library = assemble(base, layout, list(found.values()))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return library, Index(kin(base), layout, tuple(found))


def _read_all(folder: Path, entries: list[Entry], base: Base) -> tuple[dict[Entry, Found], dict[str, str]]:
    """What is in each file that is whole, and why each of the others is refused."""
    reader = Reader(base)
    found: dict[Entry, Found] = {}
    refused: dict[str, str] = {}
    names: dict[str, str] = {}
    for entry in entries:
        try:
            plain_file(folder / entry.file)
            one = reader(folder / entry.file)
            seen = Entry(one.card.name, one.id, entry.file, one.checksum)
            if entry.checksum and entry != seen:
                raise ValueError("another specialist than the index lists; put the file back, or `rebuild_index`.")
            if names.setdefault(seen.name, seen.file) != seen.file:
                raise ValueError(f"it is named {seen.name!r}, as that in {names[seen.name]}; delete one of them.")
            found[seen] = one
        except ValueError as error:
            refused[entry.file] = str(error)
    return found, refused


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
