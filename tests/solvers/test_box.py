"""Bounds as they are given: what fits, what is refused, and how they are laid out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite.lanes.problem import Box
from jaxopt_lite.solvers.box import active, axes_of, checked_bounds, in_rows

pytestmark = pytest.mark.hardly_optimized

INF = np.inf
TREE = {"a": np.zeros((5, 2)), "b": np.zeros((5,))}


def laid_out(bounds, x0, batched=True):
    given = checked_bounds(bounds, x0)
    return [np.asarray(in_rows(given[name], x0, batched, np.float64)).tolist() for name in ("lower", "upper")]


@pytest.mark.parametrize(
    ("bounds", "lower", "upper"),
    [
        ((0, 1), [[0, 0]] * 2, [[1, 1]] * 2),
        ((None, 3.5), [[-INF, -INF]] * 2, [[3.5, 3.5]] * 2),
        ([[0, -INF], None], [[0, -INF]] * 2, [[INF, INF]] * 2),
        (((0, None), [None, 1.5]), [[0, -INF]] * 2, [[INF, 1.5]] * 2),  # the pairs of SciPy, turned
        ((np.zeros(2), (1, 2)), [[0, 0]] * 2, [[1, 2]] * 2),
        ((np.array([[0, 1], [2, 3]]), jnp.float32(9)), [[0, 1], [2, 3]], [[9, 9]] * 2),
        ((np.array([[0], [2]]), 9), [[0, 0], [2, 2]], [[9, 9]] * 2),
    ],
)
def test_bounds_are_one_number_or_broadcast_against_x0(bounds, lower, upper):
    assert laid_out(bounds, np.zeros((2, 2))) == [lower, upper]


def test_bounds_of_a_pytree_are_one_like_it():
    low, high = laid_out(({"a": np.array([1, 2]), "b": np.float64(3)}, 9), TREE)
    assert low == [[1, 2, 3]] * 5
    assert high == [[9, 9, 9]] * 5
    low, _ = laid_out(({"a": None, "b": 3}, None), TREE)
    assert low == [[-INF, -INF, 3]] * 5
    low, _ = laid_out(({**TREE, "c": None}, None), TREE | {"c": None})  # not a bound: there is nothing at "c"
    assert low == [[0, 0, 0]] * 5
    low, high = laid_out(({"a": [0, None], "b": 3, "c": None}, {"a": None, "b": 4, "c": None}), TREE | {"c": None})
    assert (low, high) == ([[0, -INF, 3]] * 5, [[INF, INF, 4]] * 5)


def test_one_problem_has_one_row():
    assert laid_out((0, [1, 2]), np.zeros(2), batched=False) == [[[0, 0]], [[1, 2]]]


@pytest.mark.parametrize(
    ("bounds", "error", "said"),
    [
        ([(0, 1)] * 3, TypeError, r"bounds is a list of 3; expected the pair \(lower, upper\)"),
        (1.0, TypeError, "bounds is a float; expected the pair"),
        ((0, np.zeros(4)), ValueError, r"the upper bounds have shape \(4,\); .* the shape of x0, \(5, 2\)"),
        (({"a": 0}, None), ValueError, "the lower bounds have the structure"),
        ((None, "abc"), ValueError, "the upper bounds have the structure"),
        ((1j, 2), TypeError, r"the lower bound is complex \(complex128\); expected real numbers"),
        ((None, [1j, 0]), TypeError, "the upper bound is complex"),
        ((0, -1), ValueError, r"bounds at index \(\) are 0 and -1; expected lower ≤ upper and no NaN"),
        (([0, 2], [1, 1]), ValueError, r"bounds at index \(1,\) are 2 and 1"),
        ((np.nan, None), ValueError, "are nan and inf"),
    ],
)
@pytest.mark.parametrize("solve", [jol.minimize, jol.least_squares, jol.multistart])
def test_what_cannot_be_meant_is_refused(solve, bounds, error, said):
    x0 = np.zeros((5, 3, 2)) if solve is jol.multistart else np.zeros((5, 2))
    with pytest.raises(error, match=said):
        solve(lambda x, args: jnp.sum(x**2), x0, bounds=bounds)


def test_bounds_of_a_traced_call_are_taken_as_they_are():
    def lower(bound):
        return checked_bounds((bound, 0.0), np.zeros((2, 2)))["lower"]

    assert float(jax.jit(lower)(1.0)) == 1.0


def test_root_solvers_of_multistart_have_none():
    with pytest.raises(TypeError, match=r"bounds= does not fit solver=Broyden\("):
        jol.multistart(lambda x, args: x, np.zeros((5, 3, 2)), bounds=(0, 1), solver=jol.Broyden())


def test_only_bounds_with_a_row_for_each_problem_are_divided():
    own, shared = np.zeros((5, 2)), np.zeros(2)
    x0 = np.zeros((5, 2))
    assert axes_of(checked_bounds((own, shared), x0), x0, True) == (0, None)
    assert axes_of(checked_bounds((own, 1.0), x0), x0, False) == (None, None)
    assert axes_of({}, x0, True) == ()


def test_the_geometry_of_a_box():
    box = Box(jnp.array([0.0, 0.0, -INF, 2.0]), jnp.array([1.0, INF, INF, 2.0]))
    x = np.array([0.0, 1.0, 5.0, 2.0])
    assert box.nearest(np.array([-1.0, 3.0, -9.0, 7.0])).tolist() == [0, 3, -9, 2]
    assert box.slope(x, np.array([1.0, 1.0, 1.0, 1.0])).tolist() == [0, 1, 1, 0]
    assert box.slope(x, np.array([-1.0, 1.0, 1.0, -1.0])).tolist() == [-1, 1, 1, 0]
    assert box.reach(x, np.array([0.5, -4.0, 1.0, 0.0])).tolist() == [2, 0.25, INF, INF]
    assert active(x, *box).tolist() == [-1, 0, 0, -1]


def test_a_point_at_the_end_of_its_way_is_at_the_bound():
    """Whatever rounding does to x + α (bound − x)."""
    rng = np.random.default_rng(0)
    x, upper = rng.random((2, 1000)) * np.array([[1.0], [3.0]]) + np.array([[0.0], [1.0]])
    box = Box(jnp.full(1000, -INF), jnp.asarray(upper))
    alpha = box.reach(x, rng.random(1000))
    p = (upper - x) / alpha
    assert np.array_equal(box.along(x, p, box.reach(x, p)), upper)
    assert np.all(np.asarray(box.along(x, p, 0.999 * box.reach(x, p))) < upper)
