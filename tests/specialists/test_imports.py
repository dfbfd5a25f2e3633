"""Who imports whom in this room: few files to walk through, no cycles, and no tokenizer where there is no text."""

import ast
from functools import cache
from pathlib import Path

import pytest

import jaxopt_lite

PACKAGE = Path(jaxopt_lite.__file__).parent
ROOM = PACKAGE / "specialists"
FILES = sorted(path for path in ROOM.rglob("*.py") if path.name != "__init__.py")


def file_of(module: str) -> Path | None:
    """The file of a module of the package."""
    path = PACKAGE.parent / Path(*module.split("."))
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


@cache
def imports(path: Path) -> frozenset[Path]:
    """The files of the package that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("jaxopt_lite"):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(file_of(module) or file_of(node.module) for module in modules)
    return frozenset(found - {None})


def closure(path: Path) -> set[Path]:
    """A file, and all that it imports from, directly or not."""
    done, left = set(), [path]
    while left:
        done.add(left.pop())
        left = [each for one in done for each in imports(one) if each not in done]
    return done


@pytest.mark.parametrize("name", ["library", "fit", "files", "routing", "evaluate", "merging/methods", "routers/lda"])
def test_only_what_reads_text_imports_the_tokenizer(name):
    assert not [path for path in closure(ROOM / f"{name}.py") if "bpe" in path.relative_to(PACKAGE).parts]


def test_a_fit_walks_through_few_files_of_the_room():
    assert len([path for path in closure(ROOM / "fit.py") if ROOM in path.parents]) <= 9


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOM).as_posix())
def test_no_file_imports_itself_by_way_of_others(path):
    assert path not in set().union(*map(closure, imports(path)))
