"""Runs a function with every index checked, and raises where JAX would clamp, drop or fill. Uses `jaxprs`.

JAX's own `checkify.index_checks` does not serve for this: it fails on a scatter under `vmap`, on `vmap` of a
loop, on `jax.checkpoint` and on narrow index types, lets a scatter-subtract pass, and does not say where. So
the function's jaxpr is interpreted and a `checkify.check` put in front of each access; checkify then carries
the first failure out.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.experimental import checkify
from jax.extend.core import Literal

from jaxopt_lite.bounds.jaxprs import access_of, called, caller_inside, opened, place_of, scan_split


class OutOfRangeError(IndexError):
    """An index was out of range, where JAX alone would have gone on with another element or none."""


MARK = "index out of range at "


def checked(fun: Callable) -> Callable:
    """Make a function that raises when an index is out of range.

    The function is compiled with a check in front of every gather, scatter and dynamic slice, also inside
    calls, loops and branches, and runs to its end; the first access that was out of range is then raised. For
    tests: the checks cost time, and each new shape compiles anew.

    It must be the outermost transformation, because raising happens on the host: `checked(jax.jit(f))`,
    `checked(jax.vmap(f))`, `checked(jax.grad(f))`, not the other way round.

    - An index counts as JAX sees it, after a negative one has had the length added: `x[-7]` of 5 elements is
      index -2.
    - A write that is dropped on purpose (`mode="drop"`) counts as well: send it to a spare slot instead.
    - Under `vmap`, `cond` runs both branches and `while_loop` also turns the lanes that have ended; an index
      out of range there counts although its result is thrown away.
    - Not checked: Pallas kernels, and the solver functions inside `jnp.linalg.solve` and its relatives.
      `find_unchecked` says what it knows of these.

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
        outs = _run(jaxpr, jax.tree.leaves((args, kwargs)), None)
        return jax.tree.unflatten(jax.tree.structure(shape), outs)

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


def _run(jaxpr, args, caller):
    """Evaluate a jaxpr, closed or not, with a check in front of each access."""
    inner, consts = opened(jaxpr)
    env = dict(zip([*inner.constvars, *inner.invars], [*consts, *args], strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else env[atom]

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
    first = ins[access.first]
    indices = jnp.unstack(first, axis=-1) if access.packed else ins[access.first :]
    for axis, limit, index in zip(access.axes, access.limits, map(jnp.ravel, indices), strict=True):
        # A limit that the index type cannot hold is no limit.
        bad = (index < 0) | (index > min(limit, jnp.iinfo(index.dtype).max))
        text = MARK + _literally(f"{place_of(caller or eqn)}: expected 0 to {limit}, got ") + "{index}"
        text += _literally(
            f" ({eqn.primitive.name} on axis {axis} of {access.shape}); unchecked it is {access.outcome}"
        )
        text += "; guard the index or enlarge the array"
        checkify.check(~jnp.any(bad), text, index=index[jnp.argmax(bad)])


def _literally(text):
    """Text that a format string gives back as it is."""
    return text.replace("{", "{{").replace("}", "}}")


def _evaluate(eqn, ins, caller):
    """The results of one equation, with the checks of all that runs inside it."""
    control = CONTROL.get(eqn.primitive.name)
    if control is not None:
        return control(eqn, ins, caller)
    jaxpr = called(eqn)
    if jaxpr is not None:
        # Nothing is differentiated any more, so a call with its own derivative, or that saves memory, is just
        # its body.
        return _run(jaxpr, ins, caller_inside(opened(jaxpr)[0], eqn, caller))
    outs = eqn.primitive.bind(*ins, **eqn.primitive.get_bind_params(eqn.params))
    return outs if eqn.primitive.multiple_results else [outs]


def _cond(eqn, ins, caller):
    index, *operands = ins
    branches = [lambda *args, jaxpr=jaxpr: _run(jaxpr, args, caller) for jaxpr in eqn.params["branches"]]
    return lax.switch(index, branches, *operands)


def _scan(eqn, ins, caller):
    n_consts, n_carried = scan_split(eqn)
    consts, carried, scanned = (
        ins[:n_consts],
        ins[n_consts : n_consts + n_carried],
        ins[n_consts + n_carried :],
    )

    def body(carried, elements):
        outs = _run(eqn.params["jaxpr"], [*consts, *carried, *elements], caller)
        return outs[:n_carried], outs[n_carried:]

    settings = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    carried, stacked = lax.scan(body, carried, scanned, **settings)
    return [*carried, *stacked]


def _while(eqn, ins, caller):
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    cond_consts, body_consts, carried = ins[:n_cond], ins[n_cond : n_cond + n_body], ins[n_cond + n_body :]

    def goes_on(carried):
        return _run(eqn.params["cond_jaxpr"], [*cond_consts, *carried], caller)[0]

    def body(carried):
        # Under vmap the condition is one for each lane: a lane that has ended keeps what it has.
        going = goes_on(carried)
        outs = _run(eqn.params["body_jaxpr"], [*body_consts, *carried], caller)
        return [_where(going, new, old) for new, old in zip(outs, carried, strict=True)] if going.ndim else outs

    return lax.while_loop(lambda carried: jnp.any(goes_on(carried)), body, carried)


def _where(lanes, new, old):
    """`new` on the lanes that are True, `old` on the others; lanes are the leading axes."""
    return lax.select(
        jnp.broadcast_to(lanes.reshape(lanes.shape + (1,) * (new.ndim - lanes.ndim)), new.shape), new, old
    )


def _sharded(eqn, ins, caller):
    params = eqn.params
    specs = {name: params[name] for name in ("mesh", "in_specs", "out_specs", "check_vma")}
    axes = params["newly_manual_axes"]
    return jax.shard_map(lambda *args: tuple(_run(params["jaxpr"], args, caller)), axis_names=axes, **specs)(*ins)


CONTROL = {"cond": _cond, "scan": _scan, "while": _while, "shard_map": _sharded}
