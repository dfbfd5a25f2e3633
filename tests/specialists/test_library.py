"""A library is never changed: what adds, removes or serves leaves every specialist as it is, to the bit."""

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import IA3, Adapter, Base, Card, Library, Profile, Shift, fit, nearest, tuned_parameters
from jaxopt_lite.specialists.adapters import as_adapter
from tests.specialists import models
from tests.specialists.spaces import plane

pytestmark = pytest.mark.hardly_optimized

ADAPTER = models.ADAPTERS["lora"]


def library(count=5, first=0, name="perceptron", adapter=ADAPTER):
    base = models.base(name=name)
    rows = [models.moved(adapter, base.params, seed=first + k) for k in range(count)]
    parameters = jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *rows))
    profile = Profile(np.ones(count), np.ones((count, 5)), parameters, np.zeros((count, 5)))
    return Library(base, parameters, profile, adapter, tuple(Card(f"s{first + k}") for k in range(count)))


def same(ours, expected):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_mixed_batch_goes_through_its_specialists():
    lib = library()
    x = np.random.default_rng(0).normal(size=(8, models.WIDTH)).astype(np.float32)
    index = np.array([4, 0, -1, 2, 2, -1, 3, 1])
    y = np.asarray(lib.apply(x, index))
    alone = jax.jit(lambda a, x: models.apply(ADAPTER.apply(lib.base.params, a), x))
    for row, place in enumerate(index.tolist()):
        if place < 0:
            expected = models.apply(jax.tree.map(np.asarray, lib.base.params), x[row])
        else:
            expected = alone(lib.adapter_of(f"s{place}"), x[row])
        np.testing.assert_allclose(y[row], expected, rtol=1e-5, atol=1e-6)


def test_several_specialists_for_an_input_are_averaged_by_weight():
    lib, x = library(), np.ones((2, models.WIDTH))
    y = lib.apply(x, np.array([[0, 1], [2, -1]]), np.array([[0.25, 0.75], [0.5, 0.5]]))
    y, *one = map(np.asarray, (y, *(lib.apply(x, np.full(2, place)) for place in (0, 1, 2, -1))))
    np.testing.assert_allclose(y[0], 0.25 * one[0][0] + 0.75 * one[1][0], rtol=1e-6)
    np.testing.assert_allclose(y[1], 0.5 * one[2][1] + 0.5 * one[3][1], rtol=1e-6)


def test_an_output_of_weight_zero_counts_for_nothing():
    """As the base that fills up a route does. 0 · ∞ is NaN."""
    lib = library_of(2, Base({"b": jnp.zeros(1)}, lambda params, x: jnp.log(x) + params["b"]))
    of = lambda weight: lib.apply(jnp.array([[0.0, 1.0]]), jnp.array([[0, 1]]), weight)[0]
    weight = jnp.array([[1.0, 0.0]])
    np.testing.assert_array_equal(of(weight), [-np.inf, 1])
    np.testing.assert_array_equal(jax.jacfwd(of)(weight)[1, 0], [1, 2])  # what is finite keeps its derivative


def test_indices_out_of_range_raise_or_are_nan_under_jit():
    lib, x = library(), np.ones((2, models.WIDTH))
    for bad in (5, -2):
        with pytest.raises(IndexError, match=rf"index holds {bad}; expected −1 for the base, or 0 to 4"):
            lib.apply(x, np.array([0, bad]))
        y = jax.jit(lib.apply)(x, np.array([0, bad]))
        assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()
    with pytest.raises(ValueError, match=r"index has shape \(2, 2\) and weight None"):
        lib.apply(x, np.zeros((2, 2), int))
    with pytest.raises(ValueError, match=r"weight \(2,\)"):
        lib.apply(x, np.zeros(2, int), np.ones(2))


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
    assert [one.names for one in lib] == [(name,) for name in lib.names]
    for missing, error in (("x", KeyError), (5, IndexError), (-6, IndexError), (["s0", "x"], KeyError)):
        with pytest.raises(error, match="no specialist"):
            lib[missing]
    assert repr(lib).startswith("Library(5 specialists of perceptron, LoRA(hidden/w) + LoRA(out/w) + Shift(*/b), ")


