"""The engine's loop as one kernel, in which every number of a lane stays in a register from first step to last.

A tile of lanes has a share of the queue. It takes problems, starts them, steps them until it pays to stop, and
writes out those that have ended, as `engine` does and by the same rule. Nothing but starts and answers ever touches
memory. What the lanes do is a `Program`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxopt_lite.lanes.engine import Outcome, Queue
from jaxopt_lite.lanes.gpu import triton
from jaxopt_lite.lanes.gpu.graph import emit
from jaxopt_lite.lanes.gpu.program import Program
from jaxopt_lite.lanes.status import Status

__all__ = ["WIDTH", "run", "tiles"]

WIDTH = 32
"""The lanes of a kernel's tile: a warp, whose threads need no barrier to agree on when to stop."""

_FEWEST_TILES, _REFILLS = 4096, 16  # more tiles than a GPU runs at once; problems per lane of large batches
# Verification rounds differently from the kernel, which is therefore given slightly smaller tolerances.
_SHARPER = 1 - 2**-4
_FIELDS = ("x", "first_error", "status", "steps", "evaluations")


class Layout(NamedTuple):
    """Which row of which array each number is in. The arrays are `[rows, problems]`, one for each dtype."""

    dtypes: tuple[np.dtype, ...]
    entries: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, dtypes) -> "Layout":
        """For numbers of these dtypes; bools are stored as integers."""
        stored = [np.dtype(np.int32 if jnp.issubdtype(dtype, jnp.bool_) else dtype) for dtype in dtypes]
        distinct = sorted(set(stored), key=str)
        entries = [(distinct.index(dtype), stored[:k].count(dtype)) for k, dtype in enumerate(stored)]
        return cls(tuple(distinct), tuple(entries))

    def pack(self, rows: list[Array]) -> list[Array]:
        """The arrays of these rows."""
        parts: list[list[Array]] = [[] for _ in self.dtypes]
        for (array, _), row in zip(self.entries, rows, strict=True):
            parts[array].append(row.astype(self.dtypes[array]))
        return [jnp.stack(part) for part in parts]


class _Tile(NamedTuple):
    """A tile at work: the next problem of its share, which problem each lane holds, its numbers and its state."""

    taken: Array
    problem: Array
    given: list[Array]
    rows: list[Array]


class _Kernel(NamedTuple):
    """What does not change from tile to tile."""

    program: Program
    given: Layout
    reported: Layout
    shared: tuple[int, ...]
    size: int
    share: int
    width: int
    pause_cost: int

    def __call__(self, *references):
        """Solve this tile's share of the problems. References: what is given, what is shared, what is reported."""
        given, rest = references[: len(self.given.dtypes)], references[len(self.given.dtypes) :]
        shared, reported = rest[: len(self.shared)], rest[len(self.shared) :]
        nodes = self.program.leaves[len(self.program.leaves) - sum(self.shared) :]
        numbers = [leaf[k] for leaf, count in zip(shared, self.shared, strict=True) for k in range(count)]
        common = [jnp.full((self.width,), x).astype(node.dtype) for x, node in zip(numbers, nodes, strict=True)]

        first = triton.tile_number() * self.share
        end = jnp.minimum(first + self.share, self.size)
        self._solve(first, end, partial(self._load, given), common, partial(self._report, reported))

    def _solve(self, first, end, load, common, report):
        def in_work(tile: _Tile):
            return (tile.taken < end) | (jnp.min(self._status(tile.rows)) < 0)

        def round_(tile: _Tile) -> _Tile:
            tile = self._refill(tile, end, load)
            known = tile.given + common
            rows = self._emit(self.program.begin, tile.rows, known)
            rows = self._advance(rows, known, tile.taken < end)
            report(tile.problem, rows, (self._status(tile.rows) < 0) & (self._status(rows) >= 0))
            return tile._replace(rows=rows)

        lane = jnp.arange(self.width, dtype=jnp.int32) * 0
        given = load(lane)
        rows = self._emit(self.program.init, [], given)
        rows[self._status_row] = lane + jnp.int32(Status.NOT_STARTED)
        lax.while_loop(in_work, round_, _Tile(first, lane, given, rows))

    def _refill(self, tile: _Tile, end, load) -> _Tile:
        """Give the next problems to the free lanes."""
        free = self._status(tile.rows) >= 0
        turn = tile.taken + jnp.cumsum(free.astype(jnp.int32), dtype=jnp.int32) - 1
        filled = free & (turn < end)
        new = load(jnp.clip(turn, 0, self.size - 1))
        choose = lambda new, old: [jnp.where(filled, a, b) for a, b in zip(new, old, strict=True)]  # noqa: E731
        rows = choose(self._emit(self.program.init, [], new), tile.rows)
        taken = jnp.minimum(tile.taken + jnp.sum(free.astype(jnp.int32), dtype=jnp.int32), end)
        return _Tile(taken, jnp.where(filled, turn, tile.problem), choose(new, tile.given), rows)

    def _advance(self, rows, known, more):
        """Step until it pays to stop: until idle lanes have missed as many steps as a pause costs."""

        def counts(rows):
            """How many lanes are running, and how many are idle that could be at work."""
            status = self._status(rows)
            waiting = jnp.where(status == Status.WAITING, 1 << 16, 0)
            both = jnp.sum(jnp.where(status == Status.RUNNING, 1, waiting), dtype=jnp.int32)
            running = both & 0xFFFF
            return running, jnp.where(more, self.width - running, both >> 16)

        def worthwhile(carry):
            _, running, missed = carry
            return (running > 0) & (missed < self.pause_cost * self.width)

        def step(carry):
            rows = self._emit(self.program.step, carry[0], known)
            running, idle = counts(rows)
            return rows, running, carry[2] + idle

        return lax.while_loop(worthwhile, step, (rows, counts(rows)[0], jnp.int32(0)))[0]

    @property
    def _status_row(self) -> int:
        return self.program.live.index(self.program.rows_of("status")[0])

    def _status(self, rows):
        return rows[self._status_row]

    def _emit(self, graph, rows, known) -> list[Array]:
        """The live rows of a graph, given the rows of the state and all other numbers."""
        leaves: list = [None] * len(self.program.entries) + list(known)
        for leaf, row in zip(self.program.live, rows, strict=False):
            leaves[leaf] = row
        return emit([graph[leaf] for leaf in self.program.live], leaves, self.width)

    def _load(self, references, problem) -> list[Array]:
        nodes = self.program.leaves[len(self.program.entries) :]
        rows = [references[array][row, problem] for array, row in self.given.entries]
        return [row.astype(node.dtype) for row, node in zip(rows, nodes, strict=False)]

    def _report(self, references, problem, rows, ended):
        """Write out the lanes that have ended. The others are given the spare entry, but do not write there either."""
        live, problem = self.program.live, jnp.where(ended, problem, self.size)
        reported = [rows[live.index(row)] for name in _FIELDS for row in self.program.rows_of(name)]
        for (array, of), row in zip(self.reported.entries, reported, strict=True):
            triton.store(references[array], of, problem, row.astype(self.reported.dtypes[array]), ended)


