"""Every leaf of a pytree has a name of its own."""

import time

import pytest

from jaxopt_lite.specialists.leaves import leaf_names


def test_names_of_leaves():
    assert leaf_names({"layers": [{"w": 1.0}, {"w": 2.0}], "b": 3.0}) == ["b", "layers/0/w", "layers/1/w"]


def test_names_of_leaves_are_unique():
    with pytest.raises(ValueError, match="two leaves that are called 'a/b'"):
        leaf_names({"a": {"b": 1.0}, "a/b": 2.0})


def test_very_many_names_take_no_time():
    """Also where two are alike, and the last ones."""
    params = {f"{k}": 0.0 for k in range(40_000)} | {"z": {"z": 0.0}, "z/z": 1.0}
    start = time.perf_counter()
    with pytest.raises(ValueError, match="two leaves that are called 'z/z'"):
        leaf_names(params)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("keys", [("a/b", {"b": 1.0}), ("a/0", [1.0]), ("a/0/x", [{"x": 1.0}])])
def test_keys_with_a_slash_may_make_two_of_one_name(keys):
    with pytest.raises(ValueError, match="two leaves that are called"):
        leaf_names({keys[0]: 0.0, "a": keys[1]})


def test_a_name_that_no_file_can_hold():
    with pytest.raises(ValueError, match="a leaf that is called .*expected a name that UTF-8 can write"):
        leaf_names({"\ud800": 1.0})
