"""Writing files, for the whole package: the old file stays whole until the new one is. Uses the standard library only.

A file is written under a unique hidden name next to its target, flushed to disk, and renamed. A reader, at any time or
after a crash, sees either the old file or the new one; two writers of one file do not interfere. A writer locks what it
writes, so that the next writer can tell by the free lock what a killed one left behind, and deletes it.
"""

import os
import re
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":  # without locks that tell whether a writer lives, nothing is cleared
    fcntl = None
else:
    import fcntl

__all__ = ["flush_folder", "put", "tidy", "write"]

_PART = re.compile(r"\.[0-9a-f]{16}\.part")


def write(path: str | Path, data: bytes) -> None:
    """Write a whole file, or leave what is there untouched.

    If the path is a link, the file that it points to is replaced. What is not a plain file, such as a pipe or
    `/dev/stdout`, is written to. A file that is replaced keeps its permissions.

    Raises:
        OSError: it cannot be written; nothing has changed.
    """
    real = Path(os.path.realpath(path))
    try:
        if real.exists() and not real.is_file():
            with open(real, "wb") as stream:
                stream.write(data)
            return
        tidy(real.parent)
        put(real, data)
        flush_folder(real.parent)
    except OSError as error:  # which may name the hidden file
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def put(path: Path, data: bytes) -> None:
    """`write` for one of many plain files in a folder: `tidy` it before, and `flush_folder` after.

    Raises:
        OSError: it cannot be written; nothing has changed.
    """
    while not _put(path, path.with_name(f".{secrets.token_hex(8)}.part"), data):
        pass


def _put(path: Path, beside: Path, data: bytes) -> bool:
    """Write the file by way of `beside`; False if that was deleted as a leftover before it could be locked."""
    try:
        with open(beside, "xb") as file:
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks, on which nothing is cleared either
                    fcntl.flock(file, fcntl.LOCK_EX)
                if not beside.exists():
                    return False
                with suppress(FileNotFoundError):
                    os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows does not rename an open file
            os.replace(beside, path)
    except FileExistsError:
        raise  # it is not ours to delete
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    return True


def tidy(folder: Path) -> None:
    """Delete what killed writers left in a folder, where that is permitted."""
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        leftovers = [e.path for e in entries if _PART.fullmatch(e.name) and e.is_file(follow_symlinks=False)]
        for path in leftovers:
            with suppress(OSError), open(path, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its writer lives
                os.unlink(path)


def flush_folder(folder: Path) -> None:
    """Make the names of files durable, where the system can: they survive a power cut."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
