"""Bases and specialists on disk: one safetensors file each. A library is a folder, and what is in it is the library.

A file of a specialist holds, besides its arrays (`parameters/...` and `profile/...`), text metadata:

| key | meaning |
|---|---|
| `base`, `base_name`, `tokenizer` | the base it belongs to: name and fingerprints |
| `adapter` | `Adapter.spec()` as JSON |
| `card` | its `Card` as JSON |
| `id` | its content hash, as in `Library.ids` |
| `order` | where it stands in the library: a whole number, smaller ones first |
| `format`, `version`, `checksum` | what the file is; a SHA-256 of all of its content |

Nothing in a file is code. The checksum finds accidents and edits; it is not a signature.

`save` makes all its changes at once. It writes new files into `.saving`, a folder inside the folder, with a list of the
files to remove. Renaming that folder to `.saved-...` is the moment at which the new library replaces the old one; only
then are the files moved to where they belong. Whoever reads before that is done reads both folders; whoever saves next
finishes it first. Version 1 had no `order`, and kept the order in an `index.json`, which is still read.
"""

import errno
import json
import os
import re
import shutil
import stat
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple
from weakref import WeakSet

import jax
import numpy as np
from jaxtyping import PyTree

from jaxopt_lite.files import flush_folder, put, tidy, write
from jaxopt_lite.specialists.adapters import from_spec, leaf_names
from jaxopt_lite.specialists.arguments import text
from jaxopt_lite.specialists.base import Base, digest
from jaxopt_lite.specialists.library import Card, Library, Profile
from jaxopt_lite.specialists.tensor_files import (
    DTYPES,
    OtherFormatError,
    canonical,
    check_dtypes,
    check_exists,
    check_format,
    check_tensors,
    encode,
    read,
    read_header,
)

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["load", "load_base", "save", "save_base", "save_one"]

_BASE = "jaxopt_lite base"
_SPECIALIST = "jaxopt_lite specialist"
_OF_BASE = "base", "base_name", "tokenizer"
_OF_SPECIALIST = *_OF_BASE, "adapter", "card", "id"
_BASE_KEYS = {"1": _OF_BASE}
_SPECIALIST_KEYS = {"1": _OF_SPECIALIST, "2": (*_OF_SPECIALIST, "order")}

_SUFFIX = ".safetensors"
_GIVEN_NAME = re.compile(f".*-[0-9a-f]{{16}}{re.escape(_SUFFIX)}", re.DOTALL)  # the names that `save` gives to files
_LAST = 10**18  # the order of a specialist that was saved alone: after all those of a folder
_WRITERS = 8  # files that are written at the same time; a write is nearly all waiting for the disk
_REPORTED = 20  # refused files that a message lists


# Bases.


def save_base(base: Base, file: str | Path) -> None:
    """Save the parameters of a base as one safetensors file, with its fingerprints.

    Args:
        base: the base. Neither its functions are saved nor its tokenizer, which has a file of its own.
        file: where; an existing file is replaced.

    Raises:
        OSError: it cannot be written; an existing file stays as it is.
        ValueError: two leaves of one name, a name or a dtype that safetensors does not have.
    """
    names, leaves = leaf_names(base.params), jax.tree.leaves(jax.device_get(base.params))
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in zip(names, leaves, strict=True)}
    write(file, encode(_BASE, tensors, _identity_of(base)))


