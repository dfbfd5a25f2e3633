"""Calls of the public functions with arguments drawn at random: a right answer, or an error of ours that names one.

`python -m tests.stress.surface [--count 400] [--seed 0] [--only NAME]`

A call that is right is drawn, and up to three of its arguments are replaced: by others that are right, or by what
somebody might pass by mistake. What comes out is checked against NumPy. An error must be a ValueError or a TypeError
that was raised in this package and has the name of an argument in its message.
"""

import argparse
import inspect
import os
import re
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import jaxopt_lite as jol
from jaxopt_lite import bpe

__all__ = ["ENTRIES", "NAMES", "Fault", "calls", "outcome", "run"]

PACKAGE = str(Path(jol.__file__).parent)
X = np.array([[0.5, -1.0], [2.0, 0.0], [-0.25, 1.5]])
A = np.array([[1.0, 0.5], [-1.0, 2.0], [0.25, -0.5]])
TEXTS = ["low low lower newest", "newest  widest\n\n", "naïve 東京 <end> it's 12345"]


class Fault(Exception):
    """What should not have come of a call."""


class Entry(NamedTuple):
    """A public function.

    Attributes:
        call: it, with what does not change.
        right: arguments that are right together.
        others: of some arguments, other values; each of them is right, or refused.
        alone: the arguments that get no value but those of `others`: any object is right for them, or a large number
            would take all memory.
        check: raises `Fault` if an answer is wrong. It is given the answer and the arguments.
    """

    call: Callable[..., Any]
    right: dict[str, Any]
    others: dict[str, list[Any]]
    alone: frozenset[str]
    check: Callable[[Any, dict[str, Any]], None]


def _some_function(*_):
    return 0.0


# What somebody might pass for anything. No array has a shape of its own, so that few programs are compiled.
MISTAKES: list[Any] = [
    None, True, False, 0, 1, -1, 7, 2**70, 0.0, 0.5, -2.5, float("nan"), float("inf"), 1j, "", "a", "linear", "gpt2",
    "raise", b"a", [], [1, 2], ["a", "b"], [[1.0, 2.0]] * 3, (), (0, 1), (None, None), {}, {"a": 1}, {"x": X}, {1, 2},
    object(), _some_function, range(3), X, X + 1j, X.astype(int), X > 0, X.astype("f4"), X.astype(str), X[:0], X[0],
    X[:, :0], np.full_like(X, np.nan), np.full_like(X, np.inf), np.float64(2.0), np.int64(3), np.array(None),
    jnp.asarray(X), jol.Broyden(rescue=False), jol.BFGS(rescue=False), Path("nowhere"),
]  # fmt: skip


# --- Solvers ----------------------------------------------------------------------------------------------------------


def equation(x, a):
    return x + jnp.tanh(x) - a


def objective(x, a):
    return jnp.sum(x**2 + jnp.cos(x - a))


def residuals(x, a):
    return jnp.concatenate([2 * x - jnp.tanh(a), jnp.sin(x)])


def contraction(x, a):
    return 0.5 * jnp.tanh(x) + a


_FUNCTIONS = {function.__name__ for function in (equation, objective, residuals, contraction)}


def _of(values: Callable[..., Any], x: np.ndarray, a: Any) -> np.ndarray:
    return np.asarray(jax.vmap(values)(jnp.asarray(x), jnp.broadcast_to(jnp.asarray(a, float), x.shape)))


_SETTINGS: list[tuple[str, Any]] = [
    ("atol", -1.0), ("atol", np.nan), ("atol", "a"), ("atol", [1e-6] * 3), ("atol", [1e-6] * 2), ("rtol", object()),
    ("rtol", 1e-3), ("max_steps", 0), ("max_steps", -1), ("max_steps", 1.5), ("max_steps", 2**70), ("max_steps", None),
    ("max_steps", [5, 6, 7]), ("max_steps", True),
]  # fmt: skip
_SMALL: dict[str, Callable[..., Any]] = {
    "root": equation, "minimize": jax.grad(objective), "fixed_point": lambda x, a: x - contraction(x, a),
    "multistart": jax.grad(objective), "least_squares": jax.grad(lambda x, a: jnp.sum(residuals(x, a) ** 2) / 2),
}  # fmt: skip


