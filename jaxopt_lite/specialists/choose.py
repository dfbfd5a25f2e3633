"""Which specialists of a library are meant: by names, places, a slice, or a mask of booleans, as NumPy chooses."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

__all__ = ["rows_of"]

_EXPECTED = "expected names, whole numbers, a slice, or a mask of booleans"


def rows_of(which: Any, places: Mapping[str, int]) -> list[int]:
    """The places of those that are chosen, in the order in which they are.

    Args:
        which: a name, a place or a slice; several names or places; or a mask.
        places: of all names, `{name: place}`.

    Raises:
        KeyError: a name or a place that is not there.
        IndexError: a mask of another length, or an array with other axes than one.
        TypeError: anything else, such as `True`, a number with a fraction, or a set, which has no order.
    """
    if isinstance(which, slice):
        if any(isinstance(end, bool) for end in (which.start, which.stop, which.step)):
            raise TypeError(f"{which} has truth values for its ends; {_EXPECTED}.")
        return list(range(len(places)))[which]
    if isinstance(which, np.ndarray | jax.Array):
        if which.ndim > 1:
            raise IndexError(f"an array of shape {which.shape} chooses no specialists; {_EXPECTED}, along one axis.")
        which = np.asarray(which).tolist()
    if isinstance(which, str | bytes | set | frozenset) or not isinstance(which, Iterable):
        return [_row(which, places)]
    keys = list(which)
    if not keys or not all(map(_is_truth, keys)):
        return [_row(key, places) for key in keys]
    if len(keys) != len(places):
        raise IndexError(f"a mask of {len(keys)} booleans; expected {len(places)}, one for each specialist.")
    return [row for row, chosen in enumerate(keys) if chosen]


def _is_truth(key: Any) -> bool:
    return isinstance(key, bool) or getattr(key, "dtype", None) == np.bool_


def _row(key: Any, places: Mapping[str, int]) -> int:
    size = len(places)
    try:
        if _is_truth(key):  # which Python takes for 0 or 1
            raise TypeError
        row = places.get(key) if isinstance(key, str) else operator.index(key)
    except TypeError:
        raise TypeError(f"{key!r}, of {type(key).__name__}, chooses no specialist; {_EXPECTED}.") from None
    if row is None or not -size <= row < size:
        raise KeyError(f"no specialist {key!r} in this library of {size}.")
    return row % size
