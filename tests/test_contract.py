"""What every solver promises, whatever the problem: one suite for all of them.

Bit for bit means exactly that: the bytes of two arrays are compared, so that NaN equals itself and −0 is not 0.
Each (solver, problem, dtype, batch size) compiles once and serves several tests. All programs here are optimised
little, which is no matter to what is promised; what the optimiser might do to the bits is the subject of `test_bits`.
"""

import functools
import operator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import Status
from jaxopt_lite.lanes.batch import axis_per_leaf, batch_of
from jaxopt_lite.lanes.problem import LaneProblem, trace
from jaxopt_lite.solvers.tolerances import limits as limits_of
from tests.problems import MGH_UNCONSTRAINED, NONLINEAR_23, perturbed

MINIMIZERS = {"bfgs": jol.BFGS(), "lbfgs": jol.LBFGS()}
ROOT_SOLVERS = {
    "broyden": jol.Broyden(),
    "broyden from I": jol.Broyden(jacobian="identity"),
    "limited broyden": jol.LimitedBroyden(),
    "limited broyden, no slopes": jol.LimitedBroyden(slopes=False),
}
FITTERS = {"levenberg marquardt": jol.LevenbergMarquardt()}
SOLVERS = MINIMIZERS | ROOT_SOLVERS | FITTERS
ENTRIES = {"minimum": jol.minimize, "root": jol.root, "least squares": jol.least_squares}
COUNT, LARGE = 50, 1000

OBJECTIVES = ("beale", "helical valley", "wood", "watson 6", "box 3d", "extended rosenbrock 10")
SYSTEMS = ("boggs", "helical valley", "broyden banded 10", "chandrasekhar 10", "dennis schnabel", "watson 2")
QUICK = 1  # of the six problems of each solver, the rest are marked slow


def of_each(solvers, problems):
    """Every solver with every problem."""
    return [
        pytest.param(solver, name, marks=[slow] if place >= QUICK or solver in RARELY else [], id=f"{solver}, {name}")
        for solver in solvers
        for place, name in enumerate(problems)
    ]


pytestmark = pytest.mark.hardly_optimized
slow = pytest.mark.slow
# Other forms of the same solvers; their problems are below.
RARELY = {"broyden from I", "limited broyden, no slopes"}
each_solver = pytest.mark.parametrize(
    "solver", [pytest.param(name, marks=[slow] if name in RARELY else [], id=name) for name in SOLVERS]
)


def quick(*names):
    """Every solver; those not named here are slow, because what is asked does not depend on the method."""
    return pytest.mark.parametrize(
        "solver", [pytest.param(name, marks=[] if name in names else [slow], id=name) for name in SOLVERS]
    )


EACH_PROBLEM = of_each(MINIMIZERS, OBJECTIVES) + of_each(ROOT_SOLVERS | FITTERS, SYSTEMS)
each_problem = pytest.mark.parametrize("solver, name", EACH_PROBLEM)


def main_problem(solver):
    """The problem of a solver whose programs serve the quick tests."""
    return (OBJECTIVES if solver in MINIMIZERS else SYSTEMS)[0]


@functools.cache
def problem_of(solver, name):
    """The problem, and its function of x and args: one object, so that it compiles once."""
    problem = next(p for p in (MGH_UNCONSTRAINED if solver in MINIMIZERS else NONLINEAR_23) if p.name == name)
    return problem, lambda x, args: problem.fun(x)


def ask(solver, fun, x0, args=None, settings=None, rescue=False, **options):
    """`minimize`, `root` or `least_squares`, with the solver of this name and other settings.

    The second method of a solver is left out unless asked for: the program is half as long then.
    """
    entry = ENTRIES[SOLVERS[solver].kind]
    return entry(fun, x0, args, solver=replace(chosen(solver, rescue), **(settings or {})), **options)


def chosen(solver, rescue):
    return SOLVERS[solver] if rescue else replace(SOLVERS[solver], rescue=False)


def starts(solver, name, count=COUNT, dtype="float64"):
    return np.asarray(perturbed(problem_of(solver, name)[0], count), dtype)


