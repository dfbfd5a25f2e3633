"""A solve as one kernel: emulated it agrees with the loop, and it compiles as far as a machine without a GPU can.

What every solver promises, and its kernel too, is in `tests/test_contract_backends.py`.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import Status
from jaxopt_lite.lanes.gpu import kernel, triton
from tests.problems import MGH_UNCONSTRAINED, perturbed

pytestmark = pytest.mark.hardly_optimized

# As little optimisation of the emulated kernel as XLA can be asked for: it is run once.
quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def both(fun, x0, args=None, args_axes=0, entry=jol.minimize, **options):
    """The emulated kernel's solution, and the loop's."""
    solve = functools.partial(entry, fun, args_axes=args_axes, **options)
    emulated = quickly(lambda x0, args: solve(x0, args, backend="emulate"))(x0, args)
    return jax.tree.map(np.asarray, emulated), solve(x0, args, backend="loop")


def assert_agree(ours, loops, rtol=1e-6):
    np.testing.assert_array_equal(ours.status, loops.status)
    size = np.maximum(1, np.abs(loops.x))
    solved = np.asarray(loops.success)
    assert np.all((np.abs(ours.x - loops.x) <= rtol * size)[solved])


def rosenbrock(x, steepness):
    return jnp.sum(steepness * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.mark.slow
def test_broyden_refreshes_its_jacobian_inside_and_leaves_the_rest_to_the_second_method():
    """A circle and a curve: the first method gives seven of forty starts up."""
    x0, offset = np.random.default_rng(2).uniform(-2, 2, (40, 2)), np.full(40, 0.5)
    x0[11] = np.nan

    def fun(x, offset):
        return jnp.stack([x[0] ** 2 + x[1] ** 2 - 1, x[1] - jnp.sin(2 * x[0]) - offset])

    ours, loops = both(fun, x0, offset, entry=jol.root)
    np.testing.assert_array_equal(ours.status, loops.status)
    np.testing.assert_array_equal(ours.status, np.where(np.arange(40) == 11, Status.NONFINITE_START, 0))
    residual = np.abs(jax.vmap(fun)(ours.x, offset))
    assert np.all(residual[ours.success] <= 1e-9)


@pytest.mark.slow
def test_a_batch_of_none_and_of_one_and_no_batch():
    one = np.array([[0.5, 0.5]])
    assert quickly(lambda x: jol.minimize(rosenbrock, x, np.ones(0), backend="emulate"))(one[:0]).x.shape == (0, 2)
    batch = quickly(lambda x: jol.minimize(rosenbrock, x, np.ones(1), backend="emulate"))(one)
    alone = quickly(lambda x: jol.minimize(rosenbrock, x, 1.0, batched=False, backend="emulate"))(one[0])
    np.testing.assert_allclose(batch.x[0], [1, 1], atol=1e-5)
    np.testing.assert_array_equal(alone.x, batch.x[0])


@pytest.mark.slow
def test_mapped_and_shared_arguments_and_what_is_closed_over():
    rng = np.random.default_rng(1)
    features, labels = rng.standard_normal((6, 2)), rng.integers(0, 2, (40, 6)).astype(float)
    weights = rng.uniform(0.5, 1.5, 6)

    def loss(x, args):
        features, labels, power, wanted, none, flags = args
        terms = weights * jnp.logaddexp(0, features @ x) - jnp.where(flags, labels, 0.5) * (features @ x)
        return jnp.mean(jnp.where(wanted, terms, 0)) + 0.05 * jnp.sum(x**power) + jnp.sum(none)

    shared = (np.int32(2), np.arange(6) != 3, np.zeros(0))
    args = (features, labels, *shared, rng.random((40, 6)) < 0.9)
    ours, loops = both(loss, np.zeros((40, 2)), args, args_axes=(None, 0, None, None, None, 0))
    assert np.all(ours.success)
    assert_agree(ours, loops)


@pytest.mark.slow
def test_derivatives_and_an_outer_vmap_are_those_of_the_loop():
    """A [2, 20] batch under `vmap` and `grad`."""
    steepness = np.linspace(1.0, 5.0, 40).reshape(2, 20)

    def total(steepness, backend):
        one = lambda s: jol.minimize(lambda x, s: jnp.sum(jnp.cosh(x - s)), jnp.zeros((20, 1)), s, backend=backend).x
        return jnp.sum(jax.vmap(one)(steepness) ** 2)

    ours, loops = (
        quickly(jax.grad(functools.partial(total, backend=backend)))(steepness) for backend in ("emulate", "loop")
    )
    np.testing.assert_allclose(ours, loops, rtol=1e-4)
    np.testing.assert_allclose(ours, 2 * steepness, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beale", "box 3d", "helical valley", "wood", "powell badly scaled", "penalty I 4"])
def test_the_standard_problems(name):
    problem = next(p for p in MGH_UNCONSTRAINED if p.name == name)
    ours, loops = both(lambda x, _: problem.fun(x), np.asarray(perturbed(problem, 40)))
    assert np.mean(ours.success) >= np.mean(loops.success) - 0.05
    assert np.mean(ours.status == loops.status) > 0.9


# --- Lowering, for a GPU that is not there --------------------------------------------------------------------

GPU = jax.sharding.AbstractDevice(device_kind="NVIDIA H200", platform="cuda", num_cores=132)
MESH = jax.sharding.AbstractMesh((1,), ("device",), abstract_device=GPU)


def lowered(solve, *arguments) -> str:
    """The program for CUDA; no warning on the way."""
    with warnings.catch_warnings(), jax.sharding.use_abstract_mesh(MESH):
        warnings.simplefilter("error")
        return jax.jit(solve).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


def is_kernel(text: str) -> bool:
    return text.count("__gpu$xla.gpu.triton") == 1


@pytest.mark.parametrize("dtype, most", [("float32", 12), pytest.param("float64", 7, marks=pytest.mark.slow)])
def test_bfgs_is_a_kernel_up_to_so_many_unknowns(dtype, most):
    solve = lambda x, s: jol.minimize(rosenbrock, x, s, backend="kernel").x
    assert is_kernel(lowered(solve, jax.ShapeDtypeStruct((100, most), dtype), jax.ShapeDtypeStruct((100,), dtype)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype, most", [("float32", 12), ("float64", 7)])
def test_bfgs_is_a_kernel_for_every_number_of_unknowns(dtype, most):
    for n in range(1, most + 1):
        solve = lambda x, s: jol.minimize(rosenbrock, x, s, backend="kernel").x
        assert is_kernel(lowered(solve, jax.ShapeDtypeStruct((100, n), dtype), jax.ShapeDtypeStruct((100,), dtype))), n


@pytest.mark.slow
@pytest.mark.parametrize("jacobian", ["autodiff", "identity"])
@pytest.mark.parametrize("dtype, most", [("float32", 8), ("float64", 6)])
def test_broyden_is_a_kernel_for_every_number_of_unknowns(jacobian, dtype, most):
    solver = jol.Broyden(jacobian=jacobian)
    for n in range(1, most + 1):
        solve = lambda x, a: jol.root(lambda x, a: x**3 - a * jnp.roll(x, 1), x, a, solver=solver, backend="kernel").x
        assert is_kernel(lowered(solve, jax.ShapeDtypeStruct((100, n), dtype), jax.ShapeDtypeStruct((100,), dtype))), n


def test_too_many_unknowns_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="this solve cannot be a kernel: a lane carries .* registers"):
        jol.minimize(rosenbrock, np.zeros((3, 20)), np.ones(3), backend="kernel")


@pytest.mark.parametrize("jacobian, dtype, n", [
    pytest.param("autodiff", "float32", 8, marks=pytest.mark.slow), ("autodiff", "float64", 6),
    ("identity", "float64", 1),
])  # fmt: skip
def test_broyden_is_a_kernel_up_to_so_many_unknowns(jacobian, dtype, n):
    solver = jol.Broyden(jacobian=jacobian)
    solve = lambda x, a: jol.root(lambda x, a: x**3 - a * jnp.roll(x, 1), x, a, solver=solver, backend="kernel").x
    assert is_kernel(lowered(solve, jax.ShapeDtypeStruct((100, n), dtype), jax.ShapeDtypeStruct((100,), dtype)))


OBJECTIVES = {
    "functions": lambda x, a: jnp.sum(
        jnp.exp(x) + jnp.log1p(x**2) + jnp.sqrt(1 + x**2) + jnp.tanh(x) * jnp.arctan2(x, a) + jnp.expm1(x) + jnp.cbrt(x)
        + jnp.sinh(x) * jnp.cosh(x) + jnp.arctan(x) + jax.nn.sigmoid(x) + jnp.tan(x) + jnp.arcsin(x) + jnp.log(2 + x)
    ),
    "hyperbolic": lambda x, a: jnp.sum(jnp.arcsinh(x) + jnp.arccosh(2 + x**2) + jnp.arctanh(x / 9) + jnp.arccos(x / 9)),
    "powers": lambda x, a: jnp.sum(jnp.abs(x) ** a + x**3 + (1 + x**2) ** -1.5 + lax_power(x) + jnp.exp2(x)),
    "choices": lambda x, a: jnp.sum(jnp.where(x > a, x**2, jnp.maximum(x, 0.1)) + jnp.clip(x, -1, 1)) + jnp.max(x),
    "rounding": lambda x, a: jnp.sum((x - jnp.round(x)) ** 2 + jnp.floor(x) * jnp.ceil(x) * jnp.sign(x)),
    "branches": lambda x, a: jax.lax.cond(x[0] > a, jnp.sum, lambda x: jnp.sum(x**2), x),
    "whole numbers": lambda x, a: jnp.sum(x * (jnp.arange(3) % 2)) ** 2 + (a > 0) * x[0] ** 2 + jnp.argmax(x) * x[1],
    "loops": lambda x, a: jax.lax.fori_loop(0, 3, lambda k, c: c + k * x**2, x).sum(),
    "products": lambda x, a: jnp.sum((np.arange(12.0).reshape(4, 3) @ x) ** 2) + jnp.sum(jnp.cumsum(x) ** 2),
    "float32 inside": lambda x, a: jnp.sum(x.astype(jnp.float32) ** 2).astype(x.dtype),
}  # fmt: skip


def lax_power(x):
    return jax.lax.pow(jnp.abs(x), jnp.int32(3)) * jax.lax.rsqrt(1 + x * x)


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
def test_functions_of_all_kinds_are_kernels(dtype):
    """All of them in one, whose reason would name the line of the one that is not."""
    fun = lambda x, a: sum(objective(x, a) for objective in OBJECTIVES.values())
    solve = lambda x, a: jol.minimize(fun, x, a, backend="kernel").x
    assert is_kernel(lowered(solve, jax.ShapeDtypeStruct((100, 3), dtype), jax.ShapeDtypeStruct((100,), dtype)))


def test_the_loop_is_there_for_other_platforms():
    """One program for both: the kernel on CUDA, the loop here; and no kernel where none is wanted."""
    fun = lambda x, _: jnp.sum((x - 1) ** 2)
    x = np.zeros((5, 1))
    solve = lambda backend: lambda x: jol.minimize(fun, x, backend=backend).x
    found = jax.jit(solve("kernel"))(x)
    np.testing.assert_array_equal(found, jax.jit(solve("loop"))(x))
    np.testing.assert_allclose(found, 1, atol=1e-6)
    assert is_kernel(lowered(solve("kernel"), x)) and not is_kernel(lowered(solve("loop"), x))


def test_a_kernel_is_made_only_where_one_is_asked_for():
    solve = lambda x: jol.minimize(lambda x, _: jnp.sum((x - 1) ** 2), x).x
    assert not is_kernel(lowered(solve, np.ones((5, 1))))


def test_tiles_share_a_batch():
    """All lanes at work for a small batch, and many problems a lane for a large one."""
    assert [kernel.tiles(batch) for batch in (1, 32, 33, 1000)] == [1, 1, 2, 32]
    for batch in (10**5, 10**6, 10**7, 10**8):
        count = kernel.tiles(batch)
        assert kernel._FEWEST_TILES <= count or count * kernel.WIDTH >= batch
        assert batch / count / kernel.WIDTH <= 2 * kernel._REFILLS


@pytest.mark.parametrize("option", [{"keep_state": True}, {"record": 3}])
def test_what_a_kernel_cannot_give_goes_by_the_loop(option):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}`"):
        jol.minimize(rosenbrock, np.ones((3, 2)), np.ones(3), backend="kernel", **option)


def test_arguments_that_are_no_plain_numbers_go_by_the_loop():
    draw = lambda x, key: jnp.sum((x - jax.random.normal(key, (2,))) ** 2)
    found = jol.explain(
        draw, np.ones((3, 2)), jax.random.split(jax.random.key(0), 3), solver=jol.BFGS(), platform="gpu",
        backend="kernel",
    )  # fmt: skip
    assert found.backend == "loop" and "an argument is key<fry>" in found.reason


def test_a_jax_without_the_backend_goes_by_the_loop(monkeypatch):
    monkeypatch.setattr(triton, "plgpu", None)
    with pytest.raises(ValueError, match="no Triton backend"):
        jol.minimize(rosenbrock, np.ones((3, 2)), np.ones(3), backend="kernel")
    found = jol.explain(rosenbrock, np.ones((3, 2)), np.ones(3), solver=jol.BFGS(), platform="gpu", backend="kernel")
    assert found.backend == "loop" and "no Triton backend" in found.reason


def test_whole_numbers_of_every_dtype():
    """All of them in one, whose reason would name the line of the one that is not."""

    def of(dtype, x):
        k = jnp.floor(3 * x).astype(dtype)
        j = ((k ^ dtype(3)) << dtype(1)) & dtype(7) | dtype(1)
        m = k % dtype(3) + k // dtype(2) + jnp.abs(k) + jnp.maximum(k, j) + k**2 + ~k + (j >> dtype(1))
        return jnp.sum(m.astype(x.dtype) * x**2)

    fun = lambda x, a: sum(of(dtype, x) for dtype in (jnp.int32, jnp.int64, jnp.uint32))
    solve = lambda x: jol.minimize(fun, x, backend="kernel").x
    assert is_kernel(lowered(solve, jax.ShapeDtypeStruct((100, 2), np.float32)))


@pytest.mark.parametrize("entry, solver", [(jol.minimize, jol.LBFGS(memory=2)), (jol.root, jol.LimitedBroyden())])
def test_methods_of_limited_memory_are_kernels_where_there_is_room(entry, solver):
    fun = (lambda x, a: jnp.sum(jnp.cosh(x - a))) if entry is jol.minimize else (lambda x, a: jnp.sinh(x - a) + x)
    solve = lambda x, a: entry(fun, x, a, solver=solver, backend="kernel").x
    assert is_kernel(lowered(solve, jax.ShapeDtypeStruct((100, 2), "float32"), jax.ShapeDtypeStruct((100,), "float32")))


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="backend='fast': expected one of 'auto', 'kernel', 'loop', 'emulate'"):
        jol.minimize(rosenbrock, np.ones((3, 2)), np.ones(3), backend="fast")
