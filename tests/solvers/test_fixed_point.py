"""Fixed points: found whether the plain iteration converges or not, verified, differentiated, and compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import Status

pytestmark = pytest.mark.hardly_optimized
N = 5
START, LEVELS = np.zeros((4, N)), np.linspace(-1, 1, 4 * N).reshape(4, N)
WEIGHTS = np.random.default_rng(0).standard_normal((N, N)) / N


def layer(z, level):
    """A contraction: the weights are less than 1 in norm."""
    return jnp.tanh(WEIGHTS @ z + level)


def plain_iteration(z, level, steps=200):
    for _ in range(steps):
        z = np.tanh(z @ WEIGHTS.T + level)
    return z


def test_it_is_what_the_plain_iteration_converges_to():
    solution = jol.fixed_point(layer, START, LEVELS)
    assert solution.success.all(), solution.summary()
    expected = plain_iteration(START, LEVELS)
    np.testing.assert_allclose(solution.x, expected, atol=1e-8)
    again = np.tanh(np.asarray(solution.x) @ WEIGHTS.T + LEVELS)
    np.testing.assert_allclose(solution.error, np.max(np.abs(again - solution.x), axis=1), atol=1e-15)
    np.testing.assert_allclose(solution.fun, solution.x - again, atol=1e-15)
    assert np.all(solution.error <= 1e-9)


def test_the_first_step_is_that_of_the_plain_iteration():
    one = jol.fixed_point(layer, START, LEVELS, solver=jol.LimitedBroyden(slopes=False, max_steps=1))
    np.testing.assert_allclose(one.x, plain_iteration(START, LEVELS, 1), rtol=1e-14)
    assert np.all(one.status == Status.MAX_STEPS) and np.all(one.steps == 1)


@pytest.mark.parametrize(
    "solver",
    [pytest.param(None, id="limited"), pytest.param(jol.Broyden(rescue=False), id="dense", marks=pytest.mark.slow)],
)
def test_it_is_found_where_the_plain_iteration_runs_away(solver):
    """x = a + c x with slopes c beyond ±1: a problem of each, for all of its unknowns, and one with all of them."""
    slopes = np.array([-30.0, -2.0, -1.0, 0.99, 1.5, 4.0])
    each_and_mixed = np.concatenate([np.repeat(slopes[:, None], 6, axis=1), slopes[None]])
    find = jax.jit(lambda x0, c: jol.fixed_point(lambda x, c: 1 + c * x, x0, c, solver=solver))
    solution = find(np.zeros((7, 6)), each_and_mixed)
    assert solution.success.all(), solution.summary()
    np.testing.assert_allclose(solution.x, 1 / (1 - each_and_mixed), rtol=1e-6)


@pytest.mark.slow
def test_no_fixed_point_is_no_root():
    few = jol.LimitedBroyden(slopes=False, max_steps=50)
    assert not jol.fixed_point(lambda x: x + 1 + x**2, np.zeros((1, 1)), solver=few).success.any()


def test_pytrees_and_aux_go_through():
    def g(x, shift):
        return {"u": 0.5 * x["v"][:1] + shift, "v": jnp.cos(x["v"]) * x["u"].astype("f4")}, jnp.sum(x["v"])

    x0 = {"u": jnp.zeros((3, 1)), "v": jnp.zeros((3, 2), jnp.float32)}
    solution = jol.fixed_point(g, x0, jnp.arange(3.0), has_aux=True, solver=jol.LimitedBroyden(atol=1e-6, slopes=False))
    assert solution.success.all() and jax.tree.structure(solution.x) == jax.tree.structure(x0)
    assert solution.x["u"].dtype == jnp.float64 and solution.x["v"].dtype == jnp.float32
    np.testing.assert_allclose(solution.aux, np.sum(solution.x["v"], axis=1), rtol=1e-6)
    np.testing.assert_allclose(solution.x["u"], 0.5 * solution.x["v"][:, :1] + np.arange(3.0)[:, None], atol=1e-5)


def test_one_problem_has_no_batch_axis():
    solution = jol.fixed_point(jnp.cos, 1.0, batched=False)
    assert solution.success and solution.x.shape == ()
    np.testing.assert_allclose(solution.x, 0.7390851332151607, atol=1e-9)


@pytest.mark.slow
def test_the_record_and_the_state_are_those_of_root():
    def few(steps, **options):
        solver = jol.LimitedBroyden(slopes=False, rescue=False, max_steps=steps)
        return jol.fixed_point(layer, START, LEVELS, solver=solver, record=12, keep_state=True, **options)

    whole = few(50)
    paused = few(2)
    resumed = few(50, resume=paused.state)
    assert np.array_equal(resumed.x, whole.x) and np.all(paused.status == Status.MAX_STEPS)
    np.testing.assert_allclose(whole.history.error[:, 0], np.max(np.abs(np.tanh(LEVELS)), axis=1), rtol=1e-12)


@pytest.mark.parametrize("size", [pytest.param(N, marks=pytest.mark.slow), pytest.param(40, id="without a matrix")])
def test_derivatives_are_those_of_the_implicit_function_theorem(size):
    """Of z = tanh(w z + level) with a diagonal w: dz = (1 − z²) / (1 − w (1 − z²)) dlevel."""
    slopes, levels = np.linspace(-2.0, 0.8, size), np.linspace(0.1, 1.0, 2 * size).reshape(2, size)
    plain = jol.LimitedBroyden(atol=1e-12, rescue=False, slopes=False)

    def total(levels):
        solution = jol.fixed_point(lambda z, level: jnp.tanh(slopes * z + level), 0 * levels, levels, solver=plain)
        return jnp.sum(solution.x), solution.x

    gradient, z = jax.jit(jax.grad(total, has_aux=True))(levels)
    bend = 1 - z**2
    np.testing.assert_allclose(gradient, bend / (1 - slopes * bend), rtol=1e-8)


class Scaled:
    """A method, of an object with a number that changes."""

    scale = 0.5

    def g(self, x, level):
        return self.scale * jnp.sin(x) + level


def test_a_second_call_with_the_same_function_compiles_nothing():
    heard = []

    def listen(event, seconds, **_):
        if event in ("/jax/core/compile/backend_compile_duration", "/jax/core/compile/jaxpr_trace_duration"):
            heard.append(event)

    scaled = Scaled()
    calls = {
        "a function": lambda: layer,
        "a lambda made again": lambda: lambda z, level: 0.3 * jnp.tanh(z) + level,
        "a method": lambda: scaled.g,
    }
    for name, function in calls.items():
        first = jol.fixed_point(function(), START, LEVELS)
        heard.clear()
        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            second = jol.fixed_point(function(), START + 0.1, LEVELS)
            compiled = [event for event in heard if "backend" in event]
            assert not compiled, name
            assert name != "a function" or not heard
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
        np.testing.assert_allclose(first.x, second.x, atol=1e-8)


def test_a_call_sees_what_the_function_reads_now():
    scaled = Scaled()
    before = jol.fixed_point(scaled.g, START, LEVELS)
    scaled.scale = -0.5
    after = jol.fixed_point(scaled.g, START, LEVELS)
    np.testing.assert_allclose(before.x, 0.5 * np.sin(before.x) + LEVELS, atol=1e-8)
    np.testing.assert_allclose(after.x, -0.5 * np.sin(after.x) + LEVELS, atol=1e-8)


def test_the_same_function_may_be_a_root_and_a_fixed_point():
    """Programs are kept by the function and by how it is called."""
    g = lambda x: 2 - x**3
    root, fixed = jol.root(g, np.ones((1, 1))), jol.fixed_point(g, np.ones((1, 1)))
    np.testing.assert_allclose((root.x, fixed.x), ([[2 ** (1 / 3)]], [[1.0]]), atol=1e-8)


@pytest.mark.parametrize(
    ("g", "error", "said"),
    [
        (lambda x: (x, x), ValueError, r"returned the structure .*\(\*, \*\).*expected that of x.*has_aux=True"),
        (lambda x: x[:2], ValueError, r"has shape \(2,\); expected that of x, \(3,\)"),
        (lambda x: jnp.sum(x), ValueError, r"has shape \(\); expected that of x, \(3,\)"),
        (lambda x: x.astype("f4"), TypeError, "has dtype float32; expected that of x, float64.*astype"),
        (lambda x: x > 0, TypeError, "has dtype bool; expected that of x, float64"),
        (lambda x, y, z: x, TypeError, r"called as fun\(x, args\)"),
    ],
    ids=["structure", "shape", "a scalar", "precision", "truth values", "arguments"],
)
def test_what_is_not_like_x_is_refused(g, error, said):
    with pytest.raises(error, match=said):
        jol.fixed_point(g, np.zeros((2, 3)))


def test_errors_name_the_leaf_and_say_what_to_try():
    x0 = {"u": np.zeros((2, 3)), "v": np.zeros(2)}
    with pytest.raises(ValueError, match=r"fun\(x, args\)\['v'\] has shape \(3,\); expected that of x\['v'\], \(\)"):
        jol.fixed_point(lambda x: {"u": x["u"], "v": x["u"]}, x0)
    with pytest.raises(ValueError, match=r"has shape \(3,\).*For one problem pass batched=False"):
        jol.fixed_point(lambda x: np.ones(3) * x, np.zeros(3))
    with pytest.raises(ValueError, match="must return a pair"):
        jol.fixed_point(lambda x: x, np.zeros((2, 3)), has_aux=True)
    with pytest.raises(TypeError, match=r"does not fit `fixed_point`: expected LimitedBroyden\(\) or Broyden\(\)"):
        jol.fixed_point(lambda x: x, np.zeros((2, 3)), solver=jol.BFGS())
    with pytest.raises(TypeError, match=r"^fixed_point\(\) does not take maxiter=: .*`max_steps`"):
        jol.fixed_point(lambda x: x, np.zeros((2, 3)), maxiter=3)
