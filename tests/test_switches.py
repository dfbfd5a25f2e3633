"""JAX's own switches, for strictness and for finding faults, stop no solve: they concern the user's functions."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol

pytestmark = pytest.mark.hardly_optimized

SOLVERS = {"BFGS": jol.BFGS(), "LBFGS": jol.LBFGS(), "Broyden": jol.Broyden(), "LimitedBroyden": jol.LimitedBroyden()}
each_solver = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.startswith("L") else ()) for name in SOLVERS]
)
X0, A = np.zeros((3, 2)), np.array([1.0, 2.0, 3.0])


def valley(x, a):
    return a * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def cubic(x, a):
    return x**3 + x - 0.1 * a * x[::-1] - a


def solve(name, x0, a, solver=None, **options):
    call, fun = (jol.minimize, valley) if name in ("BFGS", "LBFGS") else (jol.root, cubic)
    return call(fun, x0, a, solver=solver or SOLVERS[name], **options)


def everything(name, x0, a):
    """What can be asked of a solver, also where JAX applies its transformations after it has traced the solve.

    All of its methods are in the first answer, and the first of them in the others.
    """
    first, plain = solve(name, x0, a, record=3, keep_state=True), replace(SOLVERS[name], rescue=False)
    answer = lambda a: solve(name, x0, a, plain).x.sum()
    one = lambda x0, a: solve(name, x0, a, plain, batched=False).x
    more = ()
    if name in ("BFGS", "Broyden"):
        fun, certify = (valley, jol.certify_minimum) if name == "BFGS" else (cubic, jol.certify_root)
        best = jol.multistart(fun, jnp.stack([x0, x0 + 1], axis=1), a, solver=plain)
        checks = certify(fun, x0, a), jol.check_derivatives(fun, x0, a)
        more = best, checks, jol.explain(fun, x0, a, solver=plain).width
    again = solve(name, x0, a, resume=first.state)
    return first, again, jax.grad(answer)(a), jax.grad(jax.jit(answer))(a), jax.vmap(one)(x0, a), more


@each_solver
def test_strictness_stops_nothing(name):
    """It shows when a program is traced: none is compiled."""
    jax.clear_caches()  # of what other switches have had traced
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"), jax.checking_leaks():
        jax.eval_shape(lambda x0, a: everything(name, x0, a), X0, A)


def test_unknowns_of_mixed_dtypes_are_solved_where_promotion_is_strict():
    x0 = {"a": np.zeros(3, np.float32), "b": np.zeros(3), "c": np.zeros(3, int)}
    with jax.numpy_dtype_promotion("strict"):
        solution = jol.root(
            lambda x, _: jax.tree.map(lambda leaf: 2 * leaf - 1, x), x0, solver=jol.Broyden(rescue=False)
        )
    assert solution.success.all() and solution.x["b"].dtype == float


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_arrays_of_float64_are_taken_where_that_is_enabled_no_longer():
    a = jnp.asarray(A)
    assert a.dtype == jnp.float64
    with jax.enable_x64(False):
        roots = jol.root(lambda x, a: x**3 + x - a, a, a, solver=jol.Broyden(rescue=False))
        assert roots.success.all() and roots.x.dtype == jnp.float32
        np.testing.assert_allclose(roots.x**3 + roots.x, np.asarray(a), rtol=1e-5)


def test_a_function_that_breaks_a_rule_is_told_after_it_has_been_solved_without():
    def mixed(x, a):
        return x - a.astype(jnp.float32)

    def find():
        return jol.root(mixed, np.zeros(3), A, solver=jol.Broyden(rescue=False)).x

    assert np.allclose(find(), A)
    with jax.numpy_dtype_promotion("strict"), pytest.raises(ValueError, match="^Input dtypes .* promotion"):
        find()
    assert np.allclose(find(), A)


@each_solver
def test_without_jit_it_is_compiled_all_the_same(name):
    expected = solve(name, X0, A, record=4)
    with jax.disable_jit():
        got = solve(name, X0, A, record=4)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "Broyden" else pytest.mark.slow) for name in SOLVERS]
)
def test_nan_and_infinity_where_they_are_meant_are_no_finds(name):
    expected = solve(name, X0, A, record=30, keep_state=True)
    assert expected.success.all() and np.isnan(np.asarray(expected.history.error)[:, -1]).all()
    with jax.debug_nans(True), jax.debug_infs(True):
        got = solve(name, X0, A, record=30, keep_state=True)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Broyden", {"solver": jol.Broyden(rescue=False)}),  # JAX goes through it operation by operation
        *(pytest.param("BFGS", options, marks=pytest.mark.slow) for options in ({}, {"record": 5})),
    ],
)
def test_nan_in_an_answer_is_found(name, options):
    start = X0 + np.array([[0.0], [np.nan], [0.0]])
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        solve(name, start, A, **options)
    with jax.debug_nans(True):
        assert jol.certify_minimum(valley, start, A).kind[1] == jol.Curvature.NOT_FINITE


def test_products_are_as_exact_as_the_user_says():
    product = lambda x, a: jnp.ones((2, 2)) @ x * 0.1 + x - a
    for precision in ("bfloat16", "highest"):
        with jax.default_matmul_precision(precision):
            assert jol.root(product, X0, A, solver=jol.Broyden(rescue=False)).success.all()
