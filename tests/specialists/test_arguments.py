"""Arguments that Python or NumPy would take for something else are refused, by name, before anything is computed."""

import copy
import functools
import pickle
import sys
import threading
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite import specialists as sp
from jaxopt_lite.arguments import whole_number
from jaxopt_lite.specialists import Adapter, Base, Card, Centroid, Library, Profile, Shift
from jaxopt_lite.specialists import base as base_module
from jaxopt_lite.specialists.arguments import (
    NOT_NEGATIVE,
    check_kept,
    check_real,
    frozen,
    number,
    remembered,
    text,
)
from jaxopt_lite.specialists.tasks import checked
from tests.specialists.spaces import library_at, plane

pytestmark = pytest.mark.hardly_optimized

BASE = plane(2)
LIBRARY = library_at(BASE, np.arange(6.0).reshape(3, 2))
TASKS = {name: (np.ones((4, 2), np.float32), np.ones(4, np.float32)) for name in LIBRARY.names}
GEOMETRY = sp.Geometry(np.zeros(2), np.eye(2), np.float32(np.inf), np.float32(1), BASE.fingerprint)
FEATURES = np.ones((5, 2), np.float32)


@functools.cache  # for it compiles, and this module is read by every process
def router():
    return sp.LDA.of(LIBRARY, GEOMETRY)


def square(out, y):
    return (out - y) ** 2


def task2vec(**settings):
    return sp.task2vec(BASE, TASKS, sp.Shift("b"), square, probe="w", progress=False, **settings)


def diagonal(**settings):
    return sp.fisher_diagonal(BASE, sp.Shift("b"), LIBRARY.parameters, TASKS, square, **settings)


def to_the_base(features):
    return np.full(len(features), -1)


WHOLE = {
    "rank": (lambda v: sp.LoRA("w", rank=v), 1),
    "axis": (lambda v: sp.IA3("w", axis=v), None),
    "seed": (lambda v: sp.LoRA("w", seed=v), None),
    "seed of DARE": (lambda v: sp.DARE(seed=v), None),
    "examples": (lambda v: sp.Card("a", examples=v), 0),
    "top_k": (lambda v: sp.route(router(), FEATURES, v), 1),
    "length": (lambda v: sp.windows("text", length=v), 1),
    "stride": (lambda v: sp.windows("text", stride=v), 1),
    "steps": (lambda v: sp.language_model("text", steps=v, progress=False), 1),
    "hidden": (lambda v: sp.language_model("text", hidden=v, progress=False), 1),
    "batch": (lambda v: sp.language_model("text", batch=v, progress=False), 1),
    "draws": (lambda v: task2vec(draws=v), 1),
    "draws of a diagonal": (lambda v: diagonal(draws=v), 1),
    "seed of task2vec": (lambda v: task2vec(seed=v), None),
    "seed of a diagonal": (lambda v: diagonal(seed=v), None),
    "seed of a language model": (lambda v: sp.language_model("text", seed=v, progress=False), None),
    "seed of an evaluation": (lambda v: sp.evaluate(LIBRARY, to_the_base, TASKS, square, seed=v), 0),
    "seed of a geometry": (lambda v: sp.calibrate(BASE, TASKS, seed=v), 0),
    "seed of a calibrated router": (lambda v: sp.calibrated(router(), FEATURES, seed=v), 0),
    "seed of a learned router": (lambda v: sp.Softmax.fit(LIBRARY, TASKS, seed=v), 0),
    "k": (lambda v: sp.nearest(LIBRARY, "t0", v), 0),
}  # fmt: skip
REAL = {
    "alpha": lambda v: sp.LoRA("w", alpha=v),
    "scale": lambda v: sp.TaskArithmetic(v),
    "scale of TIES": lambda v: sp.TIES(scale=v),
    "density": lambda v: sp.TIES(v),
    "density of DARE": lambda v: sp.DARE(v),
    "floor": lambda v: sp.Fisher(floor=v),
    "off_diagonal": lambda v: sp.RegMean(TASKS, v),
    "ridge": lambda v: sp.RegMean(TASKS, ridge=v),
    "prior": lambda v: sp.fit(BASE, sp.Shift("b"), TASKS, square, prior=v, progress=False),
    "prior of gates": lambda v: sp.fit_gates(LIBRARY, TASKS, square, prior=v),
    "ridge of a mix": lambda v: sp.mix(LIBRARY, TASKS, square, ridge=v, progress=False),
    "ridge of a router": lambda v: sp.Softmax.fit(LIBRARY, TASKS, ridge=v),
    "fallback": lambda v: sp.calibrate(BASE, TASKS, fallback=v),
    "fallback of a router": lambda v: sp.calibrated(router(), FEATURES, fallback=v),
    "learning_rate": lambda v: sp.language_model("text", learning_rate=v, progress=False),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name):
    call, least = WHOLE[name]
    wrong = [True, np.True_, 1.0, np.float32(1), 1.5, "1", [1], np.array([1]), jnp.array(True), float("nan")]
    wrong += [] if name == "stride" else [None]
    for value in [*wrong, *([] if least is None else [least - 1])]:
        with pytest.raises(ValueError, match=rf"{name.split()[0]}=.*: expected a whole number"):
            call(value)


