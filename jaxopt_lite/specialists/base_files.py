"""The parameters of a base as a file. Its functions are in no file: whoever loads it gives them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxopt_lite.files import write
from jaxopt_lite.specialists.adapters import leaf_names
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.tensor_files import (
    check_dtypes,
    check_kin,
    check_plain,
    check_tensors,
    encode,
    kin,
    read,
)

__all__ = ["load_base", "save_base"]

_KIND = "jaxopt_lite base"


def save_base(base: Base, file: str | Path) -> None:
    """Save the parameters of a base as one safetensors file, with its fingerprints.

    Args:
        base: the base. Its functions are not saved, nor is its tokenizer, which has a file of its own.
        file: where; what is there is replaced.

    Raises:
        OSError: it cannot be written; what is there stays as it is.
        ValueError: two leaves of one name, a name or a dtype that safetensors does not have.
    """
    names, leaves = leaf_names(base.params), jax.tree.leaves(jax.device_get(base.params))
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in zip(names, leaves, strict=True)}
    write(file, encode(_KIND, tensors, kin(base))[1])


def load_base(file: str | Path, like: Base) -> Base:
    """A base with the parameters of a file made by `save_base`.

    Args:
        file: the file.
        like: the base but for its parameters. Those it has say the structure, the shapes and the dtypes: fresh ones,
            or what `jax.eval_shape` gives.

    Returns:
        `like` with the parameters of the file; its fingerprint is that of the base that was saved.

    Raises:
        FileNotFoundError: nothing there.
        OSError: it cannot be looked at.
        ValueError: a damaged file or something else; other leaves, shapes or dtypes; another name or tokenizer.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Base, load_base, save_base
        >>> trained = Base({"b": jnp.ones(3)}, lambda params, x: params["b"] + x)
        >>> fresh = Base({"b": jnp.zeros(3)}, trained.apply)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_base(trained, folder + "/base.safetensors")
        ...     loaded = load_base(folder + "/base.safetensors", fresh)
        >>> loaded.fingerprint == trained.fingerprint
        True
    """
    file = Path(file)
    check_plain(file, "`save_base`")
    try:
        tensors, metadata = read(file, _KIND, ("base", "base_name", "tokenizer"))
        names, leaves = leaf_names(like.params), [_spec(leaf) for leaf in jax.tree.leaves(like.params)]
        check_dtypes(tensors, floating=False)
        check_tensors(tensors, {name: leaf.shape for name, leaf in zip(names, leaves, strict=True)})
        for name, leaf in zip(names, leaves, strict=True):
            if tensors[name].dtype != leaf.dtype:
                raise ValueError(f"{name!r} is {tensors[name].dtype.name}; expected {leaf.dtype} as in `like`.")
        params = jax.tree.unflatten(jax.tree.structure(like.params), [tensors[name] for name in names])
        base = replace(like, params=jax.device_put(params))
        check_kin(metadata, base)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return base


def _spec(leaf: Any) -> jax.ShapeDtypeStruct | np.ndarray:
    """What has a shape and a dtype; a number of Python has none."""
    return leaf if hasattr(leaf, "dtype") and hasattr(leaf, "shape") else np.asarray(leaf)
