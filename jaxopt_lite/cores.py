"""How many cores this process may use. Imports the standard library alone."""

import os

__all__ = ["VARIABLE", "cores"]

VARIABLE = "JAXOPT_LITE_CORES"
"""The environment variable that bounds how many are used."""


def cores() -> int:
    """How many cores this process may use: as many as the system gives it, or fewer by `JAXOPT_LITE_CORES`.

    Raises:
        ValueError: that environment variable is not a number of cores.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bound = os.environ.get(VARIABLE)
    if bound is None:
        return there
    if not bound.isdecimal() or not int(bound):
        raise ValueError(f"the environment variable {VARIABLE} is {bound!r}: expected a number of cores, at least 1.")
    return min(there, int(bound))
