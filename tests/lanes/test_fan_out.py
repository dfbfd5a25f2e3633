"""A batch that is divided over cores has the answers of one that is not, to the bit, and is divided where it can be."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite.lanes import fan_out, widths
from jaxopt_lite.lanes.fan_out import Rows, computes_now, part_size, why_undivided

pytestmark = pytest.mark.hardly_optimized

SIZE = 301
ROWS = Rows(SIZE, ((0,),), 2, 10)
SLACK = {"shift": np.linspace(0, 1, SIZE), "scale": np.stack([np.ones(SIZE), np.full(SIZE, 2.0)], axis=1)}


def chain(x, a):
    residual = a["scale"] * (x**3 + x[::-1]) - a["shift"]
    return residual, {"first": x[0], "sum": jnp.sum(x)}


def bowl(x, a):
    value, aux = chain(x, a)
    return jnp.sum(value**2), aux


@pytest.fixture
def divided(monkeypatch):
    """Three cores, and no batch too small for them; how many parts were started where."""
    started = []
    monkeypatch.setattr(fan_out, "cores", lambda: 3)
    monkeypatch.setattr(widths, "_PART_OPERATIONS", 1)
    submit = fan_out._submitted
    monkeypatch.setattr(fan_out, "_submitted", lambda *call: started.append(call) or submit(*call))
    return started


def assert_same_bits(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()


CALLS = {
    "roots": lambda x0: jol.root(
        lambda x, a: chain(x, a[0]), x0, (SLACK | {"scale": SLACK["scale"].T}, 2.0), has_aux=True, record=5,
        args_axes=({"shift": 0, "scale": -1}, None),
        solver=jol.LimitedBroyden(atol=np.geomspace(1e-3, 1e-9, SIZE), max_steps=np.arange(SIZE), rescue=False),
    ),
    "starts": lambda x0: jol.multistart(bowl, jnp.stack([x0, x0 - 1, 2 * x0], axis=1), SLACK, has_aux=True),
    "starts of one that reads nothing": lambda x0: jol.multistart(
        lambda x, a: jnp.sum((x - 1) ** 2), x0, 2.0, batched=False
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_parts_have_the_bits_of_the_whole(name, divided):
    x0 = np.random.default_rng(0).normal(size=(SIZE, 2))
    got = CALLS[name](x0)
    started = len(divided)
    assert started in (2, 4)  # four where a problem needs more than is tried first
    assert_same_bits(got, jax.jit(CALLS[name])(x0))
    assert len(divided) == started  # a call within a program is not divided


def test_a_pause_between_parts(divided):
    x0, options = np.ones((SIZE, 2)), {"has_aux": True, "keep_state": True}
    part = jol.minimize(bowl, x0, SLACK, solver=jol.BFGS(max_steps=3), **options)
    got = jol.minimize(bowl, x0, SLACK, resume=part.state, **options)
    assert len(divided) == 4 and not part.success.all()
    assert_same_bits(got, jol.minimize(bowl, x0, SLACK, **options))


def test_derivatives_and_vmap_are_not_divided(divided):
    x0 = jnp.ones((SIZE, 2))

    def total(shift):
        return jnp.sum(jol.root(lambda x, a: x**3 + x - a, x0, shift, solver=jol.Broyden(rescue=False)).x)

    gradient = jax.grad(total)(jnp.asarray(SLACK["shift"]))
    assert gradient.shape == (SIZE,) and np.isfinite(gradient).all() and not divided


def test_an_array_changed_after_the_call_is_as_it_was(divided):
    x0 = np.ones((SIZE, 2))
    expected = CALLS["roots"](x0.copy())
    got = CALLS["roots"](x0)
    x0[:] = np.nan
    assert_same_bits(got, expected)


def test_errors_are_those_of_the_whole(divided):
    with pytest.raises(ValueError, match=r"atol has shape \(3,\); expected one number, or one per problem: \(301,\)"):
        jol.root(chain, np.ones((SIZE, 2)), SLACK, has_aux=True, solver=jol.Broyden(atol=np.ones(3)))
    with pytest.raises(ValueError, match="args\\['scale'\\] has 301 entries along axis 0; expected 300"):
        jol.root(chain, np.ones((SIZE - 1, 2)), SLACK, has_aux=True)


def test_threads_with_other_settings_and_no_time_leave_their_parts(divided, monkeypatch):
    x0 = np.ones((SIZE, 2))
    expected = CALLS["roots"](x0)
    busy, pool = threading.Event(), ThreadPoolExecutor(1)
    monkeypatch.setattr(fan_out, "_threads", lambda count: pool)
    pool.submit(busy.wait, 60)
    assert_same_bits(CALLS["roots"](x0), expected)
    busy.set()
    with jax.default_matmul_precision("highest"):  # which is this thread's alone
        assert_same_bits(CALLS["roots"](x0), expected)
    pool.shutdown()
    assert_same_bits(CALLS["roots"](x0), expected)


def test_many_threads_of_the_user(divided):
    x0 = np.ones((SIZE, 2))
    expected = CALLS["roots"](x0)
    with ThreadPoolExecutor(6) as pool:
        for got in pool.map(CALLS["roots"], [x0] * 12):
            assert_same_bits(got, expected)


def test_why_a_batch_is_not_divided(monkeypatch):
    x0 = (np.ones((SIZE, 2)),)
    assert "so little work" in str(why_undivided(ROWS, 4)) and part_size(ROWS, 4, x0) is None
    monkeypatch.setattr(fan_out, "cores", lambda: 2)
    assert why_undivided(ROWS, 10**6) is None and part_size(ROWS, 10**6, x0) == 151
    monkeypatch.setattr(jax, "local_device_count", lambda backend: 2)
    assert "over_devices" in str(why_undivided(ROWS, 10**6))
    monkeypatch.undo()
    monkeypatch.setattr(fan_out, "cores", lambda: 1)
    assert "one core" in str(why_undivided(ROWS, 10**6))


def test_what_is_traced_does_not_compute_now(monkeypatch):
    x0, said = np.ones((SIZE, 2)), []
    jax.eval_shape(lambda: said.append(computes_now(x0)) or 0)
    jax.vmap(lambda x: said.append(computes_now(x)) or 0)(x0)
    with jax.disable_jit():
        said.append(computes_now(x0))
    assert computes_now(x0)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert said == [False] * 3 and not computes_now(x0)


def test_what_a_thread_has_begun_is_waited_for(monkeypatch):
    monkeypatch.setattr(fan_out, "_PATIENCE", 0.01)
    begun, end = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: (begun.set(), end.wait(), "late")[-1])
        begun.wait()
        assert fan_out._result(pool.submit(int)) is fan_out._NOTHING  # its thread is taken
        end.set()
        assert fan_out._result(future) == "late"
    assert fan_out._result(None) is fan_out._NOTHING
