"""A library is never changed: what adds, removes or serves leaves every specialist as it is, to the bit."""

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import IA3, Card, Library, Profile, Shift, fit
from jaxopt_lite.specialists.adapters import as_adapter
from tests.specialists import models

ADAPTER = models.ADAPTERS["lora"]


def library(count=5, first=0, name="perceptron", adapter=ADAPTER):
    base = models.base(name=name)
    rows = [models.moved(adapter, base.params, seed=first + k) for k in range(count)]
    parameters = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *rows)
    profile = Profile(np.ones(count), np.ones((count, 5)), parameters, np.zeros((count, 5)))
    return Library(base, parameters, profile, adapter, tuple(Card(f"s{first + k}") for k in range(count)))


def same(ours, expected):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_mixed_batch_goes_through_its_specialists():
    lib = library()
    x = np.random.default_rng(0).normal(size=(8, models.WIDTH)).astype(np.float32)
    index = jnp.array([4, 0, -1, 2, 2, -1, 3, 1])
    y = lib.apply(x, index)
    for row, place in enumerate(index.tolist()):
        params = lib.base.params if place < 0 else ADAPTER.apply(lib.base.params, lib.adapter_of(f"s{place}"))
        np.testing.assert_allclose(y[row], models.apply(params, x[row]), rtol=1e-5, atol=1e-6)


def test_several_specialists_for_an_input_are_averaged_by_weight():
    lib, x = library(), jnp.ones((2, models.WIDTH))
    y = lib.apply(x, jnp.array([[0, 1], [2, -1]]), jnp.array([[0.25, 0.75], [0.5, 0.5]]))
    one = [lib.apply(x, jnp.full(2, place)) for place in (0, 1, 2, -1)]
    np.testing.assert_allclose(y[0], 0.25 * one[0][0] + 0.75 * one[1][0], rtol=1e-6)
    np.testing.assert_allclose(y[1], 0.5 * one[2][1] + 0.5 * one[3][1], rtol=1e-6)


def test_indices_out_of_range_raise_or_are_nan_under_jit():
    lib, x = library(), jnp.ones((2, models.WIDTH))
    for bad in (5, -2):
        with pytest.raises(IndexError, match=rf"index holds {bad}; expected −1 for the base, or 0 to 4"):
            lib.apply(x, jnp.array([0, bad]))
        y = jax.jit(lib.apply)(x, jnp.array([0, bad]))
        assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()
    with pytest.raises(ValueError, match=r"index has shape \(2, 2\) and weight None"):
        lib.apply(x, jnp.zeros((2, 2), int))
    with pytest.raises(ValueError, match=r"weight \(2,\)"):
        lib.apply(x, jnp.zeros(2, int), jnp.ones(2))


def test_equal_cards_are_equal_also_without_a_loss():
    assert Card("a", loss=float("nan")) == Card("a") == Card("a", loss=float("inf"))
    assert Card("a", loss=1.0).loss == 1.0


def test_adding_moves_nothing_else():
    lib, more = library(), library(3, first=5)
    both = lib.add(more)
    same(both[:5].parameters, lib.parameters)
    same(both[lib.names].profile, lib.profile)
    assert both.ids == lib.ids + more.ids and both.names == lib.names + more.names
    x, index = np.random.default_rng(0).normal(size=(20, models.WIDTH)).astype(np.float32), np.arange(20) % 6 - 1
    same(both.apply(x, index), lib.apply(x, index))
    same(both.remove(more.names).parameters, lib.parameters)
    assert both.remove("s6").names == ("s0", "s1", "s2", "s3", "s4", "s5", "s7")


def test_two_contributors_with_a_specialist_in_common():
    lib = library()
    assert lib.add(lib[["s1", "s3"]]).names == lib.names
    other = library(1, first=9).rename({"s9": "s1"})
    with pytest.raises(ValueError, match="both libraries have a 's1', and not the same one; `rename`"):
        lib.add(other)
    assert lib.add(other.rename({"s1": "theirs"})).names == (*lib.names, "theirs")


@pytest.mark.parametrize(
    "other, message",
    [
        (library(1, first=9, name="another"), "the base of the other library is not the one here"),
        (library(1, first=9, adapter=IA3("hidden/w") + Shift("out/b")), "the adapter of the other library"),
    ],
)
def test_what_is_not_of_one_kind_does_not_mix(other, message):
    with pytest.raises(ValueError, match=message):
        library().add(other)


