"""Runs a function with every index checked, and raises where JAX would clamp, drop or fill. Uses `jaxprs`.

JAX's own `checkify.index_checks` does not serve for this: it fails on a scatter under `vmap`, on `vmap` of a
loop, on `jax.checkpoint` and on narrow index types, lets a scatter-subtract pass, and does not say where. So
the function's jaxpr is interpreted and a `checkify.check` put in front of each access; checkify then carries
the first failure out.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.experimental import checkify
from jax.extend.core import JaxprEqn, Literal
from jaxtyping import Array

from jaxopt_lite.bounds.jaxprs import (
    Made,
    access_of,
    asked_for,
    called,
    caller_inside,
    indices_of,
    opened,
    place_of,
    scan_split,
)


class OutOfRangeError(IndexError):
    """An index was out of range, where JAX alone would have gone on with another element or none."""


MARK = "index out of range at "


def checked(fun: Callable) -> Callable:
    """Make a function that raises when an index is out of range.

    The function is compiled with a check in front of every gather, scatter, dynamic slice and switch, also
    inside calls, loops and branches, and runs to its end; the first access out of range is then raised. For
    tests: the checks cost time, and each new shape compiles anew.

    It must be the outermost transformation, because raising happens on the host: `checked(jax.jit(f))`,
    `checked(jax.vmap(f))`, `checked(jax.grad(f))`, not the other way round.

    - An index counts as JAX sees it, after a negative one has had the length added: `x[-7]` of 5 elements is
      index -2. One that `lax.switch`, `jnp.bincount`, `jnp.insert` or `jnp.delete` would clip counts as it is
      before. So does a negative index whose type is too narrow to add the length, an int8 of -1 into 300
      elements: JAX alone reads element 43.
    - A write that is dropped on purpose (`mode="drop"`) counts as well: send it to a spare slot instead.
    - Under `vmap`, `cond` runs both branches and `while_loop` also turns the lanes that have ended; an index
      out of range there counts although its result is thrown away.
    - Not checked: Pallas kernels, and the solver functions inside `jnp.linalg.solve` and its relatives, of
      which `find_unchecked` says what it knows; the indices given to `jnp.unravel_index` and, with it,
      `jnp.put`; those of `jnp.insert` and `jnp.delete` in the derivative of a loop; a switch of one branch.
      Of a number beyond 32 bits, `lax.switch`, `jax.ops.segment_sum` and accesses by uint64 see the last 32.

    Args:
        fun: Any function that JAX can compile. Bind arguments that must stay Python values with
            `functools.partial`.

    Returns:
        A function of the same arguments with the same result.

    Raises:
        OutOfRangeError: From the returned function; names the source line, the index and the range it must be
            in.
        TypeError: From the returned function, if it is traced by an outer transformation.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite import bounds
        >>> lookup = bounds.checked(lambda x, i: x[i])
        >>> float(lookup(jnp.arange(5.0), 4))
        4.0
    """

    def instrumented(*args, **kwargs):
        jaxpr, shape = jax.make_jaxpr(fun, return_shape=True)(*args, **kwargs)
        outs = _run(jaxpr, _numbers(jax.tree.leaves((args, kwargs))), None)
        return jax.tree.unflatten(jax.tree.structure(shape), _arrays(outs))

    compiled = jax.jit(checkify.checkify(instrumented, errors=checkify.user_checks))

    @functools.wraps(fun)
    def call(*args, **kwargs):
        _refuse_tracers((args, kwargs))
        error, result = compiled(*args, **kwargs)
        _refuse_tracers((error, result))
        message = error.get()
        if message is not None and MARK in message:
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
class Number(Made):
    """A variable's array and, where known, the equation that computed it and that equation's operands."""

    array: Array
    eqn: JaxprEqn | None = None
    args: "tuple[Number, ...]" = ()


def _numbers(arrays):
    return list(map(Number, arrays))


def _arrays(numbers):
    return [number.array for number in numbers]


def _run(jaxpr, args, caller):
    """Evaluate a jaxpr, closed or not, of `Number`s, with a check in front of each access."""
    inner, consts = opened(jaxpr)
    env = dict(zip([*inner.constvars, *inner.invars], [*_numbers(consts), *args], strict=True))

    def read(atom):
        return Number(atom.val) if isinstance(atom, Literal) else env[atom]

    for eqn in inner.eqns:
        ins = [read(atom) for atom in eqn.invars]
        with eqn.ctx.manager:  # settings that were in force where it was traced
            _check(eqn, ins, caller)
            outs = _evaluate(eqn, ins, caller)
        env |= zip(eqn.outvars, outs, strict=True)
    return [read(atom) for atom in inner.outvars]


def _check(eqn, ins, caller):
    """A check for each axis that the equation indexes."""
    access = access_of(eqn)
    if access is None:
        return
    made = indices_of(access, ins)
    indices = jnp.unstack(ins[access.first].array, axis=-1) if access.packed else _arrays(made)
    for axis, limit, index, number in zip(access.axes, access.limits, indices, made, strict=True):
        given, outcome = asked_for(access, axis, number)
        index = jnp.ravel(index if given is number else given.array)
        # A limit that the index type cannot hold is no limit.
        bad = (index < 0) | (index > min(limit, jnp.iinfo(index.dtype).max))
        text = MARK + _literally(f"{place_of(caller or eqn)}: expected 0 to {limit}, got ") + "{index}"
        text += _literally(f" ({access.by} on axis {axis} of {access.shape}); unchecked it is {outcome}")
        text += "; " + ("index with a wider type" if outcome == "wrapped" else "guard the index or enlarge the array")
        checkify.check(~jnp.any(bad), text, index=index[jnp.argmax(bad)])


def _literally(text):
    """Text that a format string gives back as it is."""
    return text.replace("{", "{{").replace("}", "}}")


def _evaluate(eqn, ins, caller):
    """The results of one equation, with the checks of all that runs inside it."""
    control = CONTROL.get(eqn.primitive.name)
    if control is not None:
        return _numbers(control(eqn, ins, caller))
    jaxpr = called(eqn)
    if jaxpr is not None:
        # Nothing is differentiated any more, so a call with its own derivative, or that saves memory, is just
        # its body.
        return _run(jaxpr, ins, caller_inside(opened(jaxpr)[0], eqn, caller))
    outs = eqn.primitive.bind(*_arrays(ins), **eqn.primitive.get_bind_params(eqn.params))
    return [Number(out, eqn, tuple(ins)) for out in (outs if eqn.primitive.multiple_results else [outs])]


def _run_arrays(jaxpr, args, caller):
    """`_run` of arrays."""
    return _arrays(_run(jaxpr, _numbers(args), caller))


def _cond(eqn, ins, caller):
    index, *operands = _arrays(ins)
    branches = [lambda *args, jaxpr=jaxpr: _run_arrays(jaxpr, args, caller) for jaxpr in eqn.params["branches"]]
    return lax.switch(index, branches, *operands)


def _scan(eqn, ins, caller):
    n_consts, n_carried = scan_split(eqn)
    consts, carried, scanned = (
        ins[:n_consts],
        ins[n_consts : n_consts + n_carried],
        ins[n_consts + n_carried :],
    )

    def body(carried, elements):
        outs = _arrays(_run(eqn.params["jaxpr"], [*consts, *_numbers(carried), *_numbers(elements)], caller))
        return outs[:n_carried], outs[n_carried:]

    settings = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    carried, stacked = lax.scan(body, _arrays(carried), _arrays(scanned), **settings)
    return [*carried, *stacked]


def _while(eqn, ins, caller):
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    cond_consts, body_consts, carried = ins[:n_cond], ins[n_cond : n_cond + n_body], ins[n_cond + n_body :]

    def goes_on(carried):
        return _run(eqn.params["cond_jaxpr"], [*cond_consts, *_numbers(carried)], caller)[0].array

    def body(carried):
        # Under vmap the condition is one for each lane: a lane that has ended keeps what it has.
        going = goes_on(carried)
        outs = _arrays(_run(eqn.params["body_jaxpr"], [*body_consts, *_numbers(carried)], caller))
        return [_where(going, new, old) for new, old in zip(outs, carried, strict=True)] if going.ndim else outs

    return lax.while_loop(lambda carried: jnp.any(goes_on(carried)), body, _arrays(carried))


def _where(lanes, new, old):
    """`new` on the lanes that are True, `old` on the others; lanes are the leading axes."""
    return lax.select(
        jnp.broadcast_to(lanes.reshape(lanes.shape + (1,) * (new.ndim - lanes.ndim)), new.shape), new, old
    )


def _sharded(eqn, ins, caller):
    params = eqn.params
    specs = {name: params[name] for name in ("mesh", "in_specs", "out_specs", "check_vma")}
    axes = params["newly_manual_axes"]

    def shard(*args):
        return tuple(_run_arrays(params["jaxpr"], args, caller))

    return jax.shard_map(shard, axis_names=axes, **specs)(*_arrays(ins))


CONTROL = {"cond": _cond, "scan": _scan, "while": _while, "shard_map": _sharded}
