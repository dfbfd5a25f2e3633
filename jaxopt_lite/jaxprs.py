"""JAX's programs as data: what is in a jaxpr, in any supported version of JAX, and an interpreter of jaxprs.

A jaxpr is what JAX makes of a function when it traces it: a list of equations, each the application of a primitive to
variables and literals. An `Interpreter` evaluates the equations one by one, on values of any kind: arrays, rows of
lanes, intervals. JAX 0.10 has open jaxprs, and closed ones that hold their constants; JAX 0.12 has one kind for both.
All functions here take either.
"""

import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun  # pyright: ignore[reportPrivateImportUsage]

__all__ = [
    "Equation", "Interpreter", "Scan", "While", "as_function", "bind", "branches", "called", "current_line",
    "equations_in", "inner_jaxprs", "is_jaxpr", "is_jaxs_own", "is_literal", "largest_array", "line_of", "named_axes",
    "opened", "operations", "shape_of", "without_consts", "writers_of",
]  # fmt: skip

Equation: TypeAlias = Any
"""A `jax.extend.core.JaxprEqn`; with that type, its variables would have neither shape nor dtype."""

# Primitives that just run one jaxpr on their operands; and those that do, but have their own derivative rule.
_CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "eval_jaxpr", "remat2", "checkpoint"})
_CALLS_WITH_RULES = frozenset({"custom_jvp_call", "custom_vjp_call", "call_hi_primitive"})

_JAX_FILES = os.path.dirname(jax.__file__) + os.sep


# --- What is in a jaxpr ---------------------------------------------------------------------------------------


def opened(jaxpr: Any) -> tuple[Any, list[Any]]:
    """A jaxpr and its constants, whether it came closed or not."""
    return getattr(jaxpr, "jaxpr", jaxpr), list(getattr(jaxpr, "consts", ()))


def without_consts(jaxpr: Any) -> ClosedJaxpr:
    """The jaxpr without its constants, so that it keeps no array alive. In JAX 0.12 open ones hold theirs too."""
    inner, consts = opened(jaxpr)
    return ClosedJaxpr(inner, [None] * len(consts))


def as_function(jaxpr: Any, consts: Iterable[Any]) -> Callable[..., list[Any]]:
    """The function that a jaxpr computes, with these values for its constants."""
    return jaxpr_as_fun(ClosedJaxpr(opened(jaxpr)[0], list(consts)))


def is_jaxpr(thing: Any) -> bool:
    """Whether it is a jaxpr, closed or not."""
    return hasattr(thing, "eqns") or hasattr(thing, "jaxpr")


def is_literal(atom: Any) -> bool:
    """Whether an operand of an equation is a number, not a variable."""
    return isinstance(atom, Literal)


def shape_of(atom: Any) -> tuple[int, ...]:
    """The shape of a variable or literal."""
    return atom.aval.shape


def inner_jaxprs(equation: Equation) -> Iterator[Any]:
    """Every jaxpr in the parameters of an equation, whatever its primitive."""
    for param in equation.params.values():
        for part in param if isinstance(param, tuple) else (param,):
            # JAX 0.12 has primitives that keep their jaxpr on an object instead of in a parameter.
            part = getattr(part, "traced", part)
            part = getattr(part, "jaxpr", part) if not hasattr(part, "consts") else part
            if hasattr(part, "eqns"):
                yield part


def equations_in(
    jaxpr: Any, enters: Callable[[Equation], bool] = lambda equation: True, outer: tuple[Equation, ...] = ()
) -> Iterator[tuple[Equation, ...]]:
    """Every equation, in the order of the program, each with the equations that it is inside of, innermost first.

    Args:
        jaxpr: the jaxpr.
        enters: whether to go on inside an equation.
        outer: the equations that the jaxpr is inside of.
    """
    for equation in opened(jaxpr)[0].eqns:
        yield equation, *outer
        if enters(equation):
            for inner in inner_jaxprs(equation):
                yield from equations_in(inner, enters, (equation, *outer))


