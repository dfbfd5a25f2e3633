"""What JAX runs on here, how batches are solved on it, and whether that works."""

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lite as jol
from jaxopt_lite.commands.works import works
from jaxopt_lite.lanes.widths import why_not_wide

__all__ = ["devices", "precision", "solve", "use", "ways"]

_ROOTS = 64
_NEAR = 1e-4  # how near to a root an answer is, in float32 too


def devices() -> list[tuple[str, str]]:
    """JAX's backend and its devices."""
    kinds = Counter(device.device_kind for device in jax.devices())
    listed = ", ".join(f"{times} × {kind}" if times > 1 else kind for kind, times in kinds.items())
    return [("backend", jax.default_backend()), ("devices", listed)]


def use(dtype: str) -> None:
    """Let JAX use arrays of this dtype."""
    jax.config.update("jax_enable_x64", dtype == "float64")


def precision() -> list[tuple[str, str]]:
    """The precision of arrays, and of matrix products if one was set in JAX."""
    config: Any = jax.config
    more = 'float64 by jax.config.update("jax_enable_x64", True) or the variable JAX_ENABLE_X64=1'
    rows = [("precision", "float64 (64 bits are enabled)" if config.jax_enable_x64 else f"float32; {more}")]
    chosen = config.jax_default_matmul_precision
    return rows + ([("products", f"of matrices: {chosen}, as JAX was told")] if chosen else [])


def ways(size: int) -> list[tuple[str, str]]:
    """How a batch of this many problems of each kind is solved, and why; nothing is compiled."""
    dtype = jnp.zeros(()).dtype.name
    chosen = [work for work in works(dtype, size) if not work.name.endswith("n = 2")]
    rows = [(work.name.partition(",")[0], str(replace(work.explain(), later="")).replace("\n", " ")) for work in chosen]
    if jax.default_backend() == "cpu":
        rows.append(("vectors", f"chosen by XLA: {why}" if (why := why_not_wide()) else "of 512 bits in plain calls"))
    return rows


def solve() -> str:
    """Solve a few roots to prove that it works; returns a sentence with the time that took.

    Raises:
        RuntimeError: an answer is not verified, or it is wrong.
    """
    squares, start = np.arange(1.0, 1.0 + _ROOTS), time.perf_counter()
    solution = jol.root(lambda x, a: x**2 - a, squares[:, None], squares)
    right = np.abs(np.asarray(solution.x)[:, 0] - np.sqrt(squares)) <= _NEAR * squares
    verified = np.asarray(solution.success)
    if not (right & verified).all():
        raise RuntimeError(
            f"of {_ROOTS} square roots {np.sum(verified)} are verified and {np.sum(right)} right\n{solution.summary()}"
        )
    return f"{_ROOTS} square roots are solved, verified and right ({time.perf_counter() - start:.1f} s, compiled)"
