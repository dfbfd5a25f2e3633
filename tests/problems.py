"""Standard problem sets for root finding and minimisation: data, and functions of ONE vector.

Four tuples of `Problem`:

- `NONLINEAR_23`: the 23 systems of Burkardt's `test_nonlin`, in its order. `fun(x)` is as long as `x`.
- `MGH_EQUATIONS`: the 14 systems of Moré, Garbow and Hillstrom (MGH), in the dimensions of MINPACK's driver.
  Chebyquad n = 8, which has no root, is left out.
- `MGH_UNCONSTRAINED`: the 18 objectives of ACM Algorithm 566; some in several dimensions. `fun(x)` is scalar.
- `MGH_LEAST_SQUARES`: the 17 that complete the 35 problems of the paper, as scalar objectives.

`NONLINEAR_23` has the dimensions of SciML's NonlinearProblemLibrary, whose success tables are published, and
Burkardt's formulas. SciML's transcription differs in four: Watson (weights j for j - 1, powers of the wrong
component), Chebyquad (start), the discrete integral (diagonal counted twice), Chandrasekhar (end points for
midpoints).

Every residual is written once; `sum_of_squares` and `half_gradient` make the other forms from it. Functions
follow the dtype of `x`, use static indices only, and write matrix products as broadcast sums, so that no
device rounds them to a shorter format than that of `x`.

MGH: Testing Unconstrained Optimization Software, ACM TOMS 7 (1981) 17-41.
"""

import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Vector = Float[Array, "n"]
Residual = Float[Array, "m"]
Scalar = Float[Array, ""]
Points = Float[np.ndarray, "count n"]


class Problem(NamedTuple):
    """One test problem.

    Attributes:
        name: unique within its tuple; the same name in two tuples means the same start.
        fun: `fun(x)` with `x` of shape [n]; a residual of shape [n] (systems) or a scalar (objectives).
        start: the standard starting point, float64 [n], read-only.
        source: "MGH k" or "Burkardt k": problem k there.
        answers: never claimed complete. Systems: known roots, each float64 [n]. Objectives: known local
            minimum values, the global one first; values only approached at infinity are included.
        residual: of an objective, what it is the sum of the squares of.
    """

    name: str
    fun: Callable[[Vector], Array]
    start: np.ndarray
    source: str
    answers: tuple
    residual: Any = None


def perturbed(problem: Problem, count: int = 100, seed: int = 0) -> Points:
    """Points around the start: start + 0.1 * max(1, |start_i|) * standard normal; row 0 is the start itself.

    At the default points every function and its derivatives are finite in float64. In float32 a dozen points
    of osborne 1 overflow: its rates are small against 1, so the noise makes some negative.

    Args:
        problem: the problem whose `start` is perturbed.
        count: number of points, at least 1. A larger count keeps the rows of a smaller one.
        seed: the noise depends on `seed` and on the problem's name alone, not on its place in a tuple.

    Returns:
        float64 array of shape [count, n].

    Raises:
        ValueError: `count` is less than 1.

    Example:
        >>> perturbed(NONLINEAR_23[0], count=3).shape
        (3, 10)
    """
    if count < 1:
        raise ValueError(f"count must be at least 1 (row 0 is the start itself); got {count}")
    rng = np.random.default_rng([seed, zlib.crc32(problem.name.encode())])
    noise = rng.standard_normal((count, problem.start.size))
    noise[0] = 0.0
    return problem.start + 0.1 * np.maximum(1.0, np.abs(problem.start)) * noise


# --- Helpers ------------------------------------------------------------------------------------------------


def _like(x: Vector, table) -> Array:
    """A constant table in the dtype of x: a float64 table would promote a float32 x."""
    return jnp.asarray(np.asarray(table), x.dtype)


def _index(x: Vector) -> Vector:
    """1, 2, ..., n."""
    return _like(x, np.arange(1, x.size + 1))


def _matvec(matrix: Array, x: Vector) -> Residual:
    return jnp.sum(matrix * x, axis=-1)