@functools.cache
def solved(solver, name, count=COUNT, dtype="float64"):
    return ask_all(solver, name, starts(solver, name, count, dtype))


def ask_all(solver, name, x0):
    """A problem of the sets, by all methods of a solver."""
    return ask(solver, problem_of(solver, name)[1], x0, rescue=True)


def assert_same_bits(got, expected):
    """Every array of two pytrees has the same dtype, shape and bytes."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        where = jax.tree_util.keystr(path)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        if a.tobytes() != b.tobytes():
            same = [x.tobytes() == y.tobytes() for x, y in zip(np.atleast_1d(a), np.atleast_1d(b), strict=True)]
            first = same.index(False)
            raise AssertionError(
                f"{where} differs in {same.count(False)} of {len(same)} lanes, first in {first}: "
                f"{np.atleast_1d(a)[first]} and {np.atleast_1d(b)[first]}"
            )


def lanes(tree, index):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


# --- A family of problems with data, for minimisers and root solvers ----------------------------------------


def loss(x, args):
    """Regularised logistic regression with features that all problems share."""
    features, labels = args
    return jnp.mean(jnp.log1p(jnp.exp(features @ x)) - labels * (features @ x)) + 0.05 * jnp.sum(x**2)


def loss_gradient(x, args):
    return jax.grad(loss)(x, args)


def misfit(x, args):
    """The same features and labels, fitted by the curve alone: more residuals than unknowns, and none is zero."""
    features, labels = args
    return jnp.concatenate([jax.nn.sigmoid(features @ x) - labels, 0.2 * x])


def regression(solver, count, dtype="float64"):
    """The function and its data: `(features, labels)`, the first shared and the second one a problem."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((12, 3)).astype(dtype)
    labels = np.random.default_rng(1).integers(0, 2, (LARGE, 12))[:count].astype(dtype)
    fun = {"minimum": loss, "root": loss_gradient, "least squares": misfit}[SOLVERS[solver].kind]
    return fun, (features, labels)


def slope(fun):
    """What is zero at a minimum of ‖F‖²/2."""
    return jax.grad(lambda x: jnp.sum(fun(x) ** 2) / 2)


# --- Solving ------------------------------------------------------------------------------------------------


@each_problem
def test_converges(solver, name):
    problem, _ = problem_of(solver, name)
    solution = solved(solver, name)
    assert np.mean(solution.success) >= 0.96, solution.summary()
    criterion = {"minimum": jax.grad, "root": lambda fun: fun, "least squares": slope}[SOLVERS[solver].kind](
        problem.fun
    )
    error = np.max(np.abs(jax.jit(jax.vmap(criterion))(solution.x)), axis=1)
    size = np.maximum(1, np.abs(solution.fun)) if solver in MINIMIZERS else 1
    assert np.all((error <= 1e-5 * size)[np.asarray(solution.success)])


def test_limited_memory_that_holds_every_step_costs_hardly_an_evaluation():
    """With a wrong direction it would converge all the same, by starting anew along the gradient."""
    dense, limited = (np.mean(solved(solver, "beale").evaluations) for solver in ("bfgs", "lbfgs"))
    assert limited <= 1.1 * dense


@each_problem
def test_the_order_of_the_lanes_does_not_matter(solver, name):
    order = np.random.default_rng(2).permutation(COUNT)
    permuted = ask_all(solver, name, starts(solver, name)[order])
    assert_same_bits(permuted, lanes(solved(solver, name), order))


@pytest.mark.parametrize(
    "solver, name, mates",
    [
        # A fit gives what is far away to the fallback, of which the tests of the trust region say the same.
        pytest.param(
            *case.values,
            mates,
            marks=[*case.marks, *([slow] if mates == "far away" and case.values[0] in FITTERS else [])],
            id=f"{mates}-{case.id}",
        )
        for mates in ("nan", "far away")
        for case in EACH_PROBLEM
    ],
)
def test_batch_mates_do_not_matter(solver, name, mates):
    start, kept = starts(solver, name), np.arange(COUNT) % 3 != 1
    start[~kept] = np.nan if mates == "nan" else 50 * start[~kept] + 3
    crowded = ask_all(solver, name, start)
    assert_same_bits(lanes(crowded, kept), lanes(solved(solver, name), kept))
    if mates == "nan":
        assert np.all(np.asarray(crowded.status)[~kept] == Status.NONFINITE_START)
        assert not np.any(np.asarray(crowded.success)[~kept])


