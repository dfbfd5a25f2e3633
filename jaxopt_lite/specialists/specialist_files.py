"""One specialist as a file: its arrays, its card, and what it belongs to. Used by `store`, which keeps folders of them.

| in the file | what |
|---|---|
| tensors `parameters/...` | the parameters of the adapter |
| tensors `profile/...` | its `Profile`: count, mean, fisher, gate |
| metadata `base`, `base_name`, `tokenizer` | the base and its fingerprints |
| metadata `adapter` | `Adapter.spec()` as JSON |
| metadata `card` | its `Card` as JSON |
| metadata `id` | its content hash, as in `Library.ids` |
| metadata `format`, `version`, `checksum` | see `tensor_files.py` |
"""

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxopt_lite.specialists.adapters import from_spec, leaf_names
from jaxopt_lite.specialists.base import Base, digest
from jaxopt_lite.specialists.folder_index import SUFFIX, Entry
from jaxopt_lite.specialists.library import Card, Library, Profile
from jaxopt_lite.specialists.tensor_files import (
    canonical,
    check_dtypes,
    check_kin,
    check_tensors,
    kin,
    read,
    sealed,
    to_bytes,
)

__all__ = ["ANY_FILE", "KIND", "Found", "Reader", "Rows", "assemble", "carries", "some"]

KIND = "jaxopt_lite specialist"
ANY_FILE = f"*-{'[0-9a-f]' * 16}{SUFFIX}"  # a pattern of the names that `Rows` gives
_KEYS = "base", "base_name", "tokenizer", "adapter", "card", "id"
_PARAMETERS = "parameters/"
_FIELDS = {field.name: (field.type,) for field in fields(Card)}  # of a card as JSON
_FIELDS |= {"loss": (float, type(None)), "parents": (list,)}


class Rows:
    """A library on the host, of which each specialist can be had as a file.

    Raises:
        ValueError: what could not be loaded again: shapes that do not fit the adapter, NaN, infinity.
    """

    def __init__(self, library: Library):
        tree = {"parameters": library.parameters, "profile": library.profile}
        leaves = map(np.ascontiguousarray, jax.tree.leaves(jax.device_get(tree)))
        self.names, self.ids = library.names, library.ids
        self.cards = [canonical(vars(card)) for card in library.cards]
        self.arrays = dict(zip(leaf_names(tree), leaves, strict=True))
        self.metadata = {**kin(library.base), "adapter": canonical(library.adapter.spec())}
        check_dtypes(self.arrays, floating=True)
        features = np.shape(library.profile.mean)[-1]
        shapes = _shapes(_template(library.base, self.metadata["adapter"], features))
        check_tensors(self.arrays, {name: (len(library), *shape) for name, shape in shapes.items()})
        self._check_finite()

    def _check_finite(self) -> None:
        finite = np.ones(len(self), bool)
        for array in self.arrays.values():
            finite &= np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        if not finite.all():
            bad = [name for name, fine in zip(self.names, finite, strict=True) if not fine]
            raise ValueError(
                f"NaN or infinity in {len(bad)} specialists, and nothing was written: {some(bad)}. Fit them again, or "
                "leave them out by `library.remove`."
            )

    def __len__(self) -> int:
        return len(self.names)

    def entry(self, row: int) -> Entry:
        """What an index says of one of them."""
        checksum = sealed(KIND, *self._content(row))["checksum"]
        return Entry(self.names[row], self.ids[row], _file_name(self.names[row], checksum), checksum)

    def data(self, row: int, checksum: str | None = None) -> bytes:
        """The file of one of them; the checksum need not be computed again."""
        tensors, metadata = self._content(row)
        return to_bytes(tensors, sealed(KIND, tensors, metadata, checksum))

    def _content(self, row: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        tensors = {name: np.asarray(array[row]) for name, array in self.arrays.items()}
        return tensors, {**self.metadata, "card": self.cards[row], "id": self.ids[row]}

    @property
    def layout(self) -> str:
        """As `Found.layout`; known without any specialist too."""
        one = {name: np.broadcast_to(np.zeros((), array.dtype), array.shape[1:]) for name, array in self.arrays.items()}
        return _layout(self.metadata["adapter"], one)


class Found(NamedTuple):
    """What is in the file of one specialist.

    Attributes:
        card: its card.
        id: its content hash.
        checksum: of the file.
        layout: what all specialists of a library have in common, as JSON: the adapter, dtypes and shapes.
        tensors: the arrays.
    """

    card: Card
    id: str
    checksum: str
    layout: str
    tensors: dict[str, np.ndarray]


class Reader:
    """Reads the files of specialists of one base, and checks all that can be checked."""

    def __init__(self, base: Base):
        self.base = base
        self._known: dict[tuple[str, int], tuple[dict[str, tuple[int, ...]], str]] = {}
        self._layouts: dict[tuple, str] = {}

    def __call__(self, path: Path) -> Found:
        """What is in a file.

        Raises:
            ValueError: why it is refused, without its name.
        """
        tensors, metadata = read(path, KIND, _KEYS)
        check_kin(metadata, self.base)
        check_dtypes(tensors, floating=True)
        mean = tensors.get("profile/mean", np.zeros(0))
        shapes, spec = self._expected(metadata["adapter"], mean.size)
        check_tensors(tensors, shapes)
        for name, array in tensors.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name!r} holds NaN or infinity; fit it again.")
        a = {name.removeprefix(_PARAMETERS): array for name, array in tensors.items() if name.startswith(_PARAMETERS)}
        if digest(a, self.base.fingerprint, self.base.tokenizer_fingerprint, spec) != metadata["id"]:
            raise ValueError("its id is not that of its content; write it again by `save`.")
        layout = self._layout(metadata["adapter"], tensors)
        return Found(_card(metadata["card"]), metadata["id"], metadata["checksum"], layout, tensors)

    def _layout(self, adapter: str, tensors: dict[str, np.ndarray]) -> str:
        key = adapter, *((name, array.dtype, array.shape) for name, array in tensors.items())
        if key not in self._layouts:
            self._layouts[key] = _layout(adapter, tensors)
        return self._layouts[key]

    def _expected(self, adapter: str, features: int) -> tuple[dict[str, tuple[int, ...]], str]:
        """The shapes for an adapter, and what of it goes into an id."""
        key = adapter, features
        if key not in self._known:
            shapes = _shapes(_template(self.base, adapter, features))
            self._known[key] = shapes, repr(from_spec(json.loads(adapter)).spec())
        return self._known[key]


