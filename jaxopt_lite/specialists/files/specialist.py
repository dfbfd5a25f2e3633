"""One specialist as a file: what is written there, and what is checked when it is read."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from jaxopt_lite.files import write
from jaxopt_lite.specialists.adapters import from_spec
from jaxopt_lite.specialists.arguments import some, text
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.files.bases import OF_BASE, check_base, identity_of
from jaxopt_lite.specialists.leaves import digest, leaf_names, named_leaves
from jaxopt_lite.specialists.library import Card, Library, Profile
from jaxopt_lite.specialists.tensor_files import (
    DTYPES,
    canonical,
    check_dtypes,
    check_format,
    check_tensors,
    encode,
    read,
    read_header,
)

__all__ = ["LAST", "Found", "HostLibrary", "Reader", "described", "read_head", "save_one", "template"]

LAST = 10**18  # the order of a specialist that was saved alone: after all those of a folder
_KIND = "jaxopt_lite specialist"
_COMMON = *OF_BASE, "adapter", "card", "id"
_KEYS = {"1": _COMMON, "2": (*_COMMON, "order")}


Layout = tuple[
    str, tuple[tuple[str, np.dtype, tuple[int, ...]], ...]
]  # the adapter; of each array name, dtype and shape


class HostLibrary:
    """A library on the host, which gives each of its specialists as a file.

    Raises:
        ValueError: it could not be loaded again: shapes that do not fit the adapter, NaN, infinity.
    """

    def __init__(self, library: Library):
        tree = {"parameters": library.parameters, "profile": library.profile}
        leaves = map(np.ascontiguousarray, jax.tree.leaves(jax.device_get(tree)))
        self.names, self.ids, self.cards = library.names, library.ids, library.cards
        self.arrays = dict(zip(leaf_names(tree), leaves, strict=True))
        self.metadata = {**identity_of(library.base), "adapter": canonical(library.adapter.spec())}
        check_dtypes(self.arrays, floating=True)
        shapes = _shapes(library.base, self.metadata["adapter"], np.shape(library.profile.mean)[-1])
        check_tensors(self.arrays, {name: (len(library), *shape) for name, shape in shapes.items()})
        finite = np.ones(len(self.names), bool)
        for array in self.arrays.values():
            finite &= np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        if not finite.all():
            bad = [name for name, fine in zip(self.names, finite, strict=True) if not fine]
            raise ValueError(
                f"NaN or infinity in {len(bad)} specialists, and nothing was written: {some(bad)}. Fit them again, or "
                "leave them out by `library.remove`."
            )

    def tensors(self, row: int) -> dict[str, np.ndarray]:
        """The arrays of one specialist."""
        return {name: np.asarray(array[row]) for name, array in self.arrays.items()}

    def data(self, row: int, order: int) -> bytes:
        """The file of one specialist."""
        own = {"card": canonical(vars(self.cards[row])), "id": self.ids[row], "order": str(order)}
        return encode(_KIND, self.tensors(row), self.metadata | own, version="2")

    @property
    def layout(self) -> Layout:
        """What all of its files have in common."""
        return _layout(self.metadata["adapter"], {k: (a.dtype, a.shape[1:]) for k, a in self.arrays.items()})


class Found(NamedTuple):
    """The content of one specialist's file.

    Attributes:
        card: its card.
        id: its content hash.
        order: its position in the library; None in a file of version 1.
        layout: what all specialists of a library have in common.
        tensors: the arrays.
    """

    card: Card
    id: str
    order: int | None
    layout: Layout
    tensors: dict[str, np.ndarray]


class Reader:
    """Reads the files of one base's specialists, and checks everything that can be checked."""

    def __init__(self, base: Base):
        self.base = base
        self._expected: dict[tuple[str, int], tuple[dict[str, tuple[int, ...]], str]] = {}

    def __call__(self, path: str | Path) -> Found:
        """The content of a file.

        Raises:
            ValueError: why it is refused, without the name of the file.
        """
        tensors, metadata = read(path, _KIND, _KEYS)
        check_base(metadata, self.base)
        check_dtypes(tensors, floating=True)
        shapes, spec = self._of_adapter(metadata["adapter"], tensors.get("profile/mean", np.zeros(0)).size)
        check_tensors(tensors, shapes)
        for name, array in tensors.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name!r} holds NaN or infinity; fit it again.")
        a = {k.removeprefix("parameters/"): array for k, array in tensors.items() if k.startswith("parameters/")}
        if digest(a, self.base.fingerprint, self.base.tokenizer_fingerprint, spec) != metadata["id"]:
            raise ValueError("its id is not that of its content; save it again.")
        layout = _layout(metadata["adapter"], {k: (a.dtype, a.shape) for k, a in tensors.items()})
        return Found(_card(metadata["card"]), metadata["id"], _order(metadata), layout, tensors)

    def _of_adapter(self, adapter: str, features: int) -> tuple[dict[str, tuple[int, ...]], str]:
        """The shapes for an adapter, and the part of an id that it gives."""
        key = adapter, features
        if key not in self._expected:
            self._expected[key] = _shapes(self.base, *key), repr(from_spec(json.loads(adapter)).spec())
        return self._expected[key]


