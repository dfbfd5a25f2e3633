"""Libraries on disk: a folder with one safetensors file for each specialist, and an index of them.

The name of a file ends in the checksum of its content. So a file never changes: `save` writes down what it is about to
do, then writes what is new, then the index, then deletes what the index no longer lists. Each is there whole or not at
all. A crash between any two of these steps leaves the library that was there before, and the next save clears up what
the crash left behind (`journal.py`).
"""

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from jaxopt_lite.files import flush_folder, put, tidy, write
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.folder_index import (
    NAME,
    SUFFIX,
    Entry,
    Index,
    locked,
    read_index,
    write_index,
)
from jaxopt_lite.specialists.journal import journal, settle
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.read_files import library_of, read_files
from jaxopt_lite.specialists.specialist_files import ANY_FILE, KIND, Reader, Rows, some
from jaxopt_lite.specialists.tensor_files import check_kin, kin, metadata_of

__all__ = ["load", "rebuild_index", "save", "save_one"]

Value = TypeVar("Value")

_WRITERS = 8  # files that are flushed to disk side by side: a flush is nearly all waiting


def save(library: Library, folder: str | Path, *, others: Literal["raise", "keep", "remove"] = "raise") -> None:
    """Save a library as a folder. Files of specialists that are there already are not touched.

    Args:
        library: the library.
        folder: where; made if it is not there.
        others: what becomes of specialists in the folder that this library does not hold, by name and id. They may be
            someone else's, so by default nothing is done and an error says which. `"keep"` leaves them in the library
            of the folder, after those of this one; `"remove"` deletes them. Where only the card or the profile of a
            specialist differs, those of this library are kept.

    Raises:
        OSError: it cannot be written. Then, as after Ctrl-C, the folder holds what it held before; or this library,
            where that was there whole.
        ValueError: a folder with others, or of another base or adapter, or with a damaged index; NaN or infinity.

    Warns:
        UserWarning: files that `"remove"` could not delete; the next save tries again.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Adapter, Base, Card, Library, Profile, Shift, load, save
        >>> base = Base({"b": jnp.zeros(())}, lambda params, x: params["b"] + x)
        >>> a, none = {"shift:b": jnp.array([2.0])}, jnp.zeros((1, 0))
        >>> library = Library(base, a, Profile(jnp.ones(1), none, a, none), Adapter((Shift("b"),)), (Card("up"),))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(library, folder)
        ...     loaded = load(folder, base)
        >>> loaded.ids == library.ids
        True
    """
    if others not in ("raise", "keep", "remove"):
        raise ValueError(f"others={others!r}: expected 'raise', 'keep' or 'remove'.")
    folder, rows = Path(folder), Rows(library)
    folder.mkdir(parents=True, exist_ok=True)
    with _writing(folder) as left:
        old = _old_index(folder, library.base, rows)
        mine = set(zip(rows.names, rows.ids, strict=True))
        rest = [entry for entry in old.entries if (entry.name, entry.id) not in mine]
        _check_others(folder, rest, library, others)
        entries = _entries(rows, old)
        new = old._replace(entries=entries + tuple(rest if others == "keep" else ()))
        first = not (folder / NAME).exists()
        with journal(folder, left | _changes(folder, old, new), first, after=new.files):
            _write_rows(folder, rows, entries)
            _commit(folder, new)


@contextmanager
def _writing(folder: Path) -> Iterator[dict[str, str]]:
    """As the only writer of a folder, cleared of what writers that were killed left there; gives what could not be."""
    with locked(folder):
        tidy(folder)
        yield settle(folder)


def _old_index(folder: Path, base: Base, rows: Rows) -> Index:
    """The index that is there, which has to be of the same base and adapter; an empty one where there is none."""
    try:
        old = read_index(folder)
        check_kin(old.kin, base)
    except FileNotFoundError:
        _check_unlisted(folder, rows)
        return Index(kin(base), rows.layout, ())
    except ValueError as error:
        raise ValueError(f"{folder} holds a library that cannot be continued: {error} Or save to another.") from error
    if old.layout != rows.layout:
        raise ValueError(
            f"{folder} holds a library of another adapter or dtype, {old.layout[:200]}; this one has "
            f"{rows.layout[:200]}. Save to another folder."
        )
    return old


