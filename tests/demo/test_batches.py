"""The tally of a batch: what was reached, solved and verified, also when the batch is stopped or fails."""

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxopt_lite as jol
from jaxopt_lite.demo import batches
from jaxopt_lite.demo.batches import Tally, solve_and_verify

pytestmark = pytest.mark.hardly_optimised

QUIET = Console(quiet=True)
A = np.linspace(1.0, 2.0, 7)[:, None]


def square(x, a):
    return x**2 - a


def solve(x0, a):
    return jol.root(square, x0, a)


def certify(x, a):
    verdict = jol.certify_root(square, x, a)
    return verdict.valid, verdict.error


def test_a_batch_is_solved_verified_and_timed():
    tally = Tally("squares", 7)
    solution, error = solve_and_verify(tally, solve, certify, np.ones((7, 1)), A, QUIET, chunk=3)
    np.testing.assert_allclose(solution.x, np.sqrt(A), atol=1e-9)
    assert error.shape == (7,) and error.max() < 1e-9
    assert (tally.reached, tally.solved, tally.verified) == (7, 7, 7) and tally.is_complete
    assert min(tally.compile_seconds, tally.solve_seconds, tally.verify_seconds) > 0


def test_what_is_not_solved_is_counted():
    tally = Tally("squares", 7)
    a = np.where(np.arange(7)[:, None] == 2, -1.0, A)  # x² = −1 has no root
    solve_and_verify(tally, solve, certify, np.ones((7, 1)), a, QUIET)
    assert (tally.reached, tally.solved, tally.verified) == (7, 6, 6) and not tally.is_complete


def test_an_answer_that_the_certificate_refuses_is_not_verified():
    tally = Tally("squares", 7)

    def doubtful(x, a):
        return jnp.arange(7) < 5, jnp.zeros(7)

    solve_and_verify(tally, solve, doubtful, np.ones((7, 1)), A, QUIET)
    assert (tally.solved, tally.verified) == (7, 5) and not tally.is_complete


def test_after_ctrl_c_the_tally_says_how_far_the_batch_came(monkeypatch):
    tally, calls = Tally("squares", 7), []

    def stopped_at_the_third(x0, a):
        calls.append(a)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return solve(x0, a)

    monkeypatch.setattr(batches, "_compiled", lambda function, *operands: (function, 0.0))
    with pytest.raises(KeyboardInterrupt):
        solve_and_verify(tally, stopped_at_the_third, certify, np.ones((7, 1)), A, QUIET, chunk=3)
    assert (tally.reached, tally.solved, tally.verified) == (6, 6, 0)
