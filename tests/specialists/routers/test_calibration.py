"""Calibration: the share that falls back falsely is the one asked for, and strangers are caught."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import LDA, Base, Centroid, calibrate, calibrated, route
from jaxopt_lite.specialists.routers import calibration
from jaxopt_lite.specialists.routers.calibration import quantile
from jaxopt_lite.specialists.routers.lda import whitening
from tests.specialists.spaces import as_tasks, clouds, library_at, plane

pytestmark = pytest.mark.hardly_optimized

D = 8
RNG = np.random.default_rng(0)
MIXING = RNG.normal(size=(D, D))
MEAN = 12 * RNG.normal(size=(10, D))
COUNT = 400  # of inputs of a task


@pytest.fixture
def no_temperature(monkeypatch):
    """It is not fitted, which decides no route and takes seconds to compile."""
    monkeypatch.setattr(calibration, "_fitted_temperature", lambda *_: 2.0)


@cache
def known_geometry():
    return calibrate(plane(D), as_tasks(clouds(MEAN, COUNT, 1, MIXING)), fallback=0.05)


@pytest.fixture
def geometry(no_temperature):
    return known_geometry()


def test_the_share_that_falls_back_is_the_one_asked_for(geometry):
    """Tasks apart from each other, of 30 specialists the base never saw; and all of the strangers are caught."""
    mean = 12 * np.random.default_rng(2).normal(size=(30, D))
    router = LDA.of(library_at(plane(D), clouds(mean, 200, 3, MIXING).mean(axis=1), 200), geometry)
    index = np.asarray(router(clouds(mean, 500, 4, MIXING).reshape(-1, D))).reshape(30, 500)
    assert abs(np.mean(index == -1) - 0.05) < 0.015
    assert np.mean(index == np.arange(30)[:, None]) > 0.9
    strangers = clouds(40 * np.random.default_rng(5).normal(size=(50, D)), 20, 6, MIXING).reshape(-1, D)
    assert np.mean(np.asarray(router(strangers)) == -1) > 0.95


def test_one_specialist_falls_back_as_seldom_as_many(geometry):
    router = LDA.at(MEAN[:1], np.array([1000]), geometry)
    index = np.asarray(router(clouds(MEAN[:1], 4000, 7, MIXING)[0]))
    assert abs(np.mean(index == -1) - 0.05) < 0.015


@pytest.mark.usefixtures("no_temperature")
def test_tasks_that_overlap_fall_back_less():
    mean = RNG.normal(size=(10, D)) @ MIXING * 0.3
    geometry = calibrate(plane(D), as_tasks(clouds(mean, COUNT, 1, MIXING)), fallback=0.1)
    index = np.asarray(LDA.at(mean, np.full(10, COUNT), geometry)(clouds(mean, COUNT, 2, MIXING).reshape(-1, D)))
    assert np.mean(index == -1) < 0.1


def test_the_covariance_is_that_of_the_clouds(geometry):
    """Of all inputs, not of a half of them."""

    def matrix(count):
        features = clouds(MEAN, count, 1, MIXING).reshape(-1, D).astype(np.float64)
        return whitening(features, np.repeat(np.arange(10), count), 10).matrix

    whitened = MIXING @ matrix(3000)
    np.testing.assert_allclose(whitened.T @ whitened, np.eye(D), atol=0.05)
    np.testing.assert_allclose(geometry.whiten, matrix(COUNT), rtol=1e-5, atol=1e-6)


def test_the_temperature_makes_scores_log_probabilities():
    """Of clouds with variance 4 the log-likelihood ratio is a quarter of that of −½ squared distances."""
    mean = np.array([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0]])
    x = clouds(mean, 2500, 1, 2 * np.eye(2)).reshape(-1, 2)  # as many as one half of those below
    router = calibrated(Centroid.at(mean.astype(np.float32), metric="euclid"), x, np.repeat(np.arange(3), 2500))
    assert abs(float(router.temperature) - 4) < 0.3
    index, weight = route(router, x, 2)
    right = np.asarray(index) == np.repeat(np.arange(3), 2500)[:, None]
    assert abs(np.mean(np.asarray(weight)[:, 0]) - right[:, 0].sum() / right.sum()) < 0.02
    whole = calibrate(plane(2), as_tasks(clouds(mean, 5000, 1, 2 * np.eye(2))), fallback=0)
    assert abs(float(whole.temperature) - 1) < 0.1 and np.isinf(whole.threshold)


@pytest.mark.usefixtures("no_temperature")
def test_any_router_can_be_calibrated():
    known = clouds(MEAN, 200, 1).reshape(-1, D)
    router = Centroid.at(MEAN.astype(np.float32), metric="euclid")
    fitted = calibrated(router, known, np.repeat(np.arange(10), 200), fallback=0.05)
    share = np.mean(np.asarray(fitted(clouds(MEAN, 200, 2).reshape(-1, D))) == -1)
    assert abs(share - 0.05) < 0.02
    assert np.mean(np.asarray(fitted(1000 + known)) == -1) == 1
    assert fitted.temperature == 2 and calibrated(router, known, fallback=0.05).temperature == 1
    with pytest.raises(ValueError, match="from 0 to 9"):
        calibrated(router, known, np.full(2000, 10))


def test_the_quantile_is_exceeded_by_the_asked_share():
    """Over many draws of 99 and one more, by a hundredth of them: exactly, whatever the distribution."""
    draws = np.random.default_rng(0).standard_cauchy(size=(20_000, 100))
    thresholds = np.array([quantile(row[:99], 0.01) for row in draws])
    assert np.array_equal(thresholds, draws[:, :99].max(axis=1))
    assert abs(np.mean(draws[:, 99] > thresholds) - 0.01) < 0.003
    assert quantile(np.arange(999.0), 0.1) == 899


@pytest.mark.usefixtures("no_temperature")
def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(ValueError, match="at least 9999 held-out inputs, and there are 4000"):
        calibrate(plane(D), as_tasks(clouds(MEAN, COUNT, 1, MIXING)), fallback=1e-4)
    base, tasks = plane(2), as_tasks(clouds(np.zeros((3, 2)), 20))
    with pytest.raises(ValueError, match="fallback=1"):
        calibrate(base, tasks, fallback=1)
    with pytest.raises(ValueError, match="do not vary within"):
        calibrate(base, as_tasks(np.ones((3, 20, 2), np.float32)))
    with pytest.raises(ValueError, match="0 tasks with no inputs"):
        calibrate(base, {})
    tasks["t1"][0][3, 1] = np.nan
    with pytest.raises(ValueError, match="1 inputs, the first of task 't1', hold NaN"):
        calibrate(base, tasks)
    blind = Base({"w": jnp.ones(2)}, lambda params, x: params["w"] @ x)
    with pytest.raises(ValueError, match="no features"):
        calibrate(blind, tasks)


@pytest.mark.usefixtures("no_temperature")
def test_inputs_without_weight_do_not_count():
    x = clouds(MEAN, COUNT, 1)
    spoilt = np.concatenate([x, np.full((10, 5, D), 1e6, np.float32)], axis=1)
    weight = np.r_[np.ones(COUNT), np.zeros(5)]
    tasks = {name: (x, y, weight) for name, (x, y) in as_tasks(spoilt).items()}
    left, right = calibrate(plane(D), tasks, fallback=0.05), calibrate(plane(D), as_tasks(x), fallback=0.05)
    assert np.array_equal(left.whiten, right.whiten) and left.threshold == right.threshold


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (np.array([True] * 4), TypeError), (np.ones(4), TypeError), (["a"] * 4, TypeError), ([0, 1, 2, 3], ValueError),
        ([0, 1, 0, -1], ValueError), ([0, 1], ValueError), (1, ValueError), ([[0, 1, 0, 1]], ValueError),
    ],
)  # fmt: skip
def test_an_index_is_of_whole_numbers_in_range(index, error):
    router = Centroid.at(np.eye(2, 3, dtype=np.float32))
    with pytest.raises(error, match="index.*expected .*whole numbers"):
        calibrated(router, np.ones((4, 3), np.float32), index, fallback=0.5)


def test_features_that_jax_would_change_are_refused():
    """As they are by the router's scores: without 64 bits, 2³² + 1 would count as 1."""
    features = np.full((200, 2), 2**32 + 1)
    with jax.enable_x64(False), pytest.raises(ValueError, match="a number that is too large for int32"):
        calibrated(Centroid.at(np.eye(2, dtype=np.float32)), features)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_set_no_threshold(bad):
    """They would be more novel than anything, and the threshold infinite."""
    features = np.ones((4, 3), np.float32)
    features[1, 2] = bad
    with pytest.raises(ValueError, match="features hold NaN or infinity"):
        calibrated(Centroid.at(np.eye(2, 3, dtype=np.float32)), features, fallback=0.5)
