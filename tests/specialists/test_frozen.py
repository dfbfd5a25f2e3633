"""What a user does to an array after handing it over changes no fingerprint and no answer."""

import copy
import pickle
import sys
import threading
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import Adapter, Base, Card, Centroid, Library, Profile, Shift
from jaxopt_lite.specialists import base as base_module
from jaxopt_lite.specialists.frozen import frozen, remembered


def apply(params, x):
    return params["w"] * x + params["b"]


def base_of(params) -> Base:
    return Base(params, apply, features=lambda params, x: x[None])


def library_of(base, parameters, mean):
    none = np.zeros(3)
    profile = Profile(np.ones(3), mean, {"shift:b": none}, none[:, None])
    return Library(base, parameters, profile, Adapter((Shift("b"),)), tuple(map(Card, "abc")))


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