def named_axes(jaxpr: Any) -> set[Any]:
    """The named axes of `jax.vmap` or `jax.shard_map` along which a function computes."""
    return {effect.name for effect in opened(jaxpr)[0].effects if type(effect).__name__ == "NamedAxisEffect"}


def operations(jaxpr: Any, of: Container[str] | None = None) -> int:
    """About how many numbers a function computes, or how many by primitives `of` these names."""
    total = 0
    for equation in opened(jaxpr)[0].eqns:
        inner = sum(operations(each, of) for each in inner_jaxprs(equation))
        own = sum(out.aval.size for out in equation.outvars) if of is None or equation.primitive.name in of else 0
        total += inner * equation.params.get("length", 1) or own
    return total


def largest_array(jaxpr: Any) -> int:
    """The bytes of the largest array that a function computes, also inside calls."""
    arrays = (out.aval for equation, *_ in equations_in(jaxpr) for out in equation.outvars)
    return max((array.size * array.dtype.itemsize for array in arrays), default=0)


# --- Calls, loops and conditionals ----------------------------------------------------------------------------


def called(equation: Equation, *, despite_rules: bool = True) -> Any | None:
    """The jaxpr that a call runs on its operands, closed or not; None if the equation is not a plain call.

    Args:
        equation: any equation.
        despite_rules: whether a function with its own derivative rule counts as a call like any other.
    """
    name = equation.primitive.name
    if name not in _CALLS and not (despite_rules and name in _CALLS_WITH_RULES):
        return None
    found = list(inner_jaxprs(equation))
    return found[0] if len(found) == 1 and _takes(found[0]) == len(equation.invars) else None


def _takes(jaxpr: Any) -> int:
    """How many operands a jaxpr takes. JAX 0.10 has open ones whose constants are among them."""
    inner, consts = opened(jaxpr)
    return len(inner.constvars) - len(consts) + len(inner.invars)


class Scan(NamedTuple):
    """A `lax.scan`, with its operands apart.

    Attributes:
        body: the jaxpr of one round: it takes what is fixed, carried and scanned, and returns what is carried and
            stacked.
        fixed: the operands that are the same in each round.
        carried: those that a round hands on to the next.
        scanned: those of which each round gets one entry.
        options: the arguments of `lax.scan`.
    """

    body: Any
    fixed: list[Any]
    carried: list[Any]
    scanned: list[Any]
    options: dict[str, Any]

    @classmethod
    def of(cls, equation: Equation, operands: Sequence[Any]) -> "Scan":
        """Take the equation of a scan apart, for values of any kind.

        Which parameters say how many operands are of which kind depends on the version of JAX. But in all versions the
        scanned operands and results are stacked along one axis that the body does not see, so their ranks tell.
        """
        body = equation.params["jaxpr"]
        inner, _ = opened(body)
        count = len(equation.outvars) - _with_more_axes(equation.outvars, inner.outvars)
        first = len(equation.invars) - _with_more_axes(equation.invars, inner.invars)
        groups = list(operands[: first - count]), list(operands[first - count : first]), list(operands[first:])
        return cls(body, *groups, {name: equation.params[name] for name in ("length", "reverse", "unroll")})


