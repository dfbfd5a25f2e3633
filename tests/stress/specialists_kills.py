"""Writers that are killed: what they leave loads, old or new, and after one more save nothing stays behind.

    python -m tests.stress.specialists_kills [--count 40] [--seed 0]

For each kind of writer a process of its own writes in a loop, now one thing, now another, and is killed at a random
moment by a signal that it cannot catch. Meanwhile another loads, and must find one or the other.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxopt_lite.specialists import Geometry, load, load_base, save, save_base, save_one
from tests.specialists.store_cases import base_of, library_of

__all__ = ["KINDS", "main", "run"]

_LONGEST = 0.4  # seconds until the kill
_BASES = base_of(seed=0), base_of(seed=1)
_LIBRARIES = library_of("a", "b", "c"), library_of("b", "c", "d", "e")
_ONE = np.float32(1)


class Kind(NamedTuple):
    """A writer of two things in turn, and how they are read: as 0 or 1."""

    write: Callable[[Path, int], object]
    read: Callable[[Path], int]


def _folder(place: Path) -> int:
    return [library.ids for library in _LIBRARIES].index(load(place, _BASES[0]).ids)


def _kept(place: Path, number: int) -> None:
    """A folder that grows to both libraries and is then the first again."""
    if number:
        save(library_of("x", "y"), place, others="keep")
    else:
        save(_LIBRARIES[0], place, others="remove")


def _which_kept(place: Path) -> int:
    names = load(place, _BASES[0]).names
    return [("a", "b", "c"), ("a", "b", "c", "x", "y")].index(names)


def _geometry(number: int) -> Geometry:
    return Geometry(np.full(1, number, "f4"), np.ones((1, 1), "f4"), _ONE, _ONE, _BASES[0].fingerprint)


KINDS = {
    "folder": Kind(lambda place, k: save(_LIBRARIES[k], place, others="remove"), _folder),
    "kept": Kind(_kept, _which_kept),
    "file": Kind(
        lambda place, k: save_one(_LIBRARIES[k][0], place / "x"),
        lambda place: [library.ids[:1] for library in _LIBRARIES].index(load(place / "x", _BASES[0]).ids),
    ),
    "base": Kind(
        lambda place, k: save_base(_BASES[k], place / "x"),
        lambda place: [base.fingerprint for base in _BASES].index(load_base(place / "x", _BASES[0]).fingerprint),
    ),
    "geometry": Kind(
        lambda place, k: _geometry(k).save(place / "x"),
        lambda place: int(Geometry.load(place / "x", _BASES[0]).center[0]),
    ),
}


def _write_for_ever(name: str, place: Path) -> None:
    """What is killed."""
    number = 0
    while True:
        KINDS[name].write(place, number % 2)
        if number == 1:
            print("both are written", flush=True)
        number += 1


def _kill_one(name: str, place: Path, rng: random.Random) -> list[str]:
    """Start a writer, kill it, and look at what it left; what is wrong with that."""
    command = [sys.executable, "-m", "tests.stress.specialists_kills", "--write", name, str(place)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    faults = [] if child.stdout.readline() else [child.stderr.read().decode()[-500:]]
    end = time.perf_counter() + rng.uniform(0, _LONGEST)
    while not faults and time.perf_counter() < end:
        faults += _look(name, place, "beside the writer")
    child.send_signal(signal.SIGKILL)
    child.wait()
    faults += _look(name, place, "after the kill")
    return faults


def _look(name: str, place: Path, when: str) -> list[str]:
    try:
        KINDS[name].read(place)
    except Exception as error:
        return [f"{name}, {when}: {type(error).__name__}: {error}"]
    return []


def run(name: str, count: int, rng: random.Random) -> tuple[int, list[str]]:
    """Kill writers of one kind, one after the other, in one folder.

    Returns how often something was half done, and what went wrong.
    """
    kind, half_done, faults = KINDS[name], 0, []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for number in range(count):
            faults += _kill_one(name, place, rng)
            left = _files(place, name)
            half_done += bool(left)
            before = rng.randrange(2)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                kind.write(place, before)
            if kind.read(place) != before:
                faults.append(f"{name} {number}: another thing than was saved")
            if left := _files(place, name):
                faults.append(f"{name} {number}: {left} stay behind")
    return half_done, faults


def _files(place: Path, name: str) -> list[str]:
    """What is there beside what is in use."""
    there = set(os.listdir(place)) - {"x", ".lock"}
    return sorted(name for name in there if not name.endswith(".safetensors"))


def main() -> int:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        _write_for_ever(options.write[0], Path(options.write[1]))
    rng, faults, start = random.Random(options.seed), [], time.perf_counter()
    for name in KINDS:
        half_done, found = run(name, options.count, rng)
        print(f"{name:10} {options.count} kills, {half_done} left something half done, {len(found)} faults", flush=True)
        faults += found
    print("\n".join(faults[:20]))
    print(f"{len(faults)} faults, {time.perf_counter() - start:.0f} s, seed {options.seed}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
