"""Buffer: agrees with a Python list, counts what does not fit, and never damages what is stored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_lite.bounds import Buffer, BufferOverflowError, checked, find_unchecked

pytestmark = pytest.mark.hardly_optimized

VALUES = st.floats(-100, 100, width=32)


@st.composite
def operations(draw):
    """A push with a condition, or an extend by a mask, by a count or of all."""
    items = draw(st.lists(VALUES, max_size=4))
    kind = draw(st.sampled_from(["push", "mask", "count", "all"]))
    if kind == "push":
        return kind, draw(VALUES), draw(st.booleans())
    if kind == "mask":
        return kind, items, draw(st.lists(st.booleans(), min_size=len(items), max_size=len(items)))
    return kind, items, draw(st.integers(-2, 6))


def array(items):
    return np.asarray(items, np.float32)


# Compiled once for each size.
PUSH = jax.jit(lambda buffer, item, where: buffer.push(item, where=where))
EXTEND = {
    "mask": jax.jit(lambda buffer, items, mask: buffer.extend(items, mask=mask)),
    "count": jax.jit(lambda buffer, items, count: buffer.extend(items, count=count)),
    "all": jax.jit(lambda buffer, items, _: buffer.extend(items)),
}


def apply_to_buffer(buffer, kind, items, how):
    if kind == "push":
        return PUSH(buffer, np.float32(items), how)
    if kind == "mask":
        return EXTEND[kind](buffer, array(items), np.asarray(how, bool))
    return EXTEND[kind](buffer, array(items), how)


def apply_to_list(wanted, kind, items, how):
    if kind == "push":
        return wanted + [items] * how
    if kind == "mask":
        return wanted + [item for item, chosen in zip(items, how, strict=True) if chosen]
    return wanted + (items[: max(how, 0)] if kind == "count" else items)


@pytest.mark.parametrize("examples", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_is_the_start_of_a_list(examples):
    """After any operations it holds the first `capacity` items wanted, in order, and counts the rest."""
    operated = given(capacity=st.sampled_from([1, 3, 5]), steps=st.lists(operations(), max_size=5))
    settings(max_examples=examples, deadline=None, derandomize=True)(operated(holds_the_start_of_a_list))()


def holds_the_start_of_a_list(capacity, steps):
    buffer, wanted = Buffer.empty(capacity, jnp.float32(0)), []
    for step in steps:
        buffer, wanted = apply_to_buffer(buffer, *step), apply_to_list(wanted, *step)
        stored = wanted[:capacity]
        expected = np.asarray(stored + [-1.0] * (capacity - len(stored)), np.float32)
        np.testing.assert_array_equal(buffer.to_array(-1), expected)
        assert int(buffer.size) == len(stored)
        assert int(buffer.overflow) == len(wanted) - len(stored)
        assert bool(buffer.overflowed) == (len(wanted) > capacity)
        np.testing.assert_array_equal(buffer.valid, np.arange(capacity) < len(stored))


def pairs(m, start=0):
    """`m` items of a pytree with two kinds of leaves."""
    numbers = np.arange(start, start + m)
    return {
        "id": numbers.astype(np.int32),
        "row": np.stack([numbers, -numbers], axis=1).astype(np.float32),
    }


def pair_buffer(capacity):
    return Buffer.empty(capacity, jax.tree.map(lambda leaf: leaf[0], pairs(1)))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_pytrees_keep_their_leaves_together():
    """All leaves of an item land in the same slot, with their dtypes."""
    buffer = EXTEND["mask"](pair_buffer(4), pairs(3), np.array([True, False, True]))
    buffer = EXTEND["all"](buffer, pairs(3, start=7), None)
    assert_same(buffer.data["id"], np.array([0, 2, 7, 8], np.int32))
    assert_same(buffer.data["row"], np.array([[0, 0], [2, -2], [7, -7], [8, -8]], np.float32))
    assert (int(buffer.size), int(buffer.overflow), buffer.capacity) == (4, 1, 4)


def test_empty_takes_shapes_or_an_item():
    """Abstract shapes and Python numbers serve as an example."""
    assert Buffer.empty(2, jax.ShapeDtypeStruct((3,), jnp.int8)).data.shape == (2, 3)
    assert Buffer.empty(2, True).data.dtype == bool


def test_to_array_fills_each_leaf():
    """One number fills all leaves; a pytree fills each leaf with its own value."""
    buffer = EXTEND["all"](pair_buffer(2), pairs(1, start=5), None)
    assert buffer.to_array(9)["row"].tolist() == [[5, -5], [9, 9]]
    filled = buffer.to_array({"id": -1, "row": np.array([1.0, 2.0])})
    assert filled["id"].tolist() == [5, -1]
    assert filled["row"].tolist() == [[5, -5], [1, 2]]


def test_the_same_under_jit():
    """Compiled and not, the same buffer."""

    def fill(buffer, items, mask):
        return buffer.extend(items, mask=mask).push(jax.tree.map(lambda leaf: leaf[0], items))

    args = pair_buffer(3), pairs(4), np.array([True, False, True, True])
    assert_same(jax.jit(fill)(*args), fill(*args))


def test_lanes_under_vmap_do_not_mix():
    """Each lane's buffer is the one it would be alone, also where another lane overflows."""
    masks = np.array([[True] * 4, [False] * 4, [False, True, False, True]])
    items = np.arange(12, dtype=np.float32).reshape(3, 4)
    empty = Buffer.empty(3, jnp.float32(0))
    extend = lambda items, mask: empty.extend(items, mask=mask)
    batch, one = jax.jit(jax.vmap(extend))(items, masks), jax.jit(extend)
    assert batch.capacity == 3
    assert batch.overflow.tolist() == [1, 0, 0]
    for lane in range(3):
        alone = one(items[lane], masks[lane])
        assert_same(jax.tree.map(lambda leaf, lane=lane: leaf[lane], batch), alone)
        assert batch.valid[lane].tolist() == alone.valid.tolist()
        assert batch.to_array(-1)[lane].tolist() == alone.to_array(-1).tolist()


