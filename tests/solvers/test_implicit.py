"""Derivatives of solutions: closed forms and finite differences agree, in every mode and composition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol

pytestmark = pytest.mark.hardly_optimised

# Without its second method, which has no part in a derivative and would double what is compiled.
TIGHT = {"broyden": jol.Broyden(atol=1e-12, rescue=False), "bfgs": jol.BFGS(atol=1e-9)}
X0, A = np.ones((3, 2)), np.array([[1.0, 2.0], [3.0, 4.0], [0.5, 1.5]])


def cube_root(a, x0=X0, **options):
    """x³ = a, by components: dx/da = 1 / (3 x²)."""
    return jol.root(lambda x, a: x**3 - a, x0, a, solver=TIGHT["broyden"], **options)


def quadratic(a, x0=X0, **options):
    """min ½ xᵀHx − aᵀx with H fixed: x = H⁻¹a."""
    return jol.minimize(lambda x, a: x @ (H @ x) / 2 - a @ x, x0, a, solver=TIGHT["bfgs"], **options)


H = np.array([[2.0, 0.5], [0.5, 1.0]])


def coupled(solver):
    """A nonlinear problem with coupled unknowns and a pytree of arguments; x by either entry."""

    def gradient(x, args):
        return jnp.sinh(x) * args["k"] + args["c"] * jnp.sum(x) - args["b"]

    def objective(x, args):
        return jnp.sum(args["k"] * jnp.cosh(x)) + args["c"] * jnp.sum(x) ** 2 / 2 - jnp.sum(args["b"] * x)

    def answer(args):
        if solver == "broyden":
            return jol.root(gradient, X0, args, solver=TIGHT[solver]).x
        return jol.minimize(objective, X0, args, solver=TIGHT[solver]).x

    rng = np.random.default_rng(0)
    args = {"k": 1 + rng.random((3, 2)), "c": rng.random(3), "b": rng.standard_normal((3, 2))}
    return jax.jit(answer), args


def difference(fun, args, along, step=1e-5):
    """The central difference of `fun` along a direction."""
    shifted = [jax.tree.map(lambda a, d, s=sign: a + s * step * d, args, along) for sign in (1, -1)]
    return (fun(shifted[0]) - fun(shifted[1])) / (2 * step)


@pytest.mark.parametrize("solver", TIGHT)
def test_forward_and_reverse_agree_with_differences(solver):
    answer, args = coupled(solver)
    rng = np.random.default_rng(1)
    along = jax.tree.map(lambda a: rng.standard_normal(a.shape), args)
    weights = rng.standard_normal((3, 2))
    with_tangent = jax.jit(lambda args: jax.jvp(answer, (args,), (along,)))
    expected = difference(lambda args: with_tangent(args)[0], args, along)
    np.testing.assert_allclose(with_tangent(args)[1], expected, rtol=1e-6, atol=1e-8)
    reverse = jax.jit(jax.grad(lambda args: jnp.sum(weights * answer(args))))(args)
    inner = sum(np.sum(g * d) for g, d in zip(jax.tree.leaves(reverse), jax.tree.leaves(along), strict=True))
    np.testing.assert_allclose(inner, np.sum(weights * expected), rtol=1e-6)


def test_a_root_has_its_closed_form_derivative():
    backward, forward = jax.jit(lambda a: [mode(lambda a: cube_root(a).x)(a) for mode in (jax.jacrev, jax.jacfwd)])(A)
    expected = np.zeros((3, 2, 3, 2))
    for lane, k in np.ndindex(3, 2):
        expected[lane, k, lane, k] = 1 / (3 * np.cbrt(A[lane, k]) ** 2)
    np.testing.assert_allclose(backward, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(forward, expected, rtol=1e-9, atol=1e-12)


def test_a_minimum_has_its_closed_form_derivative():
    jacobian = jax.jit(jax.jacfwd(lambda a: quadratic(a).x))(A)
    for lane in range(3):
        np.testing.assert_allclose(jacobian[lane, :, lane], np.linalg.inv(H), rtol=1e-9)


def test_second_derivatives():
    """x = a^(1/3) has x'' = −2/9 a^(−5/3)."""
    total = lambda a: jnp.sum(cube_root(a).x)
    diagonal = -2 / 9 * A ** (-5 / 3)
    hessian = jax.jit(jax.hessian(total))(A).reshape(6, 6)
    np.testing.assert_allclose(hessian, np.diag(diagonal.ravel()), rtol=1e-7, atol=1e-10)
    twice = jax.jit(jax.grad(lambda a: jnp.sum(jax.grad(total)(a) ** 2)))(A)
    np.testing.assert_allclose(twice, 2 * A ** (-2 / 3) / 3 * diagonal, rtol=1e-7)


def test_the_hessian_of_a_minimum_value():
    """f*(a) = −½ aᵀH⁻¹a."""
    value = lambda a: quadratic(a[None], X0[:1]).fun[0]
    np.testing.assert_allclose(jax.jit(jax.hessian(value))(A[0]), -np.linalg.inv(H), rtol=1e-8)


def test_under_vmap_the_gradient_is_that_of_each():
    one = lambda a: jnp.sum(cube_root(a, X0[0], batched=False).x ** 2)
    expected = 2 / 3 * A ** (-1 / 3)
    each, of_sum = jax.jit(lambda a: (jax.vmap(jax.grad(one))(a), jax.grad(lambda a: jnp.sum(jax.vmap(one)(a)))(a)))(A)
    np.testing.assert_allclose(each, expected, rtol=1e-9)
    np.testing.assert_allclose(of_sum, expected, rtol=1e-9)


@pytest.mark.parametrize("solver", ["broyden", pytest.param("bfgs", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "mode", [pytest.param(jax.jacfwd, marks=pytest.mark.slow, id="forward"), pytest.param(jax.jacrev, id="reverse")]
)
def test_something_closed_over_has_the_derivative_of_an_argument(solver, mode):
    def residual(x, a):
        return jnp.sinh(x) + 0.1 * jnp.sum(x) - a

    def objective(x, a):
        return jnp.sum(jnp.cosh(x)) + 0.05 * jnp.sum(x) ** 2 - jnp.sum(a * x)

    fun = residual if solver == "broyden" else objective
    entry = functools.partial(jol.root if solver == "broyden" else jol.minimize, solver=TIGHT[solver])
    ways = (
        lambda a: entry(lambda x, _: fun(x, a), X0[:2]).x,
        lambda a: entry(fun, X0[:2], a, args_axes=None).x,
        lambda a: entry(fun, X0[:2], jnp.stack([a, a])).x,
    )
    closed_over, shared, mapped = jax.jit(lambda a: [mode(way)(a) for way in ways])(A[0])
    assert np.all(np.abs(shared) > 1e-3)
    np.testing.assert_allclose(closed_over, shared, rtol=1e-12)
    np.testing.assert_allclose(mapped, shared, rtol=1e-9)


def test_a_shared_argument_collects_the_gradients_of_all():
    def total(a):
        return jnp.sum(jol.root(lambda x, a: x**3 - a["s"] * a["m"], X0, a, args_axes={"s": None, "m": 0},
                                solver=TIGHT["broyden"]).x)  # fmt: skip

    gradient = jax.jit(jax.grad(total))({"s": 2.0, "m": A})
    np.testing.assert_allclose(gradient["s"], np.sum(np.cbrt(2 * A) / 6), rtol=1e-9)
    np.testing.assert_allclose(gradient["m"], np.cbrt(2 * A) / (3 * A), rtol=1e-9)


def test_a_bilevel_problem():
    """The best a for which the inner solution hits a target, by an outer solve that differentiates the inner."""
    target = np.array([1.5, 0.5])

    def outer(a, _):
        inner = jol.root(lambda x, a: x**3 + x - a, jnp.zeros(2), a, batched=False, solver=TIGHT["broyden"])
        return jnp.sum((inner.x - target) ** 2)

    solution = jax.jit(lambda a0: jol.minimize(outer, a0, solver=TIGHT["bfgs"]))(X0)
    assert np.all(solution.success), solution.summary()
    np.testing.assert_allclose(solution.x, np.broadcast_to(target**3 + target, (3, 2)), rtol=1e-6)


def test_inside_a_larger_differentiated_function():
    @jax.jit
    def outer(w):
        features = jnp.tanh(w * A) + 2
        return jnp.mean(jnp.exp(-cube_root(features).x) * features)

    np.testing.assert_allclose(jax.jit(jax.grad(outer))(0.7), difference(outer, 0.7, 1.0), rtol=1e-7)


def test_the_envelope_theorem_and_a_vanishing_gradient():
    """The value at a minimum moves with a as if x stood still; its gradient stays zero, and so does a residual."""

    def value_and_grad(a):
        solution = quadratic(a)
        return solution.fun, solution.grad

    d_value, d_grad = jax.jit(lambda a: jax.jvp(value_and_grad, (a,), (jnp.ones_like(a),))[1])(A)
    np.testing.assert_allclose(d_value, -np.linalg.solve(H, A.T).T.sum(axis=1), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(d_grad, 0, atol=1e-12)


def test_aux_has_the_derivative_of_what_it_holds_and_a_residual_none():
    def value_and_aux(a):
        solution = jol.root(lambda x, a: (x**3 - a, x * a), X0, a, solver=TIGHT["broyden"], has_aux=True)
        return solution.fun, solution.aux

    d_residual, d_aux = jax.jit(lambda a: jax.jvp(value_and_aux, (a,), (jnp.ones_like(a),))[1])(A)
    np.testing.assert_allclose(d_residual, 0, atol=1e-12)
    np.testing.assert_allclose(d_aux, 4 / 3 * np.cbrt(A), rtol=1e-9)


def no_root_in_the_middle(a):
    """x² = a, whose middle problem, a < 0, has no root."""
    return jol.root(lambda x, a: x**2 - a, np.full((3, 1), 2.0), a, solver=TIGHT["broyden"])


def test_the_derivative_of_an_unsolved_lane_is_nan_and_stays_there():
    a = np.array([[4.0], [-1.0], [9.0]])

    @jax.jit
    def both(a):
        solution, forward = jax.jvp(no_root_in_the_middle, (a,), (jnp.ones_like(a),))
        return solution.success, forward.x[:, 0], jax.grad(lambda a: jnp.sum(no_root_in_the_middle(a).x))(a)[:, 0]

    success, forward, backward = both(a)
    assert success.tolist() == [True, False, True]
    np.testing.assert_allclose(forward, [1 / 4, np.nan, 1 / 6], rtol=1e-9)
    np.testing.assert_allclose(backward, [1 / 4, np.nan, 1 / 6], rtol=1e-9)


def test_out_of_steps_has_no_derivative():
    few = jol.BFGS(max_steps=np.array([1, 100, 100]))
    fun = lambda x, a: jnp.sum((x - a) ** 4 + (x - a) ** 2)
    gradient = jax.jit(jax.grad(lambda a: jnp.sum(jol.minimize(fun, X0, a, solver=few).x)))(A + 0.3)
    assert np.all(np.isnan(gradient[0]))
    np.testing.assert_allclose(gradient[1:], 1.0, rtol=1e-5)


def test_a_singular_jacobian_touches_no_neighbour():
    """x³ = 0 from x = 0: the root is found, dx/da is infinite there."""
    a, x0 = A.copy(), X0.copy()
    a[0], x0[0] = 0, 0
    gradient = np.asarray(jax.jit(jax.grad(lambda a: jnp.sum(cube_root(a, x0).x)))(a))
    assert not np.any(np.isfinite(gradient[0]))
    np.testing.assert_allclose(gradient[1:], 1 / (3 * np.cbrt(A[1:]) ** 2), rtol=1e-8)


def test_the_start_and_the_tolerance_have_no_influence():
    def total(x0, atol):
        return jnp.sum(jol.minimize(lambda x, a: jnp.sum((x - a) ** 4), x0, A, solver=jol.BFGS(atol=atol)).x)

    by_start, by_tolerance = jax.jit(jax.grad(total, argnums=(0, 1)))(X0, 1e-6)
    assert np.all(by_start == 0) and by_tolerance == 0
    forward = jax.jit(lambda x0: jax.jvp(lambda x0: cube_root(A, x0).x, (x0,), (jnp.ones_like(x0),))[1])(X0)
    assert np.all(forward == 0)


def test_whole_numbers_among_the_arguments_are_no_obstacle():
    def total(a):
        power = np.array([3, 3, 3])
        return jnp.sum(jol.root(lambda x, args: x ** args[1] - args[0], X0, (a, power), solver=TIGHT["broyden"]).x)

    np.testing.assert_allclose(jax.jit(jax.grad(total))(A), 1 / (3 * np.cbrt(A) ** 2), rtol=1e-9)


def test_pytree_unknowns():
    def total(a):
        residual = lambda x, a: {"u": x["u"] ** 3 - a, "v": x["v"] - x["u"]}
        solution = jol.root(residual, {"u": X0, "v": X0}, a, solver=TIGHT["broyden"])
        return jnp.sum(solution.x["v"])

    np.testing.assert_allclose(jax.jit(jax.grad(total))(A), 1 / (3 * np.cbrt(A) ** 2), rtol=1e-6)


def test_float32():
    plain = jol.Broyden(rescue=False)
    total = lambda a: jnp.sum(jol.root(lambda x, a: x**3 - a, X0.astype("f4"), a, solver=plain).x)
    gradient = jax.jit(jax.grad(total))(A.astype("f4"))
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, 1 / (3 * np.cbrt(A) ** 2), rtol=1e-4)


def test_an_empty_batch_has_a_gradient_of_zero():
    total = lambda a: jnp.sum(jol.root(lambda x, a: x - a, X0[:0], a, args_axes=None).x)
    assert jax.grad(total)(1.0) == 0
