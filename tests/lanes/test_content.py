"""What a function may read is told apart, and what cannot be known has no key."""

import dataclasses
import functools
import importlib.util
import itertools
import math
import operator
import random
import sys
import time
import types
import weakref
from collections import defaultdict, namedtuple

import jax
import jax.nn
import jax.numpy as jnp
import numpy as np
import pytest
from jax.numpy import sin
from numpy import random as numbers

from jaxopt_lite.lanes.content import content

SCALE, SHIFT = 2.0, 1.0
TABLE = {"a": [1.0, 2.0]}


def scaled(x):
    return SCALE * x


def through_another(x):
    return scaled(x) + 1


def of_table(x):
    return TABLE["a"][0] * x


def key(fun):
    found = content(fun)
    assert found is not None
    return found.key


def with_cell(value):
    return lambda x: x * value


def with_default(value):
    def f(x, k=value):
        return x * k

    return f


def with_keyword(value):
    def f(x, *, k=value):
        return x * k

    return f


def nested(value):
    inner = with_cell(value)
    return lambda x: inner(x) + jnp.sin(x)


WAYS = [with_cell, with_default, with_keyword, nested, lambda value: functools.partial(lambda k, x: k * x, value)]
VALUES = [
    1, 1.0, True, -0.0, 0.0, math.nan, 1j, "1", b"1", None, (1, 2), (1, 2.0), [1, 2], {"a": 1}, {"a": 2}, {1},
    frozenset({1}), np.float32(1), np.float64(1), np.ones(3), np.ones((3, 1)), np.ones(3, int), np.arange(3.0),
    range(3), range(0, 10, 3), range(0, 12, 3), slice(3), slice(0, 3), types.SimpleNamespace(a=1),
    types.SimpleNamespace(a=2), jnp.float32, np.dtype("f4"), np.dtype("f8"), jax.nn.relu, math.sin, sin, np.sin, scaled,
    through_another, functools.partial(sin, 1),
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_equal_captures_have_equal_keys_and_others_have_others(way):
    """Also where Python takes them for equal: 1, 1.0 and True, 0.0 and -0.0."""
    keys = [key(way(value)) for value in VALUES]
    again = [key(way(value)) for value in VALUES]
    for value, one in zip(VALUES, keys, strict=True):
        for another, other in zip(VALUES, again, strict=True):
            assert (one == other and hash(one) == hash(other)) == (value is another), (value, another)


@pytest.mark.parametrize("fun", [scaled, through_another, of_table])
def test_a_changed_global_changes_the_key(fun, monkeypatch):
    before = content(fun)
    assert before is not None
    if before.unchanged is not None:
        assert before.unchanged()
    with monkeypatch.context() as patch:
        if fun is of_table:
            patch.setitem(TABLE, "a", [3.0])
        else:
            patch.setitem(globals(), "SCALE", 3.0)
        assert key(fun) != before.key
        assert before.unchanged is None or not before.unchanged()
    assert key(fun) == before.key


def test_what_is_edited_in_place_is_seen():
    array, numbers = np.zeros(3), [1.0]
    fun = lambda x: x + array * numbers[0]
    keys = [key(fun)]
    array[1] = 5
    keys.append(key(fun))
    numbers.append(2.0)
    keys.append(key(fun))
    scaled_by = with_default([1.0])
    keys.append(key(scaled_by))
    scaled_by.__defaults__[0].append(1.0)
    keys.append(key(scaled_by))
    assert len(set(keys)) == len(keys)


def test_a_function_that_is_changed_is_another(monkeypatch):
    def f(x, k=1):
        return x * k

    before = content(f)
    assert before is not None and before.unchanged is not None and before.unchanged()
    f.__defaults__ = (2,)
    assert not before.unchanged() and key(f) != before.key
    f.__defaults__ = (1,)
    f.extra = 3  # which it might read by its own name
    assert not before.unchanged() and key(f) != before.key
    del f.extra
    f.__code__ = (lambda x, k=1: x + k).__code__
    assert key(f) != before.key


def test_the_users_own_modules_are_looked_into(tmp_path, monkeypatch):
    (tmp_path / "my_constants.py").write_text("RATE = 1.0\ndef helper(x):\n    return RATE * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_constants", raising=False)
    import my_constants  # pyright: ignore[reportMissingImports]

    direct, by_helper = lambda x: my_constants.RATE * x, lambda x: my_constants.helper(x)
    before = key(direct), key(by_helper)
    my_constants.RATE = 2.0
    assert key(direct) != before[0] and key(by_helper) != before[1]
    my_constants.RATE = 1.0
    assert (key(direct), key(by_helper)) == before

    other = lambda x: my_constants.OTHER * x
    both = lambda x: my_constants.RATE * x + other(x)
    my_constants.OTHER = 5.0
    keys = {key(both)}
    my_constants.OTHER = 6.0
    keys.add(key(both))
    my_constants.RATE = 3.0
    assert len(keys | {key(both)}) == 3  # each function reads an attribute of its own
    reader = lambda module: module.RATE
    for fun in (
        lambda x: reader(my_constants) * x, lambda x: my_constants.__dict__["RATE"] * x,
        lambda x: operator.attrgetter("RATE")(my_constants) * x, with_default(my_constants), with_cell([my_constants]),
        lambda x: [m.RATE for m in (my_constants,)],
    ):  # fmt: skip
        assert content(fun) is None


def test_every_path_into_a_package_is_followed():
    package, sub = types.ModuleType("package"), types.ModuleType("package.sub")
    package.sub, sub.a, sub.b = sub, 1.0, 1.0
    first = lambda x: package.sub.a * x
    both = lambda x: first(x) + package.sub.b

    def optional(x):
        try:
            return package.sub.c * x
        except AttributeError:
            return x

    before, without = content(both), content(optional)
    assert before.unchanged() and without.unchanged()
    sub.b = 2.0
    assert not before.unchanged() and key(both) != before.key
    sub.c = 1.0
    assert not without.unchanged() and key(optional) != without.key
    whole = lambda x: first(x) + operator.attrgetter("b")(package.sub)
    assert content(whole) is None


def test_attributes_called_as_what_reads_files_are_none_of_that():
    beam = Thing(1.0)
    beam.load = beam.random = 2.0
    assert content(lambda x: jnp.sin(x) * beam.load + beam.random) is not None
    assert content(lambda x: x + jax.random.normal(jax.random.key(0))) is not None


@pytest.mark.parametrize("instead", [None, 1.0])
def test_an_array_may_be_replaced_by_none(instead):
    offset = jnp.ones(3)
    fun = lambda x: x if offset is None else x + offset
    found = content(fun)
    unchanged, gone = found.unchanged, weakref.ref(offset)
    assert unchanged()
    offset = instead
    del found
    assert gone() is None and not unchanged()


def test_builtins_of_the_user_are_globals(monkeypatch):
    fun = lambda x: x * MY_OWN  # pyright: ignore[reportUndefinedVariable]
    keys = [key(fun)]
    for value in (1.0, 2.0):
        last = content(fun).unchanged
        monkeypatch.setattr("builtins.MY_OWN", value, raising=False)
        assert not last()
        keys.append(key(fun))
    assert len(set(keys)) == 3


@pytest.mark.parametrize("library, name, instead", [(np, "pi", 3.0), (jnp, "sin", jnp.cos), (jnp, "mine", 1.0)])
def test_what_the_user_puts_into_a_library_is_seen(library, name, instead, monkeypatch):
    fun = eval(f"lambda x: x * library.{name}", {"library": library})
    before = content(fun)
    assert before.unchanged() and key(fun) == before.key
    monkeypatch.setattr(library, name, instead, raising=False)
    assert not before.unchanged() and key(fun) != before.key


def test_a_variable_may_lose_its_value():
    factor = 1.0
    fun = lambda x: x * factor
    unchanged = content(fun).unchanged
    assert unchanged()
    del factor
    assert not unchanged() and content(fun) is None


def test_an_entry_of_a_structured_array_is_a_view():
    table = np.zeros(2, [("rate", float)])
    fun = with_cell(table[1])
    before = content(fun)
    assert before.unchanged is None and key(fun) == before.key
    table["rate"][1] = 2.0
    assert key(fun) != before.key


@pytest.mark.parametrize("make", [jax.jit, functools.partial])
def test_attributes_that_the_user_gave_are_read_too(make):
    called = make(scaled)
    called.rate = 1.0
    before = content(with_cell(called))
    assert before.unchanged is None
    called.rate = 2.0
    assert key(with_cell(called)) != before.key


def test_functions_are_also_known_by_their_names():
    def other(x):
        return x

    before = key(with_cell(other))
    other.__name__ = "another"
    assert key(with_cell(other)) != before


class Entries(dict):
    """The usual dict with attributes; one that is missing raises a KeyError."""

    __getattr__ = dict.__getitem__


class MoreEntries(defaultdict):
    __getattr__ = defaultdict.__getitem__


class Forwarding:
    def __init__(self, **entries):
        object.__setattr__(self, "_entries", entries)

    def __getattr__(self, name):
        return self._entries[name]


def test_an_object_is_not_asked_for_attributes():
    made, forwarding = MoreEntries(float), Forwarding(a=1.0)
    assert content(with_cell(Entries(a=1.0))) is content(with_cell(made)) is None and not made
    before = key(with_cell(forwarding))
    forwarding._entries["a"] = 2.0
    assert key(with_cell(forwarding)) != before


class Slow:
    """An object that holds more than its attributes: what a generator will give next."""

    def __init__(self):
        self.next = iter([1, 2])

    def method(self, x):
        return x * next(self.next)


class Listed(list):
    pass


class Slotted:
    __slots__ = ("a",)


Point = namedtuple("Point", "a")


def recursive(x, n):
    return x if n == 0 else recursive(x + 1, n - 1)


def importing(x):
    from math import pi

    return x * pi


def storing(x):
    global SCALE
    SCALE = x
    return x


UNKNOWN = {
    "an object": with_cell(Slow()),
    "a method": Slow().method,
    "an object of a class with slots": with_cell(Slotted()),
    "a kind of list": with_cell(Listed()),
    "an object written in C": with_cell(itertools.count()),
    "very many numbers": with_cell(list(range(5000))),
    "a named tuple": with_cell(Point(1)),
    "a large array": with_cell(np.zeros(10_000)),
    "an array of objects": with_cell(np.array([Slow()])),
    "a masked array": with_cell(np.ma.masked_array([1.0], [True])),
    "random numbers": lambda x: x + np.random.rand(),
    "random numbers, by their module": lambda x: x + numbers.rand(),
    "random numbers, by a variable": with_default(np.random),
    "random numbers, by NumPy as a variable": with_default(np),
    "random numbers of Python": lambda x: x + random.random(),
    "a file": lambda x: x + np.load("rates.npy"),
    "a file, by JAX": lambda x: x + jax.numpy.load("rates.npy"),
    "a file, by a function": with_cell(np.loadtxt),
    "a file, by a class": with_cell(np.memmap),
    "the time": lambda x: x + time.time(),
    "globals of another function": lambda x: x * with_cell.__globals__["SCALE"],
    "classes below a class": lambda x: x * len(Above.__subclasses__()),
    "a text of a function": lambda x: x * len(with_cell.__doc__),
    "getattr": lambda x: getattr(x, "T"),  # noqa: B009
    "a generator": with_cell(iter([1, 2])),
    "an import": importing,
    "a global that is stored": storing,
    "a cached function": with_cell(functools.lru_cache(lambda x: x)),
    "an object inside": with_cell([{"a": (1, Slow())}]),
    "a callable object": functools.partial(Slow().method),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_may_change_unseen_has_no_key(name):
    assert content(UNKNOWN[name]) is None


class Above:
    rate = 1.0

    def helped(self, x):
        return x * self.rate


class Thing(Above):
    def __init__(self, level):
        self.level, self.inner = level, {"a": [np.zeros(2)]}

    def method(self, x):
        return super().helped(x) * self.level + self.twice

    def __call__(self, x):
        return self.scaled(x)

    @property
    def twice(self):
        return 2 * self.level

    @property
    def shifted(self):
        return SHIFT + self.level

    @staticmethod
    def scaled(x):
        return SCALE * x


@dataclasses.dataclass(frozen=True)
class Data:
    level: float

    def method(self, x):
        return x * self.level


def edited_attribute(thing, monkeypatch):
    thing.level = 2.0


def edited_array(thing, monkeypatch):
    thing.inner["a"][0][1] = 3.0


def another_attribute(thing, monkeypatch):
    thing.rate = 5.0


def attribute_of_the_class_above(thing, monkeypatch):
    monkeypatch.setattr(Above, "rate", 2.0)


def another_method(thing, monkeypatch):
    monkeypatch.setattr(Above, "helped", lambda self, x: x)


def another_property(thing, monkeypatch):
    monkeypatch.setattr(Thing, "twice", property(lambda self: 3 * self.level))


def what_a_static_method_reads(thing, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 7.0)


def what_another_property_reads(thing, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SHIFT", 7.0)


@pytest.mark.parametrize("edit", [
    edited_attribute, edited_array, another_attribute, attribute_of_the_class_above, another_method, another_property,
    what_a_static_method_reads, what_another_property_reads,
])  # fmt: skip
def test_objects_are_known_by_their_attributes_and_by_all_of_their_class(edit, monkeypatch):
    thing = Thing(1.0)
    for fun in (lambda: thing.method, lambda: thing, lambda: with_cell(thing), lambda: functools.partial(thing, 1)):
        before = key(fun())
        assert before == key(fun()) and content(fun()).unchanged is None
    before, other = key(thing.method), key(Thing(1.0).method)
    assert before == other
    edit(thing, monkeypatch)
    assert key(thing.method) != before


def test_objects_of_other_classes_are_others():
    assert key(Data(1.0).method) == key(Data(1.0).method) != key(Data(2.0).method)
    assert key(with_cell(Data(1.0))) != key(with_cell(Thing(1.0)))
    assert key(with_cell(Thing)) == key(with_cell(Thing)) != key(with_cell(Above))
    assert key(with_cell(len)) != key(with_cell(max))


def test_a_function_that_calls_itself_has_a_key():
    assert key(recursive) == key(recursive)

    def loop(x, n):
        return x if n == 0 else loop(x + 1, n - 1)

    assert key(loop) == key(loop)


def test_functions_of_jax_are_known_by_what_they_wrap():
    assert key(jax.vmap(with_cell(1))) == key(jax.vmap(with_cell(1))) != key(jax.vmap(with_cell(2)))
    assert key(jax.grad(scaled)) == key(jax.grad(scaled)) != key(jax.value_and_grad(scaled))
    jitted = jax.jit(scaled)
    assert key(jitted) == key(jitted) != key(jax.jit(scaled))


def test_a_key_keeps_no_array_alive():
    array = jnp.ones(5)
    found = content(with_cell(array))
    assert found is not None and found.arrays == {id(array): array}
    other = key(with_cell(jnp.ones(5)))
    one, gone = found.key, weakref.ref(array)
    assert one == key(with_cell(array)) != other
    del found, array
    assert gone() is None and one != other and isinstance(hash(one), int)


def test_a_tracer_has_no_key():
    seen = []

    @jax.jit
    def outer(y):
        seen.append(content(with_cell(y)))
        return y

    outer(1.0)
    assert seen == [None]


def test_modules_are_not_imported_to_be_looked_into():
    module = types.ModuleType("never_imported")
    module.__dict__["__getattr__"] = lambda name: 1
    assert content(eval("lambda x: m.y * x", {"m": module})) is None
    assert importlib.util.find_spec("never_imported") is None
