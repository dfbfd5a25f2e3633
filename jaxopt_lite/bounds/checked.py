"""Runs a function with every index checked, and raises where JAX would clamp, drop or fill.

JAX's own `checkify.index_checks` is not enough: it fails on a scatter under `vmap`, on `vmap` of a
loop, on `jax.checkpoint` and on narrow index types, lets a scatter-subtract pass, and does not say where. So
the function's jaxpr is evaluated with a `checkify.check` in front of each access; checkify then carries the
first failure out.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.experimental import checkify
from jax.sharding import PartitionSpec
from jaxtyping import Array

from jaxopt_lite.bounds.accesses import Computed, access_of, body_of, index_given, indices_of, line_of_access
from jaxopt_lite.jaxprs import Equation, Interpreter, Scan, While, bind, branches, inner_jaxprs

__all__ = ["OutOfRangeError", "checked"]


class OutOfRangeError(IndexError):
    """An index was out of range, where JAX alone would have gone on with another element or none."""


_MARK = "index out of range at "


def checked(fun: Callable) -> Callable:
    """Make a function that raises when an index is out of range.

    The function is compiled with a check in front of every gather, scatter, dynamic slice and switch, also
    inside calls, loops and branches, and runs to its end; the first access out of range is then raised. For
    tests: the checks cost time, and each new shape compiles again. As under `jax.jit`, globals and captured
    arrays are read when it compiles; where they have changed since, call `checked` again.

    It must be the outermost transformation, because raising happens on the host: `checked(jax.jit(f))`,
    `checked(jax.vmap(f))`, `checked(jax.grad(f))`, not the other way round.

    - An index counts as JAX sees it, after a negative one has had the length added: `x[-7]` of 5 elements is
      index -2. One that `lax.switch`, `jnp.bincount`, `jnp.insert` or `jnp.delete` would clip counts as it was
      before. So does a negative index whose type is too narrow to add the length, such as an int8 of -1 into
      300 elements: JAX alone reads element 43.
    - A write that is dropped on purpose (`mode="drop"`) counts as well: send it to a spare slot instead.
    - Under `vmap`, `cond` runs both branches and `while_loop` keeps running lanes that have ended; an index out
      of range there counts although its result is thrown away.
    - Not reported: JAX functions that go out of range on purpose, such as `jnp.nonzero(size=)`.
    - Not checked: references (Pallas kernels, `jax.new_ref`); programs that `jax.export` made; the solver
      functions inside `jnp.linalg.solve` and its relatives (`find_unchecked` does search them); the indices
      given to `jnp.unravel_index` and, with it, `jnp.put`; those of `jnp.insert` and `jnp.delete` in the
      derivative of a loop; a switch of one branch. `lax.switch`, `jax.ops.segment_sum` and accesses by uint64
      see only the last 32 bits of an index.

    Args:
        fun: any function that JAX can compile. Bind arguments that must stay Python values with
            `functools.partial`.

    Returns:
        A function of the same arguments with the same result.

    Raises:
        OutOfRangeError: from the returned function; names the source line, the index and the range it must be
            in.
        TypeError: from the returned function, if it is traced by an outer transformation.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite import bounds
        >>> lookup = bounds.checked(lambda x, i: x[i])
        >>> float(lookup(jnp.arange(5.0), 4))
        4.0
    """

    def instrumented(*args, **kwargs):
        # A new function each time: for one that it has traced, JAX returns the old trace, even if globals have changed.
        anew = jax.make_jaxpr(lambda *args, **kwargs: fun(*args, **kwargs), return_shape=True)
        jaxpr, shape = anew(*args, **kwargs)
        outs = _Checks().run_arrays(jaxpr, jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(shape), outs)

    compiled = jax.jit(checkify.checkify(instrumented, errors=checkify.user_checks))

    @functools.wraps(fun)
    def call(*args, **kwargs):
        _refuse_tracers((args, kwargs))
        error, result = compiled(*args, **kwargs)
        _refuse_tracers((error, result))
        message = error.get()
        if message is not None and _MARK in message:
            raise OutOfRangeError(message.replace(" (`check` failed)", ""))
        error.throw()  # a check of the function's own
        return result

    return call


def _refuse_tracers(values):
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values)):
        raise TypeError(
            "checked: expected to be the outermost transformation, got traced values; "
            "write checked(jax.jit(f)), checked(jax.vmap(f)) or checked(jax.grad(f))"
        )


@dataclass(frozen=True, eq=False)
class _Number(Computed):
    """A variable's array and, where known, the equation that computed it and that equation's operands."""

    array: Array
    equation: Equation | None = None
    args: "tuple[_Number, ...]" = ()


def _numbers(arrays: Iterable[Array]) -> list[_Number]:
    return list(map(_Number, arrays))


def _arrays(numbers: Iterable[_Number]) -> list[Array]:
    return [number.array for number in numbers]


class _Checks(Interpreter):
    """Evaluates jaxprs with a check in front of each access."""

    def constant(self, value: Any) -> _Number:
        return _Number(value)

    def results(self, equation: Equation, values: list[_Number]) -> Sequence[_Number]:
        with equation.ctx.manager:  # settings that were in force where it was traced
            _check(equation, values)
            control = _CONTROL.get(equation.primitive.name)
            if control is not None:
                return _numbers(control(self, equation, values))
            inner = body_of(equation)
            if inner is not None:
                return self.call(inner, values)
            return [_Number(result, equation, tuple(values)) for result in bind(equation, _arrays(values))]

    def run_arrays(self, jaxpr: Any, arrays: Iterable[Array]) -> list[Array]:
        """Evaluate a jaxpr on arrays."""
        return _arrays(self.run(jaxpr, _numbers(arrays)))


def _check(equation: Equation, values: list[_Number]) -> None:
    """A check for each axis that the equation indexes."""
    access = access_of(equation)
    if access is None:
        return
    numbers = indices_of(access, values)
    indices = jnp.unstack(values[access.first].array, axis=-1) if access.packed else _arrays(numbers)
    for axis, limit, index, number in zip(access.axes, access.limits, indices, numbers, strict=True):
        given, outcome = index_given(access, axis, number)
        index = jnp.ravel(index if given is number else given.array)
        # A limit that the index type cannot hold is no limit.
        bad = (index < 0) | (index > min(limit, jnp.iinfo(index.dtype).max))
        text = _MARK + _literally(f"{line_of_access()}: expected 0 to {limit}, got ") + "{index}"
        text += _literally(f" ({access.by} on axis {axis} of {access.shape}); unchecked it is {outcome}")
        text += "; " + ("index with a wider type" if outcome == "wrapped" else "guard the index or enlarge the array")
        checkify.check(~jnp.any(bad), text, index=index[jnp.argmax(bad)])


def _literally(text: str) -> str:
    """Text that a format string gives back as it is."""
    return text.replace("{", "{{").replace("}", "}}")


def _cond(checks: _Checks, equation: Equation, values: list[_Number]) -> list[Array]:
    index, *operands = _arrays(values)
    runs = [lambda *args, branch=branch: checks.run_arrays(branch, args) for branch in branches(equation)]
    return lax.switch(index, runs, *operands)


def _scan(checks: _Checks, equation: Equation, values: list[_Number]) -> list[Array]:
    loop = Scan.of(equation, values)

    def step(carried, elements):
        return _arrays(checks.run(loop.body, [*loop.fixed, *_numbers(carried), *_numbers(elements)]))

    def body(carried, elements):
        # Stacked, because checkify itself cannot carry errors that differ between the shards of a mesh.
        error, outs = checkify.checkify(step, errors=checkify.user_checks)(carried, elements)
        return outs[: len(carried)], (error, outs[len(carried) :])

    carried, (errors, stacked) = lax.scan(body, _arrays(loop.carried), _arrays(loop.scanned), **loop.options)
    _check_first(errors, loop.options["length"], loop.options["reverse"])
    return [*carried, *stacked]


def _check_first(errors: checkify.Error, length: int, reverse: bool) -> None:
    """Check the error of the first step that failed, of one per step."""
    (failed, *_), _ = errors.tree_flatten()
    if length and failed:
        fails = jnp.any(jnp.stack(list(failed.values())), axis=0)
        first = length - 1 - jnp.argmax(fails[::-1]) if reverse else jnp.argmax(fails)
        checkify.check_error(jax.tree.map(lambda leaf: leaf[first], errors))


def _while(checks: _Checks, equation: Equation, values: list[_Number]) -> list[Array]:
    loop = While.of(equation, values)

    def goes_on(carried):
        return checks.run(loop.condition, [*loop.for_condition, *_numbers(carried)])[0].array

    def body(carried):
        # Under vmap the condition is one for each lane: a lane that has ended keeps what it has.
        going = goes_on(carried)
        outs = _arrays(checks.run(loop.body, [*loop.for_body, *_numbers(carried)]))
        return [_where(going, new, old) for new, old in zip(outs, carried, strict=True)] if going.ndim else outs

    return lax.while_loop(lambda carried: jnp.any(goes_on(carried)), body, _arrays(loop.carried))


def _where(lanes: Array, new: Array, old: Array) -> Array:
    """`new` on the lanes that are True, `old` on the others; lanes are the leading axes."""
    lanes = lanes.reshape(lanes.shape + (1,) * (new.ndim - lanes.ndim))
    return lax.select(jnp.broadcast_to(lanes, new.shape), new, old)


def _sharded(checks: _Checks, equation: Equation, values: list[_Number]) -> list[Array]:
    """The checks of each shard end within it, and come out as one: JAX fails where two shard maps follow each other."""
    (body,), params = inner_jaxprs(equation), equation.params
    specs = {name: params[name] for name in ("mesh", "in_specs", "check_vma")}
    axes = params["newly_manual_axes"]
    each = PartitionSpec(tuple(name for name in params["mesh"].axis_names if name in axes))

    def shard(*args):
        error, outs = checkify.checkify(lambda *args: checks.run_arrays(body, args), errors=checkify.user_checks)(*args)
        return jax.tree.map(lambda leaf: leaf[None], error), tuple(outs)

    mapped = jax.shard_map(shard, axis_names=axes, out_specs=(each, params["out_specs"]), **specs)
    # A function with its own vmap rule, so that the outer checkify does not apply its rule for shard_map.
    error, outs = jax.custom_batching.sequential_vmap(mapped)(*_arrays(values))
    if jax.sharding.AxisType.Explicit in params["mesh"].axis_types:
        everywhere = jax.sharding.NamedSharding(params["mesh"], PartitionSpec())
        error = jax.tree.map(lambda leaf: jax.sharding.reshard(leaf, everywhere), error)
    checkify.check_error(error)
    return list(outs)


_CONTROL = {"cond": _cond, "scan": _scan, "while": _while, "shard_map": _sharded}
