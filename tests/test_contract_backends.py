"""What every solver promises also holds on the backends of accelerators, which are run on the CPU here.

They are the kernel, emulated, and the loop as it is traced where JAX finds a GPU: with reductions in place of loops
over rows, scatters, the library's inverse, other tiles, and several steps at once.

Each (solver, dtype) has one batch of problems, good ones and bad ones of every kind, and for each backend one compiled
call that gives the solution and a derivative of it; that call serves several tests. What they are compared with is the
loop of the CPU.
"""

import functools
from dataclasses import replace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import Status
from jaxopt_lite.lanes.gpu import kernel
from tests.test_contract import assert_same_bits, lanes

pytestmark = pytest.mark.hardly_optimized

MINIMIZERS = {"bfgs": jol.BFGS(), "lbfgs": jol.LBFGS(memory=2)}
ROOT_SOLVERS = {
    "broyden": jol.Broyden(),
    "broyden from I": jol.Broyden(jacobian="identity"),
    "limited broyden": jol.LimitedBroyden(memory=5),
}
SOLVERS = MINIMIZERS | ROOT_SOLVERS
PAIRS = (
    ("bfgs", "float32"), ("broyden", "float64"), ("bfgs", "float64"), ("lbfgs", "float32"), ("broyden", "float32"),
    ("broyden from I", "float64"), ("limited broyden", "float32"),
)  # fmt: skip

LOOP, KERNEL, GPU_LOOP = "loop", "emulate", "the loop of a GPU"
# The kernel of one solver, the loop of a GPU of the other: what they share has no solver's name.
QUICK = ((*PAIRS[0], KERNEL), (*PAIRS[0], LOOP), (*PAIRS[1], GPU_LOOP), (*PAIRS[1], LOOP))


def each(*backends):
    """Every solver on these backends, of which few are quick."""
    cases = [(*pair, backend) for pair in PAIRS for backend in backends]
    marks = [() if case in QUICK else pytest.mark.slow for case in cases]
    return pytest.mark.parametrize(
        "solver, dtype, backend", [pytest.param(*case, marks=mark) for case, mark in zip(cases, marks, strict=True)]
    )


COUNT = 70  # three tiles, the last of them not full
SHORT = 2  # the most steps of the problem that runs out of them


def objective(x, args):
    """Rosenbrock's valley; bottomless where it is asked to fall."""
    steepness, fall = args
    return steepness * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2 - fall * x[0] ** 6


def residual(x, args):
    """A cubic and a parabola that meet once; or a cubic that should be 0 and 1."""
    level, rootless = args
    cubic, parabola = x[0] ** 3 + x[0] + x[1] / 2 - level, 2 * (x[1] - x[0] ** 2)
    return jnp.stack([cubic, (1 - rootless) * parabola + rootless * (cubic - 1)])


NOT_FINITE, ENDLESS, STOPPED = [3, 20, 33], 41, 60
GOOD = ~np.isin(np.arange(COUNT), [*NOT_FINITE, ENDLESS, STOPPED])
ATOL = {"minimum": {"float32": 1e-3, "float64": 1e-6}, "root": {"float32": 1e-5, "float64": 1e-9}}


def kind_of(solver) -> str:
    return "minimum" if solver in MINIMIZERS else "root"


def problems(solver, dtype, bad: bool = True):
    """Starts, arguments and the most steps; the bad ones among them as bad as their names say, or as good as others."""
    rng = np.random.default_rng(0)
    x0, first = rng.uniform(-2, 2, (COUNT, 2)), rng.uniform(1, 20, COUNT)
    x0[STOPPED] = [-1.2, 1]
    first = first if kind_of(solver) == "minimum" else first / 4 - 2
    args, max_steps = np.stack([first, np.zeros(COUNT)]), np.full(COUNT, 500, np.int32)
    if bad:
        x0[NOT_FINITE[0]], x0[NOT_FINITE[1]], args[0, NOT_FINITE[2]] = np.nan, np.inf, np.nan
        args[1, ENDLESS], max_steps[STOPPED] = 1, SHORT
    return x0.astype(dtype), tuple(args.astype(dtype)), max_steps


