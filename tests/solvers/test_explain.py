"""What `explain` says is what happens, and it says why."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite.lanes import fan_out
from tests.lanes.gpu.test_kernel import is_kernel, lowered

pytestmark = pytest.mark.hardly_optimized

SPEC = jax.ShapeDtypeStruct


def rosenbrock(x, steepness):
    return jnp.sum(steepness * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def cubic(x, a):
    return x**3 - a


def sorting(x, a):
    return jnp.sum(jnp.sort(x) ** 2)


def of(fun, n, dtype="float32", solver=None, **options):
    """On a GPU as a kernel, unless told otherwise."""
    arguments = SPEC((1000, n), dtype), SPEC((1000,), dtype)
    options = {"backend": "kernel"} | options if options.get("platform") == "gpu" else options
    return jol.explain(fun, *arguments, solver=solver or jol.BFGS(), **options)


def test_a_small_smooth_problem_is_a_kernel_on_a_gpu():
    found = of(rosenbrock, 4, platform="gpu")
    assert (found.backend, found.width, found.tiles, found.problems, found.reason) == ("kernel", 32, 32, 1000, "")
    assert found.words is not None and found.operations is not None
    assert "1,000 problems on a GPU: one GPU kernel, 32 tiles of 32 lanes." in str(found)
    assert f"{found.words} numbers of 32 bits" in str(found)


@pytest.mark.parametrize(
    "fun, n, solver, options, reason",
    [
        (sorting, 3, None, {}, "it sorts (`sort` at "),
        (rosenbrock, 40, None, {}, "registers of a thread hold about"),
        (rosenbrock, 3, None, {"backend": "loop"}, 'backend="loop" forbids it'),
        (rosenbrock, 3, None, {"backend": "auto"}, 'only backend="kernel" asks for one'),
        (rosenbrock, 3, None, {"record": 2}, "`record`"),
        (rosenbrock, 3, None, {"keep_state": True}, "`keep_state`"),
        (cubic, 9, jol.Broyden(), {}, "operations on single numbers"),
    ],
)
def test_the_reason_is_told(fun, n, solver, options, reason):
    found = of(fun, n, solver=solver, platform="gpu", **options)
    assert found.backend == "loop" and reason in found.reason
    assert f"Not a kernel: {found.reason}." in str(found)
    if fun is sorting:
        assert "test_explain.py" in found.reason


def test_half_precision_is_no_kernel():
    assert "bfloat16" in of(rosenbrock, 3, jnp.bfloat16, platform="gpu").reason


def test_on_the_cpu_it_is_one_native_call_or_says_which_operation_prevents_that():
    native, loop = of(rosenbrock, 4, platform="cpu"), of(sorting, 4, platform="cpu")
    assert (native.backend, native.reason) == ("native call", "")
    assert loop.backend == "loop" and "`sort`" in loop.reason and "test_explain.py" in loop.reason
    assert "one native CPU function, a tile of" in str(native) and "Not one function: " in str(loop)


def test_on_the_cpu_it_says_on_how_many_cores(monkeypatch):
    monkeypatch.setenv("JAXOPT_LITE_CORES", "1")
    assert "this process may use one core" in of(rosenbrock, 30, platform="cpu").undivided
    monkeypatch.delenv("JAXOPT_LITE_CORES")
    monkeypatch.setattr(fan_out, "cores", lambda: 3)
    large, little = of(rosenbrock, 30, platform="cpu"), of(rosenbrock, 2, platform="cpu")
    assert (large.cores, large.undivided, little.cores) == (3, "", 1) and "so little work" in little.undivided
    assert "divides it over 3 cores" in str(large) and "On one core: " in str(little)
    one = jol.explain(rosenbrock, SPEC((2,), "float32"), 1.0, solver=jol.BFGS(), batched=False, platform="cpu")
    assert (one.cores, one.undivided) == (1, "it is one problem")
    assert of(rosenbrock, 30, platform="gpu").cores == 1


def test_a_tpu_takes_the_loop():
    assert (of(rosenbrock, 4, platform="tpu").backend, of(rosenbrock, 4, platform="tpu").tiles) == ("loop", 1)


def test_the_second_method_of_broyden_is_mentioned():
    assert "with the fallback" in str(of(cubic, 2, solver=jol.Broyden(), platform="gpu"))
    assert "with the fallback" not in str(of(cubic, 2, solver=jol.Broyden(rescue=False), platform="gpu"))


@pytest.mark.parametrize("fun, n", [(rosenbrock, 2), (rosenbrock, 40), (sorting, 2)])
def test_it_agrees_with_what_is_lowered(fun, n):
    """A kernel is in the program for CUDA where it says so, and asking for one is an error where it does not."""
    found = of(fun, n, platform="gpu")
    solve = lambda x, a: jol.minimize(fun, x, a, backend="kernel").x
    arguments = SPEC((1000, n), np.float32), SPEC((1000,), np.float32)
    if found.backend == "kernel":
        assert is_kernel(lowered(solve, *arguments))
    else:
        with pytest.raises(ValueError, match="this solve cannot be a kernel"):
            lowered(solve, *arguments)


def test_nothing_is_solved_and_arrays_will_do():
    calls = []

    def fun(x, a):
        calls.append(type(x))
        return jnp.sum((x - a) ** 2)

    found = jol.explain(fun, np.ones((5, 2)), np.ones(5), solver=jol.BFGS())
    assert found.problems == 5 and found.platform == jax.default_backend()
    assert all(issubclass(kind, jax.core.Tracer) for kind in calls)
    assert jol.explain(fun, np.ones(2), 1.0, solver=jol.BFGS(), batched=False, platform="gpu").problems == 1


@pytest.mark.parametrize(
    "option, message",
    [
        ({"platform": "ipu"}, "platform='ipu'"),
        ({"backend": "fast"}, "backend='fast'"),
        ({"batched": "no"}, "batched='no': expected True or False"),
        ({"record": -1}, "record=-1: expected a whole number"),
        ({"solver": jol.BFGS(atol=-1.0)}, "atol=-1.0: expected finite numbers that are not negative"),
    ],
)
def test_what_a_solve_would_refuse_is_refused(option, message):
    with pytest.raises(ValueError, match=message):
        of(rosenbrock, 2, **option)


def test_a_function_that_the_solver_is_not_for_is_refused():
    with pytest.raises(ValueError, match="returned 1 numbers for 2 unknowns; a root needs as many"):
        of(rosenbrock, 2, solver=jol.Broyden())
