"""What callers give, as the one type that it is meant to be, or an error that names it."""

from collections import Counter
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np

__all__ = ["texts", "whole_number", "whole_numbers"]


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """A whole number, also one of NumPy; neither a truth value nor a float.

    Raises:
        ValueError: it is something else, or less than `least`.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or (least is not None and value < least):
        bound = "" if least is None else ", not negative" if least == 0 else f" of at least {least}"
        raise ValueError(f"{name}={value!r:.80}: expected a whole number{bound}.")
    return int(value)


def whole_numbers(name: str, values: Any, dtype: type[np.integer], columns: int | None = None) -> np.ndarray:
    """An array of whole numbers: a row, or rows of so many columns. Numbers that the type cannot hold are refused.

    Raises:
        ValueError: it is something else.
    """
    shape = "one row" if columns is None else f"rows of {columns}"
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        raise ValueError(f"{name}: expected whole numbers, {shape}; got rows of different lengths.") from None
    if not array.size:
        return np.zeros(0 if columns is None else (0, columns), dtype)
    limits = np.iinfo(dtype)
    if (
        array.dtype.kind not in "iu"
        or array.ndim != 1 + (columns is not None)
        or array.shape[1:] not in ((), (columns,))
    ):
        raise ValueError(f"{name}: expected whole numbers, {shape}; got {array.dtype} of shape {array.shape}.")
    if array.min() < limits.min or array.max() > limits.max:
        raise ValueError(f"{name}: expected numbers that {np.dtype(dtype)} holds; got {array.min()} to {array.max()}.")
    return array.astype(dtype)


def texts(name: str, given: Iterable[str]) -> tuple[str, ...]:
    """Several different texts, none of them empty.

    Raises:
        ValueError: it is something else, or a single text.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ValueError(f"{name}={given!r:.80}: expected a list of different texts, none of them empty.")
    several = tuple(given)
    wrong = [text for text in several if not isinstance(text, str) or not text]
    if wrong or len(set(several)) != len(several):
        shown = wrong[0] if wrong else Counter(several).most_common(1)[0][0]
        raise ValueError(f"{name} has {shown!r:.80}: expected different texts, none of them empty.")
    return several
