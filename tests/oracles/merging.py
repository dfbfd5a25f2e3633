"""Merging, one number at a time: what the papers say, for rows of numbers `[k][p]`."""

import math

import numpy as np


def ties(deltas, weights, density: float, scale: float) -> np.ndarray:
    """Trim, elect signs, disjoint mean: Yadav et al., 2023, algorithm 1, with the mean weighted."""
    trimmed = [[w * x for x in trim(row, density)] for row, w in zip(deltas, weights, strict=True)]
    sizes = [abs(w) for w in weights]
    signs = [np.sign(math.fsum(column)) for column in zip(*trimmed, strict=True)]
    majority = np.sign(sum(signs))
    merged = []
    for column, sign in zip(zip(*trimmed, strict=True), signs, strict=True):
        elected = majority if sign == 0 else sign
        agreeing = [(x, size) for x, size in zip(column, sizes, strict=True) if x != 0 and np.sign(x) == elected]
        above, below = (math.fsum(values) for values in zip(*agreeing, strict=True)) if agreeing else (0.0, 1.0)
        merged.append(scale * above / below)
    return np.array(merged)


def trim(row, density: float) -> list[float]:
    """The largest, exactly as many as asked for; of equal ones the first."""
    count = max(1, round(density * len(row)))
    kept = sorted(range(len(row)), key=lambda j: (-abs(row[j]), j))[:count]
    return [x if j in kept else 0.0 for j, x in enumerate(row)]


def fisher(deltas, diagonals, weights, floor: float) -> np.ndarray:
    """Σ w F Δ / Σ w F, each F divided by its norm and with a floor: Matena and Raffel, 2022, equation (6)."""
    above = below = 0
    for delta, diagonal, weight in zip(deltas, diagonals, weights, strict=True):
        f = weight * (np.asarray(diagonal) / np.sqrt(np.sum(np.square(diagonal))) + floor)
        above, below = above + f * np.asarray(delta), below + f
    return above / below


def least_squares(maps, parameters, weights) -> np.ndarray:
    """The `a` of least Σ w_i ‖A_i (a − a_i)‖², by a solver that knows of no normal equations."""
    rows = [np.sqrt(w) * a for a, w in zip(maps, weights, strict=True)]
    values = [row @ a for row, a in zip(rows, parameters, strict=True)]
    return np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=None)[0]


def regmean(moments, deltas, weights, off_diagonal: float, ridge: float) -> np.ndarray:
    """(Σ w G)⁻¹ Σ w G Δ with shrunk off-diagonals, and a ridge that pulls to the mean."""
    share = np.asarray(weights) / np.sum(weights)
    shrunk = [off_diagonal * g + (1 - off_diagonal) * np.diag(np.diag(g)) for g in moments]
    total = sum(w * g for w, g in zip(share, shrunk, strict=True))
    rho = ridge * np.trace(total) / len(total)
    mean = sum(w * d for w, d in zip(share, deltas, strict=True))
    right = sum(w * g @ d for w, g, d in zip(share, shrunk, deltas, strict=True)) + rho * mean
    return np.linalg.inv(total + rho * np.eye(len(total))) @ right
