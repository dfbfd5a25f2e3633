"""Do the quick tests notice small mistakes? Each mutant is made in a copy of the repository, and the tests run there.

`python -m tests.mutants [--only SUBSTRING] [--tests-of PATH] [--workers 1]`

A line for each says whether it was killed, by which test, and after how many seconds, a few of them for starting JAX.
It exits with 1 if one survives, or does not apply. `--only` takes those whose file, lines or tests hold a text.
`--tests-of` takes the folder of tests of another checkout, to compare two of them. After a change to the tests that is
to make them quicker, all must still be killed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import Queue

from tests.mutants.mutant import Mutant

ROOT = Path(__file__).parents[2]
TABLES = ("bpe", "specialists", "bounds", "lanes_solvers")  # modules beside this one, each with its `MUTANTS`
COPIED = (
    "jaxopt_lite",
    "tests",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "docs",
    "findings",
)  # what the tests read
LIMIT = 1800  # seconds for the tests of one; a mistake may make a loop that never ends


def mutants() -> list[Mutant]:
    """Those of all tables that there are."""
    names = [f"tests.mutants.{name}" for name in TABLES]
    return [mutant for name in names if find_spec(name) is not None for mutant in import_module(name).MUTANTS]


def copy_to(folder: Path, tests: Path) -> None:
    """The repository with the tests of that folder, without what was compiled."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        source = tests if name == "tests" else ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        elif source.exists():
            shutil.copy(source, folder / name)


@contextmanager
def applied(mutant: Mutant, folder: Path) -> Iterator[bool]:
    """With the mistake in the copy; whether there was exactly one place for it."""
    path = folder / mutant.path
    whole = path.read_text(encoding="utf-8") if path.is_file() else ""
    if whole.count(mutant.before) != 1:
        yield False
        return
    path.write_text(whole.replace(mutant.before, mutant.after), encoding="utf-8")
    try:
        yield True
    finally:
        path.write_text(whole, encoding="utf-8")


def outcome(mutant: Mutant, folder: Path) -> tuple[str, str]:
    """What became of a mutant, and the test that killed it or another word about it."""
    with applied(mutant, folder) as applies:
        if not applies:
            return "does not apply", ""
        files = [file for file in mutant.tests if (folder / file).is_file()]
        if not files:
            return "does not apply", "there are no such tests"
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
        # Two versions of a file that are as long and of the same second would share what Python compiles of it.
        env = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return "killed", f"not done after {LIMIT} s"
    if done.returncode == 0:
        return "SURVIVED", ""
    if done.returncode not in (1, 2):
        return "does not apply", f"pytest ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-200:]}"
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return "killed", told[0].split(" - ")[0] if told else "by an error"


def main() -> int:
    """Try them all; 1 if one is not killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="a text in the file, the lines or the tests of a mutant")
    parser.add_argument("--tests-of", type=Path, default=ROOT, help="a checkout whose tests are taken")
    parser.add_argument("--workers", type=int, default=1, help="how many are tried at once")
    given = parser.parse_args()
    chosen = [mutant for mutant in mutants() if given.only in f"{mutant} {mutant.tests}"]
    survivors = 0
    with tempfile.TemporaryDirectory() as whole:
        free: Queue[Path] = Queue()
        for number in range(given.workers):
            copy_to(Path(whole, str(number)), given.tests_of / "tests")
            free.put(Path(whole, str(number)))

        def tried(mutant: Mutant) -> str:
            folder, start = free.get(), time.perf_counter()
            try:
                became, by = outcome(mutant, folder)
            finally:
                free.put(folder)
            print(f"{became}  {time.perf_counter() - start:.0f} s  {mutant}  {by}".rstrip(), flush=True)
            return became

        with ThreadPoolExecutor(given.workers) as threads:
            survivors = sum(became != "killed" for became in threads.map(tried, chosen))
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants are killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
