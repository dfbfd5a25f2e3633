"""Libraries on disk: a folder with one safetensors file for each specialist, and an index of them.

The name of a file ends in the checksum of its content. So a file never changes: `save` writes what is new, then the
index, then deletes what the index no longer lists. Each is there whole or not at all, and a crash between any two of
these steps leaves the library that was there before.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from jaxopt_lite.files import flush_folder, put, tidy, write
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.folder_index import (
    NAME,
    Entry,
    Index,
    locked,
    read_index,
    write_index,
)
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.read_files import read_library
from jaxopt_lite.specialists.specialist_files import ANY_FILE, KIND, Rows, some
from jaxopt_lite.specialists.tensor_files import check_kin, is_of, kin

__all__ = ["load", "rebuild_index", "save", "save_one"]

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
        ValueError: a folder with others, or of another base or adapter, or with a damaged index; NaN or infinity.

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
    with locked(folder):
        tidy(folder)
        old = _old_index(folder, library.base, rows)
        mine = set(zip(rows.names, rows.ids, strict=True))
        rest = [entry for entry in old.entries if (entry.name, entry.id) not in mine]
        _check_others(folder, rest, library, others)
        entries = _write_rows(folder, rows, old.entries)
        _commit(folder, old._replace(entries=entries + tuple(rest if others == "keep" else ())), old)


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
    if unlisted:  # those of a first save that was interrupted are no harm
        unlisted -= {rows[row].file for row in range(len(rows))}
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


def _write_rows(folder: Path, rows: Rows, old: Iterable[Entry]) -> tuple[Entry, ...]:
    """Write the files that are not there."""
    known = {entry.checksum: entry.file for entry in old}

    def write_row(row: int) -> Entry:
        file, id, checksum, data = rows[row]
        file = known.get(checksum, file)
        if not _holds(folder / file, data):
            put(folder / file, data)
        return Entry(rows.names[row], id, file, checksum)

    with ThreadPoolExecutor(_WRITERS) as pool:
        return tuple(pool.map(write_row, range(len(rows))))


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file is there and is this one."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False


def _commit(folder: Path, new: Index, old: Index) -> None:
    """Let the index list what is there, and delete what it no longer lists."""
    flush_folder(folder)
    write_index(folder, new)
    flush_folder(folder)
    for file in {entry.file for entry in old.entries} - {entry.file for entry in new.entries}:
        (folder / file).unlink(missing_ok=True)


def save_one(library: Library, file: str | Path) -> None:
    """Save a library of one specialist as one file, to send it to someone, who can `load` and `add` it.

    Args:
        library: of one, such as `library["name"]`.
        file: where; what is there is replaced.

    Raises:
        ValueError: not one specialist; NaN or infinity.
    """
    if len(library) != 1:
        raise ValueError(f"a library of {len(library)}; expected one, such as library[name]. `save` makes a folder.")
    write(file, Rows(library)[0].data)


def load(path: str | Path, base: Base, *, errors: Literal["raise", "skip"] = "raise") -> Library:
    """Load a library from its folder, or one specialist from its file. Every file is checked; none can run code.

    Args:
        path: the folder, or the file.
        base: the base that they belong to. A function is not in any file.
        errors: what becomes of files that are damaged, missing or of another base: `"raise"`, or `"skip"` for a
            library of the others and a warning that says which were left out, and why.

    Returns:
        The library, in the order in which it was saved.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: which files are refused, and why; with `"skip"` only where the index is, or all of them are.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; expected a folder made by `save` or a file made by `save_one`."
        )
    if path.is_file():
        file = path.resolve()
        return read_library(file.parent, [Entry("", "", file.name, "")], base, "raise")[0]
    index = read_index(path)
    try:
        check_kin(index.kin, base)
    except ValueError as error:
        raise ValueError(f"{path / NAME}: {error}") from error
    return read_library(path, index.entries, base, errors, index.layout)[0]


def rebuild_index(folder: str | Path, base: Base, *, errors: Literal["raise", "skip"] = "raise") -> Library:
    """Make a new index of all the files in a folder, where it was lost or damaged, or where files were put by hand.

    Args:
        folder: the folder. Other programs' safetensors files in it, and a base, are left alone.
        base: the base that they belong to.
        errors: as for `load`. Files that are skipped stay where they are.

    Returns:
        The library, by the names of its files in alphabetical order. Where specialists have different adapters or
        dtypes, the specialists with the most common ones make the library, and the others are refused.
    """
    folder = Path(folder)
    with locked(folder):
        files = sorted(path.name for path in folder.glob("*.safetensors") if is_of(path, KIND))
        library, index = read_library(folder, [Entry("", "", file, "") for file in files], base, errors)
        write_index(folder, index)
        flush_folder(folder)
    return library
