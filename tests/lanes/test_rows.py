"""Rows of arrays to lanes and back, in turn on the CPU and at once elsewhere: both give the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes import rows

pytestmark = pytest.mark.hardly_optimized


@pytest.mark.parametrize("on_cpu", [True, False])
def test_load_puts_the_lane_axis_last(on_cpu, monkeypatch):
    monkeypatch.setattr(rows, "on_cpu", lambda: on_cpu)
    a = np.arange(24).reshape(4, 3, 2)
    loaded = rows.load({"a": jnp.asarray(a), "s": jnp.arange(4), "none": jnp.zeros((4, 0, 3))}, jnp.array([2, 0]))
    np.testing.assert_array_equal(loaded["a"], np.moveaxis(a[[2, 0]], 0, -1))
    np.testing.assert_array_equal(loaded["s"], [2, 0])
    assert loaded["none"].shape == (0, 3, 2)


@pytest.mark.parametrize("on_cpu", [True, False])
def test_load_leaves_the_other_lanes_alone(on_cpu, monkeypatch):
    monkeypatch.setattr(rows, "on_cpu", lambda: on_cpu)
    a, before = np.arange(24.0).reshape(4, 3, 2), -np.ones((3, 2, 5))
    for where in np.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool):
        loaded = rows.load_some(jnp.asarray(a), jnp.array([3, 2, 1, 0, 2]), jnp.asarray(before), jnp.array(where))
        np.testing.assert_array_equal(loaded, np.where(where, np.moveaxis(a[[3, 2, 1, 0, 2]], 0, -1), before))


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("where", [None, [True, True, False]])
def test_store_is_the_way_back(on_cpu, where, monkeypatch):
    monkeypatch.setattr(rows, "on_cpu", lambda: on_cpu)
    a, slots = np.arange(24).reshape(4, 3, 2), jnp.array([3, 1, 2])  # the last slot is to spare
    lanes = {"a": jnp.asarray(np.moveaxis(a[[2, 0, 0]], 0, -1)) + 100, "s": jnp.array([7, 8, 9])}
    where = where and jnp.array(where)
    stored = jax.jit(rows.store)({"a": jnp.asarray(a), "s": jnp.zeros(4, int)}, slots, lanes, where)
    stored = jax.tree.map(np.asarray, stored)
    expected = a.copy()
    expected[[3, 1]] = a[[2, 0]] + 100
    np.testing.assert_array_equal(stored["a"][[0, 1, 3]], expected[[0, 1, 3]])
    np.testing.assert_array_equal(stored["s"][[0, 1, 3]], [0, 8, 7])
    if where is None or on_cpu:
        assert stored["s"][2] == (9 if where is None else 0)


@pytest.mark.parametrize("count", [rows.count_up_to, rows._count_in_turn, rows._count_at_once])
@pytest.mark.parametrize("chosen", [[False] * 3, [True] * 3, [True, False, True, True, False]])
def test_counts_run_over_the_lanes(count, chosen):
    counts = jax.jit(count)(jnp.array(chosen))
    assert counts.dtype == jnp.int32
    np.testing.assert_array_equal(counts, np.cumsum(chosen))


def test_the_chosen_come_first_and_in_order():
    order, number = rows.chosen(jnp.array([False, True, False, True, True]))
    assert number == 3 and order[:3].tolist() == [1, 3, 4]
    assert np.all((np.asarray(order) >= 0) & (np.asarray(order) < 5))


@pytest.mark.parametrize("size", [1, 4, 13])
def test_only_chosen_rows_are_computed(size):
    """A tile has four lanes: none, one or several tiles are in work, and never one with a row that nobody chose."""
    a = np.linspace(1, 2, 3 * size).reshape(size, 3)

    @jax.jit
    def both(a, shift, which):
        one = lambda x, shift: {"sum": jnp.sum(jnp.exp(x) * shift), "x": x + shift}
        return [rows.in_tiles(one, (True, False), 4, some)(a, shift) for some in (None, rows.chosen(which))]

    for which in (np.zeros(size, bool), np.ones(size, bool), np.arange(size) % 3 == 1, np.arange(size) == size - 1):
        whole, some = both(a, 0.5, which)
        for name, results in some.items():
            expected = np.where(which.reshape(-1, *(1,) * (results.ndim - 1)), whole[name], 0)
            np.testing.assert_array_equal(results, expected)
    with jax.debug_nans(True):
        inverse = rows.in_tiles(lambda x: 1 / x - 1 / x, True, 4, rows.chosen(jnp.arange(size) == 0))
        assert inverse(jnp.ones(size).at[1:].set(0)).tolist() == [0.0] * size
