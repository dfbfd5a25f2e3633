"""JAX's switches as the code of this library is written for. Imports JAX only.

They belong to the user, and so concern the user's own functions, which are traced under them. What is around these
functions mixes whole numbers with truth values and rows with matrices, is of use only when compiled, and holds NaN and
infinity where they are meant.
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
    """A context in which promotions of dtype and rank are those of NumPy, and functions are compiled."""
    by_numpy = _config.jax_numpy_dtype_promotion == "standard" and _config.jax_numpy_rank_promotion == "allow"
    if by_numpy and not _config.jax_disable_jit:
        return _NOTHING
    with ExitStack() as stack:
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.disable_jit(False))
        return stack.pop_all()


def in_own_settings(fun: Callable[..., _Result]) -> Callable[..., _Result]:
    """The function, which runs in `own_settings`."""

    @wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> _Result:
        with own_settings():
            return fun(*args, **kwargs)

    return wrapped


def checks_numbers() -> bool:
    """Whether JAX looks for NaN or infinity in the results of every call."""
    return _config.jax_debug_nans or _config.jax_debug_infs


def unchecked_numbers() -> AbstractContextManager:
    """A context in which it does not."""
    if not checks_numbers():
        return _NOTHING
    with ExitStack() as stack:
        stack.enter_context(jax.debug_nans(False))
        stack.enter_context(jax.debug_infs(False))
        return stack.pop_all()


def exact_products() -> AbstractContextManager:
    """A context in which products are traced exact to the dtype, unless the user has chosen otherwise.

    By themselves a GPU and a TPU round the factors of a float32 product to 10 and 7 bits, with which no float32
    tolerance can be met.
    """
    chosen = _config.jax_default_matmul_precision
    return jax.default_matmul_precision(chosen or "highest")