@pytest.mark.parametrize("name", [name for name, (_, least) in WHOLE.items() if "seed" in name and least is None])
def test_seeds_have_64_bits(name):
    """More were refused by JAX, long after and without the name of the argument."""
    for value in (2**63, -(2**63) - 1, 2**70):
        with pytest.raises(ValueError, match=rf"seed={value}: expected a whole number from −2⁶³ to 2⁶³ − 1"):
            WHOLE[name][0](value)


def test_the_largest_seeds_are_taken():
    for seed in (2**63 - 1, -(2**63)):
        assert sp.LoRA("w", seed=seed).identity("w", jnp.ones((2, 2)))[0].shape == (2, 4)


@pytest.mark.parametrize("name", REAL)
def test_real_numbers(name):
    call = REAL[name]
    wrong = [
        True,
        False,
        np.True_,
        "1",
        1j,
        np.complex64(1),
        [1.0],
        np.ones(1) * 1j,
        float("nan"),
        float("inf"),
        -1e400,
    ]
    wrong += [] if name == "alpha" else [None]
    for value in wrong:
        with pytest.raises(ValueError, match=rf"{name.split()[0]}=.*: expected "):
            call(value)


@pytest.mark.parametrize("value", [2, np.int8(2), np.uint64(2), np.array(2), jnp.array(2)])
def test_numbers_of_numpy_and_jax_are_numbers(value):
    assert type(whole_number("it", value)) is int and whole_number("it", value) == 2
    assert type(number("it", value)) is float and number("it", value, NOT_NEGATIVE) == 2
    for real in (np.float16(0.5), jnp.bfloat16(0.5), np.array(0.5), jnp.array(0.5)):
        assert number("it", real) == 0.5
    assert type(text("it", np.str_("x"))) is str


def test_settings_in_files_are_plain_whatever_they_were_given_as():
    """Their text is part of ids: one of NumPy would be another specialist once it is loaded."""
    given = sp.LoRA("w", rank=np.int64(2), alpha=np.float64(3.5), seed=np.uint8(1)) + sp.IA3("b", axis=np.int32(0))
    plain = sp.LoRA("w", rank=2, alpha=3.5, seed=1) + sp.IA3("b", axis=0)
    assert given == plain and repr(given.spec()) == repr(plain.spec())
    assert type(sp.LoRA("w", alpha=3).alpha) is int  # as it was, so that ids stay


def test_a_card_is_plain_too():
    card = sp.Card(np.str_("a"), np.int64(3), np.float32(0.5), parents=["x", np.str_("y")])
    assert repr(card) == repr(sp.Card("a", 3, 0.5, parents=("x", "y"))) and hash(card)
    assert sp.Card("a", loss=jnp.array(0.5)).loss == 0.5 and sp.Card("a", loss=1).loss == 1.0


@pytest.mark.parametrize(
    "fields",
    [
        {"name": 1}, {"name": None}, {"name": b"a"}, {"name": ("a",)}, {"name": "a", "status": 0},
        {"name": "a", "author": None}, {"name": "a", "notes": 3}, {"name": "a", "license": ["MIT"]},
        {"name": "a", "parents": "id"}, {"name": "a", "parents": [1]}, {"name": "a", "parents": (None,)},
        {"name": "a", "loss": "low"}, {"name": "a", "loss": True}, {"name": "a", "loss": 1j},
        {"name": "a", "parents": None}, {"name": "a", "parents": 3}, {"name": "a", "loss": np.ones(2)},
    ],
)  # fmt: skip
def test_what_is_no_card(fields):
    with pytest.raises(
        TypeError,
        match=rf"{list(fields)[-1]}.*expected (a string|several strings|real numbers|one number)",
    ):
        sp.Card(**fields)