def test_in_a_notebook_it_is_a_table_of_the_first_cards():
    lib = library(25).rename({"s0": "<i>first</i>"})
    html = lib._repr_html_()
    assert html.startswith("<table>") and "Library(25 specialists" in html and "the first 20" in html
    assert html.count("<tr>") == 21 and "&lt;i&gt;first" in html and "<i>" not in html


def test_names_are_unique():
    lib = library(2)
    with pytest.raises(ValueError, match="the names s0 occur more than once"):
        lib.rename({"s1": "s0"})


def test_very_many_names_of_which_two_are_alike_take_no_time():
    lib, size = library(2), 100_000
    cards = [Card(f"s{k}") for k in range(size)]
    cards[-1] = cards[-2]
    start = time.perf_counter()
    with pytest.raises(ValueError, match="the names s99998 occur more than once"):
        Library(lib.base, lib.parameters, lib.profile, lib.adapter, cards)
    assert time.perf_counter() - start < 2


def test_a_list_of_cards_and_a_single_part_will_do():
    lib = library(2, adapter=as_adapter(Shift("out/b")))
    again = Library(lib.base, lib.parameters, lib.profile, Shift("out/b"), list(lib.cards))
    assert again.adapter == lib.adapter and again.cards == lib.cards and again.ids == lib.ids
    same(again.apply(np.ones((1, models.WIDTH)), [1]), lib.apply(np.ones((1, models.WIDTH)), [1]))


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
    wide = replace(other.profile, mean=np.ones((1, 7)), gate=np.ones((1, 7)))
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


# What is chosen is what was meant: names, places, slices and masks. Whatever else Python takes for one is refused.


BASE = Base({"b": np.zeros(1)}, lambda params, x: x + params["b"])
NAMES = "abcd"


def library_of(count: int, base: Base = BASE) -> Library:
    a, none = jax.device_put(({"shift:b": np.arange(1.0, count + 1)[:, None]}, np.zeros((count, 0))))
    cards = tuple(Card(NAMES[k] if count == 4 else f"s{k}", loss=float(k)) for k in range(count))
    return Library(base, a, Profile(np.ones(count), none, a, none), Adapter((Shift("b"),)), cards)


LIBRARY = library_of(4)
MASK = [False, True, False, True]
CHOICES = {
    "a mask": (np.array(MASK), "bd"),
    "a mask of JAX": (jax.device_put(np.array(MASK)), "bd"),
    "a list of truth values": (MASK, "bd"),
    "a list of those of NumPy": (list(np.array(MASK)), "bd"),
    "a comparison": (np.array([card.loss for card in LIBRARY.cards]) > 1.5, "cd"),
    "a list of those of JAX": (list(jax.device_put([np.bool(k > 1) for k in range(4)])), "cd"),
    "no one": (np.zeros(4, bool), ""),
    "everyone": (np.ones(4, bool), "abcd"),
    "nothing": ([], ""),
    "an empty array": (np.array([]), ""),
    "places": (np.array([3, 0]), "da"),
    "places of JAX": (jax.device_put(np.array([3, 0])), "da"),
    "small places": (np.array([3, -4], np.int8), "da"),
    "large places": (np.array([3, 0], np.uint64), "da"),
    "a place": (np.int64(2), "c"),
    "a place of JAX": (jnp.array(2), "c"),
    "places from the end": ([-1, -2], "dc"),
    "places of both kinds": ([jnp.array(1), np.int32(2), 0], "bca"),
    "names": (["d", "a"], "da"),
    "names of NumPy": (np.array(["d", "a"]), "da"),
    "a tuple": (("d", 0), "da"),
    "a generator": ((name for name in "da"), "da"),
    "the keys of a dictionary": ({"d": 1, "a": 2}, "da"),
    "a slice": (slice(None, None, -2), "db"),
}
REFUSED = {
    "a truth value": (True, TypeError, "True, of bool, chooses no specialist; expected names"),
    "one of NumPy": (np.True_, TypeError, "chooses no specialist"),
    "one in an array": (np.array(True), TypeError, "chooses no specialist"),
    "one of JAX": (jnp.array(False), TypeError, "chooses no specialist"),
    "a mask too short": (np.array(MASK[:2]), IndexError, "a mask of 2 booleans; expected 4, one for each"),
    "a mask too long": ([*MASK, True], IndexError, "a mask of 5 booleans"),
    "a mask of a mask": (np.array([MASK]), IndexError, r"shape \(1, 4\) chooses no specialists"),
    "a truth value among places": ([0, True], TypeError, "True, of bool, chooses"),
    "a place among truth values": ([True, False, True, 1], TypeError, "True, of bool, chooses"),
    "a fraction": (1.7, TypeError, "1.7, of float"),
    "fractions": ([1.7], TypeError, "1.7, of float"),
    "floats that are whole": (np.array([1.0, 2.0]), TypeError, "1.0, of float"),
    "a float of JAX": (jnp.array(1.0), TypeError, "of float"),
    "a complex number": ([1j], TypeError, "of complex"),
    "bytes": (b"a", TypeError, "of bytes"),
    "None": (None, TypeError, "None, of NoneType"),
    "a list of None": ([None], TypeError, "None, of NoneType"),
    "a set, which has no order": ({"a", "b"}, TypeError, "of set"),
    "a table of places": (np.array([[0, 1]]), IndexError, "along one axis"),
    "nested lists": ([["a"]], TypeError, "of list"),
    "a slice from truth to truth": (slice(True, None), TypeError, "truth values for its ends"),
    "a slice by names": (slice("a", "c"), TypeError, "slice indices must be integers"),
    "a place too large": ([4], IndexError, "no specialist 4 in this library of 4"),
    "a place too far from the end": (np.array([-5]), IndexError, "no specialist -5"),
    "a number with a name": ("1", KeyError, "no specialist '1'"),
}