def _neighbours(x: Vector) -> tuple[Vector, Vector]:
    """Left and right neighbour of each component, zero beyond the ends."""
    zero = jnp.zeros_like(x[:1])
    return jnp.concatenate([zero, x[:-1]]), jnp.concatenate([x[1:], zero])


def sum_of_squares(residual: Callable[[Vector], Residual]) -> Callable[[Vector], Scalar]:
    """The objective f(x) = sum_i r_i(x)^2."""
    return lambda x: jnp.sum(residual(x) ** 2)


def half_gradient(residual: Callable[[Vector], Residual]) -> Callable[[Vector], Vector]:
    """The system J(x)^T r(x) = 0: half the gradient of the sum of squares."""

    def system(x):
        r, pullback = jax.vjp(residual, x)
        return pullback(r)[0]

    return system


# --- Systems: residuals as long as x ------------------------------------------------------------------------


def rosenbrock(x: Vector) -> Vector:
    """Generalised to a chain; n = 2 is the classic."""
    return jnp.concatenate([1 - x[:1], 10 * (x[1:] - x[:-1] ** 2)])


def powell_badly_scaled(x: Vector) -> Vector:
    return jnp.stack([1e4 * x[0] * x[1] - 1, jnp.exp(-x[0]) + jnp.exp(-x[1]) - 1.0001])


def wood_system(x: Vector) -> Vector:
    """The gradient of Wood's objective, its first and third rows halved."""
    a, b, c, d = x[0], x[1], x[2], x[3]
    u, v = b - a**2, d - c**2
    return jnp.stack([
        -200 * a * u - (1 - a), 200 * u + 20.2 * (b - 1) + 19.8 * (d - 1),
        -180 * c * v - (1 - c), 180 * v + 20.2 * (d - 1) + 19.8 * (b - 1),
    ])  # fmt: skip


def helical_valley(x: Vector) -> Vector:
    """The angle is cut along the negative x2 axis, so it is measured from the positive one."""
    squared = x[0] ** 2 + x[1] ** 2
    at_origin = squared == 0  # neither angle nor radius has a derivative there: take zero, not NaN
    turns = jnp.arctan2(-x[0], jnp.where(at_origin, 1, x[1])) / (2 * math.pi) + 0.25
    radius = jnp.where(at_origin, 0, jnp.sqrt(jnp.where(at_origin, 1, squared)))
    return jnp.stack([10 * (x[2] - 10 * turns), 10 * (radius - 1), x[2]])


def chebyquad_centred(x: Vector) -> Vector:
    """Nodes in [-1, 1]: the mean of each Chebyshev polynomial T_1..T_n over the nodes, less its true mean."""
    means, previous, current = [], jnp.ones_like(x), x
    for _ in range(x.size):
        means.append(jnp.mean(current))
        previous, current = current, 2 * x * current - previous
    true = [0.0 if i % 2 else -1 / (i**2 - 1) for i in range(1, x.size + 1)]
    return jnp.stack(means) - _like(x, true)


def chebyquad(x: Vector) -> Vector:
    """Nodes in [0, 1]."""
    return chebyquad_centred(2 * x - 1)


def brown_almost_linear(x: Vector) -> Vector:
    return jnp.concatenate([x[:-1] + jnp.sum(x) - (x.size + 1), jnp.prod(x, keepdims=True) - 1])


def discrete_boundary_value(x: Vector) -> Vector:
    h = 1 / (x.size + 1)
    left, right = _neighbours(x)
    return 2 * x - left - right + h**2 / 2 * (x + h * _index(x) + 1) ** 3


def discrete_integral(x: Vector) -> Vector:
    h = 1 / (x.size + 1)
    t = h * np.arange(1, x.size + 1)
    green = np.minimum.outer(t, t) - np.outer(t, t)
    return x + h / 2 * _matvec(_like(x, green), (x + _like(x, t) + 1) ** 3)


def trigonometric(x: Vector) -> Vector:
    return x.size - jnp.sum(jnp.cos(x)) + _index(x) * (1 - jnp.cos(x)) - jnp.sin(x)


