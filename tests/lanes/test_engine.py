"""The loop over a pool of lanes: every problem is taken once, served, and reported in its own place.

The method is a toy whose every number is known beforehand: a lane counts up from its start, by one a step, to the
goal of its problem, and waits to restart at every multiple of its `rest`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes import engine, rows
from jaxopt_lite.lanes.engine import Limits, Queue, resumed
from jaxopt_lite.lanes.status import Status

pytestmark = pytest.mark.hardly_optimized


class Count(NamedTuple):
    """What a lane carries."""

    x: Any
    first_error: Any
    steps: Any
    evaluations: Any
    begun: Any
    status: Any


class Counter(NamedTuple):
    """Counts to the goal; with `rest`, waits to restart at every multiple of it."""

    rest: int = 0

    loose = symmetric = ()
    prepares = False

    def init(self, start):
        row = jnp.zeros(start.shape[1:], jnp.int32)
        return Count(start, start[0], row, row, row, row + Status.WAITING)

    def step(self, problem, limits, state):
        (goal,) = problem
        running = state.status == Status.RUNNING
        steps = state.steps + running
        done = steps >= goal
        status = jnp.where(steps % self.rest == 0, Status.WAITING, state.status) if self.rest else state.status
        status = jnp.where(done, Status.CONVERGED, status)
        return state._replace(
            x=state.x + running, steps=steps, evaluations=state.evaluations + running,
            status=jnp.where(running, status, state.status).astype(jnp.int32),
        )  # fmt: skip

    def begin(self, problem, limits, state):
        return state._replace(begun=state.begun + 1, status=jnp.full_like(state.status, Status.RUNNING))

    def progress(self, problem, state):
        return state.x[0], -state.x[0]


GOALS = np.random.default_rng(0).integers(1, 40, 53)


def count(goals, width, method=None, max_steps=1000, bind=lambda tile: tile, **options):
    """Count to every goal; problem k starts from 100 k."""
    size = len(goals)
    limits = Limits(np.zeros(size), np.zeros(size), np.broadcast_to(np.int32(max_steps), size))
    limits = jax.tree.map(jnp.asarray, limits)
    start = 100.0 * jnp.arange(size)[:, None]
    order = dict(zip(("order", "length"), rows.chosen(options.pop("todo")), strict=True)) if "todo" in options else {}
    queue = Queue(start, (jnp.asarray(goals),), limits, states=options.pop("states", None), **order)
    run = jax.jit(lambda queue: engine.run(method or Counter(), bind, queue, width, **options))
    return run(queue)


@pytest.mark.parametrize(
    "rest, width",
    [
        (rest, width) if (rest, width) in {(7, 1), (0, 8), (1, 53), (7, 200)}
        else pytest.param(rest, width, marks=pytest.mark.slow)
        for rest in (0, 1, 7) for width in (1, 8, 53, 200)
    ],
)  # fmt: skip
def test_every_problem_is_solved_and_reported_in_its_place(rest, width):
    """Also where the queue is shorter than the pool, and of the same length."""
    outcome = count(GOALS, width, Counter(rest), keep_state=True)
    assert np.all(outcome.status == Status.CONVERGED)
    np.testing.assert_array_equal(outcome.steps, GOALS)
    np.testing.assert_array_equal(outcome.evaluations, GOALS)
    np.testing.assert_array_equal(outcome.x[:, 0], 100 * np.arange(GOALS.size) + GOALS)
    np.testing.assert_array_equal(outcome.states.begun, 1 + ((GOALS - 1) // rest if rest else 0 * GOALS))


def test_short_problems_go_through_the_other_lanes_while_a_long_one_runs():
    """The 39 short ones take 13 rounds of three lanes, each with at most 3 steps more than a problem needs."""
    goals = np.full(40, 10)
    goals[3] = 150
    total = []
    outcome = count(goals, 4, Tracked(total))
    jax.effects_barrier()
    np.testing.assert_array_equal(outcome.steps, goals)
    assert 150 <= len(total) <= 13 * (10 + 3)


def test_a_pause_waits_until_idle_lanes_have_missed_what_it_costs():
    """Lanes that end one after the other are written out together, and those that end together at once."""

    def pauses(goals, cost=2):
        begun = []
        outcome = count(np.asarray(goals), 4, Tracked([], begun), pause_cost=cost)
        jax.effects_barrier()
        np.testing.assert_array_equal(outcome.steps, goals)
        return len(begun)

    assert pauses([5] * 12) == 3
    # Lanes end at 1, 2, 3 and 4; after step 4 the others have missed 1 + 2 + 3 < 8 steps, and all are refilled.
    assert pauses([1, 2, 3, 4] * 3) == 3
    # Three lanes idle beside the long one miss 8 steps in the third.
    assert pauses([1, 1, 1, 9] + [1] * 3) == 2
    # The first idle lane waits for the second; where pauses cost little it does not.
    assert pauses([1, 2, 9, 9, 1, 1]) == 2 and pauses([1, 2, 9, 9, 1, 1], 0.25) == 3


@pytest.mark.parametrize(
    "at_once", [pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(7, marks=pytest.mark.slow)]
)
def test_several_steps_at_once_change_no_answer(at_once):
    """A lane that has ended or waits stays as it is through the rest of them."""
    options = dict(width=8, method=Counter(5), max_steps=30, keep_state=True, record=40)
    together, in_turn = count(GOALS, steps_at_once=at_once, **options), count(GOALS, **options)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(in_turn), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("at_once", "questions"), [(1, 13), (4, 4)])
def test_the_question_whether_to_go_on_is_asked_that_often(monkeypatch, at_once, questions):
    asked, loop = [], jax.lax.while_loop

    def asking(worthwhile, body, carry):
        def ask(carry):
            jax.debug.callback(lambda: asked.append(1))
            return worthwhile(carry)

        return loop(ask if len(carry) == 3 and isinstance(carry[0], Count) else worthwhile, body, carry)

    monkeypatch.setattr(jax.lax, "while_loop", asking)
    count(np.full(4, 12), 4, steps_at_once=at_once)
    jax.effects_barrier()
    assert len(asked) == questions


class Tracked(NamedTuple):
    """The counter, with a note of every step of the pool and of every pause."""

    notes: list
    pauses: list | None = None

    prepares = False

    def init(self, start):
        return Counter().init(start)

    def step(self, problem, limits, state):
        jax.debug.callback(lambda: self.notes.append(1))
        return Counter().step(problem, limits, state)

    def begin(self, problem, limits, state):
        if self.pauses is not None:
            jax.debug.callback(lambda: self.pauses.append(1))
        return Counter().begin(problem, limits, state)

    def progress(self, problem, state):
        return Counter().progress(problem, state)


@pytest.mark.parametrize("width", [4, 64])
def test_only_the_problems_to_do_are_solved(width):
    todo = np.random.default_rng(1).random(GOALS.size) < 0.3
    outcome = count(GOALS, width, todo=jnp.asarray(todo))
    np.testing.assert_array_equal(outcome.steps, np.where(todo, GOALS, 0))
    np.testing.assert_array_equal(outcome.x[:, 0], np.where(todo, 100 * np.arange(GOALS.size) + GOALS, 0))


@pytest.mark.parametrize("chosen", [[], [0], [52]])
def test_none_or_one_to_do(chosen):
    todo = np.isin(np.arange(GOALS.size), chosen)
    outcome = count(GOALS, 8, todo=jnp.asarray(todo))
    np.testing.assert_array_equal(outcome.steps, np.where(todo, GOALS, 0))


def test_each_problem_has_its_own_limits():
    most = np.arange(GOALS.size) % 9 + 1
    outcome = count(GOALS, 8, max_steps=most)
    np.testing.assert_array_equal(outcome.steps, np.minimum(GOALS, most))
    expected = np.where(GOALS <= most, Status.CONVERGED, Status.MAX_STEPS)
    np.testing.assert_array_equal(outcome.status, expected)


def test_kept_states_go_on():
    """Problems that ran out of steps end as if they had not been interrupted; the ended ones stay as they are."""
    first = count(GOALS, 8, Counter(3), max_steps=10, keep_state=True)
    paused = np.asarray(first.status) == Status.MAX_STEPS
    assert paused.any() and not paused.all()
    going_on = count(GOALS, 16, Counter(3), states=resumed(first.states), keep_state=True)
    whole = count(GOALS, 16, Counter(3), keep_state=True)
    jax.tree.map(np.testing.assert_array_equal, going_on, whole)
    still = count(GOALS, 8, Counter(3), states=resumed(first.states), max_steps=10, keep_state=True)
    jax.tree.map(np.testing.assert_array_equal, still, first)


def test_states_are_returned_only_when_asked_for():
    assert count(GOALS, 8).states is None
    assert count(GOALS, 8, keep_state=True).states.steps.shape == GOALS.shape


@pytest.mark.parametrize("rest", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_the_record_holds_the_progress_of_each_problem(rest):
    value, error = count(GOALS, 8, Counter(rest), record=12).record
    assert value.shape == error.shape == (GOALS.size, 12)
    steps = np.arange(12)
    expected = np.where(steps <= GOALS[:, None], 100.0 * np.arange(GOALS.size)[:, None] + steps, np.nan)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(error, -expected)


def test_mapped_data_travel_with_their_lane():
    """`bind` gets the data of the lanes in work, lane axis last, whatever they were refilled with."""
    seen = []

    def bind(tile):
        seen.append([leaf.shape for leaf in tile])
        return tile

    count(GOALS, 8, bind=bind)
    assert {tuple(shapes) for shapes in seen} == {((8,),)}
