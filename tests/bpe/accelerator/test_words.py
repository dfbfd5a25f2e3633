"""Words that are found and counted on a device are those of the host; the kernel's indices are in bounds."""

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_lite import bounds
from jaxopt_lite.bpe import corpus, readers
from jaxopt_lite.bpe.accelerator import words
from jaxopt_lite.bpe.accelerator.words import find_pieces, piece_starts, runs
from jaxopt_lite.bpe.corpus import count_words
from jaxopt_lite.bpe.cuts import WALL, has_lines, starts
from jaxopt_lite.bpe.patterns import STOCK, Splitter, splitter
from tests.bpe.test_cuts import PATTERNS, TEXTS
from tests.bpe.test_patterns import odd_texts

pytestmark = pytest.mark.hardly_optimized  # all is of whole numbers

SCHEMES = [*STOCK, "whitespace"]
DEVICE = jax.devices("cpu")[0]
cuts_of = jax.jit(piece_starts, static_argnums=(1, 2))


def kind_of(split: Splitter) -> tuple[bool, bool]:
    return split.pattern is None, has_lines(split.pattern)


def joined(texts: list[str]) -> bytes:
    return WALL.join(text.encode("utf-8", "surrogatepass") for text in texts)


def pieces(data: bytes, split: Splitter) -> Counter[bytes]:
    """The pieces of the host."""
    places = starts(data, split.pattern).tolist()
    return Counter(data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True))


def found(data: bytes, split: Splitter) -> Counter[bytes]:
    """The pieces of the device."""
    begins, lengths, counts = find_pieces(data, split.pattern, DEVICE)
    total: Counter[bytes] = Counter()
    for start, length, count in zip(begins.tolist(), lengths.tolist(), counts.tolist(), strict=True):
        total[data[start : start + length]] += count
    return total


@pytest.mark.parametrize("alphabet", TEXTS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_cuts_are_the_hosts(pattern, alphabet):
    split = Splitter("", pattern)
    block = np.full(1 << 16, WALL[0], np.uint8)
    data = joined(list(odd_texts(TEXTS[alphabet], 700, seed=5)))
    block[: len(data)] = np.frombuffer(data, np.uint8)
    assert np.array_equal(np.flatnonzero(cuts_of(block, *kind_of(split))), starts(block.tobytes(), split.pattern))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("text", ["aa'", " a\n", "a\n ", "a  ", "é ", "\n\n\n", "a \n"])
def test_the_cuts_of_a_full_block_are_the_hosts(scheme, text):
    """A block ends as one with a wall behind it."""
    data, split = text.encode(), splitter(scheme)
    expected = starts(data + WALL, split.pattern)
    begins = cuts_of(np.frombuffer(data, np.uint8), *kind_of(split))
    assert np.array_equal(np.flatnonzero(begins), expected[expected < len(data)])


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=60), st.text("ab's1(/ \n\t\r日\u3000é\0", max_size=60)), max_size=8),
    st.sampled_from(SCHEMES),
)
def test_words_are_those_of_the_host(texts, scheme):
    split = splitter(scheme)
    counts = count_words(texts, split, device=DEVICE)
    assert counts == Counter(word for text in texts for word in split.words(text))
    assert all(type(count) is int for count in counts.values())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["word"], [" "], ["w" * 33, "w" * 33, "w" * 32 + "v"]])
def test_few_words(texts, scheme):
    split = splitter(scheme)
    assert count_words(texts, split, device=DEVICE) == count_words(texts, split)


@pytest.mark.parametrize(
    ("scheme", "errors"),
    [*((scheme, "surrogateescape") for scheme in (*SCHEMES, r"\w+")), ("gpt4", "replace"), ("gpt4", "ignore")],
)
def test_files_in_blocks_and_bytes_that_are_no_text(monkeypatch, tmp_path, scheme, errors):
    """Words go across the borders of blocks; special tokens, NUL, and bytes that are not UTF-8 are among them."""
    monkeypatch.setattr(readers, "BLOCK", 64)
    monkeypatch.setattr(corpus, "NEAR_THE_END", 8)
    monkeypatch.setattr(corpus, "SMALL", 100)
    text = " ".join(odd_texts(TEXTS["odd"], 60, seed=7)).encode()
    file = tmp_path / "text"
    file.write_bytes(text + b"<|end|>caf\xe9 caf\xe9 one two one two \xff\xff \0 " + text)
    count = partial(count_words, file, splitter(scheme), special_tokens=("<|end|>",), errors=errors)
    assert count(device=DEVICE) == count(processes=1)


def test_bytes_that_are_no_text_raise_as_on_the_host(tmp_path):
    (tmp_path / "text").write_bytes(b"caf\xe9 ")
    with pytest.raises(ValueError, match="byte 3 is 'e9'"):
        count_words(tmp_path / "text", splitter(), device=DEVICE)


@pytest.fixture
def fresh():
    """Programs are recompiled, before and after."""
    clear = runs.clear_cache  # pyright: ignore[reportAttributeAccessIssue]
    clear()
    yield
    clear()