@slow
@each_solver
@pytest.mark.parametrize("count", [1, 1000])
def test_the_size_of_the_batch_does_not_matter(solver, count):
    expected, got = solved(solver, main_problem(solver)), solved(solver, main_problem(solver), count)
    common = np.arange(min(count, COUNT))
    assert_same_bits(lanes(got, common), lanes(expected, common))


@quick("bfgs", "broyden")  # a fit of one problem is among the regressions
def test_one_problem_without_a_batch_axis_is_the_same(solver):
    """It is in no batch, so that it may round otherwise than one of a batch, and take a step more or less."""
    fun = problem_of(solver, main_problem(solver))[1]
    alone = ask(solver, fun, starts(solver, main_problem(solver))[7], batched=False)
    batched = lanes(solved(solver, main_problem(solver)), 7)
    assert alone.success and batched.success
    np.testing.assert_allclose(alone.x, batched.x, atol=1e-6)
    assert alone.x.shape == batched.x.shape and alone.status.shape == () and alone.error.shape == ()


@quick("bfgs")
@pytest.mark.parametrize("count", [1, pytest.param(COUNT, marks=slow)])
def test_the_size_of_the_batch_does_not_matter_with_shared_data_in_float32(solver, count):
    """A product with shared data is a matrix product, which XLA gives to a library."""
    got, expected = (solved_regression(solver, size) for size in (count, LARGE))
    assert_same_bits(got, lanes(expected, np.arange(count)))


@functools.cache
def solved_regression(solver, count):
    fun, data = regression(solver, count, "float32")
    rescue = solver == "broyden from I"  # which by itself leaves one in forty unsolved
    return ask(solver, fun, np.zeros((count, 3), np.float32), data, rescue=rescue, args_axes=(None, 0))