def _check_solution(name: str) -> Callable[[Any, dict[str, Any]], None]:
    def check(solution: Any, given: dict[str, Any]) -> None:
        if not isinstance(solution, jol.Solution):
            raise Fault(f"returns {type(solution).__name__}")
        success, x = np.asarray(solution.success), np.asarray(solution.x)
        if not np.isfinite(x[success]).all():
            raise Fault("solved, and not finite")
        args, right = given["args"], ENTRIES[name].right
        usual = given["fun"] is right["fun"] and given["solver"] is not None and isinstance(args, np.ndarray | float)
        usual &= given["solver"] in ENTRIES[name].others["solver"][:2] and given["args_axes"] == 0
        inside = given.get("bounds") is None and given.get("loss", "linear") == "linear"
        if x.shape == X.shape and usual and inside and x.dtype == np.float64:
            small = np.abs(_of(_SMALL[name], x, args)).max(axis=-1)
            if (small[success] > 1e-3).any() or (_is_finite(given) and not success.all()):
                raise Fault(f"status {solution.status}, of which the errors are {small}")
        elif given.get("bounds") is not None and x.shape == X.shape:
            lower, upper = (np.broadcast_to(b if b is not None else s, X.shape) for b, s in _sides(given["bounds"]))
            if (x < lower).any() or (x > upper).any():
                raise Fault("outside its bounds")

    return check


def _is_finite(given: dict[str, Any]) -> bool:
    return all(np.isfinite(given[name]).all() for name in ("x0", "starts", "args") if name in given)


def _sides(bounds: Any) -> Iterator[tuple[Any, float]]:
    return zip(bounds, (-np.inf, np.inf), strict=True)


def _solver_entry(name: str, fun: Callable, solvers: list[Any], **more: Any) -> Entry:
    entry = getattr(jol, name)
    starts = "starts" if name == "multistart" else "x0"
    right = {"fun": fun, starts: X[:, None] if name == "multistart" else X, "args": A, "solver": solvers[0]}
    right |= {"args_axes": 0, "batched": True, "has_aux": False}
    others = {
        "fun": [fun], starts: [right[starts], 10 * right[starts]],
        "solver": [*solvers, None, *(replace(solvers[0], **{key: value}) for key, value in _SETTINGS)],
        "args": [A, 2 * A, A.astype("f4"), A[:2], 0.5, np.full_like(A, np.nan), A + 1j],
        "args_axes": [0, 1, -1, "a", (0,), 2**70], "batched": [True, 1, "a"], "has_aux": [False, 0, None],
    }  # fmt: skip
    parameters = inspect.signature(entry).parameters
    if "bounds" in parameters:
        right["bounds"] = None
        bounds = [(-1.0, 1.0), (None, 0.25), (1.0, -1.0), (np.nan, 1.0), (0.0,), ([0.0, 0.0, 0.0], 1.0), (X - 1, X + 1)]
        others["bounds"] = [None, *(bounds if name != "multistart" else bounds[:-1])]
    for argument, value, values in (
        ("record", 0, [0, -1, 1.5, "a", None, True]),
        ("keep_state", False, [False, 0, None, "a"]),
        ("resume", None, [None]),
        ("backend", "auto", ["auto", "loop", "gpu", None]),
        ("loss", "linear", ["linear", "huber", "square", 0]),
        ("f_scale", 1.0, [1.0, 0.5, 0.0, -1.0, np.nan, [1.0, 2.0, 3.0], [1.0], "a"]),
        ("derivatives", "exact", ["exact", "gauss-newton", "none"]),
    ):
        if argument in parameters:
            right[argument], others[argument] = value, values
    alone = frozenset({"args", "args_axes", "record", "has_aux", "keep_state"})
    return Entry(entry, right, others, alone, _check_solution(name))


# --- Byte-pair encoding -----------------------------------------------------------------------------------------------


def _trained(tokenizer: Any, given: dict[str, Any]) -> None:
    if not isinstance(tokenizer, bpe.Tokenizer):
        raise Fault(f"returns {type(tokenizer).__name__}")
    if tokenizer.vocabulary.level == "byte" and given["pattern"] in ("gpt2", "gpt4", "o200k"):
        for text in TEXTS:
            if tokenizer.decode(tokenizer.encode(text, special="ignore")) != text:
                raise Fault("a text does not come back")


TOKENIZER = bpe.train(TEXTS, merges=12, special_tokens=["<end>"], progress=False)
IDS = TOKENIZER.encode(TEXTS[0])


