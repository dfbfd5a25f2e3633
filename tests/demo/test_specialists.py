"""The demonstration of specialists, with a few small modules."""

import io
import warnings
from pathlib import Path

import pytest
from rich.console import Console

from jaxopt_lite.demo import specialists
from jaxopt_lite.demo.modules import Module, modules

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
