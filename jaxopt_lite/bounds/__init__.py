"""Fixed-capacity buffers that cannot overflow, and tools that find and check accesses by index.

Files, in reading order: `buffer`; `intervals`, `guards`, `loops`, `jaxprs` and `ranges`, which work out the
range of each index; `unchecked`, which lists those not proved to be in range; `checked`, which runs with
checks. Imports JAX, NumPy and jaxtyping only.
"""

from jaxopt_lite.bounds.buffer import Buffer, BufferOverflowError
from jaxopt_lite.bounds.checked import OutOfRangeError, checked
from jaxopt_lite.bounds.unchecked import Unchecked, find_unchecked

__all__ = ["Buffer", "BufferOverflowError", "OutOfRangeError", "Unchecked", "checked", "find_unchecked"]
