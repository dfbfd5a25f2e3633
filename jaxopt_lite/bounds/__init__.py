"""Fixed-capacity buffers that cannot overflow, and tools that find and check accesses by index.

Files, in reading order:

- `buffer`: a buffer of fixed capacity, which counts what did not fit.
- `accesses`: which equations access an array by index, and what JAX does out of range.
- `intervals`: interval arithmetic on the primitives of JAX.
- `guards`: what a condition says of the indices behind it.
- `loops`: intervals that no round of a loop leaves.
- `ranges`: the range of every integer of a program, through calls, guards, branches and loops.
- `unchecked`: the accesses that are not proved to be in range.
- `checked`: a run with a check in front of each access.
"""

from jaxopt_lite.bounds.buffer import Buffer, BufferOverflowError
from jaxopt_lite.bounds.checked import OutOfRangeError, checked
from jaxopt_lite.bounds.unchecked import Unchecked, find_unchecked

__all__ = ["Buffer", "BufferOverflowError", "OutOfRangeError", "Unchecked", "checked", "find_unchecked"]
