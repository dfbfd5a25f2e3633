"""An error, or Ctrl-C, at any line: what is on disk is whole, old or new, and what is asked next is right."""

import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import (
    Base,
    Geometry,
    Shift,
    fit,
    load,
    load_base,
    save,
    save_base,
    save_one,
)
from jaxopt_lite.specialists.files import folder
from jaxopt_lite.specialists.files.specialist import HostLibrary
from tests.faults import Fault, failing_at, lines
from tests.specialists.store_cases import base_of, library_of

pytestmark = pytest.mark.hardly_optimized

BASE, OTHER = base_of(), base_of(seed=1)
OLD = library_of("a", "b")
NEW, MORE = library_of("b", "c"), library_of("a", "b", "c")
FILES = "files", "specialists/files", "specialists/routers/lda"


class Case(NamedTuple):
    """Something that is written over something else.

    Attributes:
        before: makes what is there before, in a folder.
        write: what may fail.
        read: what is there, in a form that can be compared.
        old: what `read` gives before; None where it finds nothing.
        new: and after.
    """

    before: Callable[[Path], object]
    write: Callable[[Path], object]
    read: Callable[[Path], object]
    old: object
    new: object


def ids(place: Path):
    return load(place, BASE).ids


def geometry(center: float) -> Geometry:
    one = np.float32(1)
    return Geometry(np.full(1, center, "f4"), np.ones((1, 1), "f4"), one, one, BASE.fingerprint)


CASES = {
    "a first save": Case(lambda p: None, lambda p: save(OLD, p), ids, None, OLD.ids),
    "a save of more": Case(lambda p: save(OLD, p), lambda p: save(MORE, p), ids, OLD.ids, MORE.ids),
    "a save that keeps": Case(
        lambda p: save(OLD, p), lambda p: save(library_of("c"), p, others="keep"), ids, OLD.ids, MORE.ids
    ),
    "a save that removes": Case(
        lambda p: save(OLD, p), lambda p: save(NEW, p, others="remove"), ids, OLD.ids, NEW.ids
    ),
    "one file": Case(
        lambda p: save_one(OLD["a"], p / "x"), lambda p: save_one(OLD["b"], p / "x"), lambda p: ids(p / "x"),
        library_of("a").ids, library_of("b").ids,
    ),
    "a base": Case(
        lambda p: save_base(BASE, p / "x"), lambda p: save_base(OTHER, p / "x"),
        lambda p: load_base(p / "x", BASE).fingerprint, BASE.fingerprint, OTHER.fingerprint,
    ),
    "a geometry": Case(
        lambda p: geometry(1).save(p / "x"), lambda p: geometry(2).save(p / "x"),
        lambda p: Geometry.load(p / "x", BASE).center.tolist(), [1], [2],
    ),
}  # fmt: skip


class Place:
    """Where a case is tried again and again, each time from what was there before."""

    def __init__(self, case: Case, folder: Path):
        self.case, self.path, self._before = case, folder / "tried", folder / "before"
        self._before.mkdir()
        case.before(self._before)

    def restore(self) -> Path:
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self._before, self.path)
        return self.path

    def read(self):
        with suppress(FileNotFoundError):
            return self.case.read(self.path)

    def check(self) -> None:
        """It is whole, old or new; the next write works, and leaves nothing behind."""
        case = self.case
        assert self.read() in (case.old, case.new)
        case.write(self.path)
        assert self.read() == case.new
        left = set(os.listdir(self.path)) - {".lock", "x"}
        assert len(left) == (len(case.new) if case.read is ids else 0), left


# In a quick run every seventh line fails, another seventh for each of the seven cases.
EVERY = pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])


@EVERY
@pytest.mark.parametrize("name", CASES)
def test_an_error_at_any_line_of_a_writer(tmp_path, name, step):
    case = CASES[name]
    place = Place(case, tmp_path)
    found = lines(lambda: case.write(place.restore()), *FILES)
    assert len(found) > 10
    outcomes = set()
    for number, line in enumerate(found[list(CASES).index(name) % step :: step]):
        for error in (Fault, KeyboardInterrupt) if step == 1 else (Fault, KeyboardInterrupt)[number % 2 :][:1]:
            place.restore()
            with suppress(Fault, KeyboardInterrupt), failing_at(line, error):
                case.write(place.path)
            outcomes.add(place.read() == case.new)
            place.check()
    assert outcomes == {False, True} or step > 1


@pytest.mark.parametrize("error", [Fault, OSError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["a first save", "a save of more", "a save that keeps", "a save that removes"])
def test_an_error_in_a_thread_that_writes(tmp_path, monkeypatch, name, error):
    """Before a file is written, after it was, and where it is made."""
    case, put = CASES[name], folder.put
    place = Place(case, tmp_path)

    def fail(*_):
        raise error("in a thread")

    def put_and_fail(*args):
        put(*args)
        raise error("in a thread")

    for owner, what, instead in [
        (folder, "put", fail), (folder, "put", put_and_fail), (HostLibrary, "data", fail),
    ]:  # fmt: skip
        place.restore()
        before = sorted(os.listdir(place.path))
        with monkeypatch.context() as patch:
            patch.setattr(owner, what, instead)
            with pytest.raises(error, match="in a thread"):
                case.write(place.path)
        assert sorted({*before, ".lock"}) == sorted(os.listdir(place.path)) and place.read() == case.old
        place.check()


def square(out, y):
    return jnp.sum((out - y) ** 2)


@EVERY
def test_an_error_at_any_line_of_a_fit(step):
    """Whatever was under way, the next fit is right: also where a model was being traced."""
    base = Base({"b": jnp.zeros(2)}, lambda params, x: x + params["b"], features=lambda params, x: x)
    rng = np.random.default_rng(0)
    tasks = {f"t{k}": (rng.normal(size=(k + 2, 2)), rng.normal(size=(k + 2, 2))) for k in range(3)}

    def again(loss=square):
        return fit(base, Shift("b"), tasks, loss, prior=0.0, progress=False)

    def same(one, other):
        assert one.cards == other.cards
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)

    def fails_at(line, error, loss):
        with warnings.catch_warnings(action="ignore"), suppress(Fault, KeyboardInterrupt), failing_at(line, error):
            part = again(loss)  # after Ctrl-C, what was done until then
            assert set(part.names) <= set(tasks)

    results = []
    every = lines(lambda: results.append(again()), "specialists")
    compiled, expected = lines(again, "specialists"), results[0]
    for number, line in enumerate(compiled[::step]):
        for error in (Fault, KeyboardInterrupt) if step == 1 else (Fault, KeyboardInterrupt)[number % 2 :][:1]:
            fails_at(line, error, square)
    same(again(), expected)
    # Another loss is traced anew, and fails before it is compiled: nothing of it must be kept.
    other = lambda out, y: square(out, y)
    traced = [line for line in every if line not in compiled]
    assert len(compiled) > 100 and len(traced) > 30
    for line in traced[::step]:
        fails_at(line, Fault, other)
    same(again(other), expected)
