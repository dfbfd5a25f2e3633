"""A training run on disk: the merges so far, and a fingerprint of what they were learned from."""

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from jaxopt_lite import files

__all__ = ["fingerprint", "read", "write"]


def fingerprint(counts: Mapping[str, int], settings: tuple) -> str:
    """The same for the same words, counts and settings, in whatever order the words came."""
    digest = hashlib.sha256(repr(settings).encode())
    for word in sorted(counts):
        digest.update(f"{word!r} {counts[word]}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def write(path: Path, mark: str, merges: np.ndarray, counts: np.ndarray) -> None:
    """Write a checkpoint, whole or not at all."""
    data = BytesIO()
    np.savez(data, fingerprint=np.array(mark), merges=merges, counts=counts)
    files.write(path, data.getvalue())


def read(path: Path, mark: str) -> tuple[np.ndarray, np.ndarray]:
    """The merges, int32 [M, 2], and counts, int64 [M], of a checkpoint; empty if there is none yet.

    Raises:
        ValueError: the file is something else, or of another run.
    """
    if not path.exists():
        return np.zeros((0, 2), np.int32), np.zeros(0, np.int64)
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            found, merges, counts = str(file["fingerprint"]), file["merges"], file["counts"]
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise ValueError(
            f"checkpoint={str(path)!r} is not a checkpoint of `bpe.train`, or cut short ({error}); delete it, or give "
            "another path."
        ) from error
    if found != mark:
        raise ValueError(
            f"checkpoint={str(path)!r} is of another run: other text, other settings or another tokenizer to extend. "
            "Delete it to start anew, or give another path."
        )
    return merges, counts
