"""The same lines serve one problem and a row of lanes, and say what NumPy says for each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes.arithmetic import (
    at,
    cholesky,
    dot,
    eigh,
    eye,
    fold,
    inverse,
    matvec,
    max_abs,
    normal_equations,
    outer,
    rematvec,
    take_where,
    triangle,
    triangle_solve,
)  # fmt: skip

pytestmark = pytest.mark.hardly_optimized

# One, even and odd, in straight lines and in a loop.
each_size = pytest.mark.parametrize("n", [1, 2, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 7)), 12])


def vectors(n, lanes=4, seed=0):
    return np.random.default_rng([seed, n]).standard_normal((n, lanes))


def matrices(m, n, lanes=4, seed=1):
    return np.random.default_rng([seed, m, n]).standard_normal((m, n, lanes))


def agrees(fun, reference, *arrays):
    """On lanes as on each lane alone, without a lane axis, as in NumPy."""
    together = np.asarray(jax.jit(fun)(*arrays))
    alone = fun if fun is inverse else jax.jit(fun)  # whose straight lines take long to compile as one program
    for lane in range(arrays[0].shape[-1]):
        expected = reference(*(a[..., lane] for a in arrays))
        np.testing.assert_allclose(together[..., lane], expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(alone(*(a[..., lane] for a in arrays)), expected, rtol=1e-12, atol=1e-14)


@each_size
def test_products_of_vectors(n):
    u, v = vectors(n), vectors(n, seed=2)
    agrees(dot, np.dot, u, v)
    agrees(outer, np.outer, u, vectors(n + 1))
    agrees(max_abs, lambda u: np.max(np.abs(u)), u)


@pytest.mark.parametrize("m, n", [(1, 1), (2, 3), (5, 2), (7, 7), (11, 4)])
def test_products_with_matrices(m, n):
    agrees(matvec, lambda a, v: a @ v, matrices(m, n), vectors(n))
    agrees(rematvec, lambda a, u: a.T @ u, matrices(m, n), vectors(m))


@each_size
def test_identity_has_the_size_and_dtype_of_its_model(n):
    for like in (vectors(n), vectors(n)[:, 0].astype(np.float32)):
        identity = eye(like)
        assert identity.shape == (n, *like.shape) and identity.dtype == like.dtype
    agrees(eye, lambda v: np.eye(v.size), vectors(n))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7, 11, 15])
def test_fold_visits_every_index_once_in_order(count):
    digits = fold(lambda k, total: total * 16 + k, count, jnp.int64(0))
    assert int(digits) == sum(k * 16 ** (count - 1 - k) for k in range(count))


def test_at_takes_a_slice_along_an_axis():
    a = matrices(3, 5)
    np.testing.assert_array_equal(at(a, 2), a[2])
    np.testing.assert_array_equal(at(a, 4, 1), a[:, 4])


def test_take_where_chooses_whole_lanes_of_a_pytree():
    mask = np.array([True, False, True, False])
    new, old = {"v": vectors(3), "s": np.ones(4)}, {"v": np.zeros((3, 4)), "s": np.zeros(4)}
    taken = take_where(mask, new, old)
    np.testing.assert_array_equal(taken["v"], np.where(mask, new["v"], 0))
    np.testing.assert_array_equal(taken["s"], mask.astype(float))


def test_nan_stays_in_its_lane():
    u, v, a = vectors(3), vectors(3, seed=2), matrices(3, 3)
    results = jax.jit(lambda u, a: [dot(u, v), max_abs(u), outer(u, v), matvec(a, u), rematvec(a, u), inverse(a)])
    clean = results(u, a)
    u[1, 2], a[0, 1, 2] = np.nan, np.nan
    kept = np.array([0, 1, 3])
    for spoiled, whole in zip(results(u, a), clean, strict=True):
        assert np.any(np.isnan(spoiled[..., 2]))
        np.testing.assert_array_equal(spoiled[..., kept], whole[..., kept])


def test_the_largest_entry_is_nan_if_any_is():
    assert np.isnan(max_abs(np.array([np.nan, 1.0, 2.0]))) and np.isnan(max_abs(np.array([3.0, 1.0, np.nan])))
    assert max_abs(np.array([1.0, -np.inf])) == np.inf


@each_size
def test_inverse(n):
    agrees(inverse, np.linalg.inv, matrices(n, n) + 3 * np.eye(n)[:, :, None])


@each_size
def test_inverse_keeps_its_precision_by_pivoting(n):
    """Hard on elimination without exchanges of rows: tiny pivots, and permutations with zero diagonals."""
    rng = np.random.default_rng(3)
    a = np.stack([np.eye(n)[rng.permutation(n)] * 10.0 ** rng.integers(-3, 3, n) for _ in range(6)], axis=-1)
    a += 1e-13 * rng.standard_normal(a.shape)
    identities = np.einsum("ijl,jkl->ikl", np.asarray(jax.jit(inverse)(a)), a)
    np.testing.assert_allclose(identities, np.broadcast_to(np.eye(n)[:, :, None], a.shape), atol=1e-7)


def test_inverse_of_ill_scaled_rows():
    a = np.array([[1e-20, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(inverse(a), [[-1, 1], [1, 0]], atol=1e-12)


@pytest.mark.parametrize("singular", [np.zeros((3, 3)), np.ones((3, 3)), np.diag([1.0, 0.0, 2.0])])
def test_a_singular_lane_is_not_finite_and_leaves_its_neighbours_alone(singular):
    a = matrices(3, 3)
    clean = np.asarray(jax.jit(inverse)(a))
    a[..., 1] = singular
    spoiled = np.asarray(jax.jit(inverse)(a))
    assert not np.all(np.isfinite(spoiled[..., 1]))
    np.testing.assert_array_equal(spoiled[..., [0, 2, 3]], clean[..., [0, 2, 3]])


def test_float32_stays_float32():
    u, a = vectors(3).astype(np.float32), matrices(3, 3).astype(np.float32)
    all_of = lambda u, a: (dot(u, u), max_abs(u), outer(u, u), eye(u), matvec(a, u), rematvec(a, u), inverse(a))
    for result in jax.eval_shape(all_of, u, a):
        assert result.dtype == np.float32


@pytest.mark.parametrize(("m", "n"), [(7, 3), (4, 4), (2, 5)])
def test_a_triangle_has_the_products_of_its_matrix(m, n):
    """RᵀR = AᵀA and Rᵀc = Aᵀb; lanes with a column of zeros, and with one that is the sum of others."""
    a, b = matrices(m, n, lanes=5), vectors(m, lanes=5)
    a[:, 1, 0], a[:, -1, 1] = 0, a[:, :-1, 1].sum(axis=1)
    r, c = map(np.asarray, jax.jit(triangle)(np.swapaxes(a, 0, 1), b))
    for lane in range(5):
        one, rows = a[..., lane], r[..., lane]
        assert (np.tril(rows, -1) == 0).all()
        np.testing.assert_allclose(rows.T @ rows, one.T @ one, atol=1e-13)
        np.testing.assert_allclose(rows.T @ c[:, lane], one.T @ b[:, lane], atol=1e-13)
        assert np.count_nonzero(np.diagonal(rows)) == np.linalg.matrix_rank(one)
        alone = jax.jit(triangle)(a[..., lane].T, b[:, lane])[0]
        np.testing.assert_allclose(alone, rows, atol=1e-13)


def test_a_triangle_keeps_the_digits_that_products_lose():
    """Läuchli's matrix, whose AᵀA is singular to rounding."""
    small = 1e-9
    columns = np.array([[1.0, small, 0.0], [1.0, 0.0, small]])[..., None]
    x = jax.jit(lambda a, b: triangle_solve(*triangle(a, b)))(columns, np.array([2.0, small, small])[:, None])
    np.testing.assert_allclose(x[:, 0], [1, 1], rtol=1e-6)


