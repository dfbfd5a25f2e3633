"""The index of a folder of specialists: which files it is made of, in which order. Used by `store`."""

import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

from jaxopt_lite.files import put
from jaxopt_lite.specialists.base import digest
from jaxopt_lite.specialists.tensor_files import VERSION, canonical

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = [
    "Entry", "Index", "is_name", "locked", "plain_file", "read_index", "read_sealed", "write_index", "write_sealed",
]  # fmt: skip

NAME = "index.json"
SUFFIX = ".safetensors"
_SEPARATORS = set("/\\:\0")
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

    @property
    def files(self) -> dict[str, str]:
        """The files that it lists, with their checksums."""
        return {entry.file: entry.checksum for entry in self.entries}


def write_index(folder: Path, index: Index) -> None:
    """Write the index at once."""
    entries = [entry._asdict() for entry in index.entries]
    content = index.kin | {"layout": json.loads(index.layout), "specialists": entries}
    write_sealed(folder / NAME, _FORMAT, content, indent=1)


def read_index(folder: Path) -> Index:
    """Read the index.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        ValueError: it is damaged or something else.
    """
    path = folder / NAME
    try:
        content = read_sealed(path, _FORMAT)
        kin = {key: content[key] for key in ("base", "base_name", "tokenizer")}
        entries = tuple(Entry(**entry) for entry in content["specialists"])
        if not all(isinstance(text, str) for row in (kin.values(), *entries) for text in row):
            raise ValueError("a field is no text")
        if not all(is_name(entry.file) for entry in entries):
            raise ValueError("a file is not named by a plain name")
        if len({entry.file for entry in entries}) < len(entries):
            raise ValueError("a file is listed twice")
        return Index(kin, canonical(content["layout"]), entries)
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} has no {NAME}. Where it should hold specialists, {_REBUILD}") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is not an index, or damaged ({type(error).__name__}: {error}); {_REBUILD}") from error


def write_sealed(path: Path, kind: str, content: dict[str, Any], indent: int | None = None) -> None:
    """Write JSON at once, with its format and a checksum."""
    content = {"format": kind, "version": VERSION, **content}
    put(path, json.dumps(content | {"checksum": digest({}, canonical(content))}, indent=indent).encode())


def read_sealed(path: Path, kind: str) -> dict[str, Any]:
    """What `write_sealed` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError, TypeError, KeyError, RecursionError: it is damaged or something else.
    """
    os.lstat(path)
    plain_file(path)
    content = json.loads(path.read_bytes())
    if (content["format"], content["version"]) != (kind, VERSION):
        raise ValueError(f"format {content['format']!r} {content['version']!r}, not {kind!r} {VERSION!r}")
    checksum = content.pop("checksum")
    if digest({}, canonical(content)) != checksum:
        raise ValueError("its checksum does not fit")
    return content


def is_name(file: object) -> bool:
    """Whether it is the name of a file of arrays that stays in the folder, also on systems with other separators."""
    if not isinstance(file, str) or not file.endswith(SUFFIX) or set(file) & _SEPARATORS:
        return False
    try:
        os.fsencode(file)
    except UnicodeError:
        return False
    return True


def plain_file(path: Path) -> None:
    """Refuse what is no file in its folder: a link may point anywhere, and a pipe never end.

    Raises:
        ValueError: it is missing, or something else.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        raise ValueError("is missing; put it back, or make a new index by `rebuild_index`.") from None
    except OSError as error:
        raise ValueError(f"cannot be looked at ({error.strerror or error}).") from error
    if stat.S_ISDIR(mode):
        raise ValueError("is a folder; put the file itself there.")
    if not stat.S_ISREG(mode):
        raise ValueError("is a link or no file; put a copy of the file itself there.")


_held: WeakSet[Any] = WeakSet()  # the files by which this process holds locks


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer of a folder at a time; others wait. The system frees the lock of a process that dies."""
    with open(folder / ".lock", "ab", buffering=0) as file:
        _held.add(file)
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _let_go() -> None:
    """In a process that was forked: the lock is not its own, and would be held for as long as it lives."""
    for file in list(_held):
        file.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_let_go)