def test_scan_carries_it():
    """The types do not change across a step, and the result is that of the loop."""

    def keep_even(buffer, item):
        buffer = buffer.push(item, where=item["id"] % 2 == 0)
        return buffer, buffer.size

    final, sizes = jax.lax.scan(keep_even, pair_buffer(3), pairs(9))
    assert final.data["id"].tolist() == [0, 2, 4]
    assert (int(final.overflow), sizes.tolist()) == (2, [1, 1, 2, 2, 3, 3, 3, 3, 3])


def test_gradients_reach_the_items_stored_and_no_others():
    """The derivative of the slots is 1 for an item that is stored, 0 for one skipped or lost, never NaN."""

    def total(items):
        buffer = Buffer.empty(3, jnp.float32(0)).extend(items, mask=jnp.array([True, False, True, True, True]))
        return jnp.sum(buffer.to_array() * jnp.array([1.0, 10.0, 100.0], jnp.float32))

    value, slope = jax.jit(jax.value_and_grad(total))(array([1.0, np.nan, 3.0, 4.0, np.nan]))
    assert slope.tolist() == [1.0, 0.0, 10.0, 100.0, 0.0]
    assert float(value) == 431.0


def test_what_is_stored_is_never_damaged():
    """A full buffer that is pushed into keeps every bit."""
    full = EXTEND["all"](pair_buffer(2), pairs(2), None)
    again = EXTEND["all"](full, pairs(3, start=50), None)
    again = PUSH(again, jax.tree.map(lambda leaf: leaf[0], pairs(1, start=60)), True)
    assert_same(again.data, full.data)
    assert int(again.overflow) == 4


def test_overflow_does_not_wrap_round():
    """The count of lost items stays at the largest int32 instead of becoming negative."""
    largest = np.iinfo(np.int32).max
    full = Buffer(np.zeros(1), np.int32(1), np.int32(largest - 1))
    assert int(EXTEND["all"](full, np.ones(5), None).overflow) == largest


def test_raises_with_capacity_wanted_and_advice():
    """The error on the host names the buffer, its capacity, how many were wanted and what to try."""
    fine = EXTEND["all"](Buffer.empty(3, jnp.float32(0)), array([0, 0, 0]), None)
    assert fine.raise_if_overflowed() is fine
    message = r"pairs: expected at most capacity=3 items, got 5 \(2 did not fit\); make it with a larger capacity"
    with pytest.raises(BufferOverflowError, match=message):
        EXTEND["all"](fine, array([0, 0]), None).raise_if_overflowed("pairs")


def test_raises_for_a_batch_and_names_the_lane():
    """For a batch of buffers the error says how many overflowed, and which first."""
    counts = np.array([0, 4, 5])
    batch = jax.jit(jax.vmap(lambda n: Buffer.empty(3, 0.0).extend(jnp.zeros(5), count=n)))(counts)
    with pytest.raises(BufferOverflowError, match=r"got 5 .*2 of 3 buffers overflowed, first \[1\]"):
        batch.raise_if_overflowed()