def _check_unlisted(folder: Path, rows: Rows) -> None:
    """Refuse a folder whose index was lost: a new one would leave out what the old one listed."""
    unlisted = {path.name for path in folder.glob(ANY_FILE)}
    if unlisted:  # those of this library are no harm
        unlisted -= {rows.entry(row).file for row in range(len(rows))}
    if unlisted:
        raise ValueError(
            f"{folder} has no index and files of {len(unlisted)} other specialists: {some(sorted(unlisted))}. Nothing "
            "was written. `rebuild_index` makes an index of them; or delete them, or save to another folder."
        )


def _check_others(folder: Path, rest: list[Entry], library: Library, others: str) -> None:
    """Refuse to go on where something would be lost that no one said might be."""
    names = [entry.name for entry in rest]
    if others == "raise" and rest:
        raise ValueError(
            f"{folder} holds {len(rest)} specialists that this library does not: {some(names)}. Nothing was written. "
            "others='keep' leaves them there; others='remove' deletes them."
        )
    both = [name for name in names if name in library]
    if others == "keep" and both:
        raise ValueError(
            f"{folder} holds other specialists of the same names: {some(both)}. Nothing was written. Rename them here "
            "by `library.rename`, or delete them there by others='remove'."
        )


def _entries(rows: Rows, old: Index) -> tuple[Entry, ...]:
    """What the new index says of a library; a file that is there keeps its name."""
    known = {entry.checksum: entry.file for entry in old.entries}
    entries = _side_by_side(rows.entry, len(rows))
    return tuple(entry._replace(file=known.get(entry.checksum, entry.file)) for entry in entries)


def _changes(folder: Path, old: Index, new: Index) -> dict[str, str]:
    """The files that are new, and those that are no longer needed."""
    there, before, after = set(os.listdir(folder)), old.files, new.files
    added = {file: checksum for file, checksum in after.items() if file not in there}
    return added | {file: checksum for file, checksum in before.items() if file not in after}


def _write_rows(folder: Path, rows: Rows, entries: Sequence[Entry]) -> None:
    """Write the files that are not there."""

    def write_row(row: int) -> None:
        path, data = folder / entries[row].file, rows.data(row, entries[row].checksum)
        if not _holds(path, data):
            put(path, data)

    _side_by_side(write_row, len(rows))


