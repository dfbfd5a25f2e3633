"""LDA: its scores, and that a specialist who joins moves no other's score and takes only what it wins."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxopt_lite.specialists import LDA, Geometry, calibrate, route, save_base
from jaxopt_lite.specialists.routers import calibration
from jaxopt_lite.specialists.routers.lda import means, shrinkage, whitening
from jaxopt_lite.specialists.tensor_files import encode
from tests.specialists.spaces import as_tasks, clouds, library_at, plane

RNG = np.random.default_rng(0)


def geometry_of(d: int, dtype=np.float32, threshold: float = np.inf) -> Geometry:
    whiten = np.linalg.qr(np.random.default_rng(d).normal(size=(d, d)))[0] * np.linspace(0.5, 2, d)
    arrays = np.linspace(-1, 1, d), whiten, threshold, 1.0
    return Geometry(*(jax.device_put(np.asarray(array, dtype)) for array in arrays), fingerprint=plane(d).fingerprint)


@pytest.fixture
def no_temperature(monkeypatch):
    """A geometry's is not fitted, which decides no route and takes seconds to compile."""
    monkeypatch.setattr(calibration, "_fitted_temperature", lambda *_: 1.0)


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


@pytest.mark.parametrize("d", [pytest.param(1, marks=pytest.mark.slow), 64])
def test_a_specialist_that_joins_moves_no_score(d):
    """To the bit, in batches of several sizes, across tiles; also for `Library.add`."""
    base, geometry = plane(d), geometry_of(d)
    mean, count = RNG.normal(size=(300, d)), RNG.integers(1, 99, 300)
    library = library_at(base, mean, count)
    whole, mean, count = LDA.of(library, geometry), *map(np.asarray, (library.profile.mean, library.profile.count))
    parts = {size: LDA.at(mean[:size], count[:size], geometry) for size in (1, 256, 257)}
    for batch, sizes in ((1, (257,)), (65, (1, 256))):
        x = RNG.normal(size=(batch, d)).astype(np.float32)
        score = np.asarray(whole.scores(x))
        for size in sizes:
            assert np.array_equal(parts[size].scores(x), score[:, :size]), (batch, size)
    joined = library[:70].add(library[[200]])
    assert np.array_equal(LDA.of(joined, geometry).scores(x), score[:, [*range(70), 200]])


@pytest.mark.parametrize("step", [35, pytest.param(1, marks=pytest.mark.slow)])
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


@pytest.mark.usefixtures("no_temperature")
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


@pytest.mark.hardly_optimized
def test_few_examples_are_neither_favored_nor_put_at_a_disadvantage():
    """A task known by two inputs among one known by a thousand, drawn 100 times: inputs of either find their own.

    By distances alone, c = 1, 38% of the inputs of the former would go to the latter.
    """
    d, draws, geometry = 20, 100, Geometry(np.zeros(20), np.eye(20), np.inf, np.ones(()), "")
    truth, wrong = np.stack([np.zeros(d), np.full(d, 0.8)]), []
    for _ in range(draws):
        mean = truth + RNG.normal(size=(2, d)) / np.sqrt([[2], [1000]])
        x = np.repeat(truth, 50, axis=0) + RNG.normal(size=(100, d))
        index = np.asarray(LDA.at(mean, np.array([2, 1000]), geometry)(x))
        wrong.append((index != np.repeat([0, 1], 50)).reshape(2, 50).mean(axis=1))
    few, many = np.mean(wrong, axis=0)
    assert few < 0.17 and many < 0.17


@pytest.mark.hardly_optimized
def test_unknown_tasks_are_never_chosen():
    """No examples, or a mean that is not finite."""
    mean = np.array([[0, 0], [0, 0], [np.nan, 0], [3, 3]])
    router = LDA.at(mean, np.array([0, 5, 5, np.inf]), geometry_of(2))
    assert route(router, np.zeros((1, 2)), 4).index.tolist() == [[1, -1, -1, -1]]
    assert np.isfinite(route(router, np.zeros((1, 2)), 4).weight).all()