@functools.cache
def compiled(solver, backend):
    """x0, args, max_steps -> the solution, and the derivative of the sum of its x. Run rarely, so optimised little."""
    entry, original = (jol.minimize, objective) if solver in MINIMIZERS else (jol.root, residual)
    fun = lambda x, args: original(x, args)  # of its own, so that nothing traced for another backend is found again
    platform, backend = ("gpu", "loop") if backend == GPU_LOOP else ("cpu", backend)

    @mock.patch.object(jax, "default_backend", lambda: platform)  # while this is traced
    def solve(x0, args, max_steps):
        settings = replace(SOLVERS[solver], max_steps=max_steps)

        def answer(args):
            solution = entry(fun, x0, args, solver=settings, backend=backend)
            return solution.x, solution

        x, pull, solution = jax.vjp(answer, args, has_aux=True)
        return solution, pull(jnp.ones_like(x))[0]

    return jax.jit(solve, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def solved(solver, dtype, backend, bad=True):
    return compiled(solver, backend)(*problems(solver, dtype, bad))


@each(KERNEL, GPU_LOOP, LOOP)
def test_every_problem_has_the_status_it_should_have(solver, dtype, backend):
    solution, _ = solved(solver, dtype, backend)
    assert np.all(np.asarray(solution.status)[GOOD] == Status.CONVERGED), solution.summary()
    assert np.all(np.asarray(solution.status)[NOT_FINITE] == Status.NONFINITE_START)
    assert solution.status[ENDLESS] == (Status.UNBOUNDED if solver in MINIMIZERS else Status.NO_ROOT)
    assert (solution.status[STOPPED], solution.steps[STOPPED]) == (Status.MAX_STEPS, SHORT)
    np.testing.assert_array_equal(solution.success, GOOD)
    assert np.all(np.asarray(solution.evaluations) > 0)
    assert {leaf.dtype for leaf in (solution.x, solution.fun, solution.error)} == {np.dtype(dtype)}


@each(KERNEL, GPU_LOOP)
def test_the_answers_are_verified_and_those_of_the_loop(solver, dtype, backend):
    ours, loops = (lanes(solved(solver, dtype, backend)[0], GOOD) for backend in (backend, LOOP))
    atol = ATOL[kind_of(solver)][dtype]
    np.testing.assert_allclose(ours.x, loops.x, rtol=0, atol=30 * atol)
    assert abs(np.mean(ours.evaluations) - np.mean(loops.evaluations)) < 0.2 * np.mean(loops.evaluations)
    criterion = jax.grad(objective) if solver in MINIMIZERS else residual
    args = tuple(leaf[GOOD] for leaf in problems(solver, dtype)[1])
    error = np.max(np.abs(jax.jit(jax.vmap(criterion))(ours.x, args)), axis=1)
    assert np.all(error <= 1.1 * atol + (1e-5 if (kind_of(solver), dtype) == ("root", "float32") else 0))


@each(KERNEL, GPU_LOOP)
def test_neighbours_do_not_matter(solver, dtype, backend):
    with_bad, with_good = solved(solver, dtype, backend), solved(solver, dtype, backend, bad=False)
    assert_same_bits(lanes(with_bad, GOOD), lanes(with_good, GOOD))
    assert np.all(with_good[0].success)


@each(KERNEL, GPU_LOOP)
def test_the_order_of_the_problems_does_not_matter(solver, dtype, backend):
    order = np.random.default_rng(1).permutation(COUNT)
    x0, args, max_steps = problems(solver, dtype)
    permuted = compiled(solver, backend)(x0[order], tuple(leaf[order] for leaf in args), max_steps[order])
    assert_same_bits(permuted, lanes(solved(solver, dtype, backend), order))


@each(KERNEL, GPU_LOOP)
def test_derivatives_are_those_of_the_loop(solver, dtype, backend):
    """And NaN where there is no solution to differentiate, whatever the solution beside it is."""
    (solution, ours), (_, loops) = solved(solver, dtype, backend), solved(solver, dtype, LOOP)
    rtol = 3e-2 if dtype == "float32" else 1e-4
    np.testing.assert_allclose(ours[0][GOOD], loops[0][GOOD], rtol=rtol, atol=rtol)
    assert np.all(np.isnan(np.asarray(ours[0])[~GOOD])) and np.all(np.isfinite(np.asarray(ours[0])[GOOD]))
    if solver in ROOT_SOLVERS:  # x0³ + x0 + x0²/2 = level, x1 = x0²
        x = np.asarray(solution.x)[GOOD, 0]
        np.testing.assert_allclose(ours[0][GOOD], (1 + 2 * x) / (3 * x**2 + 1 + x), rtol=rtol, atol=rtol)


@each(KERNEL, GPU_LOOP)
def test_a_solve_that_ran_out_of_steps_goes_on_from_where_it_was(solver, dtype, backend):
    x0, args, _ = problems(solver, dtype, bad=False)
    most = np.arange(COUNT, dtype=np.int32) % 4
    stopped, _ = compiled(solver, backend)(x0, args, most)
    unfinished = np.asarray(stopped.status) == Status.MAX_STEPS
    assert np.mean(unfinished) > 0.5
    np.testing.assert_array_equal(np.asarray(stopped.steps)[unfinished], most[unfinished])
    assert_same_bits(stopped.x[most == 0], x0[most == 0])
    again, _ = compiled(solver, backend)(np.asarray(stopped.x), args, np.full(COUNT, 500, np.int32))
    assert np.all(again.success), again.summary()


@pytest.mark.slow  # that the last tile is not full is so of the batch of every test
@pytest.mark.parametrize("backend", [KERNEL, GPU_LOOP])
@pytest.mark.parametrize("size", [33, 1])
def test_the_size_of_the_batch_does_not_matter(size, backend):
    x0, args, max_steps = problems("bfgs", "float32")
    few = compiled("bfgs", backend)(x0[:size], tuple(leaf[:size] for leaf in args), max_steps[:size])
    assert_same_bits(few, lanes(solved("bfgs", "float32", backend), np.arange(size)))


def test_what_a_kernel_says_of_itself_does_not_count(monkeypatch):
    """One that is content with a hundred times the tolerance: the verification, which is outside it, finds that out."""
    monkeypatch.setattr(kernel, "_SHARPER", 100.0)
    x0, args = np.full((40, 2), 0.5), (np.linspace(1, 20, 40), np.zeros(40))
    solve = jax.jit(lambda x0, args: jol.minimize(objective, x0, args, backend="emulate"))
    solution = solve(x0, args)
    loose = np.asarray(solution.error) > 1e-6
    assert np.mean(loose) > 0.3
    np.testing.assert_array_equal(solution.status, np.where(loose, Status.UNVERIFIED, Status.CONVERGED))
    np.testing.assert_array_equal(solution.success, ~loose)


def test_resuming_a_state_is_left_to_the_loop_and_says_so():
    x0, args, _ = problems("bfgs", "float32", bad=False)
    ask = functools.partial(jol.minimize, objective, x0, args, solver=jol.BFGS(max_steps=3))
    state = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(lambda: ask(keep_state=True).state)
    )
    with pytest.raises(ValueError, match='a kernel cannot start from the states that `resume` passes.*backend="auto"'):
        ask(resume=state, backend="emulate")
