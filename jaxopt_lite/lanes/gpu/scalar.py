"""A traced function, number by number: a jaxpr interpreted on arrays of the scalars of a `Graph`.

Traced for one problem, a function has vectors and matrices of known, small sizes. Here each of their numbers becomes a
node of a graph, a row of lanes, so that what a GPU kernel cannot do to arrays (slice, join, transpose) is never asked
of it. Loops of known length are unrolled; of a conditional both branches are computed and one is selected, as under
`vmap`. What has no such form raises `NotInAKernel`, with the primitive and where it was written.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxopt_lite.jaxprs import Equation, Interpreter, Scan, While, branches, called, current_line
from jaxopt_lite.lanes.gpu.arrays import ARRAYS, as_scalars, known
from jaxopt_lite.lanes.gpu.elementwise import ELEMENTWISE
from jaxopt_lite.lanes.gpu.graph import Graph, NotInAKernel, is_known

__all__ = ["interpret", "leaves_like"]

_LONGEST_LOOP = 256
_FAULT = "evaluating it number by number failed, which is a bug in this library; please report it ({cause!r})"

_WHY_NOT = {
    "sort": "it sorts",
    "top_k": "it sorts",
    "erf": "the error function has no instruction in a kernel",
    "erfc": "the error function has no instruction in a kernel",
    "erf_inv": "the inverse error function has no instruction in a kernel",
    "lgamma": "the gamma function has no instruction in a kernel",
    "digamma": "the gamma function has no instruction in a kernel",
    "cholesky": "it factorizes a matrix with a library",
    "lu": "it factorizes a matrix with a library",
    "qr": "it factorizes a matrix with a library",
    "eigh": "it factorizes a matrix with a library",
    "svd": "it factorizes a matrix with a library",
    "triangular_solve": "it solves a linear system with a library",
    "tridiagonal_solve": "it solves a linear system with a library",
    "custom_linear_solve": "it solves a linear system with a library",
    "pure_callback": "it calls back to Python",
    "io_callback": "it calls back to Python",
    "debug_callback": "it calls back to Python",
    "threefry2x32": "it draws random numbers",
    "random_bits": "it draws random numbers",
}


def leaves_like(graph: Graph, spec) -> np.ndarray:
    """An array of new leaves, of the shape and dtype of `spec`."""
    array = np.empty(spec.shape, object)
    for index in np.ndindex(array.shape):
        array[index] = graph.leaf(spec.dtype)
    return array


def interpret(graph: Graph, jaxpr: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The results of a jaxpr, closed or not, for operands that are arrays of scalars.

    Raises:
        NotInAKernel: the function cannot be written in operations on rows of lanes.
    """
    return _Scalars(graph).run(jaxpr, arrays)


class _Scalars(Interpreter):
    """Evaluates jaxprs on arrays of the scalars of a graph."""

    def __init__(self, graph: Graph):
        self._graph = graph

    def constant(self, value: Any) -> np.ndarray:
        return as_scalars(value)

    def results(self, equation: Equation, values: list[np.ndarray]) -> Sequence[np.ndarray]:
        try:
            return self._results(equation, values)
        except Exception as cause:  # a bug in a rule must not keep a solve from running as a loop
            error = cause if isinstance(cause, NotInAKernel) else NotInAKernel(_FAULT.format(cause=cause))
            # The innermost equation is the reason.
            name, line = error.primitive or equation.primitive.name, error.line or current_line()
            raise NotInAKernel(error.reason, name, line) from None

    def _results(self, equation: Equation, arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        name, params, inner = equation.primitive.name, equation.params, called(equation)
        if name in ELEMENTWISE:
            return [_elementwise(self._graph, name, params, arrays)]
        if name in ARRAYS:
            result = ARRAYS[name](self._graph, params | {"out_dtype": equation.outvars[0].aval.dtype}, *arrays)
            return result if isinstance(result, list) else [result]
        if name in _UNCHANGED:
            return arrays
        if inner is not None:
            return self.call(inner, arrays)
        if name in _CONTROL:
            return _CONTROL[name](self, equation, arrays)
        raise NotInAKernel(_WHY_NOT.get(name, "a kernel has no such operation"))

    def cond(self, equation: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Both branches and a selection, unless it is known which one is taken."""
        (which, *operands), jaxprs = arrays, branches(equation)
        index = which[()]
        if is_known(index):
            return self.run(jaxprs[min(max(int(index), 0), len(jaxprs) - 1)], operands)
        cases = zip(*(self.run(branch, operands) for branch in jaxprs), strict=True)
        return [_elementwise(self._graph, "select_n", {}, [which, *case]) for case in cases]

    def scan(self, equation: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Unrolled."""
        loop = Scan.of(equation, arrays)
        length, reverse, carry = loop.options["length"], loop.options["reverse"], loop.carried
        if length > _LONGEST_LOOP:
            raise NotInAKernel(f"its loop of {length} rounds would be unrolled; at most {_LONGEST_LOOP} are")
        outputs = []
        for k in reversed(range(length)) if reverse else range(length):
            results = self.run(loop.body, [*loop.fixed, *carry, *(row[k, ...] for row in loop.scanned)])
            carry = results[: len(carry)]
            outputs.append(results[len(carry) :])
        outputs = reversed(outputs) if reverse else outputs
        return [*carry, *(np.stack(column) for column in zip(*outputs, strict=True))]

    def while_loop(self, equation: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Unrolled, if the number of rounds is known."""
        loop = While.of(equation, arrays)
        carry = loop.carried
        for _ in range(_LONGEST_LOOP + 1):
            (more,) = self.run(loop.condition, [*loop.for_condition, *carry])
            if not known(more, "how many rounds a loop takes"):
                return carry
            carry = self.run(loop.body, [*loop.for_body, *carry])
        raise NotInAKernel(f"its loop would be unrolled, and takes more than {_LONGEST_LOOP} rounds")


def _elementwise(graph: Graph, name: str, params, arrays: list[np.ndarray]) -> np.ndarray:
    """At every index of the operands; one of rank zero is used at all of them."""
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    operands = [np.broadcast_to(array, shape) for array in arrays]
    result = np.empty(shape, object)
    for index in np.ndindex(shape):
        result[index] = ELEMENTWISE[name](graph, params, *(operand[index] for operand in operands))
    return result


_CONTROL: dict[str, Callable] = {"cond": _Scalars.cond, "scan": _Scalars.scan, "while": _Scalars.while_loop}
_UNCHANGED = {
    "optimization_barrier", "device_put", "reshard", "mesh_cast", "sharding_constraint", "layout_constraint",
}  # fmt: skip