def broyden_tridiagonal(x: Vector) -> Vector:
    left, right = _neighbours(x)
    return (3 - 2 * x) * x - left - 2 * right + 1


def broyden_banded(x: Vector) -> Vector:
    """Row k couples to the five components before it and the one after."""
    offset = np.subtract.outer(np.arange(x.size), np.arange(x.size))
    band = (offset >= -1) & (offset <= 5) & (offset != 0)
    return x * (2 + 5 * x**2) + 1 - _matvec(_like(x, band), x * (1 + x))


def matrix_square_root(x: Vector) -> Vector:
    """Hammarling: X X = 1e-4 I + e1 e2^T, X in row order."""
    k = math.isqrt(x.size)
    target = 1e-4 * np.eye(k)
    target[0, 1] = 1.0
    root = x.reshape(k, k)
    return (jnp.sum(root[:, :, None] * root[None], axis=1) - _like(x, target)).reshape(-1)


def dennis_schnabel(x: Vector) -> Vector:
    return jnp.stack([x[0] + x[1] - 3, x[0] ** 2 + x[1] ** 2 - 9])


def sample_18(x: Vector) -> Vector:
    """Every point of either axis is a root."""
    zero = x == 0  # g(u) = (1 - exp(-u^2)) / u tends to u at 0: keep that value and slope
    safe = jnp.where(zero, 1, x)
    g = jnp.where(zero, x, -jnp.expm1(-(safe**2)) / safe)
    return jnp.stack([x[1] ** 2 * g[0], x[0] * g[1]])


def sample_19(x: Vector) -> Vector:
    return x * jnp.sum(x**2)


def scalar_cubic(x: Vector) -> Vector:
    return x * (x - 5) ** 2


def freudenstein_roth(x: Vector) -> Vector:
    a, b = x[0], x[1]
    return jnp.stack([a - 13 + ((5 - b) * b - 2) * b, a - 29 + ((b + 1) * b - 14) * b])


def boggs(x: Vector) -> Vector:
    return jnp.stack([x[0] ** 2 - x[1] + 1, x[0] - jnp.cos(math.pi / 2 * x[1])])


def chandrasekhar(x: Vector) -> Vector:
    """The H equation with c = 0.9, by the midpoint rule."""
    mu = (np.arange(x.size) + 0.5) / x.size
    kernel = 0.9 / (2 * x.size) * mu[:, None] / np.add.outer(mu, mu)
    return x - 1 / (1 - _matvec(_like(x, kernel), x))


# --- Least squares: residuals of any length -----------------------------------------------------------------