@quick("bfgs", "levenberg marquardt")
def test_float32_stays_float32(solver):
    """Of all solvers, the types of their states are below."""
    solution = solved_regression(solver, LARGE)
    assert np.all(solution.success), solution.summary()
    floats = {leaf.dtype for leaf in jax.tree.leaves(solution) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    others = {leaf.dtype for leaf in (solution.status, solution.steps, solution.evaluations)}
    assert floats == {np.dtype("float32")} and others == {np.dtype("int32")}
    assert solution.success.dtype == bool


@each_solver
def test_float64_stays_float64(solver):
    solution = solved(solver, main_problem(solver))
    floats = {leaf.dtype for leaf in jax.tree.leaves(solution) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert floats == {np.dtype("float64")}


# --- Settings, recording and resuming: one compiled call serves them all ------------------------------------

RECORD = 30


def tight(solver):
    """A tolerance that the first method of the solver comes to by itself."""
    return 1e-5 if solver.startswith(("limited broyden", "broyden from I")) else 1e-7


def with_limits(solver, atol=None, max_steps=1000, resume=None, shift=0.0):
    fun, data = regression(solver, COUNT)
    settings = {
        "atol": np.broadcast_to(np.float64(tight(solver) if atol is None else atol), COUNT), "rtol": np.zeros(COUNT),
        "max_steps": np.broadcast_to(np.int32(max_steps), COUNT),
    }  # fmt: skip
    return ask(
        solver, fun, np.zeros((COUNT, 3)) + shift, data, settings, args_axes=(None, 0), keep_state=True,
        record=RECORD, resume=resume,
    )  # fmt: skip


def without(solution, *names):
    return replace(solution, **dict.fromkeys(names))


@quick("bfgs", "limited broyden")
def test_a_second_call_with_other_numbers_compiles_nothing(solver):
    compiled = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    with_limits(solver)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with_limits(solver, atol=1e-3, max_steps=4, shift=0.5)
        assert compiled == []
        jax.jit(lambda x: x * len(compiled))(1.0)
        assert compiled != []  # the listener hears compilations
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@quick("bfgs")  # that nothing is compiled is asked of a root, too
def test_nothing_is_traced_again_for_other_numbers_and_scalar_tolerances(solver):
    traced = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/jaxpr_trace_duration":
            traced.append(event)

    fun = (lambda x, a: jnp.sum((x - a) ** 2)) if solver in MINIMIZERS else (lambda x, a: (x - a) ** 3 + x)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for tolerance, steps in ((1e-3, 50), (1e-5, 60)):
            settings = {"atol": tolerance, "rtol": tolerance, "max_steps": steps}
            ask(solver, fun, np.ones((4, 2)) + tolerance, np.full(4, tolerance), settings)
            first = len(traced) if tolerance == 1e-3 else first
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(traced) == first > 0


@quick("bfgs", "limited broyden")
def test_every_lane_has_its_own_tolerance(solver):
    loose = np.arange(COUNT) % 2 == 0
    mixed = with_limits(solver, atol=np.where(loose, 1e-2, tight(solver)))
    assert_same_bits(lanes(mixed, ~loose), lanes(with_limits(solver), ~loose))
    assert_same_bits(lanes(mixed, loose), lanes(with_limits(solver, atol=1e-2), loose))
    assert np.mean(np.asarray(mixed.steps)[loose]) < np.mean(np.asarray(mixed.steps)[~loose])
    assert np.all(np.asarray(mixed.error) <= np.where(loose, 1e-2, tight(solver)))


@quick("bfgs", "limited broyden")
def test_every_lane_has_its_own_most_steps(solver):
    short = np.arange(COUNT) % 4 == 0
    mixed = with_limits(solver, max_steps=np.where(short, 2, 1000))
    assert_same_bits(lanes(mixed, ~short), lanes(with_limits(solver), ~short))
    assert np.all(np.asarray(mixed.status)[short] == Status.MAX_STEPS)
    assert np.all(np.asarray(mixed.steps)[short] == 2)


@quick("limited broyden")
@pytest.mark.parametrize("pauses", [(2,), (1, 3)])
def test_resuming_gives_the_answer_of_an_uninterrupted_solve(solver, pauses):
    solution = None
    for steps in pauses:
        solution = with_limits(solver, max_steps=steps, resume=solution and solution.state)
        assert np.any(np.asarray(solution.status) == Status.MAX_STEPS)
    resumed = with_limits(solver, resume=solution.state)
    assert np.all(resumed.success), resumed.summary()
    assert_same_bits(without(resumed, "history"), without(with_limits(solver), "history"))


@quick("bfgs", "limited broyden")
def test_the_record_holds_the_start_and_each_step(solver):
    fun, (features, labels) = regression(solver, COUNT)
    solution = with_limits(solver)
    value, error, steps = (np.asarray(a) for a in (solution.history.value, solution.history.error, solution.steps))
    assert value.shape == error.shape == (COUNT, RECORD)
    after_the_end = np.arange(RECORD) > steps[:, None]
    assert np.any(after_the_end) and np.array_equal(np.isnan(value), after_the_end)
    assert np.array_equal(np.isnan(error), after_the_end)

    def progress(x, labels):
        of_x = lambda x: fun(x, (features, labels))
        f = of_x(x)
        if solver in MINIMIZERS:
            return f, jnp.max(jnp.abs(jax.grad(of_x)(x)))
        if solver in ROOT_SOLVERS:
            return jnp.sum(f**2) / 2, jnp.max(jnp.abs(f))
        j = jax.jacfwd(of_x)(x)
        cosines = j.T @ f / jnp.linalg.norm(j, axis=0) / jnp.linalg.norm(f)
        return jnp.sum(f**2) / 2, jnp.max(jnp.abs(cosines))

    at_start = jax.jit(jax.vmap(progress))(jnp.zeros((COUNT, 3)), labels)
    np.testing.assert_allclose((value[:, 0], error[:, 0]), at_start, rtol=1e-12)
    short = steps < RECORD
    at_end = jax.jit(jax.vmap(progress))(solution.x, labels)
    last = (value[short, steps[short]], error[short, steps[short]])
    np.testing.assert_allclose(last, np.asarray(at_end)[:, short], rtol=1e-6, atol=1e-14)


@each_solver
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_types_of_a_state_never_change(solver, dtype):
    """Of every method of the solver: by `step`, by `begin`, and between a tile and its lanes."""
    fun, data = regression(solver, 8, dtype)
    batch, layout = batch_of(np.zeros((8, 3), dtype), data, axis_per_leaf(data, (None, 0)), True)
    function, batch = trace(fun, batch, layout, False)
    function = function._replace(loss="linear" if solver in FITTERS else None)
    leaves = tuple(
        jnp.moveaxis(leaf, 0, -1) if mapped else leaf
        for leaf, mapped in zip(batch.leaves, batch.is_mapped, strict=True)
    )
    problem = LaneProblem(function, leaves, batch.is_mapped)
    limits = limits_of(SOLVERS[solver], batch.x)
    types = functools.partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype))
    for place, method in enumerate(SOLVERS[solver].methods()):
        state = jax.eval_shape(method.init, batch.x.T if place == 0 else (batch.x.T, batch.x.T))
        stepped, begun = jax.eval_shape(
            lambda state, method=method: (method.step(problem, limits, state), method.begin(problem, limits, state)),
            state,
        )
        assert types(stepped) == types(state) and types(begun) == types(state)
        assert {leaf.dtype for leaf in jax.tree.leaves(state) if leaf.dtype.kind == "f"} == {np.dtype(dtype)}
        assert {leaf.shape[-1] for leaf in jax.tree.leaves(state)} == {8}


