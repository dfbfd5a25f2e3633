"""Reading and writing files with errors that name them. Used by the file formats."""

import json
from pathlib import Path
from typing import Any

from jaxopt_lite.files import write

__all__ = ["read_json", "read_text", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8, whole or not at all."""
    write(path, text.encode())


def read_text(path: Path) -> str:
    """Read a file of UTF-8.

    Raises:
        ValueError: the file is something else.
        OSError: it cannot be read.
    """
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8; byte {error.start} is 0x{error.object[error.start]:02X}.") from None


def read_json(path: Path) -> Any:
    """Read a file of JSON.

    Raises:
        ValueError: the file is something else, or cut short.
        OSError: it cannot be read.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: expected JSON; {error}. Is the file complete?") from None
