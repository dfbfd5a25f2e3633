"""The user's functions compute what they read now, not what they read when they were first traced."""

import functools
import types

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import (
    Base,
    Card,
    Library,
    Profile,
    RegMean,
    Shift,
    Task,
    evaluate,
    fisher_diagonal,
    fit,
    merge,
)
from jaxopt_lite.specialists.evaluate import task_losses

pytestmark = pytest.mark.hardly_optimized

FACTOR = 1.0
SETTINGS = types.ModuleType("settings")
X, INDEX = jax.device_put((np.arange(6.0).reshape(3, 2) + 1, np.array([0, -1, 1])))
TASKS = {"a": Task(np.eye(2) + 1.0, np.ones((2, 2))), "b": Task(np.eye(2) - 3.0, np.zeros((2, 2)))}
PARAMS = {"w": jax.device_put(np.array([[1.0, 2.0], [3.0, 5.0]]))}


def plain(params, x, factor=1.0):
    """What goes in is scaled along one axis: RegMean sees nothing else."""
    return (x * jnp.array([1.0, factor])) @ params["w"]


def square(output, y, factor=1.0):
    return factor * jnp.sum((output - y) ** 2)


class Model:
    """What is read is an attribute, which someone sets later."""

    def __init__(self):
        self.factor = 1.0

    def method(self, one, two):
        return self.of(one, two, self.factor)


class Called(Model):
    def __call__(self, one, two):
        return self.of(one, two, self.factor)


def by_global(of):
    def function(one, two):
        return of(one, two, FACTOR)

    return function, lambda value: globals().update(FACTOR=value)


def by_array(of):
    factor = np.ones(1)
    return lambda one, two: of(one, two, factor[0]), lambda value: factor.fill(value)


def by_large_array(of):
    """Too large to be compared; its numbers are an input of what is compiled."""
    factor = np.ones(5000)
    return lambda one, two: of(one, two, jnp.asarray(factor)[0]), lambda value: factor.fill(value)


def by_method(of):
    model = Model()
    model.of = of
    return model.method, lambda value: setattr(model, "factor", value)


def by_object(of):
    model = Called()
    model.of = of
    return model, lambda value: setattr(model, "factor", value)


def by_module(of):
    SETTINGS.factor = 1.0
    return lambda one, two: of(one, two, SETTINGS.factor), lambda value: setattr(SETTINGS, "factor", value)


WAYS = [by_global, by_array, by_large_array, by_method, by_object, by_module]


def library(apply) -> Library:
    base = Base(PARAMS, apply, features=lambda params, x: x)
    a = {"shift:w": np.arange(8.0).reshape(2, 2, 2)}
    profile = Profile(np.ones(2), np.ones((2, 2)), a, np.zeros((2, 2)))
    return Library(base, a, profile, Shift("w"), (Card("a"), Card("b")))


def embed(f, loss):
    return Base(PARAMS, plain, features=f).embed(X)


def apply(f, loss):
    return library(f).apply(X, INDEX)


def fitted(f, loss):
    of = fit(Base(PARAMS, f, features=f), Shift("w"), TASKS, loss, progress=False)
    return of.parameters["shift:w"], of.profile


def evaluated(f, loss):
    known = library(f)
    report = evaluate(known, lambda features: np.zeros(len(features), int), TASKS, loss, joint=known.base)
    return [row.loss for row in report.rows if row.by_task is not None], task_losses(known, TASKS, loss)


def fisher(f, loss):
    a = library(f).parameters
    return fisher_diagonal(Base(PARAMS, f), Shift("w"), a, TASKS, loss)["shift:w"]


def gram(f, loss):
    return merge(library(f), RegMean(TASKS)).parameters["shift:w"]


USES = {"embed": embed, "apply": apply, "fit": fitted, "evaluate": evaluated, "fisher": fisher, "gram": gram}
# Every use asks the same function what has to be traced again: some are tried with all ways, the others with two, and
# a fit, of which each trace takes long, with one.
FEW = [by_global, by_large_array]


def ways_for(uses, with_all: str):
    """The uses, each with the ways to read that are tried; all of them in a slow test."""
    quick = [pytest.param(use, WAYS if use == with_all else FEW[use == "fit" :], id=use) for use in uses]
    slow = [pytest.param(use, WAYS, id=f"{use}, all ways", marks=pytest.mark.slow) for use in uses if use != with_all]
    return pytest.mark.parametrize(("use", "ways"), quick + slow)


@functools.cache
def fresh(use, of_model, of_loss):
    """What functions answer that have never been traced, in which the factors are literals."""
    models = {1.0: lambda params, x: plain(params, x, 1.0), 3.0: lambda params, x: plain(params, x, 3.0)}
    losses = {1.0: lambda output, y: square(output, y, 1.0), 3.0: lambda output, y: square(output, y, 3.0)}
    return USES[use](models[of_model], losses[of_loss])


def close(ours, expected):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


