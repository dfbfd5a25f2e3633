"""A function is what it reads now. What computes the same compiles once, and nothing stays in memory."""

import gc
import itertools
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes import capture as module
from jaxopt_lite.lanes.capture import Signature, capture, run

pytestmark = pytest.mark.hardly_optimized

X = np.arange(3.0)
FACTOR = 2.0
traces = []


def signature(dtype=np.float64):
    return Signature(jax.ShapeDtypeStruct((3,), dtype))


ONE = signature()


def core(fun, power, x):
    """Compiled for a function; counts how often."""
    traces.append(power)
    return fun(x) ** power


def answer(fun, power=1, x=X, sign=ONE):
    return np.asarray(run(core, (power,), [(fun, sign)], x)).tolist()


@pytest.fixture
def compiled(monkeypatch):
    """How many programs have been compiled since the last question."""
    traces.clear()

    def count():
        number = len(traces)
        traces.clear()
        return number

    return count


def by_global(x):
    return FACTOR * x


class Model:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x

    def method(self, x):
        return self.factor * x


def test_a_changed_number_is_seen_and_compiled_once(monkeypatch, compiled):
    for factor in (2.0, 3.0, 2.0, 3.0, 2.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        assert answer(by_global) == [0.0, factor, 2 * factor]
    assert compiled() == 2
    model = Model(5.0)
    for factor in (5.0, 7.0, 5.0):
        model.factor = factor
        assert answer(model.method) == answer(model) == [0.0, factor, 2 * factor]
    assert compiled() == 2
    lambdas = [lambda x, k=k: k * x for k in (11.0, 13.0, 11.0)]
    assert [answer(f)[1] for f in lambdas] == [11.0, 13.0, 11.0] and compiled() == 2


def test_other_numbers_in_captured_arrays_compile_nothing(compiled):
    edited, model = np.ones(3), Model(np.ones(3))
    for k in range(4):
        edited[1] = model.factor[1] = k
        array = jnp.full(3, float(k))
        assert answer(lambda x: x * edited) == [0.0, k, 2.0]
        assert answer(model.method) == [0.0, k, 2.0]
        assert answer(lambda x: x * array) == [0.0, k, 2.0 * k]  # noqa: B023
        assert answer(lambda x: x * np.sum(edited)) == [0.0, 2.0 + k, 4.0 + 2 * k]
    assert compiled() == 3 + 4  # of the sum, which NumPy makes while tracing, each number is one of the program's


def test_edits_after_a_call_and_back_again(compiled):
    """What is remembered for an array's bytes is not what the array holds by now."""
    one = np.zeros(3)
    assert answer(lambda x: x + one) == [0.0, 1.0, 2.0]
    one[:] = 5.0
    assert answer(lambda x: x + one) == [5.0, 6.0, 7.0]
    other = np.zeros(3)

    def same_code(array):
        return lambda x: x + array

    assert answer(same_code(other)) == [0.0, 1.0, 2.0]
    other[:] = 9.0
    assert answer(same_code(np.zeros(3))) == [0.0, 1.0, 2.0]
    large = np.zeros(3000)
    big = lambda x: x + large[:3]
    assert answer(big) == [0.0, 1.0, 2.0]
    large[0] = 1.0
    assert answer(big) == [1.0, 1.0, 2.0]


def test_a_lambda_made_anew_is_the_same_program(compiled):
    results = [answer(lambda x: jnp.where(x > 0, x, 1.0) + X.size) for _ in range(5)]
    assert compiled() == 1 and results == [results[0]] * 5
    assert capture(lambda x: x + 1, ONE).program is capture(lambda y: y + 1, ONE).program


def test_options_and_shapes_are_programs_of_their_own(compiled):
    fun = lambda x: x + 1
    assert (
        answer(fun, 2) == [1.0, 4.0, 9.0] and answer(fun, 3) == [1.0, 8.0, 27.0] and answer(fun, 2) == [1.0, 4.0, 9.0]
    )
    assert compiled() == 2
    assert answer(fun, 2, np.arange(3, dtype=np.float32), signature(np.float32)) == [1.0, 4.0, 9.0] and compiled() == 1


def test_nothing_is_traced_where_nothing_can_have_changed(monkeypatch):
    calls = []
    traced = module._traced
    monkeypatch.setattr(module, "_traced", lambda *a: calls.append(a) or traced(*a))
    array = jnp.ones(3)
    fun = lambda x: by_global(x) + array * jnp.sum(x)
    for _ in range(3):
        answer(fun)
        answer(lambda x: x * 17)
    assert len(calls) == 2
    model = Model(1.0)
    for level in (1.0, 1.0, 2.0, 1.0):
        model.factor = level
        assert answer(model.method) == [0, level, 2 * level]
    assert len(calls) == 4  # each level once
    for _ in range(3):
        answer(lambda x: x * next(itertools.count(1)))  # of which nobody knows what it does next
    assert len(calls) == 7


def test_other_settings_of_jax_trace_anew(compiled):
    fun = lambda x: x + jnp.ones(3) * np.pi
    for _ in range(2):
        assert answer(fun)[0] == np.pi and np.asarray(run(core, (1,), [(fun, ONE)], X)).dtype == np.float64
        with jax.enable_x64(False):
            here = signature(np.float32)
            assert run(core, (1,), [(fun, here)], X).dtype == np.float32
    matrix = jnp.ones((3, 3), np.float32)

    def precision(sign):
        program, _ = capture(lambda x: matrix @ x, sign)
        return str(jax.make_jaxpr(lambda x: program((matrix,), x))(X.astype("f4")))

    sign = signature(np.float32)
    assert "HIGHEST" in precision(sign)
    with jax.default_matmul_precision("default"):
        assert "HIGHEST" not in precision(sign)
    assert "HIGHEST" in precision(sign)


def test_the_settings_of_the_quickest_way_are_looked_at_when_something_is_compiled():
    """A function that is remembered from other settings must not be compiled for these."""
    fun = lambda x: x + jnp.ones(3).astype(x.dtype)
    sign = signature(np.float32)
    x = np.zeros(3, np.float32)

    def cast(fun, x):
        return fun(x) * jnp.ones(())

    assert run(cast, (), [(fun, sign)], x).dtype == np.float64
    with jax.enable_x64(False):
        assert run(cast, (), [(fun, sign)], x).dtype == np.float32
        assert run(core, (2,), [(fun, sign)], x).dtype == np.float32
    assert run(cast, (), [(fun, sign)], x).dtype == np.float64


def test_tracers_are_captured(compiled):
    def loss(k):
        return jnp.sum(run(core, (2,), [(lambda x: x * k, ONE)], X))

    assert (
        jax.grad(loss)(3.0) == 30.0
        and jax.jit(loss)(3.0) == 45.0
        and jax.vmap(loss)(jnp.arange(2.0)).tolist() == [0, 5]
    )
    assert jax.grad(jax.grad(loss))(3.0) == 10.0


def test_an_array_dies_with_its_function():
    array = jnp.zeros(3) + 1
    fun = lambda x, a=array: jnp.cos(x) + 7 * a  # which no other test has tried, so that its program is new
    sign = signature()
    answer(fun, sign=sign)
    answer(fun, sign=sign)
    assert len(sign.latest) == 1
    gone = weakref.ref(array)
    del fun, array
    gc.collect()
    assert gone() is None and not sign.latest


def test_programs_are_forgotten_when_there_are_many(monkeypatch):
    module._program.cache_clear()
    first = weakref.ref(capture(lambda x: x + 0.5, ONE).program)
    gc.collect()
    assert first() is not None
    for k in range(module._PROGRAMS):
        capture(lambda x, k=k: x + (k + 1.5), ONE)
    gc.collect()
    assert first() is None
    monkeypatch.setattr(module, "_FUNCTIONS", 8)
    for k in range(20):
        capture(lambda x, k=k: x + (k + 0.25), ONE)
    assert len(module._kept) <= 8


def test_functions_that_cannot_be_compared_are_compiled_each_time(compiled):
    """For instance with a rule for batches, whose effect is not known."""

    def batched(k):
        @jax.custom_batching.custom_vmap
        def f(x):
            return x * k

        f.def_vmap(lambda size, batched, x: (x * Model(k).factor, True))
        return f

    assert answer(batched(2.0)) == [0.0, 2.0, 4.0]
    assert answer(batched(3.0)) == [0.0, 3.0, 6.0]


def test_several_functions_at_once(compiled):
    two = Signature.of(np.ones((5, 3)), np.ones(3), mapped=(True, False))
    assert two is Signature.of(np.zeros((9, 3)), np.zeros(3), mapped=(True, False))
    model = Model(np.ones(3))

    def both(f, g, power, x):
        traces.append(power)
        return f(x, x) + g(x) ** power

    def sum_of(k):
        return run(both, (2,), [(lambda x, y: x + y * k, two), (model.method, ONE)], X).tolist()

    assert sum_of(1.0) == [0.0, 3.0, 8.0]
    model.factor = np.full(3, 2.0)
    assert sum_of(1.0) == [0.0, 6.0, 20.0] and compiled() == 1
    assert sum_of(2.0) == [0.0, 7.0, 22.0] and sum_of(1.0) == [0.0, 6.0, 20.0] and compiled() == 1


def test_a_failing_function_leaves_nothing(compiled):
    def fails(x):
        raise KeyError("my own")

    for _ in range(2):
        with pytest.raises(KeyError, match="my own"):
            answer(fails)
    assert compiled() == 0 and not ONE.latest.get(id(fails))


def test_an_axis_of_a_vmap_around_the_call_is_named():
    with pytest.raises(ValueError, match="fun computes along the axis 'who' of a jax.vmap around the call"):
        jax.vmap(lambda x: capture(lambda y: y - jax.lax.pmean(x, "who"), ONE), axis_name="who")(np.ones(2))


def test_threads_have_their_own_numbers():
    """Twenty threads change and read their own models of one class; none gets another's answer."""
    wrong = []

    def work(k):
        model = Model(float(k))
        for n in range(20):
            model.factor = np.array([k, n, k * n], float)
            if answer(model.method) != [0.0, n, 2.0 * k * n]:
                wrong.append((k, n))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_function_calls_back_with_its_own_objects():
    """Two functions that so far compute the same do not share a call to the host, which sees what comes later."""

    def made(store):
        return lambda x: jax.pure_callback(lambda x: np.asarray(x) * store["factor"], x, x)

    stores = [{"factor": 2.0}, {"factor": 2.0}]
    first, second = map(made, stores)
    assert answer(first) == answer(second) == [0.0, 2.0, 4.0]
    stores[0]["factor"] = 5.0
    assert answer(second) == [0.0, 2.0, 4.0] and answer(first) == [0.0, 5.0, 10.0]


def test_a_function_that_changes_what_it_reads_is_traced_every_time():
    def toggling():
        is_odd = False

        def fun(x):
            nonlocal is_odd
            is_odd = not is_odd
            return x * (2.0 if is_odd else 1.0)

        return fun

    fun = toggling()
    assert [answer(fun)[1] for _ in range(6)] == [2.0, 1.0] * 3
