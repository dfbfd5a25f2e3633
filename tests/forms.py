"""Many ways to write three equations in three unknowns: what JAX offers, from a slice to a linear solve.

Each takes `x`, of 3 numbers, and `a`, what the problem is given by: `c` of 6 numbers, a matrix `m` of 3 x 3, and a
whole number `k` below 4. `batch` makes such data. The residuals are smooth nearly everywhere, and most have a root.
"""

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["FORMS", "batch"]

SHARED = np.random.default_rng(5).standard_normal((3, 3)) * 0.4
TIMES = np.linspace(0.1, 2.0, 7)


def batch(size: int, dtype="float64", seed=0):
    """Starts [B, 3] and data for so many problems."""
    rng = np.random.default_rng(seed)
    data = {
        "c": rng.standard_normal((size, 6)).astype(dtype),
        "m": (rng.standard_normal((size, 3, 3)) * 0.4).astype(dtype),
        "k": rng.integers(0, 4, size).astype(np.int32),
    }
    return (rng.standard_normal((size, 3)) * 1.5).astype(dtype), data


def base(x, a):
    return x + 0.3 * x**3 - 0.5 * a["c"][0]


def _curve(x, a):
    t = jnp.asarray(TIMES, x.dtype)
    return jnp.stack([x[0] + jnp.sum(jnp.exp(-t * x[1] ** 2)), x[1] - jnp.mean(t * x[0]), x[2] - jnp.dot(t, t) * 0.1])


def _euler(x, a):
    def step(y, _):
        return y - 0.1 * (y**3 + a["m"] @ y), jnp.sum(y)

    y, sums = jax.lax.scan(step, x, None, length=5)
    return y - 0.1 * a["c"][:3] + 0.01 * jnp.max(sums)


def _series(x, a):
    """Sums terms until they are small, which takes each problem as long as it takes."""

    def more(state):
        term, _, k = state
        return (jnp.max(jnp.abs(term)) > 1e-3) & (k < 30)

    def add(state):
        term, total, k = state
        term = term * jnp.tanh(x) * 0.7
        return term, total + term, k + 1

    return jax.lax.while_loop(more, add, (a["c"][:3], jnp.zeros_like(x), 0))[1] + x


@jax.custom_jvp
def _clipped(x):
    return jnp.clip(x, -3, 3) + 0.1 * x


_clipped.defjvp(lambda p, t: (_clipped(p[0]), (jnp.where(jnp.abs(p[0]) < 3, 1.1, 0.1)) * t[0]))


def _pytrees(x, a):
    parts = {"u": x[:1], "v": (x[1:],)}
    out = jax.tree.map(lambda leaf: leaf * 2 + jnp.sum(leaf), parts)
    return jnp.concatenate([out["u"], out["v"][0]]) - a["c"][3:]