class Head(NamedTuple):
    """What a specialist's file says before its arrays.

    Attributes:
        metadata: all of its metadata.
        name: the specialist's name.
        order: its position in the library; None in a file of version 1.
        layout: what all specialists of a library have in common.
    """

    metadata: Mapping[str, str]
    name: str
    order: int | None
    layout: Layout


def read_head(path: str | Path) -> Head:
    """Read no more than the header of a file; its content is not checked.

    Raises:
        ValueError, TypeError, KeyError, RecursionError: it is damaged, or not that of a specialist.
    """
    with open(path, "rb") as file:
        header, metadata = read_header(file)
    check_format(metadata, _KIND, _KEYS)
    arrays = {k: (DTYPES[entry["dtype"]], entry["shape"]) for k, entry in header.items()}
    name = text("name", json.loads(metadata["card"])["name"])
    return Head(metadata, name, _order(metadata), _layout(metadata["adapter"], arrays))


def _shapes(base: Base, adapter: str, features: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays in a file."""
    tree = template(base, adapter, features)
    return {name: leaf.shape for name, leaf in named_leaves(tree).items()}


def template(base: Base, adapter: str, features: int) -> PyTree:
    """The pytree that a file holds, as shapes: `Library.parameters` and `profile` for one specialist."""
    try:
        parameters = jax.eval_shape(from_spec(json.loads(adapter)).identity, base.params)
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"its adapter {adapter[:200]} does not fit this base ({error}).") from error
    number, vector = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((), (features,)))
    return {"parameters": parameters, "profile": Profile(number, vector, parameters, vector)}  # pyright: ignore[reportArgumentType]


def _layout(adapter: str, arrays: Mapping[str, tuple[np.dtype, Sequence[int]]]) -> Layout:
    return adapter, tuple(sorted((name, dtype, tuple(shape)) for name, (dtype, shape) in arrays.items()))


def described(layout: Layout | None) -> str:
    """An adapter and the dtypes of its arrays, for a message."""
    adapter, arrays = layout or ("", ())
    return f"{adapter[:200]} with {', '.join(sorted({dtype.name for _, dtype, _ in arrays}))}"


def _order(metadata: Mapping[str, str]) -> int | None:
    if metadata["version"] == "1":
        return None
    order = metadata["order"]
    if not re.fullmatch("[0-9]{1,30}", order):
        raise ValueError(f"its order is {order[:40]!r}; expected a whole number. Save it again.")
    return int(order)


_TYPES = {field.name: (field.type,) for field in fields(Card)}  # of a card as JSON
_TYPES |= {"loss": (float, type(None)), "parents": (list,)}


def _card(plain: str) -> Card:
    """The card that a file holds as JSON."""
    try:
        entries: dict[str, Any] = json.loads(plain)
        if "licence" in entries:  # as version 1 spelled it
            entries["license"] = entries.pop("licence")
        wrong = [name for name, types in _TYPES.items() if type(entries.get(name, ...)) not in types]
        wrong += [] if all(isinstance(parent, str) for parent in entries["parents"]) else ["parents"]
        entries["parents"] = tuple(entries["parents"])
        if not wrong:
            return Card(**entries)
    except (AttributeError, TypeError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"its card {plain[:200]} cannot be read ({error}).") from error
    raise ValueError(f"its card {plain[:200]} lacks a field or has one of another type: {', '.join(wrong)}.")


def save_one(library: Library, file: str | Path) -> None:
    """Save a library of one specialist as one file, to send it to someone, who can `load` and `add` it.

    In a folder of specialists such a file counts as one of them, the last.

    Args:
        library: a library of one specialist, such as `library["name"]`.
        file: where to save; an existing file is replaced.

    Raises:
        OSError: it cannot be written; an existing file stays as it is.
        ValueError: another number of specialists than one; NaN or infinity.
    """
    if len(library) != 1:
        raise ValueError(f"a library of {len(library)}; expected one, such as library[name]. `save` makes a folder.")
    write(file, HostLibrary(library).data(0, LAST))