NO_TASKS = {
    "a list of pairs": [("t0", TASKS["t0"])],
    "a generator": (pair for pair in TASKS.items()),
    "None": None,
    "numbers for names": {0: TASKS["t0"], 1: TASKS["t1"]},
    "a pair for a name": {("a", "b"): TASKS["t0"]},
    "a truth value for a name": {True: TASKS["t0"]},
    "bytes for a name": {b"t0": TASKS["t0"]},
    "a list for a task": {"t0": [*TASKS["t0"]]},
    "an array for a task": {"t0": np.ones((2, 4, 2), np.float32)},
    "a dictionary for a task": {"t0": {"x": 1, "y": 2}},
    "a generator for a task": {"t0": (part for part in TASKS["t0"])},
}


@pytest.mark.parametrize("tasks", NO_TASKS.values(), ids=NO_TASKS)
@pytest.mark.parametrize(
    "call",
    [
        lambda tasks: sp.fit(BASE, sp.Shift("b"), tasks, square, progress=False),
        lambda tasks: sp.mix(LIBRARY, tasks, square, progress=False),
        lambda tasks: sp.calibrate(BASE, tasks),
        lambda tasks: sp.Softmax.fit(LIBRARY, tasks),
        lambda tasks: sp.fit_gates(LIBRARY, tasks, square),
        lambda tasks: sp.evaluate(LIBRARY, router(), tasks, square),
        lambda tasks: sp.task2vec(BASE, tasks, sp.Shift("b"), square, probe="w", progress=False),
        lambda tasks: sp.RegMean(tasks),
    ],
    ids=["fit", "mix", "calibrate", "Softmax", "fit_gates", "evaluate", "task2vec", "RegMean"],
)
def test_tasks_are_tuples_by_name(call, tasks):
    with pytest.raises(
        TypeError, match="expected a mapping from names|the name of a task=.*expected a string|expected Task"
    ):
        call(tasks)


def test_what_is_written_on_cards_is_checked_before_the_fit():
    def never(out, y):
        raise AssertionError("this takes long")

    for words in ({"author": 1}, {"license": None}):
        with pytest.raises(TypeError, match="expected a string"):
            sp.fit(BASE, sp.Shift("b"), TASKS, never, progress=False, **words)
        with pytest.raises(TypeError, match="expected a string"):
            sp.mix(LIBRARY, TASKS, never, progress=False, **words)
    with pytest.raises(TypeError, match="name=1"):
        sp.merge(LIBRARY, name=1)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([2**31]), "too large for int32"), (np.array([-(2**31) - 1]), "too large for int32"),
        (np.array([2**32], np.uint64), "too large for uint32"), (np.array([1e39]), "too large for float32"),
        (np.array([-1e39, np.nan]), "too large for float32"), (np.array([1e39 + 0j]), "too large for complex64"),
    ],
)  # fmt: skip
def test_numbers_that_32_bits_cannot_hold(array, message):
    check_kept("it", array)
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=f"it holds a number that is {message}; .*jax_enable_x64"):
            check_kept("it", array)
        check_kept("it", array[:0])
        check_kept("it", np.array([2**31 - 1, -(2**31)]))
        check_kept("it", np.array([np.nan, np.inf, 1e38]))


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array([b"a"]), np.array(["2020"], "M8")])
def test_what_is_no_number(array):
    with pytest.raises(TypeError, match="expected arrays of numbers"):
        check_kept("it", array)
    with pytest.raises(TypeError, match="expected real numbers"):
        check_real("it", array)


def test_labels_do_not_wrap():
    """A user's id of 2³² + 1 would be class 1."""
    tasks = {"a": (np.ones((2, 1), np.float32), np.array([1, 2**32 + 1]))}
    checked(tasks)
    with jax.enable_x64(False), pytest.raises(ValueError, match="task 'a' holds a number that is too large for int32"):
        checked(tasks)


