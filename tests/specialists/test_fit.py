"""One batched solve fits every task as a solve of its own would."""

import importlib
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree

from jaxopt_lite.solvers.bfgs import BFGS
from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.specialists import IA3, Base, LoRA, Shift, Task, fisher_diagonal, fit, merge
from jaxopt_lite.specialists.adapters import as_adapter
from jaxopt_lite.specialists.sums import mean_about_first
from tests.specialists import models

pytestmark = pytest.mark.hardly_optimized  # what is compared to the bit is in `test_fit_bits.py`

SIZES = (16, 9)  # of tasks that are filled up to one size, so that tests share a program

fit_module = importlib.import_module("jaxopt_lite.specialists.fit")  # the package has a function of that name


FITTED = {"ia3": models.ADAPTERS["ia3"], "lora": LoRA("hidden/w", rank=2, alpha=3.0) + Shift("out/b")}


def objective(base, adapter, center):
    """The textbook formula, on changed matrices: its value and slope at a vector, for a task and a prior."""
    flat, unravel = ravel_pytree(center)

    def f(vector, x, y, weight, prior):
        params = adapter.apply(base.params, unravel(vector))
        losses = jax.vmap(lambda x, y: models.cross_entropy(base.apply(params, x), y))(x, y)
        return (jnp.sum(weight * losses) + prior / 2 * jnp.sum((vector - flat) ** 2)) / weight.sum()

    return flat, jax.jit(jax.value_and_grad(f))


@pytest.mark.parametrize("kind", ["ia3", pytest.param("lora", marks=pytest.mark.slow)])
def test_reaches_the_loss_that_scipy_reaches(kind):
    adapter = FITTED[kind]
    base, tasks = models.base(jnp.float64), models.tasks(2, SIZES, dtype=np.float64)
    tasks["task 1"] = tasks["task 1"]._replace(weight=np.linspace(0.0, 2.0, len(tasks["task 1"].x)))
    start, f = objective(base, adapter, adapter.identity(base.params))
    for prior in (0.1, 3.0):
        library = fit(base, adapter, tasks, models.cross_entropy, prior=prior, progress=False)
        assert [card.status for card in library.cards] == ["CONVERGED"] * 2
        for name, task in tasks.items():
            weight = np.ones(len(task.x)) if task.weight is None else task.weight
            args = task.x, task.y, weight, prior
            ours, gradient = f(ravel_pytree(library.adapter_of(name))[0], *args)
            theirs = scipy.optimize.minimize(f, start, args, jac=True, method="BFGS", options={"gtol": 1e-8}).fun
            assert float(ours) <= theirs + 1e-6 and float(jnp.abs(gradient).max()) < 2e-6


def test_company_does_not_change_a_fit():
    """Of a fit that is alone `test_fit_bits.py` says so, to the bit."""
    base, tasks = models.base(jnp.float64), models.tasks(3, sizes=(16, 9, 12), dtype=np.float64)
    adapter = models.ADAPTERS["ia3"]
    first, last = (
        fit(base, adapter, {name: tasks[name] for name in pair}, models.cross_entropy, progress=False)
        for pair in (("task 0", "task 1"), ("task 1", "task 2"))
    )
    assert first.names == ("task 0", "task 1")
    for key, value in first["task 1"].parameters.items():
        np.testing.assert_allclose(last["task 1"].parameters[key], value, rtol=1e-3, atol=1e-5)


