"""What files of all formats have in common: text and JSON of a known shape, tokens as characters, ids and merges.

Errors name the file, or the part of its content, what was expected and what is there.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from jaxopt_lite.bpe.arguments import whole_numbers

__all__ = [
    "check_shape",
    "merges_of_texts",
    "read_json",
    "read_text",
    "resaved",
    "tokens_by_id",
]

_SHAPE_NAMES = {
    str: "a string", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "a mapping",
    type(None): "null",
}  # fmt: skip

_MOST_GAPS = 1 << 16  # a file may leave out so many ids, plus as many as there are tokens


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises:
        ValueError: the file is something else.
        OSError: it cannot be read.
    """
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8; byte {error.start} is 0x{error.object[error.start]:02X}.") from None


def read_json(path: Path) -> Any:
    """Read a JSON file, in which no mapping may have a name twice.

    Raises:
        ValueError: the file is something else, or truncated.
        OSError: it cannot be read.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"{path}: expected JSON that is nested a few levels; this is too deep.") from None
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON; {error}. Is the file complete?") from None


def resaved(folder: Path) -> str:
    """The call of transformers that writes the `tokenizer.json` of a folder without one, for errors."""
    return f"transformers.AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained(…)"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for k, name in enumerate(names) if content.pop(name, names) is names)
        raise ValueError(f"{twice!r:.80} is there twice")
    return content


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def check_shape(value: Any, shape: Any, part: str = "") -> None:
    """Raise ValueError, naming the part, if a value does not have its shape.

    A shape is a type, which must be exactly that of the value, so that a bool is not an int; `None`; a tuple of shapes,
    one of which the value must have; a list of one shape, which all entries must have; `{str: shape}`, a mapping with
    any names; or a mapping of names to shapes. These names must be there, except those that end with "?", and there may
    be others.

    Example:
        >>> from jaxopt_lite.bpe.formats.content import check_shape
        >>> check_shape({"id": 3, "text": None}, {"id": int, "text": (str, None), "note?": str})
    """
    if isinstance(shape, type) or shape is None:
        if type(value) is not (shape or type(None)):
            raise ValueError(f"{part or 'the content'} is {_shown(value)}; expected {_name(shape)}")
    elif isinstance(shape, tuple):
        _check_any(value, shape, part)
    elif isinstance(shape, list):
        check_shape(value, list, part)
        _check_all(((f"{part}[{k}]", item) for k, item in enumerate(value)), value, shape[0])
    elif str in shape:
        check_shape(value, dict, part)
        _check_all(((f"{part}[{name!r:.40}]", item) for name, item in value.items()), value.values(), shape[str])
    else:
        check_shape(value, dict, part)
        for name, inner in shape.items():
            key = name.removesuffix("?")
            if key in value:
                check_shape(value[key], inner, f"{part}.{key}" if part else key)
            elif key == name:
                raise ValueError(f"{part or 'the content'} lacks {key!r}")


def _check_any(value: Any, shapes: tuple, part: str) -> None:
    """One of several shapes, chosen by the type of the value, so that an error inside it is reported."""
    for shape in shapes:
        if type(value) is _kind(shape):
            return check_shape(value, shape, part)
    raise ValueError(f"{part} is {_shown(value)}; expected {' or '.join(map(_name, shapes))}")


def _check_all(named, values, shape: Any) -> None:
    """Check every entry; entries of one plain type, and lists of these, all at once."""
    kinds = set(map(type, values))
    if isinstance(shape, tuple) and len(kinds) == 1:
        shape = next((one for one in shape if _kind(one) in kinds), shape)
    if isinstance(shape, type) and kinds <= {shape}:
        return
    if isinstance(shape, list) and isinstance(shape[0], type) and kinds <= {list}:
        if set(map(type, chain.from_iterable(values))) <= set(shape):
            return
    for part, item in named:
        check_shape(item, shape, part)


def _shown(value: Any) -> str:
    return "null" if value is None else f"{value!r:.60}"


def _name(shape: Any) -> str:
    return _SHAPE_NAMES[_kind(shape)]


def _kind(shape: Any) -> type:
    """The type of a value that has this shape."""
    return type(None) if shape is None else shape if isinstance(shape, type) else type(shape)


def tokens_by_id(known: Mapping[int, bytes]) -> tuple[bytes, ...]:
    """The tokens of all ids from 0 to the largest; ids that are left out stand for nothing.

    Raises:
        ValueError: a negative id, or one so far beyond the others that it must be a mistake.
    """
    last = max(known, default=-1)
    if min(known, default=0) < 0 or last > 2 * len(known) + _MOST_GAPS:
        wrong = min(known) if min(known) < 0 else last
        raise ValueError(f"{len(known)} tokens, one of which has the id {wrong}; expected ids from 0 on, with few gaps")
    return tuple(known.get(k, b"") for k in range(last + 1))


def merges_of_texts(
    merges: Sequence[str | Sequence[str]], ids: Mapping[str, int], prefix: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Merges as ids.

    Args:
        merges: the left and right text of each, as a list or as one string with a space between.
        ids: text -> id.
        prefix: a prefix of right texts that a merge drops.

    Returns:
        int32 [M, 2], left and right, and int32 [M], what they make.

    Raises:
        ValueError: a merge that is not a pair of texts, or whose texts or result are not tokens.
    """
    pairs, made, skipped = [], [], len(prefix)
    for k, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if len(parts) != 2:
            raise ValueError(f"merge {k} is {merge!r:.80}; expected two strings")
        left, right = parts
        try:
            pairs.append((ids[left], ids[right]))
            made.append(ids[left + right[skipped:]])
        except KeyError as error:
            problem = f"needs {error.args[0]!r:.80}, which is not in the vocabulary"
            raise ValueError(f"merge {k}, {merge!r:.80}, {problem}") from None
    return whole_numbers("merges", pairs, np.int32, 2), whole_numbers("merged", made, np.int32)
