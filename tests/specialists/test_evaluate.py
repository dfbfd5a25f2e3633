"""The evaluation, on a model whose numbers are known by hand: an offset for each task."""

from functools import cache
from importlib import import_module

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import Base, Card, Library, LoRA, Profile, Shift, Unit, evaluate, fit
from jaxopt_lite.specialists.adapters import as_adapter

pytestmark = pytest.mark.hardly_optimized

OFFSETS = {"low": -2.0, "none": 0.0, "high": 4.0}
SIZES = {"low": 4, "none": 6, "high": 10}


def linear(params, x):
    return x[0] + params["b"]


def square(out, y):
    return (out - y) ** 2


def where(features):
    """The right router: the second input is the number of the task; beyond the last it is novel."""
    return jnp.where(features[:, 1] > 2, -1, features[:, 1].astype(int))


def task(offset, number, size, weight=None):
    x = np.stack([np.linspace(-1, 1, size), np.full(size, number)], axis=1).astype(np.float32)
    pair = x, x[:, 0] + np.float32(offset)
    return pair if weight is None else (*pair, weight)


BASE = Base({"b": np.zeros((), np.float32)}, linear, features=lambda params, x: x)
TASKS = {name: task(OFFSETS[name], k, SIZES[name]) for k, name in enumerate(OFFSETS)}


@pytest.fixture
def base():
    return BASE


@pytest.fixture
def tasks():
    return TASKS


@pytest.fixture
@cache  # and not the fixture: one of the module would be compiled before the tests say how
def library():
    return fit(BASE, Shift("b"), TASKS, square, prior=0.0, progress=False)


def test_every_row_by_hand(base, library, tasks):
    joint = Base({"b": np.ones((), jnp.float32)}, linear, features=base.features)
    report = evaluate(library, where, tasks, square, train_tasks=tasks, joint=joint, prior=0.0)
    offset, size = np.array(list(OFFSETS.values())), np.array(list(SIZES.values()))

    def check(name, answer, atol=1e-3):
        np.testing.assert_allclose(report[name].by_task, (answer - offset) ** 2, atol=atol)
        assert np.isclose(report[name].loss, np.average((answer - offset) ** 2, weights=size), atol=atol)

    check("base", 0)
    check("monolith", np.average(offset, weights=size), atol=0.01)
    check("joint", 1)
    check("uniform", offset.mean(), atol=0.01)
    check("oracle", offset)
    check("routed", offset)
    assert report["random"].loss > 1
    assert report.routing == (1, 0, None) and np.isclose(report.recovered, 1)
    assert report["monolith"].examples == (20, 20) and report["oracle"].examples is None
    assert report.cost.bytes == 4 * (1 + 1 + 2 + 1 + 2) and report.cost.seconds > 0
    for text in ("3 tasks, mean loss", "monolith of the same size", "uniform merge", "100%", "28 bytes"):
        assert text in str(report)
    assert "s to fit once compiled" in str(report) and "(20 of 20 examples)" in str(report)
    assert max(map(len, str(report).splitlines())) <= 80 and repr(report).startswith(
        "Report(3 tasks, mean loss; routed 0."
    )
    html = report._repr_html_()
    assert html.count("<tr>") == 8 and "joint retrain of the same total size" in html and "28 bytes" in html
    tasks, specialists, counts = report.confusion()
    assert tasks == tuple(OFFSETS) and specialists == (*OFFSETS, "base")
    np.testing.assert_array_equal(counts, np.diag([*SIZES.values(), 0])[:3])


def test_the_table_says_what_the_monolith_saw_and_what_compiling_took(library, tasks, monkeypatch):
    monkeypatch.setattr(import_module("jaxopt_lite.specialists.evaluate"), "_POOLED", 7)
    loss = lambda out, y: (out - y) ** 2 + 7  # no other test has it, so that it is compiled for the first time
    report = evaluate(library, where, tasks, loss, train_tasks=tasks)
    assert report["monolith"].examples == (7, 20) and "(7 of 20 examples)" in str(report)
    assert report.cost.first_seconds > report.cost.seconds > 0


def test_weights_and_units_over_ragged_tasks(library):
    weight = np.array([1.0, 3.0, 0.0])
    tasks = {"low": task(1.0, 0, 3, weight), "high": task(3.0, 2, 2)}
    tasks["low"][0][2] = 7, 9  # of weight 0: a novel input
    per_two = Unit("half", lambda x, weight: 2 * weight)
    report = evaluate(library, where, tasks, square, unit=per_two)
    np.testing.assert_allclose(report["base"].by_task, [0.5, 4.5])
    assert np.isclose(report["base"].loss, (4 * 1 + 2 * 9) / 12)
    assert report.routing == (1.0, 0.0, None) and report.confusion().counts.sum() == 4
    assert report.unit == "half" and report["monolith"].by_task is None and np.isnan(report["joint"].loss)
    assert str(report).count("not given") == 2