@pytest.mark.parametrize(("m", "n"), [(13, 3), (4, 4), (2, 5)])
def test_normal_equations_are_products(m, n):
    a, b = matrices(m, n), vectors(m)
    joined = lambda squares, b: jnp.concatenate([squares, b[:, None]], axis=1)
    agrees(
        lambda a, b: joined(*normal_equations(jnp.swapaxes(a, 0, 1), b)), lambda a, b: joined(a.T @ a, a.T @ b), a, b
    )


def test_a_cholesky_factor_says_where_pivots_vanish():
    """Well conditioned; a column of zeros; two columns 1e-6 apart, whose pivot is 1e-12 of its entry; NaN."""
    a, h = matrices(6, 4, lanes=4), vectors(4)
    a[:, 2, 1], a[:, 3, 2], a[0, 0, 3] = 0, a[:, 0, 2] + 1e-6 * a[:, 3, 2], np.nan
    g = np.einsum("ki...,kj...->ij...", a, a)
    r, c, sure = map(np.asarray, cholesky(g, h, least=1e-8))
    assert sure.tolist() == [True, True, False, False]
    np.testing.assert_allclose(r[..., 0], np.linalg.cholesky(g[..., 0]).T, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(r[..., 0].T @ c[:, 0], h[:, 0], rtol=1e-12)
    np.testing.assert_allclose(r[..., 1].T @ r[..., 1], g[..., 1], atol=1e-13)
    assert (r[2, :, 1] == 0).all()
    assert r[3, 3, 2] == pytest.approx(np.sqrt(1e-8 * g[3, 3, 2]))


def test_triangular_systems_are_solved():
    r, v = np.triu(np.moveaxis(matrices(4, 4, lanes=3), -1, 0)), vectors(4, lanes=3)
    r[1, 2, 2] = 0
    r = np.moveaxis(r, 0, -1)
    x, y = jax.jit(lambda r, v: (triangle_solve(r, v), triangle_solve(r, v, transposed=True)))(r, v)
    for lane in (0, 2):
        np.testing.assert_allclose(x[:, lane], np.linalg.solve(r[..., lane], v[:, lane]), rtol=1e-10)
        np.testing.assert_allclose(y[:, lane], np.linalg.solve(r[..., lane].T, v[:, lane]), rtol=1e-10)
    assert x[2, 1] == 0 and y[2, 1] == 0 and np.isfinite(x).all()


@each_size
def test_eigenvalues_of_a_symmetric_matrix(n):
    """Also of one that is singular, of one with equal eigenvalues and of one in bad units, beside one of NaN."""
    a = matrices(n, n, lanes=6)
    a = a + np.swapaxes(a, 0, 1)
    a[..., 0], a[..., 1], a[..., 2] = 1, np.eye(n), np.nan
    units = 10.0 ** -np.arange(n)
    a[..., 3] = (a[..., 4] @ a[..., 4] + np.eye(n)) * np.outer(units, units)
    w, v = map(np.asarray, jax.jit(eigh)(a))
    assert np.isnan(w[:, 2]).all()
    for lane in (0, 1, 3, 4, 5):
        rows, values = v[..., lane].T, w[:, lane]
        size = np.abs(a[..., lane]).max()
        np.testing.assert_allclose(rows @ rows.T, np.eye(n), atol=1e-13)
        np.testing.assert_allclose(rows.T @ np.diag(values) @ rows, a[..., lane], atol=1e-13 * size)
        np.testing.assert_array_equal(jax.jit(eigh)(a[..., [lane]])[0][:, 0], values)
    root = np.linalg.cholesky(a[..., 4] @ a[..., 4] + np.eye(n)) * units[:, None]
    np.testing.assert_allclose(np.sort(w[:, 3]), np.sort(np.linalg.svd(root)[1] ** 2), rtol=1e-11)
