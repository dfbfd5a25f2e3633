"""The learned router is at the minimum of its objective, and tells apart what means cannot."""

from importlib import import_module

import jax
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxopt_lite.jaxprs import largest_array
from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.specialists import Softmax, route
from jaxopt_lite.specialists.routers.softmax import _cross_entropy, _fitted, _held_out, _location_and_scale
from tests.specialists.spaces import as_tasks, clouds, library_at, plane

pytestmark = pytest.mark.hardly_optimized

sums = import_module("jaxopt_lite.specialists.sums")

RNG = np.random.default_rng(0)
MEAN = 4 * RNG.normal(size=(4, 3))


def ragged():
    """The features of three tasks of unlike sizes, and their tasks."""
    index = np.repeat([0, 1, 2], [5, 40, 15])
    return RNG.normal(size=(60, 2)) + index[:, None] * [0.5, -0.3], index


def test_ragged_tasks_weigh_the_same():
    """Against SciPy on the objective by NumPy: the mean over tasks of the mean cross-entropy, and a ridge."""
    x, index = ragged()
    weight, bias = _fitted(x, index, 3, 2.0, LBFGS(atol=1e-9, rtol=0.0))
    z = (x - x.mean(axis=0)) / x.std(axis=0)

    def objective(w):
        logits = z @ w[:6].reshape(3, 2).T + w[6:]
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        each = [-logs[index == t, t].mean() for t in range(3)]
        return np.mean(each) + np.sum(w[:6] ** 2) / 60

    best = minimize(objective, np.zeros(9), tol=1e-12).x
    logits = z @ best[:6].reshape(3, 2).T + best[6:]
    ours = x @ np.asarray(weight).T + np.asarray(bias)
    np.testing.assert_allclose(ours - ours[:, :1], logits - logits[:, :1], atol=1e-4)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_a_constant_feature_has_no_scale(kind):
    """Its sum is rounded, and in float16 no number: the deviation from such a mean is not the feature's."""
    x = np.stack([np.linspace(-9, 9, 600), np.full(600, 200.1)], axis=1).astype(kind)
    center, deviation = _location_and_scale(x)
    np.testing.assert_allclose(center, [0, x[0, 1]], rtol=0, atol=1e-3)
    np.testing.assert_allclose(deviation, [np.linspace(-9, 9, 600).std(), 1], rtol=1e-3)
    assert center[1] == x[0, 1]


def test_the_logits_of_all_inputs_are_never_held(monkeypatch):
    """Neither for the loss nor for its gradient, of which both are the same."""
    specialists, inputs = 20, 300
    unknowns = {"weight": RNG.normal(size=(specialists, 2)), "bias": RNG.normal(size=20)}
    index, share = RNG.integers(0, specialists, inputs), RNG.random(inputs)
    args = RNG.normal(size=(inputs, 2)), index, share, np.asarray(0.1)
    value, slope = jax.jit(jax.value_and_grad(_cross_entropy))(unknowns, args)
    monkeypatch.setattr(sums, "_MEMORY", 8 * specialists * 7)  # 7 inputs at a time
    few = jax.value_and_grad(_cross_entropy)
    assert largest_array(jax.make_jaxpr(few)(unknowns, args).jaxpr) < 8 * specialists * inputs / 4
    for one, other in zip(jax.tree.leaves(jax.jit(few)(unknowns, args)), jax.tree.leaves((value, slope)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_it_routes():
    library = library_at(plane(3), MEAN)
    tasks = as_tasks(clouds(MEAN, 100))
    router = Softmax.fit(library, dict(reversed(tasks.items())), fallback=0.05)
    index, weight = route(router, clouds(MEAN, 50, seed=1).reshape(-1, 3), 2)
    truth = np.repeat(np.arange(4), 50)
    assert np.mean(np.asarray(index)[:, 0] == truth) > 0.85 and np.mean(np.asarray(index)[:, 0] == -1) < 0.15
    assert np.isfinite(weight).all() and 0 < router.temperature < 10


def test_a_fifth_is_held_out_and_never_the_only_input():
    index = np.repeat([0, 1, 2], [1, 2, 50])
    held = _held_out(index, 0)
    assert np.bincount(index[held], minlength=3).tolist() == [0, 1, 10]
    assert not np.array_equal(held, _held_out(index, 1))


def test_what_cannot_be_fitted_is_refused():
    library, tasks = library_at(plane(3), MEAN), as_tasks(clouds(MEAN, 5))
    with pytest.raises(ValueError, match=r"none of \['t3'\]"):
        Softmax.fit(library, {name: tasks[name] for name in ("t0", "t1", "t2")})
    with pytest.raises(ValueError, match="library is empty; expected at least one specialist"):
        Softmax.fit(library[[]], {})
    with pytest.raises(ValueError, match="ridge=-1"):
        Softmax.fit(library, tasks, ridge=-1)
    tasks["t2"] = (np.zeros((0, 3), np.float32), np.zeros(0))
    with pytest.raises(ValueError, match="1 of them have no inputs"):
        Softmax.fit(library, tasks)


def test_a_fit_that_does_not_converge_warns():
    with pytest.warns(RuntimeWarning, match="MAX_STEPS"):
        _fitted(*ragged(), 3, 0.0, LBFGS(atol=1e-9, rtol=0.0, max_steps=1))
