"""Loading a library from a folder, or one specialist from its file."""

import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from jaxopt_lite.specialists.adapters import from_spec
from jaxopt_lite.specialists.arguments import some
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.files.folder import GIVEN_NAME, Listed, check_regular, file_of, listing
from jaxopt_lite.specialists.files.specialist import LAST, Found, Reader, described, template
from jaxopt_lite.specialists.leaves import digest, leaf_names
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.tensor_files import OtherFormatError, canonical

__all__ = ["load", "place_of", "read_index"]

_REPORTED = 20  # refused files that a message lists


def load(path: str | Path, base: Base, *, errors: Literal["raise", "skip"] = "raise") -> Library:
    """Load a library from its folder, or one specialist from its file. Every file is checked; none can run code.

    Args:
        path: the folder, or the file. Other safetensors files in the folder, such as a base, are left alone.
        base: the base that they belong to. Files do not hold its functions.
        errors: what to do with files that are damaged or of another base: `"raise"`, or `"skip"` for a library of the
            others and a warning that says which were left out, and why.

    Returns:
        The library, in the order in which it was saved. If adapters or dtypes differ, the specialists with the most
        common ones are the library, and the others are refused.

    Another process may save to the folder meanwhile: what is loaded is the library before that, or after.

    Raises:
        FileNotFoundError: nothing there, or no specialists.
        OSError: it cannot be accessed.
        ValueError: which files are refused, and why; with `"skip"` only if all of them are.
    """
    if errors not in ("raise", "skip"):
        raise ValueError(f"errors={errors!r}: expected 'raise' or 'skip'.")
    path, reader = Path(path), Reader(base)
    files, known = listing(path), {}
    while True:
        found, refused = _read_files(files, reader, known, path.is_dir())
        now = listing(path)
        if now == files:
            break
        # A save ended meanwhile. What was read is not read again, and the rest takes less time than a save does: so
        # this ends, however many others save.
        files, known = now, {files[file].stamp: one for file, one in found.items()}
    return _library_of(path, found, refused, base, errors)


def _read_files(
    files: Mapping[str, Listed], reader: Reader, known: Mapping[tuple, Found], in_folder: bool
) -> tuple[dict[str, Found], dict[str, str]]:
    """The content of each file, and why each of the others is refused."""
    found, refused = {}, {}
    for file, (path, mode, stamp) in sorted(files.items()):
        named_by_save = in_folder and GIVEN_NAME.fullmatch(file)
        try:
            check_regular(mode)
            one = known[stamp] if stamp in known else reader(path)
            if named_by_save and one.order is not None and file != file_of(one.card.name):
                raise ValueError(f"it holds {one.card.name!r}, and its name is that of another; rename it.")
            found[file] = one
        except OtherFormatError as error:
            if named_by_save or not in_folder:
                refused[file] = str(error)
        except ValueError as error:
            refused[file] = str(error)
    return found, refused


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
                f"it has the adapter {described(one.layout)}; the others have {described(layout)}. Load it alone."
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
    """The files in the order of the library, without those that have no place in it."""
    index = read_index(folder)
    places = {file: place_of(file, one.order, index) for file, one in found.items()}
    unlisted = [file for file, place in places.items() if place is None]
    if unlisted:
        warnings.warn(
            f"{folder}: {len(unlisted)} files are not listed in index.json, which an earlier version wrote, and are "
            f"left out: {some(unlisted)}. Delete index.json to load all files.",
            stacklevel=4,
        )
    order = sorted((place, file) for file, place in places.items() if place is not None)
    return {file: found[file] for _, file in order}


def place_of(file: str, order: int | None, index: Mapping[str, int]) -> int | None:
    """The position of a file in the library: its own order, or for a file of version 1 that in the index, if any.

    None for a file of version 1 that the index does not list.
    """
    if order is not None:
        return order
    return index.get(file) if index else LAST


def read_index(folder: Path) -> dict[str, int]:
    """The order of files of version 1, from the index that was written with them; empty without one."""
    path = folder / "index.json"
    if not path.exists():
        return {}
    try:
        check_regular(os.lstat(path).st_mode)
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
        message = f"{len(refused)} of {total} specialists are refused; errors='skip' loads the others:"
        raise ValueError("\n  ".join([message, *lines]))


def _assemble(base: Base, found: Sequence[Found]) -> Library:
    """The library of specialists with a common layout, in one transfer to the device."""
    adapter = found[0].layout[0]
    tree = template(base, adapter, found[0].tensors["profile/mean"].size)
    stacks = [np.stack([one.tensors[name] for one in found]) for name in leaf_names(tree)]
    whole = jax.device_put(jax.tree.unflatten(jax.tree.structure(tree), stacks))
    cards = tuple(one.card for one in found)
    return Library(base, whole["parameters"], whole["profile"], from_spec(json.loads(adapter)), cards)
