"""Gates: learned where a specialist is of use, each alone; they route better than chance."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.specialists import Adapter, Base, Card, Gates, Library, LoRA, Profile, Shift, fit_gates, route
from jaxopt_lite.specialists.routers import gates
from jaxopt_lite.specialists.tasks import Task

pytestmark = pytest.mark.hardly_optimized

D, T = 6, 4
COUNT = 101  # of examples, about, in all tests, and three tasks at a time: so they share a program
SETTINGS = {"atol": 1e-6, "rtol": 1e-4}  # the default ones
RNG = np.random.default_rng(0)


def problem(count: int, seed: int = 0):
    """Task t is about inputs with a large feature t, and adds 3 to the output, but for half of its inputs: of these
    feature t is small, and it adds nothing."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(T, count, D)).astype(np.float32), np.zeros((T, count), np.float32)
    for t in range(T):
        x[t, :, t] += np.where(np.arange(count) % 2, 3, -3)
        y[t] = np.where(np.arange(count) % 2, 3, 0) + 0.1 * rng.normal(size=count)
    return x, y


def library() -> Library:
    base = Base({"b": jnp.zeros(())}, lambda params, x: 0 * x[0] + params["b"], lambda params, x: x)
    shift = {"shift:b": np.full(T, 3, jnp.float32)}
    empty = np.zeros((T, D), jnp.float32)
    return Library(
        base, shift, Profile(empty[:, 0], empty, shift, empty), Adapter((Shift("b"),)), tuple(map(Card, "abcd"))
    )


def ragged(names: str) -> dict:
    """The tasks of these names, of unlike sizes."""
    x, y = problem(COUNT)
    return {name: (x[t, t:], y[t, t:]) for t, name in enumerate("abcd") if name in names}


def squared(output, y):
    return (output - y) ** 2


