"""The demonstration of specialists, with a few small modules."""

import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from jaxopt_lite.demo import specialists
from jaxopt_lite.demo.modules import Module, modules
from tests.specialists.small import library_of

pytestmark = pytest.mark.hardly_optimized

WORDS = {"numbers": "total = total + value * count\n", "texts": "return 'name: ' + self.name.strip()\n"}


@pytest.fixture
def few():
    return [Module(name, 60 * words, 20 * words) for name, words in WORDS.items()]


def run(found, count=5):
    console = Console(file=io.StringIO(), width=120)
    tallies = []
    specialists.run(count, 0, console, tallies, found, steps=50)
    return tallies, console.file.getvalue()


def test_what_is_served_otherwise_is_not_verified(few, monkeypatch):
    """One of the two loses as it is served. What the fit and the evaluation say of all is in that of the command line.

    Nothing is fitted, so that each specialist is as good as the base.
    """
    losses = specialists.task_losses
    off = [1.1, 1.0]

    def unfitted(base, adapter, learned, loss, **_):
        alike = {key: np.stack([leaf] * 2) for key, leaf in adapter.identity(base.params).items()}
        library = library_of(base, adapter, "ab", alike).rename(dict(zip("ab", learned, strict=True)))
        cards = [
            replace(card, loss=float(lost), status="CONVERGED")
            for card, lost in zip(library.cards, losses(library, learned, loss), strict=True)
        ]
        return replace(library, cards=tuple(cards))

    monkeypatch.setattr(specialists, "fit", unfitted)
    monkeypatch.setattr(specialists, "task_losses", lambda *words, **options: off * losses(*words, **options))
    monkeypatch.setattr(specialists, "_evaluated", lambda library, *_: f"{len(library)} evaluated")
    (tally,), text = run(few)
    assert (tally.size, tally.solved, tally.verified, tally.is_complete) == (2, 2, 1, False)
    assert "changes 64 of its" in text and "1 of 2" in text and "2 evaluated" in text


def test_ctrl_c_is_passed_on(few, monkeypatch):
    def interrupted(*_, **__):
        warnings.warn("interrupted: 1 of 2 tasks are fitted.", stacklevel=1)

    monkeypatch.setattr(specialists, "_base", lambda found, *_: (None, {}, {}))
    monkeypatch.setattr(specialists, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(few)


def test_without_sources_it_says_so():
    tallies, text = run([])
    assert tallies == [] and "not installed" in text


def test_the_library_has_many_modules_in_two_parts():
    found = modules()
    names = [module.name for module in found]
    assert len(found) >= 500 and len(set(names)) == len(names) and {"argparse", "json.decoder"} <= set(names)
    (one,) = [module for module in found if module.name == "argparse"]
    lines = one.learned.count("\n"), one.held_out.count("\n")
    assert abs(lines[0] - 3 * lines[1]) <= 3 and one.learned.startswith("# Author")


def test_modules_of_other_files(tmp_path: Path):
    (tmp_path / "short.py").write_text("x = 1\n")
    (tmp_path / "long.py").write_bytes(b"value = 1  # \xff\n" * 200)
    (module,) = modules(sorted(tmp_path.iterdir()))
    assert module.name == "long" and module.learned.count("\n") == 150 and module.held_out.count("\n") == 50
