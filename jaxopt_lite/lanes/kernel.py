"""A whole tile's solve as one kernel: every number of a lane stays in a register, from its first step to its last.

A tile works for at most a budget of evaluations. Then the unfinished lanes are counted to the front of an order that
the tiles of the next phase follow, so that few stand idle beside a slow one. Nothing is moved for that: a tile reads
and writes its lanes where they are. Lanes that wait set out at once, together, inside the kernel.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from jaxopt_lite.lanes import triton
from jaxopt_lite.lanes.engine import Method, Outcome, Queue
from jaxopt_lite.lanes.graph import emit
from jaxopt_lite.lanes.program import Program
from jaxopt_lite.lanes.status import Status

__all__ = ["PHASES", "run"]

PHASES = (32, 64, 2**31 - 1)
"""The budgets of evaluations of the phases, in turn; the last has no end."""


class _Layout(NamedTuple):
    """Which row of which array each leaf is. Arrays are `[rows, lanes]`, one for each dtype; `None` has no rows."""

    dtypes: tuple[np.dtype, ...]
    rows: tuple[tuple[int, int], ...]


def _layout(dtypes) -> _Layout:
    stored = [np.dtype(np.int32) if dtype == bool else np.dtype(dtype) for dtype in dtypes]
    distinct = sorted(set(stored), key=str)
    counts = dict.fromkeys(distinct, 0)
    rows = []
    for dtype in stored:
        rows.append((distinct.index(dtype), counts[dtype]))
        counts[dtype] += 1
    return _Layout(tuple(distinct), tuple(rows))


def _pack(layout: _Layout, rows: list[Array]) -> list[Array]:
    """Rows of lanes as one array for each dtype."""
    parts: list[list[Array]] = [[] for _ in layout.dtypes]
    for (array, _), row in zip(layout.rows, rows, strict=True):
        parts[array].append(row.astype(layout.dtypes[array]))
    return [jnp.stack(part) for part in parts]


def run(program: Program, method: Method, queue: Queue, shared: tuple[Array, ...], width: int, interpret: bool):
    """Solve every problem of the queue in tiles of `width` lanes; an `Outcome` without records and states.

    `shared` are the leaves that the program does not know, raveled. With `interpret` the kernel is emulated.
    """
    size, tiles = queue.size, -(-queue.size // width)
    padded = lambda leaf: jnp.pad(leaf, [(0, tiles * width - size)] + [(0, 0)] * (leaf.ndim - 1), mode="edge")  # noqa: E731
    columns = lambda leaf: list(padded(leaf).reshape(tiles * width, -1).T)  # noqa: E731
    fixed = [row for leaf in (*queue.limits, *queue.mapped) for row in columns(leaf)]
    live, nodes = program.live, program.leaves
    state_layout = _layout([nodes[row].dtype for row in live])
    fixed_layout = _layout([row.dtype for row in fixed])

    leaves = jax.tree.leaves(_start(method, padded(queue.start), size))
    rows = [leaves[program.places[row][0]].reshape(-1, tiles * width)[program.places[row][1]] for row in live]
    carried = _pack(state_layout, rows)
    status = state_layout.rows[live.index(program.rows_of("status")[0])]
    body = partial(_solve_tile, program, width, state_layout, fixed_layout, [leaf.dtype for leaf in shared])

    def phase(carried, budget):
        order, count = _unfinished_first(carried[status[0]][status[1]])
        operands = [jnp.stack([count, budget]), order, *_pack(fixed_layout, fixed), *shared]
        return list(triton.launch(body, tiles, width, operands, carried, interpret)), None

    carried, _ = lax.scan(phase, carried, jnp.array(PHASES, jnp.int32))

    def field(name):
        rows = [state_layout.rows[live.index(row)] for row in program.rows_of(name)]
        return [carried[array][row][:size] for array, row in rows]

    counts = (field(name)[0] for name in ("status", "steps", "evaluations", "first_error"))
    return Outcome(jnp.stack(field("x"), axis=-1), *counts, record=(), states=None)


def _start(method: Method, start: Array, size: int):
    """The states before the first evaluation; lanes beyond the batch have ended."""
    state = method.init(start.T)
    status = jnp.where(jnp.arange(state.status.size) < size, state.status, Status.NOT_STARTED)
    return state._replace(status=status.astype(jnp.int32))


def _unfinished_first(status: Int[Array, " B"]) -> tuple[Int[Array, " B"], Int[Array, ""]]:
    """All lanes in an order in which the unfinished come first, and how many these are."""
    todo: Bool[Array, " B"] = status < 0
    before = jnp.cumsum(todo, dtype=jnp.int32)
    count = before[-1]
    lane = jnp.arange(status.size, dtype=jnp.int32)
    place = jnp.where(todo, before - 1, count + lane - before)
    return jnp.zeros_like(lane).at[place].set(lane, unique_indices=True, mode="promise_in_bounds"), count


def _solve_tile(program: Program, width: int, state_layout, fixed_layout, shared_dtypes, *references):
    """The kernel: read a tile's lanes, step them until all have ended or the budget is spent, and write them."""
    control, order, *references = references
    fixed, references = references[: len(fixed_layout.dtypes)], references[len(fixed_layout.dtypes) :]
    shared, references = references[: len(shared_dtypes)], references[len(shared_dtypes) :]
    before, after = references[: len(state_layout.dtypes)], references[len(state_layout.dtypes) :]
    first = triton.tile_number() * width

    @triton.when(first < control[0])
    def _():
        lanes = order[triton.ds(first, width)]
        nodes, live = program.leaves, program.live
        known = [fixed[array][row, lanes] for array, row in fixed_layout.rows]
        known += [jnp.full((width,), leaf[k]) for leaf in shared for k in range(leaf.shape[0])]
        rows = [before[array][row, lanes] for array, row in state_layout.rows]
        rows = [row.astype(nodes[leaf].dtype) for leaf, row in zip(live, rows, strict=True)]
        known = [row.astype(node.dtype) for node, row in zip(nodes[len(program.places) :], known, strict=True)]
        rows = _iterate(program, width, rows, known, control[1])
        for (array, row), value in zip(state_layout.rows, rows, strict=True):
            after[array][row, lanes] = value.astype(state_layout.dtypes[array])


def _iterate(program: Program, width: int, rows: list[Array], known: list[Array], budget):
    """The rows of a tile's state after at most `budget` evaluations."""
    live = program.live
    status = live.index(program.rows_of("status")[0])

    def advance(graph, rows):
        leaves: list = [None] * len(program.places) + known
        for leaf, row in zip(live, rows, strict=True):
            leaves[leaf] = row
        return emit([graph[leaf] for leaf in live], leaves, width)

    # The least status says it all: WAITING is below RUNNING, and both are below those of lanes that have ended.
    def in_work(carry):
        return (jnp.min(carry[0][status]) < 0) & (carry[1] < budget)

    def stepping(carry):
        return (jnp.min(carry[0][status]) == Status.RUNNING) & (carry[1] < budget)

    def step(carry):
        return advance(program.step, carry[0]), carry[1] + 1

    def lap(carry):
        return lax.while_loop(stepping, step, (advance(program.begin, carry[0]), carry[1] + 1))

    return lax.while_loop(in_work, lap, (rows, jnp.int32(0)))[0]