# --- Inside other transformations ---------------------------------------------------------------------------


def tilted(solver):
    """A function of mapped and shared arguments, and of something closed over."""

    def make(closed_over):
        def fun(x, args):
            mapped, shared = args
            gradient = shared * jnp.sinh(x - mapped) + closed_over * x
            objective = jnp.sum(shared * jnp.cosh(x - mapped) + closed_over * x**2 / 2)
            return objective if solver in MINIMIZERS else gradient

        return fun

    return make


def without_counters(solution):
    return solution.x, solution.fun, solution.grad, solution.status, solution.steps


GROUPS, EACH, UNKNOWNS = 3, 5, 2


@functools.cache
def groups(solver):
    """A function, [K, B] starts and arguments, arguments [K] of each group, and the solution of K·B in a program."""
    rng = np.random.default_rng(3)
    x0, mapped = rng.standard_normal((2, GROUPS, EACH, UNKNOWNS))
    shared = 1 + rng.random((GROUPS, UNKNOWNS))
    fun = tilted(solver)(0.3)
    flat_args = (mapped.reshape(-1, UNKNOWNS), np.repeat(shared, EACH, axis=0))
    flat = jax.jit(lambda x0, args: ask(solver, fun, x0, args))(x0.reshape(-1, UNKNOWNS), flat_args)
    return fun, (x0, mapped, shared), flat


@quick("limited broyden")
def test_under_jit_and_an_outer_vmap(solver):
    """[K, B] problems under `vmap` are one batch of K·B; and `jit` changes nothing."""
    fun, arguments, flat = groups(solver)

    def grouped(x0, mapped, shared):
        return ask(solver, fun, x0, (mapped, shared), args_axes=(0, None))

    both = jax.jit(jax.vmap(grouped))(*arguments)
    assert np.all(both.success), flat.summary()
    np.testing.assert_allclose(both.x.reshape(flat.x.shape), flat.x, rtol=1e-13, atol=1e-13)
    assert_same_bits(both.steps.reshape(-1), flat.steps)
    assert_same_bits(both.status.reshape(-1), flat.status)


THINGS = ["mapped", "closed over", "shared", "tolerances"]