def _check_ids(ids: Any, given: dict[str, Any]) -> None:
    ids = ids[0] if given["return_offsets"] else ids
    if TOKENIZER.decode(ids, errors="surrogateescape") != given["text"]:
        raise Fault("a text does not come back")


def _check_batch(found: Any, given: dict[str, Any]) -> None:
    if given["length"] is None:
        if [TOKENIZER.decode(ids) for ids in found] != list(given["texts"]):
            raise Fault("a text does not come back")
    elif found[0].shape != (len(list(given["texts"])), given["length"]):
        raise Fault(f"an array of shape {found[0].shape}")


def _is_text(text: Any, _: dict[str, Any]) -> None:
    if not isinstance(text, str):
        raise Fault(f"returns {type(text).__name__}")


def _loads(_: Any, given: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"pattern": "gpt4", "special_tokens": ["<end>"]}
    path = Path(given["path"])
    is_ranks = given["format"] == "tiktoken" or (given["format"] is None and path.suffix == ".tiktoken")
    if (path.suffix == ".tiktoken") != is_ranks or (path.is_file() and not path.suffix):
        return  # which is loaded by its suffix
    if bpe.load(path, **(settings if is_ranks else {})).encode(TEXTS[0]) != IDS:
        raise Fault("another tokenizer is loaded than was saved")


SPECIAL = ["raise", "encode", "ignore", "other"]
ENTRIES: dict[str, Entry] = {
    "root": _solver_entry("root", equation, [jol.Broyden(rescue=False), jol.Broyden(rescue=False, atol=1e-9)]),
    "minimize": _solver_entry("minimize", objective, [jol.BFGS(rescue=False), jol.BFGS(rescue=False, atol=1e-7)]),
    "least_squares": _solver_entry(
        "least_squares", residuals, [jol.LevenbergMarquardt(), jol.LevenbergMarquardt(atol=1e-7)]
    ),
    "fixed_point": _solver_entry(
        "fixed_point", contraction,
        [jol.LimitedBroyden(slopes=False, rescue=False), jol.LimitedBroyden(slopes=False, rescue=False, atol=1e-9)],
    ),
    "multistart": _solver_entry("multistart", objective, [jol.BFGS(rescue=False), jol.BFGS(rescue=False, atol=1e-7)]),
    "bpe.train": Entry(
        bpe.train,
        {
            "corpus": TEXTS, "vocab_size": None, "merges": 12, "pattern": "gpt4", "end_of_word": None, "level": "byte",
            "min_frequency": 1, "max_token_length": None, "special_tokens": (), "initial_alphabet": None,
            "byte_fallback": False, "unknown": None, "tie": "id", "errors": "strict", "field": "text", "extend": None,
            "processes": None, "progress": False, "checkpoint": None, "device": None,
        },
        {
            "corpus": [TEXTS, [], [""], ["\ud800"], {"low": 3}, {"low": -1}, {"low": 1.5}, {3: 1}, "low low", [TEXTS]],
            "vocab_size": [None, 256, 260, 10, 300], "merges": [None, 0, 12, 2000],
            "pattern": ["gpt4", "gpt2", "whitespace", r"\w+", "(", "a*"], "end_of_word": [None, "_", "</w>", ""],
            "level": ["byte", "char", "word"], "min_frequency": [1, 2, 10**9], "max_token_length": [None, 1, 2, 4],
            "special_tokens": [(), ["<end>"], ["<end>", "<end>"], [""], "<end>", ["e"]],
            "initial_alphabet": [None, "bytes", "gpt2", "abc", ["a", "bc"]], "unknown": [None, "<unk>", ""],
            "tie": ["id", "subword-nmt", "sentencepiece"], "extend": [None, TOKENIZER], "processes": [None, 1],
            "checkpoint": [None, "run.npz"],
        },
        frozenset({"progress", "processes", "device"}),
        _trained,
    ),
    "Tokenizer.encode": Entry(
        TOKENIZER.encode,
        {"text": TEXTS[0], "special": "raise", "return_offsets": False, "template": False},
        {
            "text": [*TEXTS, "", "\ud800", "\udc80", "a" * 5000, "\0"], "special": SPECIAL,
            "return_offsets": [False, True],
        },
        frozenset({"return_offsets"}),
        _check_ids,
    ),
    "Tokenizer.encode_batch": Entry(
        TOKENIZER.encode_batch,
        {"texts": TEXTS[:2], "special": "raise", "length": None, "pad": 0, "overflow": "raise", "template": False},
        {
            "texts": [TEXTS, TEXTS[:2], [], [""], tuple(TEXTS[:2])], "special": SPECIAL, "length": [None, 0, 5, 64, -1],
            "pad": [0, -1, 10**6], "overflow": ["raise", "report"],
        },
        frozenset(),
        _check_batch,
    ),
    "Tokenizer.decode": Entry(
        TOKENIZER.decode,
        {"ids": IDS, "errors": "replace", "skip_special": False},
        {"ids": [IDS, [], np.array(IDS), tuple(IDS), [-1], [10**6], [1.0], [True], ["a"]],
         "errors": ["replace", "strict", "ignore", "surrogateescape"]},
        frozenset(),
        _is_text,
    ),
    "Tokenizer.save": Entry(
        TOKENIZER.save,
        {"path": "a.json", "format": None},
        {"path": ["a.json", "b.tiktoken", Path("c"), "", "d/e/f.json", "."],
         "format": [None, "huggingface", "gpt2", "tiktoken", "jaxopt_lite", "json"]},
        frozenset(),
        _loads,
    ),
}  # fmt: skip
NAMES = tuple(ENTRIES)
_WITHIN = "atol", "rtol", "max_steps", "counts?"  # what is said of a solver's settings, and of a corpus of counts


