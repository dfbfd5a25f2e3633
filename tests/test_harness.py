"""What the benchmark commands share: which of their parts were asked for."""

import argparse
import sys

import pytest

from benchmarks import harness


def chosen(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    return harness.chosen(argparse.ArgumentParser(), ("bfgs-n2", "bfgs-n10", "broyden-n2"), "race")[1]


def test_a_pattern_chooses_races(monkeypatch):
    assert chosen(monkeypatch) == ["bfgs-n2", "bfgs-n10", "broyden-n2"]
    assert chosen(monkeypatch, "--only", "^bfgs|n2$") == ["bfgs-n2", "bfgs-n10", "broyden-n2"]
    assert chosen(monkeypatch, "--only", "^bfgs") == ["bfgs-n2", "bfgs-n10"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("newton", "no race matches 'newton'; there are bfgs-n2, bfgs-n10, broyden-n2"),
        ("[", "argument --only: expected a regular expression, got '['"),
    ],
)
def test_a_pattern_that_chooses_nothing_is_refused(monkeypatch, capsys, pattern, message):
    with pytest.raises(SystemExit) as refused:
        chosen(monkeypatch, "--only", pattern)
    assert refused.value.code == 2 and message in capsys.readouterr().err
