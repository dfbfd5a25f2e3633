"""Ragged tasks become few arrays; filling weighs nothing and nothing is lost."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import RegMean
from jaxopt_lite.specialists.tasks import Task, buckets, checked


def task(count, weight=None):
    return Task(np.arange(count, dtype=np.float32)[:, None] + 1, np.arange(count), weight)


@pytest.mark.parametrize("sizes", [[3], [1, 5, 2, 5, 4], list(range(1, 40)) * 3])
def test_every_example_is_in_one_bucket_with_its_weight(sizes):
    tasks = list(checked({str(k): task(size) for k, size in enumerate(sizes)}).values())
    seen = {}
    for bucket in buckets(tasks):
        for place, x, y, weight in zip(bucket.indices, *bucket.task, strict=True):
            real = weight > 0
            assert np.isfinite(x).all() and not weight[~real].any()
            seen[int(place)] = (x[real], y[real], weight[real])
    assert sorted(seen) == list(range(len(sizes)))
    for place, parts in seen.items():
        for ours, given in zip(parts, tasks[place], strict=True):
            np.testing.assert_array_equal(ours, given)


def test_a_bucket_of_their_own_when_it_saves_much_and_only_then():
    few = checked({str(k): task(size) for k, size in enumerate([1000] * 5 + [10] * 50)})
    assert [len(bucket.indices) for bucket in buckets(list(few.values()))] == [55]
    many = checked({str(k): task(size) for k, size in enumerate([10] * 500 + [1000] * 5)})
    assert [(len(b.indices), b.task.weight.shape[1]) for b in buckets(list(many.values()))] == [(5, 1024), (500, 16)]


def test_few_sizes_for_many_tasks():
    """A specialist that is fitted alone, later, seldom has a size of its own to compile for."""
    sizes = set()
    for size in range(1, 4097):
        (bucket,) = buckets(list(checked({"a": task(size)}).values()))
        filled = bucket.task.weight.shape[1]
        assert size <= filled <= max(8, size * 1.15, size + 7)
        sizes.add(filled)
    assert len(sizes) < 60


def test_weights_are_ones_unless_given():
    done = checked({"a": task(3), "b": task(2, [0.5, 2.0])})
    assert done["a"].weight.tolist() == [1, 1, 1] and done["b"].weight.tolist() == [0.5, 2]
    assert done["b"].examples == 2


@pytest.mark.parametrize(
    "tasks, message",
    [
        ({"a": Task(np.ones((0, 2)), np.ones(0))}, r"leaves of task 'a' have leading axes \[\(0,\)\]"),
        ({"a": Task(np.ones((3, 2)), np.ones(2))}, r"leading axes \[\(2,\), \(3,\)\]; expected one"),
        ({"a": Task(np.float32(1.0), np.ones(2))}, "expected one, the number of examples"),
        ({"a": task(3, [1.0, 1.0])}, "weight of task 'a': expected 3 numbers"),
        ({"a": task(2, [1.0, -1.0])}, "not negative and not all zero"),
        ({"a": task(2, [0.0, 0.0])}, "not negative and not all zero"),
        ({"a": task(2, [np.nan, 1.0])}, "not negative and not all zero"),
        ({"a": task(2), "b": Task(np.array([[1.0], [np.nan]], np.float32), np.arange(2))}, "task 'b' holds NaN"),
        ({"a": task(2), "b": Task(np.ones((2, 3), np.float32), np.arange(2))}, "examples of task 'b' have shapes"),
        ({"a": task(2), "b": Task(np.ones((2, 1)), np.arange(2))}, "float64.*those of 'a'.*float32"),
        ({"a": task(2, np.ones((2, 1)))}, "weight of task 'a': expected 2 numbers"),
        ({"a": task(2, 3.0)}, "weight of task 'a': expected 2 numbers"),
        ({"a": task(2, [1.0, np.inf])}, "weight of task 'a': some are too large .* or infinite"),
        ({"a": task(2, [1.0, 1e300])}, "weight of task 'a': some are too large"),
        ({"a": task(2, [3e38, 3e38])}, "weight of task 'a': some are too large"),
        ({"a": task(2, [1.0, 1e-300])}, "weight of task 'a': some are too large or too small"),
        ({"a": task(2, np.zeros(2, bool))}, "not negative and not all zero"),
        ({"a": Task([1.0, 2.0], np.ones(2))}, r"leading axes \[\(\), \(2,\)\].*A list counts as a pytree"),
        ({"a": Task([np.ones(3), np.ones(2)], np.ones(2))}, "A list counts as a pytree"),
        ({"a": Task({}, np.ones(2))}, "task 'a' has no inputs"),
        ({"a": Task(None, np.ones(2))}, "task 'a' has no inputs"),
        ({"a": (np.ones(2),)}, "task 'a' has 1 parts"),
        ({"a": (np.ones(2),) * 4}, "task 'a' has 4 parts"),
        ({"a": Task(np.array([1.0, np.nan], jnp.bfloat16), np.ones(2))}, "task 'a' holds NaN"),
        ({"a": Task(np.array([1.0, np.inf * 1j]), np.ones(2))}, "task 'a' holds NaN"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(tasks, message):
    with pytest.raises(ValueError, match=message):
        checked(tasks)


def test_a_list_of_tasks_has_no_names():
    with pytest.raises(TypeError, match="expected a mapping from names"):
        checked([task(2)])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "tasks",
    [
        {"a": Task(np.array(["x", "y"]), np.ones(2))},
        {"a": Task(np.ones(2), np.array(["x", "y"]))},
        {"a": Task(np.ones(2), np.array([None, 1]))},
        {"a": Task((row for row in np.ones(2)), np.ones(2))},
        {"a": Task(np.ones(2), np.array(["2020", "2021"], "M8[Y]"))},
        {"a": task(2, [1.0, 1j])},
        {"a": task(2, ["1", "2"])},
        {"a": task(2, [None, 1.0])},
    ],
)
def test_examples_and_weights_are_numbers(tasks):
    with pytest.raises(TypeError, match="task 'a'.*expected (arrays of|real) numbers"):
        checked(tasks)


def test_a_mask_of_examples_is_a_weight():
    done = checked({"a": task(3, [True, False, True]), "b": task(2, jnp.array([2, 0]))})
    assert done["a"].weight.tolist() == [1, 0, 1] and done["b"].weight.tolist() == [2, 0]


def test_tasks_that_are_made_when_asked_for_are_made_once():
    """Such as those of a mapping that reads files, or draws at random: what is checked is what is used."""

    class Drawn(Mapping):
        made = 0

        def __getitem__(self, name):
            Drawn.made += 1
            return task(Drawn.made, None)

        def __iter__(self):
            return iter("ab")

        def __len__(self):
            return 2

    assert [one.examples for one in checked(Drawn()).values()] == [1, 2]
    regmean = RegMean(Drawn())
    assert Drawn.made == 4 and repr(regmean) == repr(regmean) and Drawn.made == 4
