"""Reading and writing files with errors that name them. Used by the file formats."""

import json
from pathlib import Path
from typing import Any, NoReturn

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
    """Read a file of JSON, in which no name stands twice in one place.

    Raises:
        ValueError: the file is something else, or cut short.
        OSError: it cannot be read.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"{path}: expected JSON that is nested a few times; this is too deep.") from None
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON; {error}. Is the file complete?") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for k, name in enumerate(names) if content.pop(name, names) is names)
        raise ValueError(f"{twice!r:.80} stands there twice")
    return content


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
