"""On the CPU a problem's answer is the same to the bit whatever surrounds it, however its function is written.

Order, size of the batch, neighbours that are NaN, and pauses: every leaf of the solution is compared, in every way to
write a function that `forms.py` has. A few of them are quick tests.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite.lanes.arithmetic import dot, inverse, matvec
from tests.forms import FORMS, batch

SOLVERS = {
    "broyden": jol.Broyden(), "limited broyden": jol.LimitedBroyden(), "bfgs": jol.BFGS(), "lbfgs": jol.LBFGS(),
}  # fmt: skip
SIZE = 1500
FEW = (slice(5, 12), slice(11, 12))  # of the batch; each is a program of its own
FIRST = "limited broyden, its first method"  # which compiles in half the time
SOLVERS[FIRST] = jol.LimitedBroyden(rescue=False)
QUICK = {(FIRST, "a column"): FEW[:1], ("bfgs", "its own matrix"): FEW[1:]}
# All but Broyden's method differentiate backwards, of which such a loop has no form in JAX.
PAIRS = [(s, f) for s in SOLVERS for f in FORMS if s == "broyden" or f != "a loop until it is enough"]
PAIRS = [pair for pair in PAIRS if pair in QUICK or pair[0] != FIRST]
slow = pytest.mark.slow
EVERY = [pytest.param(s, f, marks=() if (s, f) in QUICK else slow) for s, f in PAIRS]


def solve(solver, form, x0, args, most=None, **options):
    chosen, fun = SOLVERS[solver], FORMS[form]
    chosen = chosen if most is None else replace(chosen, max_steps=most)
    if "broyden" in solver:
        return jol.root(fun, x0, args, solver=chosen, **options)
    return jol.minimize(lambda x, a: jnp.sum(fun(x, a) ** 2), x0, args, solver=chosen, **options)


def rows(tree, index):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def differing(got, expected) -> int:
    """How many problems differ in some bit of some leaf."""
    bad = np.zeros(len(np.asarray(got.status)), bool)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        a, b = (np.ascontiguousarray(leaf).reshape(len(bad), -1) for leaf in (a, b))
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        bad |= (a.view(np.uint8) != b.view(np.uint8)).any(axis=1)
    return int(bad.sum())


@pytest.mark.parametrize(("solver", "form"), EVERY)
def test_nothing_around_a_problem_changes_its_bits(solver, form, dtype="float64"):
    x0, args = batch(SIZE, dtype)
    whole = solve(solver, form, x0, args)
    assert np.mean(whole.success) > 0.3
    everyone = np.arange(SIZE)
    few = [everyone[some] for some in QUICK.get((solver, form), FEW)]
    for index in (everyone[::-1], np.roll(everyone, 1), *few):
        part = solve(solver, form, x0[index], rows(args, index))
        assert differing(part, rows(whole, index)) == 0, f"{len(index)} problems"
    crowded = x0.copy()
    crowded[::2] = np.nan
    assert differing(rows(solve(solver, form, crowded, args), everyone[1::2]), rows(whole, everyone[1::2])) == 0


@slow
@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != FIRST])
@pytest.mark.parametrize("form", ["a slice", "its own matrix", "a scan", "cases", "a curve", "a linear solve"])
def test_also_in_float32(solver, form):
    test_nothing_around_a_problem_changes_its_bits(solver, form, "float32")


@slow
@pytest.mark.parametrize(("solver", "form"), [(s, f) for s, f in PAIRS if len(f) % 3 == 0 and s != FIRST])
def test_pauses_change_nothing(solver, form):
    x0, args = batch(SIZE, seed=1)
    full = solve(solver, form, x0, args, 60, keep_state=True)
    for pauses in ([1], [2], [3], [5], [20], [3, 10, 25]):
        part = None
        for most in (*pauses, 60):
            part = solve(solver, form, x0, args, most, keep_state=True, resume=part and part.state)
        assert differing(part, full) == 0, f"paused at {pauses}"


def test_products_and_inverses_of_a_lane_do_not_depend_on_its_place():
    """The bits of a lane do not depend on its neighbours, nor on the other entries of a compiled batch."""
    rng = np.random.default_rng(1)
    a, v = rng.standard_normal((6, 6, 8)), rng.standard_normal((6, 8))
    compute = jax.jit(lambda a, v: (dot(v, v), matvec(a, v), inverse(a)))
    whole, part = compute(a, v), compute(a[..., ::-1], v[:, ::-1])
    for x, y in zip(whole, part, strict=True):
        np.testing.assert_array_equal(x, np.asarray(y)[..., ::-1])
