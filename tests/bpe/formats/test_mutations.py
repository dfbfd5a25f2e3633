"""Some hundred damaged files of every form; `python -m tests.stress.bpe_mutations` has very many more."""

from tests.stress.bpe_mutations import run


def test_damaged_files_load_or_are_refused_by_name():
    """Each in no time, and what loads encodes."""
    outcomes, problems = run(count=250, seed=1_000_000, shown=False)
    assert not problems, "\n".join(problems)
    assert outcomes["refused"] > 120 and outcomes["loads"] > 6
