"""`jaxopt-lite doctor`: it says what there is, and finds what keeps the package from working."""

import sys
from importlib.metadata import version
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxopt_lite import commands
from jaxopt_lite.commands import doctor, machine
from jaxopt_lite.lanes.widths import why_not_wide
from tests.commands.console import run

pytestmark = pytest.mark.hardly_optimized


@pytest.fixture
def untried(monkeypatch):
    """Nothing is solved, and how it would be is not asked."""
    monkeypatch.setattr(machine, "solve", lambda: "nothing is tried")
    monkeypatch.setattr(machine, "ways", lambda size: [])


def test_it_says_what_there_is_and_solves(monkeypatch):
    monkeypatch.setenv("JAXOPT_LITE_CORES", "1")
    monkeypatch.setenv("JAX_OF_A_TEST", long := "/" + "x" * 150)
    status, text = run("doctor")
    assert long in "".join(text.split())  # a path has no place to break, and none of it may be missing
    assert status == 0 and "64 square roots are solved, verified and right" in text
    for name in ("jaxopt-lite", "jax", "jaxlib", "numpy", "scipy"):
        assert f"{name} {version(name)}" in text.replace("\n", " ").replace("  ", "")
    for part in ("extra `plot`", "matplotlib", jax.default_backend(), "float64", "JAXOPT_LITE_CORES=1", "Ctrl-C"):
        assert part in text
    assert text.count("native CPU function") == 3 and ("of 512 bits in plain" in text) == (why_not_wide() is None)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "there", "words"),
    [
        ("optax", None, "optax is not installed; expected optax>=0.2.5"),
        ("numpy", "1.26.0", "numpy is 1.26.0; expected numpy>=2.0"),
    ],
)
def test_what_is_missing_or_too_old_is_wrong(monkeypatch, untried, name, there, words):
    real = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda asked: there if asked == name else real(asked))
    status, text = run("doctor")
    assert status == 1 and f"Wrong: {words}\n" in text and "It works" not in text


def test_an_extra_that_is_not_installed_is_not_wrong(monkeypatch, untried):
    real = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda asked: None if asked == "matplotlib" else real(asked))
    status, text = run("doctor")
    assert status == 0 and "matplotlib (not installed)" in text and "It works: nothing is tried." in text


@pytest.mark.parametrize(
    ("off", "success", "words"), [(0.1, True, "64 are verified and 0 right"), (0.0, False, "0 are")]
)
def test_an_answer_that_is_wrong_or_not_verified_is_wrong(monkeypatch, off, success, words):
    def root(fun, x0, args):
        x = np.sqrt(args)[:, None] * (1 + off)
        return SimpleNamespace(x=x, success=np.full(len(x), success), summary=lambda: "the summary")

    monkeypatch.setattr(machine, "jol", SimpleNamespace(root=root))
    monkeypatch.setattr(machine, "ways", lambda size: [])
    status, text = run("doctor")
    assert status == 1 and words in text and "the summary" in text


def test_a_senseless_number_of_cores_is_wrong(monkeypatch, untried):
    monkeypatch.setenv("JAXOPT_LITE_CORES", "none")
    status, text = run("doctor")
    assert status == 1 and "Wrong: ValueError: the environment variable JAXOPT_LITE_CORES is 'none'" in text


def test_the_time_that_a_container_gives_bounds_the_cores(monkeypatch, untried, tmp_path):
    monkeypatch.setattr(doctor, "cores", lambda: 4)
    for content, is_told in (("150000 100000\n", True), ("400000 100000\n", False), ("max 100000\n", False)):
        (tmp_path / "cpu.max").write_text(content)
        monkeypatch.setattr(doctor, "_QUOTA", tmp_path / "cpu.max")
        status, text = run("doctor")
        assert status == 0 and ("the time of 1.5; JAXOPT_LITE_CORES=1" in text) == is_told


def test_a_jax_that_does_not_start_is_told_without_a_traceback(monkeypatch):
    def devices():
        raise RuntimeError("no backend")

    monkeypatch.setattr(machine, "devices", devices)
    status, text = run("doctor")
    assert status == 1 and "Wrong: RuntimeError: no backend" in text and f"jax {jax.__version__}" in text


def test_a_jax_that_is_not_there_is_told_without_a_traceback(monkeypatch):
    monkeypatch.delattr(commands, "machine")
    monkeypatch.setitem(sys.modules, "jaxopt_lite.commands.machine", None)  # as where an import fails
    status, text = run("doctor")
    assert status == 1 and "Wrong: ModuleNotFoundError: " in text and "It works" not in text