@pytest.fixture
@cache  # and not the fixture: one of the module would be compiled before the tests say how
def gated() -> Library:
    """All four specialists with gates, from tasks of unlike sizes, three at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gates, "_CHUNK", 3)
        return fit_gates(library(), ragged("abcd"), squared)


def test_gates_beat_chance(gated):
    x, _ = problem(200, seed=1)
    used = x[:, 1::2]
    index, weight = route(Gates.of(gated), used.reshape(-1, D), 2)
    assert np.mean(np.asarray(index)[:, 0].reshape(T, -1) == np.arange(T)[:, None]) > 0.8
    assert np.isfinite(weight).all()


def test_a_gate_minimises_the_loss_of_its_own_specialist():
    """Against SciPy, for a ragged task with weights; one has no gate yet, and nothing else moved."""
    x, y = problem(COUNT)
    weight = RNG.uniform(0.5, 2, size=COUNT)
    weight[[3, 4]] = 0
    before = library()
    tasks = {"c": (x[2], y[2], weight), "a": (x[0][:7], y[0][:7]), "d": (x[3][:50], y[3][:50])}
    gated = fit_gates(before, tasks, squared, prior=2.0)

    def objective(v):
        losses = weight * (3 / (1 + np.exp(-x[2] @ v)) - y[2]) ** 2
        return (losses.sum() + np.sum(v**2)) / weight.sum()

    np.testing.assert_allclose(gated.profile.gate[2], minimize(objective, np.zeros(D), tol=1e-10).x, atol=0.02)
    assert gated.profile.gate.any(axis=1).tolist() == [True, False, True, True]
    assert gated.ids == before.ids and gated.parameters["shift:b"] is before.parameters["shift:b"]
    assert np.isneginf(Gates.of(gated).scores(x[0])).any(axis=0).tolist() == [False, True, False, False]
    assert 1 not in np.asarray(Gates.of(gated)(x[0]))
    with pytest.raises(ValueError, match="none of 4 specialists has a gate"):
        Gates.of(before)


def test_a_gate_may_end_at_zero(gated):
    """A specialist that changes nothing is of use nowhere; the others are routed to as they were."""
    x, before = problem(COUNT)[0], library()
    idle = replace(before, parameters={"shift:b": np.where(np.arange(T) == 1, 0, before.parameters["shift:b"])})
    without = fit_gates(idle, ragged("abc"), squared)
    assert without.profile.gate.any(axis=1).tolist() == [True, False, True, False]
    scores, expected = (np.asarray(Gates.of(one).scores(x[0])) for one in (without, gated))
    assert np.array_equal(scores[:, [0, 2]], expected[:, [0, 2]])
    assert 1 not in np.asarray(Gates.of(without)(x[1])) and len(Gates.of(without[:0])) == 0


def test_gates_do_not_depend_on_the_pieces(gated, monkeypatch):
    """Tasks are solved in pieces of one size, of which the last reaches back."""
    sizes, minimize = [], gates.minimize
    with monkeypatch.context() as patch:
        patch.setattr(gates, "_CHUNK", 3)
        patch.setattr(
            gates, "minimize", lambda f, v, *args, **more: sizes.append(len(v)) or minimize(f, v, *args, **more)
        )
        assert np.array_equal(fit_gates(library(), ragged("abcd"), squared).profile.gate, gated.profile.gate)
    assert sizes == [3, 3]
    for names in ("abc", "bcd"):
        whole = fit_gates(library(), ragged(names), squared).profile.gate
        known = np.array([name in names for name in "abcd"])
        np.testing.assert_allclose(gated.profile.gate[known], whole[known], atol=1e-6)
        assert not whole[~known].any() and whole[known].any(axis=1).all()


def test_gates_that_did_not_converge_are_counted():
    with pytest.warns(RuntimeWarning, match="^3 of 3 gates did not converge: 3 as MAX_STEPS.$"):
        fit_gates(library(), ragged("abc"), squared, solver=LBFGS(**SETTINGS, max_steps=1))


def test_scores_are_normalised_products():
    v, u = RNG.normal(size=(T, D)), RNG.normal(size=(9, D))
    before = library()
    gated = Library(before.base, before.parameters, Profile(v, v, v, v), before.adapter, before.cards)
    norm = lambda a: (a - a.mean(axis=1, keepdims=True)) / a.std(axis=1, keepdims=True)
    np.testing.assert_allclose(Gates.of(gated).scores(u), norm(u) @ norm(v).T / np.sqrt(D), rtol=1e-10, atol=1e-12)
    assert not Gates.of(gated).scores(np.ones((2, D))).any()


@pytest.mark.parametrize("kind, sizes", [("float32", (1e-30, 1e30)), ("float16", (1e-3, 1e4))])
def test_the_size_of_features_and_gates_does_not_matter(kind, sizes):
    v = RNG.normal(size=(T, D)).astype(kind)
    before = library()
    for size in (np.asarray(s, kind) for s in (*sizes, 1)):
        profile = replace(before.profile, gate=v * size)
        router = Gates.of(replace(before, profile=profile))
        for other in (np.asarray(s, kind) for s in (*sizes, 1)):
            assert router(v * other).tolist() == list(range(T))


def test_features_of_half_precision_have_the_weights_of_their_examples():
    """The sum of which float16 does not hold: the loss was 0, and the gate that of a specialist never chosen.

    Nor does it hold the square of a gate's length, and a loss of infinity ends a fit.
    """
    x, y = problem(COUNT)
    task = Task(x[0], y[0], np.full(COUNT, 1000.0))
    of = library()[0]
    objective = gates._Objective(of.base.apply, of.adapter, squared)

    def values(dtype):
        (task_u,) = gates._with_features([task], x[0].astype(dtype), np.zeros(COUNT, int))
        (x_, u), y_, weight = task_u
        a = of.adapter_of("a")
        args = of.base.params, 1.0, a, x_, y_, u, weight
        of_gate = jax.jit(jax.value_and_grad(objective))
        return of_gate(np.full(D, 0.1, dtype), args)[1], of_gate(np.full(D, 300, dtype), args)[0]

    (slope, far), (halved, far_halved) = values("float32"), values("float16")
    assert jnp.abs(slope).max() > 0.1
    np.testing.assert_allclose(np.asarray(halved, float), slope, rtol=0.02, atol=0.01)
    np.testing.assert_allclose(float(far_halved), far, rtol=0.02)


def test_of_a_low_rank_change_the_product_is_scaled():
    """At σ(0) = ½ a specialist makes half of its change; so its gradient there is that of half the product."""
    params = {"w": RNG.normal(size=(3, 2))}
    adapter = Adapter((LoRA("w", rank=1),))
    base = Base(params, lambda params, x: x @ params["w"], lambda params, x: x)
    a = jax.tree.map(lambda leaf: RNG.normal(size=(1, *leaf.shape)), adapter.identity(params))
    empty = np.zeros((1, 3))
    one = Library(base, a, Profile(np.ones(1), empty, a, empty), adapter, (Card("a"),))
    x, y = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 2))
    change = np.asarray(a["down:w"][0] @ a["up:w"][0])

    def objective(v):
        output = x @ np.asarray(params["w"]) + (x @ change) / (1 + np.exp(-x @ v))[:, None]
        return (np.sum((output - y) ** 2) + 0.5 * np.sum(v**2)) / 20

    gated = fit_gates(one, {"a": (x, y)}, lambda output, y: jnp.sum((output - y) ** 2))
    assert objective(np.asarray(gated.profile.gate[0])) < minimize(objective, np.zeros(3)).fun + 1e-4


def test_what_cannot_be_learned_is_refused():
    x, y = problem(5)
    with pytest.raises(KeyError, match="no specialist 'z'"):
        fit_gates(library(), {"z": (x[0], y[0])}, squared)
    with pytest.raises(ValueError, match="prior=0"):
        fit_gates(library(), {"a": (x[0], y[0])}, squared, prior=0)
    with pytest.raises(ValueError, match="task 'b' have leading axes .* at least 1"):
        fit_gates(library(), {"a": (x[0], y[0]), "b": (x[0][:0], y[0][:0])}, squared)
    for weight in (-np.ones(5), np.zeros(5), np.ones(4), np.full(5, np.nan)):
        with pytest.raises(ValueError, match="weight of task 'a': expected 5 numbers"):
            fit_gates(library(), {"a": (x[0], y[0], weight)}, squared)
    with pytest.raises(ValueError, match="task 'b' holds NaN"):
        fit_gates(library(), {"a": (x[0], y[0]), "b": (x[0], y[0] * np.nan)}, squared)
    with pytest.raises(ValueError, match="examples of task 'b' have shapes"):
        fit_gates(library(), {"a": (x[0], y[0]), "b": (x[0][:, :2], y[0])}, squared)
