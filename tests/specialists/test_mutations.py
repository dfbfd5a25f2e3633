"""A few of the files with mistakes that `python -m tests.stress.specialists_mutations` makes by the thousand."""

from tests.stress.specialists_mutations import run


def test_a_file_with_a_mistake_is_whole_or_refused_by_name(tmp_path):
    faults, outcomes = run(220, 7, tmp_path)
    assert not faults, "\n".join(faults)
    assert sum(outcomes.values()) == 220
    loaded = sum(count for outcome, count in outcomes.items() if outcome.endswith("loaded"))
    assert 20 < loaded < 120
