"""The activation-side form equals the model with changed matrices, shares the unchanged ones, and is differentiable."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import IA3, LoRA, Shift
from jaxopt_lite.specialists.adapters import as_adapter
from jaxopt_lite.specialists.library import adapted
from tests.specialists import models

pytestmark = pytest.mark.hardly_optimized

x = np.linspace(-1.0, 1.0, 12).reshape(4, 3)
W, STACK, TABLE = (np.random.default_rng(3).normal(size=shape) for shape in ((3, 5), (2, 3, 5), (6, 5)))


def _dot(x, w):
    """A product of two dtypes, which `jnp.dot` would first make one."""
    return jax.lax.dot_general(x, w, (((1,), (0,)), ((), ())), preferred_element_type=w.dtype)


FUNCTIONS = {
    "x W": (lambda p, x: x @ p["w"], W),
    "Wᵀ xᵀ": (lambda p, x: p["w"].T @ x.T, W),
    "x W by a transpose of W": (lambda p, x: (p["w"].T @ x.T).T, W),
    "W on the left": (lambda p, x: jnp.einsum("mn,km->nk", p["w"], x), W),
    "W summed over its second axis": (lambda p, x: jnp.einsum("mn,km->kn", p["w"], x) @ p["w"].T, W),
    "x W in half precision and back": (lambda p, x: (x @ p["w"].astype(jnp.float32)).astype(float), W),
    "inside jit": (lambda p, x: jax.jit(lambda w, x: jnp.tanh(x @ w))(p["w"], x), W),
    "inside scan": (lambda p, x: jax.lax.scan(lambda c, row: (c + row @ p["w"], None), jnp.zeros(5), x)[0], W),
    "elementwise": (lambda p, x: (p["w"] ** 2).sum() + x, W),
    "twice in one product": (lambda p, x: p["w"].T @ p["w"], W),
    "returned": (lambda p, x: p["w"], W),
    "stack of matrices": (lambda p, x: jnp.einsum("kn,snm->skm", x, p["w"]), STACK),
    "stack, batched": (lambda p, x: jnp.einsum("skn,snm->skm", jnp.stack([x, 2 * x]), p["w"]), STACK),
    "rows of a table": (lambda p, x: p["w"][jnp.array([3, 1, 1])] * 2, TABLE),
    "one row of a table": (lambda p, x: p["w"][2], TABLE),
    "rows of a table, filled": (lambda p, x: p["w"].at[jnp.array([3, 9])].get(mode="fill", fill_value=1.0), TABLE),
    "x W in whole numbers": (lambda p, x: x @ p["w"].astype(jnp.int32), 10 * W),
    "x W in another dtype": (lambda p, x: 2 * jnp.dot(x, p["w"], preferred_element_type=jnp.float32), W),
    "whole numbers times W": (lambda p, x: _dot((5 * x).astype(jnp.int8), p["w"]), W),
    "columns of a table": (lambda p, x: p["w"][:, jnp.array([3, 1])], TABLE),
}
PARTS = {
    "scale of outputs": IA3("w"),
    "scale of inputs": IA3("w", axis=0),
    "scale in the middle": IA3("w", axis=-2),
    "low rank": LoRA("w", rank=2, alpha=3.0),
    "shift": Shift("w"),
}


@functools.cache
def answers(part):
    """Of all functions with this part: by activations, and of the changed matrix; by one program."""
    adapter = as_adapter(PARTS[part])
    a = {name: models.moved(adapter, {"w": w}) for name, (_, w) in FUNCTIONS.items()}

    def compute(a):
        return {
            name: (adapted(adapter, f)({"w": w}, a[name], x), f(adapter.apply({"w": w}, a[name]), x))
            for name, (f, w) in FUNCTIONS.items()
        }

    return jax.tree.map(np.asarray, jax.jit(compute)(a))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_the_model_with_changed_matrices(name, part):
    ours, expected = answers(part)[name]
    np.testing.assert_allclose(ours, expected, rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("adapter", models.ADAPTERS.values(), ids=models.ADAPTERS.keys())
def test_gradients_are_those_of_the_model_with_changed_matrices(adapter):
    params, x = models.params(jnp.float64), np.linspace(-1.0, 1.0, models.WIDTH)
    a = models.moved(adapter, params)
    ours = jax.jit(jax.grad(lambda a: adapted(adapter, models.apply)(params, a, x).sum()))(a)
    expected = jax.jit(jax.grad(lambda a: models.apply(adapter.apply(params, a), x).sum()))(a)
    for key, gradient in expected.items():
        np.testing.assert_allclose(ours[key], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("part", [IA3("w"), IA3("w", axis=0), LoRA("w", rank=2)], ids=repr)
def test_a_batch_of_changes_makes_no_matrix_for_each_input(part):
    """No array of the batched program has B·m·n numbers: the matrix is multiplied once, for all inputs."""
    batch, m, n = 11, 64, 48
    adapter, params = as_adapter(part), {"w": np.ones((m, n))}
    a = jax.tree.map(lambda leaf: jnp.stack([leaf] * batch), adapter.identity(params))
    f = jax.vmap(adapted(adapter, lambda p, x: jnp.tanh(x @ p["w"])), in_axes=(None, 0, 0))
    jaxpr = jax.make_jaxpr(f)(params, a, np.ones((batch, m)))
    assert max(out.aval.size for eqn in jaxpr.eqns for out in eqn.outvars) < batch * m * n
