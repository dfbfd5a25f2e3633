"""A vocabulary refuses what does not fit together, and knows its own order."""

import dataclasses
import pickle

import numpy as np
import pytest

from jaxopt_lite.bpe.vocabulary import Vocabulary

TOKENS = (b"a", b"b", b"ab", b"aba")
RULES = ([(0, 1), (2, 0)], [2, 3])


def test_types_and_equality():
    """Lists become arrays, and equal content is equal."""
    one, two = Vocabulary(TOKENS, *RULES), Vocabulary(TOKENS, np.array(RULES[0]), np.array(RULES[1]))
    assert one == two and hash(one) == hash(two) and pickle.loads(pickle.dumps(one)) == one
    assert one.merges.dtype == one.merged.dtype == np.int32
    assert one != dataclasses.replace(one, counts=[2, 1]) and one != "vocabulary"


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
        (dict(tokens=(b"a", b"a", b"aa", b"aaa")), "there twice"),
        (dict(level="word"), "level='word'"),
        (dict(special_tokens={"<s>": 0}), "'<s>' has the id 0"),
        (dict(special_tokens={"ab": 2}), "a merge uses or makes"),
        (dict(end_of_word=9), "end_of_word=9"),
        (dict(end_of_word=0), "on its left"),
        (dict(level="char", unknown=-1), "unknown=-1"),
        (dict(byte_fallback=True), "expected both, or neither"),
        (dict(level="char", byte_fallback=True, fallback=[1, 2]), "256 different ids"),
    ],
)
def test_what_does_not_fit(change, problem):
    """Each error names what is wrong."""
    with pytest.raises(ValueError, match=problem):
        Vocabulary(**(dict(tokens=TOKENS, merges=RULES[0], merged=RULES[1]) | change))
