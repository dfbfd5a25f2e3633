"""Files of named arrays that are read whole or refused: safetensors with a checksum.

Nothing in such a file is code. All of its metadata is text; `checksum` is a SHA-256 of the rest of it and of the
arrays, so that neither can change unnoticed. It finds accidents and edits; it is not a signature.
"""

import json
import math
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from jaxopt_lite.specialists.arguments import is_unicode
from jaxopt_lite.specialists.leaves import digest

__all__ = [
    "DTYPES", "OtherFormatError", "OtherVersionError", "canonical", "check_dtypes", "check_exists", "check_format",
    "check_tensors", "encode", "naming", "read", "read_any", "read_header",
]  # fmt: skip

_METADATA = "__metadata__"  # the entry of a header that is not an array
_CODES = {
    "float16": "F16", "float32": "F32", "float64": "F64", "bfloat16": "BF16", "complex64": "C64", "bool": "BOOL",
    "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
}  # fmt: skip
DTYPES = {code: jnp.dtype(name) for name, code in _CODES.items()}
_KNOWN = frozenset(DTYPES.values())
_LARGEST, _MOST_AXES = 2**63, 64  # NumPy's limits; they also bound the time that a product of sizes takes


class OtherFormatError(ValueError):
    """A safetensors file of another kind."""


class OtherVersionError(ValueError):
    """A file of a version that cannot be read here. It may be whole, and later versions can read it."""


def canonical(value: object) -> str:
    """JSON in which equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def encode(kind: str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], version: str = "1") -> bytes:
    """A file as bytes; equal contents give equal bytes.

    Raises:
        ValueError: a dtype that safetensors and NumPy do not both have; a name that a file cannot hold.
    """
    for name, array in tensors.items():
        if array.dtype not in _KNOWN:
            raise ValueError(f"{name!r} is {array.dtype.name}; expected one of {', '.join(sorted(_CODES))}.")
        if name == _METADATA:  # safetensors would write it, and could not read it
            raise ValueError(f"an array is called {name!r}, a name that safetensors needs; rename it.")
    metadata = {**metadata, "format": kind, "version": version}
    metadata["checksum"] = digest(tensors, canonical(metadata))
    data = save(dict(tensors), metadata)
    # safetensors writes metadata in an order that differs from call to call.
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end]) | {_METADATA: dict(sorted(metadata.items()))}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def read(
    path: str | Path, kind: str, keys: Mapping[str, Iterable[str]]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a file, checked.

    The memory is bounded by the size of the file, whatever its header claims. The arrays are views of bytes that were
    read at once, so a program that cuts the file short meanwhile does no harm.

    Args:
        path: the file.
        kind: the `format` that it must have.
        keys: the keys of its metadata besides `format`, `version` and `checksum`, for each version that can be read.

    Raises:
        ValueError: why the file is refused, without its name.
    """
    tensors, metadata = read_any(path, lambda metadata: check_format(metadata, kind, keys))
    checksum = metadata.pop("checksum")
    if digest(tensors, canonical(metadata)) != checksum:
        raise ValueError("its checksum does not fit, so it was changed or damaged; get it again from its source.")
    return tensors, metadata


