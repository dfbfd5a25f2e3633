"""Derivatives of solutions: closed forms and finite differences agree, in every mode and composition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite.solvers import implicit

pytestmark = pytest.mark.hardly_optimized

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
    return answer, args


@functools.cache
def slopes_of_roots():
    """What a weighted sum of cube roots depends on: the numbers, the weights and the starts; one program for tests."""
    total = lambda a, weights, x0: jnp.sum(weights * cube_root(a, x0).x)
    return jax.jit(jax.grad(total, argnums=(0, 1, 2)))


def in_both_modes(answer, *args, has_aux=False):
    """The answer, what else there is, and its derivative as a function of tangents and as one of cotangents.

    The solve, which takes most of the time to compile, is in a program once then.
    """
    x, push, *aux = jax.linearize(answer, *args, has_aux=has_aux)
    return x, *aux, push, jax.linear_transpose(push, *args)


def difference(fun, args, along, step=1e-5):
    """The central difference of `fun` along a direction."""
    shifted = [jax.tree.map(lambda a, d, s=sign: a + s * step * d, args, along) for sign in (1, -1)]
    return (fun(shifted[0]) - fun(shifted[1])) / (2 * step)


# Of minima, the Hessian of the value has its closed form, and the gradient of those of a quartic.
@pytest.mark.parametrize("solver", ["broyden", pytest.param("bfgs", marks=pytest.mark.slow)])
def test_forward_and_reverse_agree_with_differences(solver):
    answer, args = coupled(solver)
    rng = np.random.default_rng(1)
    along = jax.tree.map(lambda a: rng.standard_normal(a.shape), args)
    weights = rng.standard_normal((3, 2))

    @jax.jit
    def every(args):
        x, push, pull = in_both_modes(answer, args)
        return x, push(along), pull(weights)[0]

    _, forward, reverse = every(args)
    expected = difference(lambda args: every(args)[0], args, along)
    np.testing.assert_allclose(forward, expected, rtol=1e-6, atol=1e-8)
    inner = sum(np.sum(g * d) for g, d in zip(jax.tree.leaves(reverse), jax.tree.leaves(along), strict=True))
    np.testing.assert_allclose(inner, np.sum(weights * expected), rtol=1e-6)


@pytest.mark.slow  # the derivatives of other roots are compared with differences, in both modes
def test_a_root_has_its_closed_form_derivative():
    backward, forward = jax.jit(lambda a: [mode(lambda a: cube_root(a).x)(a) for mode in (jax.jacrev, jax.jacfwd)])(A)
    expected = np.zeros((3, 2, 3, 2))
    for lane, k in np.ndindex(3, 2):
        expected[lane, k, lane, k] = 1 / (3 * np.cbrt(A[lane, k]) ** 2)
    np.testing.assert_allclose(backward, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(forward, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_minimum_has_its_closed_form_derivative():
    jacobian = jax.jit(jax.jacfwd(lambda a: quadratic(a).x))(A)
    for lane in range(3):
        np.testing.assert_allclose(jacobian[lane, :, lane], np.linalg.inv(H), rtol=1e-9)


def test_problems_that_take_different_branches_have_their_own_derivatives():
    """a x = 3 where x > 1.2, and a x² = 2 elsewhere; in reverse mode too, and twice."""

    def fun(x, a):
        return jax.lax.cond(x[0] > 1.2, lambda: x * a - 3, lambda: x * x * a - 2)

    a, x0 = jnp.array([1.0, 2.0, 3.0, 0.5]), jnp.array([[2.0], [1.0], [1.0], [2.0]])
    root = jax.jit(lambda a: jol.root(fun, x0, a, solver=TIGHT["broyden"]).x[:, 0])
    assert np.allclose(root(a), [3, 1, np.sqrt(2 / 3), 6])
    exact = [-3, -1 / 4, -np.sqrt(1 / 54), -12], [6, 3 / 16, np.sqrt(1 / 54) / 2, 48]
    assert np.allclose(jax.jacrev(root)(a), np.diag(exact[0]), rtol=1e-6)
    assert np.allclose(jax.grad(lambda a: jnp.sum(jax.jvp(root, (a,), (jnp.ones(4),))[1]))(a), exact[1], rtol=1e-6)


@pytest.mark.slow  # a quick test with a mask has them, in two compositions
def test_second_derivatives():
    """x = a^(1/3) has x'' = −2/9 a^(−5/3)."""
    hessian = jax.jit(jax.hessian(lambda a: jnp.sum(cube_root(a).x)))(A).reshape(6, 6)
    np.testing.assert_allclose(hessian, np.diag((-2 / 9 * A ** (-5 / 3)).ravel()), rtol=1e-7, atol=1e-10)


@pytest.mark.slow
def test_the_gradient_of_a_gradient():
    gradient = jax.grad(lambda a: jnp.sum(cube_root(a).x))
    twice = jax.jit(jax.grad(lambda a: jnp.sum(gradient(a) ** 2)))(A)
    np.testing.assert_allclose(twice, 2 * A ** (-2 / 3) / 3 * -2 / 9 * A ** (-5 / 3), rtol=1e-7)


@functools.cache
def value_of_a_minimum():
    """For one problem: the Hessian of f*(a) = −½ aᵀH⁻¹a, its gradient, and how Σ ∇f at the minimum moves with a.

    And the slope of the value that comes with a gradient.
    """

    def value_and_grad(a):
        solution = quadratic(a[None], X0[:1])
        return solution.fun[0], solution.grad[0]

    def slope_and_more(a):
        (value, _), pull = jax.vjp(value_and_grad, a)
        slope = pull((1.0, np.zeros(2)))[0]
        return (slope, value), (slope, pull((0.0, np.ones(2)))[0])

    (hessian, along), first = jax.jit(jax.jacfwd(slope_and_more, has_aux=True))(A[0])
    return hessian, *first, along


def test_the_hessian_of_a_minimum_value():
    np.testing.assert_allclose(value_of_a_minimum()[0], -np.linalg.inv(H), rtol=1e-8)


def test_a_value_beside_its_gradient_has_a_derivative():
    _, slope, _, along = value_of_a_minimum()
    np.testing.assert_allclose(along, slope, rtol=1e-9, atol=1e-12)


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
    )
    every = jax.jit(lambda a: [mode(lambda a, way=way: (way(a),) * 2, has_aux=True)(a) for way in ways])
    (closed_over, x), (shared, _) = every(A[0])
    assert np.all(np.abs(shared) > 1e-3)
    np.testing.assert_allclose(closed_over, shared, rtol=1e-12)
    systems = np.cosh(x)[..., None] * np.eye(2) + 0.1
    np.testing.assert_allclose(shared, np.linalg.inv(systems), rtol=1e-9)


@pytest.mark.slow
def test_a_shared_argument_collects_the_gradients_of_all():
    def total(a):
        return jnp.sum(jol.root(lambda x, a: x**3 - a["s"] * a["m"], X0, a, args_axes={"s": None, "m": 0},
                                solver=TIGHT["broyden"]).x)  # fmt: skip

    gradient = jax.jit(jax.grad(total))({"s": 2.0, "m": A})
    np.testing.assert_allclose(gradient["s"], np.sum(np.cbrt(2 * A) / 6), rtol=1e-9)
    np.testing.assert_allclose(gradient["m"], np.cbrt(2 * A) / (3 * A), rtol=1e-9)


@pytest.mark.slow
def test_a_bilevel_problem():
    """The best a for which the inner solution hits a target, by an outer solve that differentiates the inner."""
    target = np.array([1.5, 0.5])

    def outer(a, _):
        inner = jol.root(lambda x, a: x**3 + x - a, jnp.zeros(2), a, batched=False, solver=TIGHT["broyden"])
        return jnp.sum((inner.x - target) ** 2)

    solution = jax.jit(lambda a0: jol.minimize(outer, a0, solver=TIGHT["bfgs"]))(X0)
    assert np.all(solution.success), solution.summary()
    np.testing.assert_allclose(solution.x, np.broadcast_to(target**3 + target, (3, 2)), rtol=1e-6)


@pytest.mark.slow
def test_inside_a_larger_differentiated_function():
    @jax.jit
    def outer(w):
        features = jnp.tanh(w * A) + 2
        return jnp.mean(jnp.exp(-cube_root(features).x) * features)

    np.testing.assert_allclose(jax.jit(jax.grad(outer))(0.7), difference(outer, 0.7, 1.0), rtol=1e-7)


def test_the_envelope_theorem_and_a_vanishing_gradient():
    """The value at a minimum moves with a as if x stood still; its gradient stays zero, and so does a residual."""
    _, d_value, d_grad, _ = value_of_a_minimum()
    np.testing.assert_allclose(d_value, -np.linalg.solve(H, A[0]), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(d_grad, 0, atol=1e-12)


@functools.cache
def pytree_with_aux():
    """Of unknowns in a pytree, with a whole number among the arguments: how the residual, aux and v move, and reverse.

    u³ = a and v = u.
    """
    power = np.array([3, 3, 3])

    def fun(x, args):
        return {"u": x["u"] ** args[1] - args[0], "v": x["v"] - x["u"]}, x["v"] * args[0]

    def answer(a):
        solution = jol.root(fun, {"u": X0, "v": X0}, (a, power), solver=TIGHT["broyden"], has_aux=True)
        return solution.fun, solution.aux, solution.x["v"]

    @jax.jit
    def every(a):
        found, push, pull = in_both_modes(answer, a)
        residual, aux, _ = jax.tree.map(jnp.zeros_like, found)
        return push(jnp.ones_like(a)), pull((residual, aux, jnp.ones_like(a)))[0]

    return every(A)


def test_aux_has_the_derivative_of_what_it_holds_and_a_residual_none():
    (d_residual, d_aux, _), _ = pytree_with_aux()
    for leaf in jax.tree.leaves(d_residual):
        np.testing.assert_allclose(leaf, 0, atol=1e-12)
    np.testing.assert_allclose(d_aux, 4 / 3 * np.cbrt(A), rtol=1e-9)


def test_pytree_unknowns_and_whole_numbers_among_the_arguments():
    (_, _, forward), reverse = pytree_with_aux()
    np.testing.assert_allclose(forward, 1 / (3 * np.cbrt(A) ** 2), rtol=1e-9)
    np.testing.assert_allclose(reverse, 1 / (3 * np.cbrt(A) ** 2), rtol=1e-9)


MANY = 140  # unknowns, more than are factored
W = 0.4 * np.random.default_rng(2).standard_normal((MANY, MANY)) / MANY**0.5


def layer(x, w, dtype=np.float64):
    """Fixed points z = tanh(z W + x), with the weights shared."""
    residual = lambda z, args: z - jnp.tanh(z @ args[1] + args[0])
    solver = jol.LimitedBroyden(atol=1e-12 if dtype == np.float64 else 1e-6, rescue=False)
    return jol.root(residual, jnp.zeros(x.shape, dtype), (x, w), args_axes=(0, None), solver=solver).x


@pytest.mark.slow
def test_many_unknowns_have_the_derivatives_of_their_dense_systems():
    rng = np.random.default_rng(3)
    x, dx, weights = rng.standard_normal((3, 2, MANY))
    dw = rng.standard_normal(W.shape) / MANY**0.5
    total = lambda x, w: jnp.sum(weights * layer(x, w))

    @jax.jit
    def every(x, w):
        gradient = jax.grad(total, (0, 1))
        forward = jax.jvp(layer, (x, w), (dx, dw))[1]
        curved = jax.jvp(gradient, (x, w), (dx, dw))[1]
        each = jax.vmap(jax.grad(lambda x, weights: jnp.sum(weights * layer(x[None], w))))(x, weights)
        return layer(x, w), gradient(x, w), forward, curved, each

    z, gradient, forward, curved, each = every(x, W)
    bend = 1 - np.asarray(z) ** 2
    systems = np.eye(MANY) - W * bend[:, None, :]  # dz A = (z dW + dx) ∘ bend
    pulled = bend * np.linalg.solve(systems, weights[..., None])[..., 0]
    pushed = np.linalg.solve(systems.transpose(0, 2, 1), (bend * (z @ dw + dx))[..., None])[..., 0]
    np.testing.assert_allclose(gradient[0], pulled, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(gradient[1], z.T @ pulled, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(forward, pushed, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(each, pulled, rtol=1e-8, atol=1e-10)
    step = 1e-5
    there, back = (every(x + sign * step * dx, W + sign * step * dw)[1] for sign in (1, -1))
    for found, plus, minus in zip(curved, there, back, strict=True):
        np.testing.assert_allclose(found, (plus - minus) / (2 * step), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_many_unknowns_of_a_minimum():
    """min ½ xᵀHx − aᵀx + Σ s x⁴/4 in float32: dx/da = (H + 3 s x²)⁻¹, and ∂²/∂a² by the gradient of a gradient."""
    hessian = (W @ W.T + np.eye(MANY)).astype("f4")
    fun = lambda x, a: x @ (hessian @ x) / 2 - a @ x + jnp.sum(x**4) / 4
    a = np.random.default_rng(4).standard_normal((2, MANY)).astype("f4")
    answer = lambda a: jol.minimize(fun, jnp.zeros_like(a), a, solver=jol.LBFGS(atol=1e-5)).x
    gradient = jax.grad(lambda a: jnp.sum(answer(a) ** 2) / 2)

    x, slope, twice = jax.jit(lambda a: (answer(a), gradient(a), jax.grad(lambda a: jnp.sum(gradient(a)))(a)))(a)
    assert slope.dtype == np.float32
    x = np.asarray(x, "f8")
    inverse = np.linalg.inv(hessian + 3 * x[:, None, :] ** 2 * np.eye(MANY))
    pulled, ones = (inverse @ x[..., None])[..., 0], inverse.sum(axis=2)
    np.testing.assert_allclose(slope, pulled, rtol=1e-3, atol=1e-4)
    expected = (inverse @ (ones - 6 * x * pulled * ones)[..., None])[..., 0]
    np.testing.assert_allclose(twice, expected, rtol=1e-3, atol=1e-3)


def test_what_products_cannot_solve_is_factored_or_nan(monkeypatch):
    """Two linear systems M x = a: one whose spectrum surrounds zero, where products get nowhere, and an easy one."""
    rng, n = np.random.default_rng(5), 60
    left, right = np.linalg.qr(rng.standard_normal((2, n, n)))[0]
    easy = np.eye(n) - 0.4 * rng.standard_normal((n, n)) / n**0.5
    matrices = np.stack([left * np.geomspace(0.1, 1, n) @ right, easy])
    x, weights = rng.standard_normal((2, 2, n))
    a = np.einsum("bij,bj->bi", matrices, x)

    def slope(a):
        """As of a root without a matrix, whose solution is known here."""
        answer = implicit.with_implicit_derivatives(
            lambda *_: (jnp.asarray(x), np.ones(2, bool), ()),
            lambda x, leaves: leaves[0] @ x - leaves[1], (True, True),
            implicit.factored_up_to("root", jol.LimitedBroyden.work),
        )  # fmt: skip
        return jax.jit(jax.grad(lambda a: jnp.sum(weights * answer((jnp.asarray(matrices), a), ())[0])))(a)

    expected = np.linalg.solve(matrices.transpose(0, 2, 1), weights[..., None])[..., 0]
    np.testing.assert_allclose(slope(a), expected, rtol=1e-8, atol=1e-9)
    monkeypatch.setattr(implicit, "_LARGEST_FACTORED", 0)
    without = slope(a)
    assert np.all(np.isnan(without[0]))
    np.testing.assert_allclose(without[1], expected[1], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("n", [4, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_function_that_has_one_mode_has_its_derivatives(n):
    """A gradient of which JAX knows the reverse mode alone, and a residual of which it knows the forward mode alone."""

    @jax.custom_vjp
    def sinh(x):
        return jnp.sinh(x)

    @jax.custom_vjp
    def cosh(x):
        return jnp.cosh(x)

    sinh.defvjp(lambda x: (jnp.sinh(x), x), lambda x, u: (u * jnp.cosh(x),))
    cosh.defvjp(lambda x: (jnp.cosh(x), x), lambda x, u: (u * sinh(x),))
    loop = lambda y: jax.lax.while_loop(lambda c: c[1] < 1, lambda c: (jnp.tanh(c[0]), c[1] + 1), (y, 0))[0]
    a = np.linspace(-1, 1, 2 * n).reshape(2, n)

    def minimum(a):
        fun = lambda x, a: jnp.sum(cosh(x)) - a @ x
        return jol.minimize(fun, jnp.zeros_like(a), a, solver=jol.LBFGS(atol=1e-10)).x

    def root(a):
        solver = jol.LimitedBroyden(atol=1e-11, rescue=False)
        return jol.root(lambda x, a: x - loop(x / 2 + a), jnp.zeros_like(a), a, solver=solver).x

    slope, z, moved = jax.jit(lambda a: (jax.grad(lambda a: jnp.sum(a * minimum(a)))(a), *jax.jvp(root, (a,), (a,))))(a)
    np.testing.assert_allclose(slope, np.arcsinh(a) + a / np.sqrt(1 + a**2), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(moved, a * (1 - z**2) / (1 - (1 - z**2) / 2), rtol=1e-8, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    """x³ = a, and min Σ x⁴/4 − a x, which has the same answer: dx/da = 1 / (3 x²)."""
    a = jnp.asarray([[1.0, 2.0], [3.0, 4.0]], dtype)

    def root(a):
        return jol.root(lambda x, a: x**3 - a, jnp.ones_like(a), a, solver=jol.Broyden(rescue=False)).x

    def minimum(a):
        return jol.minimize(lambda x, a: jnp.sum(x**4 / 4 - a * x), jnp.ones_like(a), a).x

    def every(answer, a):
        jacobians = [jnp.sum(mode(answer)(a), axis=(2, 3)) for mode in (jax.jacrev, jax.jacfwd)]
        tangent = jax.jvp(answer, (a,), (jnp.ones_like(a),))[1]
        return jax.grad(lambda a: jnp.sum(answer(a)))(a), tangent, jacobians

    expected = np.asarray(a, "f8") ** (-2 / 3) / 3
    for derivative in jax.tree.leaves(jax.jit(lambda a: (every(root, a), every(minimum, a)))(a)):
        assert derivative.dtype == dtype
        np.testing.assert_allclose(np.asarray(derivative, "f8"), expected, rtol=8 * float(jnp.finfo(dtype).eps))


@pytest.mark.slow
def test_many_unknowns_in_half_precision():
    x = np.random.default_rng(6).standard_normal((2, MANY))
    gradient = jax.grad(lambda x, w: jnp.sum(layer(x, w, x.dtype) ** 2, dtype="f4"))
    expected = jax.jit(gradient)(x, W)
    found = jax.jit(gradient)(jnp.asarray(x, "bfloat16"), jnp.asarray(W, "bfloat16"))
    assert found.dtype == "bfloat16"
    np.testing.assert_allclose(np.asarray(found, "f8"), expected, atol=0.05 * np.abs(expected).max())


@functools.cache
def with_and_without_a_mask(n):
    """Of what the scale and the numbers a give: derivatives of the masked sum, once and twice, and of the bare one."""
    solver = jol.LimitedBroyden(atol=1e-11, rescue=False)

    def solve(s, a):
        return jol.root(lambda x, a: s * x**2 - a, jnp.full((3, n), 2.0), a, solver=solver)

    def sums(s, a):
        solution = solve(s, a)
        return jnp.sum(jnp.where(solution.success[:, None], solution.x, 0)) / n, jnp.sum(solution.x)

    def slopes(s, a):
        pull = jax.vjp(sums, s, a)[1]
        return pull((1.0, 0.0)), pull((0.0, 1.0))

    @jax.jit
    def every(s, a):
        forward = jax.jvp(lambda a: solve(s, a).x[:, 0], (a,), (jnp.array([1.0, 0.0, 1.0]),))[1]
        (masked, bare), (moved, _) = jax.jvp(lambda s: slopes(s, a), (s,), (1.0,))
        twice = jax.grad(lambda s: jax.grad(lambda s: sums(s, a)[0])(s))(s), moved[0]
        return masked, twice, forward, bare

    return every


@pytest.mark.parametrize("hopeless", [-1.0, np.nan])
@pytest.mark.parametrize("n", [1, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_mask_after_the_solve_keeps_unsolved_problems_out(n, hopeless):
    """s x² = a has the root √(a/s). What all share gets the derivatives of the problems that have one."""
    a = np.array([4.0, hopeless, 9.0])
    (shared, own), twice, forward, bare = with_and_without_a_mask(n)(1.0, a)
    np.testing.assert_allclose(shared, -(2 + 3) / 2, rtol=1e-9)
    np.testing.assert_allclose(own, [1 / 4, 0, 1 / 6], rtol=1e-9)
    np.testing.assert_allclose(twice, 3 / 4 * (2 + 3), rtol=1e-9)
    np.testing.assert_allclose(forward, [1 / 4, 0, 1 / 6], rtol=1e-9)  # its own number stands still
    assert np.isnan(bare[0]) and np.isnan(bare[1][1])


def test_a_mask_keeps_unsolved_problems_out_of_all_that_is_returned():
    """x = s √a minimizes f = ½ (x − s √a)² + s √a; each a is alone, or beside others."""

    def total(s, a):
        fun = lambda x, a: (jnp.sum((x - s * jnp.sqrt(a)) ** 2 / 2 + s * jnp.sqrt(a)), s * jnp.log(a))
        found = jol.minimize(fun, jnp.zeros((len(a), 1)), a, has_aux=True)
        return sum(jnp.sum(jnp.where(found.success, v.ravel(), 0)) for v in (found.x, found.fun, found.grad, found.aux))

    slopes = jax.jit(jax.grad(total, (0, 1)))
    shared, own = slopes(2.0, np.array([4.0, -1.0, 9.0, np.nan]))
    np.testing.assert_allclose(shared, 2 * (2 + 3) + np.log(36), rtol=1e-6)
    np.testing.assert_allclose(own, [2 / 2 + 2 / 4, 0, 2 / 3 + 2 / 9, 0], rtol=1e-6)
    shared, own = slopes(2.0, np.array([-1.0]))
    assert shared == 0 and own == 0


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_mask_keeps_a_singular_jacobian_out(weight):
    """x³ = a at a = 0 is solved by x = 0, where it has no derivative; its neighbours have theirs all the same."""
    a, x0, weights = A.copy(), X0.copy(), np.ones((3, 2))
    a[0], x0[0], weights[0] = 0, 0, weight
    gradient, x, _ = jax.device_get(slopes_of_roots()(a, weights, x0))
    assert np.all(gradient[0] == 0) if weight == 0 else not np.any(np.isfinite(gradient[0]))
    assert np.all(x[0] == 0)
    np.testing.assert_allclose(gradient[1:], 1 / (3 * np.cbrt(A[1:]) ** 2), rtol=1e-8)


@pytest.mark.slow
def test_a_mask_keeps_a_singular_jacobian_out_of_what_all_share():
    """x³ = s a at a = 0."""
    a = A.copy()
    a[0] = 0

    def total(s, mask):
        x = jol.root(lambda x, a: x**3 - s * a, a, a, solver=TIGHT["broyden"]).x
        return jnp.sum(mask[:, None] * x)

    slope = jax.jit(jax.grad(total))
    np.testing.assert_allclose(slope(1.0, np.array([0.0, 1.0, 1.0])), np.sum(np.cbrt(a)) / 3, rtol=1e-6)
    assert not np.isfinite(slope(1.0, np.ones(3)))


def no_root_in_the_middle(a):
    """x² + a = 0, whose middle problem, a > 0, has no root."""
    return jol.root(lambda x, a: x**2 + a, np.full((3, 1), 2.0), a, solver=TIGHT["broyden"])


def test_the_derivative_of_an_unsolved_lane_is_nan_and_stays_there():
    a = np.array([[-4.0], [1.0], [-9.0]])

    def answer(a):
        solution = no_root_in_the_middle(a)
        return solution.x, solution.success

    @jax.jit
    def both(a):
        _, success, push, pull = in_both_modes(answer, a, has_aux=True)
        return success, push(jnp.ones_like(a))[:, 0], pull(jnp.ones_like(a))[0][:, 0]

    success, forward, backward = both(a)
    assert success.tolist() == [True, False, True]
    np.testing.assert_allclose(forward, [-1 / 4, np.nan, -1 / 6], rtol=1e-9)
    np.testing.assert_allclose(backward, [-1 / 4, np.nan, -1 / 6], rtol=1e-9)


@functools.cache
def with_few_steps():
    """The derivative of minima of which the first runs out of steps, and what moves with start and tolerance."""
    fun = lambda x, a: jnp.sum((x - a) ** 4 + (x - a) ** 2)

    def answer(a, x0, atol):
        return jol.minimize(fun, x0, a, solver=jol.BFGS(atol=atol, max_steps=np.array([1, 100, 100]))).x

    @jax.jit
    def every(*words):
        x, push, pull = in_both_modes(answer, *words)
        return pull(jnp.ones_like(x))[0], push(jnp.zeros_like(x), jnp.ones_like(x), 1.0)

    return every(A + 0.3, X0, 1e-6)


def test_out_of_steps_has_no_derivative():
    gradient, _ = with_few_steps()
    assert np.all(np.isnan(gradient[0]))
    np.testing.assert_allclose(gradient[1:], 1.0, rtol=1e-5)


def test_the_start_and_the_tolerance_have_no_influence():
    assert np.all(np.asarray(slopes_of_roots()(A, np.ones((3, 2)), X0)[2]) == 0)
    assert np.all(with_few_steps()[1] == 0)


@pytest.mark.slow
def test_float32():
    plain = jol.Broyden(rescue=False)
    total = lambda a: jnp.sum(jol.root(lambda x, a: x**3 - a, X0.astype("f4"), a, solver=plain).x)
    gradient = jax.jit(jax.grad(total))(A.astype("f4"))
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, 1 / (3 * np.cbrt(A) ** 2), rtol=1e-4)


def test_an_empty_batch_has_a_gradient_of_zero():
    total = lambda a: jnp.sum(jol.root(lambda x, a: x - a, X0[:0], a, args_axes=None).x)
    assert jax.grad(total)(1.0) == 0