@pytest.mark.parametrize("solver", ["bfgs", pytest.param("broyden", marks=slow)])
@pytest.mark.parametrize("which", [THINGS, *(pytest.param([thing], marks=slow) for thing in THINGS)], ids=" and ".join)
def test_vmap_over_something_equals_a_loop(solver, which):
    make, rng = tilted(solver), np.random.default_rng(4)
    x0, mapped, shared = rng.standard_normal((5, 2)), rng.standard_normal((5, 2)), 1 + rng.random(2)
    changes = 1 + rng.random(3)

    def one(change):
        factor = {thing: change if thing in which else np.float64(1.0) for thing in THINGS}
        args = mapped * factor["mapped"], shared * factor["shared"]
        closed_over = jnp.asarray(0.3 * factor["closed over"])  # an array, so that one program serves for all numbers
        fun, settings = make(closed_over), {"atol": 1e-4 * factor["tolerances"]}
        return without_counters(ask(solver, fun, x0, args, settings, args_axes=(0, None)))

    together, alone = jax.vmap(one)(changes), [one(change) for change in changes]
    for a, *each in zip(jax.tree.leaves(together), *map(jax.tree.leaves, alone), strict=True):
        np.testing.assert_allclose(a, np.stack(each), rtol=1e-12, atol=1e-12)
    assert np.all(np.asarray(together[3]) == Status.CONVERGED)


@quick("limited broyden")
def test_nested_vmap_of_a_single_problem_is_one_batch(solver):
    fun, arguments, flat = groups(solver)

    def one(x0, mapped, shared):
        return without_counters(ask(solver, fun, x0, (mapped, shared), batched=False))

    nested = jax.jit(jax.vmap(jax.vmap(one, in_axes=(0, 0, None))))(*arguments)
    for a, b in zip(jax.tree.leaves(nested), jax.tree.leaves(without_counters(flat)), strict=True):
        np.testing.assert_allclose(np.asarray(a).reshape(b.shape), b, rtol=1e-12, atol=1e-12)


# --- Shapes: pytrees, args_axes, aux ------------------------------------------------------------------------