def read_any(
    path: str | Path, check: Callable[[dict[str, str]], None] = lambda metadata: None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of any safetensors file, of this package or of others.

    Args:
        path: the file.
        check: looks at the metadata before the arrays are read, and raises `ValueError` to refuse the file.

    Raises:
        ValueError: why the file is refused, without its name.
    """
    try:
        with open(path, "rb") as file:
            header, metadata = read_header(file)
            check(metadata)
            data = file.read()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error}).") from error
    return _arrays(header, data), metadata


def read_header(file: BinaryIO) -> tuple[dict[str, Any], dict[str, str]]:
    """The descriptions of the arrays, and the metadata; the file is then at the first array."""
    size, first = os.fstat(file.fileno()).st_size, file.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > size - 8:
        raise _not_safetensors("it is smaller than its header")
    try:
        header = json.loads(file.read(length), object_pairs_hook=_unique)
        if not isinstance(header, dict):
            raise ValueError("its header is not a dictionary")
        metadata = header.pop(_METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not strings")
        if not is_unicode("".join([*header, *metadata, *metadata.values()])):
            raise ValueError("a string is not Unicode")
    except (ValueError, RecursionError) as error:
        raise _not_safetensors(error) from error
    return header, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a key occurs twice")
    return entries


def _not_safetensors(why: object) -> ValueError:
    return ValueError(f"not a safetensors file, or cut short ({why}); get it again from its source.")


def _arrays(header: dict[str, Any], data: bytes) -> dict[str, np.ndarray]:
    """The arrays that a header describes; they fill the data, one after another."""
    spans = []
    for name, entry in header.items():
        try:
            code, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            if len(entry) > 3 or len(shape) > _MOST_AXES or not all(map(_is_size, (*shape, start, end))):
                raise ValueError("a size that is not valid")
        except (TypeError, ValueError, KeyError) as error:
            raise _not_safetensors(f"{name!r} is not described as an array: {error}") from error
        if not isinstance(code, str) or code not in DTYPES:
            raise ValueError(f"{name!r} has a dtype that NumPy does not have ({code}).")
        spans.append((start, end, name, DTYPES[code], shape))
    arrays, position = {}, 0
    for start, end, name, dtype, shape in sorted(spans, key=lambda span: span[:2]):
        if start != position or end > len(data) or end - start != math.prod(shape) * dtype.itemsize:
            raise _not_safetensors(f"{start} to {end} are not the bytes of {name!r}")
        try:
            arrays[name] = np.ndarray(shape, dtype, data, start)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{name!r} has a shape that NumPy does not have ({error}).") from error
        position = end
    if position != len(data):
        raise _not_safetensors(f"{len(data) - position} bytes belong to no array")
    return arrays


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def check_format(metadata: Mapping[str, str], kind: str, keys: Mapping[str, Iterable[str]]) -> None:
    """Refuse a file of another format or version, or with other metadata.

    Args:
        metadata: of the file.
        kind: the format.
        keys: for each version that can be read, the keys of its metadata besides format, version and checksum.

    Raises:
        ValueError: such a file; `OtherFormatError` or `OtherVersionError` if it may be whole.
    """
    found, version = metadata.get("format", ""), metadata.get("version", "")
    if found != kind:
        raise OtherFormatError(f"not a file of the format {kind!r}, but {found!r}; another program's file?")
    if version not in keys:
        expected = " or ".join(map(repr, keys))
        raise OtherVersionError(f"version {version!r} of {kind!r}; expected {expected}. Update jaxopt_lite to read it.")
    wanted = {"format", "version", "checksum", *keys[version]}
    if metadata.keys() != wanted:
        raise ValueError(f"its metadata keys are {sorted(metadata)}; expected {sorted(wanted)}. Save it again.")


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """A context in which an `OSError` that names no file, as that of a full disk, names the folder that is written."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(folder)
        raise


def check_exists(path: Path, made_by: str) -> None:
    """Refuse a path that is not a regular file, before it is opened: a pipe may never end.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be accessed.
        ValueError: a folder, or something else.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; expected a file made by {made_by}.") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "not a file"
        raise ValueError(f"{path} is {what}; expected a file made by {made_by}.")


def check_tensors(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays with other names or shapes.

    Raises:
        ValueError: such an array.
    """
    missing, extra = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or extra:
        faults = (f"{names} are {what}" for names, what in ((missing, "missing"), (extra, "unexpected")) if names)
        raise ValueError(f"the tensors {' and '.join(faults)}; save it again.")
    for name, array in tensors.items():
        if array.shape != shapes[name]:
            raise ValueError(f"{name!r} has shape {array.shape}; expected {shapes[name]}.")


def check_dtypes(tensors: Mapping[str, np.ndarray], floating: bool) -> None:
    """Refuse numbers that JAX would not keep as they are, and, where they must be `floating`, all others.

    Raises:
        ValueError: such an array.
    """
    for dtype in {array.dtype for array in tensors.values()}:
        name = next(name for name, array in tensors.items() if array.dtype == dtype)
        if floating and not jnp.issubdtype(dtype, np.floating):
            raise ValueError(f"{name!r} is {dtype.name}; expected floating-point numbers.")
        if jax.dtypes.canonicalize_dtype(dtype) != dtype:
            raise ValueError(f"{name!r} is {dtype.name}; enable it: jax.config.update('jax_enable_x64', True).")
