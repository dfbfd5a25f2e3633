"""The reference gives the merges of the paper, and those that can be worked out by hand."""

from jaxopt_lite.bpe.reference import count, encode, learn


def test_the_example_of_the_paper():
    """Sennrich, Haddow and Birch, ACL 2016, with the mark "_" as a symbol of its own."""
    words = [(b"low_", 5), (b"lower_", 2), (b"newest_", 6), (b"widest_", 3)]
    texts = {k: chr(k) for k in range(256)}
    found = []
    for k, (left, right, times) in enumerate(learn(words, 256, 10)):
        texts[256 + k] = texts[left] + texts[right]
        found.append((texts[256 + k], times))
    assert found == [
        ("es", 9), ("t_", 9), ("est_", 9), ("lo", 7), ("low", 7), ("ew", 6), ("new", 6), ("newest_", 6), ("low_", 5),
        ("dest_", 3),
    ]  # fmt: skip


def test_windows_overlap_and_are_merged_from_the_left():
    assert count([([0, 0, 0], 2), ([0, 1], 1)]) == {(0, 0): 4, (0, 1): 1}
    assert learn([([0, 0, 0], 2)], 1, 9) == [(0, 0, 4), (1, 0, 2)]
    assert encode([0] * 5, [(0, 0), (1, 1)], [1, 2]) == [2, 0]


def test_nothing_to_learn():
    assert learn([], 5, 3) == learn([([1], 9)], 5, 3) == learn([([1, 2], 9)], 5, 0) == []
    assert learn([([1, 2], 9)], 5, 3, lambda counts: None) == []


def test_merges_in_any_order():
    """What comes first in the order is merged first, whatever its parts are."""
    assert encode([0, 1, 2, 3], [(2, 3), (1, 4), (0, 1)], [4, 5, 6]) == [0, 5]
    assert encode([0, 1, 2], [(3, 2), (0, 1), (1, 2)], [4, 3, 5]) == [4]
