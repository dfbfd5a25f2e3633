"""`jaxopt-lite bench`: what it measures, shows and keeps."""

import io
import json
import sys

import numpy as np
import pytest
from rich.console import Console

from jaxopt_lite.commands import bench, chart, measure
from jaxopt_lite.commands.measure import Measured
from jaxopt_lite.commands.works import works
from tests.commands.console import run

pytestmark = pytest.mark.hardly_optimized

MADE_UP = [
    Measured("BFGS, n = 2", "problems", 10_000, 2.01, (0.01, 0.02, 0.01), 1.0),
    Measured("Broyden, n = 2", "problems", 1000, 1.0, (0.1, 0.1, 0.3), 0.5),
    Measured("BPE, encoding", "bytes", 8_000_000, None, (1.0, 1.0, 4.0), 1.0),
]


@pytest.fixture
def made_up(monkeypatch):
    """Nothing is measured."""
    monkeypatch.setattr(measure, "solving", lambda dtype, size: iter(MADE_UP[:2]))
    monkeypatch.setattr(measure, "encoding", lambda: iter(MADE_UP[2:]))


def test_what_is_not_solved_does_not_count_and_compiling_is_apart():
    first, second, text = MADE_UP
    assert (first.run, first.compiling, first.rate) == (0.01, pytest.approx(2.0), 1e6)
    assert (second.run, second.compiling, second.rate) == (0.1, pytest.approx(0.9), 5000)
    assert text.compiling is None and text.rate == 8e6


def test_it_measures_and_keeps_every_run(monkeypatch, tmp_path):
    one = works("float64", 64)[2:3]
    monkeypatch.setattr(measure, "works", lambda dtype, size: one if (dtype, size) == ("float64", 64) else [])
    monkeypatch.setattr(measure, "_TRAINED", 1)
    status, text = run("bench", "--problems", "64", "--json", str(tmp_path / "bench.json"))
    assert status == 0 and max(map(len, text.splitlines()[1:])) <= 80  # but for the title, which is one line
    kept = json.loads((tmp_path / "bench.json").read_text())
    solved, learned, encoded = kept["measured"]
    assert (
        solved["work"] == "Broyden, tridiagonal n = 2" and solved["success"] == 1.0 and len(solved["run_seconds"]) == 5
    )
    assert solved["compile_seconds"] > 10 * max(solved["run_seconds"])
    assert learned["size"] == encoded["size"] > 1e6 and learned["success"] == encoded["success"] == 1.0
    assert {"jaxopt-lite", "jax", "numpy", "python", "system", "backend", "devices", "cores", "load", "dtype"} == set(
        kept["about"]
    )


def test_every_work_is_one_that_can_be_solved():
    """That they are is measured; here only that the bounds of a benchmark, unknowns and starts, are as said."""
    for work in works("float32", 50):
        assert work.x0.shape[0] == 50 and work.x0.dtype == np.float32 and np.isfinite(work.x0).all()
        n = int(work.name.rpartition("n = ")[2]) if "n = " in work.name else 2
        assert work.x0.shape[1] == n and work.explain().problems == 50


def test_a_table_and_bars_fit_80_columns(made_up):
    status, text = run("bench")
    assert status == 0 and max(map(len, text.splitlines()[1:])) <= 80
    assert "50.00%" in text and "2.00 s" in text and "1,000,000" in text and "8.0 MB" in text
    assert "a full bar is 1,000,000, none is 1,000, logarithmic" in text
    lengths = [line.count("█") for line in text.splitlines() if "█" in line]
    assert lengths == [30, 7, 30]  # log10 of 1e6 and 5e3 above 1e3, of three decades


def test_bars_of_nothing_but_failures_are_left_out():
    console = Console(file=io.StringIO(), width=80)
    chart.bars(console, [MADE_UP[0]._replace(success=0.0)])
    assert console.file.getvalue() == ""


def test_ctrl_c_shows_what_was_measured_until_then(monkeypatch, made_up, tmp_path):
    def stopped():
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(measure, "encoding", stopped)
    status, text = run("bench", "--json", str(tmp_path / "bench.json"))
    assert status == 130 and "Stopped. Until then:" in text and "BFGS, n = 2" in text
    assert not (tmp_path / "bench.json").exists()


def test_a_busy_machine_is_told(monkeypatch, made_up):
    monkeypatch.setattr(bench.os, "getloadavg", lambda: (1.5, 0.0, 0.0))
    assert "Other programs are running (load 1.5)" in run("bench")[1]
    monkeypatch.setattr(bench.os, "getloadavg", lambda: (0.1, 0.0, 0.0))
    assert "Other programs" not in run("bench")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--save", "bench.gif"), "expected a name that ends with .png, .svg or .pdf, got 'bench.gif'"),
        (("--save", "none/bench.png"), "expected the name of a file in an existing folder, got 'none/bench.png'"),
        (("--json", "."), "expected the name of a file in an existing folder, got '.'"),
        (("--problems", "0"), "expected a whole number above zero, got '0'"),
        (("--dtype", "float16"), "float16"),
    ],
)
def test_senseless_options_are_refused_before_the_work(capsys, words, message):
    with pytest.raises(SystemExit) as refused:
        run("bench", *words)
    assert refused.value.code == 2 and message in capsys.readouterr().err


def test_without_matplotlib_a_picture_is_refused_before_the_work(monkeypatch, capsys):
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        run("bench", "--save", "bench.png")
    assert "pip install 'jaxopt-lite[plot]'" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_what_cannot_be_written_is_told(made_up):
    status, text = run("bench", "--json", "/dev/full")
    assert status == 1 and "Not written: " in text and "BFGS, n = 2" in text


def test_a_picture_shows_every_work(made_up, tmp_path):
    pytest.importorskip("matplotlib")
    assert run("bench", "--save", str(tmp_path / "bench.svg"))[0] == 0
    assert run("bench", "--save", str(tmp_path / "bench.png"))[0] == 0
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "bench.svg").stat().st_size > 10_000