def load_base(file: str | Path, like: Base) -> Base:
    """A base with the parameters of a file made by `save_base`.

    Args:
        file: the file.
        like: the base except for its parameters. Those it has give the structure, shapes and dtypes: fresh ones, or
            what `jax.eval_shape` returns.

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
    check_exists(file, "`save_base`")
    try:
        tensors, metadata = read(file, _BASE, _BASE_KEYS)
        names, leaves = leaf_names(like.params), [_with_dtype(leaf) for leaf in jax.tree.leaves(like.params)]
        check_dtypes(tensors, floating=False)
        check_tensors(tensors, {name: leaf.shape for name, leaf in zip(names, leaves, strict=True)})
        for name, leaf in zip(names, leaves, strict=True):
            if tensors[name].dtype != leaf.dtype:
                raise ValueError(f"{name!r} is {tensors[name].dtype.name}; expected {leaf.dtype} as in `like`.")
        params = jax.tree.unflatten(jax.tree.structure(like.params), [tensors[name] for name in names])
        base = replace(like, params=jax.device_put(params))
        _check_base(metadata, base)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return base


def _with_dtype(leaf: Any) -> jax.ShapeDtypeStruct | np.ndarray:
    """A leaf with a shape and a dtype; a Python number has none."""
    return leaf if hasattr(leaf, "dtype") and hasattr(leaf, "shape") else np.asarray(leaf)


def _identity_of(base: Base) -> dict[str, str]:
    """The metadata that name a base."""
    return {"base": base.fingerprint, "base_name": base.name, "tokenizer": base.tokenizer_fingerprint}


def _check_base(found: Mapping[str, str], base: Base) -> None:
    """Refuse the metadata of a file that belongs to another base or tokenizer."""
    mine = _identity_of(base)
    if found["base"] != mine["base"]:
        theirs, ours = (f"{each['base_name']!r} ({each['base'][:12]}…)" for each in (found, mine))
        raise ValueError(f"made for the base {theirs}, and this one is {ours}; give the base it was made for.")
    if found["tokenizer"] != mine["tokenizer"]:
        theirs, ours = (f"{each['tokenizer'][:12]}…" if each["tokenizer"] else "none" for each in (found, mine))
        raise ValueError(f"made with the tokenizer {theirs}, and this base has {ours}; give Base(..., tokenizer=...).")


# One specialist.


Layout = tuple[
    str, tuple[tuple[str, np.dtype, tuple[int, ...]], ...]
]  # the adapter; of each array name, dtype and shape


class Rows:
    """A library on the host, each specialist of which can be had as a file.

    Raises:
        ValueError: what could not be loaded again: shapes that do not fit the adapter, NaN, infinity.
    """

    def __init__(self, library: Library):
        tree = {"parameters": library.parameters, "profile": library.profile}
        leaves = map(np.ascontiguousarray, jax.tree.leaves(jax.device_get(tree)))
        self.names, self.ids, self.cards = library.names, library.ids, library.cards
        self.arrays = dict(zip(leaf_names(tree), leaves, strict=True))
        self.metadata = {**_identity_of(library.base), "adapter": canonical(library.adapter.spec())}
        check_dtypes(self.arrays, floating=True)
        shapes = _shapes(library.base, self.metadata["adapter"], np.shape(library.profile.mean)[-1])
        check_tensors(self.arrays, {name: (len(library), *shape) for name, shape in shapes.items()})
        finite = np.ones(len(self.names), bool)
        for array in self.arrays.values():
            finite &= np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        if not finite.all():
            bad = [name for name, fine in zip(self.names, finite, strict=True) if not fine]
            raise ValueError(
                f"NaN or infinity in {len(bad)} specialists, and nothing was written: {_some(bad)}. Fit them again, or "
                "leave them out by `library.remove`."
            )

    def tensors(self, row: int) -> dict[str, np.ndarray]:
        """The arrays of one specialist."""
        return {name: np.asarray(array[row]) for name, array in self.arrays.items()}

    def data(self, row: int, order: int) -> bytes:
        """The file of one specialist."""
        own = {"card": canonical(vars(self.cards[row])), "id": self.ids[row], "order": str(order)}
        return encode(_SPECIALIST, self.tensors(row), self.metadata | own, version="2")

    @property
    def layout(self) -> Layout:
        """What all of its files have in common."""
        return _layout(self.metadata["adapter"], {k: (a.dtype, a.shape[1:]) for k, a in self.arrays.items()})


class Found(NamedTuple):
    """The content of one specialist's file.

    Attributes:
        card: its card.
        id: its content hash.
        order: where it stands in the library; None in a file of version 1.
        layout: what all specialists of a library have in common.
        tensors: the arrays.
    """

    card: Card
    id: str
    order: int | None
    layout: Layout
    tensors: dict[str, np.ndarray]


class Reader:
    """Reads the files of specialists of one base, and checks all that can be checked."""

    def __init__(self, base: Base):
        self.base = base
        self._expected: dict[tuple[str, int], tuple[dict[str, tuple[int, ...]], str]] = {}

    def __call__(self, path: str | Path) -> Found:
        """The content of a file.

        Raises:
            ValueError: why it is refused, without its name.
        """
        tensors, metadata = read(path, _SPECIALIST, _SPECIALIST_KEYS)
        _check_base(metadata, self.base)
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


def _shapes(base: Base, adapter: str, features: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays in a file."""
    tree = _template(base, adapter, features)
    return {name: leaf.shape for name, leaf in zip(leaf_names(tree), jax.tree.leaves(tree), strict=True)}