@st.composite
def calls(draw: Any, name: str) -> dict[str, Any]:
    """Arguments of an entry."""
    entry = ENTRIES[name]
    given = dict(entry.right)
    for argument in draw(st.lists(st.sampled_from(list(given)), max_size=3, unique=True)):
        own = entry.others.get(argument, [given[argument]])
        given[argument] = draw(st.sampled_from(own if argument in entry.alone or draw(st.booleans()) else MISTAKES))
    return given


def outcome(name: str, given: dict[str, Any]) -> str:
    """What comes of a call: "answers" or "refused".

    Raises:
        Fault: something else.
    """
    entry = ENTRIES[name]
    changed = ", ".join(f"{key}={_short(value)}" for key, value in given.items() if value is not entry.right[key])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = entry.call(**given)
    except OSError as error:
        if not any(str(given.get(key)) in str(error) for key in ("path", "checkpoint", "corpus")):
            raise Fault(f"{name}({changed}): {error!r:.300}") from error
        return "refused"
    except (ValueError, TypeError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        if any(frame.filename == __file__ and frame.name in _FUNCTIONS for frame in frames):
            return "refused"  # by the function that is solved, which the error then points at
        frame = frames[-1]
        if not frame.filename.startswith(PACKAGE):
            raise Fault(f"{name}({changed}): raised in {frame.filename}:{frame.lineno}: {error!r:.300}") from error
        if not any(re.search(rf"\b{key}\b", str(error)) for key in (*given, *_WITHIN)):
            raise Fault(f"{name}({changed}): no argument is named in {error!r:.300}") from error
        return "refused"
    except Exception as error:
        raise Fault(f"{name}({changed}): {error!r:.300}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            entry.check(answer, given)
    except Exception as error:
        raise Fault(f"{name}({changed}): {error!r:.300}") from error
    return "answers"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray | jax.Array) and value.size > 1:
        return f"{type(value).__name__} {value.dtype}{list(value.shape)}"
    return f"{value!r:.60}"


@contextmanager
def elsewhere() -> Iterator[None]:
    """In an empty folder: some of the calls write files."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def run(name: str, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Draw so many calls of an entry. Returns how many did what, and the faults."""
    outcomes: Counter[str] = Counter()
    faults: dict[str, None] = {}

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, deadline=None, database=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(calls(name))
    def each(given):
        with elsewhere():
            try:
                outcomes[outcome(name, given)] += 1
            except Fault as fault:
                outcomes["wrong"] += 1
                faults[str(fault)] = None

    each()
    return outcomes, list(faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a text in the name of what is called")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    bad = 0
    for name in NAMES:
        if options.only in name:
            outcomes, faults = run(name, options.count, options.seed)
            print(f"{name}: {dict(outcomes)}", *faults, sep="\n    ", flush=True)
            bad += len(faults)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
