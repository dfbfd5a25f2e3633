"""A vocabulary refuses what does not fit together, and knows its own order."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

from jaxopt_lite.bpe.vocabulary import Vocabulary, quoted

TOKENS = (b"a", b"b", b"ab", b"aba")
RULES = ([(0, 1), (2, 0)], [2, 3])


def test_types_and_equality():
    """Lists become arrays, and equal content is equal."""
    one, two = Vocabulary(TOKENS, *RULES), Vocabulary(TOKENS, np.array(RULES[0]), np.array(RULES[1]))
    assert one == two and hash(one) == hash(two) and pickle.loads(pickle.dumps(one)) == one
    assert one.merges.dtype == one.merged.dtype == np.int32
    assert one != dataclasses.replace(one, counts=[2, 1]) and one != "vocabulary"


def test_arrays_are_copies_that_cannot_be_written_to():
    given = np.array(RULES[0])
    v = Vocabulary(TOKENS, given, RULES[1], counts=[2, 1])
    given[0] = 1
    assert v.merges.tolist() == [[0, 1], [2, 0]]
    for each in (v, pickle.loads(pickle.dumps(v)), copy.deepcopy(v)):
        for array in (each.merges, each.merged, each.counts):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


def test_order():
    """Whether parts come before the whole."""
    assert Vocabulary(TOKENS, *RULES).is_ordered
    assert not Vocabulary(TOKENS, RULES[0][::-1], RULES[1][::-1]).is_ordered
    assert Vocabulary(TOKENS[:2], [], []).is_ordered


def test_mark():
    """The mark has no text of its own; the same character may be a byte, too."""
    v = Vocabulary((b"a", b"_", b"_", b"__", b"a__"), [(1, 2), (0, 3)], [3, 4], end_of_word=2)
    assert v.ends_word.tolist() == [False, False, True, True, True]
    assert v.texts == (b"a", b"_", b"", b"_", b"a_")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (dict(tokens=("a", "b", "ab", "aba")), "expected bytes"),
        (dict(merged=[2]), "2 merges, 1 merged"),
        (dict(counts=[1]), "1 counts"),
        (dict(merges=[(0, 1), (2, 9)]), r"merge 1 is \[2, 9, 3\]; expected ids from 0 to 3"),
        (dict(merges=[(0, 1), (2, 1)]), "merge 1 makes token 3"),
        (dict(merges=[(0, 1), (0, 1)], merged=[2, 2]), "merged twice"),
        (dict(tokens=(b"a", b"a", b"aa", b"aaa")), "occur twice"),
        (dict(level="word"), "level='word'"),
        (dict(special_tokens={"<s>": 0}), "'<s>' has the id 0"),
        (dict(special_tokens={"ab": 2}), "a merge uses or makes"),
        (dict(end_of_word=9), "end_of_word=9"),
        (dict(end_of_word=0), "on its left"),
        (dict(level="char", unknown=-1), "unknown=-1"),
        (dict(byte_fallback=True), "expected both, or neither"),
        (dict(level="char", byte_fallback=True, fallback=[1, 2]), "256 distinct ids"),
    ],
)
def test_what_does_not_fit(change, problem):
    """Each error names what is wrong."""
    with pytest.raises(ValueError, match=problem):
        Vocabulary(**(dict(tokens=TOKENS, merges=RULES[0], merged=RULES[1]) | change))


def test_how_it_shows_itself():
    """A line at the prompt, the first merges in a notebook; no token is markup."""
    v = Vocabulary((b"<", b"b", b"<b", b"\xff"), [(0, 1)], [2], [1234], special_tokens={})
    assert repr(v) == "Vocabulary(4 tokens, 1 merges, byte level)"
    html = v._repr_html_()
    assert "&lt;b" in html and "<b>&lt;" not in html and "1,234" in html and html.count("<tr>") == 2
    assert list(v.first_merges(5)) == [(1, "'<'", "'b'", "'<b'", 2, 1234)]
    assert quoted(b"\xff") == "b'\\xff'"
    special = Vocabulary((b"a", b"<end>"), np.zeros((0, 2)), [], special_tokens={"<end>": 1})
    assert repr(special).endswith("byte level, 1 special)")


def test_rounds_are_cut_where_merges_touch():
    v = Vocabulary(
        (b"a", b"b", b"c", b"d", b"ab", b"cd", b"abcd", b"aa"), [(0, 1), (2, 3), (4, 5), (0, 0)], [4, 5, 6, 7]
    )
    assert v.rounds.tolist() == [2, 2]
