"""Files of named arrays that are whole or refused: safetensors with a checksum. Used by `store`.

Nothing in such a file is code. All of its metadata is text; `checksum` is a SHA-256 of the rest of it and of the
arrays, so that neither can change unnoticed. It finds accidents and edits; it is no signature.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxopt_lite.specialists.base import Base, digest

__all__ = [
    "canonical", "check_dtypes", "check_kin", "check_tensors", "encode", "is_of", "kin", "read",
]  # fmt: skip

VERSION = "1"
_WIDTHS = {"float": (16, 32, 64), "int": (8, 16, 32, 64), "uint": (8, 16, 32, 64)}
_DTYPES = {f"{kind}{width}" for kind, widths in _WIDTHS.items() for width in widths} | {"bfloat16", "bool", "complex64"}


def canonical(value: object) -> str:
    """JSON in which equal values are equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def encode(kind: str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> tuple[str, bytes]:
    """The checksum and the bytes of a file; equal contents give equal bytes.

    Raises:
        ValueError: a dtype that safetensors and NumPy do not both have.
    """
    for name, array in tensors.items():
        if array.dtype.name not in _DTYPES:
            raise ValueError(f"{name!r} is {array.dtype.name}; expected one of {', '.join(sorted(_DTYPES))}.")
    metadata = {**metadata, "format": kind, "version": VERSION}
    checksum = digest(tensors, canonical(metadata))
    data = save(dict(tensors), metadata | {"checksum": checksum})
    # safetensors writes metadata in an order of its own, another one each time.
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return checksum, len(text).to_bytes(8, "little") + text + data[end:]


def read(path: Path, kind: str, keys: Iterable[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a file that is whole; memory is taken for what the file holds, not what it claims.

    Args:
        path: the file.
        kind: what it must be, its `format`.
        keys: of its metadata, beside `format`, `version` and `checksum`.

    Raises:
        ValueError: why the file is refused, without its name.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_format(metadata, kind, keys)
            tensors = {name: _tensor(file, name) for name in file.keys()}
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error}).") from error
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file, or cut short ({error}); get it again from where it was.") from error
    checksum = metadata.pop("checksum")
    if digest(tensors, canonical(metadata)) != checksum:
        raise ValueError("its checksum does not fit, so it was changed or damaged; get it again from where it was.")
    return tensors, metadata | {"checksum": checksum}


def is_of(path: Path, kind: str) -> bool:
    """Whether a file says it is of a kind, or says nothing because it is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format") == kind
    except (OSError, SafetensorError):
        return True


def _tensor(file: safe_open, name: str) -> np.ndarray:
    try:
        return file.get_tensor(name)
    except (AttributeError, OverflowError, ValueError) as error:
        raise ValueError(f"{name!r} has a dtype or shape that NumPy does not have ({error}).") from error


def _check_format(metadata: dict[str, str], kind: str, keys: Iterable[str]) -> None:
    found, version = metadata.get("format", ""), metadata.get("version", "")
    if found != kind:
        raise ValueError(f"not a file of the format {kind!r}, but {found!r}; another program's file?")
    if version != VERSION:
        raise ValueError(f"version {version!r} of {kind!r}; expected {VERSION!r}. Update jaxopt_lite to read it.")
    wanted = {"format", "version", "checksum", *keys}
    if metadata.keys() != wanted:
        raise ValueError(f"its metadata are {sorted(metadata)}; expected {sorted(wanted)}. Write it again by `save`.")


def kin(base: Base) -> dict[str, str]:
    """What a file says of the base it belongs to."""
    return {"base": base.fingerprint, "base_name": base.name, "tokenizer": base.tokenizer_fingerprint}


def check_kin(found: Mapping[str, str], base: Base) -> None:
    """Refuse what belongs to another base.

    Raises:
        ValueError: another base or tokenizer.
    """
    mine = kin(base)
    if found["base"] != mine["base"]:
        theirs, ours = (f"{each['base_name']!r} ({each['base'][:12]}…)" for each in (found, mine))
        raise ValueError(f"made for the base {theirs}, and this one is {ours}; give the base it was made for.")
    if found["tokenizer"] != mine["tokenizer"]:
        theirs, ours = (f"{each['tokenizer'][:12]}…" if each["tokenizer"] else "none" for each in (found, mine))
        raise ValueError(f"made with the tokenizer {theirs}, and this base has {ours}; give Base(..., tokenizer=...).")


def check_tensors(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays of other names or shapes.

    Raises:
        ValueError: such an array.
    """
    missing, extra = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or extra:
        raise ValueError(f"lacks the tensors {missing} and has {extra} beside the expected; write it again by `save`.")
    for name, array in tensors.items():
        if array.shape != shapes[name]:
            raise ValueError(f"{name!r} has shape {array.shape}; expected {shapes[name]}.")


def check_dtypes(tensors: Mapping[str, np.ndarray], floating: bool) -> None:
    """Refuse numbers that JAX would not keep as they are, and where they have to be `floating`, all others.

    Raises:
        ValueError: such an array.
    """
    for name, array in tensors.items():
        if floating and not jnp.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{name!r} is {array.dtype.name}; expected floating-point numbers.")
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise ValueError(f"{name!r} is {array.dtype.name}; enable it: jax.config.update('jax_enable_x64', True).")
