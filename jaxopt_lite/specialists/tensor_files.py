"""Files of named arrays that are whole or refused: safetensors with a checksum. Used by `store`.

Nothing in such a file is code. All of its metadata is text; `checksum` is a SHA-256 of the rest of it and of the
arrays, so that neither can change unnoticed. It finds accidents and edits; it is no signature.
"""

import json
import math
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from jaxopt_lite.specialists.base import Base, digest
from jaxopt_lite.specialists.checks import is_unicode

__all__ = [
    "canonical", "check_dtypes", "check_kin", "check_plain", "check_tensors", "encode", "kin", "metadata_of", "read",
    "sealed", "to_bytes",
]  # fmt: skip

VERSION = "1"
_OWN = "__metadata__"  # the entry of a header that is no array
_DTYPES = {
    "float16": "F16", "float32": "F32", "float64": "F64", "bfloat16": "BF16", "complex64": "C64", "bool": "BOOL",
    "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
}  # fmt: skip
_OF_CODE = {code: jnp.dtype(name) for name, code in _DTYPES.items()}
_LARGEST, _MOST_AXES = 2**63, 64  # of NumPy, so that no product of sizes takes long


def canonical(value: object) -> str:
    """JSON in which equal values are equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def encode(kind: str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> tuple[str, bytes]:
    """The checksum and the bytes of a file; equal contents give equal bytes.

    Raises:
        ValueError: what `sealed` refuses.
    """
    whole = sealed(kind, tensors, metadata)
    return whole["checksum"], to_bytes(tensors, whole)


def sealed(
    kind: str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], checksum: str | None = None
) -> dict[str, str]:
    """All the metadata of a file, with its checksum, which is computed where it is not given.

    Raises:
        ValueError: a dtype that safetensors and NumPy do not both have; a name that a file cannot hold.
    """
    for name, array in tensors.items():
        if array.dtype.name not in _DTYPES:
            raise ValueError(f"{name!r} is {array.dtype.name}; expected one of {', '.join(sorted(_DTYPES))}.")
        if name == _OWN:  # which safetensors would write, and could not read
            raise ValueError(f"an array is called {name!r}, a name that safetensors needs; call it something else.")
    metadata = {**metadata, "format": kind, "version": VERSION}
    return metadata | {"checksum": checksum or digest(tensors, canonical(metadata))}


def to_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file with these metadata, which are `sealed`."""
    data = save(dict(tensors), dict(metadata))
    # safetensors writes metadata in an order of its own, another one each time.
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header[_OWN] = dict(sorted(header[_OWN].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def read(path: Path, kind: str, keys: Iterable[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a file that is whole; memory is taken for what the file holds, not what it claims.

    The arrays are views of what was read, at once: another program that cuts the file short meanwhile harms nothing.

    Args:
        path: the file.
        kind: what it must be, its `format`.
        keys: of its metadata, beside `format`, `version` and `checksum`.

    Raises:
        ValueError: why the file is refused, without its name.
    """
    try:
        with open(path, "rb") as file:
            header, metadata = _header(file)
            _check_format(metadata, kind, keys)
            data = file.read()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error}).") from error
    tensors = _arrays(header, data)
    checksum = metadata.pop("checksum")
    if digest(tensors, canonical(metadata)) != checksum:
        raise ValueError("its checksum does not fit, so it was changed or damaged; get it again from where it was.")
    return tensors, metadata | {"checksum": checksum}


def metadata_of(path: Path) -> dict[str, str] | None:
    """What a file says of itself; None where it is damaged, or no safetensors file."""
    try:
        with open(path, "rb") as file:
            return _header(file)[1]
    except (OSError, ValueError):
        return None


def _header(file: BinaryIO) -> tuple[dict[str, Any], dict[str, str]]:
    """What a file says of its arrays, and its metadata; it is then at the first array."""
    size, first = os.fstat(file.fileno()).st_size, file.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > size - 8:
        raise _cut("it is smaller than its header")
    try:
        header = json.loads(file.read(length), object_pairs_hook=_once_each)
        if not isinstance(header, dict):
            raise ValueError("its header is no dictionary")
        metadata = header.pop(_OWN, {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are no texts")
        if not is_unicode("".join([*header, *metadata, *metadata.values()])):
            raise ValueError("a text is no Unicode")
    except (ValueError, RecursionError) as error:
        raise _cut(error) from error
    return header, metadata


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a key is there twice")
    return entries


def _cut(why: object) -> ValueError:
    return ValueError(f"not a safetensors file, or cut short ({why}); get it again from where it was.")


def _arrays(header: dict[str, Any], data: bytes) -> dict[str, np.ndarray]:
    """The arrays that a header describes; they fill the data, one behind the other."""
    spans = []
    for name, entry in header.items():
        try:
            code, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            if len(entry) > 3 or len(shape) > _MOST_AXES or not all(map(_is_size, (*shape, start, end))):
                raise ValueError("a size that is none")
        except (TypeError, ValueError, KeyError) as error:
            raise _cut(f"{name!r} is not described as an array: {error}") from error
        if not isinstance(code, str) or code not in _OF_CODE:
            raise ValueError(f"{name!r} has a dtype that NumPy does not have ({code}).")
        spans.append((start, end, name, _OF_CODE[code], shape))
    arrays, place = {}, 0
    for start, end, name, dtype, shape in sorted(spans, key=lambda span: span[:2]):
        if start != place or end > len(data) or end - start != math.prod(shape) * dtype.itemsize:
            raise _cut(f"{start} to {end} are not the bytes of {name!r}")
        try:
            arrays[name] = np.ndarray(shape, dtype, data, start)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{name!r} has a shape that NumPy does not have ({error}).") from error
        place = end
    if place != len(data):
        raise _cut(f"{len(data) - place} bytes belong to nothing")
    return arrays


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def check_plain(path: Path, made_by: str) -> None:
    """Refuse what is no file before it is opened: of a pipe there is no end.

    Raises:
        FileNotFoundError: nothing there.
        OSError: it cannot be looked at.
        ValueError: a folder, or something else.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; expected a file made by {made_by}.") from None
    if not stat.S_ISREG(mode):
        raise ValueError(
            f"{path}: is {'a folder' if stat.S_ISDIR(mode) else 'no file'}; expected one made by {made_by}."
        )


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
    for dtype in {array.dtype for array in tensors.values()}:
        name = next(name for name, array in tensors.items() if array.dtype == dtype)
        if floating and not jnp.issubdtype(dtype, np.floating):
            raise ValueError(f"{name!r} is {dtype.name}; expected floating-point numbers.")
        if jax.dtypes.canonicalize_dtype(dtype) != dtype:
            raise ValueError(f"{name!r} is {dtype.name}; enable it: jax.config.update('jax_enable_x64', True).")
