"""The GPU kernel of a race: whether its answers are those of the loop, and how near its time is to the limit."""

from collections.abc import Callable

import jax
import numpy as np

import jaxopt_lite as jol

__all__ = ["agreement", "issue_limit"]

_LANES_PER_WARP = 32
# name in the device's name: multiprocessors x warp instructions a cycle x cycles a second
_ISSUE_RATE = {"H100": 132 * 4 * 1.755e9, "H200": 132 * 4 * 1.755e9}


def agreement(entry: Callable, fun: Callable, starts: np.ndarray, solver, error: Callable, threshold: float) -> dict:
    """The share of problems that the kernel solves, the loop solves, and on which both have the same status.

    The kernel runs on the GPU, and is emulated elsewhere.
    """
    path = "kernel" if jax.default_backend() == "gpu" else "emulate"

    def solve(path):
        return jax.jit(lambda x: entry(lambda x, _: fun(x), x, solver=solver, path=path))(starts)

    kernel, loop = solve(path), solve("loop")
    solved = [float(np.mean(np.asarray(error(answer.x)) <= threshold)) for answer in (kernel, loop)]
    return {"path": path, "kernel": solved[0], "loop": solved[1], "same": float(np.mean(kernel.status == loop.status))}


def issue_limit(entry: Callable, fun: Callable, starts: np.ndarray, solver) -> float | None:
    """The seconds that this GPU needs at least to issue the operations of all steps, if it is one that is known."""
    rate = next((rate for name, rate in _ISSUE_RATE.items() if name in jax.devices()[0].device_kind), None)
    found = jol.explain(lambda x, _: fun(x), starts, solver=solver, platform="gpu")
    if rate is None or found.step_operations is None:
        return None
    evaluations = np.sum(np.asarray(entry(lambda x, _: fun(x), starts, solver=solver).evaluations), dtype=np.int64)
    return float(evaluations / _LANES_PER_WARP * found.step_operations / rate)
