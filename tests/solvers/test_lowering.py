"""The batch solves lower for accelerators that this machine need not have."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

import jaxopt_lite as jol


def _rosenbrock(x, steepness):
    return jnp.sum(steepness * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _cubic(x, a):
    return x**3 - a


SOLVES = {
    "bfgs": lambda x, a: jol.minimize(_rosenbrock, x, a[:, 0]).x,
    "lbfgs": lambda x, a: jol.minimize(_rosenbrock, x, a[:, 0], solver=jol.LBFGS()).x,
    "broyden": lambda x, a: jol.root(_cubic, x, a).x,
    "limited broyden": lambda x, a: jol.root(_cubic, x, a, solver=jol.LimitedBroyden()).x,
    "gradient": lambda x, a: jax.grad(lambda a: jnp.sum(jol.root(_cubic, x, a).x))(a),
}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", SOLVES)
def test_a_solve_lowers_for_an_accelerator(name, platform):
    spec = jax.ShapeDtypeStruct((1000, 3), jnp.float32)
    exported = export.export(jax.jit(SOLVES[name]), platforms=(platform,))(spec, spec)
    assert exported.platforms == (platform,)
    assert "while" in exported.mlir_module()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", SOLVES)
def test_the_loop_lowers_for_any_number_of_unknowns(name, platform, dtype):
    """Also where a GPU would take a kernel, and far beyond."""
    for n in (1, 2, 5, 8, 12, 13, 33, 100):
        spec = jax.ShapeDtypeStruct((1000, n), dtype)
        exported = export.export(jax.jit(SOLVES[name]), platforms=(platform,))(spec, spec)
        assert "while" in exported.mlir_module() and "triton" not in exported.mlir_module(), n


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_a_solve_that_is_a_kernel_on_cuda_is_a_loop_elsewhere(platform):
    spec = jax.ShapeDtypeStruct((100, 2), jnp.float32)
    solve = lambda x, a: jol.minimize(_rosenbrock, x, a[:, 0], path="kernel").x
    exported = export.export(jax.jit(solve), platforms=(platform,))(spec, spec)
    assert "triton" not in exported.mlir_module() and "while" in exported.mlir_module()


def test_a_kernel_exports_for_cuda():
    gpu = jax.sharding.AbstractDevice(device_kind="NVIDIA H100", platform="cuda", num_cores=132)
    spec = jax.ShapeDtypeStruct((100, 2), jnp.float32)
    solve = lambda x, a: jol.root(_cubic, x, a, path="kernel").x
    allowed = [export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")]
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("d",), abstract_device=gpu)):
        exported = export.export(jax.jit(solve), platforms=("cuda",), disabled_checks=allowed)(spec, spec)
    assert exported.mlir_module().count("xla.gpu.triton") == 1
