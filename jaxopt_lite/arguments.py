"""What callers give, as what it is meant to be, or an error that names it, what was expected and what arrived."""

import operator
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

__all__ = ["assign", "flag", "flag_or_none", "one_of", "path_of", "whole_number"]

Choice = TypeVar("Choice", bound=str)


def assign(owner: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass, which is for its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(owner, name, value)


def flag(name: str, value: Any) -> bool:
    """`True` or `False`, also NumPy's. Python takes anything for one of them, such as an argument in the wrong place.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r:.80}: expected True or False.")
    return bool(value)


def flag_or_none(name: str, value: Any) -> bool | None:
    """The same, or None, which leaves the choice to whoever asks."""
    return None if value is None else flag(name, value)


def one_of(name: str, value: Any, choices: Collection[Choice]) -> Choice:
    """One of several texts.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r:.80}: expected one of {', '.join(map(repr, choices))}.")
    return value  # pyright: ignore[reportReturnType]


def path_of(name: str, value: Any) -> Path:
    """A path, given as one or as a text.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str | os.PathLike) or (isinstance(value, str) and not value):
        raise ValueError(f"{name}={value!r:.80}: expected the name of a file or folder, a str or a pathlib.Path.")
    return Path(value)


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """A whole number, also one of NumPy or JAX; neither a truth value nor a float.

    Raises:
        ValueError: it is something else, or less than `least`.
    """
    try:
        known = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:  # which JAX raises for its truth values too
        known = None
    if known is None or (least is not None and known < least):
        bound = "" if least is None else ", not negative" if least == 0 else f" of at least {least}"
        raise ValueError(f"{name}={value!r:.80}: expected a whole number{bound}.")
    return known
