"""Finds the line of a test function that is marked with the comment `# here`."""

import inspect


def here(fun):
    """The file and line of the mark in the source of `fun`."""
    lines, first = inspect.getsourcelines(fun)
    marked = [number for number, line in enumerate(lines, first) if line.rstrip().endswith("# here")]
    (number,) = marked
    return inspect.getsourcefile(fun), number
