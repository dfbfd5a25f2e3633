"""Tiles: what is computed of a row does not depend on the other rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists.tiles import by_tiles, filled, product, squared_distances, tiled

SIZES = [1, 3, 70, 255, 256, 257, 513]  # each has a program that fills it up


@pytest.mark.parametrize(("batch", "d"), [(1, 17), (7, 64), pytest.param(33, 3, marks=pytest.mark.slow)])
def test_rows_are_the_same_among_any_number(batch, d):
    """To the bit; `x` alone would differ between sizes, in blocks and in what a loop of one step becomes."""
    rng = np.random.default_rng(d)
    rows, x = rng.normal(size=(600, d)).astype(np.float32), rng.normal(size=(batch, d)).astype(np.float32)
    f = jax.jit(lambda rows: by_tiles(lambda tile: product(tile, x.T) - jnp.sum(tile**2, axis=1, keepdims=True), rows))
    of = lambda rows: np.asarray(f(filled(rows)))[: len(rows)]
    whole = of(rows)
    np.testing.assert_allclose(whole, rows @ x.T - np.sum(rows**2, axis=1, keepdims=True), rtol=1e-4, atol=1e-4)
    for size in SIZES:
        assert np.array_equal(of(rows[:size]), whole[:size]), size


@pytest.mark.parametrize("d", [1, pytest.param(16, marks=pytest.mark.slow), 33])
def test_squared_distances(d):
    """Without cancellation; to the bit the same among any number of rows; with derivatives, also at zero."""
    rng = np.random.default_rng(d)
    a, rows = (1e4 + rng.normal(size=(n, d)).astype(np.float32) for n in (7, 600))
    expected = np.sum((a[:, None].astype(float) - rows) ** 2, axis=2)
    f = jax.jit(lambda rows: by_tiles(lambda tile: squared_distances(a, tile).T, rows))
    whole = np.asarray(f(filled(rows)))[:600]
    np.testing.assert_allclose(whole.T, expected, rtol=1e-5)
    for size in SIZES:
        assert np.array_equal(np.asarray(f(filled(rows[:size])))[:size], whole[:size]), size
    slope = np.asarray(jax.jit(jax.grad(lambda a: jnp.sum(squared_distances(a, a[:3]))))(a))
    np.testing.assert_allclose(slope[3:], 2 * np.sum(a[3:, None] - a[:3], axis=1), rtol=1e-5, atol=1e-5)
    assert np.isfinite(slope).all()


def test_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    rows, x, order = rng.normal(size=(512, 17)), rng.normal(size=(17, 5)), rng.permutation(512)
    f = jax.jit(lambda rows: by_tiles(lambda tile: product(tile, x), rows))
    assert np.array_equal(f(rows[order]), np.asarray(f(rows))[order])


def test_never_a_single_tile_and_never_a_part_of_one():
    for size, count in [(0, 2), (1, 2), (512, 2), (513, 3), (768, 3)]:
        rows = filled({"a": jnp.ones(size), "b": jnp.ones((size, 2))}, value=-1.0)
        shapes = jax.tree.map(jnp.shape, tiled(rows))
        assert shapes == {"a": (count, 256), "b": (count, 256, 2)}
        assert rows["a"].tolist() == [1.0] * size + [-1.0] * (256 * count - size)
