"""Adapters: maps from parameters to parameters, their identity, their linear form, their descriptions."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import IA3, Adapter, LoRA, Shift
from jaxopt_lite.specialists.adapters import as_adapter, from_spec
from jaxopt_lite.specialists.leaves import leaf_names
from tests.specialists import models

pytestmark = pytest.mark.hardly_optimized

adapters = pytest.mark.parametrize("adapter", models.ADAPTERS.values(), ids=models.ADAPTERS.keys())


@adapters
def test_identity_changes_nothing_to_the_bit(adapter):
    params = models.params()
    same = adapter.apply(params, adapter.identity(params))
    assert jax.tree.structure(same) == jax.tree.structure(params)
    for leaf, kept in zip(jax.tree.leaves(params), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(leaf, kept)


def test_each_part_changes_its_leaves_as_its_formula_says_and_no_others():
    params = {"w": np.arange(6.0).reshape(2, 3), "b": np.ones(3), "v": np.ones((2, 2))}
    adapter = IA3("w", axis=0) + Shift("b") + LoRA("v", rank=1, alpha=2.0)
    a = {
        "scale:w": np.array([0.5, -1.0]), "shift:b": np.array([1.0, 2.0, 3.0]),
        "down:v": np.array([[1.0], [2.0]]), "up:v": np.array([[3.0, 4.0]]),
    }  # fmt: skip
    changed = adapter.apply(params, a)
    np.testing.assert_allclose(changed["w"], [[0.0, 1.5, 3.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(changed["b"], [2.0, 3.0, 4.0])
    np.testing.assert_allclose(changed["v"], [[7.0, 9.0], [13.0, 17.0]])
    assert adapter.size(params) == 2 + 3 + 2 + 2
    alone = (IA3("w", axis=0) + Shift("b")).apply(params, a)
    np.testing.assert_array_equal(alone["v"], params["v"])


@adapters
def test_linear_form_makes_the_same_change_and_is_linear(adapter):
    params, x = models.params(jnp.float64), np.linspace(-1.0, 1.0, models.WIDTH)
    a, other = models.moved(adapter, params), models.moved(adapter, params, seed=2)
    linear, direct = adapter.to_linear(params, a), adapter.apply(params, a)
    same = adapter.linear.apply(params, linear)
    np.testing.assert_allclose(models.apply(same, x), models.apply(direct, x), rtol=1e-12)
    half = jax.tree.map(lambda u, v: (u + v) / 2, linear, adapter.to_linear(params, other))
    middle = jax.tree.map(lambda u, v: (u + v) / 2, direct, adapter.apply(params, other))
    for leaf, expected in zip(
        jax.tree.leaves(adapter.linear.apply(params, half)), jax.tree.leaves(middle), strict=True
    ):
        np.testing.assert_allclose(leaf, expected, rtol=1e-12, atol=1e-12)
    for leaf in jax.tree.leaves(adapter.to_linear(params, adapter.identity(params))):
        np.testing.assert_array_equal(leaf, 0)


@adapters
def test_spec_goes_there_and_back(adapter):
    assert from_spec(adapter.spec()) == adapter


def test_lora_starts_are_fixed_by_seed_and_name_and_work_on_stacks():
    params = {"a": np.zeros((4, 6)), "b": np.zeros((4, 6)), "stack": np.zeros((3, 4, 6))}
    first, again = LoRA("*").identity("a", params["a"]), LoRA("*").identity("a", params["a"])
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], LoRA("*").identity("b", params["b"])[0])
    assert not np.array_equal(first[0], LoRA("*", seed=1).identity("a", params["a"])[0])
    adapter = as_adapter(LoRA("stack", rank=2))
    a = {"down:stack": np.ones((3, 4, 2)), "up:stack": np.ones((3, 2, 6))}
    np.testing.assert_allclose(adapter.apply(params, a)["stack"], 2.0)


@pytest.mark.parametrize(
    "adapter, message",
    [
        (IA3("missing"), "matches no leaf of params; its leaves are hidden/b, hidden/w, out/b, out/w"),
        (IA3("hidden/w", axis=2), r"IA3 on 'hidden/w': it has shape \(5, 7\) and no axis 2"),
        (LoRA("hidden/b"), r"LoRA on 'hidden/b': it has shape \(7,\); expected a matrix"),
        (IA3("hidden/w") + Shift("hidden/*"), "both change 'hidden/w'; expected one part for a leaf"),
    ],
)
def test_what_does_not_fit_the_parameters_is_refused(adapter, message):
    with pytest.raises(ValueError, match=message):
        as_adapter(adapter).identity(models.params())


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_leaves_that_are_not_floating_point_are_refused_by_name(dtype):
    with pytest.raises(ValueError, match=f"on 'step': it is {dtype}; expected floating-point"):
        as_adapter(Shift("*")).identity(models.params() | {"step": jnp.zeros(2, dtype)})


def test_bad_descriptions_are_refused():
    for alpha in ("x", 0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected a positive number, or None"):
            LoRA("w", alpha=alpha)
    with pytest.raises(ValueError, match="rank=0: expected a whole number of at least 1"):
        LoRA("w", rank=0)
    with pytest.raises(ValueError, match="kind 'DoRA'; expected one of IA3, LoRA, Shift"):
        from_spec([{"kind": "DoRA", "path": "w"}])
    with pytest.raises(ValueError, match="does not fit IA3"):
        from_spec([{"kind": "IA3", "path": "w", "rank": 3}])
    with pytest.raises(TypeError, match="expected IA3"):
        as_adapter("IA3")  # pyright: ignore[reportArgumentType]


def test_sums_are_flat_and_hashable():
    one, two, three = IA3("a"), Shift("b"), LoRA("c")
    assert (one + two) + three == one + (two + three) == Adapter((one, two, three))
    assert len({one + two, one + two}) == 1


BRACKETS = {
    "layers[0].w": np.ones((2, 2)), "layers[1].w": np.ones((2, 2)), "layers0.w": np.ones((2, 2)),
    "w?": np.ones(2), "w1": np.ones(2), "star*": np.ones(2), "starlight": np.ones(2), "[!a]": np.ones(2),
    "b": np.ones(2), "a:b": np.ones(2), "": np.ones(2), "in": {"": np.ones(2), "w": [np.ones(2), np.ones(2)]},
}  # fmt: skip


@pytest.mark.parametrize("path", leaf_names(BRACKETS))
def test_the_name_of_a_leaf_is_that_leaf(path):
    assert Shift(path).__add__(Adapter(())).identity(BRACKETS).keys() == {f"shift:{path}"}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("layers[0].*", "layers[0].w"), ("layers[*].w", "layers[0].w layers[1].w"), ("*[0]*", "layers[0].w"),
        ("*.w", "layers[0].w layers[1].w layers0.w"), ("layers*0*w", "layers[0].w layers0.w"), ("w*", "w? w1"),
        ("star*t", "starlight"), ("*light", "starlight"), ("in/w/*", "in/w/0 in/w/1"), ("in/*/1", "in/w/1"),
        ("**in/*", "in/ in/w/0 in/w/1"), ("a*:*b", "a:b"), ("i*n/w*/0", "in/w/0"),
    ],
)  # fmt: skip
def test_a_star_stands_for_any_characters_and_nothing_else_does(path, names):
    assert {name for _, name, _ in as_adapter(Shift(path)).matches(BRACKETS)} == set(names.split())


@pytest.mark.parametrize(
    "path", ["layers[01].w", "[a-z]", "[!b]", "w??", "?", "layers[0]", "LAYERS0.W", "in", "starli*ight", "b*b", "**x"]
)
def test_what_matches_nothing_says_so(path):
    with pytest.raises(ValueError, match=r"matches no leaf of params; its leaves are .*layers\[0\]\.w"):
        as_adapter(Shift(path)).identity(BRACKETS)


def test_a_pattern_of_many_stars_takes_no_time():
    start = time.perf_counter()
    with pytest.raises(ValueError, match="matches no leaf"):
        as_adapter(Shift("*a" * 500 + "*b")).identity({"a" * 5000: np.ones(1)})
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "params", [{0: 1.0, 1: 2.0}, {("a", 1): 1.0, ("b", 2): 2.0}, {b"a": 1.0}, {True: 1.0, False: 0.0}]
)
def test_keys_that_are_no_texts_have_names_too(params):
    names = leaf_names(params)
    assert len(set(names)) == len(params)
    for name in names:
        assert as_adapter(Shift(name)).identity(jax.tree.map(jnp.asarray, params)).keys() == {f"shift:{name}"}


@pytest.mark.parametrize(
    "make", [lambda: Shift(1), lambda: IA3(None), lambda: LoRA(b"w"), lambda: Shift("a") + "b",
             lambda: Adapter(["a"]), lambda: Adapter((None,)), lambda: Shift("a") + None]
)  # fmt: skip
def test_parts_are_parts_and_paths_are_texts(make):
    with pytest.raises(TypeError, match="expected (a string|IA3)"):
        make()


def test_a_list_of_parts_is_hashable():
    assert hash(Adapter([Shift("a")])) == hash(as_adapter(Shift("a")))
