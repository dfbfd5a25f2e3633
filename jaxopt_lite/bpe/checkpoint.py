"""A training run on disk: the merges so far, and a fingerprint of what they were learned from."""

import hashlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np

from jaxopt_lite import files

__all__ = ["check", "fingerprint", "read", "saved_at_sigterm", "write"]

Rows = list[tuple[int, int, int]]


def fingerprint(counts: Mapping[str, int], settings: tuple) -> str:
    """The same for the same words, counts and settings, in whatever order the words came."""
    digest = hashlib.sha256(repr(settings).encode())
    for word in sorted(counts):
        digest.update(f"{word!r} {counts[word]}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def write(path: Path, mark: str, learned: Rows) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    rows = np.array(learned, np.int64).reshape(-1, 3)
    merges, counts = rows[:, :2].astype(np.int32), rows[:, 2].copy()
    data = BytesIO()
    np.savez(data, fingerprint=np.array(mark), merges=merges, counts=counts, checksum=_checksum(merges, counts))
    files.write(path, data.getvalue())


def _checksum(merges: np.ndarray, counts: np.ndarray) -> np.ndarray:
    little = merges.astype("<i4").tobytes(), counts.astype("<i8").tobytes()
    return np.array(hashlib.sha256(b"".join(little)).hexdigest())


def check(path: Path) -> None:
    """Find out before the work that there is a place for a checkpoint, or one of some run.

    Raises:
        ValueError: the file is something else.
        OSError: there is no such folder, or the file cannot be read.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"checkpoint={str(path)!r}: there is no folder {path.parent} to write it to.")
    _content(path)


def read(path: Path, mark: str) -> Rows:
    """The merges of a checkpoint with their counts; none if there is none yet.

    Raises:
        ValueError: the file is something else, or of another run.
        OSError: it cannot be read.
    """
    found, rows = _content(path)
    if found not in (None, mark):
        raise ValueError(
            f"checkpoint={str(path)!r} is of another run: other text, other settings or another tokenizer to extend. "
            "Delete it to start anew, or give another path."
        )
    return rows


def _content(path: Path) -> tuple[str | None, Rows]:
    """The fingerprint and the rows of a file; `None` and no rows if there is none."""
    if path.is_dir():
        raise IsADirectoryError(f"checkpoint={str(path)!r} is a directory; expected the path of a file in it.")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, []
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            arrays = file["fingerprint"], file["merges"], file["counts"]
            return _checked(*arrays, file["checksum"] if "checksum" in file else None)
    except Exception as error:  # NumPy and zipfile raise many kinds over what they did not write
        raise ValueError(
            f"checkpoint={str(path)!r} is not a checkpoint of `bpe.train`, or cut short ({error}); delete it, or give "
            "another path."
        ) from error


def _checked(mark: np.ndarray, merges: np.ndarray, counts: np.ndarray, checksum: np.ndarray | None) -> tuple[str, Rows]:
    types, shapes = [array.dtype for array in (merges, counts)], [array.shape for array in (mark, merges, counts)]
    size = counts.size
    if mark.dtype.kind != "U" or types != [np.int32, np.int64] or shapes != [(), (size, 2), (size,)]:
        raise ValueError(f"{mark.dtype}, {types} of {shapes}; expected a text, int32 [M, 2] and int64 [M]")
    if checksum is not None and not np.array_equal(checksum, _checksum(merges, counts)):
        raise ValueError("the checksum is of other merges")
    return str(mark), list(zip(*merges.T.tolist(), counts.tolist(), strict=True))


@contextmanager
def saved_at_sigterm(save: Callable[[], None]) -> Iterator[None]:
    """Save before SIGTERM ends this process, which is how schedulers tell it to end.

    Only in the main thread, which alone can, and only where nobody else handles the signal.
    """

    def handle(number, _):
        signal.signal(number, signal.SIG_DFL)
        try:
            save()
        finally:
            signal.raise_signal(number)

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    try:
        signal.signal(signal.SIGTERM, handle)
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
