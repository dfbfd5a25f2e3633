"""The tally of a batch: what was reached, solved and verified, also when the batch is stopped or fails."""

import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite.demo.batches import Tally, solve_and_verify
from jaxopt_lite.demo.programs import Compiler

pytestmark = pytest.mark.hardly_optimized

A = np.linspace(1.0, 2.0, 7)[:, None]


def square(x, a):
    return x**2 - a


def solve(x0, a):
    return jol.root(square, x0, a, solver=jol.Broyden(rescue=False))


def certify(x, a):
    verdict = jol.certify_root(square, x, a)
    return verdict.valid, verdict.error


@pytest.fixture(scope="module")
def programs():
    """For three problems at a time, or fewer; hardly optimized, like everything here."""
    with Compiler(hurried=True) as compiler:
        one = np.ones(1)
        yield [compiler.begin(f.__name__, 3, f, one, one) for f in (solve, certify)]


def test_a_batch_is_solved_verified_and_timed(programs):
    tally = Tally("squares", 7)
    solution, error = solve_and_verify(tally, *programs, np.ones((7, 1)), A, chunk=3)
    np.testing.assert_allclose(solution.x, np.sqrt(A), atol=1e-9)
    assert error.shape == (7,) and error.max() < 1e-9
    assert (tally.reached, tally.solved, tally.verified) == (7, 7, 7) and tally.is_complete
    assert min(tally.solve_seconds, tally.verify_seconds) > 0


def test_a_batch_smaller_than_the_programs_is_filled_up(programs):
    tally = Tally("squares", 2)
    solution, error = solve_and_verify(tally, *programs, np.ones((2, 1)), A[:2], chunk=3)
    np.testing.assert_allclose(solution.x, np.sqrt(A[:2]), atol=1e-9)
    assert error.shape == (2,) and tally.is_complete and tally.solved == 2
    assert all(program.wait() > 0 for program in programs)


def test_what_is_not_solved_is_counted(programs):
    tally = Tally("squares", 7)
    a = np.where(np.arange(7)[:, None] == 2, -1.0, A)  # x² = −1 has no root
    solve_and_verify(tally, *programs, np.ones((7, 1)), a, chunk=3)
    assert (tally.reached, tally.solved, tally.verified) == (7, 6, 6) and not tally.is_complete


def test_an_answer_that_the_certificate_refuses_is_not_verified(programs):
    tally = Tally("squares", 7)

    def doubtful(x, a):
        return a[:, 0] < A[5, 0], np.zeros(len(x))

    solve_and_verify(tally, programs[0], doubtful, np.ones((7, 1)), A, chunk=3)
    assert (tally.solved, tally.verified) == (7, 5) and not tally.is_complete


def test_after_ctrl_c_the_tally_says_how_far_the_batch_came(programs):
    tally, calls = Tally("squares", 7), []

    def stopped_at_the_third(x0, a):
        calls.append(a)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return programs[0](x0, a)

    with pytest.raises(KeyboardInterrupt):
        solve_and_verify(tally, stopped_at_the_third, programs[1], np.ones((7, 1)), A, chunk=3)
    assert (tally.reached, tally.solved, tally.verified) == (6, 6, 0)


def test_what_does_not_compile_says_so_when_it_is_needed():
    def wrong(x, a):
        raise ValueError("no such thing")

    with Compiler() as compiler:
        program = compiler.begin("wrong", 3, wrong, np.ones(1), np.ones(1))
        with pytest.raises(ValueError, match="no such thing"):
            program.wait()
