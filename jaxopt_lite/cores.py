"""How many cores this process may use. Imports the standard library alone."""

import os

__all__ = ["cores"]


def cores() -> int:
    """How many cores this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
