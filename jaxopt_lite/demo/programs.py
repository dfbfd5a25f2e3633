"""What the parts of the demonstration run, compiled in a second thread while an earlier part runs.

XLA compiles without holding Python's lock, and takes most of the time of a demonstration that solves ten thousand
problems in a fraction of a second. A program is compiled for batches of one size and serves smaller ones as well:
another size would be another program.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxopt_lite.progress import working

__all__ = ["Compiler", "Program", "in_a_hurry"]

# XLA's levels of optimization. Level 2 solves as fast as level 3, JAX's own choice, and compiles in two thirds of the
# time. Level 0 makes a solve ten times slower, but suits what does little.
_WELL, _HARDLY = ({"xla_backend_optimization_level": k, "xla_llvm_disable_expensive_passes": not k} for k in (2, 0))


@dataclass(frozen=True)
class Program:
    """A function of batches of `size` problems, which may still be compiling: `program(x, args, *shared)`.

    Smaller batches are filled up with their last problem.
    """

    name: str
    size: int
    _compiled: Future[tuple[Callable[..., Any], float]]

    def wait(self) -> float:
        """Wait until it is compiled; returns the seconds that compiling took."""
        if not self._compiled.done():
            with working(f"compiling {self.name}"):
                self._compiled.result()
        return self._compiled.result()[1]

    def __call__(self, x: PyTree, args: PyTree, *shared: PyTree) -> Any:
        self.wait()
        count = len(jax.tree.leaves(x)[0])
        rows = np.minimum(np.arange(self.size), count - 1)
        x, args = jax.tree.map(lambda leaf: np.asarray(leaf)[rows], (x, args))
        results = self._compiled.result()[0](x, args, *shared)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], results)


class Compiler:
    """Compiles in a second thread, one program after the other. Leaving its context drops what has not begun.

    Args:
        hurried: whether to compile every program fast rather than well.
    """

    def __init__(self, hurried: bool = False) -> None:
        self._hurried = hurried
        self._thread = ThreadPoolExecutor(1, "jaxopt_lite compiles")

    def __enter__(self) -> "Compiler":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def begin(
        self, name: str, size: int, function: Callable, x: PyTree, args: PyTree, *shared: PyTree, well: bool = True
    ) -> Program:
        """Begin to compile a function of a batch.

        Args:
            name: shown while one waits for it.
            size: problems in a batch.
            function: `function(x, args, *shared)`.
            x: the unknowns of one problem, arrays.
            args: the arguments of one problem.
            shared: what all problems share.
            well: False for a program that does so little that compiling it well takes longer.
        """
        batch = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((size, *np.shape(leaf)), np.asarray(leaf).dtype), (x, args)
        )

        effort = _WELL if well and not self._hurried else _HARDLY

        def compiled() -> tuple[Callable[..., Any], float]:
            start = time.perf_counter()
            program = jax.jit(function).lower(*batch, *shared).compile(compiler_options=effort)
            return program, time.perf_counter() - start

        return Program(name, size, self._thread.submit(compiled))


@contextmanager
def in_a_hurry(hurried: bool = True) -> Iterator[None]:
    """Within, JAX compiles in about half the time, to slower code, except in a `Compiler`'s thread."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", hurried or before)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
