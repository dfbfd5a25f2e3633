"""One batch on many devices: each has its share of the problems and loops on its own; nothing travels between them.

It works for any function that maps a batch along the leading axis of its arguments to results with
the same leading axis, as `root`, `minimize` and `multistart` do.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxopt_lite.arguments import whole_number
from jaxopt_lite.cores import cores
from jaxopt_lite.lanes.rows import batch_size

__all__ = ["check_together", "over_devices", "use_cpu_cores"]


def use_cpu_cores(count: int | None = None) -> int:
    """Make each CPU core a device of JAX, for `over_devices`. One process then computes on all of them.

    Call it first: JAX makes its devices when it first needs one.

    Args:
        count: how many devices; by default as many as this process may use cores.

    Returns:
        The number of devices.

    Raises:
        ValueError: a count that is no whole number, or below 1.
        RuntimeError: JAX has already started, with another number of CPU devices.

    Example:
        >>> import jaxopt_lite as jol
        >>> jol.use_cpu_cores()  # doctest: +SKIP
        2
    """
    count = cores() if count is None else whole_number("count", count, least=1)
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
        mesh: over which devices, along all axes of the mesh; by default that of `jax.set_mesh`, if
            it is set, or else all there are, also those of other processes.

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

    @jax.jit
    def solve_all(*batches):
        size = batch_size(batches, "the arguments")
        if size == 0:
            return solve(*batches)
        over = _mesh_around(batches) if mesh is None else mesh
        share, whole = PartitionSpec(over.axis_names), PartitionSpec()
        # The check of which results vary over the mesh has no rule for some of what a solver uses.
        divided = jax.shard_map(solve, mesh=over, in_specs=share, out_specs=share, check_vma=False)
        filler = -size % over.size
        if filler:
            batches = _with_copies(_placed(batches, over, whole), filler)
        results = divided(*_placed(batches, over, share))
        return jax.tree.map(lambda leaf: leaf[:size], _placed(results, over, whole)) if filler else results

    return solve_all


def check_together(**arguments: PyTree) -> None:
    """Refuse arrays that are divided over devices, over which one loop cannot be, by the names of the arguments.

    XLA would try: on a CPU its compiler fails. What is inside a `jax.jit` says where it is on explicit axes alone.

    Raises:
        ValueError: an argument with such an array.
    """
    for name, tree in arguments.items():
        for leaf in jax.tree.leaves(tree):
            sharding = getattr(leaf, "sharding", None)
            if isinstance(sharding, NamedSharding) and _is_apart(leaf, sharding):
                raise ValueError(
                    f"{name} has an array on the mesh {dict(sharding.mesh.shape)}; expected one device. Each part is "
                    "solved where it is by jol.over_devices(lambda x0, args: jol.minimize(fun, x0, args))(x0, args). "
                    "What all problems share is whole on every device by jax.sharding.PartitionSpec()."
                )


def _is_apart(leaf: Any, sharding: NamedSharding) -> bool:
    """Whether an array is divided over the cores of a CPU, or typed as divided, or as of a mesh that is not around."""
    typed = jax.typeof(leaf).sharding
    if AxisType.Explicit in typed.mesh.axis_types:
        return any(axis is not None for axis in typed.spec) or jax.sharding.get_abstract_mesh().empty
    if isinstance(leaf, Tracer) or sharding.is_fully_replicated:
        return False
    return next(iter(sharding.device_set)).platform == "cpu"


def _mesh_around(batches: PyTree) -> Any:
    """The mesh that the program is in, or that these are typed with; else all devices."""
    meshes = [jax.sharding.get_abstract_mesh(), *(jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(batches))]
    found = next((each for each in meshes if not each.empty), None)
    return Mesh(np.asarray(jax.devices()), ("batch",)) if found is None else found


def _placed(batches: PyTree, mesh: Any, spec: PartitionSpec) -> PyTree:
    """The same, with this for their type where where arrays are is part of that: along explicit axes of the mesh."""
    explicit = [name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit]
    if not explicit:
        return batches
    spec = PartitionSpec(tuple(explicit)) if spec else spec  # of the other axes the compiler knows
    return jax.tree.map(lambda leaf: jax.reshard(leaf, NamedSharding(mesh, spec)), batches)


def _with_copies(batches, count: int):
    """With `count` copies of the last problem behind it."""

    def extend(leaf):
        return jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (count, *leaf.shape[1:]))])

    return jax.tree.map(extend, batches)
