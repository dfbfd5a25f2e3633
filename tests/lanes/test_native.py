"""What can be one native function of the CPU, and that it computes the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite.lanes.lanes_last import lanes_last
from jaxopt_lite.lanes.native import as_one_native_call, why_not_native


def inner(x):
    return jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(x) * 2, x)


def is_native(jaxpr, width: int, columns: int) -> bool:
    return why_not_native(jaxpr, width, 0, columns) is None


@pytest.mark.parametrize(
    "fun, native",
    [
        (lambda x: jnp.sum(x**2), True),
        (inner, True),
        (lambda x: jax.nn.logsumexp(jax.nn.softplus(x[1:] / x[:-1])), True),
        (lambda x: x @ (jnp.ones((4, 4)) @ x), True),
        (lambda x: jnp.ones((1025, 4)) @ x, False),
        (lambda x: jax.lax.cond(x[0] > 0, lambda x: jnp.ones((4, 4)) @ x, lambda x: x, x), False),
        (lambda x: jnp.sort(x), False),
        (lambda x: x[jnp.argsort(x)], False),
        (lambda x: jax.lax.cond(x[0] > 0, lambda x: jnp.cumsum(x), lambda x: x, x), False),
        (lambda x: jax.jit(lambda x: jnp.linalg.solve(jnp.eye(4) + x, x))(x), False),
    ],
    ids=[
        "elementwise",
        "loop",
        "functions",
        "small products",
        "large product",
        "product in a branch",
        "sort",
        "gather",
        "in a branch",
        "in a call",
    ],
)
def test_what_the_compiler_gives_to_a_library_is_not_native(fun, native):
    jaxpr = jax.make_jaxpr(fun)(jnp.ones(4)).jaxpr
    assert is_native(jaxpr, 64, 1) is native


def test_large_arrays_and_reductions_are_not_native():
    small, large = (jax.make_jaxpr(lambda x: x + 1)(jnp.ones(n)).jaxpr for n in (10, 10_000))
    assert is_native(small, 64, 10) and not is_native(large, 64, 1)
    sums = jax.make_jaxpr(jnp.sum)(jnp.ones(30)).jaxpr
    assert is_native(sums, 64, 1) and not is_native(sums, 64, 30)


def test_what_an_operation_repeats_is_added_up_in_reverse_mode():
    """Sixteen times eight numbers on 32 lanes are as many as XLA takes out of a native function."""
    loss = lambda b: jnp.sum(jnp.tanh(np.ones((16, 8)) + b[None]), axis=0) @ b
    jaxpr = jax.make_jaxpr(loss)(jnp.ones(8)).jaxpr

    def is_native(fun, width: int) -> bool:
        on_tile = lambda: jax.make_jaxpr(lanes_last(fun, (True,)))(jnp.ones((8, width)))
        return why_not_native(jaxpr, width, 0, 1, on_tile) is None

    assert is_native(jax.grad(loss), 31) and not is_native(jax.grad(loss), 32)


def test_what_derivatives_and_lanes_make_of_a_function_is_looked_at():
    """The gradient of an index by data is a scatter, and a rule of a derivative may be anything."""

    @jax.custom_jvp
    def with_rule(x):
        return jnp.sum(x**2)

    @with_rule.defjvp
    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        return with_rule(x), 2 * jax.lax.cumsum(x * t)[-1]

    k = np.array([0, 2, -1, 1])
    for fun in (lambda x, k: jnp.sum(x**2) - 2 * x[k], lambda x, k: with_rule(x - (jnp.arange(3) == k % 3))):
        solution = jol.minimize(fun, np.full((4, 3), 0.5), k, solver=jol.BFGS(rescue=False))
        assert solution.success.all() and np.allclose(solution.x, np.eye(3)[k], atol=1e-5)


def test_a_root_solver_that_goes_backward_is_looked_at():
    """There is J p of an index by data in a native function, and no Jᵀu."""
    fun = lambda x, k: x**2 + 1 + x[k] ** 2
    solution = jol.root(fun, np.ones((4, 3)), np.array([0, 2, -1, 1]), solver=jol.LimitedBroyden())
    assert (solution.status == jol.Status.NO_ROOT).all() and np.allclose(solution.fun, 1, atol=1e-2)


def test_what_only_an_empty_array_is_made_of_ends_no_process():
    """In one unknown the chain has no links, and its stiffness is for nothing."""
    chain = lambda x, stiffness: jnp.sum((x - 1) ** 2) + jnp.sum(stiffness * x[1:])
    jaxpr = jax.make_jaxpr(chain)(jnp.ones(1), 10.0).jaxpr
    assert "is empty" in why_not_native(jaxpr, 64, 0, 1)
    solution = jol.minimize(chain, np.zeros((3, 1)), 10.0, args_axes=None, solver=jol.BFGS(rescue=False))
    np.testing.assert_allclose(solution.x, 1, atol=1e-6)


def test_a_mean_over_examples_is_minimized():
    """Its gradient adds up over the examples what a product has, in a sum that is in no line of the function."""
    x = np.random.default_rng(0).normal(size=(2, 12, 3)).astype(np.float32)
    w = x[0, :8]
    loss = lambda b, x: jnp.mean(jax.vmap(lambda x: jnp.sum((w.T @ jnp.tanh(w @ x + b) - x) ** 2))(x))
    solution = jol.minimize(loss, np.zeros((2, 8), np.float32), x, solver=jol.BFGS(rescue=False))
    gradients = jax.vmap(jax.grad(loss))(solution.x, x)
    assert solution.success.all() and np.abs(gradients).max() < 1e-3


def test_a_loop_computes_the_same_as_one_native_call():
    loop = lambda x: jax.lax.while_loop(lambda x: jnp.any(x < 100), lambda x: x * 2 + 1, x)
    native = as_one_native_call(loop)
    assert jax.jit(native)(jnp.ones(8)).tolist() == loop(jnp.ones(8)).tolist()