def assemble(base: Base, layout: str, found: Sequence[Found]) -> Library:
    """The library of specialists that have a layout in common; one transfer to the device.

    Raises:
        ValueError: a layout that is none, or does not fit the base.
    """
    try:
        plain = json.loads(layout)
        adapter = canonical(plain["adapter"])
        tree = _template(base, adapter, plain["tensors"]["profile/mean"][1][0])
        dtypes = [jnp.dtype(plain["tensors"][name][0]) for name in leaf_names(tree)]
    except (TypeError, ValueError, KeyError, IndexError, RecursionError) as error:
        raise ValueError(f"its layout {layout[:200]} is not one for this base ({error}).") from error
    named = zip(leaf_names(tree), jax.tree.leaves(tree), dtypes, strict=True)
    stacks = [_stack([each.tensors[name] for each in found], leaf.shape, dtype) for name, leaf, dtype in named]
    whole = jax.device_put(jax.tree.unflatten(jax.tree.structure(tree), stacks))
    cards = tuple(each.card for each in found)
    return Library(base, whole["parameters"], whole["profile"], from_spec(plain["adapter"]), cards)


def _stack(arrays: Sequence[np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.stack(arrays) if arrays else np.zeros((0, *shape), dtype)


def _template(base: Base, adapter: str, features: int) -> PyTree:
    """The pytree that a file holds, of shapes: `Library.parameters` and `profile` for one specialist.

    Raises:
        ValueError: an adapter that is not known here, or does not fit the base.
    """
    try:
        parameters = jax.eval_shape(from_spec(json.loads(adapter)).identity, base.params)
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"its adapter {adapter[:200]} is not one for this base ({error}).") from error
    number, vector = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((), (features,)))
    return {"parameters": parameters, "profile": Profile(number, vector, parameters, vector)}  # pyright: ignore[reportArgumentType]


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    return {name: leaf.shape for name, leaf in zip(leaf_names(tree), jax.tree.leaves(tree), strict=True)}


def _layout(adapter: str, tensors: dict[str, np.ndarray]) -> str:
    arrays = {name: [array.dtype.name, list(array.shape)] for name, array in tensors.items()}
    return canonical({"adapter": json.loads(adapter), "tensors": arrays})


def _file_name(name: str, checksum: str) -> str:
    """A name for any file system: ASCII, short, one dot; none are alike where the case of letters is ignored."""
    return f"{re.sub('[^A-Za-z0-9_-]+', '_', name)[:40]}{_ending(checksum)}"


def carries(file: str, checksum: str) -> bool:
    """Whether a file has a name that `Rows` gives to what has this checksum."""
    return file.endswith(_ending(checksum))


def _ending(checksum: str) -> str:
    return f"-{checksum[:16]}{SUFFIX}"


def some(names: Sequence[str]) -> str:
    """Up to ten names, for a message."""
    return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _card(text: str) -> Card:
    """The card that a file holds as JSON.

    Raises:
        ValueError: anything else.
    """
    try:
        entries: dict[str, Any] = json.loads(text)
        wrong = [name for name, kinds in _FIELDS.items() if type(entries.get(name, ...)) not in kinds]
        wrong += [] if all(isinstance(parent, str) for parent in entries["parents"]) else ["parents"]
        entries["parents"] = tuple(entries["parents"])
        if not wrong:
            return Card(**entries)
    except (AttributeError, TypeError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"its card {text[:200]} is none ({error}).") from error
    raise ValueError(f"its card {text[:200]} lacks a field or has one of another type: {', '.join(wrong)}.")
