"""What type checkers find in a user's program: nothing where it is right, and every mistake where it is wrong."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from jaxopt_lite.bpe.merges import TIES, Tie
from jaxopt_lite.lanes.losses import LOSSES, LossName

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RIGHT, WRONG = HERE / "right.py", HERE / "wrong.py"
MARK = re.compile(r"# wrong(?:: (\w+))?$")


def by_pyright(*files: Path) -> str:
    return said("pyright", "--pythonpath", sys.executable, *files)


def by_mypy(*files: Path) -> str:
    """Its own cache would be a folder here; imports of what has no types are not the user's mistake."""
    pytest.importorskip("mypy")
    return said("mypy", "--cache-dir", "/dev/null", "--check-untyped-defs", "--follow-imports", "silent", *files)


def said(checker: str, *words: object) -> str:
    command = [sys.executable, "-m", checker, *map(str, words)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=600)
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr  # else it has not checked
    return ended.stdout


def found(text: str, path: Path) -> set[int]:
    """The lines of a file in which a checker has found a mistake."""
    return {int(line) for line in re.findall(rf"{path.name}:(\d+)(?::\d+)?(?: -|:) error", text)}


def marked(checker: str) -> set[int]:
    """The lines of the wrong program that this checker must find."""
    lines = enumerate(WRONG.read_text(encoding="utf-8").splitlines(), 1)
    return {k for k, line in lines if (mark := MARK.search(line)) and mark[1] in (None, checker)}


@pytest.mark.parametrize(("names", "table"), [(Tie, TIES), (LossName, LOSSES)], ids=["ties", "losses"])
def test_names_are_those_of_what_there_is(names, table):
    assert get_args(names) == tuple(table)


@pytest.mark.slow
@pytest.mark.parametrize(("checker", "check"), [("pyright", by_pyright), ("mypy", by_mypy)])
def test_mistakes_are_found_and_nothing_else(checker, check):
    text = check(RIGHT, WRONG)
    assert found(text, RIGHT) == set(), text
    assert found(text, WRONG) == marked(checker), text
    assert len(marked(checker)) > 40
