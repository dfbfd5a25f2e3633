"""LDA: its scores, and that a specialist who joins moves no other's score and takes only what it wins."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import LDA, Geometry, calibrate, route
from tests.specialists.spaces import as_tasks, clouds, library_at, plane

RNG = np.random.default_rng(0)


def geometry_of(d: int, dtype=np.float32, threshold: float = np.inf) -> Geometry:
    whiten = np.linalg.qr(np.random.default_rng(d).normal(size=(d, d)))[0] * np.linspace(0.5, 2, d)
    arrays = np.linspace(-1, 1, d), whiten, threshold, 1.0
    return Geometry(*(jnp.asarray(array, dtype) for array in arrays), fingerprint=plane(d).fingerprint)


@pytest.mark.parametrize(("dtype", "accuracy"), [(np.float32, 2e-4), (np.float64, 1e-12)])
def test_scores_are_distances(dtype, accuracy):
    """Against −½ dᵀ ((1 + 1/n) Σ)⁻¹ d, by NumPy."""
    geometry, mean, count = geometry_of(6, dtype), RNG.normal(size=(9, 6)), RNG.integers(1, 50, 9)
    x = RNG.normal(size=(20, 6))
    whiten = np.asarray(geometry.whiten, np.float64)
    sigma = np.linalg.inv(whiten @ whiten.T)
    expected = np.empty((20, 9))
    for t in range(9):
        covariance, difference = (1 + 1 / count[t]) * sigma, x - mean[t]
        expected[:, t] = -0.5 * np.sum(difference * np.linalg.solve(covariance, difference.T).T, axis=1)
    score = LDA.at(mean, count, geometry).scores(x.astype(dtype))
    np.testing.assert_allclose(score, expected, rtol=accuracy, atol=accuracy)


def test_with_equal_counts_it_is_the_textbook():
    """The linear discriminants xᵀ Σ⁻¹ μ − ½ μᵀ Σ⁻¹ μ, up to a constant per input and the factor n / (n + 1)."""
    geometry, mean, x = geometry_of(4, np.float64), RNG.normal(size=(5, 4)), RNG.normal(size=(7, 4))
    inverse = np.asarray(geometry.whiten @ geometry.whiten.T)
    textbook = x @ inverse @ mean.T - 0.5 * np.sum(mean @ inverse * mean, axis=1)
    score = np.asarray(LDA.at(mean, np.full(5, 9), geometry).scores(x)) * 10 / 9
    difference = score - textbook
    np.testing.assert_allclose(difference, np.broadcast_to(difference[:, :1], difference.shape), atol=1e-12)


@pytest.mark.parametrize("d", [1, 64])
def test_a_specialist_that_joins_moves_no_score(d):
    """To the bit, in batches of several sizes, across tiles; also for `Library.add`."""
    base, geometry = plane(d), geometry_of(d)
    mean, count = RNG.normal(size=(300, d)), RNG.integers(1, 99, 300)
    library = library_at(base, mean, count)
    whole, mean, count = LDA.of(library, geometry), *map(np.asarray, (library.profile.mean, library.profile.count))
    parts = {size: LDA.at(mean[:size], count[:size], geometry) for size in (1, 2, 255, 256, 257)}
    for batch, sizes in ((1, (1, 2, 257)), (7, (255, 256)), (65, (1, 256, 257))):
        x = RNG.normal(size=(batch, d)).astype(np.float32)
        score = np.asarray(whole.scores(x))
        for size in sizes:
            assert np.array_equal(parts[size].scores(x), score[:, :size]), (batch, size)
    joined = library[:70].add(library[[200]])
    assert np.array_equal(LDA.of(joined, geometry).scores(x), score[:, [*range(70), 200]])


@pytest.mark.parametrize("step", [14, pytest.param(1, marks=pytest.mark.slow)])
def test_a_specialist_that_joins_takes_only_what_it_wins(step):
    """No score moves, and a route stays or leads to a new one; the base may lose inputs and gets none."""
    geometry = geometry_of(17, threshold=20.0)
    mean, count = RNG.normal(size=(71, 17)).astype(np.float32), RNG.integers(1, 99, 71)
    x = 2 * RNG.normal(size=(400, 17)).astype(np.float32)
    before, score = np.full(400, -1), np.zeros((400, 0))
    for size in range(1, 72, step):
        router, known = LDA.at(mean[:size], count[:size], geometry), score.shape[1]
        index, now = np.asarray(router(x)), np.asarray(router.scores(x))
        assert np.array_equal(now[:, :known], score)
        score = now
        old = index < known
        assert np.array_equal(index[old], before[old])
        before = index
    assert 0 < (before == -1).sum() < 400


@pytest.mark.parametrize("spacing", [30, 300, 3_000, 30_000])
def test_tasks_that_are_far_apart(spacing):
    """In units of the spread within them: novelties in float32 against NumPy in float64, and the fallback."""
    rng, d, size = np.random.default_rng(1), 16, 40
    mixing = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.linspace(0.3, 3, d)
    at = spacing * rng.normal(size=(size, d)) @ mixing
    x, new = clouds(at, 100, 0, mixing), clouds(at, 50, 1, mixing).reshape(-1, d)
    geometry = calibrate(plane(d), as_tasks(x), fallback=0.05)
    mean = x.mean(axis=1, dtype=np.float64).astype(np.float32)
    router = LDA.at(mean, np.full(size, 100), geometry)
    own = np.repeat(np.arange(size), 50)
    difference = (new.astype(float) - mean[own]) @ np.asarray(geometry.whiten, float)
    expected = 0.5 * 100 / 101 * np.sum(difference**2, axis=1)
    novelty = np.asarray(router.novelty(new))
    np.testing.assert_allclose(novelty, expected, rtol=1e-5 + 3e-7 * spacing)
    assert np.array_equal(novelty, -np.asarray(router.scores(new)).max(axis=1))
    index = np.asarray(router(new))
    assert np.array_equal(index[index >= 0], own[index >= 0])
    assert 0.02 < np.mean(index == -1) < 0.07


def test_few_examples_are_neither_favoured_nor_slighted():
    """A task known by two inputs among one known by a thousand, drawn 100 times: inputs of either find their own.

    By distances alone, c = 1, 38% of the inputs of the former would go to the latter.
    """
    d, draws, geometry = 20, 100, Geometry(jnp.zeros(20), jnp.eye(20), jnp.inf, jnp.ones(()), "")
    truth, wrong = np.stack([np.zeros(d), np.full(d, 0.8)]), []
    for _ in range(draws):
        mean = truth + RNG.normal(size=(2, d)) / np.sqrt([[2], [1000]])
        x = np.repeat(truth, 50, axis=0) + RNG.normal(size=(100, d))
        index = np.asarray(LDA.at(mean, np.array([2, 1000]), geometry)(x))
        wrong.append((index != np.repeat([0, 1], 50)).reshape(2, 50).mean(axis=1))
    few, many = np.mean(wrong, axis=0)
    assert few < 0.17 and many < 0.17


def test_unknown_tasks_are_never_chosen():
    """No examples, or a mean that is not finite."""
    mean = np.array([[0, 0], [0, 0], [np.nan, 0], [3, 3]])
    router = LDA.at(mean, np.array([0, 5, 5, np.inf]), geometry_of(2))
    assert route(router, np.zeros((1, 2)), 4).index.tolist() == [[1, -1, -1, -1]]
    assert np.isfinite(route(router, np.zeros((1, 2)), 4).weight).all()


def test_more_features_than_inputs():
    """Their covariance is singular; shrunk it is not, and far tasks are told apart."""
    mean = 3 * RNG.normal(size=(4, 60))
    base = plane(60)
    geometry = calibrate(base, as_tasks(clouds(mean, 8)), fallback=0.1)
    router = LDA.at(clouds(mean, 8).mean(axis=1), np.full(4, 8), geometry)
    index = np.asarray(router(clouds(mean, 50, seed=1).reshape(-1, 60))).reshape(4, 50)
    assert np.mean(index == np.arange(4)[:, None]) > 0.8 and not ((index != np.arange(4)[:, None]) & (index >= 0)).any()


def test_what_does_not_fit_is_refused():
    library = library_at(plane(3, "other"), np.eye(3))
    with pytest.raises(ValueError, match="not of 'other'"):
        LDA.of(library, geometry_of(3))
    with pytest.raises(ValueError, match=r"shape \(2, 4\); the geometry is of 3"):
        LDA.at(np.zeros((2, 4)), np.ones(2), geometry_of(3))
    with pytest.raises(ValueError, match=r"\(1, 4\); expected \[B, 3\].*LDA"):
        LDA.at(np.zeros((2, 3)), np.ones(2), geometry_of(3))(np.zeros((1, 4)))


@pytest.mark.parametrize("count", [[5, 5], [5] * 4, 5, [[5, 5, 5]], []])
def test_there_is_a_count_for_each_mean(count):
    """With one too few, the last specialist would never be chosen."""
    with pytest.raises(ValueError, match=r"count has shape .*; expected \(3,\), one for each mean"):
        LDA.at(np.ones((3, 2)), np.array(count), geometry_of(2))


def test_means_and_counts_are_numbers():
    for mean, count in (([["a", "b"]], [1]), (np.ones((1, 2)), [True]), (np.ones((1, 2), bool), [1]), ([[1j, 1]], [1])):
        with pytest.raises(TypeError, match="(mean|count) is of .*; expected real numbers"):
            LDA.at(mean, count, geometry_of(2))


def test_means_that_change_later_change_no_router():
    mean, count = np.arange(6, dtype=np.float32).reshape(3, 2), np.full(3, 9.0, np.float32)
    router, expected = LDA.at(mean, count, geometry_of(2)), LDA.at(mean.copy(), count.copy(), geometry_of(2))
    mean[:], count[:] = 7, 0
    assert np.array_equal(router.weight, expected.weight) and np.array_equal(router.bias, expected.bias)
