"""`root` and `minimize` see what a function reads now, as SciPy does; also certificates, starts and chunks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite.lanes import fan_out, widths
from jaxopt_lite.solvers import pipeline
from jaxopt_lite.solvers.choice import Reach
from jaxopt_lite.solvers.tolerances import checked, limits

pytestmark = pytest.mark.hardly_optimized

PLAIN = jol.Broyden(rescue=False)  # which compiles in less time
X = np.zeros((3, 2))
PRICE = 1.0
CURVE = np.array([1.0, 2.0])
SETTINGS = {"shift": 1.0}


def helper(x):
    return x - PRICE


def reads_all(x, _):
    return helper(x) - CURVE - SETTINGS["shift"]


def wanted():
    return PRICE + CURVE + SETTINGS["shift"]


class Tank:
    """A callable that cannot be a key, and a method."""

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __init__(self, level):
        self.level = level

    def __call__(self, x, _):
        return x - self.level

    def loss(self, x, _):
        return jnp.sum((x - self.level) ** 2)


def solved(solution):
    assert np.all(solution.success), solution.summary()
    return np.asarray(solution.x)


def test_what_the_function_reads_is_read_at_every_call(monkeypatch):
    def check(also_solved=True):
        """A certificate is of the function as it is now, and compiles in less time than a solve does."""
        if also_solved:
            assert np.allclose(solved(jol.root(reads_all, X, solver=PLAIN)), wanted())
        right_and_wrong = np.array([[0.0], [1e-3], [-1e-3]])
        certificate = jol.certify_root(reads_all, X + wanted() + right_and_wrong)
        assert certificate.valid.tolist() == [True, False, False]

    check()
    monkeypatch.setattr(f"{__name__}.CURVE", np.array([3.0, 4.0]))
    check()
    CURVE[1] = 7.0
    check()
    monkeypatch.setitem(SETTINGS, "shift", 2.0)
    check(also_solved=False)
    monkeypatch.setattr(f"{__name__}.PRICE", 5.0)
    check()
    monkeypatch.setattr(f"{__name__}.helper", lambda x: (x - PRICE) * 2 - CURVE - SETTINGS["shift"])
    check(also_solved=False)
    best = jol.multistart(reads_all, np.zeros((3, 2, 2)), solver=PLAIN)
    assert np.allclose(solved(best), wanted())
    in_chunks = jol.in_chunks(lambda x0, args: jol.root(reads_all, x0, solver=PLAIN), X, chunk=2, progress=False)
    assert np.allclose(solved(in_chunks), wanted())
    monkeypatch.undo()
    check()


def test_a_changed_attribute_is_seen():
    tank = Tank(np.zeros(2))
    for level in (1.0, [3.0, 4.0], [4.0, 5.0]):
        tank.level = jnp.asarray(level) + np.zeros(2)
        assert np.allclose(solved(jol.minimize(tank.loss, X)), level, atol=1e-5)
        assert np.allclose(solved(jol.root(tank, X, solver=PLAIN)), level)
        assert np.all(jol.certify_minimum(tank.loss, X + level).valid)
        assert np.all(jol.check_derivatives(tank, X).agree)
    tank.level = np.array([3.0, 4.0])
    solution = jol.minimize(tank.loss, X)
    tank.level[:] = 9.0  # while the solution may still be computed
    assert np.allclose(solved(solution), [3.0, 4.0], atol=1e-5)


def test_a_changed_rule_for_derivatives_is_seen():
    def objective(slope):
        @jax.custom_jvp
        def f(x):
            return jnp.sum(x**2)

        f.defjvp(lambda primals, tangents: (f(primals[0]), slope * jnp.dot(2 * primals[0], tangents[0])))
        return lambda x, _: f(x) + 0.0

    for slope in (1.0, 3.0, 1.0):
        assert np.all(jol.check_derivatives(objective(slope), X + 1.0).agree) == (slope == 1.0)


def test_within_a_function_that_is_jitted_anew_a_change_is_seen(monkeypatch):
    """The program inside must not be one of before, though `root` has the same function and shapes."""

    def outer(x):
        return jol.root(reads_all, x, solver=PLAIN).x

    assert np.allclose(jax.jit(outer)(X), wanted())
    monkeypatch.setattr(f"{__name__}.PRICE", 2.0)
    assert np.allclose(jax.jit(lambda x: outer(x))(X), wanted())


def test_derivatives_are_those_of_what_is_captured_now():
    tank = Tank(np.ones(()))

    def sum_of_answers(level):
        return jol.root(lambda x, _: x**3 - level * tank.level, X + 1.0, solver=PLAIN).x.sum()

    for factor in (1.0, 8.0):
        tank.level[...] = factor
        assert np.isclose(jax.grad(sum_of_answers)(1.0), 6 * factor ** (1 / 3) / 3)


@pytest.mark.parametrize("kind", [jol.BFGS, jol.LBFGS, jol.Broyden, jol.LimitedBroyden, jol.LevenbergMarquardt])
def test_solvers_with_the_same_settings_are_equal(kind):
    assert kind() == kind() and hash(kind()) == hash(kind()) and kind() != kind(atol=1e-3) != 3
    assert kind(atol=np.ones(3)) == kind(atol=jnp.ones(3)) != kind(atol=np.arange(3.0))
    assert kind(atol=np.ones(3)) != kind(atol=np.ones(2)) and kind(rescue=False) != kind(rescue=True)
    with pytest.raises(jax.errors.TracerArrayConversionError):  # neither equal nor unequal
        jax.jit(lambda atol: kind(atol=atol) == kind(atol=1e-3))(1e-3)


@pytest.mark.parametrize("kind, few", [(jol.BFGS, 1000), (jol.LBFGS, 1000), (jol.Broyden, 2000),
                                       (jol.LimitedBroyden, 2000), (jol.LevenbergMarquardt, 1000)])  # fmt: skip
def test_problems_of_many_unknowns_may_take_more_steps(kind, few):
    most = lambda n, **setting: limits(checked(kind(**setting)), jnp.zeros((2, n))).max_steps.tolist()
    assert most(3) == most(50) == [few, few] and most(600) == [12_000, 12_000]
    assert most(600, max_steps=7) == [7, 7] and most(600, max_steps=[7, 8]) == [7, 8]


@pytest.mark.slow
def test_a_long_valley_is_walked_to_its_end():
    rosenbrock = lambda x, _: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    start = np.random.default_rng(0).uniform(-2, 2, (1, 250))
    solution = jol.minimize(rosenbrock, start, solver=jol.LBFGS())
    assert np.allclose(solved(solution), 1, atol=1e-5) and solution.steps[0] > 1000


def test_more_steps_than_can_be_counted_are_as_many_as_can_be():
    square, start = (lambda x, _: x**2 - 4), np.full((3, 1), 5.0, "f4")
    find = lambda most: jol.root(square, start, solver=jol.Broyden(max_steps=most, rescue=False))
    for in_double, counts in (
        (True, (2**31, np.full(3, 2**33))),
        (False, (10**12, np.int64(2**40), np.uint64(2**63))),
    ):
        with jax.enable_x64(in_double):
            for most in counts:
                assert np.all(checked(jol.Broyden(max_steps=most)).max_steps == 2**31 - 1)
            assert np.allclose(solved(find(counts[-1])), 2.0, atol=1e-5)
    traced = jax.jit(lambda most: find(most).status)
    assert np.all(traced(2**40) == 0) and np.all(traced(np.uint32(2**32 - 1)) == 0)
    for most in (2.5, True):
        with pytest.raises(ValueError, match="max_steps=.*: expected whole numbers"):
            traced(most)


def parabola(x, a):
    """Two roots for a < 0, and none for a > 0."""
    return jnp.stack([x[0] ** 2 + a, x[1] - x[0]])


@pytest.mark.parametrize("size", [*(pytest.param(size, marks=pytest.mark.slow) for size in (1, 5)), 200])
def test_later_methods_are_compiled_where_some_problem_needs_them(size, monkeypatch):
    """And give what they give in one program with the first, to the bit, in parts too."""
    traced, method = [], pipeline.run_methods
    monkeypatch.setattr(pipeline, "run_methods", lambda *a: traced.append((a[0].reach, len(a[3]))) or method(*a))
    monkeypatch.setattr(fan_out, "cores", lambda: 2)
    monkeypatch.setattr(widths, "_PART_OPERATIONS", 1)
    rng = np.random.default_rng(0)
    x0, a = rng.normal(size=(size, 2)), np.linspace(0.5, -2, size)

    def scaled(x, a):  # a function that no other test has tried
        return size * parabola(x, a)

    def find(x0, a):
        return jol.root(scaled, x0, a, record=4, keep_state=True)

    part = 100 if size == 200 else size
    easy = find(x0 + 3, -1 - np.abs(a))
    assert easy.success.all() and traced == [(Reach.FIRST, part)]
    hard = find(x0, a)
    assert traced == [(Reach.FIRST, part), (Reach.FALLBACK, part)]
    assert find(x0 + 3, -1 - np.abs(a)).success.all() and len(traced) == 2
    whole = jax.jit(find)(x0, a)
    for got, expected in zip(jax.tree.leaves(hard), jax.tree.leaves(whole), strict=True):
        assert np.asarray(got).tobytes() == np.asarray(expected).tobytes()
    assert whole.status[0] == jol.Status.NO_ROOT


@pytest.mark.slow
def test_later_methods_take_on_a_problem_alone():
    assert jol.root(parabola, np.array([0.1, -0.1]), 0.5, batched=False).status == jol.Status.NO_ROOT


@jax.custom_vjp
def square(x):
    return x * x


square.defvjp(lambda x: (x * x, x), lambda x, u: (2 * x * u,))


def square_root(a):
    """By Heron's method, in a loop that goes on until it is enough."""
    more = lambda s: jnp.abs(s[0] ** 2 - s[1]) > 1e-13 * s[1]
    return jax.lax.while_loop(more, lambda s: ((s[0] + s[1] / s[0]) / 2, s[1]), (jnp.maximum(a, 1.0), a))[0]


