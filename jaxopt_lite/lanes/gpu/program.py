"""A method and a user's function as graphs on rows of lanes: the state before the start, the start, and one step.

The method is the one that the engine runs: its `init`, `begin` and `step`, and the function inside them, are traced for
one problem without a lane axis, and interpreted number by number (`scalar`). Used by `kernel`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_lite.lanes.arithmetic import take_where
from jaxopt_lite.lanes.engine import Limits, Method, begun, stopped, verdict
from jaxopt_lite.lanes.gpu.graph import DTYPES, Graph, Node, NotInAKernel, Scalar, reachable
from jaxopt_lite.lanes.gpu.scalar import interpret, leaves_like
from jaxopt_lite.lanes.problem import Function, LaneProblem
from jaxopt_lite.lanes.status import Status

__all__ = ["Program", "trace"]

# A thread has 255 registers of 32 bits. What a lane carries from step to step may take this many, and most of the
# others hold what a step computes; with more, the compiler spills to memory. Measured, `docs/accelerators.md`.
_MOST_WORDS = 140
_MOST_OPERATIONS = 4096  # of straight-line code, for which compilers already take half a minute

_REPORTED = ("x", "status", "steps", "evaluations", "first_error")


class Program(NamedTuple):
    """Graphs whose leaves are the numbers of a lane.

    Attributes:
        leaves: the rows of the state; then what defines a problem: its start, limits and mapped arguments; then the
            numbers that all lanes share.
        init: every row of the state before the first evaluation.
        begin: every row of the state after the start, in the lanes that wait for it.
        step: every row of the state after a step.
        entries: for each row of the state, which leaf of its pytree it comes from, and where in that leaf.
        names: the field of the state that each row belongs to.
        live: the rows that a reported number may depend on; a kernel carries no other.
    """

    leaves: tuple[Node, ...]
    init: tuple[Scalar, ...]
    begin: tuple[Scalar, ...]
    step: tuple[Scalar, ...]
    entries: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    live: tuple[int, ...]

    def rows_of(self, name: str) -> list[int]:
        """The rows of a field of the state."""
        return [row for row, field in enumerate(self.names) if field == name]

    @property
    def words(self) -> int:
        """The 32-bit registers that one lane's live rows and its problem take."""
        rows, n = len(self.entries), len(self.rows_of("x"))
        kept = [self.leaves[row] for row in self.live] + list(self.leaves[rows + n :])  # the start is not kept
        return sum(-(-node.dtype.itemsize // 4) for node in kept)

    def operations(self, *graphs: tuple[Scalar, ...]) -> int:
        """The operations of these graphs together."""
        return len(reachable([graph[row] for graph in graphs for row in self.live]))


def trace(
    method: Method, function: Function, is_mapped: tuple[bool, ...], leaves: tuple[Array, ...], n: int, dtype
) -> Program:
    """Trace a method for one problem.

    Args:
        method: the solver.
        function: the user's.
        is_mapped: which leaves have a batch axis, first.
        leaves: the arguments of the function; only shapes and dtypes matter.
        n: the number of unknowns.
        dtype: of the unknowns.

    Raises:
        NotInAKernel: with the reason.
    """
    strange = [str(leaf.dtype) for leaf in leaves if str(leaf.dtype) not in DTYPES]
    if strange:
        raise NotInAKernel(f"an argument is {strange[0]}, and a kernel takes {', '.join(DTYPES)}")
    if jnp.dtype(dtype).name not in ("float32", "float64"):
        raise NotInAKernel(f"the unknowns are {jnp.dtype(dtype).name}, and a kernel takes float32 and float64")
    program = _traced(method, _problem(function, is_mapped), *_specs(is_mapped, leaves), n, dtype)
    operations = program.operations(program.begin, program.step)
    if program.words > _MOST_WORDS:
        raise NotInAKernel(
            f"a lane carries {program.words} numbers of 32 bits from step to step, and the registers of a thread hold "
            f"about {_MOST_WORDS} beside what a step computes"
        )
    if operations > _MOST_OPERATIONS:
        raise NotInAKernel(
            f"a step is {operations:,} operations on single numbers; a kernel has at most {_MOST_OPERATIONS:,}"
        )
    return program


def _problem(function: Function, is_mapped: tuple[bool, ...]) -> Callable:
    """`bind(mapped leaves, shared leaves)` of one problem -> the problem, on vectors without a lane axis."""

    def bind(mapped, shared):
        mapped, shared = iter(mapped), iter(shared)
        return LaneProblem(function, tuple(next(mapped) if flag else next(shared) for flag in is_mapped), is_mapped)

    return bind


def _specs(is_mapped: tuple[bool, ...], leaves: tuple[Array, ...]) -> tuple[list, list]:
    """Shapes and dtypes of one problem's share of the mapped leaves, and of the shared ones."""
    mapped, shared = [], []
    for leaf, flag in zip(leaves, is_mapped, strict=True):
        (mapped if flag else shared).append(jax.ShapeDtypeStruct(leaf.shape[1:] if flag else leaf.shape, leaf.dtype))
    return mapped, shared


def _traced(method: Method, bind: Callable, mapped: list, shared: list, n: int, dtype) -> Program:
    graph = Graph()
    spec = jax.eval_shape(method.init, jax.ShapeDtypeStruct((n,), dtype))
    names = [path[0].name for path, _ in jax.tree_util.tree_leaves_with_path(spec)]
    state, entries = _state_leaves(graph, jax.tree.leaves(spec), names, method.symmetric)
    limits = jax.eval_shape(lambda: Limits(jnp.zeros((), dtype), jnp.zeros((), dtype), jnp.int32(0)))
    start = leaves_like(graph, jax.ShapeDtypeStruct((n,), dtype))
    fixed, common = ([leaves_like(graph, like) for like in group] for group in ((*limits, *mapped), shared))

    def begin(state, limits, mapped, shared):
        started = _reported(begun(method, bind(mapped, shared), limits, state))
        return take_where(state.status == Status.WAITING, started, state)

    def step(state, limits, mapped, shared):
        return _reported(stopped(limits, method.step(bind(mapped, shared), limits, state)))

    def rows(part, specs, arrays):
        new = interpret(graph, jax.make_jaxpr(part)(*specs), arrays)
        return tuple(new[leaf].flat[entry] for leaf, entry in entries)

    specs, arrays = (spec, limits, mapped, shared), [*state, *fixed, *common]
    init = rows(method.init, [jax.ShapeDtypeStruct((n,), dtype)], [start])
    graphs = rows(begin, specs, arrays), rows(step, specs, arrays)
    row_names = tuple(names[leaf] for leaf, _ in entries)
    live = _live([row for row, name in enumerate(row_names) if name in _REPORTED], graphs, len(entries))
    return Program(tuple(graph.leaves), init, *graphs, tuple(entries), row_names, live)


def _reported(state):
    """The state in which lanes that were stopped have the status that they end with."""
    return state._replace(status=verdict(state.status))


def _state_leaves(graph: Graph, spec: list, names: list[str], symmetric) -> tuple[list[np.ndarray], list]:
    """The numbers of a state. A symmetric matrix has those on and above its diagonal, each at two indices."""
    arrays: list[np.ndarray] = []
    entries: list[tuple[int, int]] = []
    for leaf, (like, name) in enumerate(zip(spec, names, strict=True)):
        array = np.empty(like.shape, object)
        for entry, index in enumerate(np.ndindex(like.shape)):
            if name in symmetric and len(index) == 2 and index[0] > index[1]:
                array[index] = array[index[::-1]]
            else:
                array[index] = graph.leaf(like.dtype)
                entries.append((leaf, entry))
        arrays.append(array)
    return arrays, entries


def _live(reported: list[int], graphs: tuple, rows: int) -> tuple[int, ...]:
    """The reported rows, and all that they depend on, over however many steps."""
    live: set[int] = set()
    new = set(reported)
    while new:
        live |= new
        needed = reachable([graph[row] for graph in graphs for row in new])
        new = {node.leaf for node in needed if node.leaf is not None and node.leaf < rows} - live
    return tuple(sorted(live))
