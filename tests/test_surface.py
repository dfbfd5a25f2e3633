"""Calls of the public functions with arguments drawn at random: a right answer, or an error of ours that names one.

What is drawn, and what is asked of it, is in `tests/stress/surface.py`; `python -m tests.stress.surface` draws more.
"""

import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import bpe
from jaxopt_lite.arguments import flag, one_of, path_of
from tests.stress import surface
from tests.stress.surface import IDS, TEXTS, TOKENIZER, A, Fault, X, equation, objective

pytestmark = pytest.mark.hardly_optimized
BROYDEN = jol.Broyden(rescue=False)


@pytest.mark.parametrize("name", surface.NAMES)
def test_a_call_answers_or_says_why_not(name):
    """A few of each entry, the same in every run."""
    outcomes, faults = surface.run(name, 15, seed=0)
    assert not faults and {"answers", "refused"} == outcomes.keys()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", surface.NAMES)
def test_many_calls_answer_or_say_why_not(name, seed):
    """Some hundreds of each."""
    outcomes, faults = surface.run(name, 300, seed)
    assert not faults and outcomes.total() >= 300


# What the runs found, each with the name of the argument.
FOUND = {
    "record": [
        lambda v: jol.root(equation, X, A, record=v, solver=BROYDEN), "a", None, 1.5, -1, True,
    ],
    "batched": [lambda v: jol.root(equation, X, A, batched=v, solver=BROYDEN), X, {"a": 1}, "a", 1],
    "has_aux": [lambda v: jol.multistart(objective, X[:, None], A, has_aux=v), X, "a", None],
    "keep_state": [lambda v: jol.minimize(objective, X, A, keep_state=v), X[:0], "a", 0],
    "backend": [lambda v: jol.root(equation, X, A, backend=v), X[:0], {}, None, "gpu"],
    "loss": [lambda v: jol.least_squares(equation, X, A, loss=v), X, [], None, "square"],
    "f_scale": [lambda v: jol.least_squares(equation, X, A, f_scale=v), object(), {}, "a", -1.0, np.nan],
    "atol": [lambda v: jol.root(equation, X, A, solver=jol.Broyden(atol=v)), object(), "a", [[1.0], [1.0, 2.0]], -1.0],
    "starts": [lambda v: jol.multistart(objective, v, A), None, [], X[:, None] + 1j, X.astype(str), X[:, :0]],
    "tie": [lambda v: bpe.train(TEXTS, merges=1, tie=v), X, {}, "x"],
    "level": [lambda v: bpe.train(TEXTS, merges=1, level=v), X, [], "word"],
    "byte_fallback": [lambda v: bpe.train(TEXTS, merges=1, byte_fallback=v), X, 1, "a"],
    "initial_alphabet": [lambda v: bpe.train(TEXTS, merges=1, initial_alphabet=v), X, X[:0], "x"],
    "initial_alphabet, of characters": [
        lambda v: bpe.train(TEXTS, merges=1, level="char", initial_alphabet=v), X, 1, ["ab"],
    ],
    "corpus": [lambda v: bpe.train(v, merges=1), np.array(None), 1, b"a", None],
    "checkpoint": [lambda v: bpe.train(TEXTS, merges=1, checkpoint=v), X, 1, b"a", ""],
    "errors": [lambda v: TOKENIZER.decode(IDS, errors=v), X, [], "x"],
    "skip_special": [lambda v: TOKENIZER.decode(IDS, skip_special=v), X, "a"],
    "special": [lambda v: TOKENIZER.encode(TEXTS[0], special=v), X, X[:0], [], "x"],
    "template": [lambda v: TOKENIZER.encode(TEXTS[0], template=v), X, X[:0], 1],
    "return_offsets": [lambda v: TOKENIZER.encode(TEXTS[0], return_offsets=v), X, "a"],
    "texts": [lambda v: TOKENIZER.encode_batch(v), np.array(None), 1.5, None, "a"],
    "overflow": [lambda v: TOKENIZER.encode_batch(TEXTS, length=9, overflow=v), X, X[:0], "x"],
    "length": [lambda v: TOKENIZER.encode_batch(TEXTS[:2], length=v), 2**70, -1, 1.5, X],
    "format": [lambda v: TOKENIZER.save("a.json", v), X, [], "x"],
    "path": [lambda v: TOKENIZER.save(v), X, X[:0], 1, ""],
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found(name):
    """A value that cannot be meant is refused by name, and not by whatever it comes to first."""
    call, *values = FOUND[name]
    for value in values:
        with pytest.raises((ValueError, TypeError), match=rf"\b{name.partition(',')[0]}\b"):
            call(value)


def test_settings_that_are_lists_are_one_for_each_problem():
    """As arrays are; and more steps than can be counted are as many as can be."""
    tight = jol.root(equation, X, A, solver=jol.Broyden(rescue=False, atol=[1e-9, 1e-9, 1e-9], max_steps=2**70))
    assert tight.success.all() and (tight.error <= 1e-9).all()
    with pytest.raises(ValueError, match="atol has shape"):
        jol.root(equation, X, A, solver=jol.Broyden(rescue=False, atol=[1e-9, 1e-9]))


def test_arguments():
    assert flag("a", np.bool_(True)) is True and one_of("a", "x", ("x", "y")) == "x"
    assert path_of("a", "x/y").name == "y"
    with pytest.raises(ValueError, match="a='z': expected one of 'x', 'y'"):
        one_of("a", "z", ("x", "y"))


@pytest.mark.parametrize(
    ("call", "given", "said"),
    [
        (lambda value: 1 / value, {"value": 0}, "ZeroDivisionError"),
        (lambda value: int(value), {"value": "x"}, "no argument is named"),
        (lambda value: np.zeros(3) @ value, {"value": np.zeros(2)}, "no argument is named"),
        (lambda value: value, {"value": 1}, "is wrong"),
    ],
)
def test_faults_are_found(monkeypatch, call, given, said):
    """An error of another kind, one that names nothing, and a wrong answer."""

    def check(answer, given):
        raise Fault("is wrong")

    monkeypatch.setattr(surface, "PACKAGE", str(__file__))
    monkeypatch.setitem(surface.ENTRIES, "made up", surface.Entry(call, {"value": None}, {}, frozenset(), check))
    with pytest.raises(Fault, match=said):
        surface.outcome("made up", given)
