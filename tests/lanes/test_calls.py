"""A user's function is called as it was written, and what in its arguments is no number is its own."""

import enum
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes.calls import Hint, call, split
from jaxopt_lite.lanes.content import content


class Scheme(enum.Enum):
    UPWIND = 1
    CENTRAL = 2


class Doubler:
    def once(self, x):
        return 2 * x

    def both(self, x, args):
        return 2 * x if args is None else args


@pytest.mark.parametrize(
    "fun", [lambda x: 2 * x, jax.jit(lambda x: 2 * x), Doubler().once, Doubler().both, lambda x, args=None: 2 * x,
            lambda *all_of_it: 2 * all_of_it[0], lambda x, k=2: k * x,
            functools.partial(lambda a, x: a * x, 2), np.positive, np.double],
)  # fmt: skip
@pytest.mark.parametrize("args", [None, ()])
def test_without_args_a_function_of_x_alone_will_do(fun, args):
    if fun in (np.positive, np.double) or (args == () and "both" in repr(fun)):
        return  # of C, whose arguments are not known; and one that returns its args
    assert call(fun, 3, args) == 6


@pytest.mark.parametrize("fun", [lambda x: x, lambda x, a, b: x, lambda: 1, lambda x, *, a: x])
def test_what_cannot_be_called_so_is_told_how_it_is_called(fun):
    with pytest.raises(TypeError, match=r"as fun\(x, args\), but <lambda> takes \(.*lambda x, args: f\(x, \*args\)"):
        call(fun, 1.0, 2.0)


def test_a_hint_is_given_where_it_would_help():
    hint = Hint(jax.ShapeDtypeStruct((3,), float), "Pass batched=False.")
    x = jnp.asarray(1.0)
    with pytest.raises(
        IndexError, match=r"^fun\(x, args\) failed for one problem: .*0-dim.*\. Pass batched=False\."
    ) as error:
        call(lambda x, args: x[1] * 2, x, None, hint=hint)
    assert isinstance(error.value.__cause__, IndexError)
    with pytest.raises(IndexError, match="^Too many"):  # which a vector would not help either
        call(lambda x, args: x[1, 2], x, None, hint=hint)
    with pytest.raises(KeyError, match="^'missing'$"):
        call(lambda x, args: {}["missing"], x, None, hint=hint)


def test_what_is_no_number_goes_into_the_function():
    args = {"level": np.ones(2), "name": "upwind", "more": (jnp.tanh, 3, True, Scheme.CENTRAL, np.True_, None, float)}
    seen = []
    fun, numbers = split(lambda x, args: seen.append(args), args)
    assert jax.tree.leaves(numbers)[1:] == [3, True] and numbers["name"] is None
    fun(0.0, jax.tree.map(lambda leaf: leaf + 1, numbers))
    (got,) = seen
    assert np.array_equal(got["level"], [2, 2]) and got["name"] == "upwind"
    assert got["more"][:4] == (jnp.tanh, 4, True, Scheme.CENTRAL) and got["more"][2] is True
    same = lambda x, args: x
    assert split(same, {"a": 1.0, "b": np.ones(2), "c": jax.ShapeDtypeStruct((), int)})[0] is same


def test_other_names_are_other_functions():
    def named(name):
        return content(split(scaled, {"a": np.ones(2), "name": name})[0]).key

    assert named("up") == named("up") != named("down")


def scaled(x, args):
    return x * args["a"] if args["name"] == "up" else x