def _template(base: Base, adapter: str, features: int) -> PyTree:
    """The pytree that a file holds, of shapes: `Library.parameters` and `profile` for one specialist."""
    try:
        parameters = jax.eval_shape(from_spec(json.loads(adapter)).identity, base.params)
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"its adapter {adapter[:200]} is not one for this base ({error}).") from error
    number, vector = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((), (features,)))
    return {"parameters": parameters, "profile": Profile(number, vector, parameters, vector)}  # pyright: ignore[reportArgumentType]


def _layout(adapter: str, arrays: Mapping[str, tuple[np.dtype, Sequence[int]]]) -> Layout:
    return adapter, tuple(sorted((name, dtype, tuple(shape)) for name, (dtype, shape) in arrays.items()))


def _described(layout: Layout | None) -> str:
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
        raise ValueError(f"its card {plain[:200]} is none ({error}).") from error
    raise ValueError(f"its card {plain[:200]} lacks a field or has one of another type: {', '.join(wrong)}.")


def save_one(library: Library, file: str | Path) -> None:
    """Save a library of one specialist as one file, to send it to someone, who can `load` and `add` it.

    In a folder of specialists such a file is one of them, the last.

    Args:
        library: of one, such as `library["name"]`.
        file: where; an existing file is replaced.

    Raises:
        OSError: it cannot be written; an existing file stays as it is.
        ValueError: not one specialist; NaN or infinity.
    """
    if len(library) != 1:
        raise ValueError(f"a library of {len(library)}; expected one, such as library[name]. `save` makes a folder.")
    write(file, Rows(library).data(0, _LAST))


# Folders of specialists: reading.


class _Listed(NamedTuple):
    """Where a file is, what it is, and what tells it from another one of this name: its inode, time and size."""

    path: str
    mode: int
    stamp: tuple[int, int, int]

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> "_Listed":
        return cls(path, status.st_mode, (status.st_ino, status.st_mtime_ns, status.st_size))


def load(path: str | Path, base: Base, *, errors: Literal["raise", "skip"] = "raise") -> Library:
    """Load a library from its folder, or one specialist from its file. Every file is checked; none can run code.

    Args:
        path: the folder, or the file. Other programs' safetensors files in the folder, and a base, are left alone.
        base: the base that they belong to. Functions are not in any file.
        errors: what to do with files that are damaged or of another base: `"raise"`, or `"skip"` for a library of the
            others and a warning that says which were left out, and why.

    Returns:
        The library, in the order in which it was saved. Where specialists have different adapters or dtypes, those with
        the most common ones are the library, and the others are refused.

    Another process may save to the folder meanwhile: what is loaded is the library before that, or after.

    Raises:
        FileNotFoundError: nothing there, or no specialists.
        OSError: it cannot be looked at.
        ValueError: which files are refused, and why; with `"skip"` only if all of them are.
    """
    if errors not in ("raise", "skip"):
        raise ValueError(f"errors={errors!r}: expected 'raise' or 'skip'.")
    path, reader = Path(path), Reader(base)
    listing, known = _listing(path), {}
    while True:
        found, refused = _read_files(listing, reader, known, path.is_dir())
        now = _listing(path)
        if now == listing:
            break
        # A save ended meanwhile. What was read is not read again, and the rest takes less time than a save does: so
        # this ends, however many others save.
        listing, known = now, {listing[file].stamp: one for file, one in found.items()}
    return _library_of(path, found, refused, base, errors)


