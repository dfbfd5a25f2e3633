"""Certificates: autodiff's verdict on points whose nature is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol

pytestmark = pytest.mark.hardly_optimized


def test_a_root_its_error_and_its_conditioning():
    matrix = jnp.array([[2.0, 0.0], [0.0, 0.5]])
    x = jnp.array([[0.0, 0.0], [1e-9, 2e-9], [1.0, 0.0]])
    verdict = jol.certify_root(lambda x, a: matrix @ x, x)
    np.testing.assert_allclose(verdict.residual, [0, 2e-9, 2])
    np.testing.assert_allclose(verdict.error, [0, 2e-9, 1])
    np.testing.assert_allclose(verdict.singular_value, 0.5)
    np.testing.assert_allclose(verdict.condition, 4)
    assert verdict.valid.tolist() == [True, True, False]


def test_a_singular_root_says_so():
    verdict = jol.certify_root(lambda x, a: x**2, jnp.array([[0.0], [1e-3]]))
    assert verdict.singular_value[0] == 0
    assert np.isinf(verdict.condition[0])
    np.testing.assert_allclose(verdict.error[1], 5e-4)
    # Only along the second unknown is anything wrong, or wrong without end.
    x = jnp.array([[1.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    verdict = jol.certify_root(lambda x, a: jnp.stack([x[0] - 1, 0 * x[1] + a]), x, jnp.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(verdict.error, [np.inf, 0, 2])
    verdict = jol.certify_minimum(lambda x, a: (x[0] - 1) ** 2 + a * x[1], x, jnp.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(verdict.error, [np.inf, 0, 2])


CURVATURES = {
    "MINIMUM": lambda x: x[0] ** 2 + x[1] ** 2,
    "SADDLE": lambda x: x[0] ** 2 - x[1] ** 2,
    "FLAT": lambda x: x[0] ** 2 + x[1] ** 4,
    "MAXIMUM": lambda x: -(x[0] ** 2) - x[1] ** 2,
    "NOT_STATIONARY": lambda x: x[0] + x[1] ** 2,
    "NOT_FINITE": lambda x: jnp.log(x[0]),
}


@pytest.mark.parametrize("name", CURVATURES)
def test_a_saddle_is_called_a_saddle(name):
    verdict = jol.certify_minimum(lambda x, a: CURVATURES[name](x), jnp.zeros(2), batched=False)
    assert jol.Curvature(int(verdict.kind)).name == name
    assert bool(verdict.valid) == (name in ("MINIMUM", "FLAT"))


def test_the_error_of_a_minimum_is_the_newton_step():
    verdict = jol.certify_minimum(lambda x, a: jnp.sum(a * (x - 1) ** 2), jnp.array([[1.001, 1.0]]), jnp.array([3.0]))
    np.testing.assert_allclose(verdict.error, 1e-3, rtol=1e-6)
    np.testing.assert_allclose(verdict.eigenvalue, 6)


def test_one_bad_problem_leaves_the_verdict_on_its_neighbours_alone():
    x = jnp.array([[2.0], [jnp.nan], [3.0]])
    verdict = jol.certify_root(lambda x, a: x - a, x, jnp.array([[2.0], [0.0], [3.0]]))
    assert verdict.valid.tolist() == [True, False, True]
    assert np.isnan(verdict.singular_value[1]) and np.isfinite(verdict.singular_value[0])


def test_single_precision_input_is_judged_in_double():
    verdict = jol.certify_root(lambda x, a: x - a, jnp.ones((1, 1), jnp.float32), jnp.ones((1, 1), jnp.float32))
    assert verdict.residual.dtype == jnp.float64


def test_true_derivatives_agree():
    points = jax.random.normal(jax.random.key(0), (20, 3))
    check = jol.check_derivatives(lambda x, a: jnp.sin(x) * jnp.sum(x**2), points)
    assert check.agree.all()


def test_a_wrong_derivative_is_found_with_its_unknown():
    @jax.custom_jvp
    def wrong(x):
        return x**2

    wrong.defjvp(lambda primals, tangents: (primals[0] ** 2, 3 * primals[0] * tangents[0]))
    check = jol.check_derivatives(lambda x, a: x[0] + wrong(x[1]), jnp.ones((2, 2)))
    assert not check.agree.any()
    assert check.worst.tolist() == [1, 1]
    np.testing.assert_allclose(check.difference, 1 / 3, rtol=1e-5)


def test_a_kink_is_found_where_its_derivative_is_the_mean_of_both_sides():
    def kinks(x, a):  # JAX gives half of the slope to each of two equal numbers
        return jnp.stack([jnp.maximum(x[0], 0) + jnp.sin(30 * x[1]), x[1] * jnp.abs(x[1]) + 1e3])

    x = jnp.array([[0.0, 0.0], [1e-3, 0.0], [-1.0, 0.4], [0.0, 2.0]])
    check = jol.check_derivatives(kinks, x)
    assert check.agree.tolist() == [False, True, True, False]
    scales = [30, 1, 1, 30 * np.abs(np.cos(60.0))]
    np.testing.assert_allclose(check.difference, np.array([0.5, 0, 0, 0.5]) / scales, atol=1e-6)
    assert check.worst[0] == check.worst[3] == 0


def test_a_residual_of_another_size_is_refused():
    with pytest.raises(ValueError, match="3 numbers for 2 unknowns"):
        jol.certify_root(lambda x, a: jnp.ones(3), jnp.ones((1, 2)))


@pytest.mark.parametrize("judge", [jol.certify_root, jol.certify_minimum, jol.check_derivatives])
@pytest.mark.parametrize(
    ("x", "args", "said"),
    [
        (jnp.ones(3), None, r"the first axis of x is the batch, so x of shape \(3,\) is 3 problems"),
        (1.0, None, r"x has shape \(\) and no batch axis 0"),
        (jnp.ones((2, 3)), jnp.ones(5), "args has 5 entries along axis 0; expected 2, one per problem of x. "),
        ({"a": "text"}, None, r"x\['a'\] has dtype <U4; expected numbers"),
    ],
)
def test_errors_call_the_points_x(judge, x, args, said):
    with pytest.raises((ValueError, IndexError, TypeError), match=f"(?i){said}"):
        judge(lambda x, a: x[0] ** 2, x, args)


@pytest.mark.parametrize("given", [np.inf, np.nan, -1.0])
def test_a_tolerance_is_a_finite_number(given):
    names = {jol.certify_root: "atol", jol.certify_minimum: "atol", jol.check_derivatives: "tolerance"}
    for judge, name in names.items():
        with pytest.raises(ValueError, match=f"{name}={given}: expected finite numbers that are not negative"):
            judge(lambda x, a: x[0] ** 2, jnp.ones((1, 1)), **{name: given})


def test_a_list_of_tolerances_is_one_for_each_problem():
    verdict = jol.certify_root(lambda x, a: x, jnp.full(2, 0.1), atol=[1.0, 0.01])
    assert verdict.valid.tolist() == [True, False]


def test_an_empty_batch_has_an_empty_verdict():
    verdict = jol.certify_minimum(lambda x, a: jnp.sum(x**2), jnp.ones((0, 2)))
    assert verdict.kind.shape == (0,)
