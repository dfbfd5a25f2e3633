"""One batch on many devices: each has its share of the problems and loops on its own; nothing travels between them.

It works for any function that maps a batch along the leading axis of its arguments to results with
the same leading axis, as `root`, `minimize` and `multistart` do.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree

from jaxopt_lite.cores import cores
from jaxopt_lite.lanes.rows import batch_size

__all__ = ["over_devices", "use_cpu_cores"]


def use_cpu_cores(count: int | None = None) -> int:
    """Make each CPU core a device of JAX, for `over_devices`. One process then computes on all of them.

    Call it first: JAX makes its devices when it first needs one.

    Args:
        count: how many devices; by default as many as this process may use cores.

    Returns:
        The number of devices.

    Raises:
        ValueError: a count below 1.
        RuntimeError: JAX has already started, with another number of CPU devices.

    Example:
        >>> import jaxopt_lite as jol
        >>> jol.use_cpu_cores()  # doctest: +SKIP
        2
    """
    count = cores() if count is None else count
    if count < 1:
        raise ValueError(f"count={count}: expected at least one device.")
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:
        there = len(jax.local_devices(backend="cpu"))
        if there != count:
            raise RuntimeError(
                f"use_cpu_cores() came too late: JAX has already started, with {there} CPU device{'s' * (there > 1)}, "
                f"and not {count}. Call it before anything computes, in the first lines of the program."
            ) from error
    return count


def over_devices(solve: Callable[..., PyTree], mesh: Mesh | None = None) -> Callable[..., PyTree]:
    """`solve`, with the batch divided over devices.

    Every device solves its own share, in a loop of its own that ends when its own problems have ended. Inputs that
    are already divided like this stay where they are. Where the number of devices does not divide that of the
    problems, the last problem is repeated until it does, and the copies are cut off again.

    Args:
        solve: `solve(x0, args, ...)`, whose arguments are pytrees with a leading batch axis, as are its results; for
            instance `lambda x0, args: jol.minimize(fun, x0, args)`. What all problems share, it closes over.
        mesh: over which devices, along all axes of the mesh; by default all there are, also those of other processes.

    Returns:
        A function of the same arguments, jitted, whose results are divided over the devices.

    Raises:
        ValueError: from the function, for batch axes that disagree.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> bowl = lambda x, a: jnp.sum((x - a) ** 2)
        >>> solve = jol.over_devices(lambda x0, a: jol.minimize(bowl, x0, a))
        >>> bool(solve(jnp.zeros((10, 2)), jnp.ones((10, 2))).success.all())
        True
    """
    if mesh is None:
        mesh = Mesh(np.asarray(jax.devices()), ("batch",))
    share = PartitionSpec(mesh.axis_names)
    # The check of which results vary over the mesh has no rule for some of what a solver uses.
    divided = jax.shard_map(solve, mesh=mesh, in_specs=share, out_specs=share, check_vma=False)

    @jax.jit
    def solve_all(*batches):
        size = batch_size(batches, "the arguments")
        if size == 0:
            return solve(*batches)
        filler = -size % mesh.size
        results = divided(*(_with_copies(batches, filler) if filler else batches))
        return jax.tree.map(lambda leaf: leaf[:size], results) if filler else results

    return solve_all


def _with_copies(batches, count: int):
    """With `count` copies of the last problem behind it."""

    def extend(leaf):
        return jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (count, *leaf.shape[1:]))])

    return jax.tree.map(extend, batches)
