"""Arrow: the direction in which a LoRA changes its inputs most."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import Adapter, Arrow, Base, Card, Library, LoRA, Profile, Shift

pytestmark = pytest.mark.hardly_optimized

RNG = np.random.default_rng(0)
PARAMS = {"w1": np.zeros((6, 5)), "w2": np.zeros((5, 4)), "b": np.zeros(5)}


def library_of(adapter: Adapter, size: int = 3) -> Library:
    """Specialists with random parameters."""
    base = Base(PARAMS, lambda params, x: (x @ params["w1"] + params["b"]) @ params["w2"], lambda params, x: x)
    a = jax.tree.map(lambda leaf: RNG.normal(size=(size, *leaf.shape)), adapter.identity(PARAMS))
    profile = Profile(np.ones(size), np.zeros((size, 6)), a, np.zeros((size, 6)))
    return Library(base, a, profile, adapter, tuple(Card(str(k)) for k in range(size)))


def test_the_direction_is_the_singular_vector_of_the_product():
    library = library_of(Adapter((LoRA("w1", rank=2, alpha=7),)))
    x = RNG.normal(size=(8, 6))
    down, up = library.parameters["down:w1"], library.parameters["up:w1"]
    expected = [
        np.abs(x @ np.linalg.svd(np.asarray(d) @ np.asarray(u))[0][:, 0]) for d, u in zip(down, up, strict=True)
    ]
    np.testing.assert_allclose(Arrow.of(library).scores(x), np.stack(expected, axis=1), rtol=1e-10)


def test_factors_in_half_precision():
    library = library_of(Adapter((LoRA("w1", rank=2),)))
    x = RNG.normal(size=(8, 6))
    for dtype in (jnp.float16, jnp.bfloat16):
        half = jax.tree.map(lambda leaf, dtype=dtype: jnp.asarray(leaf, dtype), library.parameters)
        same = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), half)
        scores = [Arrow.of(replace(library, parameters=each)).scores(x) for each in (half, same)]
        np.testing.assert_allclose(*scores, atol=1e-5)


def test_factors_do_not_matter():
    """Another factorisation of the same product has the same scores, and none has none."""
    library, mix = library_of(Adapter((LoRA("w1", rank=2),))), RNG.normal(size=(2, 2))
    other = {"down:w1": library.parameters["down:w1"] @ mix, "up:w1": np.linalg.inv(mix) @ library.parameters["up:w1"]}
    x = RNG.normal(size=(8, 6))
    score = Arrow.of(library).scores(x)
    again = Library(library.base, other, library.profile, library.adapter, library.cards)
    np.testing.assert_allclose(Arrow.of(again).scores(x), score, rtol=1e-9)
    empty = Library(library.base, jax.tree.map(jnp.zeros_like, other), library.profile, library.adapter, library.cards)
    assert not Arrow.of(empty).scores(x).any()


def test_the_matrix_is_chosen_where_there_are_two():
    library = library_of(LoRA("w*", rank=2) + Shift("b"))
    with pytest.raises(ValueError, match="are: w1, w2"):
        Arrow.of(library)
    assert Arrow.of(library, "w2").width == 5
    with pytest.raises(ValueError, match=r"expected \[B, 5\]"):
        Arrow.of(library, "w2")(np.zeros((2, 6)))
    with pytest.raises(ValueError, match="are: w1, w2"):
        Arrow.of(library, "b")


def test_no_lora_is_refused():
    with pytest.raises(ValueError, match="are: none. Its parameters are shift:b"):
        Arrow.of(library_of(Adapter((Shift("b"),))))
