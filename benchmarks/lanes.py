"""Time and memory per lane as the batch grows: this library by itself, in a process that loads nothing else."""

import numpy as np

import jaxopt_lite as jol
from benchmarks import timing
from benchmarks.timing import Entry, Race, gradient_error

_TOLERANCE = {"float64": 1e-6, "float32": 1e-3}
_SLACK = {"float64": 1.0, "float32": 1.05}  # a float32 gradient at the tolerance may be a little more in float64


def rosenbrock(x, args=None):
    """The chain: for n > 3 with a second, local minimum."""
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def _race(n: int, batch: int, dtype: str) -> Race:
    settings = jol.BFGS(atol=_TOLERANCE[dtype], rtol=0.0)
    starts = 4 * np.random.default_rng(0).random((batch, n), dtype) - 2
    entry = Entry(f"BFGS, {dtype}", lambda x: jol.minimize(rosenbrock, x, solver=settings).x, is_ours=True)
    return Race(starts, gradient_error(rosenbrock), _TOLERANCE[dtype] * _SLACK[dtype], (entry,))


def float64(n: int, batch: int) -> Race:
    """Rosenbrock from starts uniform in [-2, 2]ⁿ."""
    return _race(n, batch, "float64")


def float32(n: int, batch: int) -> Race:
    """The same in single precision."""
    return _race(n, batch, "float32")


if __name__ == "__main__":
    timing.main({"float64": float64, "float32": float32})
