"""The least time a race could take on its GPU, by what the kernel must issue or the loop must move."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

import jaxopt_lite as jol

__all__ = ["Limit", "limit"]

_LANES_PER_WARP = 32


class _Chip(NamedTuple):
    """Warp instructions, and bytes to and from memory, per second; clock and bandwidth are from the data sheets."""

    issue: float
    memory: float


# Multiprocessors x warp instructions a cycle x cycles a second.
_CHIPS = {"H100": _Chip(132 * 4 * 1.755e9, 3.35e12), "H200": _Chip(132 * 4 * 1.755e9, 4.8e12)}


class Limit(NamedTuple):
    """What limits a race, and the seconds that this takes by itself."""

    kind: str
    seconds: float


def limit(entry: Callable, fun: Callable, starts: np.ndarray, solver) -> Limit | None:
    """The limit of `entry(fun, starts, solver=solver)` on this device; `None` for an unknown device.

    A kernel issues the operations of a step for every evaluation. The loop reads and writes a lane's matrix once for
    every evaluation; all else, and a second pass over the matrix, is counted as loss.
    """
    kind = jax.devices()[0].device_kind
    chip = next((chip for name, chip in _CHIPS.items() if name in kind), None)
    if chip is None:
        return None
    with_args = lambda x, _: fun(x)  # noqa: E731
    found = jol.explain(with_args, starts, solver=solver, platform="gpu")
    evaluations = float(np.sum(np.asarray(entry(with_args, starts, solver=solver).evaluations), dtype=np.int64))
    if found.step_operations is not None:
        return Limit("issue", evaluations / _LANES_PER_WARP * found.step_operations / chip.issue)
    matrix = starts.shape[1] ** 2 * starts.itemsize
    return Limit("bandwidth", evaluations * 2 * matrix / chip.memory)
