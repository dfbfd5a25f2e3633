"""JAX's settings, as the code of this library needs them. Imports JAX only.

The settings belong to the user, and the user's own functions are traced under them. The code around these functions
needs NumPy's promotion of dtypes and ranks, must be compiled, and uses NaN and infinity on purpose.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import wraps
from typing import Any, TypeVar

import jax

__all__ = ["checks_numbers", "exact_products", "in_own_settings", "own_settings", "unchecked_numbers"]

_config: Any = jax.config
_NOTHING = nullcontext()
_Result = TypeVar("_Result")


def own_settings() -> AbstractContextManager:
    """A context in which dtypes and ranks are promoted as in NumPy, and functions are compiled."""
    by_numpy = _config.jax_numpy_dtype_promotion == "standard" and _config.jax_numpy_rank_promotion == "allow"
    if by_numpy and not _config.jax_disable_jit:
        return _NOTHING
    with ExitStack() as stack:
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.disable_jit(False))
        return stack.pop_all()


def in_own_settings(fun: Callable[..., _Result]) -> Callable[..., _Result]:
    """The function, run in `own_settings`."""

    @wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> _Result:
        with own_settings():
            return fun(*args, **kwargs)

    return wrapped


def checks_numbers() -> bool:
    """Whether JAX looks for NaN or infinity in the results of every call."""
    return _config.jax_debug_nans or _config.jax_debug_infs


def unchecked_numbers() -> AbstractContextManager:
    """A context in which JAX does not look for NaN or infinity."""
    if not checks_numbers():
        return _NOTHING
    with ExitStack() as stack:
        stack.enter_context(jax.debug_nans(False))
        stack.enter_context(jax.debug_infs(False))
        return stack.pop_all()


def exact_products() -> AbstractContextManager:
    """A context in which matrix products are traced at full precision of the dtype, unless the user chose otherwise.

    By default a GPU rounds the factors of a float32 product to 10 bits, and a TPU to 7, too few to meet any float32
    tolerance.
    """
    chosen = _config.jax_default_matmul_precision
    return jax.default_matmul_precision(chosen or "highest")