def test_profile_and_cards_hold_what_they_say():
    base, adapter = models.base(jnp.float64), models.ADAPTERS["ia3"]
    tasks = models.tasks(2, SIZES, dtype=np.float64)
    tasks["task 0"] = tasks["task 0"]._replace(weight=np.linspace(0.0, 2.0, 16))
    library = fit(base, adapter, tasks, models.cross_entropy, author="us", license="CC0", progress=False)
    task, weight, a = tasks["task 0"], np.linspace(0.0, 2.0, 16), library.adapter_of("task 0")
    np.testing.assert_allclose(library.profile.count, [15, 9])
    np.testing.assert_allclose(library.profile.mean[0], np.average(task.x, axis=0, weights=weight), rtol=1e-6)

    def loss(a, x, y):
        return models.cross_entropy(base.apply(adapter.apply(base.params, a), x), y)

    each = jax.jit(jax.vmap(jax.value_and_grad(loss), in_axes=(None, 0, 0)))
    losses, gradients = jax.tree.map(np.asarray, each(a, task.x, task.y))
    for key, fisher in library.profile.fisher.items():
        squares = gradients[key] ** 2
        np.testing.assert_allclose(fisher[0], np.average(squares, axis=0, weights=weight), rtol=1e-5, atol=1e-12)
    card = library.cards[0]
    assert (card.name, card.examples, card.author, card.license) == ("task 0", 16, "us", "CC0")
    assert card.loss == pytest.approx(np.average(losses, weights=weight), rel=1e-5)


def test_a_strong_prior_keeps_to_its_center():
    base, adapter, tasks = models.base(jnp.float64), models.ADAPTERS["ia3"], models.tasks(2, SIZES, dtype=np.float64)
    center = models.moved(adapter, base.params)
    near = fit(base, adapter, tasks, models.cross_entropy, prior=1e6, center=center, progress=False)
    for key, value in near.parameters.items():
        np.testing.assert_allclose(value, jnp.broadcast_to(center[key], value.shape), atol=1e-3)
    each = {key: np.stack([value, 2 * value]) for key, value in center.items()}
    near = fit(base, adapter, tasks, models.cross_entropy, prior=1e6, center=each, progress=False)
    np.testing.assert_allclose(near.parameters["shift:out/b"], each["shift:out/b"], atol=1e-3)


def test_start_is_where_the_solve_starts():
    base, adapter, tasks = models.base(jnp.float64), models.ADAPTERS["ia3"], models.tasks(2, SIZES, dtype=np.float64)
    start, stay = models.moved(adapter, base.params), BFGS(max_steps=0)
    library = fit(base, adapter, tasks, models.cross_entropy, start=start, solver=stay, progress=False)
    np.testing.assert_array_equal(library.adapter_of("task 1")["shift:out/b"], start["shift:out/b"])
    assert {card.status for card in library.cards} == {"MAX_STEPS"}


def test_little_memory_means_more_pieces_and_the_same_library(monkeypatch):
    """Two tasks at a time, against fits of two each."""
    base, adapter, tasks = models.base(jnp.float64), models.ADAPTERS["ia3"], models.tasks(7, SIZES, dtype=np.float64)
    names, pairs = list(tasks), ([0, 1], [2, 3], [4, 5], [5, 6])
    apart = [
        fit(base, adapter, {names[k]: tasks[names[k]] for k in pair}, models.cross_entropy, progress=False)
        for pair in pairs
    ]
    monkeypatch.setattr(fit_module, "_MEMORY", 2 * 16 * 120)  # bytes, of which an example takes 120
    sizes, solve = [], fit_module._solve_bucket
    monkeypatch.setattr(fit_module, "_solve_bucket", lambda *args: sizes.append(len(args[2].weight)) or solve(*args))
    pieces = fit(base, adapter, tasks, models.cross_entropy, progress=False)
    assert pieces.names == tuple(names) and sizes == [2] * 4
    for pair, library in zip(pairs, apart, strict=True):
        for key, value in library.parameters.items():
            np.testing.assert_allclose(pieces.parameters[key][np.array(pair)], value, rtol=1e-3, atol=1e-4)


