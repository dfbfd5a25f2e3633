"""Mistakes in the search for accesses out of bounds."""

from tests.mutants.mutant import Mutant

MUTANTS = (
    # Equations inside JAX's own functions are said to have no line at all.
    Mutant(
        "jaxopt_lite/jaxprs.py",
        "line = None if self._in_jax else equation.source_info.traceback",
        "line = equation.source_info.traceback",
        ("tests/test_jaxprs.py",),
    ),
    # What is traced has the line of the interpreter.
    Mutant(
        "jaxopt_lite/jaxprs.py",
        "with source_info_util.user_context(line):",
        "with source_info_util.user_context(None):",
        ("tests/test_jaxprs.py",),
    ),
    # The last of the fixed operands of a scan is taken for a carried one.
    Mutant(
        "jaxopt_lite/jaxprs.py",
        "list(operands[: first - count]), list(operands[first - count : first])",
        "list(operands[: first - count - 1]), list(operands[first - count - 1 : first])",
        ("tests/test_jaxprs.py",),
    ),
    # That `a <= b` for all numbers makes `a < b` true.
    Mutant(
        "jaxopt_lite/bounds/intervals.py",
        "surely = a.hi <= b.lo if or_equal else a.hi < b.lo",
        "surely = a.hi <= b.lo",
        ("tests/bounds/test_intervals.py",),
    ),
    # A remainder is never negative.
    Mutant(
        "jaxopt_lite/bounds/intervals.py",
        "return Interval(max(min(x.lo, 0), -largest), min(max(x.hi, 0), largest))",
        "return Interval(0, largest)",
        ("tests/bounds/test_intervals.py",),
    ),
    # Nothing wraps round.
    Mutant(
        "jaxopt_lite/bounds/intervals.py",
        "return interval if interval in whole(aval) else whole(aval)",
        "return interval",
        ("tests/bounds/test_intervals.py",),
    ),
    # A guard `i < n` allows n.
    Mutant(
        "jaxopt_lite/bounds/guards.py",
        'gap = 1 if name == "lt" else 0',
        "gap = 0",
        ("tests/bounds/test_ranges.py", "tests/bounds/test_unchecked.py"),
    ),
    # A logical shift of a negative number is taken for a division.
    Mutant(
        "jaxopt_lite/bounds/intervals.py",
        'if highest_bit_is_zero or has_sign == (equation.primitive.name == "shift_right_arithmetic"):',
        "if True:",
        ("tests/bounds/test_intervals.py",),
    ),
    # The largest index is one too many.
    Mutant(
        "jaxopt_lite/bounds/checked.py",
        "(index > min(limit, jnp.iinfo(index.dtype).max))",
        "(index > min(limit + 1, jnp.iinfo(index.dtype).max))",
        ("tests/bounds/test_checked.py",),
    ),
    # The window that is written ends before the last slot.
    Mutant(
        "jaxopt_lite/bounds/buffer.py",
        "start = jnp.clip(buffer.size, 0, capacity - w)",
        "start = jnp.clip(buffer.size, 0, capacity - w - 1)",
        ("tests/bounds/test_buffer.py",),
    ),
)
