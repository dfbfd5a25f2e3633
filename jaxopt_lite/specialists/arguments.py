"""Checks of users' arguments, and copies of arrays that users may change later.

`True` would pass as 1, and a boolean mask as the indices 0 and 1. So booleans and strings are refused where a number is
meant; scalars of NumPy and JAX are accepted.

A NumPy array may be changed in place after it was handed over: its owner would then give other answers than its
fingerprint says. JAX, too, may read such an array only after the call that it was given to has returned. So whatever
could be changed is copied, and nothing else; JAX arrays never are.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from operator import is_
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxopt_lite.arguments import assign, whole_number

__all__ = [
    "NOT_NEGATIVE", "POSITIVE", "SHARE", "as_float", "check_kept", "check_real", "copied", "freeze_fields",
    "frozen", "inputs", "is_unicode", "key_seed", "number", "remembered", "renamed", "repeated", "scalar",
    "some", "text", "vector",
]  # fmt: skip

Value = TypeVar("Value")
Function = TypeVar("Function", bound=Callable[..., Any])
Range = tuple[str, Callable[[float], bool]]
NOT_NEGATIVE: Range = ("a number that is not negative", lambda value: 0 <= value < np.inf)
POSITIVE: Range = ("a positive number", lambda value: 0 < value < np.inf)
SHARE: Range = ("a share of at least 0 and below 1", lambda value: 0 <= value < 1)
_FINITE: Range = ("a finite number", np.isfinite)


def number(name: str, value: Any, range: Range = _FINITE) -> float:
    """An argument as a Python float, within a range.

    Raises:
        ValueError: it is not one, or outside of the range.
    """
    expected, fits = range
    known = np.nan
    if _is_real(getattr(value, "dtype", type(value))):
        with suppress(TypeError, ValueError, OverflowError):
            known = float(value)
    if not fits(known):
        raise ValueError(f"{name}={value!r}: expected {expected}.")
    return known


def key_seed(value: Any) -> int:
    """The `seed` of a `jax.random.key`.

    Raises:
        ValueError: it is not a whole number of 64 bits.
    """
    seed = whole_number("seed", value)
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed={seed}: expected a whole number from −2⁶³ to 2⁶³ − 1.")
    return seed


def text(name: str, value: Any) -> str:
    """An argument that is a string.

    Raises:
        TypeError: it is not one.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r}: expected a string.")
    return str(value)


def repeated(names: Iterable[str]) -> str:
    """The names that occur more than once, for a message."""
    return ", ".join(sorted(name for name, count in Counter(names).items() if count > 1))


def some(names: Collection[str]) -> str:
    """Up to ten names, for a message."""
    shown, more = list(names)[:10], len(names) - 10
    return ", ".join(map(repr, shown)) + (f" and {more} more" if more > 0 else "")


def renamed(**names: str) -> Callable[[Function], Function]:
    """A decorator for a function or class: an old keyword raises an error that gives its new name, `old="new"`.

    Raises:
        TypeError: a call with an old name.
    """

    def decorate(function: Function) -> Function:
        if isinstance(function, type):
            start: Any = function.__init__
            function.__init__ = decorate(start)
            return function  # pyright: ignore[reportReturnType]

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                raise TypeError(f"{old}={kwargs[old]!r}: this keyword is now called {names[old]}.")
            return function(*args, **kwargs)

        return call  # pyright: ignore[reportReturnType]

    return decorate


