"""Second moments XᵀX of the inputs of layers: of whatever a model multiplies its matrices with.

The model is any JAX function. Its matrices are followed through the jaxpr, past casts, transposes and calls, to the
products in which they are used.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxopt_lite.jaxprs import Equation, Interpreter, bind, called
from jaxopt_lite.lanes.arithmetic import at_least_float32
from jaxopt_lite.lanes.capture import Signature, run
from jaxopt_lite.specialists.adapters import Adapter, Parameters
from jaxopt_lite.specialists.leaves import named_leaves
from jaxopt_lite.specialists.sums import weighted_mean
from jaxopt_lite.specialists.tasks import Task, of_tasks

__all__ = ["moments"]

Moments = dict[str, tuple[int, Float[Array, "T m m"]]]


class _Leaf(NamedTuple):
    """The leaf that a value is a view of: its axis k is axis `order[k]` of the leaf."""

    name: str
    order: tuple[int, ...]


class _Found(NamedTuple):
    """XᵀX by leaf and the axis summed over, and the leaves that are used in other ways too."""

    products: dict[tuple[str, int], Array]
    elsewhere: set[str]


def moments(apply: Callable, adapter: Adapter, params: PyTree, a: Parameters, tasks: list[Task]) -> Moments:
    """The second moments of the inputs of the layers whose matrix is multiplied along one axis only.

    Args:
        apply: `apply(params, x)`, for one input.
        adapter: what changes the parameters.
        params: the parameters of the base.
        a: the parameters of the adapters of T tasks, `[T, ...]`.
        tasks: their examples.

    Returns:
        For each such matrix the axis that is summed over, and for each task the mean of XᵀX over its examples.
    """
    elsewhere: set[str] = set()

    def products(params, x):
        found = _found(apply, params, x)
        elsewhere.update(found.elsewhere)
        return found.products

    sides = list(jax.eval_shape(products, params, jax.tree.map(lambda leaf: leaf[0], tasks[0].x)))
    times = Counter(name for name, _ in sides)
    alone = {name: axis for name, axis in sides if times[name] == 1 and name not in elsewhere}

    changed = jax.eval_shape(adapter.apply, params, jax.tree.map(lambda leaf: leaf[0], a))
    function = apply, Signature.of(changed, tasks[0].x, mapped=(0, 1))

    def of_bucket(indices, task):
        mine = jax.tree.map(lambda leaf: leaf[indices], a)
        return run(_of_bucket, (adapter,), [function], params, mine, task)

    means = of_tasks(of_bucket, tasks)
    return {name: (axis, means[name, axis]) for name, axis in alone.items()}


def _of_bucket(apply, adapter: Adapter, params, a, task: Task):
    def of_task(args):
        a, task = args
        changed = adapter.apply(params, a)
        return weighted_mean(lambda x: _found(apply, changed, x).products, task.x, task.weight)

    return jax.lax.map(of_task, (a, task))


def _found(apply: Callable, params: PyTree, x: PyTree) -> _Found:
    leaves = named_leaves(params).items()
    inputs = [_Followed(leaf, _Leaf(name, tuple(range(jnp.ndim(leaf))))) for name, leaf in leaves]
    inputs += [_Followed(leaf, None) for leaf in jax.tree.leaves(x)]
    search = _Search()
    outputs = search.run(jax.make_jaxpr(apply)(params, x), inputs)
    search.found.elsewhere.update(output.leaf.name for output in outputs if output.leaf is not None)
    return search.found


class _Followed(NamedTuple):
    """A value, and the leaf that it is a view of, if it is one."""

    value: Any
    leaf: _Leaf | None


class _Search(Interpreter):
    """Evaluates jaxprs, follows leaves through them and notes their products."""

    def __init__(self):
        self.found = _Found({}, set())

    def constant(self, value: Any) -> _Followed:
        return _Followed(value, None)

    def results(self, equation: Equation, values: list[_Followed]) -> Sequence[_Followed]:
        inner = called(equation)
        if inner is not None:
            return self.call(inner, values)
        arrays, leaves = [each.value for each in values], [each.leaf for each in values]
        results = bind(equation, arrays)
        return list(map(_Followed, results, _follow(equation, arrays, leaves, self.found)))


def _follow(eqn, values: list, known: list[_Leaf | None], found: _Found) -> list[_Leaf | None]:
    """The leaves that the results are views of. A product is noted, and so is a leaf that is used in another way."""
    nothing: list[_Leaf | None] = [None] * len(eqn.outvars)
    used: list[_Leaf] = [leaf for leaf in known if leaf is not None]
    if not used:
        return nothing
    if eqn.primitive.name == "convert_element_type":
        return [*used]
    if eqn.primitive.name == "transpose":
        return [_Leaf(used[0].name, tuple(used[0].order[k] for k in eqn.params["permutation"]))]
    if eqn.primitive.name == "dot_general" and len(used) == 1 and _note(eqn, values, known, found):
        return nothing
    found.elsewhere.update(leaf.name for leaf in used)
    return nothing


def _note(eqn, values: list, known: list[_Leaf | None], found: _Found) -> bool:
    """Add XᵀX if this is a product with a matrix; whether it is."""
    side = 0 if known[0] is not None else 1
    leaf, x = known[side], values[1 - side]
    contracted, batched = eqn.params["dimension_numbers"]
    if leaf is None or len(leaf.order) != 2 or batched[side] or len(contracted[side]) != 1:
        return False
    rows = jnp.moveaxis(x, contracted[1 - side][0], -1).reshape(-1, x.shape[contracted[1 - side][0]])
    rows = rows.astype(at_least_float32(rows.dtype))
    key = leaf.name, leaf.order[contracted[side][0]]
    xx = jnp.matmul(rows.T, rows, precision="highest")
    found.products[key] = found.products[key] + xx if key in found.products else xx
    return True
