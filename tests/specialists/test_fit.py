"""One batched solve fits every task as a solve of its own would."""

import importlib
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree

from jaxopt_lite.lanes import fan_out, tiles
from jaxopt_lite.solvers.bfgs import BFGS
from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.specialists import IA3, Base, Shift, Task, fit
from jaxopt_lite.specialists.adapters import as_adapter
from tests.specialists import models

fit_module = importlib.import_module("jaxopt_lite.specialists.fit")  # the package has a function of that name


def objective(base, adapter, task, prior, center):
    """The textbook formula, example by example, on changed matrices."""
    flat, unravel = ravel_pytree(center)
    weight = np.ones(len(task.x)) if task.weight is None else np.asarray(task.weight)

    def f(vector):
        params = adapter.apply(base.params, unravel(vector))
        losses = jnp.stack(
            [models.cross_entropy(base.apply(params, x), y) for x, y in zip(task.x, task.y, strict=True)]
        )
        return (jnp.sum(weight * losses) + prior / 2 * jnp.sum((vector - flat) ** 2)) / weight.sum()

    return flat, jax.jit(jax.value_and_grad(f))


@pytest.mark.parametrize("prior", [0.1, 3.0])
@pytest.mark.parametrize("adapter", [models.ADAPTERS["ia3"], models.ADAPTERS["lora"]], ids=["ia3", "lora"])
def test_reaches_the_loss_that_scipy_reaches(adapter, prior):
    base, tasks = models.base(jnp.float64), models.tasks(4, sizes=(6, 11), dtype=np.float64)
    tasks["task 1"] = tasks["task 1"]._replace(weight=np.linspace(0.0, 2.0, len(tasks["task 1"].x)))
    library = fit(base, adapter, tasks, models.cross_entropy, prior=prior, progress=False)
    assert [card.status for card in library.cards] == ["CONVERGED"] * 4
    for name, task in tasks.items():
        start, f = objective(base, adapter, task, prior, adapter.identity(base.params))
        ours, gradient = f(ravel_pytree(library.adapter_of(name))[0])
        theirs = scipy.optimize.minimize(f, start, jac=True, method="BFGS", options={"gtol": 1e-8}).fun
        assert float(ours) <= theirs + 1e-6 and float(jnp.abs(gradient).max()) < 2e-6


def test_neither_company_nor_filling_changes_a_fit():
    base, tasks = models.base(jnp.float64), models.tasks(9, sizes=(5, 20, 9), dtype=np.float64)
    adapter = models.ADAPTERS["ia3"]
    together = fit(base, adapter, tasks, models.cross_entropy, progress=False)
    alone = fit(base, adapter, {"task 4": tasks["task 4"]}, models.cross_entropy, progress=False)
    assert together.names == tuple(tasks)
    for key, value in together["task 4"].parameters.items():
        np.testing.assert_allclose(alone.parameters[key], value, rtol=1e-3, atol=1e-5)


def test_profile_and_cards_hold_what_they_say():
    base, adapter = models.base(jnp.float64), models.ADAPTERS["ia3"]
    tasks = models.tasks(3, sizes=(6, 11), dtype=np.float64)
    tasks["task 0"] = tasks["task 0"]._replace(weight=np.linspace(0.0, 2.0, 6))
    library = fit(base, adapter, tasks, models.cross_entropy, author="us", licence="CC0", progress=False)
    task, weight, a = tasks["task 0"], np.linspace(0.0, 2.0, 6), library.adapter_of("task 0")
    np.testing.assert_allclose(library.profile.count, [5, 11, 6])
    np.testing.assert_allclose(library.profile.mean[0], np.average(task.x, axis=0, weights=weight), rtol=1e-6)

    def loss(a, x, y):
        return models.cross_entropy(base.apply(adapter.apply(base.params, a), x), y)

    gradients = [jax.grad(loss)(a, x, y) for x, y in zip(task.x, task.y, strict=True)]
    for key, fisher in library.profile.fisher.items():
        squares = np.stack([gradient[key] ** 2 for gradient in gradients])
        np.testing.assert_allclose(fisher[0], np.average(squares, axis=0, weights=weight), rtol=1e-5, atol=1e-12)
    card = library.cards[0]
    assert (card.name, card.examples, card.author, card.licence) == ("task 0", 6, "us", "CC0")
    losses = [loss(a, x, y) for x, y in zip(task.x, task.y, strict=True)]
    assert card.loss == pytest.approx(np.average(losses, weights=weight), rel=1e-5)


