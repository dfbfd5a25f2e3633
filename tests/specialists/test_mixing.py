"""Mixing: the weights are those of a ridge regression where that is what the problem is, and the parts are kept."""

from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import IA3, Base, LoRA, Shift, fit, linear_parameters, merge, mix
from tests.specialists.small import random_library, small_base

pytestmark = pytest.mark.hardly_optimized

BASE = small_base()
LINE = Base({"w": np.zeros((4, 3))}, lambda params, x: x @ params["w"])  # without features


def squares(out, y):
    return jnp.sum((out - y) ** 2) / 2


def noisy_tasks(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return {f"n{size}": (rng.normal(size=(size, 4)), rng.normal(size=(size, 3))) for size in sizes}


@pytest.mark.parametrize(  # that products are mixed and not factors, the composition below says too
    "adapter",
    [Shift("w"), pytest.param(LoRA("w", rank=2, alpha=3.0), marks=pytest.mark.slow)],
    ids=["shift", "low rank"],
)
def test_the_weights_of_a_linear_model_are_those_of_a_ridge_regression(adapter):
    """Tasks of several sizes in one call, each against the normal equations with the ridge around 1/k."""
    library, ridge, tasks = random_library(LINE, adapter, "abc"), 0.7, noisy_tasks([2, 5, 11])
    mixed = mix(library, tasks, squares, ridge=ridge, progress=False)
    assert mixed.profile.mean.shape == (3, 0)
    changes = np.asarray(linear_parameters(library)["shift:w"])
    for row, (name, (x, y)) in enumerate(tasks.items()):
        columns = np.stack([(x @ change).ravel() for change in changes], axis=1)
        a = columns.T @ columns + ridge * np.eye(3)
        w = np.linalg.solve(a, columns.T @ y.ravel() + ridge / 3)
        np.testing.assert_allclose(mixed.parameters["shift:w"][row], np.tensordot(w, changes, 1), atol=1e-5)
        card = mixed.cards[row]
        assert (card.name, card.examples, card.status) == (name, len(x), "CONVERGED")
        loss = ((x @ np.tensordot(w, changes, 1) - y) ** 2).sum() / 2 / len(x)
        np.testing.assert_allclose(card.loss, loss, rtol=1e-5)


@pytest.fixture
@cache  # and not the fixture: one of the module would be compiled before the tests say how
def composed():
    """A novel task that is a composition of two skills of three, and the mix that is to find it."""
    library = random_library(BASE, LoRA("hidden", rank=2) + IA3("out"), "abc")
    true = merge(library, "mean", [0.4, 0.0, -0.8])
    x = np.random.default_rng(3).normal(size=(60, 4))
    task = x, np.asarray(true.apply(x, np.zeros(60, int)))
    return library, true, task, mix(library, {"novel": task}, squares, ridge=0.0, progress=False)


def test_a_composition_is_found_again(composed):
    """With a negative weight, and through the nonlinear model: changes are mixed, not factors."""
    _, true, task, mixed = composed
    assert mixed.cards[0].status == "CONVERGED"
    for key, leaf in mixed.parameters.items():
        np.testing.assert_allclose(leaf, true.parameters[key], atol=1e-4)
    np.testing.assert_allclose(mixed.apply(task[0], np.zeros(60, int)), task[1], atol=1e-4)


def test_the_card_reproduces_the_mix(composed):
    library, _, task, mixed = composed
    (card,) = mixed.cards
    assert card.parents == library.ids and "ridge=0.0" in card.notes
    again = eval(card.recipe, dict(vars(__import__("jaxopt_lite.specialists", fromlist=["*"])), parents=library))
    for key, leaf in mixed.parameters.items():
        np.testing.assert_allclose(leaf, again.parameters[key], rtol=1e-12, atol=1e-12)
    assert mixed.profile.count.tolist() == [60]
    np.testing.assert_allclose(mixed.profile.mean[0], task[0].mean(0), atol=1e-6)


@pytest.mark.slow  # that a fit stays at a start and center of each task's own is in `test_fit.py` too
def test_a_fit_goes_on_from_a_mix(composed):
    """Started from it and centred on it, a strong prior keeps it where it is."""
    _, _, (x, y), mixed = composed
    few, a = {"novel": (x[:10], y[:10] + 0.1)}, mixed.parameters
    stay = fit(BASE, mixed.adapter, few, squares, prior=1e6, start=a, center=a, progress=False)
    for key, leaf in stay.parameters.items():
        np.testing.assert_allclose(leaf, a[key], atol=1e-4)


def test_a_strong_ridge_gives_the_mean():
    library = random_library(LINE, Shift("w"), "abc")
    mixed = mix(library, noisy_tasks([2, 5, 11]), squares, ridge=1e7, progress=False)
    for row in mixed.parameters["shift:w"]:
        np.testing.assert_allclose(row, merge(library).parameters["shift:w"][0], atol=1e-4)
    assert mixed.adapter == library.adapter and len(library.add(mixed)) == 6


def test_the_model_is_not_traced_again_for_the_next_tasks():
    """Other specialists and other examples of the same shapes take the compiled solve that is there."""
    traced = []

    def apply(params, x):
        traced.append(1)
        return x @ params["w"]

    library = random_library(Base(LINE.params, apply), Shift("w"), "abcdef")
    mix(library[["a", "b", "c"]], noisy_tasks([2, 5, 11]), squares, progress=False)
    before = len(traced)
    mix(library[["d", "e", "f"]], noisy_tasks([2, 5, 11], seed=1), squares, progress=False)
    assert len(traced) == before > 0


def test_mix_refuses():
    library = random_library(LINE, Shift("w"), "ab")
    with pytest.raises(ValueError, match="library is empty"):
        mix(library[[]], noisy_tasks([2]), squares)
    with pytest.raises(ValueError, match="NaN"):
        mix(library, {"n": (np.full((2, 4), np.nan), np.zeros((2, 3)))}, squares, progress=False)