def _side_by_side(f: Callable[[int], Value], count: int) -> list[Value]:
    """`f(k)` for all k below `count`, in a few threads; where one fails, the others end before their next."""
    failed = threading.Event()

    def some_of_them(first: int) -> list[Value]:
        done = []
        try:
            for k in range(first, count, _WRITERS):
                if failed.is_set():
                    break
                done.append(f(k))
        except BaseException:
            failed.set()
            raise
        return done

    with ThreadPoolExecutor(_WRITERS) as pool:
        try:
            shares = list(pool.map(some_of_them, range(min(_WRITERS, count))))
        except BaseException:  # Ctrl-C comes to this thread alone
            failed.set()
            raise
    return [shares[k % _WRITERS][k // _WRITERS] for k in range(count)]


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file is there and is this one."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False


def _commit(folder: Path, new: Index) -> None:
    """Let the index list what is there."""
    flush_folder(folder)
    write_index(folder, new)
    flush_folder(folder)


def save_one(library: Library, file: str | Path) -> None:
    """Save a library of one specialist as one file, to send it to someone, who can `load` and `add` it.

    Args:
        library: of one, such as `library["name"]`.
        file: where; what is there is replaced.

    Raises:
        OSError: it cannot be written; what is there stays as it is.
        ValueError: not one specialist; NaN or infinity.
    """
    if len(library) != 1:
        raise ValueError(f"a library of {len(library)}; expected one, such as library[name]. `save` makes a folder.")
    write(file, Rows(library).data(0))


def load(path: str | Path, base: Base, *, errors: Literal["raise", "skip"] = "raise") -> Library:
    """Load a library from its folder, or one specialist from its file. Every file is checked; none can run code.

    Args:
        path: the folder, or the file.
        base: the base that they belong to. A function is not in any file.
        errors: what becomes of files that are damaged, missing or of another base: `"raise"`, or `"skip"` for a
            library of the others and a warning that says which were left out, and why.

    Returns:
        The library, in the order in which it was saved.

    Another process may save to the folder meanwhile: what is loaded is the library before that, or after.

    Raises:
        FileNotFoundError: nothing there.
        OSError: it cannot be looked at.
        ValueError: which files are refused, and why; with `"skip"` only where the index is, or all of them are.
    """
    if errors not in ("raise", "skip"):
        raise ValueError(f"errors={errors!r}: expected 'raise' or 'skip'.")
    path, reader = Path(path), Reader(base)
    listing, known = _listing(path, base), {}
    while True:
        files = read_files(listing.folder, listing.entries, reader, known)
        now = _listing(path, base) if files.refused else listing
        if now == listing:
            return library_of(listing.folder, files, base, errors, listing.layout)[0]
        # A save that ended meanwhile has deleted what it replaced. What was read need not be read again, and the rest
        # takes less time than a save does: so this ends, however many there are who save.
        listing, known = now, files.found


class _Listing(NamedTuple):
    """The files to load, what they have in common where that is known, and when they were listed."""

    folder: Path
    entries: tuple[Entry, ...]
    layout: str | None
    stamp: tuple[int, int]


def _listing(path: Path, base: Base) -> _Listing:
    """What is to be loaded from a folder or a file, as it is now."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist; expected a folder made by `save` or a file made by `save_one`."
        ) from None
    if not stat.S_ISDIR(status.st_mode):
        file = path.resolve()
        return _Listing(file.parent, (Entry("", "", file.name, ""),), None, (status.st_ino, status.st_mtime_ns))
    stamp = _stamp(path / NAME)  # first: an index that is replaced then seems to be older, and is read again
    index = read_index(path)
    try:
        check_kin(index.kin, base)
    except ValueError as error:
        raise ValueError(f"{path / NAME}: {error}") from error
    return _Listing(path, index.entries, index.layout, stamp)


def _stamp(path: Path) -> tuple[int, int]:
    """Another one each time the file is written, also where it says the same as some time before."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def rebuild_index(folder: str | Path, base: Base, *, errors: Literal["raise", "skip"] = "raise") -> Library:
    """Make a new index of all the files in a folder, where it was lost or damaged, or where files were put by hand.

    What a save that was interrupted has left behind is cleared first, as `save` does.

    Args:
        folder: the folder. Other programs' safetensors files in it, and a base, are left alone.
        base: the base that they belong to.
        errors: as for `load`. Files that are skipped stay where they are.

    Returns:
        The library, by the names of its files in alphabetical order. Where specialists have different adapters or
        dtypes, the specialists with the most common ones make the library, and the others are refused.

    Raises:
        OSError: nothing there, or it cannot be read or written; the index stays as it is.
        ValueError: which files are refused, and why; with `"skip"` only where all of them are.
    """
    if errors not in ("raise", "skip"):
        raise ValueError(f"errors={errors!r}: expected 'raise' or 'skip'.")
    folder = Path(folder)
    with _writing(folder) as left:
        names = sorted(path.name for path in folder.glob(f"*{SUFFIX}") if _may_be_one(path))
        entries = [Entry("", "", name, "") for name in names if name not in left]
        library, index = library_of(folder, read_files(folder, entries, Reader(base), {}), base, errors)
        _commit(folder, index)
    return library


def _may_be_one(path: Path) -> bool:
    """Whether a file says it is a specialist's, or says nothing; nothing is opened but files, for a pipe has no end."""
    metadata = metadata_of(path) if path.is_file() and not path.is_symlink() else None
    return metadata is None or metadata.get("format") == KIND
