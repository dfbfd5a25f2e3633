"""The files that are in a folder of specialists, even while it is being saved to; and how a save takes effect at once.

A save writes new files into `.saving`, a folder inside the folder, with a list of the files to remove. Renaming that
folder to `.saved-...` is the moment at which the new library replaces the old one; only then are the files moved to
where they belong. Whoever reads before that is done reads both folders; whoever saves next finishes it first.
"""

import errno
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, NamedTuple
from weakref import WeakSet

from jaxopt_lite.files import flush_folder, put, tidy

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = [
    "GIVEN_NAME", "Listed", "check_regular", "clear", "commit", "file_of", "finish", "listing", "locked", "staged",
]  # fmt: skip

_SUFFIX = ".safetensors"
GIVEN_NAME = re.compile(f".*-[0-9a-f]{{16}}{re.escape(_SUFFIX)}", re.DOTALL)  # the names that `save` gives to files
_STAGE, _COMMIT, _REMOVED = ".saving", ".saved-", "removed.json"
_WRITERS = 8  # files that are written at the same time; a write is nearly all waiting for the disk


class Listed(NamedTuple):
    """Where a file is, what it is, and what tells it from another file of the same name: its inode, time and size."""

    path: str
    mode: int
    stamp: tuple[int, int, int]

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> "Listed":
        return cls(path, status.st_mode, (status.st_ino, status.st_mtime_ns, status.st_size))


def listing(path: Path) -> dict[str, Listed]:
    """The files to load from a folder, or the one file."""
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            file = path.resolve()
            return {file.name: Listed.of(str(file), status)}
        found = _files_in(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist; expected a folder made by `save` or a file made by `save_one`."
        ) from None
    for saved in _commits(path):  # a save whose files are not moved yet
        removed = _removed(saved)
        found = {name: listed for name, listed in found.items() if removed.get(name) != listed.stamp}
        with suppress(FileNotFoundError):  # they are now
            found |= _files_in(saved)
    return found


def _files_in(folder: Path) -> dict[str, Listed]:
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIX):
                with suppress(FileNotFoundError):
                    found[entry.name] = Listed.of(entry.path, entry.stat(follow_symlinks=False))
    return found


def check_regular(mode: int) -> None:
    """Refuse all but regular files: a link may point anywhere, and a pipe may never end."""
    if stat.S_ISDIR(mode):
        raise ValueError("is a folder; put the file itself there.")
    if not stat.S_ISREG(mode):
        raise ValueError("is a link or not a file; put a copy of the file itself there.")


def file_of(name: str) -> str:
    """The file of a specialist: short ASCII, and different for each name, even where the case of letters is ignored."""
    stem = re.sub("[^A-Za-z0-9_-]+", "_", name)[:40]
    return f"{stem}-{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}{_SUFFIX}"


def clear(folder: Path) -> None:
    """Remove what saves that were killed before they took effect have left."""
    tidy(folder)
    shutil.rmtree(folder / _STAGE, ignore_errors=True)


def commit(folder: Path, written: Iterable[str], data: Callable[[str], bytes], removed: Iterable[Listed]) -> None:
    """Write the changes beside the library, and make them part of it at once.

    Args:
        folder: the folder of the library.
        written: the names of the files to write.
        data: what is in each, by its name.
        removed: the files to remove.
    """
    written = list(written)
    gone = {os.path.basename(listed.path): listed.stamp for listed in removed}
    if not written and not gone:
        return
    with staged(folder) as stage:
        _side_by_side(lambda file: put(stage / file, data(file)), written)
        put(stage / _REMOVED, json.dumps(gone).encode())
        flush_folder(stage)
        before = _commits(folder)  # those whose removed files could not be deleted
        number = int(before[-1].name.removeprefix(_COMMIT)) + 1 if before else 0
        os.rename(stage, folder / f"{_COMMIT}{number:08}")
    flush_folder(folder)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder to write files into that are then moved; what is still in it at the end is deleted.

    Only who has `locked` and cleared the folder may have it: nobody else then deletes what is in it.
    """
    stage = folder / _STAGE
    try:
        stage.mkdir()
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _side_by_side(f: Callable[[str], object], items: Iterable[str]) -> None:
    """`f` of all items, in a few threads; if one fails, those that have not begun never do."""
    with ThreadPoolExecutor(_WRITERS) as pool:
        jobs = [pool.submit(f, item) for item in items]
        try:
            for job in wait(jobs, return_when=FIRST_EXCEPTION).done:
                job.result()
        except BaseException:  # Ctrl-C comes to this thread alone
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _commits(folder: Path) -> list[Path]:
    """The saves whose changes are not yet all made, the oldest first."""
    found = folder.glob(f"{_COMMIT}" + 8 * "[0-9]")
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def _removed(saved: Path) -> dict[str, tuple[int, int, int]]:
    """The files that a save removes, by name and stamp: a file of this name that was put there later stays."""
    path = saved / _REMOVED
    try:
        return {name: (int(node), int(time), int(size)) for name, (node, time, size) in _json(path).items()}
    except FileNotFoundError:
        return {}  # all is done
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a list of files that a save removes, or damaged ({error}). Move {saved.name} away; it has "
            "what that save had written."
        ) from error


def _json(path: Path) -> Any:
    if not path.is_file() and path.exists():
        raise ValueError("it is not a file")
    return json.loads(path.read_bytes())


def finish(folder: Path) -> list[str]:
    """Carry out the saves that have taken effect. Returns the files that could not be deleted."""
    stuck = []
    for saved in _commits(folder):
        removed, left = _removed(saved), []
        for name, listed in _files_in(folder).items():
            if removed.get(name) == listed.stamp:
                try:
                    os.unlink(listed.path)
                except OSError:
                    left.append(name)
        for name, listed in _files_in(saved).items():
            os.replace(listed.path, os.path.join(folder, name))
        flush_folder(folder)
        if not left:
            shutil.rmtree(saved)
        stuck += left
    return stuck


_held: WeakSet[Any] = WeakSet()  # the files by which this process holds locks


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer of a folder at a time; others wait. The system frees the lock of a process that dies."""
    with _lock_file(folder) as file:
        _held.add(file)
        _lock(file)
        yield


def _lock_file(folder: Path) -> IO[bytes]:
    path = folder / ".lock"
    try:
        return open(path, "ab", buffering=0)
    except PermissionError:  # made by another user; to lock it, most file systems only ask that it can be read
        return open(path, "rb", buffering=0)


def _lock(file: IO[bytes]) -> None:
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX)
        return
    while True:
        try:
            return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        except OSError as error:
            if error.errno != errno.EDEADLK:  # ten seconds were not enough
                raise


def _release() -> None:
    """In a forked process: the lock is not its own, and would be held for as long as it lives."""
    for file in list(_held):
        file.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_release)