def on_the_host(x):
    return jax.pure_callback(lambda x: np.asarray(x) ** 2, x, x, vmap_method="expand_dims")


IDENTITY = jol.Broyden(jacobian="identity", rescue=False)


A = np.array([4.0, 2.0, 3.0, 1.5])


# Reverse mode alone, and forward mode alone; and by which power of a the root is.
ONE_MODE = ((lambda x, a: (square(x) - a) / 4, 0.5), (lambda x, a: (square_root(x) - a) / 4, 2))


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(jol.Broyden(), id="true"),
        pytest.param(IDENTITY, id="identity", marks=pytest.mark.slow),
        # With a function that has forward mode alone, it is a quick test of derivatives of solutions.
        pytest.param(jol.LimitedBroyden(), id="limited", marks=pytest.mark.slow),
    ],
)
def test_roots_of_functions_with_one_mode_of_differentiation(solver):
    for residual, power in ONE_MODE:
        x = solved(jol.root(residual, np.ones(4), A, solver=solver))
        assert np.allclose(x, A**power, rtol=1e-6)
        assert np.all(jol.certify_root(residual, x, A).valid)


@pytest.mark.parametrize(
    "solver", [jol.BFGS(atol=1e-9), pytest.param(jol.LBFGS(atol=1e-9), marks=pytest.mark.slow)], ids=["BFGS", "LBFGS"]
)
def test_minima_of_a_loop_of_unknown_length(solver):
    def distance(x, a):
        return jnp.sum((jax.vmap(square_root)(x) - a * jnp.arange(1.0, 4.0)) ** 2)

    solution = jol.minimize(distance, np.ones((4, 3)), A / 2, solver=solver)
    assert np.allclose(solved(solution), (A[:, None] / 2 * np.arange(1, 4)) ** 2, rtol=1e-6)
    assert np.all(jol.certify_minimum(distance, solution.x, A / 2).valid)


