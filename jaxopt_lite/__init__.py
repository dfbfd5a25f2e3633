"""Batched small solves in JAX: root finding, minimisation, byte-pair encoding and a system of specialists."""
