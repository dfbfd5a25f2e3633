"""Routing: the best specialists, the fallback, and that a specialist who joins moves nothing."""

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import (
    LDA,
    TIES,
    Centroid,
    Geometry,
    RegMean,
    Router,
    merge,
    nearest,
    route,
    tuned_parameters,
    window_loss,
)
from jaxopt_lite.specialists.language import language_model, windows
from tests.specialists.spaces import library_at, plane

pytestmark = pytest.mark.hardly_optimized

RNG = np.random.default_rng(0)


def random_router(size: int, d: int = 5, dtype=np.float32) -> Centroid:
    return Centroid.at(np.random.default_rng(size).normal(size=(size, d)).astype(dtype))


@pytest.mark.parametrize(
    ("k", "dtype"),
    [
        (1, np.float32),
        pytest.param(1, np.float64, marks=pytest.mark.slow),
        pytest.param(3, np.float32, marks=pytest.mark.slow),
        (3, np.float64),
    ],
)
def test_the_best_are_those_of_a_full_sort(k, dtype):
    """More specialists than a tile holds; against a stable sort of all scores."""
    router, features = random_router(700, dtype=dtype), RNG.normal(size=(40, 5)).astype(dtype)
    score = np.asarray(router.scores(features))
    order = np.argsort(-score, axis=1, kind="stable")[:, :k]
    index, weight = route(router, features, k)
    assert np.array_equal(np.asarray(index).reshape(40, k), order)
    if k > 1:
        e = np.exp(np.take_along_axis(score, order, 1) - score.max(axis=1, keepdims=True))
        np.testing.assert_allclose(weight, e / e.sum(axis=1, keepdims=True), rtol=1e-5)
        assert weight.dtype == dtype


def test_equal_scores_go_to_the_first():
    router = Centroid.at(np.ones((600, 2), np.float32))
    assert route(router, np.ones((1, 2), np.float32), 3).index.tolist() == [[0, 1, 2]]
    assert router(np.ones((1, 2), np.float32)).tolist() == [0]


def test_weights_follow_the_temperature():
    base = random_router(6)
    features = RNG.normal(size=(10, 5)).astype(np.float32)
    sharp, flat = (
        np.asarray(route(Centroid(**{**vars(base), "temperature": np.float32(temperature)}), features, 2).weight)
        for temperature in (1e-6, 1e3)
    )
    assert sharp[:, 0].min() > 0.9 and abs(flat - 0.5).max() < 1e-3