@pytest.mark.hardly_optimized
@pytest.mark.usefixtures("no_temperature")
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
    with pytest.raises(ValueError, match="not for 'other'"):
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


# Geometries on disk: as they were, or refused.


BASE = plane(3)
GEOMETRY = Geometry(
    *jax.device_put((np.arange(3.0), np.arange(9.0).reshape(3, 3), np.float32(np.inf), np.float32(2))), BASE.fingerprint
)
ARRAYS = ("center", "whiten", "threshold", "temperature")


def test_it_comes_back_as_it_was(tmp_path):
    path = tmp_path / "geometry.safetensors"
    path.write_bytes(b"older")
    GEOMETRY.save(path)
    again = Geometry.load(path, BASE)
    for name, value in vars(GEOMETRY).items():
        assert np.array_equal(getattr(again, name), value)
        assert name == "fingerprint" or getattr(again, name).dtype == value.dtype
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_failed_save_leaves_what_was_there(tmp_path):
    path = tmp_path / "geometry.safetensors"
    path.mkdir()
    with pytest.raises(OSError):
        GEOMETRY.save(path)
    assert list(tmp_path.iterdir()) == [path]


def test_others_are_refused(tmp_path):
    path = tmp_path / "geometry.safetensors"
    GEOMETRY.save(path)
    with pytest.raises(ValueError, match="geometry.safetensors: .*not for 'other'"):
        Geometry.load(path, plane(3, "other"))
    save_base(BASE, path)
    with pytest.raises(ValueError, match="geometry.safetensors: not a file of the format 'jaxopt_lite geometry'"):
        Geometry.load(path, BASE)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        Geometry.load(tmp_path / "nowhere", BASE)


def test_damage_is_found(tmp_path):
    """A file cut short, and one number changed."""
    path = tmp_path / "geometry.safetensors"
    GEOMETRY.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match="cut short"):
        Geometry.load(path, BASE)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="checksum"):
        Geometry.load(path, BASE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"center": np.array([0, np.nan, 0], np.float32)}, "'center' is empty or holds NaN"),
        ({"whiten": np.full((3, 3), np.inf, np.float32)}, "'whiten' is empty or holds NaN or infinity"),
        ({"whiten": np.zeros((3, 3), np.float32)}, "'whiten' has a row or a column of zeros"),
        ({"whiten": np.diag(np.float32([1, 0, 1]))}, "'whiten' has a row or a column of zeros"),
        ({"whiten": np.ones((2, 2), np.float32)}, r"'whiten' has shape \(2, 2\); expected \(3, 3\)"),
        ({"whiten": np.ones((3, 3), np.int32)}, "'whiten' is int32; expected floating-point"),
        ({"center": np.zeros(0, np.float32), "whiten": np.zeros((0, 0), np.float32)}, "'center' is empty"),
        ({"threshold": np.float32(np.nan)}, "'threshold' is nan"),
        ({"threshold": np.float32(-np.inf)}, "'threshold' is -inf"),
        ({"temperature": np.float32(np.inf)}, "'temperature' is inf"),
        ({"temperature": np.float32(0)}, r"'temperature' is 0.0; expected a positive number"),
        ({"temperature": np.float32(np.nan)}, "'temperature' is nan"),
    ],
)
def test_numbers_that_cannot_route_are_neither_loaded_nor_saved(tmp_path, changes, message):
    path, tensors = tmp_path / "geometry.safetensors", {name: getattr(GEOMETRY, name) for name in ARRAYS}
    tensors = {name: np.asarray(array) for name, array in (tensors | changes).items()}
    path.write_bytes(encode("jaxopt_lite geometry", tensors, {"base": BASE.fingerprint}))
    with pytest.raises(ValueError, match=f"geometry.safetensors: {message}.*"):
        Geometry.load(path, BASE)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        replace(GEOMETRY, **changes).save(path)
    assert path.read_bytes() == before