@ways_for(USES, with_all="apply")
def test_a_model_computes_what_it_reads_now(use, ways):
    answers = {factor: fresh(use, factor, 1.0) for factor in (1.0, 3.0)}
    assert not all(map(np.array_equal, jax.tree.leaves(answers[1.0]), jax.tree.leaves(answers[3.0])))
    for way in ways:
        function, change = way(plain)
        for factor in (1.0, 3.0, 1.0):
            change(factor)
            close(USES[use](function, square), answers[factor])


@ways_for(["evaluate", "fisher"], with_all="fisher")
def test_a_loss_computes_what_it_reads_now(use, ways):
    answers = {factor: fresh(use, 1.0, factor) for factor in (1.0, 3.0)}
    for way in ways:
        function, change = way(square)
        for factor in (3.0, 1.0):
            change(factor)
            close(USES[use](plain, function), answers[factor])


@pytest.mark.slow  # a fit asks its loss what it asks its model
def test_the_loss_of_a_fit_computes_what_it_reads_now():
    test_a_loss_computes_what_it_reads_now("fit", WAYS)


def test_what_draws_labels_computes_what_it_reads_now():
    base, a = Base(PARAMS, plain), library(plain).parameters
    by = lambda sample: fisher_diagonal(base, Shift("w"), a, TASKS, square, sample=sample, draws=2)["shift:w"]
    moved = lambda key, output: output + jax.random.normal(key, output.shape)
    shift = np.zeros(1)
    sample = lambda key, output, y: moved(key, output) + shift
    first = by(sample)
    shift[0] = 2.0
    close(by(sample), by(lambda key, output, y: moved(key, output) + 2.0))
    assert not np.allclose(by(sample), first)


@pytest.fixture
def compiled():
    """How many programs have been compiled since the last question."""
    durations = []

    def listen(event, duration, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            durations.append(duration)

    def count():
        number = len(durations)
        durations.clear()
        return number

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("use", USES)
def test_what_computes_the_same_is_compiled_once(use, compiled):
    """Lambdas that are made anew, and other numbers in what they captured."""

    def answer(number):
        scale, large = np.array([1.0, number]), jnp.full(5000, number)
        model = lambda params, x: (x * scale) @ params["w"] + large[0]
        return USES[use](model, lambda output, y: jnp.sum((output - y - large[1]) ** 2))

    one = answer(1.0)
    assert compiled() > 0
    answer(1.0)
    two = answer(2.0)
    assert compiled() == 0
    assert not all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(two)))


def test_a_users_trace_goes_through():
    """Functions and arguments of a trace of the user's: its own numbers, its derivatives, and types that stay weak."""

    def total(factor, x):
        f = lambda params, x: factor * (x @ params["w"])
        base = Base(PARAMS, f, features=f)
        return jnp.sum(base.embed(x)) + jnp.sum(library(f).apply(x, INDEX))

    value = lambda factor: float(total(factor, X))
    assert float(jax.jit(total)(3.0, X)) == pytest.approx(3 * value(1.0))
    assert float(jax.grad(total)(1.0, X)) == pytest.approx(value(1.0))
    both = jax.vmap(total, in_axes=(0, None))(jnp.array([1.0, 2.0]), X)
    np.testing.assert_allclose(both, [value(1.0), value(2.0)])


def test_a_batch_that_is_sharded_by_hand_goes_through():
    """In a loop the types must stay what they are, with the axes along which they vary."""
    f = lambda params, x: jax.lax.scan(lambda carry, _: (jnp.tanh(carry @ params["w"]), None), x, None, length=2)[0]
    embed, spec = Base(PARAMS, plain, features=f).embed, jax.sharding.PartitionSpec("batch")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("batch",))
    close(jax.shard_map(embed, mesh=mesh, in_specs=spec, out_specs=spec)(X), embed(X))


def test_a_number_of_python_among_the_parameters_widens_nothing():
    f = lambda params, x: params["scale"] * (x @ params["w"])
    params = {"w": PARAMS["w"].astype(jnp.bfloat16), "scale": 2.0}
    base = Base(params, f, features=f)
    a = {"shift:w": np.zeros((1, 2, 2), jnp.bfloat16)}
    one = Library(base, a, Profile(np.ones(1), np.ones((1, 2)), a, np.ones((1, 2))), Shift("w"), (Card("a"),))
    x = X.astype(jnp.bfloat16)
    assert base.embed(x).dtype == one.apply(x, np.array([0, -1, 0])).dtype == base.apply(params, x).dtype == x.dtype


def test_products_are_as_precise_as_jax_is_told():
    """A model that is served is not made slower: only a fit asks for exact products."""
    base = Base(PARAMS, plain, features=plain)
    serve = lambda x: (base.embed(x), library(plain).apply(x, INDEX))
    text = str(jax.make_jaxpr(serve)(X))
    assert "dot_general" in text and "HIGHEST" not in text
    with jax.default_matmul_precision("highest"):
        assert "HIGHEST" in str(jax.make_jaxpr(serve)(X))