def test_an_interruption_keeps_what_is_done(monkeypatch):
    """Two tasks at a time, of which the last piece, here the first, has one in common with the second."""
    base, adapter, tasks = models.base(jnp.float64), models.ADAPTERS["ia3"], models.tasks(5, (16,), dtype=np.float64)
    monkeypatch.setattr(fit_module, "_MEMORY", 2 * 16 * 120)
    pieces = fit_module._pieces
    monkeypatch.setattr(fit_module, "_pieces", lambda *args: reversed(list(pieces(*args))))
    solve, calls = fit_module._solve_bucket, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return solve(*args)

    monkeypatch.setattr(fit_module, "_solve_bucket", interrupted)
    with pytest.warns(UserWarning, match="interrupted: 3 of 5 tasks are fitted"):
        part = fit(base, adapter, tasks, models.cross_entropy, progress=False)
    monkeypatch.setattr(fit_module, "_solve_bucket", solve)
    rest = {name: task for name, task in tasks.items() if name not in part}
    assert len(part) == 3 and len(part.add(fit(base, part.adapter, rest, models.cross_entropy, progress=False))) == 5


LOGARITHM = Base({"b": np.zeros(2, np.float32)}, lambda params, x: params["b"] + x)


def square_of_logarithm(out, y):
    return jnp.sum((jnp.log(out) - y) ** 2)


def test_a_task_whose_loss_is_nan_does_not_touch_the_others():
    ones, zeros = np.ones((3, 2), np.float32), np.zeros(3, np.float32)
    tasks = {"good": Task(ones, zeros), "bad": Task(-ones, zeros)}
    library = fit(LOGARITHM, Shift("b"), tasks, square_of_logarithm, prior=0.0, progress=False)
    assert [card.status for card in library.cards] == ["CONVERGED", "NONFINITE_START"]
    np.testing.assert_allclose(library.adapter_of("good")["shift:b"], 0.0, atol=1e-2)
    np.testing.assert_array_equal(library.adapter_of("bad")["shift:b"], 0.0)
    assert library.parameters["shift:b"].dtype == jnp.float32


def test_a_large_adapter_is_fitted_by_the_limited_memory_method(monkeypatch):
    """Large is made 2 numbers; one more than fits is too many, and as many as fit are not."""
    used, solve = [], fit_module._solve_bucket
    monkeypatch.setattr(fit_module, "_solve_bucket", lambda *args: used.append(args[-1]) or solve(*args))
    tasks = {"a": Task(np.ones((3, 2), np.float32), np.full(3, 0.5, np.float32))}
    for largest in (1, 2):
        monkeypatch.setattr(fit_module, "_LARGEST_DENSE", largest)
        library = fit(LOGARITHM, Shift("b"), tasks | {"b": tasks["a"]}, square_of_logarithm, progress=False)
        assert {card.status for card in library.cards} == {"CONVERGED"}
    assert list(map(type, used)) == [LBFGS, BFGS]


def test_no_tasks_make_an_empty_library():
    library = fit(models.base(), models.ADAPTERS["ia3"], {}, models.cross_entropy, progress=False)
    assert len(library) == 0 and library.parameters["shift:out/b"].shape == (0, models.CLASSES)


def test_bad_arguments_are_refused_by_name():
    base, adapter, tasks = models.base(), as_adapter(IA3("hidden/w")), models.tasks(2)
    with pytest.raises(ValueError, match="prior=-1.0: expected a number that is not negative"):
        fit(base, adapter, tasks, models.cross_entropy, prior=-1.0)
    with pytest.raises(ValueError, match="prior=nan"):
        fit(base, adapter, tasks, models.cross_entropy, prior=float("nan"))
    with pytest.raises(ValueError, match=r"center has the keys \['w'\]; expected \['scale:hidden/w'\]"):
        fit(base, adapter, tasks, models.cross_entropy, center={"w": np.ones(7)})
    with pytest.raises(ValueError, match=r"start\['scale:hidden/w'\] has shape \(3, 7\); expected \(7,\) for all"):
        fit(base, adapter, tasks, models.cross_entropy, start={"scale:hidden/w": np.ones((3, 7))})
    for name, bad in (("start", np.where(np.arange(14) == 9, np.nan, 0).reshape(2, 7)), ("center", np.full(7, 1e39))):
        with pytest.raises(ValueError, match=rf"{name}\['scale:hidden/w'\] holds NaN or infinity in float32"):
            fit(models.base(), adapter, tasks, models.cross_entropy, **{name: {"scale:hidden/w": bad}})
    for wrong in ({"center": 0.0}, {"start": [np.ones(7)]}):
        (name,) = wrong
        with pytest.raises(TypeError, match=rf"{name} is \w+; expected a dictionary with the keys \['scale:"):
            fit(base, adapter, tasks, models.cross_entropy, **wrong)
    with pytest.raises(TypeError, match=r"solver='bfgs' does not fit `fit`: expected BFGS\(\) or LBFGS\(\)"):
        fit(base, adapter, tasks, models.cross_entropy, solver="bfgs")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="holds NaN"):
            fit(base, adapter, {"a": Task(np.full((2, 5), np.nan), np.zeros(2, int))}, models.cross_entropy)


