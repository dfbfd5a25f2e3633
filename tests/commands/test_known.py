"""Known problems of other packages: each record is sound, and told of exactly its versions."""

import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from jaxopt_lite.commands.known import KNOWN, known_problems

FINDINGS = Path(__file__).parents[2] / "findings"


def test_there_are_some_and_no_two_are_the_same():
    assert len({each.sentence for each in KNOWN}) == len(KNOWN) > 5


@pytest.mark.parametrize("each", KNOWN, ids=lambda each: f"{each.package} {each.sentence[:30]}")
def test_a_record_is_one_sentence_about_bounded_versions(each):
    assert each.sentence.endswith(".") and ". " not in each.sentence and len(each.sentence) < 200
    assert set(each.platforms) <= {"cpu", "gpu", "tpu"}
    assert not SpecifierSet(each.versions).contains("9999", prereleases=True)  # nobody has seen that
    assert not SpecifierSet(each.versions).contains("0.0.1", prereleases=True)


@pytest.mark.parametrize("each", [each for each in KNOWN if each.finding], ids=lambda each: each.finding)
def test_a_script_shows_it_in_these_versions(each):
    """The first line of a script says in which versions it was seen."""
    first = (FINDINGS / f"{each.finding}.sh").read_text().splitlines()[1].partition(":")[0]
    seen = re.findall(r"\d+(?:\.\d+)+(?:rc\d+)?", first)
    assert seen and first.lower().startswith(f"# {each.package}")
    assert all(SpecifierSet(each.versions).contains(Version(version), prereleases=True) for version in seen)


@pytest.mark.parametrize(
    ("package", "version", "platform", "parts"),
    [
        ("jax", "0.9.2", "cpu", []),
        ("jax", "0.10.0", "cpu", ["Ctrl-C", "last rows", "linear_transpose", "cache", "512 bits"]),
        ("jax", "0.10.0", "gpu", ["Ctrl-C", "linear_transpose", "cache", "10 bits", "Triton"]),
        ("jax", "0.12.0.1", "cpu", ["Ctrl-C", "jax.extend", "last rows", "linear_transpose", "cache"]),
        ("jax", "0.12.0.1", None, ["Ctrl-C", "jax.extend", "linear_transpose", "cache"]),
        ("jax", "0.13.0", "cpu", []),
        ("tokenizers", "0.23.3", "cpu", ["normalized", r"\w"]),
        ("tokenizers", "1.0.0rc3", "cpu", ["first text"]),
        ("tokenizers", "1.0.0", "cpu", []),
        ("numpy", "2.5.5", "cpu", []),
    ],
)
def test_those_of_exactly_these_versions_are_told(package, version, platform, parts):
    told = known_problems({package: version}, platform)
    assert len(told) == len(parts)
    for each, part in zip(told, parts, strict=True):
        assert each.package == package and part in each.sentence
