"""What a file of JSON must look like: its content is compared with that before it is used."""

from itertools import chain
from typing import Any

__all__ = ["check_shape"]

_NAMES = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "a mapping",
    type(None): "null",
}  # fmt: skip


def check_shape(value: Any, shape: Any, place: str = "") -> None:
    """Raise ValueError, naming the place, where a value has not its shape.

    A shape is a type, which must be that of the value exactly, so that no truth value is a number; `None`; a tuple of
    shapes, one of which it must have; a list of one shape, which all entries must have; `{str: shape}`, a mapping with
    any names; or a mapping of names to shapes. These names must be there, but for those that end with "?", and there
    may be others.

    Example:
        >>> from jaxopt_lite.bpe.formats.shapes import check_shape
        >>> check_shape({"id": 3, "text": None}, {"id": int, "text": (str, None), "note?": str})
    """
    if isinstance(shape, type) or shape is None:
        if type(value) is not (shape or type(None)):
            raise ValueError(f"{place or 'the content'} is {_shown(value)}; expected {_name(shape)}")
    elif isinstance(shape, tuple):
        _check_any(value, shape, place)
    elif isinstance(shape, list):
        check_shape(value, list, place)
        _check_all(((f"{place}[{k}]", item) for k, item in enumerate(value)), value, shape[0])
    elif str in shape:
        check_shape(value, dict, place)
        _check_all(((f"{place}[{name!r:.40}]", item) for name, item in value.items()), value.values(), shape[str])
    else:
        check_shape(value, dict, place)
        for name, inner in shape.items():
            key = name.removesuffix("?")
            if key in value:
                check_shape(value[key], inner, f"{place}.{key}" if place else key)
            elif key == name:
                raise ValueError(f"{place or 'the content'} lacks {key!r}")


def _check_any(value: Any, shapes: tuple, place: str) -> None:
    """One of several: which is said by the type, so that an error inside of one is told."""
    for shape in shapes:
        if type(value) is _kind(shape):
            return check_shape(value, shape, place)
    raise ValueError(f"{place} is {_shown(value)}; expected {' or '.join(map(_name, shapes))}")


def _check_all(placed, values, shape: Any) -> None:
    """Every entry; those of one plain type, and lists of such, at a glance."""
    kinds = set(map(type, values))
    if isinstance(shape, tuple) and len(kinds) == 1:
        shape = next((one for one in shape if _kind(one) in kinds), shape)
    if isinstance(shape, type) and kinds <= {shape}:
        return
    if isinstance(shape, list) and isinstance(shape[0], type) and kinds <= {list}:
        if set(map(type, chain.from_iterable(values))) <= set(shape):
            return
    for place, item in placed:
        check_shape(item, shape, place)


def _shown(value: Any) -> str:
    return "null" if value is None else f"{value!r:.60}"


def _name(shape: Any) -> str:
    return _NAMES[_kind(shape)]


def _kind(shape: Any) -> type:
    """The type of what has a shape."""
    return type(None) if shape is None else shape if isinstance(shape, type) else type(shape)
