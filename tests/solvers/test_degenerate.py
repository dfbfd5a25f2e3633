"""Degenerate problems end with the right status, and wrong input with an error that says what to do."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import Status
from jaxopt_lite.solvers.tolerances import limits

pytestmark = pytest.mark.hardly_optimized

C, U, N, S, F = Status.CONVERGED, Status.UNBOUNDED, Status.NO_ROOT, Status.STALLED, Status.NONFINITE_START

BOTH = ("float64", "float32")
total = lambda x: jnp.sum((x - 1) ** 2)

# name: (function, start, status)
MINIMA = {
    "constant": (lambda x: 3.0, [1.0, 2.0], C),
    "linear": (lambda x: jnp.sum(x), [1.0, 2.0], U),
    "start at the solution": (total, [1.0, 1.0], C),
    "concave": (lambda x: -jnp.sum(x**2), [1.0, 2.0], U),
    "unbounded, overflowing": (lambda x: -jnp.exp(x[0]), [1.0], U),
    "nan at the start": (total, [np.nan, 1.0], F),
    "infinite start": (total, [np.inf, 1.0], F),
    "outside the domain": (lambda x: x[0] - jnp.log(x[0]), [-1.0], F),
    "value overflows at the start": (lambda x: jnp.exp(x[0] ** 2), [50.0], F),
    "infinite gradient at the start": (lambda x: jnp.sqrt(x[0]), [0.0], F),
    "pole at the start": (lambda x: 1 / x[0], [0.0], F),
    "nan gradient at the start": (lambda x: jnp.sqrt(jnp.sum(x**2)), [0.0, 0.0], F),
    "nan on the way": (lambda x: x[0] - jnp.log(x[0]), [50.0], C),
    "steep edge of the domain": (lambda x: x[0] - jnp.log(x[0]), [1e-3], C),
    "infinite on the way": (lambda x: jnp.exp(x[0] ** 2 / 8), [5.0], C),
    "singular Hessian": (lambda x: jnp.sum(x**4), [1.0, 2.0], C),
    "large values": (lambda x: 1e20 * total(x), [3.0, 2.0], C),
    "one unknown": (lambda x: jnp.cosh(x[0] - 2), [0.0], C),
    "steps of a staircase": (lambda x: jnp.floor(x[0]), [1.5], C),
    "a flat valley": (lambda x: (x[0] - x[1]) ** 2, [3.0, -1.0], C),
    "nearly linear": (lambda x: x[0] + 1e-3 * x[0] ** 2, [1.0], C),
    # There a quasi-Newton method converges linearly until it can go no lower; how far it comes depends on rounding.
    "a kink": (lambda x: jnp.sum(jnp.abs(x)), [1.3, -2.1], (S, Status.MAX_STEPS)),
}
RTOL = 1e-3  # where the start is not finite: rtol · ∞ = ∞ must not let everything pass

ROOTS = {
    "constant": (lambda x: 0 * x + 3, [1.0, 2.0], N),
    "zero everywhere": (lambda x: 0 * x, [1.0, 2.0], C),
    "linear": (lambda x: jnp.stack([2 * x[0] + x[1] - 1, x[0] + 3 * x[1] - 1]), [1.0, 2.0], C),
    "start at the solution": (lambda x: x - 1, [1.0, 1.0], C),
    "no root": (lambda x: x**2 + 1, [1.0], N),
    "inconsistent": (lambda x: jnp.stack([x[0] + x[1] - 1, x[0] + x[1] - 2]), [1.0, 2.0], N),
    "singular Jacobian at the root": (lambda x: x**2, [1.0, 2.0], C),
    "singular Jacobian everywhere": (lambda x: jnp.stack([x[0] + x[1] - 1, 2 * (x[0] + x[1] - 1)]), [1.0, 2.0], C),
    "singular Jacobian at the start": (lambda x: x**2 - 4, [0.0, 1.0], C),
    "nan at the start": (lambda x: x - 1, [np.nan, 1.0], F),
    "infinite start": (lambda x: x - 1, [np.inf, 1.0], F),
    "outside the domain": (lambda x: jnp.log(x), [-1.0], F),
    "overflow at the start": (lambda x: jnp.exp(x) - 2, [1000.0], F),
    "nan on the way": (lambda x: jnp.log(x), [10.0], C),
    "large values": (lambda x: 1e20 * (x**3 - 8), [3.0], C),
    "very steep": (lambda x: jnp.exp(x) - 2, [20.0], C),
    "root at an infinite slope": (lambda x: jnp.sqrt(x), [0.0], C),
    "one unknown": (lambda x: jnp.cos(x) - x, [1.0], C),
    "pole at the start": (lambda x: 1 / x, [0.0], F),
}
ROOT_SOLVERS = {
    "broyden": jol.Broyden(),
    "broyden from I": jol.Broyden(jacobian="identity"),
    "limited": jol.LimitedBroyden(),
}
MINIMIZERS = {"bfgs": jol.BFGS(), "lbfgs": jol.LBFGS()}
PLAIN = jol.Broyden(rescue=False)  # which compiles in less time


# Beside the minima, in the same batch: a valley with few steps.
VALLEY, FEW = "a curved valley", np.array([0, 1, 2, 5, 10, 20])
MINIMA_IN_FEW_STEPS = {VALLEY: (lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, [-1.2, 1.0], None)}


UNKNOWNS = 2  # of every case: one that has a single unknown gets another, which is found from the start


def together(table, is_root):
    """One function of `x` and the number of a case, and the starts of all cases: a table is one batch."""

    def padded(fun, unknowns):
        def case(x):
            value = jnp.asarray(fun(x[:unknowns]), x.dtype)
            return jnp.concatenate([value, x[unknowns:]]) if is_root else value

        return case

    cases = [padded(fun, len(start)) for fun, start, _ in table.values()]
    starts = np.array([start + [0.0] * (UNKNOWNS - len(start)) for _, start, _ in table.values()])
    return lambda x, case: jax.lax.switch(case, cases, x), starts


@functools.cache
def solved(entry, solver, dtype):
    """The solution of a whole table by one program, and what the functions are at the starts.

    After the minima come those in few steps.

    In a program minima have no fallback, which would find out itself what falls without end.
    """
    if entry is jol.minimize:
        table, chosen, few = MINIMA | MINIMA_IN_FEW_STEPS, MINIMIZERS[solver], FEW
    else:
        table, chosen, few = ROOTS, ROOT_SOLVERS[solver], FEW[:0]
    size = len(MINIMA if entry is jol.minimize else ROOTS)
    fun, starts = together(table, entry is jol.root)
    numbers = np.concatenate([np.arange(size), np.full(len(few), len(table) - 1)])
    starts = starts[numbers]
    at_start_only = np.array([status == F for _, _, status in table.values()])[numbers]
    most = np.concatenate([np.full(size, limits(chosen, starts).max_steps[0]), few])
    chosen = replace(chosen, rtol=np.where(at_start_only, RTOL, 0), max_steps=most)
    every = jax.jit(lambda starts: (entry(fun, starts, numbers, solver=chosen), jax.vmap(fun)(starts, numbers)))
    return jax.device_get(every(starts.astype(dtype)))


def cases(table, solvers, quick):
    """The first solver in both dtypes, one of them quick; the others in float64, where they are slow."""
    for name in table:
        for place, solver in enumerate(solvers):
            for dtype in BOTH if place == 0 else BOTH[:1]:
                marks = [] if place == 0 and dtype == quick else [pytest.mark.slow]
                yield pytest.param(name, solver, dtype, id=f"{name}, {solver}, {dtype}", marks=marks)


def honest(solution, case, at_start):
    """Success is finite and its criterion holds; the returned point is never worse than a finite start."""
    x, value, error = solution.x[case], solution.fun[case], solution.error[case]
    if solution.success[case]:
        assert np.all(np.isfinite(x)) and np.all(np.isfinite(value)) and np.isfinite(error), solution.summary()
    if np.all(np.isfinite(at_start)):
        assert np.all(np.isfinite(x)) and np.all(np.isfinite(value))


@pytest.mark.parametrize("name, solver, dtype", list(cases(MINIMA, MINIMIZERS, "float64")))
def test_minimising(name, solver, dtype):
    solution, values = solved(jol.minimize, solver, dtype)
    case, status = list(MINIMA).index(name), MINIMA[name][2]
    before = values[case]
    honest(solution, case, before)
    if np.isfinite(before):
        assert solution.fun[case] <= before + 8 * np.finfo(dtype).eps * abs(before)
    assert Status(solution.status[case]) in (status if isinstance(status, tuple) else (status,)), solution.summary()


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_a_kink_is_approached_and_never_called_a_minimum(dtype):
    solution, _ = solved(jol.minimize, "bfgs", dtype)
    kink = list(MINIMA).index("a kink")
    assert solution.fun[kink] < 1e-9 and solution.error[kink] == 1


@pytest.mark.parametrize("name, solver, dtype", list(cases(ROOTS, ROOT_SOLVERS, "float32")))
def test_finding_roots(name, solver, dtype):
    solution, residuals = solved(jol.root, solver, dtype)
    case, status = list(ROOTS).index(name), ROOTS[name][2]
    before = np.asarray(residuals[case], np.float64)
    honest(solution, case, before)
    if np.all(np.isfinite(before)):
        after = np.asarray(solution.fun[case], np.float64)
        assert np.linalg.norm(after) <= np.linalg.norm(before) * (1 + 8 * np.finfo(dtype).eps)
    assert Status(solution.status[case]) == status, solution.summary()


@pytest.mark.parametrize("dtype", [pytest.param("float64", marks=pytest.mark.slow), "float32"])
def test_the_best_point_is_returned_where_there_is_no_root(dtype):
    """And soon: where rounding hides every change of the residual, a step that changes nothing is no progress."""
    starts = np.random.default_rng(0).uniform(-4, 4, (100, 1)).astype(dtype)
    solution = jax.jit(lambda x0: jol.root(lambda x, _: x**2 + 1, x0))(starts)
    assert np.all(solution.status == N) and np.max(solution.evaluations) < 2000
    np.testing.assert_allclose(solution.x, 0, atol=1e-3)
    np.testing.assert_allclose(solution.fun, 1, atol=1e-6)


def test_the_best_point_is_returned_where_there_is_no_minimum():
    """The lowest point that was seen, far below the start."""
    solution, _ = solved(jol.minimize, "bfgs", "float64")
    linear = list(MINIMA).index("linear")
    assert solution.status[linear] == U and solution.fun[linear] < -1e3


def test_out_of_steps_returns_the_best_point():
    solution = jax.tree.map(lambda leaf: leaf[len(MINIMA) :], solved(jol.minimize, "bfgs", "float64")[0])
    assert np.all(solution.status == Status.MAX_STEPS)
    np.testing.assert_array_equal(solution.steps, FEW)
    assert np.all(np.diff(solution.fun) <= 0)
    np.testing.assert_allclose(solution.fun[0], 24.2, rtol=1e-14)


@pytest.mark.parametrize(
    "entry, fun", [(jol.minimize, lambda x, a: jnp.sum((x - a) ** 2)), (jol.root, lambda x, a: x - a)]
)
@pytest.mark.parametrize("options", [{}, {"record": 4}, {"keep_state": True}, {"has_aux": True}])
def test_an_empty_batch(entry, fun, options):
    wrapped = (lambda x, a: (fun(x, a), a)) if options.get("has_aux") else fun
    solution = entry(wrapped, np.zeros((0, 2)), np.zeros(0), **options)
    assert solution.x.shape == (0, 2) and solution.status.shape == solution.success.shape == (0,)
    assert "0 problems" in solution.summary() and solution.raise_if_failed() is solution
    if "record" in options:
        assert solution.history.value.shape == (0, 4)


def test_whole_numbers_as_a_start():
    """Of every dtype, beside each other: they become floats."""
    x0 = {np.dtype(dtype).name: np.zeros((2, 2), dtype) for dtype in (bool, np.int8, np.int32, np.uint8, np.int64)}
    fun = lambda x, a: sum(jnp.sum((leaf - a) ** 2) for leaf in x.values())
    solution = jol.minimize(fun, x0, np.array([1, 2]))
    assert np.all(solution.success) and set(solution.x) == set(x0)
    for leaf in solution.x.values():
        assert leaf.dtype == np.float64
        np.testing.assert_allclose(leaf, [[1, 1], [2, 2]], atol=1e-6)


def test_half_precision():
    """Converges to what its three digits allow, in its own dtype."""
    solution = jol.minimize(lambda x, _: jnp.sum((x - 1) ** 2), np.zeros((2, 2), jnp.bfloat16))
    assert np.all(solution.success) and solution.x.dtype == jnp.bfloat16
    np.testing.assert_allclose(solution.x.astype("f4"), 1, atol=0.02)


def test_a_function_that_returns_another_dtype():
    """float64 data among the arguments of a float32 problem; a whole number as the value."""
    x0 = np.zeros((2, 2), np.float32)
    solution = jol.minimize(lambda x, a: jnp.sum((x - a) ** 2), x0, np.array([1.0, 2.0]))
    assert np.all(solution.success) and solution.x.dtype == solution.fun.dtype == solution.grad.dtype == np.float32
    solution = jol.root(lambda x, a: x.astype(jnp.float64) - a, x0, np.array([1.0, 2.0]), solver=PLAIN)
    assert np.all(solution.success) and solution.fun.dtype == np.float32
    solution = jol.minimize(lambda x, _: 3, x0)
    assert solution.success.all() and solution.fun.dtype == np.float32


X = np.zeros((2, 2))
scalar = lambda x, a: jnp.sum((x - 1) ** 2)
vector = lambda x, a: x - 1


MISTAKES = {
    "fun is no function": (lambda: jol.minimize(3, X), TypeError, ["fun", "int", "fun(x, args)"]),
    "solver of the other kind": (
        lambda: jol.minimize(scalar, X, solver=jol.Broyden()), TypeError, ["solver=Broyden(", "minimize", "BFGS()"],
    ),
    "minimiser for a root": (
        lambda: jol.root(vector, X, solver=jol.BFGS()), TypeError, ["solver=BFGS(", "root", "Broyden()"],
    ),
    "a class for a solver": (lambda: jol.minimize(scalar, X, solver=jol.BFGS), TypeError, ["solver=", "BFGS()"]),
    "vector to minimise": (lambda: jol.minimize(vector, X), ValueError, ["fun(x, args)", "2 numbers", "scalar", "sum"]),
    "array of one": (
        lambda: jol.minimize(lambda x, a: x[:1], X), ValueError, ["fun(x, args)", "one scalar, of shape ()"],
    ),
    "pair without has_aux": (
        lambda: jol.minimize(lambda x, a: (x[0], x), X), ValueError, ["fun(x, args)", "has_aux"],
    ),
    "no value": (lambda: jol.minimize(lambda x, a: None, X), ValueError, ["fun(x, args)", "0 numbers", "scalar"]),
    "too few equations": (
        lambda: jol.root(lambda x, a: x[:1], X),
        ValueError,
        ["fun(x, args)", "1 numbers", "2 unknowns", "least_squares"],
    ),
    "too many equations": (
        lambda: jol.root(lambda x, a: jnp.concatenate([x, x]), X), ValueError, ["4 numbers", "2 unknowns"],
    ),
    "complex value": (lambda: jol.minimize(lambda x, a: jnp.sum(x) * 1j, X), TypeError, ["complex", "real"]),
    "complex start": (lambda: jol.minimize(scalar, X * 1j), TypeError, ["x0", "complex128", "real"]),
    "aux is missing": (
        lambda: jol.minimize(scalar, X, has_aux=True), ValueError, ["has_aux=True", "(value, aux)"],
    ),
    "aux is text": (
        lambda: jol.minimize(lambda x, a: (x[0], {"name": "a"}), X, has_aux=True), TypeError,
        ["fun returned a str at [1]['name'], 'a'", "numbers"],
    ),
    "no batch axis": (lambda: jol.minimize(scalar, 1.0), ValueError, ["x0", "()", "batched=False"]),
    "no unknowns": (lambda: jol.minimize(scalar, np.zeros((2, 0))), ValueError, ["x0", "size zero"]),
    "no leaves": (lambda: jol.minimize(scalar, {}), ValueError, ["x0", "no leaves", "{}"]),
    "start is text": (lambda: jol.minimize(scalar, "abc"), TypeError, ["x0"]),
    "args of another length": (
        lambda: jol.minimize(scalar, X, np.ones(3)), ValueError, ["args", "3 entries", "expected 2", "args_axes=None"],
    ),
    "args without an axis": (
        lambda: jol.minimize(scalar, X, 3.0), ValueError, ["args", "batch axis 0", "args_axes=None"],
    ),
    "args_axes are no prefix": (
        lambda: jol.minimize(scalar, X, {"a": np.ones(2)}, args_axes={"b": 0}), ValueError,
        ["args_axes={'b': 0}", "prefix"],
    ),
    "args_axes are no axes": (
        lambda: jol.minimize(scalar, X, np.ones(2), args_axes=0.5), ValueError, ["args_axes", "0.5", "whole numbers"],
    ),
    "atol is negative": (
        lambda: jol.minimize(scalar, X, solver=jol.BFGS(atol=-1.0)), ValueError, ["atol", "-1.0", "not negative"],
    ),
    "rtol is NaN": (
        lambda: jol.root(vector, X, solver=jol.Broyden(rtol=float("nan"))), ValueError, ["rtol", "nan", "not negative"],
    ),
    "atol is infinite": (
        lambda: jol.minimize(scalar, X, solver=jol.BFGS(atol=[1e-3, np.inf])), ValueError, ["atol", "inf", "finite"],
    ),
    "rtol is complex": (
        lambda: jol.root(vector, X, solver=jol.Broyden(rtol=1j)), ValueError, ["rtol", "1j", "finite numbers"],
    ),
    "atol is a bool": (
        lambda: jol.minimize(scalar, X, solver=jol.LBFGS(atol=True)), ValueError, ["atol", "True", "finite numbers"],
    ),
    "bounds are complex": (
        lambda: jol.minimize(scalar, X, bounds=(np.zeros(2, complex), 1)), TypeError, ["lower bound", "complex"],
    ),
    "bounds are texts": (
        lambda: jol.minimize(scalar, X, bounds=(["a", "b"], ["c", "d"])), TypeError, ["lower bound", "<U1", "numbers"],
    ),
    "f_scale is complex": (
        lambda: jol.least_squares(vector, X, loss="huber", f_scale=1 + 1j), ValueError, ["f_scale=(1+1j)", "finite"],
    ),
    "max_steps is negative": (
        lambda: jol.minimize(scalar, X, solver=jol.BFGS(max_steps=-1)), ValueError, ["max_steps", "-1", "not negative"],
    ),
    "atol of another length": (
        lambda: jol.minimize(scalar, X, solver=jol.BFGS(atol=np.ones(3))), ValueError,
        ["atol", "(3,)", "one per problem", "(2,)"],
    ),
    "max_steps of another length": (
        lambda: jol.root(vector, X, solver=jol.Broyden(max_steps=np.ones((2, 1), int))), ValueError,
        ["max_steps", "(2, 1)", "(2,)"],
    ),
    "unknown Jacobian": (
        lambda: jol.Broyden(jacobian="exact"), ValueError, ["jacobian='exact'", "autodiff", "identity"],
    ),
    "no memory": (lambda: jol.LBFGS(memory=0), ValueError, ["memory=0", "at least 1"]),
    "broken memory": (lambda: jol.LimitedBroyden(memory=2.5), ValueError, ["memory=2.5", "whole number"]),
    "memory of truth": (lambda: jol.LBFGS(memory=True), ValueError, ["memory=True", "whole number"]),
    "rescue as a text": (lambda: jol.BFGS(rescue="no"), ValueError, ["rescue='no'", "True or False"]),
    "no rescue and no choice": (lambda: jol.Broyden(rescue=None), ValueError, ["rescue=None", "True or False"]),
    "slopes as a number": (lambda: jol.LimitedBroyden(slopes=2), ValueError, ["slopes=2", "True or False"]),
    "negative record": (lambda: jol.minimize(scalar, X, record=-1), ValueError, ["record=-1"]),
    "resume from something else": (lambda: jol.minimize(scalar, X, resume=3), (TypeError, ValueError), ["resume"]),
    "resume another solver": (
        lambda: jol.minimize(scalar, X, resume=kept(X, jol.LBFGS())), (TypeError, ValueError), ["resume"],
    ),
    "resume a smaller batch": (
        lambda: jol.minimize(scalar, np.zeros((5, 2)), resume=kept(X)), ValueError, ["resume", "2", "5"],
    ),
    "resume a larger batch": (
        lambda: jol.minimize(scalar, X, resume=kept(np.zeros((5, 2)))), ValueError, ["resume", "5", "2"],
    ),
}  # fmt: skip


def kept(x0, solver=None):
    """A state as `keep_state` returns it, of which only the shapes matter here."""
    state = jax.eval_shape(lambda: jol.minimize(scalar, x0, solver=solver, keep_state=True).state)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named(case):
    call, kind, words = MISTAKES[case]
    with pytest.raises(kind) as caught:
        call()
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_a_mistake_in_one_leaf_names_the_leaf():
    with pytest.raises(ValueError, match=r"x0\['a'\]: 2, x0\['b'\]\[0\]: 3"):
        jol.minimize(lambda x, a: 0.0, {"a": np.ones((2, 1)), "b": [np.ones((3, 1))]})
    with pytest.raises(ValueError, match=r"args\['k'\] has 5 entries along axis 0; expected 2"):
        jol.minimize(scalar, X, {"k": np.ones(5)})


def test_the_summary_names_the_failures():
    find = jax.jit(lambda a: jol.root(lambda x, a: x**2 - a, np.ones((4, 1)), a, solver=PLAIN))
    solution = find(np.array([1.0, -1.0, 4.0, np.nan]))
    text = solution.summary()
    assert "4 problems, 2 solved" in text
    assert "NO_ROOT" in text and "problems 1;" in text
    assert "NONFINITE_START" in text and "problems 3;" in text
    with pytest.raises(jol.SolveError, match="NO_ROOT"):
        solution.raise_if_failed()
