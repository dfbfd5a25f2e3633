"""The covariance within tasks: pooled, shrunk, and never singular."""

import numpy as np
import pytest

from jaxopt_lite.specialists.routers.covariance import means, shrinkage, whitening

RNG = np.random.default_rng(0)


def test_means_and_counts():
    mean, count = means(np.array([[1.0, 2], [3, 4], [5, 6]]), np.array([2, 0, 2]), 4)
    assert mean.tolist() == [[3, 4], [0, 0], [3, 4], [0, 0]] and count.tolist() == [1, 0, 2, 0]


def test_the_shrinkage_is_that_of_the_paper():
    """Its estimators m, d², b̄² written out, one outer product at a time; n centred rows stand for n − 1 free ones."""
    z = RNG.normal(size=(30, 4)) @ RNG.normal(size=(4, 4))
    n, d = z.shape
    s = z.T @ z / n
    m = np.trace(s) / d
    distance = np.sum((s - m * np.eye(d)) ** 2) / d
    noise = sum(np.sum((np.outer(row, row) - s) ** 2) / d for row in z) / n**2
    assert shrinkage(z, n) == pytest.approx(min(noise, distance) / distance, rel=1e-12)


def test_the_share_falls_with_the_number_of_inputs():
    mixing = RNG.normal(size=(10, 10))
    few, many = (shrinkage(RNG.normal(size=(n, 10)) @ mixing, n) for n in (15, 20_000))
    assert 0 < many < 0.01 < few <= 1
    assert shrinkage(np.zeros((5, 3)), 5) == 1


@pytest.mark.parametrize("units", [1.0, 1e6])
def test_units_do_not_matter(units):
    """Whitened inputs are the same when a feature is measured in other units."""
    x, index = RNG.normal(size=(40, 6)), np.arange(40) % 4
    scale = np.array([units, 1, 1, 1 / units, 1, 1])
    one, other = whitening(x, index, 4), whitening(x * scale, index, 4)
    a, b = ((y - w.center) @ w.matrix for y, w in ((x, one), (x * scale, other)))
    np.testing.assert_allclose(a @ a.T, b @ b.T, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n", [3, 10, 200])
def test_singular_covariances_are_whitened(n):
    """More features than inputs, a constant feature, and one that is there twice."""
    x = RNG.normal(size=(n, 20))
    x[:, 3], x[:, 5] = 2.0, x[:, 4]
    space = whitening(x, np.zeros(n, int), 1)
    assert np.isfinite(space.matrix).all() and np.linalg.matrix_rank(space.matrix) == 20


def test_tasks_of_one_input_tell_nothing():
    with pytest.raises(ValueError, match="5 inputs of 5 tasks do not vary"):
        whitening(RNG.normal(size=(5, 2)), np.arange(5), 5)
