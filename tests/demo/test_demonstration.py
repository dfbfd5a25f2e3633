"""The demonstration: all of it is solved and verified; its answers beside PYPOWER's and SciPy's; and a stop."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from pypower.api import case14
from rich.console import Console

from jaxopt_lite.demo import confidence, lowest_voltage, power_flow, specialists
from jaxopt_lite.demo.modules import Module
from jaxopt_lite.demo.network import read_case
from jaxopt_lite.specialists.routers import calibration
from tests.commands.console import run
from tests.demo.cases import case_with_injections, rows, solved_by_pypower
from tests.demo.test_confidence import check_fits, check_refits

pytestmark = pytest.mark.hardly_optimized
ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "jaxopt_lite"]
PLAIN = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}
PIPES = dict(cwd=ROOT, env=PLAIN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")
TEXTS = "--text", str(ROOT / "README.md"), str(ROOT / "pyproject.toml")


@cache
def demonstration():
    """What it ended with and printed, and what its parts prepared, which the tests below use again.

    In this process and with one of its three regressions, which are alike but for their functions. The temperature of
    the router is not fitted: it decides no route, and has tests of its own.
    """
    kept = SimpleNamespace()

    def keeping(name, function):
        def call(*arguments, **options):
            setattr(kept, name, function(*arguments, **options))
            return getattr(kept, name)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confidence, "SUBJECTS", {"Chwirut2": "ultrasonic calibration"})
        patch.setattr(calibration, "_fitted_temperature", lambda *_: 1.0)
        for name, owner, function in (
            ("flow", lowest_voltage, "prepare"), ("regression", confidence, "prepare"),
            ("base", specialists, "_base"), ("library", specialists, "fit"),
        ):  # fmt: skip
            patch.setattr(owner, function, keeping(name, getattr(owner, function)))
        words = ("--scenarios", "20", "--refits", "20", "--specialists", "3", *TEXTS)
        kept.status, kept.text = run("--quick", *words)
    return kept


def timed(words):
    """The exit status of a command, what it printed, and after how many seconds each line came."""
    start, lines, seconds = time.monotonic(), [], []
    with subprocess.Popen([*COMMAND, *words], **PIPES) as running:
        for line in running.stdout:
            lines.append(line)
            seconds.append(time.monotonic() - start)
    return running.returncode, "".join(lines), seconds


def check_all_is_solved(text, scenarios, refits, specialists):
    """What the demonstration prints of its parts, where it is given two texts to encode."""
    for kind in ("solved", "verified"):
        counts = re.findall(rf"^{kind} +([\d,]+) of ([\d,]+):", text, re.MULTILINE)
        verified_alone = [2, specialists] if kind == "verified" else []  # texts and specialists
        sizes = [*verified_alone, scenarios, *refits]
        assert counts == [(str(size), str(size)) for size in sizes], text
    heights = re.findall(r"^[\d.]+ to [\d.]+ [█ ]+ ([\d,]+) *$", text, re.MULTILINE)
    assert sum(map(int, heights)) == scenarios
    parts = re.findall(r"compiling \d+\.\d s, solving \d+\.\d\d s \([\d,]+ a second\)", text)
    assert len(parts) == 1 + len(refits)
    digits = re.findall(r"agree with the certified values to ([\d.]+) and ([\d.]+)\s+digits", text)
    assert len(digits) == len(refits) and min(float(each) for pair in digits for each in pair) >= 6
    assert "Byte-pair encoding: your text" in text and "2 of 2 files" in text
    for line in (
        f"{specialists} tasks, bits per byte",
        "oracle: own specialist",
        "routed",
        "changes 64 of its",
        "One more specialist",
    ):
        assert line in text
    assert "not given" not in text and max(map(len, text.splitlines())) <= 80
    assert "Quick: " in text and text.rstrip().endswith("All solved and verified.")


def test_it_solves_and_verifies_everything():
    done = demonstration()
    assert done.status == 0, done.text
    check_all_is_solved(done.text, 20, [20], 3)
    assert "0.1665767" in done.text and "ultrasonic calibration" in done.text


def test_the_base_case_and_fifty_scenarios_solve_to_pypowers_voltages():
    network = read_case("ieee14")
    _, x0, base = power_flow.mismatch(network)
    many = power_flow.scenarios(network, count=50, seed=5)
    args = {name: np.vstack([base[name], many[name]]) for name in base}
    x0 = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (51, *leaf.shape)), x0)
    solution = demonstration().flow.solve(x0, args)
    assert solution.success.all()
    magnitude, angle = power_flow.voltages(network, solution.x)
    cases = [case14(), *map(partial(case_with_injections, network), many["p"], many["q"])]
    for k, solved in enumerate(map(solved_by_pypower, cases)):
        order = rows(network, solved)
        np.testing.assert_allclose(magnitude[k], solved["bus"][order, 7], atol=1e-8)
        np.testing.assert_allclose(angle[k], np.deg2rad(solved["bus"][order, 8]), atol=1e-8)


def test_fits_and_refits_are_one_program():
    """That of the data set with bounds. Of the others `test_confidence.py` says the same."""
    dataset, solve, _ = demonstration().regression
    check_fits(dataset, solve)
    check_refits(dataset, solve)


def test_what_is_served_otherwise_is_not_verified(monkeypatch):
    """One of the three loses as it is served."""
    done, losses = demonstration(), specialists.task_losses
    off = [1.1, 1.0, 1.0]
    monkeypatch.setattr(specialists, "_base", lambda *_: done.base)
    monkeypatch.setattr(specialists, "fit", lambda *_, **__: done.library)
    monkeypatch.setattr(specialists, "task_losses", lambda *words, **options: off * losses(*words, **options))
    monkeypatch.setattr(specialists, "_evaluated", lambda library, *_: f"{len(library)} evaluated")
    console, tallies = Console(file=io.StringIO(), width=120), []
    specialists.run(3, 0, console, tallies, [Module(name, "", "") for name in done.library.names])
    (tally,), text = tallies, console.file.getvalue()
    assert (tally.size, tally.solved, tally.verified, tally.is_complete) == (3, 3, 2, False)
    assert "changes 64 of its" in text and "2 of 3" in text and "3 evaluated" in text


@pytest.mark.slow
def test_as_it_is_started_it_is_never_silent():
    words = ("--scenarios", "200", "--refits", "100", "--specialists", "8", *TEXTS)
    status, text, seconds = timed(("--quick", *words))
    assert status == 0, text
    check_all_is_solved(text, 200, [100, 100, 100], 8)
    for certified in ("1288.14", "0.1665767", "1.674506"):
        assert certified in text
    assert text.startswith("loading JAX ...") and max(b - a for a, b in pairwise((0.0, *seconds))) < 5


def test_ctrl_c_stops_it_and_says_so():
    running = subprocess.Popen(
        [*COMMAND, "--quick", *TEXTS[:2]], **PIPES | {"env": PLAIN | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}}
    )
    assert running.stdout.readline().startswith("loading JAX ...")
    while "training the base" not in running.stdout.readline():  # while the second thread compiles
        pass
    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=120)
    assert "Stopped. Until then:" in rest and "byte-pair encoding: " in rest and "Traceback" not in rest
    assert running.returncode == 130
