"""Broyden's method and BFGS in plain NumPy, as the textbooks write them: one problem, one step after the other.

Sources: C. G. Broyden, Mathematics of Computation 19 (1965) 577; Nocedal and Wright, Numerical Optimization, 2nd ed.,
algorithm 6.1 and equations (6.17), (6.20), (7.16) and (7.20).
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import line_search, minimize_scalar

MOST_STEPS = 200


def broyden(residual: Callable, x: np.ndarray, jacobian: np.ndarray, tolerance: float) -> np.ndarray:
    """The root that Broyden's method finds from x, with the Jacobian it starts from."""
    f = residual(x)
    for _ in range(MOST_STEPS):
        if np.max(np.abs(f)) <= tolerance:
            break
        delta = np.linalg.solve(jacobian, -f)
        alpha = minimize_scalar(
            lambda alpha, x=x, delta=delta: np.sum(residual(x + alpha * delta) ** 2), bounds=(0, 2), method="bounded"
        ).x
        s = alpha * delta
        y = residual(x + s) - f
        x, f = x + s, f + y
        jacobian = next_jacobian(jacobian, s, y)
    return x


def next_jacobian(jacobian: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The Jacobian nearest to this one with J s = y."""
    return jacobian + np.outer(y - jacobian @ s, s) / (s @ s)


def bfgs(fun: Callable, gradient: Callable, x: np.ndarray, tolerance: float) -> np.ndarray:
    """The minimum that BFGS finds from x."""
    g, inverse = gradient(x), np.eye(len(x))
    for step in range(MOST_STEPS):
        if np.max(np.abs(g)) <= tolerance:
            break
        alpha = line_search(fun, gradient, x, -inverse @ g, g)[0]
        s = -alpha * inverse @ g
        y = gradient(x + s) - g
        x, g = x + s, g + y
        if step == 0:
            inverse = (y @ s) / (y @ y) * inverse
        inverse = next_inverse(inverse, s, y)
    return x


def next_inverse(inverse: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The inverse Hessian after a step s in which the gradient has changed by y."""
    rho, identity = 1 / (y @ s), np.eye(len(s))
    left = identity - rho * np.outer(s, y)
    return left @ inverse @ left.T + rho * np.outer(s, s)


def limited_inverse(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The inverse Hessian of limited-memory BFGS, from the last steps and changes of the gradient, oldest first."""
    s, y = pairs[-1]
    inverse = (s @ y) / (y @ y) * np.eye(len(s))
    for s, y in pairs:
        inverse = next_inverse(inverse, s, y)
    return inverse


def trust_region_step(g: np.ndarray, h: np.ndarray, radius: float) -> np.ndarray:
    """The minimizer of gᵀp + ½ pᵀH p over ‖p‖ ≤ radius, by bisection for λ in p = −(H + λ)⁻¹ g.

    Moré and Sorensen, SIAM J. Sci. Stat. Comput. 4 (1983) 553. Where no λ gives a step of that length, the rest of it
    is along the lowest eigenvector.
    """
    values, vectors = np.linalg.eigh(h)
    size = np.abs(values).max() + np.linalg.norm(g) / radius
    low = max(0.0, -values[0])

    def step(lam):
        return -np.linalg.lstsq(h + lam * np.eye(len(g)), g, rcond=1e-13)[0]

    if np.linalg.norm(step(low)) <= radius and np.linalg.matrix_rank(h + low * np.eye(len(g)), 1e-10) == len(g):
        return step(low)  # within, and H is positive
    if np.linalg.norm(step(low + 1e-9 * size)) < radius:  # the hard case
        p = step(low)
        return p + np.sqrt(radius**2 - p @ p) * vectors[:, 0] * (values[0] < 0)
    high = low + size
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(step(middle)) > radius else (low, middle)
    return step(high)
