"""Keywords of other libraries, and what to use here instead."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["says_what_instead"]

_STEPS = "the solver has `max_steps`, as in solver=BFGS(max_steps=200)"
_TOLERANCE = "tolerances are `atol` and `rtol` of the solver, as in BFGS(atol=1e-8) or Broyden(atol=1e-10)"
_AUTODIFF = "JAX differentiates `fun`; a rule of your own goes into `fun`, by jax.custom_jvp"
_SOLVER = "it belongs to the solver, as in solver=BFGS(atol=1e-8, max_steps=200)"
_MEMORY = "LBFGS and LimitedBroyden have `memory`"
_INSTEAD = {
    "maxiter": _STEPS, "max_iter": _STEPS, "maxfev": _STEPS, "maxfun": _STEPS, "max_nfev": _STEPS,
    "num_steps": _STEPS,
    "tol": _TOLERANCE, "gtol": _TOLERANCE, "ftol": _TOLERANCE, "xtol": _TOLERANCE, "fatol": _TOLERANCE,
    "f_tol": _TOLERANCE, "x_tol": _TOLERANCE, "eps": _TOLERANCE,
    "jac": _AUTODIFF, "hess": _AUTODIFF, "hessp": _AUTODIFF, "fprime": _AUTODIFF, "grad": _AUTODIFF,
    "value_and_grad": _AUTODIFF,
    "atol": _SOLVER, "rtol": _SOLVER, "max_steps": _SOLVER, "options": _SOLVER,
    "method": "`solver` selects the method, as in minimize(fun, x0, solver=LBFGS())",
    "history_size": _MEMORY, "maxcor": _MEMORY, "m": _MEMORY,
    "constraints": "only `bounds=(lower, upper)`, of minimize and least_squares; for others add a penalty",
    "p0": "it is `x0`", "sigma": "divide the residuals by it, and see Solution.covariance(absolute_sigma=True)",
    "x_scale": "steps do not depend on the units of the unknowns", "xdata": "pass it in `args`",
    "callback": "`record=K` keeps the progress of K steps; with batched=False, jax.debug.print in `fun` shows all",
    "throw": "`solution.raise_if_failed()` raises", "adjoint": "derivatives are those of the implicit function theorem",
    "fn": "it is `fun`", "g": "it is `fun`", "y0": "it is `x0`", "init_params": "it is `x0`",
    "in_axes": "it is `args_axes`", "path": "it is `backend`",
}  # fmt: skip

_Function = TypeVar("_Function", bound=Callable)


def says_what_instead(function: _Function) -> _Function:
    """The function or class, with a TypeError for keywords of other libraries that says what to use instead."""
    if not isinstance(function, type):
        return _saying(function, function.__name__)
    function.__init__ = _saying(function.__init__, function.__name__)
    return function  # pyright: ignore[reportReturnType]  # it is what came in


def _saying(function: Any, name: str) -> Any:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            unknown = [word for word in kwargs if word in _INSTEAD and word not in code.co_varnames[:most]]
            if not unknown:
                raise
            said = "; ".join(f"{word}=: {_INSTEAD[word]}" for word in unknown)
            raise TypeError(f"{name}() does not take {said}.") from error

    code = function.__code__
    most = code.co_argcount + code.co_kwonlyargcount
    return wrapped
