"""Checks and converts arguments, or raises an error that names the argument and says what to do.

Imports only NumPy and the standard library; every other module of this package may import it.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "all_to_bytes", "check_is_text", "existing_file", "is_row", "jax_device", "text_list", "texts", "to_bytes",
    "whole_numbers", "word_counts",
]  # fmt: skip

_UTF8 = "utf-8", "surrogateescape"


def whole_numbers(name: str, values: Any, dtype: type[np.integer], columns: int | None = None) -> np.ndarray:
    """An array of whole numbers: one row, or rows of `columns` entries. Numbers too large for `dtype` are refused.

    Raises:
        ValueError: `values` is anything else.
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


def is_row(given: Any) -> bool:
    """Whether it is iterable along one axis: a table gives the names of its columns, an array without axes nothing."""
    return isinstance(given, Iterable) and getattr(given, "ndim", 1) == 1


def check_is_text(text: Any, name: str) -> None:
    """Check that it is a str.

    Raises:
        ValueError: it is anything else.
    """
    if not isinstance(text, str):
        raise ValueError(
            f"{name} is {type(text).__name__}; expected str. Decode bytes with errors='surrogateescape' to keep them."
        )


def text_list(given: Iterable[str], or_one: str) -> list[str]:
    """The texts of the argument `texts`, in order.

    Args:
        given: the argument.
        or_one: what an error says about a single text.

    Raises:
        ValueError: something without an order, or whose iteration gives other things than its texts, as that of a
            mapping or a table does; an item that is not a str.
    """
    if isinstance(given, str | bytes | Set | Mapping) or not is_row(given):
        raise ValueError(f"texts is one {type(given).__name__}; expected a list of str, in order. {or_one}")
    several = list(given)
    if not all(isinstance(text, str) for text in several):
        for k, text in enumerate(several):
            check_is_text(text, f"texts[{k}]")
    return several


def texts(name: str, given: Iterable[str], ordered: bool = False) -> tuple[str, ...]:
    """Several distinct strings, none of them empty.

    Raises:
        ValueError: `given` is anything else, a single string included; with `ordered` a set, whose order differs from
            run to run, or a mapping, whose values would be dropped.
    """
    is_unordered = ordered and isinstance(given, set | frozenset | Mapping)
    if isinstance(given, str | bytes) or is_unordered or not is_row(given):
        order = ", in order" if ordered else ""
        raise ValueError(f"{name}={given!r:.80}: expected a list of distinct strings, none of them empty{order}.")
    several = tuple(given)
    wrong = [text for text in several if not isinstance(text, str) or not text]
    if wrong or len(set(several)) != len(several):
        shown = wrong[0] if wrong else Counter(several).most_common(1)[0][0]
        raise ValueError(f"{name} has {shown!r:.80}: expected distinct strings, none of them empty.")
    return several


def to_bytes(text: str) -> bytes:
    """UTF-8. U+DC80..U+DCFF, which stand for bytes of a file that were not UTF-8, become those bytes again.

    Raises:
        ValueError: any other lone surrogate, which is not a character and has no UTF-8.
    """
    try:
        return text.encode(*_UTF8)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text has the lone surrogate U+{ord(text[error.start]):04X} in {text[:40]!r}, which is not a "
            "character; only U+DC80..U+DCFF, into which errors='surrogateescape' turns bytes, are understood. Replace "
            "it, for instance by text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None


def all_to_bytes(texts: Iterable[str]) -> list[bytes]:
    """`to_bytes` of each text, without one call per text."""
    texts = list(texts)
    try:
        return [text.encode(*_UTF8) for text in texts]
    except UnicodeEncodeError:
        return list(map(to_bytes, texts))  # its error says what is wrong


def word_counts(counts: Mapping) -> Counter[str]:
    """How often each word occurs.

    Raises:
        TypeError: a word that is not a str, or a count that is not a whole number.
        ValueError: a count below zero.
    """
    checked: Counter[str] = Counter()
    for word, count in counts.items():
        if not isinstance(word, str):
            raise TypeError(f"the word {word!r:.80} in the counts is of type {type(word).__name__}: expected str.")
        if not isinstance(count, Integral) or isinstance(count, bool):
            raise TypeError(f"the count of {word!r:.80} is {count!r} ({type(count).__name__}): expected an int.")
        if count < 0:
            raise ValueError(f"the count of {word!r:.80} is {count}: expected how often it occurs, 0 or more.")
        checked[word] = int(count)
    return checked


def existing_file(path: os.PathLike) -> Path:
    """The path, if it is that of a file or a stream.

    Raises:
        FileNotFoundError: nothing is there.
        IsADirectoryError: it is a directory.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a directory: expected a file. Pass its files, for instance sorted(Path({str(path)!r})"
            '.rglob("*.txt")).'
        )
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file. Relative paths start at {Path.cwd()}.")
    return path


def jax_device(device: Any) -> Any:
    """The device, if it is a JAX device. Does not load JAX: a caller with a device has already done so.

    Raises:
        TypeError: it is anything else.
    """
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(device, jax.Device):
        raise TypeError(f"device={device!r} ({type(device).__name__}): expected a jax.Device such as jax.devices()[0].")
    return device
