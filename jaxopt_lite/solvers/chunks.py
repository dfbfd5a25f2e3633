"""Long batches in chunks, on the host: progress is shown, Ctrl-C keeps what is done, and the rest can follow later."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import keystr, tree_leaves_with_path
from jaxtyping import PyTree

from jaxopt_lite.arguments import whole_number
from jaxopt_lite.lanes.batch import off_host, on_host
from jaxopt_lite.lanes.rows import batch_size
from jaxopt_lite.lanes.status import Status, is_solved
from jaxopt_lite.progress import interruptible, progress_bar
from jaxopt_lite.solvers.solution import Solution

__all__ = ["in_chunks"]


def in_chunks(
    solve: Callable[[PyTree, PyTree], Solution],
    x0: PyTree,
    args: PyTree = None,
    *,
    chunk: int = 65_536,
    progress: bool | None = None,
    done: Solution | None = None,
) -> Solution:
    """Solve a long batch chunk by chunk. All chunks have one size, so that only the first compiles.

    Args:
        solve: `solve(x0, args) -> Solution` for a chunk, for instance
            `lambda x0, args: jol.minimize(fun, x0, args)`.
        x0: starts; leaves `[B, ...]`, arrays or memory maps.
        args: leaves `[B, ...]`; what all problems share belongs in `solve`.
        chunk: how many problems to solve at a time.
        progress: whether to show a progress bar, with the share solved so far. Default: on a terminal and in a
            notebook.
        done: what an earlier call for the same problems returned or, as the attribute `done` of its error, left; only
            its `NOT_STARTED` problems are solved.

    Returns:
        The solution of the whole batch, as NumPy arrays, but for random keys. After Ctrl-C the problems not reached
        have the status `NOT_STARTED` and NaN for an answer. An error that `solve` raises in a later chunk has such a
        solution as its attribute `done`.

    Raises:
        ValueError: batch axes that disagree, a `chunk` below 1, a `done` of other problems, or a `solve` that returns
            more or fewer problems than it was given.
        TypeError: `solve` is not a function or returns no `Solution`, `done` is not one, or `x0` or `args` are traced.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> bowl = lambda x, a: jnp.sum((x - a) ** 2)
        >>> a = jnp.arange(20.0).reshape(10, 2)
        >>> solve = lambda x0, a: jol.minimize(bowl, x0, a)
        >>> sol = jol.in_chunks(solve, jnp.zeros((10, 2)), a, chunk=4, progress=False)
        >>> bool(sol.success.all())
        True
    """
    _check_given(solve, x0, args, done)
    size = batch_size((x0, args), "x0 and args")
    chunk = whole_number("chunk", chunk, least=1)
    if done is not None and np.shape(done.status) != (size,):
        raise ValueError(f"done has the batch shape {np.shape(done.status)}; expected that of x0, {(size,)}.")
    todo = np.arange(size) if done is None else np.flatnonzero(np.asarray(done.status) == Status.NOT_STARTED)
    chunk = min(chunk, max(todo.size, 1))
    result: Solution | None = None if done is None else jax.tree.map(lambda leaf: np.array(on_host(leaf)), done)
    like = done
    solved, end = 0, max(todo.size, 1) if done is None else todo.size  # an empty batch has a solution too
    with interruptible(), progress_bar(progress) as bar:
        task = bar.add_task("solving", total=todo.size)
        try:
            for start in range(0, end, chunk):
                index = todo[start : start + chunk]
                found = _solve_chunk(solve, x0, args, index, chunk)
                part = jax.tree.map(lambda leaf, count=index.size: on_host(leaf)[:count], found)
                if result is None:
                    like, result = found, _not_started(part, size)
                _check_same_form(result, part)
                _store(result, part, index)
                solved += int(np.sum(part.success))
                share = solved / max(start + index.size, 1)
                bar.update(task, advance=index.size, description=f"solved {share:.2%}")
        except KeyboardInterrupt:
            if result is None:
                raise
            bar.update(task, description="stopped")
        except Exception as error:
            _keep(result, like, error)
            raise
    return _whole(result, like)  # pyright: ignore[reportArgumentType]  # where done is None the loop runs at least once


def _check_given(solve, x0: PyTree, args: PyTree, done) -> None:
    """Raises TypeError unless `solve` is a function, `done` a solution or None, and no input is traced."""
    if not callable(solve):
        raise TypeError(f"solve is {type(solve).__name__}; expected a function solve(x0, args) -> Solution.")
    if not isinstance(done, Solution | None):
        raise TypeError(f"done is {type(done).__name__}; expected a Solution, what an earlier call returned, or None.")
    for name, tree in (("x0", x0), ("args", args)):
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree)):
            raise TypeError(
                f"{name} is traced by a jax.jit, jax.grad or jax.vmap around in_chunks, which runs on the host: "
                "expected arrays. Call it outside, or `minimize` itself inside."
            )


def _keep(result: Solution | None, like: Solution | None, error: Exception) -> None:
    """Let an error carry what was solved before it."""
    if result is not None:
        error.done = _whole(result, like)  # pyright: ignore[reportAttributeAccessIssue]
        error.add_note("The attribute `done` of this error holds what was solved: in_chunks(done=…) solves the rest.")


def _solve_chunk(solve, x0: PyTree, args: PyTree, index: np.ndarray, chunk: int) -> Solution:
    """The solution of these problems, and behind them, where the last chunk is short, copies of its first problem."""
    filler = np.full(chunk - index.size, index[0]) if index.size else np.empty(0, int)
    rows = np.concatenate([index, filler]).astype(int)
    solution = solve(*jax.tree.map(lambda leaf: leaf[rows], (x0, args)))
    if not isinstance(solution, Solution):
        raise TypeError(f"solve returned {type(solution).__name__}; expected a Solution, such as `minimize` returns.")
    if np.shape(solution.status) != rows.shape:
        raise ValueError(
            f"solve returned a solution of shape {np.shape(solution.status)}; expected one of the problems it was "
            f"given, {rows.shape}."
        )
    return solution


def _check_same_form(result: Solution, part: Solution) -> None:
    """Reject a `done` whose arrays differ in shape or dtype, which would round these answers or repeat them to fit."""
    before, now = (
        {keystr(path): (leaf.shape[1:], leaf.dtype.name) for path, leaf in tree_leaves_with_path(each)}
        for each in (result, part)
    )
    for name in before | now:
        if before.get(name) != now.get(name):
            raise ValueError(
                f"done{name} has {before.get(name)} as shape and dtype per problem; expected those that `solve` "
                f"returns, {now.get(name)}. Pass what an earlier call for the same problems returned."
            )


def _store(result: Solution, part: Solution, index: np.ndarray) -> None:
    """Put the answers of a chunk in their rows, the statuses last: if interrupted before that, they are not started."""

    def put(whole, part):
        if whole is not result.status:
            whole[index] = part

    jax.tree.map(put, result, part)
    result.status[index] = part.status


def _whole(result: Solution, like: Solution | None) -> Solution:
    """The solution, with `success` set by the statuses alone, and with random keys as keys again."""
    result.success[:] = is_solved(result.status)
    return jax.tree.map(off_host, result, like)


def _not_started(like: Solution, size: int) -> Solution:
    """A solution of this size in which no problem was started."""

    def blank(leaf):
        fill = np.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0  # NumPy does not know bfloat16
        return np.full((size, *leaf.shape[1:]), fill, leaf.dtype)

    blank_solution = jax.tree.map(blank, like)
    blank_solution.status[:] = Status.NOT_STARTED
    return blank_solution