@pytest.mark.parametrize(("which", "names"), CHOICES.values(), ids=CHOICES)
def test_those_are_taken(which, names):
    taken = LIBRARY[which]
    assert taken.names == tuple(names)
    assert taken.parameters["shift:b"].ravel().tolist() == [NAMES.index(name) + 1 for name in names]


@pytest.mark.parametrize(("which", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_those_are_refused(which, error, message):
    with pytest.raises(error, match=message):
        LIBRARY[which]
    if not isinstance(which, slice | set):
        with pytest.raises(error, match=message):
            LIBRARY.remove(which)


def test_removing_chooses_in_the_same_ways():
    assert LIBRARY.remove(np.array(MASK)).names == ("a", "c")
    assert LIBRARY.remove({"a", "d"}).names == ("b", "c") == LIBRARY.remove([0, -1]).names
    assert LIBRARY.remove(2).names == ("a", "b", "d") == LIBRARY.remove("c").names
    assert LIBRARY.remove([]).names == LIBRARY.remove(np.zeros(4, bool)).names == tuple(NAMES)


@pytest.mark.parametrize(
    ("names", "error"),
    [({0: "x"}, TypeError), ({"a": 1}, TypeError), ({"a": None}, TypeError), ({True: "x"}, TypeError),
     ({"x": "a"}, KeyError), ({"a": "b"}, ValueError)],
)  # fmt: skip
def test_a_new_name_goes_from_text_to_text(names, error):
    with pytest.raises(error, match="string|no specialist|more than once"):
        LIBRARY.rename(names)


def test_one_adapter_is_of_one_name():
    assert LIBRARY.adapter_of("c")["shift:b"] == 3
    for which in (np.array(MASK), ["a"], True, 1.0, 1, None):
        with pytest.raises(TypeError, match="expected a string"):
            LIBRARY.adapter_of(which)


X = np.zeros((2, 1), np.float32)
NO_INDEX = {
    "a mask": np.array([True, False]),
    "a list of truth values": [True, False],
    "fractions": np.array([0.5, 1.0]),
    "floats that are whole": [0.0, 1.0],
    "complex numbers": np.array([0j, 1]),
    "names": np.array(["a", "b"]),
    "objects": np.array([None, 1]),
}


@pytest.mark.parametrize("index", NO_INDEX.values(), ids=NO_INDEX)
def test_an_index_is_of_whole_numbers(index):
    with pytest.raises(TypeError, match="index is of .*; expected whole numbers"):
        LIBRARY.apply(X, index)


@pytest.mark.parametrize("dtype", ["bool", "float32", "complex64"])
def test_an_index_is_of_whole_numbers_under_jit_too(dtype):
    with pytest.raises(TypeError, match=f"index is of {dtype}"):
        jax.jit(LIBRARY.apply)(X, jnp.array([0, 1]).astype(dtype))
    with pytest.raises(TypeError, match="weight is of bool; expected real numbers"):
        jax.jit(LIBRARY.apply)(X, jnp.array([[0, 1], [1, 2]]), jnp.ones((2, 2), bool))


@pytest.mark.parametrize(
    "weight", [np.ones((2, 2), bool), [[True, False]] * 2, np.ones((2, 2), complex), [["a"] * 2] * 2]
)
def test_weights_are_real_numbers(weight):
    with pytest.raises(TypeError, match="weight is of .*; expected real numbers"):
        LIBRARY.apply(X, [[0, 1], [2, 3]], weight)


@pytest.mark.parametrize(
    ("index", "weight"),
    [
        (0, None), (0, 1.0), (np.zeros((2, 1, 1), int), np.ones((2, 1, 1))),
        (np.zeros((2, 0), int), np.ones((2, 0))), ([[0], [1]], None), ([0, 1], [1.0, 1.0]), ([[0], [1]], [1.0, 1.0]),
    ],
)  # fmt: skip
def test_an_index_has_one_axis_or_two(index, weight):
    with pytest.raises(ValueError, match=r"expected \[B\] alone, or \[B, k\] for both"):
        LIBRARY.apply(X, index, weight)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_an_index_means_the_same_in_every_dtype(dtype):
    """With 300 specialists: 255 is not −1 in eight bits, −1 is not 255, and what is out of range stays so."""
    library, known = library_of(300), np.iinfo(dtype)
    values = [v for v in (-1, 0, 3, 127, 255, 299) if known.min <= v <= known.max]
    expected = [v + 1 for v in values]
    x = np.zeros((len(values), 1), np.float32)
    for f in (library.apply, jax.jit(library.apply)):
        assert f(x, np.array(values, dtype)).ravel().tolist() == expected
    for value in (-2, 300, 2**31, 2**32, 2**32 + 5, 2**63 + 5, -(2**31) - 2, -(2**32) + 5):
        if known.min <= value <= known.max:
            index = np.array([value, 1], dtype)
            with pytest.raises(IndexError, match=f"index holds {value}"):
                library.apply(X, index)
            found = np.asarray(jax.jit(library.apply)(X, index)).ravel()
            assert np.isnan(found[0]) and found[1] == 2


def test_an_index_is_checked_before_jax_cuts_it_to_32_bits():
    with jax.enable_x64(False), pytest.raises(IndexError, match="index holds 4294967297"):
        LIBRARY.apply(X, np.array([2**32 + 1, 0]))


def test_a_weighted_sum_is_of_floating_point():
    """Cast to whole numbers, weights below one would all be zero."""
    base = Base(BASE.params, lambda params, x: {"sum": x + params["b"], "best": jnp.argmax(x)})
    library = library_of(4, base)
    assert library.apply(X, [1, 2])["best"].tolist() == [0, 0]
    with pytest.raises(TypeError, match="an output is of int.*expected floating point for a weighted sum"):
        library.apply(X, [[0, 1], [2, 3]], [[0.5, 0.5], [0.5, 0.5]])


def test_inputs_are_checked_before_jax_cuts_them_to_32_bits():
    base = plane(2)
    with jax.enable_x64(False):
        for x in (np.full((1, 2), 2**32 + 1), np.full((1, 2), 1e300)):
            with pytest.raises(ValueError, match="x holds a number that is too large"):
                base.embed(x)
        with pytest.raises(ValueError, match="x holds a number that is too large for int32"):
            LIBRARY.apply(np.full((1, 1), 2**40), [0])


@pytest.mark.parametrize("k", [True, 1.0, "1", None, -1, np.float32(1), jnp.array(1.5)])
def test_nearest_are_a_whole_number(k):
    with pytest.raises(ValueError, match="k=.*: expected a whole number, not negative"):
        nearest(LIBRARY, "a", k)


def test_nearest_counts_with_numbers_of_numpy():
    assert len(nearest(tuned_parameters(LIBRARY), "a", np.int64(2))) == 2 and nearest(LIBRARY, "a", 0) == []