def _listing(path: Path) -> dict[str, _Listed]:
    """The files to load from a folder, or the one file."""
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            file = path.resolve()
            return {file.name: _Listed.of(str(file), status)}
        found = _files_in(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist; expected a folder made by `save` or a file made by `save_one`."
        ) from None
    for commit in _commits(path):  # a save whose files are not moved yet
        removed = _removed(commit)
        found = {name: listed for name, listed in found.items() if removed.get(name) != listed.stamp}
        with suppress(FileNotFoundError):  # they are now
            found |= _files_in(commit)
    return found


def _files_in(folder: Path) -> dict[str, _Listed]:
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIX):
                with suppress(FileNotFoundError):
                    found[entry.name] = _Listed.of(entry.path, entry.stat(follow_symlinks=False))
    return found


def _read_files(
    listing: Mapping[str, _Listed], reader: Reader, known: Mapping[tuple, Found], in_folder: bool
) -> tuple[dict[str, Found], dict[str, str]]:
    """The content of each file, and why each of the others is refused."""
    found, refused = {}, {}
    for file, (path, mode, stamp) in sorted(listing.items()):
        named_by_save = in_folder and _GIVEN_NAME.fullmatch(file)
        try:
            _check_regular(mode)
            one = known[stamp] if stamp in known else reader(path)
            if named_by_save and one.order is not None and file != _file_of(one.card.name):
                raise ValueError(f"it holds {one.card.name!r}, and its name is that of another; rename it.")
            found[file] = one
        except OtherFormatError as error:
            if named_by_save or not in_folder:
                refused[file] = str(error)
        except ValueError as error:
            refused[file] = str(error)
    return found, refused


def _check_regular(mode: int) -> None:
    """Refuse what is no file in its folder: a link may point anywhere, and a pipe never ends."""
    if stat.S_ISDIR(mode):
        raise ValueError("is a folder; put the file itself there.")
    if not stat.S_ISREG(mode):
        raise ValueError("is a link or no file; put a copy of the file itself there.")


def _file_of(name: str) -> str:
    """The file of a specialist: ASCII, short, and another for each name, also where the case of letters is ignored."""
    stem = re.sub("[^A-Za-z0-9_-]+", "_", name)[:40]
    return f"{stem}-{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}{_SUFFIX}"


def _library_of(path: Path, found: dict[str, Found], refused: dict[str, str], base: Base, errors: str) -> Library:
    """The library of the files that were read."""
    folder = path if path.is_dir() else path.resolve().parent
    found = _in_order(folder, found) if path.is_dir() else found
    layouts = Counter(one.layout for one in found.values())
    layout = layouts.most_common(1)[0][0] if layouts else None
    chosen: dict[str, Found] = {}
    names: dict[str, str] = {}
    for file, one in found.items():
        if one.layout != layout:
            refused[file] = (
                f"it has the adapter {_described(one.layout)}; the others have {_described(layout)}. Load it alone."
            )
        elif names.setdefault(one.card.name, file) != file:
            refused[file] = f"it is named {one.card.name!r}, as that in {names[one.card.name]}; delete one of them."
        else:
            chosen[file] = one
    total = len(chosen) + len(refused)
    if not total:
        raise FileNotFoundError(f"{path} holds no specialists; expected files made by `save` or `save_one`.")
    _report(folder, refused, total, errors)
    if not chosen:
        raise ValueError(f"{path}: none of the {total} files of specialists could be loaded.")
    return _assemble(base, list(chosen.values()))


def _in_order(folder: Path, found: dict[str, Found]) -> dict[str, Found]:
    """The files in the order of the library. Those of version 1 are the ones that their index lists, if it is there."""
    index = _index(folder)
    unlisted = [file for file, one in found.items() if one.order is None and index and file not in index]
    if unlisted:
        warnings.warn(
            f"{folder}: {len(unlisted)} files are not listed in index.json, which an earlier version wrote, and are "
            f"left out: {_some(unlisted)}. Delete index.json to load all files.",
            stacklevel=4,
        )
    key = {file: index.get(file, _LAST) if one.order is None else one.order for file, one in found.items()}
    return {file: found[file] for file in sorted(found, key=lambda file: (key[file], file)) if file not in unlisted}


