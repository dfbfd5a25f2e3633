"""Centroid: cosine and distance, centered."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import LDA, Base, Centroid, Geometry, calibrate, calibrated, route
from jaxopt_lite.specialists.routers import calibration
from tests.specialists.spaces import library_at, plane

pytestmark = pytest.mark.hardly_optimized

RNG = np.random.default_rng(0)
MEAN, X = RNG.normal(size=(6, 4)), RNG.normal(size=(9, 4))


def test_cosine_and_distance():
    center = RNG.normal(size=4)
    m, x = MEAN - center, X - center
    cosine = x @ m.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(m, axis=1)
    np.testing.assert_allclose(Centroid.at(MEAN, center).scores(X), cosine, rtol=1e-12, atol=1e-14)
    square = np.sum((X[:, None] - MEAN) ** 2, axis=2)
    np.testing.assert_allclose(Centroid.at(MEAN, center, "euclid").scores(X), -0.5 * square, rtol=1e-12, atol=1e-12)


def test_distances_far_from_the_center():
    """In float32, of tasks that are close to each other: the squares of the lengths would cancel."""
    mean, x = ((1000 + 0.1 * a).astype(np.float32) for a in (MEAN, X))
    square = np.sum((x[:, None].astype(float) - mean) ** 2, axis=2)
    np.testing.assert_allclose(Centroid.at(mean, metric="euclid").scores(x), -0.5 * square, rtol=1e-6)


@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_features_in_half_precision_are_compared_in_float32(kind):
    """Squares of distances were infinite, so that no task was chosen; and scores so close were rounded to ties."""
    mean = np.array([[0, 0], [2, 0], [400, 0]])
    near = np.array([[1.5, 0], [-300, 0], [300, 0], [0.5, 0]])
    assert Centroid.at(jnp.asarray(mean, kind), metric="euclid")(jnp.asarray(near, kind)).tolist() == [1, 0, 2, 0]
    tasks = {f"{k}": (m + RNG.normal(size=(60, 2)) * [1 if k < 2 else 100, 1],) for k, m in enumerate(mean)}
    base = Base({"b": np.zeros(2)}, lambda params, x: x, features=lambda params, x: x.astype(kind))
    geometry = calibrate(base, tasks, fallback=0)
    far = np.array([[-3e4, 0], [3e4, 0]])  # in units of the spread, by far more than float16 can square
    assert LDA.at(mean, np.full(3, 60), geometry)(jnp.asarray(far, kind)).tolist() == [0, 2]


def test_the_center_of_many_specialists_in_half_precision():
    """A sum of 400 means of 200 is infinite in float16."""
    mean = 200 + np.arange(400)[:, None] % 8 * [1, -1]
    router = Centroid.of(library_at(plane(2, dtype=np.float16), mean), metric="euclid")
    assert router.center.tolist() == [203.5, 196.5]
    assert router(jnp.asarray(mean[:8], jnp.float16)).tolist() == list(range(8))


def test_close_tasks_are_told_apart_in_half_precision():
    """With the geometry in bfloat16, two thirds of the inputs went to their own task."""
    mean, spread = np.array([0, 2, 30000.0])[:, None] * np.ones(8), np.array([1, 1, 200.0])
    tasks = {f"{k}": (mean[k] + spread[k] * RNG.normal(size=(300, 8)),) for k in range(3)}
    base = Base({"b": np.zeros(())}, lambda params, x: x, features=lambda params, x: x.astype(jnp.bfloat16))
    router = LDA.at(mean, np.full(3, 300), calibrate(base, tasks))
    index = router(base.embed(np.concatenate([x for (x,) in tasks.values()])))
    assert np.mean(np.asarray(index) == np.repeat(np.arange(3), 300)) > 0.95


@pytest.mark.parametrize(
    ("center", "error", "message"),
    [
        (np.ones(3), ValueError, r"center has shape \(3,\); expected \(4,\)"),
        (1j * np.ones(4), TypeError, "center is of"),
    ],
)
def test_a_center_is_a_mean(center, error, message):
    with pytest.raises(error, match=message):
        Centroid.at(MEAN, center)


def test_the_center_is_the_geometry_s_or_the_mean_s():
    library = library_at(plane(4), MEAN)
    geometry = Geometry(np.ones(4), np.eye(4), np.zeros(()), np.ones(()), library.base.fingerprint)
    assert np.array_equal(Centroid.of(library, geometry).center, np.ones(4))
    np.testing.assert_allclose(Centroid.of(library).center, MEAN.mean(axis=0), rtol=1e-6)
    assert Centroid.of(library[:0]).scores(X).shape == (9, 0)
    with pytest.raises(ValueError, match="not for 'other'"):
        Centroid.of(library_at(plane(4, "other"), MEAN), geometry)


@pytest.mark.parametrize("metric", ["cosine", "euclid"])
def test_a_specialist_of_no_inputs_is_never_chosen(metric):
    """Its mean is all zeros, which would be nearer than a task in the opposite direction."""
    mean = np.array([[3.0, 1.0], [0.0, 0.0], [3.0, -1.0]])
    router = Centroid.of(library_at(plane(2), mean, count=np.array([5, 0, 5])), metric=metric)
    assert router.center.tolist() == [3, 0]
    assert jnp.isneginf(router.scores(np.array([[0.0, 0.0]], np.float32))[:, 1]).all()
    alone = Centroid.of(library_at(plane(2), mean, count=np.zeros(3)), metric=metric)
    assert jnp.isneginf(alone.scores(X[:, :2])).all() and jnp.isfinite(alone.center).all()


def test_zero_and_huge_features_have_a_direction_or_none():
    x = np.array([[0, 0], [1e30, 0], [0, 1e-30]], np.float32)
    router = Centroid.at(np.eye(2, dtype=np.float32))
    assert router.scores(x).tolist() == [[0, 0], [1, 0], [0, 1]]
    assert jnp.isfinite(jax.grad(lambda x: jnp.sum(router.scores(x) ** 2))(x[:1])).all()


def test_another_metric_is_refused():
    with pytest.raises(ValueError, match="'cosine' or 'euclid'"):
        Centroid.at(MEAN, metric="angle")  # pyright: ignore[reportArgumentType]


def test_whole_numbers_are_means_too(monkeypatch):
    """A temperature of whole numbers would be 0. What it is fitted to is the same, so that it need not be fitted."""
    monkeypatch.setattr(calibration, "_fitted_temperature", lambda *_: 0.4)
    mean, index = np.array([[3, 0], [0, 1]]), np.arange(40) % 2
    features = mean[index] + 0.3 * np.random.default_rng(1).standard_normal((40, 2))
    by = [calibrated(Centroid.at(given), features, index, fallback=0) for given in (mean, mean.astype(float))]
    assert by[0].weight.dtype == by[1].weight.dtype == float
    np.testing.assert_allclose(by[0].scores(features), by[1].scores(features), rtol=1e-12)
    assert by[0].temperature == by[1].temperature == pytest.approx(0.4, rel=1e-6)
    assert np.isfinite(route(by[0], features, 2).weight).all()
