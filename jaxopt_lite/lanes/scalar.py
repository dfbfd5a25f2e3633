"""A traced function, number by number: a jaxpr interpreted on arrays of the scalars of a `Graph`.

Traced for one problem, a function has vectors and matrices of known, small sizes. Here each of their numbers becomes a
node of a graph, a row of lanes, so that what a GPU kernel cannot do to arrays (slice, join, transpose) is never asked
of it. Loops of known length are unrolled; of a conditional both branches are computed and one is selected, as under
`vmap`. What has no such form raises `NotInAKernel`, with the primitive and where it was written.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend import source_info_util

from jaxopt_lite.lanes.elementwise import ELEMENTWISE
from jaxopt_lite.lanes.graph import Graph, NotInAKernel, is_known
from jaxopt_lite.lanes.lanes_last import scan_split
from jaxopt_lite.lanes.scalar_rules import ARRAYS, as_scalars, filled, known

__all__ = ["interpret", "leaves_like"]

_LONGEST_LOOP = 256
_FAULT = "taking it apart failed, which is a fault of this library; please report it ({cause!r})"

_WHY_NOT = {
    "sort": "it sorts",
    "top_k": "it sorts",
    "erf": "the error function has no instruction in a kernel",
    "erfc": "the error function has no instruction in a kernel",
    "erf_inv": "the inverse error function has no instruction in a kernel",
    "lgamma": "the gamma function has no instruction in a kernel",
    "digamma": "the gamma function has no instruction in a kernel",
    "cholesky": "it factorises a matrix by a library",
    "lu": "it factorises a matrix by a library",
    "qr": "it factorises a matrix by a library",
    "eigh": "it factorises a matrix by a library",
    "svd": "it factorises a matrix by a library",
    "triangular_solve": "it solves a linear system by a library",
    "tridiagonal_solve": "it solves a linear system by a library",
    "custom_linear_solve": "it solves a linear system by a library",
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
    consts, jaxpr = list(getattr(jaxpr, "consts", ())), getattr(jaxpr, "jaxpr", jaxpr)
    # A jaxpr whose constants are arguments (JAX 0.10 has some) is given them with the operands.
    arrays = [*map(as_scalars, consts), *arrays] if len(arrays) < len(jaxpr.constvars) + len(jaxpr.invars) else arrays
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], arrays, strict=True))

    def read(atom) -> np.ndarray:
        return as_scalars(np.asarray(atom.val, atom.aval.dtype)) if hasattr(atom, "val") else values[atom]

    for eqn in jaxpr.eqns:
        try:
            results = _apply(graph, eqn, [read(atom) for atom in eqn.invars])
        except Exception as cause:  # a fault of a rule must not keep a solve from being a loop
            error = cause if isinstance(cause, NotInAKernel) else NotInAKernel(_FAULT.format(cause=cause))
            # Innermost first: JAX's own functions, traced once for all their callers, have no line of the user's.
            place = error.place or source_info_util.summarize(eqn.source_info)
            raise NotInAKernel(error.reason, error.primitive or eqn.primitive.name, place) from None
        values.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(graph: Graph, eqn, arrays: list[np.ndarray]) -> list[np.ndarray]:
    name, params = eqn.primitive.name, eqn.params
    if name in ELEMENTWISE:
        return [_elementwise(graph, name, params, arrays)]
    if name in ARRAYS:
        result = ARRAYS[name](graph, params | {"out_dtype": eqn.outvars[0].aval.dtype}, *arrays)
        return result if isinstance(result, list) else [result]
    if name in _CONTROL:
        return _CONTROL[name](graph, params, arrays)
    raise NotInAKernel(_WHY_NOT.get(name, "a kernel has no such operation"))


def _elementwise(graph: Graph, name: str, params, arrays: list[np.ndarray]) -> np.ndarray:
    """In every place of the operands; one of rank zero goes with all."""
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    operands = [np.broadcast_to(array, shape) for array in arrays]
    result = np.empty(shape, object)
    for index in np.ndindex(shape):
        result[index] = ELEMENTWISE[name](graph, params, *(operand[index] for operand in operands))
    return result


# --- Calls and control flow ----------------------------------------------------------------------------------


def _call(graph: Graph, params, arrays):
    inner = next(params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params)
    return interpret(graph, inner, arrays)


def _cond(graph: Graph, params, arrays):
    which, operands = arrays[0][()], arrays[1:]
    branches = params["branches"]
    if is_known(which):
        return interpret(graph, branches[min(max(int(which), 0), len(branches) - 1)], operands)
    results = [interpret(graph, branch, operands) for branch in branches]
    return [_elementwise(graph, "select_n", {}, [filled((), which), *cases]) for cases in zip(*results, strict=True)]


def _scan(graph: Graph, params, arrays):
    consts, count = scan_split(params)
    fixed, carry, rows = arrays[:consts], arrays[consts : consts + count], arrays[consts + count :]
    length = params["length"]
    if length > _LONGEST_LOOP:
        raise NotInAKernel(f"its loop of {length} rounds would be unrolled; at most {_LONGEST_LOOP} are")
    outputs = []
    for k in reversed(range(length)) if params["reverse"] else range(length):
        results = interpret(graph, params["jaxpr"], [*fixed, *carry, *(row[k, ...] for row in rows)])
        carry = results[:count]
        outputs.append(results[count:])
    outputs = reversed(outputs) if params["reverse"] else outputs
    return [*carry, *(np.stack(column) for column in zip(*outputs, strict=True))]


def _while(graph: Graph, params, arrays):
    """Unrolled, where the number of rounds is known."""
    of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
    cond_fixed, fixed, carry = arrays[:of_cond], arrays[of_cond : of_cond + of_body], arrays[of_cond + of_body :]
    for _ in range(_LONGEST_LOOP + 1):
        (more,) = interpret(graph, params["cond_jaxpr"], [*cond_fixed, *carry])
        if not known(more, "how many rounds a loop takes"):
            return carry
        carry = interpret(graph, params["body_jaxpr"], [*fixed, *carry])
    raise NotInAKernel(f"its loop would be unrolled, and takes more than {_LONGEST_LOOP} rounds")


_CONTROL: dict[str, Callable] = {"cond": _cond, "scan": _scan, "while": _while} | dict.fromkeys(
    "jit pjit closed_call core_call eval_jaxpr remat2 checkpoint custom_jvp_call custom_vjp_call".split(), _call
)
_CONTROL |= dict.fromkeys(
    "optimization_barrier device_put reshard mesh_cast sharding_constraint layout_constraint".split(),
    lambda graph, params, arrays: arrays,
)
