"""Arguments checked and converted. Errors name the argument, what was expected and what arrived."""

import operator
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

__all__ = ["assign", "flag", "flag_or_none", "one_of", "path_of", "whole_number"]

Choice = TypeVar("Choice", bound=str)


def assign(owner: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass, from its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(owner, name, value)


def flag(name: str, value: Any) -> bool:
    """A Python or NumPy bool. Anything else is refused: Python would take any object, even a misplaced argument.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r:.80}: expected True or False.")
    return bool(value)


def flag_or_none(name: str, value: Any) -> bool | None:
    """A bool as `flag` takes it, or None, which leaves the choice open."""
    return None if value is None else flag(name, value)


def one_of(name: str, value: Any, choices: Collection[Choice]) -> Choice:
    """One of several strings.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r:.80}: expected one of {', '.join(map(repr, choices))}.")
    return value  # pyright: ignore[reportReturnType]


def path_of(name: str, value: Any) -> Path:
    """A path, given as a path or a string.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str | os.PathLike) or (isinstance(value, str) and not value):
        raise ValueError(f"{name}={value!r:.80}: expected the name of a file or folder, a str or a pathlib.Path.")
    return Path(value)


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """An integer, also one of NumPy or JAX; neither a bool nor a float.

    Raises:
        ValueError: it is something else, or less than `least`.
    """
    try:
        known = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:  # which JAX raises for its bools too
        known = None
    if known is None or (least is not None and known < least):
        bound = "" if least is None else ", not negative" if least == 0 else f" of at least {least}"
        raise ValueError(f"{name}={value!r:.80}: expected a whole number{bound}.")
    return known
