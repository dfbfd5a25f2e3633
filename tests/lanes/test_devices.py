"""A batch over many devices gives what one device gives, to the bit. Devices are made in a process of their own."""

import functools
import json
import os
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol

pytestmark = pytest.mark.hardly_optimized

SETUP = """
    import jaxopt_lite as jol
    assert jol.use_cpu_cores(8) == 8
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    def bowl(x, a):
        return jnp.sum((x - a) ** 4) + jnp.sum(x**2)
    def tilted(x, a):
        return jnp.arctan(x) - 0.1 * a
    def same(ours, expected):
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(one, other)
    minimize = lambda x0, a: jol.minimize(bowl, x0, a)
    root = lambda x0, a: jol.root(tilted, x0, a, solver=jol.Broyden(rescue=False))
    a = jnp.asarray(np.random.default_rng(0).normal(size=(64, 3)))
    x0 = jnp.zeros((64, 3))
"""


EIGHT_AND_ONE = """
    everywhere = jol.over_devices(root)
    whole, expected = everywhere(x0, a), root(x0, a)
    assert whole.success.all() and len(whole.x.sharding.device_set) == 8
    same(whole, expected)
    assert everywhere(x0[:0], a[:0]).x.shape == (0, 3)
    grid = Mesh(np.asarray(jax.devices()).reshape(4, 2), ("rows", "columns"))
    same(jol.over_devices(root, grid)(x0, a), expected)  # what is known of the function is of no mesh
    same(jol.over_devices(minimize)(x0[:3], a[:3]), minimize(x0[:3], a[:3]))  # fewer than devices
    typed = jax.make_mesh((8,), ("b",), axis_types=(AxisType.Explicit,))
    placed = jax.device_put((x0, a), NamedSharding(typed, P("b")))
    same(jol.over_devices(root, typed)(x0, a), expected)
    same(jol.over_devices(root)(*placed), expected)
    half = jax.make_mesh((4, 2), ("b", "c"), axis_types=(AxisType.Explicit, AxisType.Auto))
    same(jol.over_devices(root, half)(x0, a), expected)
    with jax.set_mesh(typed):
        same(jol.over_devices(root)(x0[:13], a[:13]), jax.tree.map(lambda leaf: leaf[:13], expected))
    divided = jax.device_put(a, NamedSharding(grid, P("rows")))
    starts, atol = x0[:, None], divided[:, 0] ** 2
    for said, solve in {
        "x0 has": lambda: root(*placed), "starts has": lambda: jol.multistart(bowl, placed[0][:, None], a),
        "x0 has ": lambda: jax.jit(root)(*placed),
        "args has  ": lambda: jax.grad(lambda a: root(x0, a).x.sum())(placed[1]),
        "args has": lambda: root(x0, divided), "args has ": lambda: jol.multistart(bowl, starts, divided),
        "solver has": lambda: jol.minimize(bowl, x0, a, solver=jol.BFGS(atol=atol)),
        "upper has": lambda: jol.multistart(bowl, starts, a, bounds=(None, abs(divided))),
        "what fun reads has": lambda: jol.minimize(lambda x, a: bowl(x, a) + divided[0, 0], x0, a),
    }.items():
        try:
            solve()
        except ValueError as error:
            assert f"{said.strip()} an array on the mesh" in str(error)
        else:
            raise AssertionError(said)
    print("same")
"""
NOTHING_TRAVELS = """
    mesh = Mesh(np.asarray(jax.devices()).reshape(4, 2), ("rows", "columns"))
    placed = jax.device_put((x0, a), NamedSharding(mesh, P(("rows", "columns"))))
    everywhere = jol.over_devices(root, mesh)
    program = jax.jit(everywhere).lower(*placed).compile()
    travel = "all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"
    assert not [word for word in travel if word in program.as_text()]
    result = program(*placed)
    assert result.x.sharding.is_equivalent_to(placed[0].sharding, 2)
    same(result, root(x0, a))
    print("stayed")
"""
TOO_LATE = """
    for count, late in ((8, False), (3, True)):
        try:
            jnp.zeros(1).block_until_ready()
            jol.use_cpu_cores(count)
            assert not late
        except RuntimeError as error:
            assert late
            print(error)
"""


@functools.cache
def run(*bodies: str) -> tuple[str, ...]:
    """What each prints, or what goes wrong in it, in a fresh process with eight devices."""
    code = textwrap.dedent(SETUP) + "import contextlib, io, json, traceback\nprinted = []\n"
    for body in map(textwrap.dedent, bodies):
        # Each begins with the names of the setup, and one that fails is no matter of the others.
        code += (
            "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
            f"    try:\n        exec({body!r}, dict(globals()))\n"
            "    except Exception:\n        traceback.print_exc(file=out)\n"
            "printed.append(out.getvalue())\n"
        )
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code + "print(json.dumps(printed))"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def together() -> tuple[str, ...]:
    """What the quick tests ask, in one process: they share the start of JAX, and a program."""
    return run(EIGHT_AND_ONE, NOTHING_TRAVELS, TOO_LATE)


def test_eight_devices_give_the_bits_of_one():
    assert together()[0] == "same\n"


def test_inputs_stay_where_they_are_and_nothing_travels():
    assert together()[1] == "stayed\n"


@pytest.mark.slow
def test_inside_jit_grad_and_chunks_and_with_shared_data():
    (out,) = run(
        """
        some = jol.over_devices(minimize)(x0[:13], a[:13])
        same(some, minimize(x0[:13], a[:13]))  # 8 does not divide it
        scale = jnp.arange(1.0, 4.0)
        def solve(x0, a):
            return jol.minimize(lambda x, a: bowl(x * scale, a), x0, a).x
        def total(solve, a):
            return jnp.sum(solve(x0, a) ** 2)
        ours = jax.jit(jax.grad(lambda a: total(jol.over_devices(solve), a)))(a)
        np.testing.assert_allclose(ours, jax.grad(lambda a: total(solve, a))(a), rtol=1e-12)
        chunked = jol.in_chunks(jol.over_devices(minimize), x0, a, chunk=20, progress=False)
        same(chunked, minimize(x0, a))
        print("composed")
        """
    )
    assert out == "composed\n"


def test_too_late_is_said():
    assert "came too late: JAX has already started with 8 CPU devices, not 3" in together()[2]


def test_one_device_is_a_mesh_too():
    solve = jol.over_devices(lambda x0, a: jol.minimize(lambda x, a: jnp.sum((x - a) ** 2), x0, a))
    a = jnp.arange(6.0).reshape(3, 2)
    np.testing.assert_allclose(solve(jnp.zeros((3, 2)), a).x, a, atol=1e-6)


def test_batches_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"leading axes of the arguments are \[\(2,\), \(3,\)\]; expected one"):
        jol.over_devices(lambda x, a: x + a)(jnp.zeros((3, 2)), jnp.zeros((2, 2)))
    for count in (0, 2.5, True):
        with pytest.raises(ValueError, match=f"count={count}: expected a whole number of at least 1"):
            jol.use_cpu_cores(count)