def test_many_devices_fit_as_one_does_to_the_bit(tmp_path):
    code = """
        import sys, numpy as np, jaxopt_lite as jol
        jol.use_cpu_cores(int(sys.argv[1]))
        from jaxopt_lite.specialists import fit
        from tests.specialists import models
        tasks = models.tasks(5, sizes=(6, 11))
        library = fit(models.base(), models.ADAPTERS["ia3"], tasks, models.cross_entropy, progress=False)
        np.savez(sys.argv[2], **library.parameters)
    """
    env = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    for count in ("1", "4"):
        command = [sys.executable, "-c", textwrap.dedent(code), count, str(tmp_path / f"{count}.npz")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    one, four = (np.load(tmp_path / f"{count}.npz") for count in ("1", "4"))
    for key in one:
        np.testing.assert_array_equal(one[key], four[key])


def test_every_core_fits_its_share_to_the_bit(monkeypatch):
    base, tasks = models.base(jnp.float64), models.tasks(200, sizes=(5,), dtype=np.float64)
    whole = fit(base, models.ADAPTERS["ia3"], tasks, models.cross_entropy, progress=False)
    started = []
    submit = fan_out._submitted
    monkeypatch.setattr(fan_out, "cores", lambda: 3)
    monkeypatch.setattr(tiles, "_PART_OPERATIONS", 1)
    monkeypatch.setattr(fan_out, "_submitted", lambda *call: started.append(call) or submit(*call))
    shared = fit(base, models.ADAPTERS["ia3"], tasks, models.cross_entropy, progress=False)
    assert started
    for a, b in zip(*(jax.tree.leaves((each.parameters, each.profile)) for each in (whole, shared)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_strong_prior_keeps_to_its_center():
    base, adapter, tasks = models.base(), models.ADAPTERS["ia3"], models.tasks(2)
    center = models.moved(adapter, base.params)
    near = fit(base, adapter, tasks, models.cross_entropy, prior=1e6, center=center, progress=False)
    for key, value in near.parameters.items():
        np.testing.assert_allclose(value, jnp.broadcast_to(center[key], value.shape), atol=1e-3)
    each = {key: jnp.stack([value, 2 * value]) for key, value in center.items()}
    near = fit(base, adapter, tasks, models.cross_entropy, prior=1e6, center=each, progress=False)
    np.testing.assert_allclose(near.parameters["shift:out/b"], each["shift:out/b"], atol=1e-3)


def test_start_is_where_the_solve_starts():
    base, adapter, tasks = models.base(), models.ADAPTERS["ia3"], models.tasks(2)
    start, stay = models.moved(adapter, base.params), BFGS(max_steps=0)
    library = fit(base, adapter, tasks, models.cross_entropy, start=start, solver=stay, progress=False)
    np.testing.assert_array_equal(library.adapter_of("task 1")["shift:out/b"], start["shift:out/b"])
    assert {card.status for card in library.cards} == {"MAX_STEPS"}


def test_a_large_adapter_is_fitted_by_the_limited_memory_method(monkeypatch):
    used, solve = [], fit_module.solve
    monkeypatch.setattr(fit_module, "_LARGEST_DENSE", 3)
    monkeypatch.setattr(fit_module, "solve", lambda *args: used.append(args[-1]) or solve(*args))
    library = fit(models.base(), models.ADAPTERS["ia3"], models.tasks(2), models.cross_entropy, progress=False)
    assert isinstance(used[0], LBFGS) and {card.status for card in library.cards} == {"CONVERGED"}


def test_little_memory_means_more_pieces_and_the_same_library(monkeypatch):
    base, adapter, tasks = models.base(), models.ADAPTERS["ia3"], models.tasks(7, sizes=(5, 9))
    whole = fit(base, adapter, tasks, models.cross_entropy, progress=False)
    monkeypatch.setattr(fit_module, "_MEMORY", 2 * 9 * 4 * (models.WIDTH + models.HIDDEN + 1))
    pieces = fit(base, adapter, tasks, models.cross_entropy, progress=False)
    assert pieces.names == whole.names
    for ours, expected in zip(jax.tree.leaves(pieces.parameters), jax.tree.leaves(whole.parameters), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)


def test_an_interruption_keeps_what_is_done(monkeypatch):
    base, tasks = models.base(), models.tasks(6)
    monkeypatch.setattr(fit_module, "_MEMORY", 1)
    solve, calls = fit_module.solve, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return solve(*args)

    monkeypatch.setattr(fit_module, "solve", interrupted)
    with pytest.warns(UserWarning, match="interrupted: 2 of 6 tasks are fitted"):
        part = fit(base, IA3("hidden/w"), tasks, models.cross_entropy, progress=False)
    monkeypatch.setattr(fit_module, "solve", solve)
    rest = {name: task for name, task in tasks.items() if name not in part}
    assert len(part) == 2 and len(part.add(fit(base, part.adapter, rest, models.cross_entropy, progress=False))) == 6


def test_a_task_whose_loss_is_nan_does_not_touch_the_others():
    base = Base({"b": jnp.zeros(2)}, lambda params, x: params["b"] + x)
    tasks = {"good": Task(np.ones((3, 2)), np.zeros(3)), "bad": Task(-np.ones((3, 2)), np.zeros(3))}
    library = fit(base, Shift("b"), tasks, lambda out, y: jnp.sum((jnp.log(out) - y) ** 2), prior=0.0, progress=False)
    assert [card.status for card in library.cards] == ["CONVERGED", "NONFINITE_START"]
    np.testing.assert_allclose(library.adapter_of("good")["shift:b"], 0.0, atol=1e-2)
    np.testing.assert_array_equal(library.adapter_of("bad")["shift:b"], 0.0)


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
        fit(base, adapter, tasks, models.cross_entropy, center={"w": jnp.ones(7)})
    with pytest.raises(ValueError, match=r"start\['scale:hidden/w'\] has shape \(3, 7\); expected \(7,\) for all"):
        fit(base, adapter, tasks, models.cross_entropy, start={"scale:hidden/w": jnp.ones((3, 7))})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="holds NaN"):
            fit(base, adapter, {"a": Task(np.full((2, 5), np.nan), np.zeros(2, int))}, models.cross_entropy)
