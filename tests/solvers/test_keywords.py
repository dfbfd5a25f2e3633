"""Keywords that other libraries have are told what there is here."""

import inspect

import pytest

import jaxopt_lite as jol

FUN, X0 = lambda x, a: x - 1, [0.0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: jol.BFGS(maxiter=10), r"^BFGS\(\) does not take maxiter=: .*`max_steps`"),
        (lambda: jol.LBFGS(tol=1e-3, history_size=5), r"tol=: .*`atol`.*; history_size=: .*`memory`"),
        (lambda: jol.Broyden(gtol=1e-3), r"^Broyden\(\) .*`atol`"),
        (lambda: jol.minimize(FUN, X0, constraints=()), r"^minimize\(\) .*constraints=: .*`bounds=\(lower, upper\)`"),
        (lambda: jol.minimize(FUN, X0, callback=print, tol=1), "callback=: `record=K`.*tol=: .*`atol`"),
        (lambda: jol.root(FUN, X0, jac=True, method="hybr"), "jac=: JAX differentiates.*method=: `solver`"),
        (lambda: jol.root(FUN, X0, atol=1e-3), "atol=: it belongs to the solver"),
        (lambda: jol.root(FUN, X0, tol=1e-3, constraints=()), "tol=: .*Broyden.*constraints=: .*minimize and"),
        (lambda: jol.least_squares(FUN, X0, max_nfev=9), "max_nfev=: the solver has `max_steps`"),
        (lambda: jol.multistart(FUN, X0, options={}), "options=: it belongs to the solver"),
        (lambda: jol.explain(FUN, X0, max_steps=3), "max_steps=: it belongs to the solver"),
        (lambda: jol.certify_root(FUN, X0, tol=1), "tol=: .*`atol`"),
    ],
)
def test_the_error_says_what_to_use(call, said):
    with pytest.raises(TypeError, match=said):
        call()


def test_other_errors_and_signatures_stay_what_they_are():
    with pytest.raises(TypeError, match="^BFGS.__init__.. got an unexpected keyword argument 'speed'$"):
        jol.BFGS(speed=3)
    with pytest.raises(TypeError, match="expected numbers"):
        jol.root(FUN, ["a"], batched=False)
    assert "max_steps" in inspect.signature(jol.BFGS).parameters and "x0" in inspect.signature(jol.root).parameters
