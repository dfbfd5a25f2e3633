"""Long batches in chunks: the same answers, and nothing lost when stopped."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from tests.faults import Fault, failing_at, lines

pytestmark = pytest.mark.hardly_optimized


PLAIN = jol.Broyden(rescue=False)  # which compiles in less time


def _line(x, a):
    return (x - a) * jnp.arange(1.0, 3.0)


def _solve(x0, a):
    return jol.root(_line, x0, a, solver=PLAIN)


STARTS, TARGETS = np.zeros((10, 2)), np.arange(20.0).reshape(10, 2)


@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 3, 10, 64])
def test_chunks_give_the_answers_of_one_call(chunk):
    whole, parts = _solve(STARTS, TARGETS), jol.in_chunks(_solve, STARTS, TARGETS, chunk=chunk, progress=False)
    for name in ("x", "fun", "status", "steps", "evaluations"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def _stopping_after(calls):
    """A solve that is stopped by Ctrl-C in a later chunk."""
    seen = []

    def solve(x0, a):
        if len(seen) == calls:
            raise KeyboardInterrupt
        seen.append(len(x0))
        return _solve(x0, a)

    return solve


def test_what_was_done_before_a_stop_is_kept_and_the_rest_can_follow():
    partial = jol.in_chunks(_stopping_after(2), STARTS, TARGETS, chunk=3, progress=False)
    assert partial.status.tolist() == [jol.Status.CONVERGED] * 6 + [jol.Status.NOT_STARTED] * 4
    assert np.isnan(partial.x[6:]).all() and not partial.success[6:].any()
    resumed = jol.in_chunks(_solve, STARTS, TARGETS, chunk=3, progress=False, done=partial)
    np.testing.assert_array_equal(resumed.x, _solve(STARTS, TARGETS).x)
    assert np.isnan(partial.x[6:]).all(), "the interrupted solution itself must not change"


def test_an_error_in_a_later_chunk_carries_what_was_done():
    def solve(x0, a):
        if a[0, 0] >= 6:
            raise MemoryError("enough")
        return _solve(x0, a)

    with pytest.raises(MemoryError, match="enough") as caught:
        jol.in_chunks(solve, STARTS, TARGETS, chunk=3, progress=False)
    done = caught.value.done
    assert done.status.tolist() == [jol.Status.CONVERGED] * 3 + [jol.Status.NOT_STARTED] * 7
    assert "in_chunks(done=" in caught.value.__notes__[0]
    rest = jol.in_chunks(_solve, STARTS, TARGETS, chunk=3, progress=False, done=done)
    np.testing.assert_array_equal(rest.x, _solve(STARTS, TARGETS).x)
    with pytest.raises(ValueError, match=r"done has the batch shape \(10,\)"):
        jol.in_chunks(_solve, STARTS[:4], TARGETS[:4], done=done)


@pytest.mark.parametrize(("error", "times"), [(Fault, 2), (KeyboardInterrupt, 1), (KeyboardInterrupt, 3)])
def test_a_failure_at_any_line_leaves_whole_answers(error, times):
    """A problem is as it should be, or not started; the rest can follow."""
    whole = jol.in_chunks(_with_aux, STARTS, TARGETS, chunk=4, progress=False)
    run = lambda done=None: jol.in_chunks(_with_aux, STARTS, TARGETS, chunk=4, progress=False, done=done)
    ran = lines(run, "solvers/chunks.py")
    assert len(ran) > 25
    kept = 0
    for line in ran:
        try:
            with failing_at(line, error, times):
                part = run()
        except (Fault, KeyboardInterrupt) as caught:
            part = getattr(caught, "done", None)
        if part is not None:
            there = part.status != jol.Status.NOT_STARTED
            for name in ("x", "fun", "aux", "error", "success"):
                np.testing.assert_array_equal(getattr(part, name)[there], getattr(whole, name)[there])
            assert not part.success[~there].any()
            kept += not there.all()
        rest = run(part)
        np.testing.assert_array_equal(rest.x, whole.x)
        np.testing.assert_array_equal(rest.status, whole.status)
    assert kept > 2


def _with_aux(x0, a):
    return jol.root(lambda x, a: (_line(x, a), jnp.cos(x)), x0, a, has_aux=True, solver=PLAIN)


def test_random_keys_beside_the_answers_stay_keys():
    keys = jax.random.split(jax.random.key(7), 10)
    calls = []

    def solve(x0, keys):
        calls.append(len(x0))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return jol.root(lambda x, key: (x - 1, key), x0, keys, solver=PLAIN, has_aux=True)

    part = jol.in_chunks(solve, STARTS, keys, chunk=4, progress=False)
    assert part.aux.dtype == keys.dtype and np.sum(part.status == jol.Status.NOT_STARTED) == 2
    for done in (part, jol.in_chunks(solve, STARTS, keys, chunk=4, progress=False, done=part)):  # once nothing is left
        whole = jol.in_chunks(solve, STARTS, keys, chunk=4, progress=False, done=done)
        np.testing.assert_array_equal(jax.random.key_data(whole.aux), jax.random.key_data(keys))


def test_a_stop_before_the_first_chunk_is_a_stop():
    with pytest.raises(KeyboardInterrupt):
        jol.in_chunks(_stopping_after(0), STARTS, TARGETS, chunk=3, progress=False)


def test_an_empty_batch_and_nothing_left_to_do():
    whole = jol.in_chunks(_solve, STARTS, TARGETS, progress=False)
    again = jol.in_chunks(_stopping_after(0), STARTS, TARGETS, progress=False, done=whole)
    np.testing.assert_array_equal(again.x, whole.x)
    assert jol.in_chunks(_solve, STARTS[:0], TARGETS[:0], progress=False).status.shape == (0,)


def test_progress_is_shown(capsys):
    jol.in_chunks(_solve, STARTS, TARGETS, chunk=5, progress=True)
    assert "10/10" in capsys.readouterr().err
    jol.in_chunks(_solve, STARTS, TARGETS, chunk=5)  # this is no terminal
    assert capsys.readouterr().err == ""


def test_bad_input_is_refused():
    with pytest.raises(TypeError, match="solve is int; expected a function"):
        jol.in_chunks(3, np.ones((4, 2)))
    with pytest.raises(TypeError, match="done is dict; expected a Solution"):
        jol.in_chunks(print, np.ones((4, 2)), done={})
    with pytest.raises(TypeError, match="args is traced by a jax.jit"):
        jax.jit(lambda args: jol.in_chunks(print, np.ones((4, 2)), args))(np.ones(4))
    with pytest.raises(ValueError, match="one batch axis"):
        jol.in_chunks(_solve, STARTS, TARGETS[:3])
    with pytest.raises(ValueError, match="chunk=0"):
        jol.in_chunks(_solve, STARTS, TARGETS, chunk=0)
    with pytest.raises(ValueError, match=r"chunk=2\.5: expected a whole number"):
        jol.in_chunks(_solve, STARTS, TARGETS, chunk=2.5)


def test_no_answer_is_repeated_or_rounded_to_fit():
    part = jol.in_chunks(_stopping_after(1), STARTS, TARGETS, chunk=3, progress=False)
    wide = dataclasses.replace(part, x=np.repeat(part.x, 2, axis=1))
    with pytest.raises(ValueError, match=r"done\.x has \(\(4,\), 'float64'\) as shape and dtype"):
        jol.in_chunks(_solve, STARTS, TARGETS, chunk=3, done=wide)
    single = dataclasses.replace(part, fun=part.fun.astype("f4"))
    with pytest.raises(ValueError, match=r"done\.fun .*'float32'.*'float64'"):
        jol.in_chunks(_solve, STARTS, TARGETS, chunk=3, done=single)
    with pytest.raises(ValueError, match=r"done\.aux has None as shape and dtype"):
        jol.in_chunks(_with_aux, STARTS, TARGETS, chunk=3, done=part)
    with pytest.raises(ValueError, match=r"a solution of shape \(2,\); expected .* \(3,\)"):
        jol.in_chunks(lambda x0, a: _solve(x0[:2], a[:2]), STARTS, TARGETS, chunk=3)
    with pytest.raises(TypeError, match="solve returned ndarray"):
        jol.in_chunks(lambda x0, a: x0, STARTS, TARGETS, chunk=3)
    half = jax.tree.map(lambda leaf: leaf.astype("bfloat16") if leaf.dtype == "f8" else leaf, _solve(STARTS, TARGETS))
    left = jol.in_chunks(_returning(half), STARTS, TARGETS, chunk=3, progress=False)
    assert left.x.dtype == "bfloat16" and np.isnan(left.x[3:].astype("f4")).all()


def _returning(solution):
    """A solve that has these answers ready, and is stopped in the second chunk."""

    def solve(x0, a):
        if a[0, 0] > 0:
            raise KeyboardInterrupt
        return jax.tree.map(lambda leaf: leaf[: len(x0)], solution)

    return solve
