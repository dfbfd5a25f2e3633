"""How many cores this process may use, and what they can do. Imports the standard library alone."""

import os
from functools import cache
from pathlib import Path

__all__ = ["cores", "cpu_features"]

_BOUND = "JAXOPT_LITE_CORES"


def cores() -> int:
    """How many cores this process may use: as many as the system gives it, or fewer by `JAXOPT_LITE_CORES`.

    Raises:
        ValueError: that environment variable is no number of cores.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bound = os.environ.get(_BOUND)
    if bound is None:
        return there
    if not bound.isdecimal() or not int(bound):
        raise ValueError(f"the environment variable {_BOUND} is {bound!r}: expected a number of cores, at least 1.")
    return min(there, int(bound))


@cache
def cpu_features() -> frozenset[str]:
    """What the CPU says it can do, by the names that Linux has for it, such as `avx2`; nothing on another system."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(word for line in lines if line.startswith("flags") for word in line.split(":", 1)[-1].split())