# What a user does to an array after handing it over changes no fingerprint and no answer.


def apply(params, x):
    return params["w"] * x + params["b"]


def base_of(params) -> Base:
    return Base(params, apply, features=lambda params, x: x[None])


def library_of(base, parameters, mean):
    none = np.zeros(3)
    profile = Profile(np.ones(3), mean, {"shift:b": none}, none[:, None])
    return Library(base, parameters, profile, Adapter((Shift("b"),)), tuple(map(Card, "abc")))


@pytest.mark.parametrize("leaf, kind", [(lambda x: x, "function"), ("relu", "str")])
def test_what_a_module_holds_besides_arrays_is_refused_by_name(leaf, kind):
    """The fingerprint was that of a pointer, and a fit said no more than that `_identity` cannot interpret it."""
    with pytest.raises(TypeError, match=f"a leaf 'layer/activation' that is {kind}; expected arrays"):
        base_of({"layer": {"activation": leaf, "w": np.ones(2)}})


def test_random_keys_among_the_parameters_are_part_of_the_fingerprint():
    """Modules of Flax's nnx hold one for dropout; NumPy has no such dtype."""
    first, again, other = (base_of({"w": np.ones(2), "key": jax.random.key(seed)}).fingerprint for seed in (0, 0, 1))
    assert first == again != other


def by_entry(params):
    params["w"] = np.array(9.0)


def in_place(params):
    params["w"][...] = 9


def through_a_view(params):
    params["w"].reshape(1)[0] = 9


@pytest.mark.parametrize("edit", [by_entry, in_place, through_a_view])
@pytest.mark.parametrize("read_before", [True, False])
def test_a_base_is_what_it_was_made_of(edit, read_before):
    params = {"w": np.array(2.0), "b": np.array(1.0)}
    base, same = base_of(params), base_of(copy.deepcopy(params))
    if read_before:
        assert base.fingerprint == same.fingerprint
    edit(params)
    assert base.fingerprint == same.fingerprint
    assert float(base.params["w"]) == 2 and float(base.apply(base.params, 3.0)) == 7


def test_the_fingerprint_is_that_of_the_parameters_that_are_there():
    """Whoever changes the entries of a base's own dictionary gets the fingerprint of what is in it now."""
    base = base_of({"w": np.array(2.0), "b": np.array(1.0)})
    before = base.fingerprint
    base.params["w"] = writable = np.array(5.0)
    assert base.fingerprint == base_of({"w": np.array(5.0), "b": np.array(1.0)}).fingerprint != before
    writable[...] = 6
    assert base.fingerprint == base_of({"w": np.array(6.0), "b": np.array(1.0)}).fingerprint


@pytest.mark.parametrize("read_before", [True, False])
def test_a_library_is_what_it_was_made_of(read_before):
    base = base_of({"w": jnp.array(2.0), "b": jnp.array(1.0)})
    shifts, mean = {"shift:b": np.arange(3.0)}, np.arange(3.0)[:, None]
    library, same = library_of(base, shifts, mean), library_of(base, copy.deepcopy(shifts), mean.copy())
    if read_before:
        assert library.ids == same.ids
    shifts["shift:b"][1], mean[:] = 7, 7
    shifts["shift:w"] = np.zeros(3)
    assert library.ids == same.ids and library.parameters.keys() == {"shift:b"}
    assert library.apply(np.zeros(3), [0, 1, 2]).tolist() == [1, 2, 3]
    router, expected = Centroid.of(library, metric="euclid"), Centroid.of(same, metric="euclid")
    assert jnp.array_equal(router.weight, expected.weight)
    with pytest.raises(ValueError, match="read-only"):
        library[:2].parameters["shift:b"][0] = 7


def test_ids_are_those_of_the_parameters_that_are_there():
    base = base_of({"w": jnp.array(2.0), "b": jnp.array(1.0)})
    library = library_of(base, {"shift:b": jnp.arange(3.0)}, np.zeros((3, 1)))
    before = library.ids
    library.parameters["shift:b"] = jnp.array([0.0, 5.0, 2.0])
    assert [one == other for one, other in zip(library.ids, before, strict=True)] == [True, False, True]
    library.base.params["w"] = jnp.array(3.0)
    assert not set(library.ids) & set(before)