def _stored(leaf: Array) -> Array:
    """Bools as integers."""
    return leaf.astype(jnp.int32) if leaf.dtype == bool else leaf


def tiles(batch: int) -> int:
    """How many tiles of a kernel share a batch: enough to fill a GPU, and not so many that lanes have few problems."""
    all_at_once = -(-batch // WIDTH)
    return min(all_at_once, max(_FEWEST_TILES, all_at_once // _REFILLS))


def run(program: Program, queue: Queue, shared: tuple[Array, ...], *, interpret: bool = False) -> Outcome:
    """Solve every problem of the queue.

    Args:
        program: what a lane does.
        queue: the problems, without `states` or `order`.
        shared: the leaves that all problems share.
        interpret: emulate the kernel, on any platform.
    """
    size, count, limits = queue.size, tiles(queue.size), queue.limits
    limits = limits._replace(atol=_SHARPER * limits.atol, rtol=_SHARPER * limits.rtol)
    columns = lambda leaf: list(leaf.reshape(size, -1).T)  # noqa: E731
    given = [row for leaf in (queue.start, *limits, *queue.mapped) for row in columns(leaf)]
    of_state = [program.leaves[row].dtype for name in _FIELDS for row in program.rows_of(name)]
    layout, reported = Layout.of([row.dtype for row in given]), Layout.of(of_state)
    cost = 1 + round(program.operations(program.begin) / program.operations(program.step))
    flat = [_stored(leaf.ravel()) for leaf in shared if leaf.size]
    sizes = tuple(leaf.size for leaf in flat)
    kernel = _Kernel(program, layout, reported, sizes, size, -(-size // count), WIDTH, cost)
    rows = [sum(array == k for array, _ in reported.entries) for k in range(len(reported.dtypes))]
    out = [jax.ShapeDtypeStruct((row, size + 1), dtype) for row, dtype in zip(rows, reported.dtypes, strict=True)]
    arrays = triton.launch(kernel, count, WIDTH, [*layout.pack(given), *flat], out, interpret)
    rows = [arrays[array][row, :size] for array, row in reported.entries]
    n = len(program.rows_of("x"))
    first_error, status, steps, evaluations = rows[n:]
    return Outcome(jnp.stack(rows[:n], axis=-1), status, steps, evaluations, first_error, record=(), states=None)