def test_other_tensors_or_metadata_are_refused(tmp_path):
    path, tensors = tmp_path / "geometry.safetensors", {"center": np.zeros(3, np.float32)}
    path.write_bytes(encode("jaxopt_lite geometry", tensors, {"base": BASE.fingerprint}))
    with pytest.raises(ValueError, match=r"the tensors \['temperature', 'threshold', 'whiten'\] are missing"):
        Geometry.load(path, BASE)
    path.write_bytes(encode("jaxopt_lite geometry", tensors, {}))
    with pytest.raises(ValueError, match=r"its metadata keys are .*; expected \['base'"):
        Geometry.load(path, BASE)


def test_it_may_be_read_by_whom_the_folder_lets(tmp_path):
    GEOMETRY.save(tmp_path / "x")
    (tmp_path / "y").write_bytes(b"")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


# The covariance within tasks: pooled, shrunk, and never singular.


COVARIANCE_RNG = np.random.default_rng(0)


def test_means_and_counts():
    mean, count = means(np.array([[1.0, 2], [3, 4], [5, 6]]), np.array([2, 0, 2]), 4)
    assert mean.tolist() == [[3, 4], [0, 0], [3, 4], [0, 0]] and count.tolist() == [1, 0, 2, 0]


def test_the_shrinkage_is_that_of_the_paper():
    """Its estimators m, d², b̄² written out, one outer product at a time; n centred rows stand for n − 1 free ones."""
    z = COVARIANCE_RNG.normal(size=(30, 4)) @ COVARIANCE_RNG.normal(size=(4, 4))
    n, d = z.shape
    s = z.T @ z / n
    m = np.trace(s) / d
    distance = np.sum((s - m * np.eye(d)) ** 2) / d
    noise = sum(np.sum((np.outer(row, row) - s) ** 2) / d for row in z) / n**2
    assert shrinkage(z, n) == pytest.approx(min(noise, distance) / distance, rel=1e-12)


def test_the_share_falls_with_the_number_of_inputs():
    mixing = COVARIANCE_RNG.normal(size=(10, 10))
    few, many = (shrinkage(COVARIANCE_RNG.normal(size=(n, 10)) @ mixing, n) for n in (15, 20_000))
    assert 0 < many < 0.01 < few <= 1
    assert shrinkage(np.zeros((5, 3)), 5) == 1


@pytest.mark.parametrize("units", [1.0, 1e6])
def test_units_do_not_matter(units):
    """Whitened inputs are the same when a feature is measured in other units."""
    x, index = COVARIANCE_RNG.normal(size=(40, 6)), np.arange(40) % 4
    scale = np.array([units, 1, 1, 1 / units, 1, 1])
    one, other = whitening(x, index, 4), whitening(x * scale, index, 4)
    a, b = ((y - w.center) @ w.matrix for y, w in ((x, one), (x * scale, other)))
    np.testing.assert_allclose(a @ a.T, b @ b.T, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n", [3, 10, 200])
def test_singular_covariances_are_whitened(n):
    """More features than inputs, a constant feature, and one that is there twice."""
    x = COVARIANCE_RNG.normal(size=(n, 20))
    x[:, 3], x[:, 5] = 2.0, x[:, 4]
    space = whitening(x, np.zeros(n, int), 1)
    assert np.isfinite(space.matrix).all() and np.linalg.matrix_rank(space.matrix) == 20


def test_a_constant_feature_is_constant_whatever_its_value():
    """Of tasks of thousands of inputs, whose sums are rounded."""
    x, index = COVARIANCE_RNG.normal(size=(3000, 2)), np.arange(3000) % 3
    x[:, 1] = 0.1 + index / 7
    space = whitening(x, index, 3)
    assert np.abs(space.matrix).max() < 100
    assert (means(x, index, 3)[0][:, 1] == x[:3, 1]).all()


def test_tasks_of_one_input_tell_nothing():
    with pytest.raises(ValueError, match="5 inputs of 5 tasks do not vary"):
        whitening(COVARIANCE_RNG.normal(size=(5, 2)), np.arange(5), 5)