def a_place_for(size: int) -> np.ndarray:
    """An array that JAX does not copy, for it begins where JAX would begin it."""
    raw = np.zeros(4 * size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + 4 * size].view(np.float32)


@pytest.mark.parametrize("call", ["apply", "embed"])
def test_an_input_that_changes_after_the_call_does_not_change_the_answer(call):
    """JAX may read it only later, and in a buffer that is used again there is another input by then."""
    size = 2_000_000
    base = base_of({"w": jnp.array(2.0, jnp.float32), "b": jnp.array(1.0, jnp.float32)})
    library = library_of(base, {"shift:b": jnp.arange(3, dtype=jnp.float32)}, np.zeros((3, 1)))
    index, buffer = jnp.zeros(size, jnp.int32), a_place_for(size)
    f = base.embed if call == "embed" else lambda x: library.apply(x, index)
    jax.block_until_ready(f(buffer))
    expected = 0 if call == "embed" else 1
    for _ in range(5):
        buffer[:] = 0
        answer = f(buffer)
        buffer[:] = 5
        assert (np.asarray(answer) == expected).all()


def test_only_what_could_change_is_copied():
    fixed = np.arange(3.0)
    fixed.flags.writeable = False
    view = np.arange(3.0)[1:]
    view.flags.writeable = False  # but not what it is a view of
    of_bytes, own = np.frombuffer(bytes(8)), np.arange(3.0)
    tree = {"kept": [fixed, fixed[1:], of_bytes, jnp.ones(2), 3, None], "copied": (view, own)}
    again = frozen(tree)
    assert again["kept"] is not tree["kept"]
    assert all(one is other for one, other in zip(again["kept"], tree["kept"], strict=True))
    for one, other in zip(again["copied"], tree["copied"], strict=True):
        assert one is not other and not one.flags.writeable and np.array_equal(one, other)
    assert own.flags.writeable  # what is the user's stays so


def test_a_value_is_kept_for_these_arrays_and_no_others():
    class Owner:
        pass

    owner, calls, one, other = Owner(), [], jnp.ones(1), jnp.ones(1)
    ask = lambda *leaves: remembered(owner, "_it", leaves, lambda: calls.append(leaves) or len(calls))
    assert [ask(one), ask(one), ask(other), ask(one, other), ask(), ask()] == [1, 1, 2, 3, 4, 4]
    writable = np.ones(1)
    assert [ask(writable), ask(writable)] == [5, 6]


def test_what_is_remembered_is_copied_and_pickled_along():
    base = base_of({"w": jnp.array(2.0), "b": jnp.array(1.0)})
    plain = replace(base, apply=np.sum, features=None)
    for again in (copy.copy(base), pickle.loads(pickle.dumps(plain))):
        assert again.fingerprint == base.fingerprint


def test_a_fingerprint_under_way_holds_up_no_other(monkeypatch):
    """A lock would be one for all bases, and in a process that is forked meanwhile it would never be free."""
    inside, leave, digest = threading.Event(), threading.Event(), base_module.digest

    def slow(*args):
        if not inside.is_set():
            inside.set()
            leave.wait(60)
        return digest(*args)

    monkeypatch.setattr(base_module, "digest", slow)
    base, found = base_of({"w": jnp.array(2.0), "b": jnp.array(1.0)}), []
    first = threading.Thread(target=lambda: found.append(base.fingerprint))
    first.start()
    inside.wait(60)
    second = threading.Thread(target=lambda: found.append(base_of(base.params).fingerprint))
    second.start()
    second.join(30)
    held_up = second.is_alive()
    leave.set()
    first.join(60)
    second.join(60)
    assert not held_up and len(found) == 2 and len(set(found)) == 1


