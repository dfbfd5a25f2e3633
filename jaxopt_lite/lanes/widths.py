"""How many lanes a tile has, and how many parts a batch is divided into: measured choices, in one file.

The best width depends on what LLVM makes of the pass over a lane's matrix. It unrolls rows of few lanes completely,
which keeps the vectors of a rank-two update in registers, but turns much else into scalar code. While the matrices of a
tile fit the cache near the core, that costs more than it gains. `docs/performance.md` has the measurements.
"""

from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = [
    "BY_LIBRARY", "EVALUATIONS", "FEWEST_IN_A_PART", "Lanes", "Work", "compiler_options", "evaluated_width", "parts",
    "pause_cost", "steps_at_once", "tile_width", "why_not_wide",
]  # fmt: skip


class Work(Enum):
    """What a step does to the memory of a lane."""

    RANK_ONE = "a rank-one update of a matrix"
    RANK_TWO = "a rank-two update of a matrix"
    TERMS = "products with a few vectors"


class Lanes(NamedTuple):
    """What a tile is made of: a step's work in each lane, the dtype of the unknowns, and a lane's bytes of state."""

    work: Work
    dtype: Any
    bytes: int


# The lanes of a tile on a CPU, in float64 and in float32: for small states, and for larger ones.
_LANES = {
    Work.RANK_ONE: ((64, 64), (128, 128)),
    Work.RANK_TWO: ((64, 16), (64, 32)),
    Work.TERMS: ((64, 32), (128, 64)),
}
_SMALL_BYTES = 320 << 10  # of the states of a tile; up to 22 unknowns with a matrix in float64
_GAINING = {Work.RANK_ONE, Work.RANK_TWO}  # from vectors of 512 bits
# The CPUs that gain: their maker, and a feature they have. Intel's before AMX lower their clock for such vectors.
_WIDE_ON = {"AuthenticAMD": "avx512f", "GenuineIntel": "amx_tile"}
# From so many numbers on, taking wide vectors apart costs more than they gain: fits with 40 lose 15 to 30%.
_FROM_A_LIBRARY = 16
_WIDE_FROM = (0, 12)  # version of JAX; before it, more functions round differently in wide vectors
_CACHE_BYTES, _NARROWEST = 8 << 20, 8  # bytes of a tile's state, which leave room in the last cache; lanes
_EVALUATED_NUMBERS = 1 << 14  # of a vector on a tile that is only evaluated: more gain nothing, and idle lanes cost
_DEVICE_BYTES, _FEWEST, _MOST = 128 << 20, 1 << 12, 1 << 19  # bytes, a few times a GPU's last cache; lanes
_GPU_STEPS = 4  # per check by the host whether to go on, which costs about as much as launching a step
# The largest array in an evaluation of a whole tile: larger ones gain nothing from more lanes, and idle lanes cost.
_CACHE_ARRAY_BYTES, _DEVICE_ARRAY_BYTES = 2 << 20, 1 << 30

_PART_OPERATIONS = 2_000_000  # numbers computed by a part, in about 1.5 ms; two parts of half that gain nothing

BY_LIBRARY = frozenset({
    "acos", "acosh", "asin", "asinh", "atan2", "atanh", "cbrt", "cos", "erf", "erf_inv", "lgamma", "log", "log1p",
    "pow", "sin", "tan",
})  # fmt: skip
"""The primitives for which XLA's CPU backend calls the C library, number by number; some only in float64."""

EVALUATIONS = {"root": 12, "minimum": 40, "least squares": 15}
"""About how many one problem takes."""

FEWEST_IN_A_PART = 64
"""The fewest problems that are worth a thread, however long each takes: fewer would not fill a tile."""