def test_parameters_are_not_promoted_silently():
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), library(1, first=9))
    with pytest.raises(ValueError, match="the dtype of the other library is not .*: {'down:hidden/w': 'bfloat16'"):
        library().add(Library(library().base, half.parameters, half.profile, half.adapter, half.cards))


def test_ids_are_of_content_and_not_of_names():
    lib = library()
    assert len(set(lib.ids)) == 5
    assert lib.rename({"s0": "zero"}).ids == lib.ids and lib[::-1].ids == lib.ids[::-1]
    assert library(name="another").ids[0] != lib.ids[0]
    moved = {key: leaf.at[0].add(1e-6) for key, leaf in lib.parameters.items()}
    changed = Library(lib.base, moved, lib.profile, lib.adapter, lib.cards)
    assert changed.ids[0] != lib.ids[0] and changed.ids[1:] == lib.ids[1:]


def test_taking_by_name_place_and_slice():
    lib = library()
    assert lib["s2"].names == ("s2",) == lib[2].names == lib[-3].names
    assert lib[["s4", "s0"]].names == ("s4", "s0") and lib[1:3].names == ("s1", "s2") and len(lib[[]]) == 0
    assert "s2" in lib and "x" not in lib
    for missing in ("x", 5, -6, ["s0", "x"]):
        with pytest.raises(KeyError, match="no specialist"):
            lib[missing]
    assert repr(lib).startswith("Library(5 specialists of perceptron, LoRA(hidden/w) + LoRA(out/w) + Shift(*/b), ")


def test_names_are_unique():
    lib = library(2)
    with pytest.raises(ValueError, match="the names s0 are there more than once"):
        lib.rename({"s1": "s0"})


def test_very_many_names_of_which_two_are_alike_take_no_time():
    lib, size = library(2), 100_000
    cards = [Card(f"s{k}") for k in range(size)]
    cards[-1] = cards[-2]
    start = time.perf_counter()
    with pytest.raises(ValueError, match="the names s99998 are there more than once"):
        Library(lib.base, lib.parameters, lib.profile, lib.adapter, cards)
    assert time.perf_counter() - start < 2


def test_a_list_of_cards_and_a_single_part_will_do():
    lib = library(2, adapter=as_adapter(Shift("out/b")))
    again = Library(lib.base, lib.parameters, lib.profile, Shift("out/b"), list(lib.cards))
    assert again.adapter == lib.adapter and again.cards == lib.cards and again.ids == lib.ids
    same(again.apply(jnp.ones((1, models.WIDTH)), [1]), lib.apply(jnp.ones((1, models.WIDTH)), [1]))


def test_nobody_may_join_and_be_joined():
    """Also where nobody has features of another width, as after a fit of no tasks."""
    lib = library(2)
    nobody = fit(lib.base, lib.adapter, {}, models.cross_entropy, progress=False)
    for both in (lib.add(nobody), nobody.add(lib), lib[[]].add(lib), lib.add(lib[[]])):
        assert both.names == lib.names
        same(both.parameters, lib.parameters)
    assert len(nobody.add(nobody)) == 0


def test_each_leaf_keeps_its_dtype_where_libraries_join():
    """The same dtypes on other leaves are not the same."""
    lib, other = library(1), library(1, first=9)
    first, second = sorted(lib.parameters)[:2]
    half = lambda lib, key: replace(lib, parameters=lib.parameters | {key: lib.parameters[key].astype(jnp.bfloat16)})
    assert len(half(lib, first).add(half(other, first))) == 2
    with pytest.raises(ValueError, match="the dtype of the other library is not the one here"):
        half(lib, first).add(half(other, second))


def test_features_of_another_width_do_not_join():
    lib, other = library(1), library(1, first=9)
    wide = replace(other.profile, mean=jnp.ones((1, 7)), gate=jnp.ones((1, 7)))
    with pytest.raises(ValueError, match="the width of the features of the other library is not the one here: 7 and 5"):
        lib.add(replace(other, profile=wide))


def test_a_library_is_a_pytree_and_passes_through_jit():
    lib = library()
    doubled = jax.jit(lambda lib: jax.tree.map(lambda leaf: 2 * leaf, lib))(lib)
    assert doubled.names == lib.names
    same(doubled.parameters, jax.tree.map(lambda leaf: 2 * leaf, lib.parameters))


def test_a_card_is_solved_by_what_became_of_its_fit():
    """Also where rounding allows no more; and a word of somebody else's is no verdict."""
    ends = {"CONVERGED": True, "AT_PRECISION": True, "STALLED": False, "": False, "fine": False}
    assert {status: Card("a", status=status).solved for status in ends} == ends
