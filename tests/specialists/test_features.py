"""The features of all inputs, task by task; what is no input is refused by name."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import Base, Softmax, Task, calibrate
from jaxopt_lite.specialists import features as features_module
from jaxopt_lite.specialists.features import features_of
from tests.specialists.spaces import library_at, plane

pytestmark = pytest.mark.hardly_optimized

BASE = plane(2)
X = np.arange(10, dtype=np.float32).reshape(5, 2)


def test_one_task_after_the_other(monkeypatch):
    monkeypatch.setattr(features_module, "_BATCH", 3)
    tasks = {"a": (X,), "none": (X[:0], X[:0]), "b": Task(X + 10, None, [1, 0, 2, 0, 0.5]), "c": (X, X, X[:, 0] > 3)}
    features, index = features_of(BASE, tasks)
    assert index.tolist() == [0] * 5 + [2] * 3 + [3] * 3
    assert np.array_equal(features, np.concatenate([X, (X + 10)[[0, 2, 4]], X[2:]]))


@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        (X, TypeError, "task 'a' is ndarray; expected Task"),
        ([X, X], TypeError, "task 'a' is list"),
        ((), ValueError, "task 'a' has no inputs"),
        (({},), ValueError, "task 'a' has no inputs"),
        ((iter(X),), TypeError, "task 'a' holds a generator"),
        ((X.astype(str),), TypeError, "task 'a' holds str.*; expected arrays of numbers"),
        ((X, X, [1, 1]), ValueError, "weight of task 'a': expected 5 numbers"),
        ((X, X, [1, 1, 1, 1, -1]), ValueError, "weight of task 'a': expected 5 numbers that are not negative"),
        ((X, X, [1, 1, 1, 1, np.nan]), ValueError, "weight of task 'a'"),
        ((X, X, ["1"] * 5), TypeError, "weight of task 'a' is of str"),
        (([X, X[:3]],), ValueError, "task 'a' have leading axes .* A list counts as a pytree"),
        ((np.float32(1),), ValueError, "task 'a' have leading axes"),
        ((X * np.nan,), ValueError, "the features of 5 inputs, the first of task 'a', hold NaN"),
    ],
)
def test_what_is_no_task(task, error, message):
    for call in (
        lambda: features_of(BASE, {"a": task}),
        lambda: calibrate(BASE, {"a": task}),
        lambda: Softmax.fit(library_at(BASE, np.ones((1, 2))).rename({"t0": "a"}), {"a": task}),
    ):
        with pytest.raises(error, match=message):
            call()


def test_inputs_of_a_pytree_are_as_long_as_each_other():
    """The longer of two would be cut, and the features be those of pairs that nobody gave."""
    base = Base({"w": jnp.ones(1)}, lambda params, x: x["u"], features=lambda params, x: x["u"] + x["v"])
    assert len(features_of(base, {"a": ({"u": X, "v": X},)})[0]) == 5
    with pytest.raises(ValueError, match=r"task 'a' have leading axes \[\(3,\), \(5,\)\]"):
        features_of(base, {"a": ({"u": X[:3], "v": X},)})
