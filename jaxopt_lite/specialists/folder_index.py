"""The index of a folder of specialists: which files it is made of, in which order. Used by `store`."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from jaxopt_lite.files import put
from jaxopt_lite.specialists.base import digest
from jaxopt_lite.specialists.tensor_files import VERSION, canonical

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Entry", "Index", "locked", "plain_file", "read_index", "write_index"]

NAME = "index.json"
SUFFIX = ".safetensors"
_FORMAT = "jaxopt_lite specialists"
_REBUILD = "`rebuild_index` makes a new one of the files that are there."


class Entry(NamedTuple):
    """One specialist: its name, its id, its file, and the checksum of the file."""

    name: str
    id: str
    file: str
    checksum: str


class Index(NamedTuple):
    """What the specialists of a folder have in common, and the list of them.

    Attributes:
        kin: the base and its fingerprints, as `tensor_files.kin`.
        layout: the adapter, and the dtypes and shapes, as JSON.
        entries: one for each specialist, in order.
    """

    kin: dict[str, str]
    layout: str
    entries: tuple[Entry, ...]


def write_index(folder: Path, index: Index) -> None:
    """Write the index at once."""
    content = {
        "format": _FORMAT, "version": VERSION, **index.kin, "layout": json.loads(index.layout),
        "specialists": [entry._asdict() for entry in index.entries],
    }  # fmt: skip
    checksum = digest({}, canonical(content))
    put(folder / NAME, json.dumps(content | {"checksum": checksum}, indent=1).encode())


def read_index(folder: Path) -> Index:
    """Read the index.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged or something else.
    """
    path = folder / NAME
    if not os.path.lexists(path):
        raise FileNotFoundError(f"{folder} has no {NAME}. Where it should hold specialists, {_REBUILD}")
    try:
        plain_file(path)
        content = json.loads(path.read_bytes())
        if (content["format"], content["version"]) != (_FORMAT, VERSION):
            raise ValueError(f"format {content['format']!r} {content['version']!r}, not {_FORMAT!r} {VERSION!r}")
        if digest({}, canonical({key: content[key] for key in content if key != "checksum"})) != content["checksum"]:
            raise ValueError("its checksum does not fit")
        kin = {key: content[key] for key in ("base", "base_name", "tokenizer")}
        entries = tuple(Entry(**entry) for entry in content["specialists"])
        if not all(isinstance(text, str) for row in (kin.values(), *entries) for text in row):
            raise ValueError("a field is no text")
        if not all(_is_name(entry.file) for entry in entries):
            raise ValueError("a file is not named by a plain name")
        if len({entry.file for entry in entries}) < len(entries):
            raise ValueError("a file is listed twice")
        return Index(kin, canonical(content["layout"]), entries)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is not an index, or damaged ({type(error).__name__}: {error}); {_REBUILD}") from error


def _is_name(file: str) -> bool:
    """Whether it stays in the folder, also on systems with other separators."""
    return file.endswith(SUFFIX) and Path(file).name == file and not set(file) & set("/\\:\0")


def plain_file(path: Path) -> None:
    """Refuse what is no file in its folder: a link may point anywhere, and a pipe never end.

    Raises:
        ValueError: it is missing, or something else.
    """
    if not os.path.lexists(path):
        raise ValueError("is missing; put it back, or make a new index by `rebuild_index`.")
    if path.is_symlink() or not path.is_file():
        raise ValueError("is a link or no file; put a copy of the file itself there.")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer of a folder at a time; others wait. The system frees the lock of a process that dies."""
    with open(folder / ".lock", "ab") as file:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