def test_many_threads_get_one_answer():
    found: list = []

    def ask(start, library):
        start.wait()
        found.append((library.base.fingerprint, library.ids, "a" in library))

    sys.setswitchinterval(1e-5)
    try:
        for _ in range(5):
            found.clear()
            base = base_of({"w": jnp.array(2.0), "b": jnp.array(1.0)})
            library, start = library_of(base, {"shift:b": jnp.arange(3.0)}, np.zeros((3, 1))), threading.Barrier(6)
            threads = [threading.Thread(target=ask, args=(start, library)) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(found) == 6 and len(set(found)) == 1
    finally:
        sys.setswitchinterval(0.005)


# Keywords that had other names.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sp.Card("a", licence="MIT"), "licence='MIT': this keyword is now called license"),
        (lambda: sp.fit(BASE, sp.Shift("b"), TASKS, square, licence=""), "license"),
        (lambda: sp.mix(LIBRARY, TASKS, square, licence=""), "license"),
        (lambda: sp.merge(LIBRARY, licence=""), "license"),
        (lambda: sp.tuned_parameters(LIBRARY, standardise=True), "standardise=True: .* now called standardize"),
        (lambda: sp.DARE(drop=0.9), "drop=0.9: this keyword is now called density, which is 1 - drop"),
    ],
)
def test_an_old_keyword_is_refused_with_its_new_name(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    "loss, gives",
    [
        (lambda out, y: jnp.stack([out, y]), r"float32 of shape \(2,\)"),
        (lambda out, y: (out - y)[None], r"float32 of shape \(1,\)"),
        (lambda out, y: (square(out, y), out), "tuple"),
        (lambda out, y: None, "NoneType"),
        (lambda out, y: (out > y).astype(int), r"int\d+ of shape \(\)"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda loss: sp.fit(BASE, sp.Shift("b"), TASKS, loss, progress=False),
        lambda loss: sp.fit_gates(LIBRARY, TASKS, loss),
        lambda loss: sp.fisher_diagonal(BASE, sp.Shift("b"), LIBRARY.parameters, TASKS, loss),
    ],
)
def test_a_loss_is_one_number(call, loss, gives):
    with pytest.raises(ValueError, match=rf"loss\(output, y\) gives {gives} for one example; expected one real number"):
        call(loss)


def test_an_evaluation_may_count():
    route = lambda features: np.zeros(len(features), int)
    assert sp.evaluate(LIBRARY, route, TASKS, lambda out, y: (out < y - 10).astype(int)).rows[0].loss == 0
    with pytest.raises(ValueError, match=r"loss\(output, y\) gives float32 of shape \(1,\)"):
        sp.evaluate(LIBRARY, route, TASKS, lambda out, y: (out - y)[None])


@pytest.mark.parametrize(
    "features, gives",
    [
        (lambda params, x: x[0], r"float32 of shape \(\)"),
        (lambda params, x: x[None], r"float32 of shape \(1, 2\)"),
        (lambda params, x: [x[0], x[1]], "list"),
        (lambda params, x: x + 0j, r"complex64 of shape \(2,\)"),
    ],
)
def test_features_are_a_vector(features, gives):
    base = replace(BASE, features=features)
    for call in (
        lambda: base.embed(FEATURES),
        lambda: sp.calibrate(base, TASKS),
        lambda: sp.fit(base, sp.Shift("b"), TASKS, square, progress=False),
    ):
        with pytest.raises(ValueError, match=rf"features\(params, x\) gives {gives} for one example; expected \[d\]"):
            call()


def test_each_index_has_an_input():
    for index, weight in (([0, 1], None), (np.zeros((2, 2), int), np.ones((2, 2)))):
        with pytest.raises(ValueError, match=r"x has leading axes \[\(5,\)\]; expected \(2,\), an input for each"):
            LIBRARY.apply(FEATURES, index, weight)


def test_what_holds_arrays_is_equal_to_itself_alone():
    """An `==` of arrays would have no truth value, and what has one of its own no hash."""
    one, other = router(), sp.LDA.of(LIBRARY, GEOMETRY)
    assert one == one and one != other and GEOMETRY != replace(GEOMETRY) and len({one, other, GEOMETRY}) == 3
    assert LIBRARY.profile in [LIBRARY.profile] and LIBRARY.profile not in [replace(LIBRARY.profile)]


def test_a_library_has_a_row_for_each_card():
    """Where it is added to, its spare rows would be taken for the specialists that follow."""
    short = replace(LIBRARY, cards=LIBRARY.cards[:2])
    other = library_at(BASE, np.ones((1, 2))).rename({"t0": "other"})
    for call in (lambda: short.add(other), lambda: short[:1], lambda: short.apply(FEATURES, np.zeros(5, int))):
        with pytest.raises(ValueError, match=r"has shape \(3.*expected \[2, \.\.\.\], a row for each card"):
            call()