def test_wrong_and_novel_routes_are_counted(library, tasks):
    def router(features):
        return jnp.where(features[:, 1] == 0, 2, jnp.where(features[:, 1] == 1, -1, features[:, 1].astype(int) % 3))

    novel = {"new": task(9.0, 7, 5), "other": task(9.0, 3, 15)}
    report = evaluate(library, router, tasks | novel, square)
    assert report.tasks == ("low", "none", "high")
    assert report.routing == (0.5, 0.3, 0.0)
    assert evaluate(library, where, tasks | novel, square).routing.novel_fallback == 1
    np.testing.assert_allclose(report["routed"].by_task, [36, 0, 0], atol=0.05)
    assert np.isclose(report.recovered, (8.8 - 7.2) / 8.8, atol=0.01) and "novel" in str(report)


def test_batches_do_not_matter(library, tasks, monkeypatch):
    whole = evaluate(library, where, tasks, square)
    monkeypatch.setattr(import_module("jaxopt_lite.specialists.evaluate"), "_OUTPUT_BYTES", 4 * 7)
    for one, other in zip(whole.rows, evaluate(library, where, tasks, square).rows, strict=True):
        if one.by_task is not None:
            np.testing.assert_allclose(one.by_task, other.by_task, rtol=1e-6)


def test_the_merge_is_of_products_and_not_of_factors():
    base = Base({"w": jnp.zeros((2, 2))}, lambda params, x: jnp.sum(x @ params["w"]), features=lambda params, x: x)
    x = np.eye(2, dtype=np.float32)
    tasks = {"a": (x, np.float32([1, 0])), "b": (x, np.float32([0, 1]))}
    adapter = as_adapter(LoRA("w", rank=1))
    down, up = np.array([[[1.0], [0.0]], [[0.0], [-1.0]]]), np.array([[[0.5, 0.5]], [[-0.5, -0.5]]])
    factors, none = {"down:w": down, "up:w": up}, np.zeros((2, 2))  # each has its task exactly
    library = Library(base, factors, Profile(none[0], none, factors, none), adapter, (Card("a"), Card("b")))
    merged = evaluate(library, lambda features: jnp.zeros(len(features), int), tasks, square)["uniform"]
    np.testing.assert_allclose(merged.by_task, 0.25, atol=0.02)


def test_no_gain_is_no_share(library, tasks):
    assert np.isnan(evaluate(library, where, {"none": tasks["none"]}, square).recovered)


def test_what_cannot_be_is_refused(library, tasks):
    with pytest.raises(ValueError, match="names of specialists"):
        evaluate(library, where, {"new": task(1.0, 0, 3)}, square)
    with pytest.raises(ValueError, match="names of specialists"):
        evaluate(library, where, {}, square)
    with pytest.raises(ValueError, match="train_tasks is empty"):
        evaluate(library, where, tasks, square, train_tasks={})
    with pytest.raises(KeyError, match="there are base, monolith"):
        evaluate(library, where, tasks, square)["unknown"]


@pytest.mark.parametrize(
    ("router", "error"),
    [
        (lambda f: f[:, 1] > 0, ValueError), (lambda f: f[:, 1], ValueError), (lambda f: np.zeros(3, int), ValueError),
        (lambda f: jnp.zeros((len(f), 1), int), ValueError), (lambda f: 0, ValueError), (lambda f: None, ValueError),
        (lambda f: np.full(len(f), 3), IndexError), (lambda f: np.full(len(f), -2), IndexError),
    ],
)  # fmt: skip
def test_a_router_gives_a_place_for_each_input(library, tasks, router, error):
    """A mask would be the places 0 and 1."""
    with pytest.raises(error, match="router gave .*; expected whole numbers"):
        evaluate(library, router, tasks, square)


@pytest.mark.parametrize("place", [3, -2])
def test_a_router_gives_a_place_for_novel_inputs_too(library, tasks, place):
    router = lambda features: np.where(features[:, 1] > 2, place, 0)
    with pytest.raises(IndexError, match=f"router gave {place}; expected whole numbers, −1 for the base, or 0 to 2"):
        evaluate(library, router, tasks | {"new": task(9.0, 7, 5)}, square)


def test_a_row_is_called_by_a_beginning_that_no_other_has(library, tasks):
    report = evaluate(library, where, tasks, square)
    assert report["ra"].name == "random routing" and report["ro"].name == "routed" and report["base"].name == "base"
    for name, count in (("r", 2), ("", 7), ("x", 0), ("Base", 0)):
        with pytest.raises(KeyError, match=f"{count} rows '{name}'; there are base, monolith"):
            report[name]
