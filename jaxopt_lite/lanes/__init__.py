"""Floor 0: arithmetic and control over lanes. Imports JAX only; the solvers stand on it."""
