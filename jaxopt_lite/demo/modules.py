"""The modules of Python's standard library as texts, each in a part to learn from and a part that is held out."""

import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxopt_lite.bpe.tokenizer import Tokenizer
from jaxopt_lite.demo.encoding import library_sources
from jaxopt_lite.specialists.language import encode, padding
from jaxopt_lite.specialists.tasks import Task

__all__ = ["Module", "modules", "tasks"]

_HELD_OUT = 4  # the last fourth of a file's lines
_LEAST = 1500  # bytes


class Module(NamedTuple):
    """One module: its dotted name, and the two parts of its source."""

    name: str
    learned: str
    held_out: str


def modules(paths: Sequence[Path] | None = None, least: int = _LEAST) -> list[Module]:
    """The modules with enough code, by their names.

    Args:
        paths: the files; `None` for the sources of Python's standard library.
        least: bytes that a file must have, at least.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found = [_module(path, root) for path in (library_sources() if paths is None else paths)]
    enough = [module for module in found if len(module.learned) + len(module.held_out) >= least]
    return [module for module in enough if module.learned.strip() and module.held_out.strip()]


def _module(path: Path, root: Path) -> Module:
    parts = path.relative_to(root).parts if path.is_relative_to(root) else (path.name,)
    lines = path.read_bytes().decode("utf-8", "replace").splitlines(keepends=True)
    cut = len(lines) - len(lines) // _HELD_OUT
    return Module(".".join(parts).removesuffix(".py"), "".join(lines[:cut]), "".join(lines[cut:]))


def tasks(
    found: Sequence[Module], tokenizer: Tokenizer, length: int, most: tuple[int, int]
) -> tuple[dict[str, Task], dict[str, Task]]:
    """The windows of the two parts of each module, by its name.

    Args:
        found: the modules.
        tokenizer: the tokenizer of their texts.
        length: length of a window, in tokens.
        most: how many windows to take from each part, at most, spread evenly over it.
    """
    ids = encode([module.learned for module in found] + [module.held_out for module in found], tokenizer)
    names, end = [module.name for module in found], padding(tokenizer)
    learned, held_out = (
        {name: _spread(mine, length, count, end) for name, mine in zip(names, part, strict=True)}
        for part, count in zip((ids[: len(found)], ids[len(found) :]), most, strict=True)
    )
    return learned, held_out


def _spread(ids: np.ndarray, length: int, most: int, end: int) -> Task:
    """At most so many windows of some ids, evenly spread; the last may be padded."""
    whole = -(-len(ids) // length)
    count = min(whole, most)
    x = np.full((count, length), end, np.int32)
    for row, window in enumerate(x):
        mine = ids[(start := row * whole // count * length) : start + length]
        window[: len(mine)] = mine
    return Task(x, x, np.sum(x != end, axis=1, dtype=np.float32))
