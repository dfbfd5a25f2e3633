"""Hoisting changes no value, and leaves to the solve only what depends on the adapter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists.hoist import hoist
from jaxopt_lite.specialists.library import adapted
from tests.specialists import models

pytestmark = pytest.mark.hardly_optimized


@pytest.mark.parametrize("adapter", models.ADAPTERS.values(), ids=models.ADAPTERS.keys())
def test_the_three_steps_are_the_function(adapter):
    params, x = models.params(jnp.float64), jnp.linspace(-1.0, 1.0, models.WIDTH)
    a, f = models.moved(adapter, params), adapted(adapter, models.apply)
    steps = hoist(f, params, a, x)
    value = steps.rest(a, steps.shared(params), steps.example(params, x))
    np.testing.assert_allclose(value, f(params, a, x), rtol=1e-12)


def test_layers_before_the_first_change_are_computed_once():
    params, x = models.params(), jnp.ones(models.WIDTH)
    adapter = models.ADAPTERS["ia3 on activations"].parts[0] + models.ADAPTERS["ia3"].parts[1]
    steps = hoist(adapted(adapter, models.apply), params, adapter.identity(params), x)
    known = steps.example(params, x)
    assert [leaf.shape for leaf in known] == [(models.HIDDEN,)]
    rest = jax.make_jaxpr(steps.rest)(adapter.identity(params), steps.shared(params), known)
    assert "tanh" not in str(rest) and str(rest).count("dot_general") == 1


def test_a_function_of_neither_adapter_nor_example_and_pytrees():
    def f(params, a, x):
        return {"all": params["w"] * a["k"] + x["u"], "none": params["w"] * 2, "input": x["v"]}

    params, a, x = {"w": jnp.arange(3.0)}, {"k": jnp.float32(2.0)}, {"u": jnp.ones(3), "v": jnp.arange(2)}
    steps = hoist(f, params, a, x)
    value = steps.rest(a, steps.shared(params), steps.example(params, x))
    for ours, expected in zip(jax.tree.leaves(value), jax.tree.leaves(f(params, a, x)), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_what_no_output_depends_on_is_left_out():
    """The changed leaf of a head that a model does not use is never made, and the leaf is no argument of the solve."""

    def f(params, a, x):
        changed = {"used": params["used"] + a["used"], "head": params["head"] + a["head"]}
        unused = x * 2 @ changed["head"]  # noqa: F841
        return x @ changed["used"]

    params = {"used": jnp.arange(3.0), "head": jnp.ones((3, 5))}
    x, a = jnp.ones(3), jax.tree.map(jnp.ones_like, params)
    steps = hoist(f, params, a, x)
    shared, known = steps.shared(params), steps.example(params, x)
    assert [leaf.shape for leaf in (*shared, *known)] == [(3,), (3,)]
    assert steps.rest(a, shared, known) == f(params, a, x) == 6