_GAUSSIAN = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989]
_BARD = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]
_KOWALIK_Y = [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
_KOWALIK_U = [4.0, 2.0, 1.0, 0.5, 0.25, 0.1670, 0.1250, 0.1000, 0.0833, 0.0714, 0.0625]
_MEYER = [
    34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872,
]  # fmt: skip
_OSBORNE_1 = [
    844, 908, 932, 936, 925, 908, 881, 850, 818, 784, 751, 718, 685, 658, 628, 603, 580, 558, 538, 522, 506,
    490, 478, 467, 457, 448, 438, 431, 424, 420, 414, 411, 406,
]  # fmt: skip
_OSBORNE_2 = [
    1366, 1191, 1112, 1013, 991, 885, 831, 847, 786, 725, 746, 679, 608, 655, 616, 606, 602, 626, 651, 724,
    649, 649, 694, 644, 624, 661, 612, 558, 533, 495, 500, 423, 395, 375, 372, 391, 396, 405, 428, 429, 523,
    562, 607, 653, 672, 708, 633, 668, 645, 632, 591, 559, 597, 625, 739, 710, 729, 720, 636, 581, 428, 292,
    162, 98, 54,
]  # fmt: skip


def biggs_exp6(x: Vector) -> Residual:
    t = np.arange(1, 14) / 10
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    t, y = _like(x, t), _like(x, y)
    return x[2] * jnp.exp(-t * x[0]) - x[3] * jnp.exp(-t * x[1]) + x[5] * jnp.exp(-t * x[4]) - y


def gaussian(x: Vector) -> Residual:
    t, y = _like(x, (8 - np.arange(1, 16)) / 2), _like(x, _GAUSSIAN + _GAUSSIAN[-2::-1])
    return x[0] * jnp.exp(-x[1] * (t - x[2]) ** 2 / 2) - y


def box_3d(x: Vector) -> Residual:
    t = np.arange(1, 11) / 10
    weight, t = _like(x, np.exp(-t) - np.exp(-10 * t)), _like(x, t)
    return jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * weight


def variably_dimensioned(x: Vector) -> Residual:
    s = jnp.sum(_index(x) * (x - 1))
    return jnp.concatenate([x - 1, jnp.stack([s, s**2])])


def watson(x: Vector) -> Residual:
    """p'(t) - p(t)^2 = 1 at 29 points and two conditions at zero, p the polynomial with coefficients x."""
    t, power = np.arange(1, 30)[:, None] / 29, np.arange(x.size)
    value = _matvec(_like(x, t**power), x)
    slope = _matvec(_like(x, power * t ** np.maximum(power - 1, 0)), x)
    return jnp.concatenate([slope - value**2 - 1, jnp.stack([x[0], x[1] - x[0] ** 2 - 1])])


def penalty_1(x: Vector) -> Residual:
    return jnp.concatenate([math.sqrt(1e-5) * (x - 1), jnp.sum(x**2, keepdims=True) - 0.25])


def penalty_2(x: Vector) -> Residual:
    e, y = jnp.exp(x / 10), np.exp(np.arange(1, x.size + 1) / 10)
    pairs = e[1:] + e[:-1] - _like(x, y[1:] + y[:-1])
    weighted = jnp.sum((x.size + 1 - _index(x)) * x**2, keepdims=True) - 1
    small = math.sqrt(1e-5)
    return jnp.concatenate([x[:1] - 0.2, small * pairs, small * (e[1:] - math.exp(-0.1)), weighted])


def brown_badly_scaled(x: Vector) -> Residual:
    return jnp.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def brown_dennis(x: Vector) -> Residual:
    t = np.arange(1, 21) / 5
    exp, sin, cos, t = (_like(x, table) for table in (np.exp(t), np.sin(t), np.cos(t), t))
    return (x[0] + t * x[1] - exp) ** 2 + (x[2] + sin * x[3] - cos) ** 2


def gulf(x: Vector) -> Residual:
    t = np.arange(1, 100) / 100
    y, t = _like(x, 25 + (-50 * np.log(t)) ** (2 / 3)), _like(x, t)
    return jnp.exp(-(jnp.abs(y - x[1]) ** x[2]) / x[0]) - t


def extended_rosenbrock(x: Vector) -> Residual:
    """Independent pairs, unlike the chain of `rosenbrock`."""
    a, b = x[::2], x[1::2]
    return jnp.concatenate([10 * (b - a**2), 1 - a])


def powell_singular(x: Vector) -> Residual:
    """Independent groups of four; n = 4 is Powell's own, in his order."""
    a, b, c, d = (x[i::4] for i in range(4))
    root5, root10 = math.sqrt(5), math.sqrt(10)
    return jnp.concatenate([a + 10 * b, root5 * (c - d), (b - 2 * c) ** 2, root10 * (a - d) ** 2])


def beale(x: Vector) -> Residual:
    return jnp.stack([y - x[0] * (1 - x[1] ** i) for i, y in ((1, 1.5), (2, 2.25), (3, 2.625))])


def wood(x: Vector) -> Residual:
    a, b, c, d = x[0], x[1], x[2], x[3]
    ends = [math.sqrt(10) * (b + d - 2), math.sqrt(0.1) * (b - d)]
    return jnp.stack([10 * (b - a**2), 1 - a, math.sqrt(90) * (d - c**2), 1 - c, *ends])


def bard(x: Vector) -> Residual:
    u = np.arange(1, 16)
    v = 16 - u
    u, v, w, y = (_like(x, table) for table in (u, v, np.minimum(u, v), _BARD))
    return y - (x[0] + u / (v * x[1] + w * x[2]))


def kowalik_osborne(x: Vector) -> Residual:
    u, y = _like(x, _KOWALIK_U), _like(x, _KOWALIK_Y)
    return y - x[0] * u * (u + x[1]) / (u * (u + x[2]) + x[3])


def meyer(x: Vector) -> Residual:
    t, y = _like(x, 45 + 5 * np.arange(1, 17)), _like(x, _MEYER)
    return x[0] * jnp.exp(x[1] / (t + x[2])) - y


def jennrich_sampson(x: Vector) -> Residual:
    i = _like(x, np.arange(1, 11))
    return 2 + 2 * i - (jnp.exp(i * x[0]) + jnp.exp(i * x[1]))


def osborne_1(x: Vector) -> Residual:
    t, y = _like(x, 10 * np.arange(33)), _like(x, np.array(_OSBORNE_1) / 1000)
    return y - (x[0] + x[1] * jnp.exp(-t * x[3]) + x[2] * jnp.exp(-t * x[4]))


def osborne_2(x: Vector) -> Residual:
    t, y = _like(x, np.arange(65) / 10), _like(x, np.array(_OSBORNE_2) / 1000)
    bells = sum(x[i] * jnp.exp(-((t - x[i + 7]) ** 2) * x[i + 4]) for i in (1, 2, 3))
    return y - (x[0] * jnp.exp(-t * x[4]) + bells)


def linear_full_rank(x: Vector) -> Residual:
    """m = 2 n."""
    return jnp.concatenate([x, jnp.zeros_like(x)]) - jnp.sum(x) / x.size - 1


def linear_rank_1(x: Vector) -> Residual:
    """m = 2 n."""
    return _like(x, np.arange(1, 2 * x.size + 1)) * jnp.sum(_index(x) * x) - 1


def linear_rank_1_zeros(x: Vector) -> Residual:
    """m = 2 n; the first and last columns and rows are zero."""
    row = np.arange(2 * x.size)
    row[-1] = 0
    return _like(x, row) * jnp.sum((_index(x) * x)[1:-1]) - 1


# --- The sets -----------------------------------------------------------------------------------------------

_I = np.arange(1, 11)
_HUMP = _I * (_I - 11) / 121
_RAMP = 1 - _I / 10

# Roots without a closed form, polished by Newton's method in float64 until the residual stopped falling.
_WATSON = {
    2: [-0.5013670075219627, 1.073649838459543],
    6: [-0.01572508640145839, 1.01243486936911, -0.232991625956736, 1.260430087799603, -1.513728922722273,
        0.992996432431132],
    9: [-1.53070365213755e-05, 0.999789703931948, 0.01476396369357388, 0.1463423282991931, 1.000821103005445,
        -2.617731140520672, 4.104403164480861, -3.143612278557676, 1.05262640801047],
}  # fmt: skip
_CHEBYQUAD = {  # the nodes below 1/2; they mirror there, odd n adds 1/2 itself; every order is a root
    2: [0.2113248654051871],
    5: [0.08375125649950906, 0.3127292952232095],
    6: [0.06687659094608971, 0.2887406731194442, 0.3666822992416476],
    7: [0.05806914962097549, 0.2351716123574216, 0.3380440947400462],
    9: [0.04420534613578279, 0.199490672309881, 0.2356191084710599, 0.4160469078925981],
}
_BOUNDARY_VALUE = [  # of the differential and of the integral form: one is the other, inverted
    -0.04316498251876487, -0.08157715653538688, -0.1144857143805293, -0.1409735768625967, -0.1599086961819831,
    -0.1698772023127749, -0.1690899837812083, -0.1552495352218318, -0.125355891678935, -0.07541653368589206,
]  # fmt: skip
_TRIGONOMETRIC = [
    0.03439628892573674, 0.03503231574134888, 0.03571919582595755, 0.03646522421825033, 0.03728091173885514,
    0.03817986254748302, 0.03918014108245318, 0.04030650264407609, 0.179720191697171, 0.1562408814270017,
]  # fmt: skip
_TRIDIAGONAL = [
    -0.5707221320112247, -0.6818069499842752, -0.7022100760176601, -0.7055106298950804, -0.7049061557287437,
    -0.7014966070298512, -0.6918893223547983, -0.6657965144058537, -0.5960351090263657, -0.4164122575286934,
]  # fmt: skip
_BANDED = [
    -0.4283028635872503, -0.4765964243562902, -0.5196524636468617, -0.5580993248321809, -0.5925061568294574,
    -0.6245036821994678, -0.6232394714405911, -0.6213938417965735, -0.6204535966590874, -0.5864692707204351,
]  # fmt: skip
_CHANDRASEKHAR = [
    1.096735816834478, 1.233484021722359, 1.342362913031034, 1.435646349049369, 1.517868486486611,
    1.59149208688211, 1.658105751392686, 1.718837251229592, 1.77453637373927, 1.825869482591646,
]  # fmt: skip
_POWELL = [1.098159329699814e-05, 9.106146739866549]
_WOOD_SADDLE = [-0.967974024937593, 0.9471391408178416, -0.9695163103315912, 0.9512476657923256]
# Brown almost linear: x = a but for the last, with n a^n - (n+1) a^(n-1) + 1 = 0; a = 1 is the other root.
_BROWN = {10: 0.9794303033498634, 30: 0.9977542164428121, 40: 0.9987399382798887}


def _vector(values) -> np.ndarray:
    """A float64 copy that cannot be changed by accident."""
    vector = np.array(values, np.float64)
    vector.flags.writeable = False
    return vector


def _system(name: str, fun: Callable, source: str, start, *roots) -> Problem:
    return Problem(name, fun, _vector(start), source, tuple(_vector(root) for root in roots))


def _objective(name: str, residual: Callable, source: str, start, *minima: float) -> Problem:
    return Problem(name, sum_of_squares(residual), _vector(start), source, minima, residual)


def _watson_system(n: int) -> Problem:
    return _system(f"watson {n}", half_gradient(watson), "MGH 20", np.zeros(n), _WATSON[n])


def _chebyquad_root(n: int) -> list[float]:
    lower = _CHEBYQUAD[n]
    return lower + [0.5] * (n % 2) + [1 - node for node in reversed(lower)]


def _chebyquad_system(n: int) -> Problem:
    return _system(f"chebyquad {n}", chebyquad, "MGH 35", np.arange(1, n + 1) / (n + 1), _chebyquad_root(n))


def _brown_system(n: int) -> Problem:
    other = [_BROWN[n]] * (n - 1) + [n + 1 - n * _BROWN[n]]
    return _system(f"brown almost linear {n}", brown_almost_linear, "MGH 27", [0.5] * n, np.ones(n), other)


NONLINEAR_23 = (
    _system("rosenbrock 10", rosenbrock, "Burkardt 1", [-1.2] + [1] * 9, np.ones(10)),
    _system("powell singular 4", powell_singular, "MGH 13", [3, -1, 0, 1], np.zeros(4)),
    _system("powell badly scaled", powell_badly_scaled, "MGH 3", [0, 1], _POWELL, _POWELL[::-1]),
    _system("wood", wood_system, "MGH 14", [-3, -1, -3, -1], np.ones(4), _WOOD_SADDLE),
    _system("helical valley", helical_valley, "MGH 7", [-1, 0, 0], [1, 0, 0]),
    _watson_system(2),
    _system("chebyquad centred 2", chebyquad_centred, "Burkardt 7", [-1 / 3, 1 / 3],
            2 * np.array(_chebyquad_root(2)) - 1),
    _brown_system(10),
    _system("discrete boundary value 10", discrete_boundary_value, "MGH 28", _HUMP, _BOUNDARY_VALUE),
    _system("discrete integral 10", discrete_integral, "MGH 29", _HUMP, _BOUNDARY_VALUE),
    _system("trigonometric 10", trigonometric, "MGH 26", np.full(10, 0.1), np.zeros(10), _TRIGONOMETRIC),
    _system("variably dimensioned 10", half_gradient(variably_dimensioned), "MGH 25", _RAMP, np.ones(10)),
    _system("broyden tridiagonal 10", broyden_tridiagonal, "MGH 30", -np.ones(10), _TRIDIAGONAL),
    _system("broyden banded 10", broyden_banded, "MGH 31", -np.ones(10), _BANDED),
    _system("hammarling 2x2", matrix_square_root, "Burkardt 15", [1, 0, 0, 1],
            [0.01, 50, 0, 0.01], [-0.01, -50, 0, -0.01]),
    _system("hammarling 3x3", matrix_square_root, "Burkardt 16", np.eye(3).ravel(),
            *([s * 0.01, s * 50, 0, 0, s * 0.01, 0, 0, 0, t * 0.01] for s in (1, -1) for t in (1, -1))),
    _system("dennis schnabel", dennis_schnabel, "Burkardt 17", [1, 5], [0, 3], [3, 0]),
    _system("sample 18", sample_18, "Burkardt 18", [2, 2], [0, 0]),
    _system("sample 19", sample_19, "Burkardt 19", [3, 3], [0, 0]),
    _system("scalar cubic", scalar_cubic, "Burkardt 20", [1], [5], [0]),
    _system("freudenstein roth", freudenstein_roth, "MGH 2", [0.5, -2], [5, 4]),
    _system("boggs", boggs, "Burkardt 22", [1, 0], [0, 1], [-1, 2], [-math.sqrt(0.5), 1.5]),
    _system("chandrasekhar 10", chandrasekhar, "Burkardt 23", np.ones(10), _CHANDRASEKHAR),
)  # fmt: skip

_SHARED = {problem.name: problem for problem in NONLINEAR_23}

MGH_EQUATIONS = (
    _system("rosenbrock 2", rosenbrock, "MGH 1", [-1.2, 1], [1, 1]),
    *(_SHARED[name] for name in ("powell singular 4", "powell badly scaled", "wood", "helical valley")),
    *map(_watson_system, (6, 9)),
    *map(_chebyquad_system, (5, 6, 7, 9)),
    *map(_brown_system, (10, 30, 40)),
    _SHARED["discrete boundary value 10"],
    _system("discrete integral 1", discrete_integral, "MGH 29", [-0.25], [-0.15281388356258]),
    *(_SHARED[f"{name} 10"] for name in ("discrete integral", "trigonometric", "variably dimensioned",
                                         "broyden tridiagonal", "broyden banded")),
)  # fmt: skip

MGH_UNCONSTRAINED = (
    _objective("helical valley", helical_valley, "MGH 7", [-1, 0, 0], 0.0),
    # The start lies on x1 = x5, x3 = x6, which no gradient leaves: descent in exact arithmetic ends there, at
    # the value published as a minimum, in fact a saddle. The third value is a flat point of the same plane.
    _objective("biggs exp6", biggs_exp6, "MGH 18", [1, 2, 1, 1, 1, 1],
               0.0, 0.00565564992549992, 0.30636677262479),
    _objective("gaussian", gaussian, "MGH 9", [0.4, 1, 0], 1.12793276961892e-08),
    _objective("powell badly scaled", powell_badly_scaled, "MGH 3", [0, 1], 0.0),
    _objective("box 3d", box_3d, "MGH 12", [0, 10, 20], 0.0),
    _objective("variably dimensioned 10", variably_dimensioned, "MGH 25", _RAMP, 0.0),
    _objective("watson 6", watson, "MGH 20", np.zeros(6), 0.00228767005355234),
    _objective("watson 9", watson, "MGH 20", np.zeros(9), 1.39976013809625e-06),
    _objective("penalty I 4", penalty_1, "MGH 23", _I[:4], 2.24997750089994e-05),
    _objective("penalty I 10", penalty_1, "MGH 23", _I, 7.08765146709037e-05),
    _objective("penalty II 4", penalty_2, "MGH 24", np.full(4, 0.5), 9.37629300735544e-06),
    _objective("penalty II 10", penalty_2, "MGH 24", np.full(10, 0.5), 0.000293660537456746),
    _objective("brown badly scaled", brown_badly_scaled, "MGH 4", [1, 1], 0.0),
    _objective("brown dennis", brown_dennis, "MGH 16", [25, 5, -5, -1], 85822.2016263563),
    _objective("gulf", gulf, "MGH 11", [5, 2.5, 0.15], 0.0),
    _objective("trigonometric 10", trigonometric, "MGH 26", np.full(10, 0.1),
               0.0, 4.47356581278119e-07, 2.79505612187903e-05, 4.21863388792237e-05, 0.000878822521821853),
    _objective("extended rosenbrock 10", extended_rosenbrock, "MGH 21", [-1.2, 1] * 5, 0.0),
    _objective("extended powell singular 12", powell_singular, "MGH 22", [3, -1, 0, 1] * 3, 0.0),
    _objective("beale", beale, "MGH 5", [1, 1], 0.0, 0.452008928571429),  # the second as x1 -> -inf, x2 -> 1
    _objective("wood", wood, "MGH 14", [-3, -1, -3, -1], 0.0),
    _objective("chebyquad 8", chebyquad, "MGH 35", np.arange(1, 9) / 9, 0.00351687372567792),
    _objective("chebyquad 9", chebyquad, "MGH 35", np.arange(1, 10) / 10, 0.0),
    _objective("chebyquad 10", chebyquad, "MGH 35", _I / 11,
               0.00477271369637534, 0.0065039548008823, 0.00950062885022166),
)  # fmt: skip

MGH_LEAST_SQUARES = (
    _objective("rosenbrock 2", rosenbrock, "MGH 1", [-1.2, 1], 0.0),
    _objective("freudenstein roth", freudenstein_roth, "MGH 2", [0.5, -2], 0.0, 48.9842536792400),
    _objective("jennrich sampson", jennrich_sampson, "MGH 6", [0.3, 0.4], 124.362182355615, 259.580190134253),
    _objective("bard", bard, "MGH 8", [1, 1, 1],
               0.00821487730657898, 1.77492677781526, 1.88627481359135, 17.4286933),
    _objective("meyer", meyer, "MGH 10", [0.02, 4000, 250], 87.9458551705404),
    _objective("powell singular 4", powell_singular, "MGH 13", [3, -1, 0, 1], 0.0),
    _objective("kowalik osborne", kowalik_osborne, "MGH 15", [0.25, 0.39, 0.415, 0.39],
               0.000307505603849236, 0.000423674626469833, 0.00102734305),
    _objective("osborne 1", osborne_1, "MGH 17", [0.5, 1.5, -1, 0.01, 0.02],
               5.46489469748261e-05, 0.0245182951387463),
    _objective("osborne 2", osborne_2, "MGH 19", [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5],
               0.0401377362935477, 0.0875947240934157),
    _objective("brown almost linear 10", brown_almost_linear, "MGH 27", np.full(10, 0.5), 0.0, 1.0),
    _objective("discrete boundary value 10", discrete_boundary_value, "MGH 28", _HUMP, 0.0),
    _objective("discrete integral 10", discrete_integral, "MGH 29", _HUMP, 0.0),
    _objective("broyden tridiagonal 10", broyden_tridiagonal, "MGH 30", -np.ones(10),
               0.0, 0.881442584918962, 0.974928560905883, 1.31637530676544),
    _objective("broyden banded 10", broyden_banded, "MGH 31", -np.ones(10), 0.0, 3.05727843242582),
    # Linear, with m = 2 n = 10 residuals: the last two have a whole flat of minima (singular Hessian).
    _objective("linear full rank 5", linear_full_rank, "MGH 32", np.ones(5), 5.0),
    _objective("linear rank 1 5", linear_rank_1, "MGH 33", np.ones(5), 15 / 7),
    _objective("linear rank 1 zeros 5", linear_rank_1_zeros, "MGH 34", np.ones(5), 62 / 17),
)  # fmt: skip
