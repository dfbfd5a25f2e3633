"""The trust region of Levenberg and Marquardt's method: its step, its length and its damping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes.problem import Box
from jaxopt_lite.solvers import levenberg_marquardt as lm

pytestmark = pytest.mark.hardly_optimized

N, L = 4, 60


@pytest.fixture(scope="module")
def systems():
    """Triangles S with singular values from 1 to 1e-6, one of them singular, c and radii on both sides of ‖S⁻¹c‖."""
    rng = np.random.default_rng(0)
    s = np.triu(rng.standard_normal((L, N, N)) * np.logspace(0, -6, N))
    s[0, :, 2] = 0
    c = rng.standard_normal((L, N))
    radius = np.linalg.norm(np.linalg.lstsq(s[1], c[1])[0]) * np.logspace(-6, 2, L)
    return s.transpose(1, 2, 0), c.T, radius


def slopes(s, c):
    return np.einsum("ijl,il->jl", s, c)


def test_the_step_is_that_of_a_damping_and_as_long_as_the_radius(systems):
    s, c, radius = systems
    z, lam = map(np.asarray, jax.jit(lm._within)(s, c, np.linalg.norm(slopes(s, c), axis=0), radius, np.zeros(L)))
    seen = {"free": 0, "damped": 0}
    for k in range(1, L):
        one, right = np.asarray(s[..., k]), np.asarray(c[:, k])
        stacked = np.concatenate([one, np.sqrt(lam[k]) * np.eye(N)])
        exact = -np.linalg.lstsq(stacked, np.concatenate([right, np.zeros(N)]), rcond=None)[0]
        np.testing.assert_allclose(z[:, k], exact, rtol=1e-5, atol=1e-9 * np.abs(exact).max())
        length = np.linalg.norm(z[:, k])
        seen["damped" if lam[k] > 0 else "free"] += 1
        assert length <= 1.1 * radius[k] and (lam[k] == 0 or length >= 0.9 * radius[k]), k
    assert min(seen.values()) > 5
    assert np.isfinite(z[:, 0]).all() and np.linalg.norm(z[:, 0]) <= 1.1 * radius[0]


def test_a_step_into_a_box_stays_there_and_goes_down(systems):
    """With starts on and off the bounds; no step is longer than the radius, or raises the model."""
    s, c, radius = systems
    rng = np.random.default_rng(1)
    box = Box(-rng.uniform(0, 1, (N, L)), rng.uniform(0, 1, (N, L)))
    x = np.clip(rng.uniform(-1, 1, (N, L)), box.lower, box.upper)
    d = np.ones((N, L))
    p = np.asarray(jax.jit(lm._into_box)(box, x, s, c, slopes(s, c), d, radius, np.zeros(L))[0])
    np.testing.assert_allclose(box.nearest(x + p), x + p, rtol=1e-14)  # `step` moves the rounding back
    assert (np.linalg.norm(p, axis=0) <= 1.1 * radius * np.sqrt(N) + 1e-12).all()
    ahead = np.einsum("ijl,jl->il", s, p)
    assert (np.sum((c + ahead) ** 2, axis=0) <= np.sum(c**2, axis=0)).all()


def test_the_box_step_is_the_best_one_where_the_region_is_wide():
    """Two unknowns, of which the free step takes the first across its bound: the second one is fitted again."""
    s = np.array([[1.0, 0.9], [0.0, 0.4]])[..., None]
    c = -s[:, 0] * 2.0 - s[:, 1] * 1.0  # the free step is (2, 1)
    box, zero = Box(np.full((2, 1), -10.0), np.array([[0.5], [10.0]])), np.zeros((2, 1))
    p, _ = jax.jit(lm._into_box)(box, zero, s, c, slopes(s, c), np.ones((2, 1)), np.array([100.0]), np.zeros(1))
    rest = -c[:, 0] - 0.5 * s[:, 0, 0]
    best = s[:, 1, 0] @ rest / np.sum(s[:, 1, 0] ** 2)
    np.testing.assert_allclose(p[:, 0], [0.5, best], rtol=1e-12)


def test_columns_that_are_nearly_parallel_keep_their_digits():
    """Two columns 1e-7 apart, of which JᵀJ knows two digits; beside it a lane that needs no care has the same bits."""
    rng = np.random.default_rng(2)
    j, f = rng.standard_normal((9, 3, 2)), rng.standard_normal((9, 2))
    j[:, 2, 1] = j[:, 0, 1] + 1e-7 * j[:, 2, 1]
    model = jax.jit(lambda f, j: lm.model(("linear", None), None, jnp.ones((3, 2)), f, jnp.swapaxes(j, 0, 1)))
    found = model(f, j)
    for lane in range(2):
        r = np.linalg.qr(j[..., lane], mode="r")
        np.testing.assert_allclose(np.abs(found.r[..., lane]), np.abs(r), rtol=1e-7, atol=1e-15)
        z = np.linalg.solve(found.r[..., lane], found.c[:, lane])
        np.testing.assert_allclose(z, np.linalg.lstsq(j[..., lane], f[:, lane])[0], rtol=1e-7)
    j[..., 1] = j[..., 0]
    np.testing.assert_array_equal(model(f, j).r[..., 0], found.r[..., 0])


def test_the_error_is_a_cosine_and_rounding_counts_for_nothing():
    jt, f = np.array([[3.0, 4.0, 0.0], [0.0, 1.0, 0.0]])[..., None], np.array([[1.0], [1.0], [7.0]])
    model = jax.jit(lambda box, x, f: lm.model(("linear", None), box, x, f, jt))
    found = model(None, np.ones((2, 1)), f)
    lengths = np.sqrt(51)
    np.testing.assert_allclose(found.error, max(7 / (5 * lengths), 1 / lengths), rtol=1e-12)
    np.testing.assert_allclose(found.cost, 51)
    exact = model(None, np.full((2, 1), 1e3), 1e-13 * f)
    assert exact.error == 0
    held = model(Box(np.ones((2, 1)), np.full((2, 1), 2.0)), np.ones((2, 1)), f)
    assert held.error == 0
    # Where all residuals are outliers, J is next to nothing: a tolerance relative to that error would allow anything.
    assert lm.model(("huber", 0.01), None, np.ones((2, 1)), f, jt).error == 1