def _index(folder: Path) -> dict[str, int]:
    """The order of files of version 1, from the index that was written with them; empty if there is none."""
    path = folder / "index.json"
    if not path.exists():
        return {}
    try:
        _check_regular(os.lstat(path).st_mode)
        content = json.loads(path.read_bytes())
        checksum = content.pop("checksum")
        if content["format"] != "jaxopt_lite specialists" or digest({}, canonical(content)) != checksum:
            raise ValueError("its format or its checksum does not fit")
        return {entry["file"]: position for position, entry in enumerate(content["specialists"])}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        raise ValueError(
            f"{path} is not an index of an earlier version, or damaged ({type(error).__name__}: {error}). Move it away "
            "to load all files."
        ) from error


def _report(folder: Path, refused: dict[str, str], total: int, errors: str) -> None:
    if not refused:
        return
    lines = [f"{folder / file}: {reason}" for file, reason in list(refused.items())[:_REPORTED]]
    if len(refused) > _REPORTED:
        lines.append(f"and {len(refused) - _REPORTED} more")
    if errors == "skip":
        message = f"{len(refused)} of {total} specialists were left out:"
        warnings.warn("\n  ".join([message, *lines]), stacklevel=4)
    elif total == 1:
        raise ValueError(lines[0])
    else:
        message = f"{len(refused)} of {total} specialists are refused, errors='skip' loads the others:"
        raise ValueError("\n  ".join([message, *lines]))


def _assemble(base: Base, found: Sequence[Found]) -> Library:
    """The library of specialists that have a layout in common; one transfer to the device."""
    adapter = found[0].layout[0]
    tree = _template(base, adapter, found[0].tensors["profile/mean"].size)
    stacks = [np.stack([one.tensors[name] for one in found]) for name in leaf_names(tree)]
    whole = jax.device_put(jax.tree.unflatten(jax.tree.structure(tree), stacks))
    cards = tuple(one.card for one in found)
    return Library(base, whole["parameters"], whole["profile"], from_spec(json.loads(adapter)), cards)


def _some(names: Sequence[str]) -> str:
    """Up to ten names, for a message."""
    return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


# Folders of specialists: writing.


class _Member(NamedTuple):
    """A specialist that is in a folder before a save; of a damaged file nothing but its name is known."""

    file: str
    listed: _Listed
    name: str | None
    id: str
    order: int


def save(library: Library, folder: str | Path, *, others: Literal["raise", "keep", "remove"] = "raise") -> None:
    """Save a library as a folder. Files of specialists that are there already are not touched.

    Args:
        library: the library.
        folder: where; made if it is not there.
        others: what to do with specialists in the folder that this library does not hold, by name and id. They may be
            someone else's, so by default nothing is done and an error says which. `"keep"` leaves them; the new
            ones of this library come after them. `"remove"` deletes them. Where only the card or the profile of a
            specialist differs, those of this library are kept.

    Raises:
        OSError: it cannot be written. Then, as after Ctrl-C, the folder holds the library it held before, or this one.
        ValueError: a folder with others, or of another base or adapter; NaN or infinity.

    Warns:
        UserWarning: files that `"remove"` could not delete. `load` ignores them; the next save tries again.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Adapter, Base, Card, Library, Profile, Shift, load, save
        >>> base = Base({"b": jnp.zeros(())}, lambda params, x: params["b"] + x)
        >>> a, none = {"shift:b": jnp.array([2.0])}, jnp.zeros((1, 0))
        >>> library = Library(base, a, Profile(jnp.ones(1), none, a, none), Adapter((Shift("b"),)), (Card("up"),))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(library, folder)
        ...     loaded = load(folder, base)
        >>> loaded.ids == library.ids
        True
    """
    if others not in ("raise", "keep", "remove"):
        raise ValueError(f"others={others!r}: expected 'raise', 'keep' or 'remove'.")
    folder, rows = Path(folder), Rows(library)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        tidy(folder)
        shutil.rmtree(folder / _STAGE, ignore_errors=True)
        _finish(folder)
        members = _members(folder, library.base, rows)
        mine = _mine(rows, members)
        kept, new = {m.file for m in mine.values()}, set(map(_file_of, rows.names))
        rest = [m for m in members if m.file not in kept and not (m.name is None and m.file in new)]
        _check_others(folder, rest, library, others)
        written = _to_write(rows, mine, rest if others == "keep" else [], Reader(library.base))
        gone = [m for name, m in mine.items() if _file_of(name) in written] + (rest if others == "remove" else [])
        _commit(folder, rows, written, [m.listed for m in gone if m.file not in written])
        left = _finish(folder)
    if left:
        warnings.warn(
            f"{folder}: saved, but {len(left)} files that are no longer needed could not be deleted: {_some(left)}. "
            "The next save tries again.",
            stacklevel=2,
        )


