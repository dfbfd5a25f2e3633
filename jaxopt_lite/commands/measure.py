"""How fast a machine is: batches of small problems, and byte-pair encoding of this package's own sources."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxopt_lite as jol
from jaxopt_lite import bpe
from jaxopt_lite.commands.works import Work, works

__all__ = ["Measured", "encoding", "solving"]

_REPEATS = 5
_TRAINED = 3  # how many tokenizers
_TOKENS = 4096
_LEAST = 1e-9  # seconds


class Measured(NamedTuple):
    """How long one kind of work took.

    Attributes:
        name: the name of the work.
        unit: what is counted, "problems" or "bytes".
        size: how many of them one run does.
        first: the seconds of the first run, in which JAX compiles; None where it has nothing to compile.
        runs: the seconds of the later ones.
        success: the share of the problems that are solved and verified, of the tokens that were learned, or of the
            files that decode to the same bytes.
    """

    name: str
    unit: str
    size: int
    first: float | None
    runs: tuple[float, ...]
    success: float

    @property
    def run(self) -> float:
        """The median of the runs, in seconds."""
        return max(statistics.median(self.runs), _LEAST)

    @property
    def compiling(self) -> float | None:
        """How much longer the first run took than the others, in seconds."""
        return None if self.first is None else max(0.0, self.first - self.run)

    @property
    def rate(self) -> float:
        """Successes per second of a run: what is not solved does not count."""
        return self.success * self.size / self.run

    def as_dict(self) -> dict[str, Any]:
        """All of it, under the names used in a file."""
        return {
            "work": self.name, "unit": self.unit, "size": self.size, "success": self.success,
            "compile_seconds": self.compiling, "run_seconds": list(self.runs), "per_second": self.rate,
        }  # fmt: skip


def solving(dtype: str, size: int) -> Iterator[Measured]:
    """Batches of `size` problems, each solved in one call, by all cores."""
    for work in works(dtype, size):

        def solve(work: Work = work) -> jol.Solution:
            return jax.block_until_ready(work.solve())

        first, solution = _timed(solve)
        runs = tuple(_timed(solve)[0] for _ in range(_REPEATS))
        yield Measured(work.name, "problems", size, first, runs, float(np.mean(solution.success)))


def encoding() -> Iterator[Measured]:
    """Learn tokenizers from this package's sources, and encode these with each, which has not encoded them before."""
    files = [path.read_bytes() for path in sorted(Path(jol.__file__).parent.rglob("*.py"))]
    texts = [data.decode() for data in files]
    learned, encoded = zip(*(_learned_and_encoded(texts) for _ in range(_TRAINED)), strict=True)
    times, tokenizers = zip(*learned, strict=True)
    tokenizer, size = tokenizers[0], sum(map(len, files))
    share = len(tokenizer.vocabulary.merges) / (_TOKENS - 256)
    yield Measured(f"BPE, learning {_TOKENS:,} tokens", "bytes", size, None, times, share)
    times, rows = zip(*encoded, strict=True)
    same = [tokenizer.decode_bytes(ids) == data for ids, data in zip(rows[0], files, strict=True)]
    yield Measured("BPE, encoding", "bytes", size, None, times, float(np.mean(same)))


def _learned_and_encoded(texts: list[str]) -> tuple[tuple[float, bpe.Tokenizer], tuple[float, Any]]:
    learned = _timed(lambda: bpe.train(texts, _TOKENS, progress=False))
    return learned, _timed(lambda: learned[1].encode_batch(texts))


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that it takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result