def test_what_is_routed_can_be_applied():
    """A route goes into `Library.apply` as it is, for any k; here number t adds t + 1 to the sum of an input."""
    base = plane(3)
    library = library_at(base, np.eye(3))
    x = np.array([[5, 1, 0], [0, 1, 5], [np.nan, 0, 0]], np.float32)
    router = Centroid.of(library)
    outputs = np.asarray(library.apply(x, router(base.embed(x))))
    np.testing.assert_allclose(outputs[:2], [7, 9])
    index, weight = route(router, x, 2)
    expected = x.sum(axis=1) + np.sum((np.asarray(index) + 1) * np.asarray(weight), axis=1)
    np.testing.assert_allclose(np.asarray(library.apply(x, index, weight))[:2], expected[:2], rtol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclid"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_features_go_to_the_base(bad, metric):
    """NaN, infinity, and numbers whose squares overflow; the neighbours in the batch go where they went."""
    router = Centroid.at(np.eye(4, dtype=np.float32) - 0.1, metric=metric)
    features = np.eye(4, dtype=np.float32)[[0, 1, 2]]
    features[1, 1] = bad if metric == "cosine" or np.isnan(bad) else 1e38
    index, weight = map(np.asarray, route(router, features, 2))
    assert index[1].tolist() == [-1, -1] and weight[1].tolist() == [1, 0]
    assert index[[0, 2], 0].tolist() == [0, 2] and np.isfinite(weight).all()
    assert not np.isnan(router.scores(features)).any()


def test_novelty_above_the_threshold_falls_back():
    router = random_router(20)
    features = RNG.normal(size=(50, 5)).astype(np.float32)
    novelty = np.asarray(router.novelty(features))
    np.testing.assert_array_equal(novelty, -np.asarray(router.scores(features)).max(axis=1))
    threshold = np.sort(novelty)[30]
    index = np.asarray(Centroid(**{**vars(router), "threshold": threshold})(features))
    assert np.array_equal(index == -1, novelty > threshold) and (index == -1).sum() == 19


def test_a_specialist_without_a_mean_is_never_chosen():
    mean = np.eye(3, dtype=np.float32)
    mean[1] = np.nan
    router = Centroid.at(mean)
    assert route(router, np.ones((1, 3), np.float32), 3).index.tolist() == [[0, 2, -1]]
    assert route(router, np.ones((1, 3), np.float32), 3).weight.tolist() == [[0.5, 0.5, 0]]


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("size", [0, 1])
def test_none_and_one(size, k):
    """Where there are fewer than k, the base fills up with no weight; where there is none, it answers."""
    router = Centroid.at(np.ones((size, 2), np.float32))
    index, weight = route(router, np.ones((3, 2), np.float32), k)
    expected = [0 if size and place == 0 else -1 for place in range(k)]
    assert np.asarray(index).reshape(3, k).tolist() == [expected] * 3
    assert weight is None if k == 1 else weight.tolist() == [[1, 0, 0, 0]] * 3
    assert router.scores(np.ones((3, 2), np.float32)).shape == (3, size)


def test_no_inputs():
    index, weight = route(random_router(3), np.zeros((0, 5), np.float32), 2)
    assert index.shape == (0, 2) and weight.shape == (0, 2)


def test_other_arguments_are_refused():
    router = random_router(3)
    with pytest.raises(ValueError, match=r"shape \(2, 7\); expected \[B, 5\].*Centroid"):
        route(router, np.zeros((2, 7)))
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        router.scores(np.zeros(5))
    with pytest.raises(ValueError, match="top_k=0"):
        route(router, np.zeros((2, 5)), 0)
    with pytest.raises(ValueError, match="top_k=1.5"):
        route(router, np.zeros((2, 5)), 1.5)  # pyright: ignore[reportArgumentType]
    assert route(router, np.zeros((2, 5)), np.int64(2)).index.shape == (2, 2)
    for features in (np.zeros((2, 5), complex), np.full((2, 5), "a"), np.full((2, 5), None)):
        with pytest.raises(TypeError, match="expected (real|arrays of) numbers"):
            router(features)
    for mean in (np.ones(3), np.ones((2, 2, 2))):
        with pytest.raises(ValueError, match=r"mean has shape .*; expected \[T, d\]"):
            Centroid.at(mean)
    with pytest.raises(ValueError, match=r"bias has shape \(2,\); expected \[3\], one for each row"):
        route(replace(router, bias=router.bias[:2]), np.zeros((2, 5)))


def test_a_router_is_what_it_was_made_of():
    """Arrays that change later, of a router or of features that went in, change no route."""
    mean, features = RNG.normal(size=(3, 5)).astype(np.float32), RNG.normal(size=(9, 5)).astype(np.float32)
    plain = Router(mean, np.zeros(3, np.float32), np.float32(np.inf), np.float32(1))
    centroid = Centroid.at(mean, np.zeros(5, np.float32))
    expected = (features @ mean.T).argmax(axis=1), np.asarray(centroid(features))
    again = features.copy()
    found = plain(again)
    again[:], mean[:] = -again, 1
    assert np.array_equal(found, expected[0]) and np.array_equal(plain(features), expected[0])
    assert np.array_equal(centroid(features), expected[1])


def test_derivatives_are_finite():
    """Also where an input fell back, and where there are fewer specialists than places."""
    router = random_router(3)
    features = np.array([[1.0, 2, 3, 4, 5], [np.nan, 0, 0, 0, 0], [0, 0, 0, 0, 0]], np.float32)

    def total(weight, features):
        changed = Centroid(**{**vars(router), "weight": weight})
        return jnp.sum(jnp.sin(jnp.arange(5.0) * route(changed, features, 5).weight))

    by_weight, by_features = map(np.asarray, jax.jit(jax.grad(total, argnums=(0, 1)))(router.weight, features))
    assert np.isfinite(by_weight).all() and np.isfinite(by_features).all()
    assert np.abs(by_weight).max() > 0 and np.abs(by_features[0]).max() > 0


def test_traced_once():
    """Other numbers of the same shapes do not compile again, and a router passes through `jit` as an argument."""
    traces = []

    @jax.jit
    def go(router, features):
        traces.append(1)
        return route(router, features, 2)

    for seed in range(3):
        mean = np.random.default_rng(seed).normal(size=(4, 5)).astype(np.float32)
        router, features = Centroid.at(mean), RNG.normal(size=(6, 5)).astype(np.float32)
        inside, outside = go(router, features), route(router, features, 2)
        assert np.array_equal(inside.index, outside.index)
    assert len(traces) == 1


@pytest.mark.slow
def test_tens_of_thousands():
    """30,000 specialists and 4,096 inputs: all scores would be 490 MB, and are never there."""
    router, features = random_router(30_000, 64), RNG.normal(size=(4096, 64)).astype(np.float32)
    lowered = jax.jit(lambda r, f: route(r, f, 2)).lower(router, features).compile()
    assert lowered.memory_analysis().temp_size_in_bytes < 64e6
    lowered(router, features)
    start = time.perf_counter()
    index = np.asarray(lowered(router, features).index)
    assert time.perf_counter() - start < 60
    some = features[:64] @ np.asarray(router.weight).T
    assert np.array_equal(index[:64, 0], some.argmax(axis=1))


def test_strict_promotion_stops_nothing():
    """It shows when a program is traced; of what cannot be traced whole the programs are small."""
    base = plane(2)
    library = library_at(base, [[0.0, 0.0], [9.0, 9.0]])
    one, tasks = jnp.float32(1), {name: (np.ones((3, 2), np.float32), np.zeros(3)) for name in library.names}

    def everything(features):
        geometry = Geometry(jnp.zeros(2, jnp.float32), jnp.eye(2, dtype=jnp.float32), one, one, base.fingerprint)
        routers = LDA.of(library, geometry), Centroid.of(library)
        return [
            (route(router, features, top_k=2), router.scores(features), router.novelty(features)) for router in routers
        ]

    jax.clear_caches()  # of what other switches have had traced
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        jax.eval_shape(everything, jnp.zeros((4, 2), jnp.float32))
        for method in (TIES(), RegMean(tasks)):
            assert len(merge(library, method)) == 1
        assert len(tuned_parameters(library, standardize=True)) == len(nearest(library, "t0")) + 1 == 2
        model = language_model("abc" * 50, embed=2, hidden=2, steps=1, length=8, progress=False)
        x = windows("abcd", length=4).x[0]
        assert np.isfinite(window_loss(model.apply(model.params, x), x)) and model.embed(x[None]).shape == (1, 4)
