"""Derivatives come by the mode that a function has; where it has none an error says so."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes import derivatives
from jaxopt_lite.lanes.lanes_last import lanes_last

pytestmark = pytest.mark.hardly_optimized

A = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 1.0]])
X, P = np.array([0.5, -1.0, 2.0]), np.array([1.0, 2.0, -1.0])


@jax.custom_vjp
def cube(x):
    return x**3


cube.defvjp(lambda x: (x**3, x), lambda x, u: (3 * x**2 * u,))


def cube_in_a_loop(x):
    """A loop of whose rounds JAX does not know how many there are."""
    return jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * x), (jnp.sum(x) * 0, jnp.ones_like(x)))[1]


def cube_on_the_host(x):
    return jax.pure_callback(
        lambda x: np.asarray(x) ** 3, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims"
    )


def cube_of_both(x):
    return cube(x) - 0 * cube_in_a_loop(x)


def every(cube, x, p):
    f = lambda x: jnp.asarray(A) @ cube(x)
    return {
        "gradient": derivatives.value_and_grad(lambda x: (jnp.sum(f(x)), jnp.sum(x)), x),
        "slope": derivatives.value_and_slope(f, x, p, True, True),
        "pullback": derivatives.pullback(f, x, p),
        "jacobian": (derivatives.jacobian(f, x), derivatives.value_and_jacobian(f, x)),
        "hessian": derivatives.value_grad_and_hessian(lambda x: jnp.sum(f(x) ** 2), x),
    }


@functools.cache
def expected():
    return jax.jit(functools.partial(every, lambda x: x**3))(X, P)


@pytest.mark.parametrize("one_mode", [cube, lambda x: jax.jit(cube)(x), cube_in_a_loop])
def test_one_mode_serves_for_all(one_mode):
    of_all = functools.partial(every, one_mode)
    jax.tree.map(np.testing.assert_allclose, jax.jit(of_all)(X, P), expected())
    lanes = np.stack([X, X + 1, X - 1], axis=-1), np.stack([P] * 3, axis=-1)
    on_lanes = jax.tree.map(np.asarray, jax.jit(lanes_last(of_all, (True, True)))(*lanes))
    jax.tree.map(np.testing.assert_allclose, jax.tree.map(lambda leaf: leaf[..., 0], on_lanes), expected())


def test_the_usual_mode_is_taken_where_there_is_one():
    f = lambda x: jnp.sin(x) * x[0]
    usual = jax.make_jaxpr(lambda x, p: (jax.jvp(f, (x,), (p,)), jax.jacfwd(f)(x), jax.vjp(f, x)[1](p)[0]))(X, P)

    def all_three(x, p):
        slope = derivatives.value_and_slope(f, x, p, True, False)
        return slope, derivatives.jacobian(f, x), derivatives.pullback(f, x, p)

    assert str(jax.make_jaxpr(all_three)(X, P)) == str(usual)


@pytest.mark.parametrize(
    ("no_mode", "named"),
    [
        (cube_on_the_host, "`pure_callback` at .*test_derivatives.py.*do not support JVP"),
        (cube_of_both, "`custom_vjp_call` at .*, `while` at .*test_derivatives.py"),
    ],
)
def test_where_there_is_none_the_error_names_the_operation_and_what_to_use(no_mode, named):
    for derivative in (derivatives.jacobian, lambda f, x: derivatives.pullback(f, x, P)):
        with pytest.raises(TypeError, match=f"neither forward nor backward, because of {named}") as error:
            derivative(no_mode, X)
        assert "jax.custom_jvp" in str(error.value) and "LimitedBroyden(rescue=False)" in str(error.value)
    with pytest.raises(TypeError, match="no slope"):
        derivatives.value_and_slope(no_mode, X, P, True, True)
    value, slope = derivatives.value_and_slope(no_mode, X, P, False, True)
    np.testing.assert_allclose(value, X**3)
    assert np.isnan(slope).all()


def test_an_error_of_the_users_own_goes_on_as_it_is():
    @jax.custom_jvp
    def f(x):
        return x

    @f.defjvp
    def rule(primals, tangents):
        raise ValueError("the rule of f is not written yet")

    for derivative in (derivatives.jacobian, lambda f, x: derivatives.value_and_slope(f, x, P, False, False)):
        with pytest.raises(ValueError, match="^the rule of f is not written yet"):
            derivative(f, X)