def _members(folder: Path, base: Base, rows: Rows) -> list[_Member]:
    """The specialists of a folder, which have to be of this base, adapter and dtypes.

    Raises:
        ValueError: one that is not.
    """
    members, index = [], _index(folder)
    for file, listed in sorted(_listing(folder).items()):
        try:
            _check_regular(listed.mode)
            with open(listed.path, "rb") as opened:
                header, metadata = read_header(opened)
            check_format(metadata, _SPECIALIST, _SPECIALIST_KEYS)
            name, order = text("name", json.loads(metadata["card"])["name"]), _order(metadata)
            arrays = {k: (DTYPES[entry["dtype"]], entry["shape"]) for k, entry in header.items()}
            layout = _layout(metadata["adapter"], arrays)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if _GIVEN_NAME.fullmatch(file) and stat.S_ISREG(listed.mode) and not isinstance(error, OtherFormatError):
                members.append(_Member(file, listed, None, "", _LAST))
            continue
        if order is None and index and file not in index:
            continue
        try:
            _check_base(metadata, base)
            if layout != rows.layout:
                raise ValueError(
                    f"of another adapter or dtype: {_described(layout)}; this library has {_described(rows.layout)}."
                )
        except ValueError as error:
            raise ValueError(f"{folder} holds {file}, {error} Or save to another folder.") from error
        members.append(_Member(file, listed, name, metadata["id"], index.get(file, _LAST) if order is None else order))
    return members


def _mine(rows: Rows, members: Iterable[_Member]) -> dict[str, _Member]:
    """By name, the members that a library holds too."""
    ids, mine = dict(zip(rows.names, rows.ids, strict=True)), {}
    for member in members:
        if member.name is not None and ids.get(member.name) == member.id:
            mine.setdefault(member.name, member)
    return mine


def _check_others(folder: Path, rest: list[_Member], library: Library, others: str) -> None:
    """Refuse to go on where something would be lost that no one said might be."""
    names = [member.file if member.name is None else member.name for member in rest]
    if others == "raise" and rest:
        raise ValueError(
            f"{folder} holds {len(rest)} specialists that this library does not: {_some(names)}. Nothing was written. "
            "others='keep' leaves them there; others='remove' deletes them."
        )
    both = [name for name in names if name in library]
    if others == "keep" and both:
        raise ValueError(
            f"{folder} holds other specialists of the same names: {_some(both)}. Nothing was written. Rename them here "
            "by `library.rename`, or delete them there by others='remove'."
        )


def _to_write(
    rows: Rows, mine: Mapping[str, _Member], kept: Iterable[_Member], reader: Reader
) -> dict[str, tuple[int, int]]:
    """The files that are not there as they should be: the row and the order of each. New ones come after all others."""
    written: dict[str, tuple[int, int]] = {}
    top = max((member.order for member in [*kept, *mine.values()]), default=-1)
    last = -1, ""
    for row, name in enumerate(rows.names):
        member, file = mine.get(name), _file_of(name)
        if member is not None and (member.order, member.file) > last:
            last = member.order, member.file
            if _is_same(member, rows, row, reader):
                continue
            written[file] = row, member.order
        else:
            top = max(top, last[0]) + 1
            last = top, file
            written[file] = row, top
    return written


