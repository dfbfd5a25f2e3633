"""The methods on lanes are those of the textbooks: the same update at every step, and the same answers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import Status
from jaxopt_lite.lanes.batch import batch_of
from jaxopt_lite.lanes.engine import Limits
from jaxopt_lite.lanes.problem import LaneProblem, trace
from jaxopt_lite.solvers.broyden_family import Move
from tests.oracles import solvers as textbook

pytestmark = pytest.mark.hardly_optimized

N, LANES, MEMORY = 4, 6, 3
STARTS = np.random.default_rng(0).uniform(-0.6, 0.6, (LANES, N))


def residual(x, _=None):
    """Almost linear, so that no update is damped."""
    return 2 * x + 0.4 * jnp.sin(x) + 0.3 * jnp.roll(x, 1) - 0.2 * jnp.roll(x, 2) - 1


def objective(x, _=None):
    """Convex, so that every step has curvature."""
    return jnp.sum(jnp.cosh(x - 0.5)) + 0.5 * jnp.sum((x - jnp.roll(x, 1)) ** 2 * jnp.arange(1.0, N + 1))


SOLVERS = {
    "broyden": jol.Broyden(jacobian="identity"),
    "limited broyden": jol.LimitedBroyden(),
    "bfgs": jol.BFGS(),
    "lbfgs": jol.LBFGS(memory=MEMORY),
}


@functools.cache
def iteration(solver: str):
    """The first method of a solver; the first state of all lanes, and the step, which compiles once."""
    fun = residual if "broyden" in solver else objective
    batch, layout = batch_of(STARTS, None, (), True)
    function, batch = trace(fun, batch, layout, False)
    problem = LaneProblem(function, batch.leaves, batch.is_mapped)
    limits = Limits(np.full(LANES, 1e-10), np.zeros(LANES), np.full(LANES, 100, np.int32))
    method = SOLVERS[solver].methods()[0]
    step = jax.jit(lambda state: method.step(problem, limits, state))
    return method, jax.jit(lambda x: method.begin(problem, limits, method.init(x)))(batch.x.T), step


@functools.cache
def states(solver: str) -> list:
    """The states of all lanes after the start and after each evaluation, until all have ended."""
    _, first, step = iteration(solver)
    found = [first]
    while np.any(found[-1].status == Status.RUNNING):
        found.append(step(found[-1]))
    assert np.all(found[-1].status == Status.CONVERGED)
    return jax.tree.map(np.asarray, found)


def steps(solver: str):
    """For each lane, the states after the start and after each step: of a search, only the evaluation that ended it."""
    every = states(solver)
    for lane in range(LANES):
        own = [jax.tree.map(lambda leaf: leaf[..., lane], state) for state in every]  # noqa: B023
        taken = [k for k in range(1, len(own)) if own[k].steps > own[k - 1].steps]
        assert len(taken) >= 4
        yield [own[0], *(own[k] for k in taken)]


@pytest.mark.parametrize("solver", ["broyden", "limited broyden"])
def test_the_jacobian_is_broydens_at_every_step(solver):
    for own in steps(solver):
        inverse = as_matrix(own[0].b)
        jacobian = np.linalg.inv(inverse)
        np.testing.assert_array_equal(np.abs(inverse), np.eye(N))
        for before, after in itertools.pairwise(own):
            jacobian = textbook.next_jacobian(jacobian, after.x - before.x, after.f - before.f)
            np.testing.assert_allclose(as_matrix(after.b) @ jacobian, np.eye(N), atol=1e-6)
            np.testing.assert_allclose(after.p, -as_matrix(after.b) @ after.f, rtol=1e-6, atol=1e-14)


def as_matrix(b) -> np.ndarray:
    """B of one lane, of either form."""
    if isinstance(b, np.ndarray):
        return b
    terms = (np.outer(u, v) for u, v in zip(b.u[: b.used], b.v[: b.used], strict=True))
    return sum(terms, b.scale * np.eye(N))


def test_the_memory_is_filled_before_it_is_forgotten():
    """The terms are as many as it holds, and all of them count; then B = β I again."""
    size, rng = 3, np.random.default_rng(0)
    inverse = jol.LimitedBroyden(memory=size).methods()[0].inverse
    update, jacobian, f = jax.jit(inverse.update), np.eye(N), rng.normal(size=N)
    b, p = inverse.multiple(jnp.asarray(1.0), jnp.zeros(N)), -f
    for k in range(1, size + 2):
        new = f + p + 0.3 * rng.normal(size=N)
        b, following = update(b, Move(1.0, p, f, True), new)
        jacobian = textbook.next_jacobian(jacobian, p, new - f)
        if k <= size:
            assert b.used == k
            np.testing.assert_allclose(as_matrix(b) @ jacobian, np.eye(N), atol=1e-6)
        f, p = new, np.asarray(following)
    assert b.used == 0


def test_the_inverse_hessian_is_that_of_bfgs_at_every_step():
    for own in steps("bfgs"):
        inverse = np.eye(N)
        for k, (before, after) in enumerate(itertools.pairwise(own)):
            s, y = after.x - before.x, after.g - before.g
            inverse = textbook.next_inverse(inverse if k else (y @ s) / (y @ y) * inverse, s, y)
            np.testing.assert_allclose(after.h, inverse, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(after.p, -after.h @ after.g, rtol=1e-6, atol=1e-12)


def test_the_direction_is_that_of_the_last_pairs():
    for own in steps("lbfgs"):
        pairs = [(after.x - before.x, after.g - before.g) for before, after in itertools.pairwise(own)]
        for k, after in enumerate(own[1:], 1):
            inverse = textbook.limited_inverse(pairs[max(0, k - MEMORY) : k])
            np.testing.assert_allclose(after.p, -inverse @ after.g, rtol=1e-4, atol=1e-9)


def test_the_answers_are_those_of_the_plain_iterations():
    roots = jol.root(residual, STARTS, solver=SOLVERS["broyden"]).x
    residuals = jax.jit(residual)
    plain = functools.partial(textbook.broyden, lambda x: np.asarray(residuals(x)), tolerance=1e-11)
    np.testing.assert_allclose(roots, [plain(x, jacobian=np.eye(N)) for x in STARTS], atol=1e-8)
    minima = jol.minimize(objective, STARTS).x
    value, gradient = jax.jit(objective), jax.jit(jax.grad(objective))
    plain = functools.partial(textbook.bfgs, lambda x: float(value(x)), lambda x: np.asarray(gradient(x)))
    np.testing.assert_allclose(minima, [plain(x, tolerance=1e-8) for x in STARTS], atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_idle_lanes_stay_as_they_are_and_are_evaluated_where_they_were(solver):
    """But for what the method says is of use to no lane that does not run."""
    method, _, step = iteration(solver)
    before, idle = states(solver)[1], np.arange(LANES) % 2 == 1
    before = after = before._replace(status=np.where(idle, Status.CONVERGED, Status.RUNNING).astype(np.int32))
    for _ in range(5):
        after = step(after)
    assert set(method.loose) < set(before._fields)
    changed = [name for name in before._fields if differs(getattr(before, name), getattr(after, name), ~idle)]
    assert {"x", "p", "search"} <= set(changed)  # the others have gone on
    for name in set(before._fields) - set(method.loose):
        assert not differs(getattr(before, name), getattr(after, name), idle), name
    assert not differs(before.search.trial, after.search.trial, idle)


def differs(before, after, lanes) -> bool:
    return any(
        not np.array_equal(np.asarray(a)[..., lanes], np.asarray(b)[..., lanes], equal_nan=True)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )
