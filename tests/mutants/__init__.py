"""Small mistakes in the package that the tests must notice: `python -m tests.mutants`, none by pytest."""