FORMS = {
    "elementwise": lambda x, a: base(x, a) + jnp.sin(x),
    "a slice": lambda x, a: base(x, a) - a["c"][:3],
    "the last three": lambda x, a: base(x, a) - a["c"][3:],
    "every second": lambda x, a: base(x, a) - a["c"][::2],
    "backwards": lambda x, a: base(x, a) - a["c"][5:2:-1],
    "its own matrix": lambda x, a: (a["m"] @ x) ** 2 + base(x, a),
    "its own matrix transposed": lambda x, a: x @ a["m"] + base(x, a),
    "a quadratic form": lambda x, a: base(x, a) + x * (x @ a["m"] @ x),
    "the square of its matrix": lambda x, a: a["m"] @ a["m"].T @ x + base(x, a),
    "a shared matrix": lambda x, a: jnp.asarray(SHARED, x.dtype) @ jnp.tanh(x) + base(x, a),
    "a shared matrix from the right": lambda x, a: jnp.sin(x) @ jnp.asarray(SHARED, x.dtype) + base(x, a),
    "an outer product": lambda x, a: jnp.sum(jnp.outer(x, a["c"]), axis=1) * 0.1 + base(x, a),
    "einsum": lambda x, a: jnp.einsum("ij,jk,k->i", a["m"], a["m"], x) + base(x, a),
    "reshaped": lambda x, a: a["c"].reshape(2, 3).sum(0) * 0.2 + base(x, a),
    "a column": lambda x, a: a["c"].reshape(3, 2)[:, 1] * 0.5 + base(x, a),
    "the diagonal": lambda x, a: jnp.diagonal(a["m"]) * x + base(x, a),
    "joined": lambda x, a: jnp.concatenate([x[1:], x[:1]]) * 0.2 + base(x, a),
    "chosen by constant indices": lambda x, a: a["c"][jnp.array([4, 0, 2])] * 0.3 + base(x, a)[jnp.array([2, 0, 1])],
    "chosen by its own index": lambda x, a: a["c"][a["k"]] * 0.3 + base(x, a),
    "padded": lambda x, a: jnp.pad(x[:2], (1, 0)) * 0.3 + base(x, a),
    "rolled": lambda x, a: jnp.roll(x, 1) * a["c"][1] * 0.2 + base(x, a),
    "largest and smallest": lambda x, a: base(x, a) + 0.1 * jnp.max(x) - 0.1 * jnp.min(a["c"]),
    "products and norms": lambda x, a: base(x, a) + 0.01 * jnp.prod(x) + 0.1 * jnp.linalg.norm(x - a["c"][:3]),
    "running sums": lambda x, a: base(x, a) + 0.1 * jnp.cumsum(x) - 0.1 * jnp.cumprod(a["c"])[:3],
    "sorted": lambda x, a: base(x, a) + 0.1 * jnp.sort(a["c"])[:3],
    "cases": lambda x, a: jnp.where(x > a["c"][1], 2 * x, x) + base(x, a),
    "exponentials": lambda x, a: base(x, a) + 0.1 * jnp.exp(-(x**2)) + 0.1 * jnp.log1p(a["c"][:3] ** 2),
    "special functions": lambda x, a: base(x, a) + 0.1 * jax.scipy.special.erf(x) + 0.1 * jax.nn.softplus(a["c"][3:]),
    "powers": lambda x, a: base(x, a) + 0.1 * (1 + x**2) ** (0.5 + jnp.abs(a["c"][2])),
    "a softmax": lambda x, a: base(x, a) - jax.nn.softmax(a["m"] @ x),
    "a polynomial": lambda x, a: base(x, a) + 0.05 * jnp.polyval(a["c"][:4], jnp.tanh(x)),
    "interpolated": lambda x, a: base(x, a) + 0.1 * jnp.interp(x, jnp.linspace(-3, 3, 6), a["c"]),
    "a curve": _curve,
    "a scan": _euler,
    "a loop of known length": lambda x, a: jax.lax.fori_loop(0, 4, lambda i, y: y - 0.1 * a["c"][i] * jnp.cos(y), x),
    "a loop until it is enough": _series,
    "a condition": lambda x, a: jax.lax.cond(x[0] > a["c"][0], lambda y: y * 1.5, lambda y: y + 0.1, x) + base(x, a),
    "a switch": lambda x, a: jax.lax.switch(a["k"], [lambda y: y, jnp.sin, jnp.tanh, lambda y: 2 * y], x) + base(x, a),
    "a linear solve": lambda x, a: jnp.linalg.solve(jnp.eye(3, dtype=x.dtype) * 2 + a["m"], x) + base(x, a),
    "a factorisation": lambda x, a: jnp.linalg.cholesky(a["m"] @ a["m"].T + jnp.eye(3, dtype=x.dtype)) @ x + base(x, a),
    "a transform": lambda x, a: base(x, a) + 0.1 * jnp.real(jnp.fft.fft(a["c"]))[:3],
    "a function that is jitted": lambda x, a: jax.jit(lambda y: jnp.where(y > 0, y, 0.1 * y))(x) + base(x, a),
    "mapped inside": lambda x, a: jax.vmap(lambda row, y: jnp.dot(row, x) * 0.3 + y)(a["m"], x) + base(x, a),
    "a rule of its own": lambda x, a: _clipped(x) + base(x, a) - a["c"][3:],
    "pytrees": _pytrees,
    "its own gradient": lambda x, a: jax.grad(lambda y: jnp.sum(y**2) / 2 + 0.1 * jnp.sum(jnp.sin(y * a["c"][:3])))(x),
}  # fmt: skip
