"""Twenty minutes of calls with functions and texts that are new every time: memory must stop growing.

    python -m tests.stress.soak [--minutes 20] [--settle 6]

New lambdas, numbers that change, arrays captured and dropped, objects with methods, certificates, chunks, and a
tokenizer that meets new words. A line each half minute; exit 1 if memory still grows after it should have settled.
"""

import argparse
import gc
import itertools
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lite as jol
from jaxopt_lite import bpe

_ALLOWED = 1.08  # of the memory after settling: allocators breathe
_SOLVER = jol.Broyden(rescue=False)  # which compiles soon


class Model:
    def __init__(self, level):
        self.level = level

    def gap(self, x, a):
        return 2 * x + jnp.sin(x) - self.level - a


def resident() -> float:
    """Megabytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def round_of_calls(k: int, rng: np.random.Generator, tokenizer: bpe.Tokenizer) -> None:
    """One call of each kind; what comes out is checked."""
    x0, a = rng.standard_normal((20, 2)), rng.standard_normal((20, 2))
    assert jol.root(lambda x, a: x + jnp.tanh(x) - a, x0, a, solver=_SOLVER).success.all()
    level = rng.standard_normal(2)
    assert jol.root(lambda x, a: 2 * x + jnp.sin(x) - a - level, x0, a, solver=_SOLVER).success.all()
    large = jnp.asarray(rng.standard_normal((1000, 1000)))
    assert jol.root(lambda x, a: x - a + large[0, :2], x0, a, solver=_SOLVER).success.all()
    number = float(k)  # a program of its own, every time
    answer = jol.root(lambda x, a: x - a - number, x0, a, solver=_SOLVER)
    assert answer.success.all() and np.allclose(answer.x, a + number)
    model = Model(level)
    answer = jol.root(model.gap, x0, a, solver=_SOLVER)
    assert answer.success.all() and jol.certify_root(model.gap, answer.x, a).valid.all()
    jol.in_chunks(lambda x0, a: jol.root(model.gap, x0, a, solver=_SOLVER), x0, a, chunk=7, progress=False)
    text = " ".join("".join(chr(97 + c) for c in word) for word in rng.integers(0, 26, (4000, 9)))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def run(minutes: float, settle: float, say: Callable[[str], None]) -> tuple[int, float, float]:
    """Call for so many minutes. Returns the rounds, and the megabytes after settling and at the end."""
    rng, start = np.random.default_rng(0), time.monotonic()
    tokenizer = bpe.train(["the quick brown fox jumps over the lazy dog " * 20], merges=30, progress=False)
    settled, last, shown = math.nan, 0.0, 0.0
    for k in itertools.count():
        gone = (time.monotonic() - start) / 60
        if gone >= shown or gone >= minutes:
            gc.collect()
            last = resident()
            say(f"{gone:5.1f} min, {k:6} rounds, {last:8.1f} MB")
            shown += 0.5
            if math.isnan(settled) and gone >= settle:
                settled = last
        if gone >= minutes:
            return k, settled, last
        round_of_calls(k, rng, tokenizer)
    raise AssertionError


def still_grows(settled: float, last: float) -> bool:
    return last > _ALLOWED * settled


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--settle", type=float, default=6, help="minutes after which memory may not grow")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    _, settled, last = run(options.minutes, options.settle, lambda line: print(line, flush=True))
    grown = still_grows(settled, last)
    print("memory still grows" if grown else "memory has settled")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
