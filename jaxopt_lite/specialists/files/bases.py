"""Bases on disk: one safetensors file with the parameters and the fingerprints of each."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxopt_lite.files import write
from jaxopt_lite.lanes.batch import is_key, off_host
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.leaves import leaf_names
from jaxopt_lite.specialists.tensor_files import check_dtypes, check_exists, check_tensors, encode, read

__all__ = ["OF_BASE", "check_base", "identity_of", "load_base", "save_base"]

OF_BASE = "base", "base_name", "tokenizer"
_KIND = "jaxopt_lite base"
_KEYS = {"1": OF_BASE}


def save_base(base: Base, file: str | Path) -> None:
    """Save the parameters of a base as one safetensors file, with its fingerprints.

    Args:
        base: the base. Its functions are not saved, nor is its tokenizer, which has a file of its own.
        file: where to save; an existing file is replaced.

    Raises:
        OSError: it cannot be written; an existing file stays as it is.
        ValueError: two leaves with one name, or a name or dtype that safetensors does not have.
    """
    names, leaves = leaf_names(base.params), jax.tree.leaves(base.params)
    leaves = jax.device_get([jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in leaves])
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in zip(names, leaves, strict=True)}
    write(file, encode(_KIND, tensors, identity_of(base)))


def load_base(file: str | Path, like: Base) -> Base:
    """A base with the parameters of a file made by `save_base`.

    Args:
        file: the file.
        like: the base except for its parameters. Its own, fresh ones or what `jax.eval_shape` returns, only give the
            structure, shapes and dtypes.

    Returns:
        `like` with the parameters of the file; its fingerprint is that of the base that was saved.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be accessed.
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
    check_exists(file, "`save_base`")
    try:
        tensors, metadata = read(file, _KIND, _KEYS)
        names, leaves = leaf_names(like.params), list(map(_stored, jax.tree.leaves(like.params)))
        check_dtypes(tensors, floating=False)
        check_tensors(tensors, {name: leaf.shape for name, leaf in zip(names, leaves, strict=True)})
        for name, leaf in zip(names, leaves, strict=True):
            if tensors[name].dtype != leaf.dtype:
                raise ValueError(f"{name!r} is {tensors[name].dtype.name}; expected {leaf.dtype} as in `like`.")
        arrays = map(off_host, jax.device_put([tensors[name] for name in names]), jax.tree.leaves(like.params))
        base = replace(like, params=jax.tree.unflatten(jax.tree.structure(like.params), list(arrays)))
        check_base(metadata, base)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return base


def _stored(leaf: Any) -> jax.ShapeDtypeStruct | np.ndarray:
    """What a file holds of a leaf, with a shape and a dtype: a Python number has none, and a random key is its data."""
    if is_key(leaf):
        return jax.eval_shape(jax.random.key_data, leaf)
    return leaf if hasattr(leaf, "dtype") and hasattr(leaf, "shape") else np.asarray(leaf)


def identity_of(base: Base) -> dict[str, str]:
    """The metadata that identify a base."""
    return {"base": base.fingerprint, "base_name": base.name, "tokenizer": base.tokenizer_fingerprint}


def check_base(found: Mapping[str, str], base: Base) -> None:
    """Refuse the metadata of a file that belongs to another base or tokenizer."""
    mine = identity_of(base)
    if found["base"] != mine["base"]:
        theirs, ours = (f"{each['base_name']!r} ({each['base'][:12]}…)" for each in (found, mine))
        raise ValueError(f"made for the base {theirs}, and this one is {ours}; give the base it was made for.")
    if found["tokenizer"] != mine["tokenizer"]:
        theirs, ours = (f"{each['tokenizer'][:12]}…" if each["tokenizer"] else "none" for each in (found, mine))
        raise ValueError(f"made with the tokenizer {theirs}, and this base has {ours}; give Base(..., tokenizer=...).")
