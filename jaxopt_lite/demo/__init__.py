"""Real problems with published answers: power flow (root finding), NIST regressions (minimisation).

The modules hold problems and data only. They import JAX and NumPy and no solver, so that each one can be
read, and solved, by itself.
"""
