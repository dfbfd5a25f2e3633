"""How many lanes a tile has, and how many parts a batch is worth: measured choices, in one file.

The width is a matter of what LLVM makes of the pass over a lane's matrix: it unrolls rows of few lanes completely,
which keeps the vectors of a rank-two update in registers, but turns much else into scalar code. While the matrices of a
tile fit the cache near the core that costs more than it gains. `docs/performance.md` has the measurements.
"""

from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = [
    "EVALUATIONS", "FEWEST_IN_A_PART", "Lanes", "Work", "compiler_options", "evaluated_width", "parts", "pause_cost",
    "steps_at_once", "tile_width", "why_not_wide",
]  # fmt: skip


class Work(Enum):
    """What a step does to the memory of a lane."""

    RANK_ONE = "a rank-one update of a matrix"
    RANK_TWO = "a rank-two update of a matrix"
    TERMS = "products with a few vectors"


class Lanes(NamedTuple):
    """What a tile is made of: lanes on which a step does this work, and whose state takes so many bytes.

    The dtype is that of the unknowns.
    """

    work: Work
    dtype: Any
    bytes: int


# The lanes of a tile on a CPU while its states are small, and beyond, in float64 and in float32.
_LANES = {
    Work.RANK_ONE: ((64, 64), (128, 128)),
    Work.RANK_TWO: ((64, 16), (64, 32)),
    Work.TERMS: ((64, 32), (128, 64)),
}
_SMALL_BYTES = 320 << 10  # of the states of a tile; up to 22 unknowns with a matrix in float64
_GAINING = {Work.RANK_ONE, Work.RANK_TWO}  # by vectors of 512 bits
# The CPUs that gain: whose they are, and what these have. Intel's before AMX lower their clock for such vectors.
_WIDE_ON = {"AuthenticAMD": "avx512f", "GenuineIntel": "amx_tile"}
_WIDE_FROM = (0, 12)  # the version of JAX; before, more functions round differently in wide vectors
_CACHE_BYTES, _NARROWEST = 8 << 20, 8  # a tile's state leaves room in the last cache
_EVALUATED_NUMBERS = 1 << 14  # of a vector on a tile that is evaluated: more gain nothing, and idle lanes cost
_DEVICE_BYTES, _FEWEST, _MOST = 128 << 20, 1 << 12, 1 << 19  # a few times the last cache of a GPU
_GPU_STEPS = 4  # between two questions of the host, each of which costs about as much as to launch a step
# The largest array of an evaluation of the whole tile: larger ones gain nothing from more lanes, and idle lanes cost.
_CACHE_ARRAY_BYTES, _DEVICE_ARRAY_BYTES = 2 << 20, 1 << 30

_PART_OPERATIONS = 2_000_000  # numbers computed, in about 1.5 ms; two parts of half of that gain nothing

EVALUATIONS = {"root": 12, "minimum": 40, "least squares": 15}
"""That one problem takes, about."""

FEWEST_IN_A_PART = 64
"""The problems that are worth a thread, however long each takes: fewer would not fill a tile."""


def tile_width(lanes: Lanes, platform: str, batch: int | None, array_bytes: int = 0) -> int:
    """The number of lanes in a tile.

    On the CPU it depends on the problem alone, never on the batch: tiles of other widths may round differently. On an
    accelerator, where idle lanes of wide tiles would cost small batches too much, it grows with the batch by powers of
    two, from a width at which a launch still takes longer than its work.

    Args:
        lanes: what they are.
        platform: "cpu", "gpu" or "tpu".
        batch: the number of problems, which matters where one tile should hold them all. `None` for a problem that is
            in no batch: it gets a tile of one lane.
        array_bytes: the size of the largest array of one problem's evaluation, as `largest_array` gives it.
    """
    if batch is None:
        return 1
    most = _CACHE_ARRAY_BYTES if platform == "cpu" else _DEVICE_ARRAY_BYTES
    return min(_by_state(lanes, platform, batch), _power_of_two(most // max(array_bytes, 1)))


def evaluated_width(width: int, platform: str, n: int) -> int:
    """The number of lanes in a tile on which functions of n unknowns are evaluated, beside those of tiles in work.

    There are two such tiles at least, however few the problems.
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
    """The lanes of a tile on a CPU while its states are small, and beyond."""
    return _LANES[lanes.work][jnp.dtype(lanes.dtype).itemsize < 8]


def _power_of_two(k: int) -> int:
    """The largest power of two not above k, at least 1."""
    return 1 << max(k.bit_length() - 1, 0)


@lru_cache(1024)
def compiler_options(lanes: Lanes, array_bytes: int) -> tuple[tuple[str, Any], ...] | None:
    """What to ask of XLA where tiles of these lanes are a program by themselves, if anything. Only such takes options.

    Vectors of 512 bits, for tiles that gain by them: those of small states, whose rows LLVM does not unroll. Such a
    program rounds the same for any batch, though a few functions differently than in a larger program. `array_bytes` is
    as for `tile_width`.
    """
    small, _ = _widths(lanes)
    if lanes.work not in _GAINING or tile_width(lanes, "cpu", 0, array_bytes) < small or why_not_wide():
        return None
    return (("xla_cpu_prefer_vector_width", 512),)


@lru_cache(1)
def why_not_wide() -> str | None:
    """Why vectors of 512 bits are not asked for, if so: this is no such CPU, or no such JAX, as they were measured on.

    Other CPUs have them too, and some of these lower their clock for them.
    """
    try:
        about = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return "this system does not say what its CPU has"
    if not any(maker in about and has in about for maker, has in _WIDE_ON.items()):
        return "this is no CPU of AMD's with AVX-512 or of Intel's with AMX"
    if jax.__version_info__ < _WIDE_FROM:
        return f"with JAX before {'.'.join(map(str, _WIDE_FROM))} more functions round differently in those of 512 bits"
    return None


def pause_cost(platform: str, prepares: bool) -> float:
    """What it takes to write out, refill and start lanes, in steps of the whole tile, about.

    Most of it is the evaluation that starts them, of a method that `prepares` them so.
    """
    return 2 if prepares or platform != "cpu" else 0.125


def steps_at_once(platform: str) -> int:
    """How many steps the loop makes before it asks whether more are worthwhile.

    On a GPU it is the host that asks, and the GPU that waits; not so in a loop of a known number of rounds.
    """
    return _GPU_STEPS if platform == "gpu" else 1


def parts(size: int, unknowns: int, operations: int, evaluations: int) -> int:
    """Into how many parts a batch may be divided on a CPU, each of which is worth a thread.

    An evaluation computes so many numbers, `operations`, and a step changes a matrix beside it.
    """
    work = size * evaluations * (operations + unknowns**2)
    return max(1, min(work // _PART_OPERATIONS, size // FEWEST_IN_A_PART))
