"""Matrix products exact to their dtype: on a GPU and a TPU they are not by themselves. Imports JAX only."""

from contextlib import AbstractContextManager

import jax

__all__ = ["exact_products"]


def exact_products() -> AbstractContextManager:
    """A context in which products are traced exact to the dtype, unless the user has chosen otherwise.

    By themselves a GPU and a TPU round the factors of a float32 product to 10 and 7 bits, with which no float32
    tolerance can be met.
    """
    chosen = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return jax.default_matmul_precision(chosen or "highest")