def test_what_needs_a_derivative_says_so_and_the_plain_methods_need_none():
    def residual(x, a):
        return (on_the_host(x) - a) / 4

    for solver in (IDENTITY, jol.LimitedBroyden(rescue=False)):
        assert np.allclose(solved(jol.root(residual, np.ones(4), A, solver=solver)), np.sqrt(A))
    for solver in (jol.Broyden(), jol.LimitedBroyden()):
        with pytest.raises(TypeError, match=r"neither forward nor backward, because of `pure_callback` at .*identity"):
            jol.root(residual, np.ones(4), A, solver=solver)
    with pytest.raises(
        TypeError, match=r"fun\(x, args\) has no gradient.*`custom_vjp_call` at .*`while` at .*custom_jvp"
    ):
        jol.minimize(lambda x, a: square(x) - square_root(x), np.ones(4), A)


def test_names_and_functions_among_args():
    """They decide what the function does, in plain calls and inside a jitted function, and have no derivative."""

    def residual(x, args):
        bend = args["bend"](x) if args["on"] else 0
        return x + bend - args["level"] * {"once": 1, "twice": 2}[args["name"]]

    def find(level, name="once"):
        args = {"bend": jnp.tanh, "on": False, "level": level, "name": name}
        return solved(jol.root(residual, np.zeros(4), args, solver=PLAIN))

    def given(level, on=False):
        return {"bend": np.tanh, "on": on, "level": level, "name": "twice"}

    for name, factor in (("once", 1), ("twice", 2), ("once", 1)):
        assert np.allclose(find(A, name), factor * A)
    answer = lambda level: jol.root(residual, np.zeros(4), given(level), solver=PLAIN).x.sum()
    assert np.allclose(jax.jit(jax.grad(answer))(A), 2)
    assert np.all(jol.certify_root(residual, 2 * A, given(A)).valid)
    bent = {**given(A, on=True), "bend": jnp.tanh}
    assert not np.any(jol.certify_root(residual, 2 * A, bent).valid)
    x = solved(jol.multistart(residual, np.zeros((4, 2)), bent, solver=PLAIN))
    assert np.allclose(x + np.tanh(x), 2 * A)
    with pytest.raises(TypeError, match=r"args\['level'\] has dtype <U1; expected numbers"):
        find(np.array(["a", "b", "c", "d"]))