def tile_width(lanes: Lanes, platform: str, batch: int | None, array_bytes: int = 0) -> int:
    """The number of lanes in a tile.

    On the CPU it depends on the problem alone, never on the batch: tiles of other widths may round differently. On an
    accelerator, where idle lanes of wide tiles would cost small batches too much, it grows with the batch by powers of
    two, from a width at which a launch still takes longer than its work.

    Args:
        lanes: what the tile is made of.
        platform: "cpu", "gpu" or "tpu".
        batch: the number of problems, which matters on an accelerator. `None` for a problem that is in no batch: it
            gets a tile of one lane.
        array_bytes: the size of the largest array of one problem's evaluation, as `largest_array` gives it.
    """
    if batch is None:
        return 1
    most = _CACHE_ARRAY_BYTES if platform == "cpu" else _DEVICE_ARRAY_BYTES
    return min(_by_state(lanes, platform, batch), _power_of_two(most // max(array_bytes, 1)))


def evaluated_width(width: int, platform: str, n: int) -> int:
    """The number of lanes in a tile on which functions of n unknowns are only evaluated, such as to verify answers.

    There are always at least two such tiles, however few the problems.
    """
    if platform != "cpu":
        return 2 * width
    return min(2 * width, max(_NARROWEST, _power_of_two(_EVALUATED_NUMBERS // n)))


def _by_state(lanes: Lanes, platform: str, batch: int) -> int:
    """The width that suits the states of the lanes."""
    if platform == "cpu":
        small, large = _widths(lanes)
        width = small if small * lanes.bytes <= _SMALL_BYTES else large
        return max(_NARROWEST, min(width, _power_of_two(_CACHE_BYTES // max(lanes.bytes, 1))))
    fitting = min(_MOST, _power_of_two(_DEVICE_BYTES // max(lanes.bytes, 1)))
    return max(_NARROWEST, min(fitting, max(_FEWEST, _power_of_two(2 * max(batch, 1) - 1))))


def _widths(lanes: Lanes) -> tuple[int, int]:
    """The lanes of a tile on a CPU for small states, and for larger ones."""
    return _LANES[lanes.work][jnp.dtype(lanes.dtype).itemsize < 8]


def _power_of_two(k: int) -> int:
    """The largest power of two not above k, at least 1."""
    return 1 << max(k.bit_length() - 1, 0)


@lru_cache(1024)
def compiler_options(lanes: Lanes, array_bytes: int, by_library: int = 0) -> tuple[tuple[str, Any], ...] | None:
    """XLA's options for a program that is nothing but tiles of these lanes, or None. Only a whole program has options.

    They ask for vectors of 512 bits, for tiles that gain from them: those of small states, whose rows LLVM does not
    unroll. Such a program rounds the same for any batch, though it rounds a few functions differently than a larger
    program does. `array_bytes` is as for `tile_width`, and `by_library` is how many numbers an evaluation computes by
    functions of the C library (`BY_LIBRARY`), with many of which narrower vectors are faster.
    """
    small, _ = _widths(lanes)
    gains = lanes.work in _GAINING and by_library < _FROM_A_LIBRARY
    if not gains or tile_width(lanes, "cpu", 0, array_bytes) < small or why_not_wide():
        return None
    return (("xla_cpu_prefer_vector_width", 512),)


@lru_cache(1)
def why_not_wide() -> str | None:
    """Why vectors of 512 bits are not asked for, or None: only on CPUs and JAX versions on which they were measured.

    Other CPUs have them too, but some of these lower their clock for them.
    """
    try:
        about = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return "this system does not say what its CPU has"
    if not any(maker in about and has in about for maker, has in _WIDE_ON.items()):
        return "this is neither an AMD CPU with AVX-512 nor an Intel CPU with AMX"
    if jax.__version_info__ < _WIDE_FROM:
        return f"before JAX {'.'.join(map(str, _WIDE_FROM))} more functions round differently in vectors of 512 bits"
    return None


def pause_cost(platform: str, prepares: bool) -> float:
    """About what it costs to write out, refill and start lanes, in steps of the whole tile.

    Most of it is the evaluation that starts them, if the method `prepares` lanes by one.
    """
    return 2 if prepares or platform != "cpu" else 0.125


def steps_at_once(platform: str) -> int:
    """How many steps the loop makes before it asks whether more are worthwhile.

    On a GPU the host asks while the GPU waits, except in a loop with a known number of rounds.
    """
    return _GPU_STEPS if platform == "gpu" else 1


def parts(size: int, unknowns: int, operations: int, evaluations: int) -> int:
    """How many parts, each worth a thread, a batch may be divided into on a CPU.

    An evaluation computes `operations` numbers, and each step also changes a matrix.
    """
    work = size * evaluations * (operations + unknowns**2)
    return max(1, min(work // _PART_OPERATIONS, size // FEWEST_IN_A_PART))
