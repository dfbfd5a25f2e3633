"""A mistake of one line, and who must notice it."""

from typing import NamedTuple

__all__ = ["Mutant"]


class Mutant(NamedTuple):
    """A line of the package with a mistake in it.

    Attributes:
        path: of the file, from the root of the repository.
        before: the part of it that is changed; it occurs there once.
        after: what it becomes.
        tests: the files of tests whose quick tier must notice. Of those that another checkout lacks, the others must.
    """

    path: str
    before: str
    after: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path}: {self.before.strip()!r} -> {self.after.strip()!r}"