def test_functions_of_x_alone_and_hints_for_one_vector():
    assert np.allclose(solved(jol.root(lambda x: x - 3, np.zeros(4), solver=PLAIN)), 3)
    assert jol.explain(lambda x: x - 3, np.zeros(4), solver=PLAIN).problems == 4
    chain = lambda x, _: jnp.sum((x[1:] - x[:-1]) ** 2)
    for refused in (jol.minimize, jol.certify_minimum):
        with pytest.raises(IndexError, match=r"shape \(3,\) is 3 problems .* pass batched=False"):
            refused(chain, np.ones(3))
    with pytest.raises(TypeError, match=r"x that fun gets is a list, .* 2 scalars.* jnp\.asarray\(x0\)"):
        jol.minimize(lambda x, _: jnp.sum((x - 1) ** 2), [0.0, 1.0], batched=False)
    with pytest.raises(ValueError, match=r"100 entries .* if x0 is one problem, pass batched=False"):
        jol.minimize(chain, np.ones(3), np.ones((100, 2)))


def test_a_module_as_function_and_among_args():
    eqx = pytest.importorskip("equinox")

    class Bend(eqx.Module):
        level: jax.Array
        activation: Callable

        def residual(self, x, _):
            return x + self.activation(x) - self.level

        def __call__(self, x, _):
            return self.residual(x, _)

    bend = Bend(jnp.asarray(3.0), jax.nn.tanh)
    through_args = lambda x, bend: bend.residual(x, None)
    find = lambda fun, *args: jol.root(fun, 0.0, *args, batched=False, solver=PLAIN).x
    ways = (lambda bend: find(through_args, bend), lambda bend: find(bend.residual))
    by_args, as_a_method = (eqx.filter_jit(eqx.filter_value_and_grad(way))(bend) for way in ways)
    for x in (find(bend), by_args[0], as_a_method[0]):
        assert np.isclose(x + np.tanh(x), 3.0)
    for _, slope in (by_args, as_a_method):
        assert np.isclose(slope.level, 1 / (2 - np.tanh(x) ** 2))
