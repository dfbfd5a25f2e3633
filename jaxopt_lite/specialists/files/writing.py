"""Saving a library to a folder: what is there already, what changes, and what would be lost."""

import stat
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from jaxopt_lite.specialists.arguments import some
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.files.bases import check_base
from jaxopt_lite.specialists.files.folder import (
    GIVEN_NAME,
    Listed,
    check_regular,
    clear,
    commit,
    file_of,
    finish,
    listing,
    locked,
)
from jaxopt_lite.specialists.files.reading import place_of, read_index
from jaxopt_lite.specialists.files.specialist import LAST, HostLibrary, Reader, described, read_head
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.tensor_files import OtherFormatError, OtherVersionError, naming

__all__ = ["save"]


class _Member(NamedTuple):
    """A specialist that is in a folder before a save.

    Of a damaged file only its name is known. A file of a later version goes by its file name: it is intact, and may be
    someone else's.
    """

    file: str
    listed: Listed
    name: str | None
    id: str
    order: int


def save(library: Library, folder: str | Path, *, others: Literal["raise", "keep", "remove"] = "raise") -> None:
    """Save a library as a folder. Files of specialists that are there already are not touched.

    Args:
        library: the library.
        folder: where to save; made if it does not exist.
        others: what to do with specialists in the folder that this library does not hold, by name and id. They may be
            someone else's, so by default nothing is done and an error says which. `"keep"` leaves them; the new ones of
            this library come after them. `"remove"` deletes them. If only a specialist's card or profile differs, the
            folder gets those of this library.

    Raises:
        OSError: it cannot be written. Then, as after Ctrl-C, the folder holds the library it held before, or this one.
        ValueError: a folder with others, or of another base or adapter; NaN or infinity.

    Warns:
        UserWarning: files that `"remove"` could not delete. `load` ignores them; the next save tries again.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Adapter, Base, Card, Library, Profile, Shift
        >>> from jaxopt_lite.specialists import load, save
        >>> base = Base({"b": jnp.zeros(())}, lambda params, x: params["b"] + x)
        >>> a, none = {"shift:b": jnp.array([2.0])}, jnp.zeros((1, 0))
        >>> profile = Profile(jnp.ones(1), none, a, none)
        >>> library = Library(base, a, profile, Adapter((Shift("b"),)), (Card("up"),))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(library, folder)
        ...     loaded = load(folder, base)
        >>> loaded.ids == library.ids
        True
    """
    if others not in ("raise", "keep", "remove"):
        raise ValueError(f"others={others!r}: expected 'raise', 'keep' or 'remove'.")
    folder, rows = Path(folder), HostLibrary(library)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        clear(folder)
        finish(folder)
        members = _members(folder, library.base, rows)
        mine = _mine(rows, members)
        kept, new = {m.file for m in mine.values()}, set(map(file_of, rows.names))
        rest = [m for m in members if m.file not in kept and not (m.name is None and m.file in new)]
        _check_others(folder, rest, new, library, others)
        written = _to_write(rows, mine, rest if others == "keep" else [], Reader(library.base))
        gone = [m for name, m in mine.items() if file_of(name) in written] + (rest if others == "remove" else [])
        removed = [m.listed for m in gone if m.file not in written]
        with naming(folder):
            commit(folder, written, lambda file: rows.data(*written[file]), removed)
        left = finish(folder)
    if left:
        warnings.warn(
            f"{folder}: saved, but {len(left)} files that are no longer needed could not be deleted: {some(left)}. "
            "The next save tries again.",
            stacklevel=2,
        )


def _members(folder: Path, base: Base, rows: HostLibrary) -> list[_Member]:
    """The specialists of a folder, all of which must have this base, adapter and dtypes.

    Raises:
        ValueError: one that is not.
    """
    members, index = [], read_index(folder)
    for file, listed in sorted(listing(folder).items()):
        try:
            check_regular(listed.mode)
            head = read_head(listed.path)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if GIVEN_NAME.fullmatch(file) and stat.S_ISREG(listed.mode) and not isinstance(error, OtherFormatError):
                known_as = file if isinstance(error, OtherVersionError) else None
                members.append(_Member(file, listed, known_as, "", LAST))
            continue
        place = place_of(file, head.order, index)
        if place is None:
            continue
        try:
            check_base(head.metadata, base)
            if head.layout != rows.layout:
                raise ValueError(
                    f"of another adapter or dtype: {described(head.layout)}; this library has {described(rows.layout)}."
                )
        except ValueError as error:
            raise ValueError(f"{folder} holds {file}, {error} Or save to another folder.") from error
        members.append(_Member(file, listed, head.name, head.metadata["id"], place))
    return members


def _mine(rows: HostLibrary, members: Iterable[_Member]) -> dict[str, _Member]:
    """The members that the library holds too, by name."""
    ids, mine = dict(zip(rows.names, rows.ids, strict=True)), {}
    for member in members:
        if member.name is not None and ids.get(member.name) == member.id:
            mine.setdefault(member.name, member)
    return mine


def _check_others(folder: Path, rest: list[_Member], new: set[str], library: Library, others: str) -> None:
    """Refuse to lose others' specialists without permission."""
    names = [member.file if member.name is None else member.name for member in rest]
    if others == "raise" and rest:
        raise ValueError(
            f"{folder} holds {len(rest)} specialists that this library does not: {some(names)}. Nothing was written. "
            "others='keep' leaves them there; others='remove' deletes them."
        )
    both = [name for name, m in zip(names, rest, strict=True) if name in library or m.file in new]
    if others == "keep" and both:
        raise ValueError(
            f"{folder} holds other specialists of the same names: {some(both)}. Nothing was written. Rename them here "
            "by `library.rename`, or delete them there by others='remove'."
        )


def _to_write(
    rows: HostLibrary, mine: Mapping[str, _Member], kept: Iterable[_Member], reader: Reader
) -> dict[str, tuple[int, int]]:
    """The files that are missing or differ: the row and the order of each. New ones come after all others."""
    written: dict[str, tuple[int, int]] = {}
    top = max((member.order for member in [*kept, *mine.values()]), default=-1)
    last = -1, ""
    for row, name in enumerate(rows.names):
        member, file = mine.get(name), file_of(name)
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


def _is_same(member: _Member, rows: HostLibrary, row: int, reader: Reader) -> bool:
    """Whether a file holds what it should, to the bit, including the card and the profile."""
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