def test_cannot_raise_while_tracing():
    """Inside jit the values are not known; the error says what to do instead."""
    with pytest.raises(TypeError, match="return the buffer from the transformed function"):
        jax.jit(lambda: Buffer.empty(1, 0.0).raise_if_overflowed())()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b: Buffer.empty(0, 0.0), ValueError, "capacity=0: expected a whole number of at least 1"),
        (lambda b: Buffer.empty(True, 0.0), ValueError, "capacity=True: expected a whole number"),
        (lambda b: Buffer.empty(2, jnp.uint8(0)).push(300), ValueError, "item: expected 0 to 255, .* uint8, got 300"),
        (lambda b: b.push(1.0, where=1), ValueError, r"where: expected one bool, got int64\[\]"),
        (
            lambda b: b.extend(jnp.zeros(2), count=jnp.arange(2)),
            ValueError,
            r"count: expected one number, got .*\(2,\)",
        ),
        (lambda b: b.to_array(jnp.zeros(2)), ValueError, r"fill: .* shape of one item, \(\), got \(2,\)"),
        (
            lambda b: Buffer.empty(2, 0).to_array(0.5),
            TypeError,
            "fill: expected a value that int64 can hold, got float64",
        ),
        (lambda b: Buffer.empty(2, {"a": 0.0, "b": 0}).to_array({"c": 1}), ValueError, "fill: .* structure .*'c'"),
        (lambda b: Buffer.empty(2, {"a": 0.0, "b": 0}).to_array([1]), ValueError, "fill: .* structure "),
        (lambda b: b.to_array(None), ValueError, "fill: expected a number or the structure"),
        (lambda b: Buffer.empty(2, jnp.uint8(0)).to_array(300), ValueError, "fill: expected 0 to 255, .* got 300"),
        (lambda b: jax.vmap(b.push)(jnp.zeros(3)).push(1.0), ValueError, r"buffer: expected one, got .*\(3,\)"),
        (lambda b: Buffer.empty(2, jax.random.key(0)), TypeError, "example: expected numbers, got key<fry>"),
        (lambda b: b.extend(jnp.zeros(2), count=1.5), TypeError, "count: expected a whole number, got 1.5"),
        (lambda b: Buffer.empty(2, []), ValueError, "example: expected a pytree with at least one"),
        (
            lambda b: b.extend(jnp.zeros(2), count=1, mask=jnp.ones(2, bool)),
            ValueError,
            "at most one of the two",
        ),
        (lambda b: b.extend(jnp.zeros(2), mask=jnp.ones(3, bool)), ValueError, r"mask: expected bool\[2\]"),
        (lambda b: b.extend(jnp.zeros(2), mask=jnp.ones(2)), ValueError, r"mask: expected bool\[2\]"),
        (lambda b: b.extend(jnp.zeros((2, 3))), TypeError, r"items: expected each of shape \(\), got \(3,\)"),
        (lambda b: b.extend(jnp.zeros(2, jnp.int32)), TypeError, "items: expected dtype float64, got int32"),
        (lambda b: b.extend((jnp.zeros(2),)), TypeError, "items: expected the structure"),
        (lambda b: b.extend(1.0), TypeError, "items: expected one leading axis"),
        (lambda b: b.push([1.0]), TypeError, "items: expected the structure"),
    ],
)
def test_wrong_arguments_raise(call, error, message):
    """A wrong argument raises at once, saying what was expected and what arrived."""
    with pytest.raises(error, match=message):
        call(Buffer.empty(2, jnp.float64(0)))


@pytest.mark.parametrize("count", [2**40, -(2**40), np.uint32(2**32 - 1), jnp.uint32(2**32 - 1), np.int64(2**40)])
def test_a_count_of_any_size_counts(count):
    """One above the number of items is all of them, and one below 0 none, whatever their type."""
    for wide in (True, False):
        with jax.enable_x64(wide):
            extended = jax.jit(lambda: Buffer.empty(4, 0.0).extend(jnp.zeros(3), count=count))()
            assert extended.size == (3 if count > 0 else 0)


def test_python_numbers_take_the_dtype_of_the_slots():
    """A Python number is not a float64 item."""
    assert Buffer.empty(2, jnp.float32(0)).push(1.5).data.dtype == jnp.float32
    assert Buffer.empty(2, jnp.int8(0)).push(3).data.dtype == jnp.int8


def extend(buffer, items, mask):
    return buffer.extend(items, mask=mask)


def push_all(buffer, items, mask):
    return jax.lax.scan(lambda b, pair: (b.push(pair[0], where=pair[1]), None), buffer, (items, mask))[0]


def filled(fill, m, batched):
    """A function that fills a buffer with `m` items, and its arguments."""
    args = EXTEND["all"](pair_buffer(3), pairs(2), None), pairs(m), np.ones(m, bool)
    if batched:
        return jax.vmap(fill), jax.tree.map(lambda leaf: np.stack([leaf, leaf]), args)
    return fill, args


@pytest.mark.parametrize("fill", [extend, push_all])
@pytest.mark.parametrize("batched", [False, True])
def test_every_index_is_proved(fill, batched):
    """No index in it can leave its array, whatever the values."""
    for m in (1, 3, 6):
        run, args = filled(fill, m, batched)
        assert find_unchecked(run, *args) == []


@pytest.mark.parametrize("m", [6, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_every_index_is_checked(m):
    """Nor does one in a run that overflows."""
    cases = [filled(fill, m, batched) for fill in (extend, push_all) for batched in (False, True)]

    def all_of_them(*args):
        return [run(*arguments) for (run, _), arguments in zip(cases, args, strict=True)]

    compiled, args = jax.jit(all_of_them), [args for _, args in cases]
    assert_same(checked(compiled)(*args), compiled(*args))


def test_every_index_of_the_gradient_is_proved():
    """Nor can an index of the derivative."""

    def total(items):
        return jnp.sum(Buffer.empty(3, 0.0).extend(items).to_array())

    assert find_unchecked(jax.grad(total), jnp.zeros(5)) == []