def is_unicode(value: str) -> bool:
    """Whether UTF-8 can encode a string: it cannot encode lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_real(name: str, array: Any) -> None:
    """Refuse arrays of booleans, complex numbers, strings or objects where numbers are meant; also under `jit`.

    Raises:
        TypeError: such an array.
    """
    dtype = getattr(array, "dtype", None) or np.asarray(array).dtype
    if not _is_real(dtype):
        raise TypeError(f"{name} is of {dtype.name}; expected real numbers.")


def scalar(loss: Callable[[PyTree, PyTree], Any], kind: Any = jnp.floating) -> Callable[[PyTree, PyTree], Any]:
    """The loss, refused where it is traced if it does not give one number of this kind for one example."""

    def fits(value):
        return value.ndim == 0 and jnp.issubdtype(value.dtype, kind)

    return _giving("loss(output, y)", loss, fits, "one real number, such as a sum or a mean")


def vector(features: Callable[[PyTree, PyTree], Any]) -> Callable[[PyTree, PyTree], Any]:
    """The features, refused where they are traced if they are not a vector of real numbers for one input."""

    def fits(value):
        return value.ndim == 1 and (_is_real(value.dtype) or value.dtype == bool)

    return _giving("features(params, x)", features, fits, "[d], one vector of real numbers")


def _giving(name: str, function: Callable, fits: Callable[[Any], bool], expected: str) -> Callable:
    def checked(*args: Any) -> Any:
        value = function(*args)
        is_array = isinstance(value, jax.Array)
        if not (is_array and fits(value)):
            what = f"{value.dtype.name} of shape {value.shape}" if is_array else type(value).__name__
            raise ValueError(f"{name} gives {what} for one example; expected {expected}.")
        return value

    return checked


def as_float(dtype: Any) -> Any:
    """The dtype for means of numbers of this dtype: itself if it is floating-point, else JAX's default."""
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)


def check_kept(name: str, array: np.ndarray) -> None:
    """Refuse what is not a number, or a number that JAX would change: without 64 bits, 2³² + 1 would become 1.

    Raises:
        TypeError: an array of anything else.
        ValueError: a number that is too large.
    """
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 4:
        return  # the usual case, at once
    if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(f"{name} holds {array.dtype.name}; expected arrays of numbers.")
    kept = jax.dtypes.canonicalize_dtype(array.dtype)
    if kept == array.dtype or not array.size:
        return
    whole = jnp.issubdtype(kept, jnp.integer)
    known, numbers = (jnp.iinfo(kept), array) if whole else (jnp.finfo(kept), np.real(array[np.isfinite(array)]))
    if numbers.size and not (known.min <= numbers.min() and numbers.max() <= known.max):
        raise ValueError(
            f"{name} holds a number that is too large for {kept.name}; make it smaller, or enable {array.dtype.name}: "
            "jax.config.update('jax_enable_x64', True)."
        )


def _is_real(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def frozen(tree: PyTree) -> PyTree:
    """The pytree with new containers, in which NumPy arrays that could be changed are read-only copies."""
    return tree if isinstance(tree, jax.Array) else jax.tree.map(_frozen, tree)


def copied(value: Any) -> Any:
    """The array, copied if it is not a JAX array."""
    return value if isinstance(value, jax.Array) else np.array(value)


def freeze_fields(owner: Any) -> None:
    """`frozen` for the arrays that are fields of a frozen dataclass."""
    assign(owner, **{name: frozen(value) for name, value in vars(owner).items() if isinstance(value, np.ndarray)})


def inputs(x: PyTree) -> PyTree:
    """Inputs of a model, safe to be read by JAX after the call has returned.

    Raises:
        TypeError: NumPy arrays that do not hold numbers.
        ValueError: numbers in them that are too large for the dtypes that JAX has enabled.
    """
    return x if isinstance(x, jax.Array) else _input(x) if isinstance(x, np.ndarray) else jax.tree.map(_input, x)


def _input(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        check_kept("x", leaf)
    return _frozen(leaf)


def _frozen(leaf: Any) -> Any:
    if _is_lasting(leaf):
        return leaf
    copy = leaf.copy()
    copy.flags.writeable = False
    return copy


def _is_lasting(leaf: Any) -> bool:
    """Whether it cannot change: it is not a NumPy array, or neither it nor what it is a view of is writable."""
    while isinstance(leaf, np.ndarray):
        if leaf.flags.writeable:
            return False
        leaf = leaf.base
    return True


def remembered(owner: Any, name: str, leaves: Sequence[Any], compute: Callable[[], Value]) -> Value:
    """`compute()`, kept in an object for as long as these are the arrays that it was computed from.

    There is no lock: a process forked meanwhile would inherit it, held forever. Two threads that ask at the same time
    compute the same value twice.
    """
    known = vars(owner).get(name)
    if known is not None and len(known[0]) == len(leaves) and all(map(is_, known[0], leaves)):
        return known[1]
    value = compute()
    if all(map(_is_lasting, leaves)):
        vars(owner)[name] = tuple(leaves), value
    return value