def test_unknowns_can_be_any_pytree():
    x0 = {"a": np.zeros((4, 2, 3), np.float32), "b": (np.ones(4), [np.zeros((4, 1))])}
    target = np.arange(4.0)

    def fun(x, t):
        assert x["a"].shape == (2, 3) and x["a"].dtype == jnp.float32 and x["b"][0].shape == ()
        return jnp.sum((x["a"] - t) ** 2) + (x["b"][0] + t) ** 2 + jnp.sum((x["b"][1][0] - 2 * t) ** 4)

    solution = jol.minimize(fun, x0, target)
    assert np.all(solution.success), solution.summary()
    for tree in (solution.x, solution.grad):
        assert jax.tree.structure(tree) == jax.tree.structure(x0)
        assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] == [
            (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(x0)
        ]
    np.testing.assert_allclose(solution.x["a"], np.broadcast_to(target[:, None, None], (4, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(solution.x["b"][0], -target, atol=1e-5)
    assert solution.fun.shape == (4,)


def test_residuals_can_be_any_pytree_of_as_many_numbers_and_so_can_args_and_aux():
    """Among the arguments lists, and None."""

    def fun(x, args):
        a, factor = args[1], args[2]["k"]
        residual = {"first": x["u"] ** 2 - a, "second": (x["v"][0] - 1, x["v"][1] * factor - x["u"])}
        return residual, {"twice": [2 * x["u"]], "count": jnp.int32(3), "of": a}

    x0, squares = {"u": np.ones(3), "v": np.zeros((3, 2))}, np.array([1.0, 4.0, 9.0])
    solution = ask("broyden", fun, x0, [None, squares, {"k": 2 * np.ones(3)}], has_aux=True)
    assert np.all(solution.success), solution.summary()
    np.testing.assert_allclose(solution.x["u"], [1, 2, 3], atol=1e-8)
    np.testing.assert_allclose(solution.x["v"], [[1, 0.5], [1, 1], [1, 1.5]], atol=1e-8)
    assert jax.tree.map(np.shape, solution.fun) == {"first": (3,), "second": ((3,), (3,))}
    aux = {"twice": [2 * solution.x["u"]], "count": np.full(3, 3, np.int32), "of": squares}
    assert_same_bits(solution.aux, aux)


AXES = {
    "leading": (0, lambda a, b, c: {"a": a, "b": (b, c)}),
    "one for all": (None, lambda a, b, c: {"a": a[0], "b": (b[0], c[0])}),
    "prefix": ({"a": 0, "b": None}, lambda a, b, c: {"a": a, "b": (b[0], c[0])}),
    "each": ({"a": None, "b": (1, 0)}, lambda a, b, c: {"a": a[0], "b": (b.T, c)}),
    "last": ({"a": 0, "b": (-1, None)}, lambda a, b, c: {"a": a, "b": (b.T, c[0])}),
}


@pytest.mark.parametrize("variant", [pytest.param(name, marks=[] if name == "last" else slow) for name in AXES])
def test_args_axes_follow_vmap(variant):
    axes, arrange = AXES[variant]
    rng = np.random.default_rng(6)
    args = arrange(rng.standard_normal(4), rng.standard_normal((4, 3)), rng.standard_normal((4, 2, 2)))

    def answer(args):
        return args["a"] + args["b"][0] * jnp.sum(args["b"][1])

    residual = lambda x, args: x - answer(args)
    solution = ask("broyden", residual, np.zeros((4, 3)), args, args_axes=axes)
    expected = jax.jit(jax.vmap(answer, in_axes=(axes,), axis_size=4))(args)
    np.testing.assert_allclose(solution.x, expected, atol=1e-6)


@quick("bfgs")  # a root's is above
def test_aux_belongs_to_the_answer(solver):
    def fun(x, a):
        aux = {"twice": 2 * x, "count": jnp.int32(3), "of": a}
        return (jnp.sum((x - a) ** 2) if solver in MINIMIZERS else x - a), aux

    solution = ask(solver, fun, np.zeros((3, 2)), np.array([1.0, 2.0, 3.0]), has_aux=True)
    assert np.all(solution.success)
    assert_same_bits(solution.aux["twice"], 2 * solution.x)
    assert_same_bits(solution.aux["count"], np.full(3, 3, np.int32))
    assert_same_bits(solution.aux["of"], np.array([1.0, 2.0, 3.0]))


def test_a_solution_passes_through_jit_and_back():
    _, _, solution = groups("limited broyden")
    assert isinstance(solution, jol.Solution)
    assert "15 problems, 15 solved" in solution.summary() and solution.raise_if_failed() is solution


# --- Accesses by index --------------------------------------------------------------------------------------


def small(solver, rescue=False):
    fun = tilted(solver)(0.3)
    args = (np.random.default_rng(7).standard_normal((70, 2)), np.ones(2))
    return lambda x0: ask(solver, fun, x0, args, rescue=rescue, args_axes=(0, None), record=3).x


@pytest.mark.parametrize(
    "solver, rescue",
    [
        ("bfgs", True),
        ("lbfgs", False),
        ("broyden", False),
        pytest.param("broyden", True, marks=slow),  # whose later method is the next one's, but for what is proved above
        ("limited broyden", True),
        ("levenberg marquardt", False),
        pytest.param("broyden from I", True, marks=slow),
    ],
)
def test_every_index_is_proved_to_be_in_range(solver, rescue):
    unproved = jol.bounds.find_unchecked(small(solver, rescue), np.zeros((70, 2)))
    assert unproved == [], "\n".join(map(str, unproved))


@quick("broyden")
def test_no_index_is_out_of_range_in_a_run(solver):
    x0 = np.random.default_rng(8).standard_normal((70, 2))
    np.testing.assert_allclose(jol.bounds.checked(small(solver))(x0), small(solver)(x0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", ["bfgs", "broyden"])
def test_every_index_of_a_derivative_is_proved_to_be_in_range(solver):
    fun = tilted(solver)(0.3)
    args = (np.zeros((70, 2)), np.ones((70, 2)))
    slope = jax.grad(lambda args: jnp.sum(ask(solver, fun, np.ones((70, 2)), args).x))
    unproved = jol.bounds.find_unchecked(slope, args)
    assert unproved == [], "\n".join(map(str, unproved))


def test_operators_can_be_functions():
    """A function without a name or a source is as good as any."""
    solution = ask("broyden", functools.partial(operator.sub), np.zeros((3, 2)), np.ones(3))
    np.testing.assert_allclose(solution.x, 1.0)