def test_pieces_that_share_a_hash_are_told_apart(monkeypatch, fresh):
    """With one hash for all, a piece has many runs, and the same count."""
    monkeypatch.setattr(words, "_hash", lambda words, start, length: jnp.full_like(length, 7, jnp.uint32))
    data, split = b"one two one two, one (two) " * 20, splitter()
    counts = find_pieces(data, split.pattern, DEVICE)[2]
    assert counts.size > 20 * len(pieces(data, split)) / 2
    assert found(data, split) == pieces(data, split)


def test_pieces_with_one_hash_in_a_row_are_one_run():
    data, split = b"one two one two, one (two) " * 20, splitter()
    assert find_pieces(data, split.pattern, DEVICE)[2].size == len(pieces(data, split))


@pytest.mark.parametrize("length", [1, 4, 31, 32, 33])
def test_pieces_that_differ_in_the_last_byte(length):
    """Whatever their length: within what is compared on the device, and beyond."""
    strings = ["x" * (length - 1) + last for last in "abca"]
    data = " ".join(strings).encode()
    assert found(data, splitter("whitespace")) == Counter(string.encode() for string in strings) + Counter({b" ": 3})


def test_zero_bytes_are_compared_like_others():
    """The masked bytes of a short piece are zeros too; lengths tell them apart."""
    data = b"a a\0 a\0\0 a"
    assert found(data, splitter("whitespace")) == {b"a": 2, b"a\0": 1, b"a\0\0": 1, b" ": 3}


def test_more_pieces_than_there_is_room_for_are_counted_on_the_host():
    data = b"1a" * 1500  # every byte is a piece
    assert len(find_pieces(data, splitter().pattern, DEVICE)) == 1
    assert count_words([data.decode()], splitter(), device=DEVICE) == {"1": 1500, "a": 1500}


def test_blocks_that_are_too_large_are_counted_on_the_host(monkeypatch):
    monkeypatch.setattr(words, "_LARGEST", 10)
    assert len(find_pieces(b"to be or not", splitter().pattern, DEVICE)) == 1
    assert count_words(["to be or not to be"], splitter(), device=DEVICE)[" be"] == 2


def test_sizes_are_few():
    sizes = np.array([1, 4095, 4096, 4097, 65_000, 1 << 20, (1 << 20) + 1, 5 << 20])
    rooms = np.array([words._room(int(size)) for size in sizes])
    assert (rooms >= sizes).all() and (rooms <= np.maximum(sizes * 1.25, 4096) + 4096).all()
    assert len({words._room(size) for size in range(1 << 20, 1 << 21, 1000)}) == 5


@pytest.mark.parametrize("processes", [0, 2])
def test_a_device_has_one_process(processes):
    with pytest.raises(ValueError, match="processes"):
        count_words(["a"], splitter(), device=DEVICE, processes=processes)


def test_what_is_no_device_is_refused():
    with pytest.raises(TypeError, match=r"device='cpu' \(str\): expected a jax.Device"):
        count_words(["a"], splitter(), device="cpu")


def test_32_bit_mode_changes_nothing():
    """The other tests run in 64-bit mode."""
    data, split = b"one two one two, one (two) " * 20, splitter()
    with jax.enable_x64(False):
        assert found(data, split) == pieces(data, split)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_index_is_proved_to_be_in_range(scheme):
    is_whitespace, lines = kind_of(splitter(scheme))
    kernel = partial(runs, is_whitespace=is_whitespace, lines=lines)
    block, size = jax.ShapeDtypeStruct((4096,), jnp.uint8), jax.ShapeDtypeStruct((), jnp.int32)
    unproved = bounds.find_unchecked(kernel, block, size)
    assert unproved == [], "\n".join(map(str, unproved))


def test_no_index_is_out_of_range_in_a_run():
    """Of a full block, also where there are more pieces than places for them."""
    checked = bounds.checked(partial(runs, is_whitespace=False, lines=True))
    for data in (b"1a" * 32, b"to be or not to be, " * 3 + b"abcd"):
        answer = checked(jnp.array(list(data), jnp.uint8), jnp.int32(len(data)))
        assert int(answer.pieces) == starts(data, splitter().pattern).size
        assert int(answer.number) <= answer.found.shape[1] == 32


def test_the_one_sort_is_of_a_kind_that_is_quick_on_a_gpu():
    """By one unsigned key, with one array beside it."""
    specs = jax.ShapeDtypeStruct((64,), jnp.uint8), jax.ShapeDtypeStruct((), jnp.int32)
    text = runs.lower(*specs, False, True).as_text()
    _, sort = text.split('"stablehlo.sort"')
    compared, types = sort.split("stablehlo.return")[:2]
    assert "(tensor<32xui32>, tensor<32xi32>) ->" in types
    assert compared.count("stablehlo.") == 1 and "LT, %arg2, %arg3, UNSIGNED" in compared
