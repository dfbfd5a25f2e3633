"""NIST's regressions: the files as read, and the models and objectives held against the certified answers."""

from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxopt_lite.demo import regression

NAMES = sorted(regression.MODELS)
EASY = ["Misra1a", "DanWood", "Kirby2", "Hahn1", "Rat42", "Thurber"]


def text_of(name):
    file = resources.files("jaxopt_lite.demo") / "data" / "nist" / f"{name}.dat"
    return file.read_text(encoding="ascii")


@pytest.mark.parametrize("name", NAMES)
def test_certified_residual_sum_of_squares_is_reproduced(name):
    dataset = regression.read(name)
    total = float((regression.residuals(dataset, dataset.parameters) ** 2).sum())
    np.testing.assert_allclose(total, dataset.residual_sum_of_squares, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_certified_parameters_are_stationary_and_a_minimum(name):
    """A Newton step from the certified values stays within their 11 certified digits."""
    dataset = regression.read(name)
    _, args = regression.initial(dataset, start=1)
    u = dataset.parameters / args["scale"]
    objectives = (regression.sum_of_squares(dataset), regression.negative_log_likelihood(dataset))
    slopes = jax.jit(lambda u: [(jax.grad(fun)(u, args), jax.hessian(fun)(u, args)) for fun in objectives])
    for gradient, hessian in slopes(u):
        assert np.linalg.eigvalsh(hessian).min() > 0
        np.testing.assert_allclose(np.linalg.solve(hessian, gradient) / u, 0, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_certified_standard_deviations_follow_from_the_models_slopes(name):
    dataset = regression.read(name)
    J = np.asarray(jax.jit(jax.jacfwd(lambda b: regression.residuals(dataset, b)))(dataset.parameters))
    scale = np.linalg.norm(J, axis=0)
    inverse = np.linalg.inv((J / scale).T @ (J / scale)) / np.outer(scale, scale)
    variance = dataset.residual_sum_of_squares / dataset.degrees_of_freedom
    np.testing.assert_allclose(np.sqrt(variance * np.diag(inverse)), dataset.standard_deviations, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_starts_are_scaled_to_one_and_give_the_starts_back(name):
    dataset = regression.read(name)
    for start in (0, 1):
        u, args = regression.initial(dataset, start)
        np.testing.assert_array_equal(np.abs(u), 1)
        np.testing.assert_allclose(args["scale"] * u, dataset.starts[start], rtol=1e-15)


@pytest.mark.parametrize("name", EASY)
@pytest.mark.parametrize("start", [0, 1])
def test_scipys_bfgs_finds_the_certified_parameters(name, start):
    """The scaled likelihood needs no tuning: SciPy's defaults reach six digits."""
    dataset = regression.read(name)
    u, args = regression.initial(dataset, start)
    value_and_gradient = jax.jit(jax.value_and_grad(regression.negative_log_likelihood(dataset)))
    found = optimize.minimize(
        lambda u: [np.asarray(part, float) for part in value_and_gradient(u, args)],
        u,
        jac=True,
        method="BFGS",
    )
    np.testing.assert_allclose(found.x * args["scale"], dataset.parameters, rtol=1e-6)


def test_objectives_are_the_unexplained_share_and_its_logarithm():
    dataset = regression.read("Thurber")
    u, args = regression.initial(dataset, start=1)
    share = regression.sum_of_squares(dataset)(u, args)
    expected = (regression.residuals(dataset, dataset.starts[1]) ** 2).sum() / (dataset.y.var() * 37)
    np.testing.assert_allclose(share, expected, rtol=1e-12)
    np.testing.assert_allclose(regression.negative_log_likelihood(dataset)(u, args), 37 / 2 * np.log(share))


def test_arithmetic_follows_the_dtype():
    dataset = regression.read("Rat42")
    single = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), regression.initial(dataset))
    for objective in (regression.sum_of_squares(dataset), regression.negative_log_likelihood(dataset)):
        assert objective(*single).dtype == np.float32


def test_the_shipped_sets_span_all_levels_of_difficulty():
    levels = [regression.read(name).level for name in NAMES]
    assert {level: levels.count(level) for level in levels} == {"lower": 3, "average": 4, "higher": 7}


def test_a_file_is_read_as_printed():
    dataset = regression.read("Rat43")
    assert dataset.name == "Rat43" and dataset.level == "higher"
    assert dataset.x.tolist() == list(range(1, 16))
    assert dataset.y[[0, 14]].tolist() == [16.08, 717.41]
    assert dataset.starts.tolist() == [[100, 10, 1, 1], [700, 5, 0.75, 1.3]]
    assert dataset.parameters[2] == 7.5962938329e-01
    assert dataset.standard_deviations[3] == 6.8761936385e-01
    assert dataset.residual_sum_of_squares == 8.7864049080e03
    assert dataset.degrees_of_freedom == 11


def test_a_file_cut_short_is_refused_wherever_it_is_cut():
    lines = text_of("Misra1a").splitlines()
    for length in range(len(lines)):
        with pytest.raises(ValueError, match="^Misra1a: expected"):
            regression.parse("\n".join(lines[:length]), "Misra1a")
    with pytest.raises(ValueError, match="expected data up to line 74, got 70 lines"):
        regression.parse("\n".join(lines[:70]), "Misra1a")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("NIST/ITL StRD", "a,b", "expected a NIST StRD file that begins with 'NIST/ITL StRD', got 'a,b'"),
        ("Name:  Misra1a", "Name:  Misra1b", "expected the file of that data set, got the file of 'Misra1b'"),
        ("10.07E0", "ten", "expected 2 finite numbers in line 61, got 'ten      77.6E0'"),
        ("10.07E0", "nan", "expected 2 finite numbers in line 61"),
        ("10.07E0", "10.07E0 1.0", "expected 2 finite numbers in line 61"),
        ("b2 =     0.0001 ", "b2 =            ", "expected 4 finite numbers in line 42"),
        ("Lower Level", "Some Level", "expected a header entry like .*Level of Difficulty"),
        (
            "Data              (lines 61 to 74)",
            "Data              (lines 61 to 73)",
            "expected 14 observations, got 13",
        ),
        ("1.2455138894E-01", "1.2455238894E-01", "expected residual sum of squares = degrees of freedom"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(old, new, message):
    text = text_of("Misra1a")
    assert old in text
    with pytest.raises(ValueError, match=f"^Misra1a: {message}"):
        regression.parse(text.replace(old, new, 1), "Misra1a")


def test_unknown_names_starts_and_senseless_counts_are_refused():
    dataset = regression.read("Rat42")
    with pytest.raises(ValueError, match="name: expected one of .*'Rat42'.* got 'rat42'"):
        regression.read("rat42")
    with pytest.raises(ValueError, match="start: expected 0 or 1, got 2"):
        regression.initial(dataset, 2)
    with pytest.raises(ValueError, match="count: expected a number of resamples >= 0, got -1"):
        regression.bootstrap(dataset, -1)


def test_bootstrap_resamples_centred_widened_residuals_around_the_certified_fit():
    dataset = regression.read("Kirby2")
    rows = regression.bootstrap(dataset, count=2000, seed=4)
    errors = np.asarray(regression.residuals(dataset, dataset.parameters))
    noise = rows - (dataset.y - errors)
    possible = (errors - errors.mean()) * np.sqrt(151 / 146)
    assert np.abs(noise[:50, :, None] - possible).min(axis=-1).max() < 1e-10
    spread = np.sqrt(dataset.residual_sum_of_squares / dataset.degrees_of_freedom)
    np.testing.assert_allclose(noise.std(), spread, rtol=0.01)
    assert abs(noise.mean()) < 0.01 * spread


def test_bootstrap_is_repeatable_and_extends():
    dataset = regression.read("Rat42")
    long, short = (regression.bootstrap(dataset, count, seed=1) for count in (20, 5))
    np.testing.assert_array_equal(long[:5], short)
    assert (long[0] != regression.bootstrap(dataset, 1, seed=2)[0]).any()


def test_bootstrap_refits_spread_as_the_certified_deviations_say():
    """Gauss-Newton refits of resamples scatter about the certified parameters by the certified deviations."""
    dataset = regression.read("Misra1a")
    scale = dataset.parameters
    model = lambda u: regression.MODELS["Misra1a"](scale * u, dataset.x)  # noqa: E731

    def refit(y):
        u = np.ones(2)
        for _ in range(5):
            J = jax.jacfwd(model)(u)
            u = u + jnp.linalg.solve(J.T @ J, J.T @ (y - model(u)))
        return scale * u

    refits = np.asarray(jax.jit(jax.vmap(refit))(regression.bootstrap(dataset, count=400, seed=0)))
    np.testing.assert_allclose(refits.std(axis=0), dataset.standard_deviations, rtol=0.1)
    assert (np.abs(refits.mean(axis=0) - dataset.parameters) < 0.15 * dataset.standard_deviations).all()
