"""NIST's files as read, and what is refused."""

from importlib import resources

import pytest

from jaxopt_lite.demo import nist
from jaxopt_lite.demo.regression import MODELS


def text_of(name):
    file = resources.files("jaxopt_lite.demo") / "data" / "nist" / f"{name}.dat"
    return file.read_text(encoding="ascii")


def test_the_shipped_sets_span_all_levels_of_difficulty():
    levels = [nist.read(name).level for name in MODELS]
    assert {level: levels.count(level) for level in levels} == {"lower": 3, "average": 4, "higher": 7}


def test_a_file_is_read_as_printed():
    dataset = nist.read("Rat43")
    assert dataset.name == "Rat43" and dataset.level == "higher"
    assert dataset.x.tolist() == list(range(1, 16))
    assert dataset.y[[0, 14]].tolist() == [16.08, 717.41]
    assert dataset.starts.tolist() == [[100, 10, 1, 1], [700, 5, 0.75, 1.3]]
    assert dataset.parameters[2] == 7.5962938329e-01
    assert dataset.standard_deviations[3] == 6.8761936385e-01
    assert dataset.residual_sum_of_squares == 8.7864049080e03
    assert dataset.degrees_of_freedom == 11


def test_a_file_cut_short_is_refused_wherever_it_is_cut():
    lines = text_of("Misra1a").splitlines()
    for length in range(len(lines)):
        with pytest.raises(ValueError, match="^Misra1a: expected"):
            nist.parse("\n".join(lines[:length]), "Misra1a")
    with pytest.raises(ValueError, match="expected data up to line 74, got 70 lines"):
        nist.parse("\n".join(lines[:70]), "Misra1a")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("NIST/ITL StRD", "a,b", "expected a NIST StRD file that begins with 'NIST/ITL StRD', got 'a,b'"),
        ("Name:  Misra1a", "Name:  Misra1b", "expected the file of that data set, got the file of 'Misra1b'"),
        ("10.07E0", "ten", "expected 2 finite numbers in line 61, got 'ten      77.6E0'"),
        ("10.07E0", "nan", "expected 2 finite numbers in line 61"),
        ("10.07E0", "10.07E0 1.0", "expected 2 finite numbers in line 61"),
        ("b2 =     0.0001 ", "b2 =            ", "expected 4 finite numbers in line 42"),
        ("Lower Level", "Some Level", "expected a header entry like .*Level of Difficulty"),
        (
            "Data              (lines 61 to 74)",
            "Data              (lines 61 to 73)",
            "expected 14 observations, got 13",
        ),
        ("1.2455138894E-01", "1.2455238894E-01", "expected residual sum of squares = degrees of freedom"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(old, new, message):
    text = text_of("Misra1a")
    assert old in text
    with pytest.raises(ValueError, match=f"^Misra1a: {message}"):
        nist.parse(text.replace(old, new, 1), "Misra1a")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="name: expected one of .*'Rat42'.* got 'rat42'"):
        nist.read("rat42")
