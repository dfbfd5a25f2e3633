"""What a save is about to change in a folder, written down before it does; whoever is next finishes or undoes it.

The journal lists the files that a save adds, and those that it replaces. Of these, the files that the index does not
list have to go: before the new index is there they are the new ones, afterwards the old ones. So the same few lines
end a save, undo one that failed, and clear up after one that was killed; and files that no journal lists, such as those
that someone put there by hand, are never touched. Whoever reads or writes a journal holds the lock of the folder.
"""

import re
import stat
import warnings
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxopt_lite.files import flush_folder
from jaxopt_lite.specialists.folder_index import is_name, read_index, read_sealed, write_sealed
from jaxopt_lite.specialists.specialist_files import KIND, carries, some
from jaxopt_lite.specialists.tensor_files import metadata_of

__all__ = ["journal", "settle"]

NAME = ".saving.json"
_FORMAT = "jaxopt_lite save under way"
_CHECKSUM = re.compile("[0-9a-f]{64}")


@contextmanager
def journal(folder: Path, files: Mapping[str, str], first: bool, after: Container[str]) -> Iterator[None]:
    """What is done inside is done whole, or undone: at once where it fails, by the next `settle` where it is killed.

    Args:
        folder: the folder.
        files: those that are about to be added or replaced, with their checksums.
        first: whether the folder has no index yet.
        after: the files that the index lists afterwards.

    Warns:
        UserWarning: replaced files that cannot be deleted.
    """
    if not files:
        yield
        return
    try:
        write_sealed(folder / NAME, _FORMAT, {"first": first, "files": dict(files)})
        flush_folder(folder)
        yield
    except BaseException:
        with suppress(Exception):  # then the next one does
            settle(folder)
        raise
    left = _finish(folder, files, after, sure=True)
    if left:
        warnings.warn(
            f"{folder}: saved, but {len(left)} files that are no longer needed could not be deleted: "
            f"{some(list(left))}. The next save tries again.",
            stacklevel=4,
        )


def settle(folder: Path) -> dict[str, str]:
    """End what a journal says is under way, if there is one.

    Returns:
        The files that should be gone and could not be deleted, with their checksums; the journal lists them still.

    Raises:
        ValueError: a journal that is damaged; nothing that it says is done.
    """
    try:
        first, files = _read(folder)
    except FileNotFoundError:
        return {}
    try:
        listed = read_index(folder).files
    except FileNotFoundError:
        listed = {} if first else files  # of an index that was lost nobody knows what it listed
    except ValueError:
        return {}  # it is damaged, and whoever needs it says so
    flush_folder(folder)  # the index is there for good before what it no longer lists goes
    return _finish(folder, files, listed, sure=False)


def _finish(folder: Path, files: Mapping[str, str], listed: Container[str], sure: bool) -> dict[str, str]:
    """Delete what the index does not list, then the journal; what cannot be deleted."""
    gone = [file for file in files if file not in listed]
    left = {file: files[file] for file in gone if _stays(folder, file, files[file], sure)}
    if not left:
        flush_folder(folder)
        (folder / NAME).unlink(missing_ok=True)
    return left


def _read(folder: Path) -> tuple[bool, dict[str, str]]:
    path = folder / NAME
    try:
        content = read_sealed(path, _FORMAT)
        first, files = content["first"], content["files"]
        if content.keys() != {"format", "version", "first", "files"} or not isinstance(first, bool):
            raise ValueError("other entries than expected")
        if not all(is_name(file) and _CHECKSUM.fullmatch(checksum) for file, checksum in files.items()):
            raise ValueError("a file is not named by a plain name, or its checksum is none")
        return first, files
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not the journal of a save, or damaged ({type(error).__name__}: {error}). Delete it; files that "
            "a save which was interrupted has left stay then."
        ) from error


def _stays(folder: Path, file: str, checksum: str, sure: bool) -> bool:
    """Whether a file is still there after an attempt to delete it.

    Where a journal alone says that it has to go, it has to be the one that is meant: a file, of this checksum, and,
    where it has a name of its own, there before the journal: someone may have put it there again.
    """
    path = folder / file
    try:
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and (sure or carries(file, checksum) or _is_meant(path, checksum)):
            path.unlink()
        elif stat.S_ISLNK(mode) and sure:
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError:
        return True
    return False


def _is_meant(path: Path, checksum: str) -> bool:
    """Whether a file with a name of its own is a specialist's, of this checksum, and no newer than the journal."""
    status, metadata = path.stat(), metadata_of(path) or {}
    if max(status.st_mtime_ns, status.st_ctime_ns) > (path.parent / NAME).stat().st_mtime_ns:
        return False  # written, or moved to where it is, since then
    return (metadata.get("format"), metadata.get("checksum")) == (KIND, checksum)