def _with_more_axes(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    return sum(len(shape_of(a)) != len(shape_of(b)) for a, b in zip(outside, inside, strict=True))


class While(NamedTuple):
    """A `lax.while_loop`, with its operands apart.

    Attributes:
        condition: the jaxpr that says whether to go on.
        body: the jaxpr of one round.
        for_condition: the operands that the condition takes first.
        for_body: those that the body takes first.
        carried: those that both take, and that a round hands on to the next.
    """

    condition: Any
    body: Any
    for_condition: list[Any]
    for_body: list[Any]
    carried: list[Any]

    @classmethod
    def of(cls, equation: Equation, operands: Sequence[Any]) -> "While":
        """Take the equation of a loop apart, for values of any kind."""
        params = equation.params
        first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        groups = list(operands[:first]), list(operands[first:second]), list(operands[second:])
        return cls(params["cond_jaxpr"], params["body_jaxpr"], *groups)


def branches(equation: Equation) -> Sequence[Any]:
    """The jaxprs of a conditional, whose first operand is the index of the one that is taken."""
    return equation.params["branches"]


# --- Where an equation was written ----------------------------------------------------------------------------


def current_line() -> str:
    """The user's line of the equation that an `Interpreter` is evaluating: file, line, column and function."""
    return source_info_util.summarize(source_info_util.current())


def line_of(*equations: Equation) -> str:
    """The user's line of the first of these equations that has one: file, line, column and function.

    Those inside JAX's own functions have none: they are traced once for all callers.
    """
    lines = (source_info_util.summarize(equation.source_info) for equation in equations)
    return next(filter(None, lines), "")


def writers_of(equation: Equation) -> set[str]:
    """The functions of JAX that wrote the equation, from the user's call of JAX inward."""
    traceback = equation.source_info.traceback
    frames = takewhile(lambda frame: frame.file_name.startswith(_JAX_FILES), traceback.frames if traceback else ())
    return {frame.function_name for frame in frames}


def is_jaxs_own(jaxpr: Any) -> bool:
    """Whether the traced function is one of JAX's."""
    return (opened(jaxpr)[0].debug_info.func_filename or "").startswith(_JAX_FILES)


# --- Evaluating -----------------------------------------------------------------------------------------------


def bind(equation: Equation, values: Sequence[Any]) -> list[Any]:
    """The results of an equation for arrays, with the settings of JAX that it was traced with."""
    found = equation.primitive.get_bind_params(equation.params)
    functions, params = found if isinstance(found, tuple) else ((), found)  # depending on the version of JAX
    with equation.ctx.manager:
        results = equation.primitive.bind(*functions, *values, **params)
    return list(results) if equation.primitive.multiple_results else [results]


class Interpreter:
    """Evaluates jaxprs. This class does it on arrays, as JAX does; a subclass does it on values of its own kind.

    A subclass says what a constant is (`constant`) and what an equation gives (`results`), which may evaluate jaxprs
    inside the equation in turn (`run`, `call`).

    What JAX traces while an equation is evaluated gets the user's line that the equation comes from, in errors and in
    profiles. Equations inside JAX's own functions have no line, because these functions are traced once for all their
    callers. For them the line of the call counts.
    """

    _in_jax = False

    def constant(self, value: Any) -> Any:
        """A constant or a literal, as a value."""
        return value

    def results(self, equation: Equation, values: list[Any]) -> Sequence[Any]:
        """What an equation gives, one value for each of its outputs."""
        return bind(equation, values)

    def run(self, jaxpr: Any, values: Iterable[Any]) -> list[Any]:
        """The results of a jaxpr, closed or not, for one value for each of its inputs."""
        inner, consts = opened(jaxpr)
        inputs = [*map(self.constant, consts), *values]
        known = dict(zip([*inner.constvars, *inner.invars], inputs, strict=True))
        return self.evaluate(inner.eqns, known, inner.outvars)

    def call(self, jaxpr: Any, values: Iterable[Any]) -> list[Any]:
        """The results of a jaxpr that the current equation calls."""
        before, self._in_jax = self._in_jax, is_jaxs_own(jaxpr)
        try:
            return self.run(jaxpr, values)
        finally:
            self._in_jax = before

    def evaluate(self, equations: Iterable[Equation], known: dict[Any, Any], wanted: Iterable[Any]) -> list[Any]:
        """Evaluate equations, given known values of variables, and add the values of their results to these.

        Returns:
            The values of the wanted atoms.
        """

        def read(atom: Any) -> Any:
            if is_literal(atom):
                return self.constant(np.asarray(atom.val, atom.aval.dtype))
            return known[atom]

        for equation in equations:
            values = [read(atom) for atom in equation.invars]
            line = None if self._in_jax else equation.source_info.traceback  # if there is none, that of the call stays
            with source_info_util.user_context(line):
                known.update(zip(equation.outvars, self.results(equation, values), strict=True))
        return [read(atom) for atom in wanted]
