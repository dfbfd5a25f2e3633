"""Named arrays: the leaves of a pytree by name, and a digest of them."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxopt_lite.specialists.arguments import is_unicode

__all__ = ["digest", "leaf_names", "named_leaves"]


def leaf_names(params: PyTree) -> list[str]:
    """The names of the leaves of a pytree: the keys on the way to each, joined by slashes.

    Raises:
        ValueError: two leaves of one name, as in `{"a": {"b": ...}, "a/b": ...}`; a name that is not valid Unicode.
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"params has two leaves that are called {twice!r}; expected keys without '/'.")
    for name in names:
        if not (name.isascii() or is_unicode(name)):
            raise ValueError(f"params has a leaf that is called {name!r}; expected a name that UTF-8 can write.")
    return names


def named_leaves(params: PyTree) -> dict[str, Any]:
    """The leaves of a pytree by their `leaf_names`."""
    return dict(zip(leaf_names(params), jax.tree.leaves(params), strict=True))


def digest(arrays: Mapping[str, np.ndarray], *texts: str) -> str:
    """SHA-256 of texts and of named arrays: for each its name, dtype, shape and bytes, the least significant first."""
    total = hashlib.sha256()
    for each in texts:
        total.update(f"{len(each)}:{each};".encode("utf-8", "surrogatepass"))  # names of tasks may hold surrogates
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        dtype, stored = _known(array.dtype)
        total.update(f"{name};{dtype};{array.shape};".encode())
        total.update(np.ascontiguousarray(array, stored).tobytes())
    return total.hexdigest()


@cache
def _known(dtype: np.dtype) -> tuple[str, np.dtype]:
    """The name of a dtype, which NumPy makes anew each time, and the dtype with the least significant byte first."""
    return dtype.name, dtype.newbyteorder("<")
