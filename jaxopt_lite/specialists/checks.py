"""Whether an argument is what it has to be, said in one way everywhere.

Python takes `True` for 1, and NumPy a mask of booleans for places 0 and 1, where someone meant another thing. So a
truth value is no number here, and neither is a text; the numbers of NumPy and JAX are.
"""

import operator
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["NOT_NEGATIVE", "POSITIVE", "SHARE", "check_kept", "check_real", "is_unicode", "number", "text", "whole"]

Range = tuple[str, Callable[[float], bool]]
NOT_NEGATIVE: Range = ("a number that is not negative", lambda value: 0 <= value < np.inf)
POSITIVE: Range = ("a positive number", lambda value: 0 < value < np.inf)
SHARE: Range = ("a share of at least 0 and below 1", lambda value: 0 <= value < 1)
_FINITE: Range = ("a finite number", np.isfinite)


def whole(name: str, value: Any, least: int | None = None) -> int:
    """An argument as a whole number of Python.

    Raises:
        ValueError: none, or one below `least`.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        known = operator.index(value)
    except TypeError:
        known = None
    if known is None or (least is not None and known < least):
        raise ValueError(
            f"{name}={value!r}: expected a whole number{'' if least is None else f' of at least {least}'}."
        )
    return known


def number(name: str, value: Any, range: Range = _FINITE) -> float:
    """An argument as a number of Python, within a range.

    Raises:
        ValueError: none, or one outside of it.
    """
    expected, fits = range
    known = np.nan
    if _is_real(getattr(value, "dtype", type(value))):
        with suppress(TypeError, ValueError, OverflowError):
            known = float(value)
    if not fits(known):
        raise ValueError(f"{name}={value!r}: expected {expected}.")
    return known


def text(name: str, value: Any) -> str:
    """An argument that is a text.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r}: expected a text.")
    return str(value)


def is_unicode(value: str) -> bool:
    """Whether UTF-8 can write a text: lone surrogates it cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_real(name: str, array: Any) -> None:
    """Refuse arrays of booleans, complex numbers, texts or objects where numbers are meant; also under `jit`.

    Raises:
        TypeError: such an array.
    """
    dtype = getattr(array, "dtype", None) or np.asarray(array).dtype
    if not _is_real(dtype):
        raise TypeError(f"{name} is of {dtype.name}; expected real numbers.")


def check_kept(name: str, array: np.ndarray) -> None:
    """Refuse what is no number, and numbers that JAX would change: without 64 bits, 2³² + 1 would silently become 1.

    Raises:
        TypeError: an array of anything else.
        ValueError: a number that is too large.
    """
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 4:
        return  # the usual case, at once
    if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(f"{name} holds {array.dtype.name}; expected arrays of numbers.")
    kept = jax.dtypes.canonicalize_dtype(array.dtype)
    if kept == array.dtype or not array.size:
        return
    whole = jnp.issubdtype(kept, jnp.integer)
    known, numbers = (jnp.iinfo(kept), array) if whole else (jnp.finfo(kept), np.real(array[np.isfinite(array)]))
    if numbers.size and not (known.min <= numbers.min() and numbers.max() <= known.max):
        raise ValueError(
            f"{name} holds a number that is too large for {kept.name}; make it smaller, or enable {array.dtype.name}: "
            "jax.config.update('jax_enable_x64', True)."
        )


def _is_real(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