def _is_same(member: _Member, rows: Rows, row: int, reader: Reader) -> bool:
    """Whether a file holds what it should, to the bit, the card and the profile too."""
    if Path(member.listed.path).read_bytes() == rows.data(row, member.order):
        return True
    try:
        found = reader(member.listed.path)
    except ValueError:
        return False
    mine = rows.tensors(row)
    return (
        found.order is None  # the same, written by version 1
        and found.card == rows.cards[row]
        and all(mine[k].tobytes() == a.tobytes() for k, a in found.tensors.items())
    )


_STAGE, _COMMIT, _REMOVED = ".saving", ".saved-", "removed.json"


def _commit(folder: Path, rows: Rows, written: Mapping[str, tuple[int, int]], removed: Iterable[_Listed]) -> None:
    """Write the changes beside the library, and let them be part of it at once."""
    gone = {os.path.basename(listed.path): listed.stamp for listed in removed}
    if not written and not gone:
        return
    stage = folder / _STAGE
    try:
        stage.mkdir()
        _side_by_side(lambda file: put(stage / file, rows.data(*written[file])), written)
        put(stage / _REMOVED, json.dumps(gone).encode())
        flush_folder(stage)
        before = _commits(folder)  # whose removed files could not be deleted
        number = int(before[-1].name.removeprefix(_COMMIT)) + 1 if before else 0
        os.rename(stage, folder / f"{_COMMIT}{number:08}")
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    flush_folder(folder)


def _side_by_side(f: Callable[[str], object], items: Iterable[str]) -> None:
    """`f` of all items, in a few threads; where one fails, those that have not begun never do."""
    with ThreadPoolExecutor(_WRITERS) as pool:
        jobs = [pool.submit(f, item) for item in items]
        try:
            for job in wait(jobs, return_when=FIRST_EXCEPTION).done:
                job.result()
        except BaseException:  # Ctrl-C comes to this thread alone
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _commits(folder: Path) -> list[Path]:
    """The saves whose changes are not all made, the oldest first."""
    found = folder.glob(f"{_COMMIT}" + 8 * "[0-9]")
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def _removed(commit: Path) -> dict[str, tuple[int, int, int]]:
    """The files that a save removes, by name and stamp: one of this name that was put there since then stays."""
    path = commit / _REMOVED
    try:
        return {name: (int(node), int(time), int(size)) for name, (node, time, size) in _json(path).items()}
    except FileNotFoundError:
        return {}  # all is done
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{path} is no list of files that a save removes, or damaged ({error}). Move {commit.name} away; what that "
            "save had written is in it."
        ) from error


def _json(path: Path) -> Any:
    if not path.is_file() and path.exists():
        raise ValueError("it is no file")
    return json.loads(path.read_bytes())


def _finish(folder: Path) -> list[str]:
    """Make the changes of saves that are part of the library; the files that could not be deleted."""
    stuck = []
    for commit in _commits(folder):
        removed, left = _removed(commit), []
        for name, listed in _files_in(folder).items():
            if removed.get(name) == listed.stamp:
                try:
                    os.unlink(listed.path)
                except OSError:
                    left.append(name)
        for name, listed in _files_in(commit).items():
            os.replace(listed.path, os.path.join(folder, name))
        flush_folder(folder)
        if not left:
            shutil.rmtree(commit)
        stuck += left
    return stuck


_held: WeakSet[Any] = WeakSet()  # the files by which this process holds locks


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer of a folder at a time; others wait. The system frees the lock of a process that dies."""
    with open(folder / ".lock", "ab", buffering=0) as file:
        _held.add(file)
        _lock(file)
        yield


def _lock(file: IO[bytes]) -> None:
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX)
        return
    while True:
        try:
            return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        except OSError as error:
            if error.errno != errno.EDEADLK:  # which means that ten seconds were not enough
                raise


def _release() -> None:
    """In a process that was forked: the lock is not its own, and would be held for as long as it lives."""
    for file in list(_held):
        file.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_release)
