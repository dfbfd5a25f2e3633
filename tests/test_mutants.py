"""The small mistakes that `python -m tests.mutants` makes can still be made, each in one place."""

from tests.mutants.__main__ import ROOT, mutants


def test_every_mutant_applies_and_its_tests_are_there():
    stale = []
    for mutant in mutants():
        path = ROOT / mutant.path
        if not path.is_file() or path.read_text(encoding="utf-8").count(mutant.before) != 1:
            stale.append((mutant.path, mutant.before))
        stale += [(mutant.path, name) for name in mutant.tests if not (ROOT / name.partition("::")[0]).is_file()]
    assert stale == []
