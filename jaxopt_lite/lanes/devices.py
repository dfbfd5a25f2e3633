"""One batch on many devices: each solves its share of the problems in its own loop; no data travels between them.

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

    Call it before anything else: JAX creates its devices when it first needs one.

    Args:
        count: how many devices; by default the number of cores that this process may use.

    Returns:
        The number of devices.

    Raises:
        ValueError: `count` is not a whole number, or is below 1.
        RuntimeError: JAX has already started with another number of CPU devices.

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
                f"use_cpu_cores() came too late: JAX has already started with {there} CPU device{'s' * (there > 1)}, "
                f"not {count}. Call it before anything computes, in the first lines of the program."
            ) from error
    return count


def over_devices(solve: Callable[..., PyTree], mesh: Mesh | None = None) -> Callable[..., PyTree]:
    """`solve`, with the batch divided over devices.

    Every device solves its share in its own loop, which ends when its own problems have ended. Inputs that are already
    divided like this stay where they are. If the problems cannot be divided evenly, the last one is repeated until they
    can, and the copies are cut off again.

    Args:
        solve: `solve(x0, args, ...)`, whose arguments are pytrees with a leading batch axis, as are its results; for
            instance `lambda x0, args: jol.minimize(fun, x0, args)`. It closes over what all problems share.
        mesh: the devices, along all axes of the mesh; by default the mesh of `jax.set_mesh`, or else that of the
            arrays' types, or else all devices, including those of other processes.

    Returns:
        A function of the same arguments, jitted, whose results are divided over the devices.

    Raises:
        ValueError: batch axes disagree; raised by the returned function.

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
        # JAX's check of which results vary over the mesh has no rule for some primitives that solvers use.
        divided = jax.shard_map(solve, mesh=over, in_specs=share, out_specs=share, check_vma=False)
        filler = -size % over.size
        if filler:
            batches = _with_copies(_placed(batches, over, whole), filler)
        results = divided(*_placed(batches, over, share))
        return jax.tree.map(lambda leaf: leaf[:size], _placed(results, over, whole)) if filler else results

    return solve_all


def check_together(**arguments: PyTree) -> None:
    """Refuse arrays that are divided over devices, since one loop cannot run over several.

    XLA would try, and its compiler fails on a CPU. Inside a `jax.jit` arrays tell where they are only on explicit axes.

    Raises:
        ValueError: an argument has such an array; the message names it.
    """
    for name, tree in arguments.items():
        for leaf in jax.tree.leaves(tree):
            sharding = jax.typeof(leaf).sharding if isinstance(leaf, Tracer) else getattr(leaf, "sharding", None)
            if isinstance(sharding, NamedSharding) and _is_apart(leaf, sharding):
                raise ValueError(
                    f"{name} has an array on the mesh {dict(sharding.mesh.shape)}; expected one device. To solve each "
                    "part where it is: jol.over_devices(lambda x0, args: jol.minimize(fun, x0, args))(x0, args). Put "
                    "what all problems share on every device, by jax.sharding.PartitionSpec()."
                )


def _is_apart(leaf: Any, sharding: NamedSharding) -> bool:
    """Whether an array is divided over CPU devices, or its type says it is divided or on a mesh that is not set."""
    typed = jax.typeof(leaf).sharding
    if AxisType.Explicit in typed.mesh.axis_types:
        return any(axis is not None for axis in typed.spec) or jax.sharding.get_abstract_mesh().empty
    if isinstance(leaf, Tracer) or sharding.is_fully_replicated:
        return False
    return next(iter(sharding.device_set)).platform == "cpu"


def _mesh_around(batches: PyTree) -> Any:
    """The current mesh, or else that of the arrays' types, or else one of all devices."""
    meshes = [jax.sharding.get_abstract_mesh(), *(jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(batches))]
    found = next((each for each in meshes if not each.empty), None)
    return Mesh(np.asarray(jax.devices()), ("batch",)) if found is None else found


def _placed(batches: PyTree, mesh: Any, spec: PartitionSpec) -> PyTree:
    """The arrays, resharded to `spec` along the explicit axes of the mesh; unchanged if it has none."""
    explicit = [name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit]
    if not explicit:
        return batches
    spec = PartitionSpec(tuple(explicit)) if spec else spec  # of the other axes the compiler knows
    return jax.tree.map(lambda leaf: jax.reshard(leaf, NamedSharding(mesh, spec)), batches)


def _with_copies(batches, count: int):
    """The batches, with `count` copies of the last problem appended."""

    def extend(leaf):
        return jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (count, *leaf.shape[1:]))])

    return jax.tree.map(extend, batches)