KINDS = "uint8", "bool", "float16"


def of_kind(kind):
    """A base with features of a dtype, a task, and the mean of its features."""
    features = lambda params, x: (500 * x > 200 if kind == "bool" else 250 * x).astype(kind)
    base = Base({"b": np.zeros(2)}, lambda params, x: x + params["b"], features=features)
    x = np.random.default_rng(0).random((300, 2)).astype(np.float32)
    weight = np.where(np.arange(300) % 2, 0.5, 1).astype(np.float32)
    return base, Task(x, x, weight), np.average(np.asarray(features({}, x), float), axis=0, weights=weight)


def squared_error(out, y):
    return jnp.sum((out - y) ** 2)


def test_mean_features_of_any_dtype_are_means():
    """Sums of whole numbers would wrap round, weights be cut off, and sums of halves overflow."""
    for kind in KINDS:
        base, task, expected = of_kind(kind)
        model = fit_module._Model(base.apply, base.features, as_adapter(Shift("b")), squared_error)
        mean = jax.jit(partial(fit_module._mean_features, model))(base.params, jax.tree.map(lambda x: x[None], task))
        np.testing.assert_allclose(np.asarray(mean[0], float), expected, rtol=1e-3, err_msg=kind)


def test_mean_features_far_from_zero_lose_no_digits():
    """A sum of 5,000 numbers of 10,000 is rounded to 4; of their differences from the first, hardly at all."""
    x = (1e4 + np.random.default_rng(0).normal(size=(5000, 3))).astype(np.float32)
    mean = jax.jit(partial(mean_about_first, lambda x: x))(x, np.ones(5000, np.float32))
    np.testing.assert_allclose(mean, x.mean(axis=0, dtype=float), rtol=0, atol=np.spacing(np.float32(1e4)))


@pytest.mark.slow  # that they are in the profile, of features of floating point, is said elsewhere here
@pytest.mark.parametrize("kind", KINDS)
def test_the_profile_has_the_means_of_features_of_any_dtype(kind):
    base, task, expected = of_kind(kind)
    fitted = fit(base, Shift("b"), {"a": task}, squared_error, progress=False)
    np.testing.assert_allclose(np.asarray(fitted.profile.mean[0], float), expected, rtol=1e-3)


def test_the_fisher_of_float16_is_in_range():
    """Squares of gradients above 256 were infinite, those below 2⁻¹² zero, and a merge by them was refused."""
    base = Base({"b": jnp.zeros(2, jnp.float16)}, lambda params, x: x * params["b"])
    x = np.array([[300, 0.001], [600, 0.002]], np.float16)
    linear = lambda out, y: jnp.sum(out).astype(jnp.float32)
    stay = BFGS(max_steps=0)
    library = fit(base, Shift("b"), {"a": (x, x), "b": (x[1:], x[1:])}, linear, solver=stay, progress=False)
    squares = x.astype(float) ** 2
    expected = [squares.mean(axis=0), squares[1]]
    given = fisher_diagonal(base, Shift("b"), library.parameters, {"a": (x, x), "b": (x[1:], x[1:])}, linear)
    for diagonal in (library.profile.fisher, given):
        np.testing.assert_allclose(diagonal["shift:b"], expected, rtol=1e-5)
    merged = merge(library, "fisher")
    assert merged.profile.fisher["shift:b"].dtype == np.float32  # so that it can join a folder of the library


