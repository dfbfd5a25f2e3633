"""The batch solves lower for accelerators that this machine need not have."""

from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxopt_lite as jol

pytestmark = pytest.mark.hardly_optimized


def _rosenbrock(x, steepness):
    return jnp.sum(steepness * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _cubic(x, a):
    return x**3 - a


# A new function each time, here and below, so that what was traced for another platform is not found again.
SOLVES = {
    "bfgs": lambda x, a: jol.minimize(partial(_rosenbrock), x, a[:, 0], backend="loop").x,
    "lbfgs": lambda x, a: jol.minimize(partial(_rosenbrock), x, a[:, 0], solver=jol.LBFGS(), backend="loop").x,
    "broyden": lambda x, a: jol.root(partial(_cubic), x, a, backend="loop").x,
    "limited broyden": lambda x, a: jol.root(partial(_cubic), x, a, solver=jol.LimitedBroyden(), backend="loop").x,
    "gradient": lambda x, a: jax.grad(lambda a: jnp.sum(jol.root(partial(_cubic), x, a, backend="loop").x))(a),
}
# platform of XLA: what JAX calls it
PLATFORMS = {"cuda": "gpu", "tpu": "tpu"}


def _lowered(solve, platform: str, *specs) -> str:
    """The program that JAX would make where it finds such a device."""
    with mock.patch.object(jax, "default_backend", lambda: PLATFORMS[platform]):
        exported = export.export(jax.jit(lambda *arrays: solve(*arrays)), platforms=(platform,))(*specs)
    assert exported.platforms == (platform,)
    return exported.mlir_module()


@pytest.mark.parametrize(
    "name, platform",
    [
        pytest.param(
            name, platform, marks=() if platform == "cuda" or name in ("bfgs", "broyden") else pytest.mark.slow
        )
        for platform in PLATFORMS
        for name in SOLVES
    ],
)
def test_a_solve_lowers_for_an_accelerator(name, platform):
    spec = jax.ShapeDtypeStruct((1000, 3), jnp.float32)
    text = _lowered(SOLVES[name], platform, spec, spec)
    assert "while" in text and "scatter" in text and "small_call" not in text  # and not what a CPU gets


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", SOLVES)
def test_the_loop_lowers_for_any_number_of_unknowns(name, platform, dtype):
    """Also where a GPU would take a kernel, and far beyond."""
    for n in (1, 2, 5, 8, 12, 13, 33, 100):
        spec = jax.ShapeDtypeStruct((1000, n), dtype)
        text = _lowered(SOLVES[name], platform, spec, spec)
        assert "while" in text and "triton" not in text, n


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_a_solve_that_is_a_kernel_on_cuda_is_a_loop_elsewhere(platform):
    spec = jax.ShapeDtypeStruct((100, 2), jnp.float32)
    solve = lambda x, a: jol.minimize(_rosenbrock, x, a[:, 0], backend="kernel").x
    exported = export.export(jax.jit(solve), platforms=(platform,))(spec, spec)
    assert "triton" not in exported.mlir_module() and "while" in exported.mlir_module()


def test_a_kernel_exports_for_cuda():
    gpu = jax.sharding.AbstractDevice(device_kind="NVIDIA H100", platform="cuda", num_cores=132)
    spec = jax.ShapeDtypeStruct((100, 2), jnp.float32)
    solve = lambda x, a: jol.root(_cubic, x, a, backend="kernel").x
    allowed = [export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")]
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("d",), abstract_device=gpu)):
        exported = export.export(jax.jit(solve), platforms=("cuda",), disabled_checks=allowed)(spec, spec)
    assert exported.mlir_module().count("xla.gpu.triton") == 1


def test_a_size_that_is_not_known_is_named():
    (count,) = export.symbolic_shape("count")
    for x, a, name in ((count, 3, "x0"), (3, count, "args")):
        specs = [jax.ShapeDtypeStruct((size, 2), jnp.float32) for size in (x, a)]
        with pytest.raises(ValueError, match=rf"^{name} has shape \(count, 2\); expected sizes that are known"):
            export.export(jax.jit(lambda x, a: jol.root(_cubic, x, a)))(*specs)
    mapped = jax.vmap(lambda a: jol.root(_cubic, jnp.ones_like(a), a, batched=False).x)
    with pytest.raises(ValueError, match=r"^the batch that `vmap` maps .* has shape \(count,\); expected sizes"):
        export.export(jax.jit(mapped))(jax.ShapeDtypeStruct((count, 2), jnp.float32))


def test_a_solution_goes_through_serialization():
    pytest.importorskip("flatbuffers")
    a = jnp.linspace(1.0, 2.0, 8).reshape(4, 2)
    solve = jax.jit(lambda a: jol.root(_cubic, jnp.ones_like(a), a, solver=jol.Broyden(rescue=False), record=3))
    found, expected = export.deserialize(export.export(solve)(a).serialize()).call(a), solve(a)
    assert found.success.all() and isinstance(found, jol.Solution)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