def test_in_float16_parameters_go_further_than_256_from_the_center():
    """The square of the distance was infinite, and times a prior of 0 it was NaN: they stopped at 255.9."""
    base = Base({"b": jnp.zeros((), jnp.float16)}, lambda params, x: params["b"] + x[0])
    x = np.zeros((4, 1), np.float16)
    loss = lambda out, y: jnp.abs(out - y).astype(jnp.float32) ** 1.5
    library = fit(base, Shift("b"), {"a": (x, x[:, 0] + 300), "b": (x, x[:, 0] - 1000)}, loss, prior=0, progress=False)
    assert library.parameters["shift:b"].tolist() == [300, -1000]
    assert all(card.solved for card in library.cards)


def test_numbers_of_64_bits_are_taken_without_a_word_where_jax_has_32():
    x = np.arange(6.0).reshape(3, 2)
    with jax.enable_x64(False):
        base = Base({"b": jnp.zeros(2)}, lambda params, x: x + params["b"])
        fitted = fit(base, Shift("b"), {"a": (x, x + 1)}, lambda out, y: jnp.sum((out - y) ** 2), progress=False)
        assert fitted.parameters["shift:b"].dtype == np.float32


def test_weights_are_as_exact_as_the_model():
    """In float64 the posterior mode, the mean features and the loss are those of the formulas, and not of float32."""
    x, weight = np.random.default_rng(0).normal(size=(90, 2)), np.linspace(0.1, 1.3, 90)
    base = Base({"b": jnp.zeros(2)}, lambda params, x: 0 * x + params["b"], features=lambda params, x: x)
    squared = lambda out, y: jnp.sum((out - y) ** 2)
    library = fit(base, Shift("b"), {"a": (x, x, weight)}, squared, prior=0.3, progress=False)
    best = 2 * weight @ x / (2 * weight.sum() + 0.3)
    np.testing.assert_allclose(library.parameters["shift:b"][0], best, rtol=1e-13)
    np.testing.assert_allclose(library.profile.mean[0], np.average(x, axis=0, weights=weight), rtol=1e-13)
    loss = np.average(((x - best) ** 2).sum(axis=1), weights=weight)
    assert library.cards[0].loss == pytest.approx(loss, rel=1e-13)


def test_examples_of_weight_zero_may_be_nan():
    """As padding is: its features are 0 / 0, and its loss is a logarithm of 0."""
    x, weight = np.random.default_rng(0).random((9, 2)) + 0.5, np.ones(9)
    x[[0, 4]], weight[[0, 4]] = 0, 0
    apply = lambda params, x: jnp.log(jnp.sum(x)) + params["b"]
    base = Base({"b": jnp.zeros(())}, apply, features=lambda params, x: x / jnp.sum(x))
    squared = lambda out, y: (out - y[0]) ** 2
    tasks = {"masked": (x, x, weight), "left out": (x[weight > 0], x[weight > 0])}
    masked, left_out = (fit(base, Shift("b"), {name: tasks[name]}, squared, progress=False) for name in tasks)
    assert masked.cards[0].status == "CONVERGED" and masked.cards[0].examples == 9
    for ours, theirs in zip(jax.tree.leaves(masked), jax.tree.leaves(left_out), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (fisher_diagonal(base, Shift("b"), masked.parameters, {"a": tasks[name]}, squared) for name in tasks)
    assert np.isfinite(ours["shift:b"]).all() and ours["shift:b"] == theirs["shift:b"]
