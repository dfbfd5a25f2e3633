"""Files of arrays: equal contents are equal bytes, and every program that knows safetensors reads them."""

import json
import re
import time

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load

from jaxopt_lite.specialists import tensor_files
from jaxopt_lite.specialists.tensor_files import encode, read

TENSORS = {"a": np.arange(3, dtype=np.float32), "b/c": np.ones((2, 0)), "d": np.array(True)}
METADATA = {"z": "1", "y": 'ü "text"', "x": "\0\n", "w": "", "base": "b"}


def test_equal_contents_are_equal_bytes():
    """Without help safetensors writes metadata in another order each time."""
    data = encode("kind", TENSORS, METADATA)
    for _ in range(5):
        again = encode("kind", dict(reversed(TENSORS.items())), dict(reversed(METADATA.items())))
        assert again == data


def test_it_is_a_safetensors_file(tmp_path):
    data = encode("kind", TENSORS, METADATA)
    (tmp_path / "x").write_bytes(data)
    tensors, metadata = read(tmp_path / "x", "kind", {"1": METADATA})
    assert metadata == METADATA | {"format": "kind", "version": "1"}
    for read_back in (tensors, load(data)):
        assert read_back.keys() == TENSORS.keys()
        for name, array in TENSORS.items():
            assert read_back[name].dtype == array.dtype and np.array_equal(read_back[name], array)
    assert int.from_bytes(data[:8], "little") % 8 == 0  # so that the arrays are aligned


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        (TENSORS | {"a": np.arange(3, dtype=np.float64)}, METADATA),
        (TENSORS | {"a": np.arange(3, dtype=np.float32)[:, None]}, METADATA),
        ({"b": TENSORS["a"], "b/c": TENSORS["b/c"], "d": TENSORS["d"]}, METADATA),
        (TENSORS, METADATA | {"z": "2"}),
        (TENSORS, METADATA | {"z": METADATA["y"], "y": METADATA["z"]}),
    ],
)
def test_the_checksum_is_of_everything(tensors, metadata):
    checksums = [
        re.search(rb'"checksum":"([0-9a-f]{64})"', encode("kind", *each))[1]
        for each in ((tensors, metadata), (TENSORS, METADATA))
    ]
    assert checksums[0] != checksums[1]


GOOD = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}
BODY = bytes(12)
DEEP = b'{"a":' * 100_000
DESCRIPTIONS = {
    "no dtype": {"shape": [3], "data_offsets": [0, 12]},
    "something more": GOOD | {"more": 1},
    "a list": [1],
    "a text": "F32",
    "nothing": None,
    "a size that is a truth value": GOOD | {"shape": [True, 3]},
    "a size with a fraction": GOOD | {"shape": [3.0]},
    "a negative size": GOOD | {"shape": [-3]},
    "a text for sizes": GOOD | {"shape": "3"},
    "a number for sizes": GOOD | {"shape": 3},
    "a size beyond all": GOOD | {"shape": [2**63]},
    "sizes whose product is beyond all": GOOD | {"shape": [2**62] * 64},
    "too many axes": GOOD | {"shape": [1] * 65},
    "as many sizes as there is room for": GOOD | {"shape": [10**18] * 100_000},
    "another size": GOOD | {"shape": [4]},
    "a hole before it": GOOD | {"data_offsets": [4, 12], "shape": [2]},
    "something behind it": GOOD | {"data_offsets": [0, 8], "shape": [2]},
    "more than there is": GOOD | {"data_offsets": [0, 16], "shape": [4]},
    "the wrong way round": GOOD | {"data_offsets": [12, 0]},
    "a place too many": GOOD | {"data_offsets": [0, 12, 12]},
    "a place missing": GOOD | {"data_offsets": [12]},
    "a text for places": GOOD | {"data_offsets": "ab"},
}


def file_of(tmp_path, header, body=BODY):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + body)
    return tmp_path / "x"


def metadata(**more):
    return {"format": "kind", "version": "1", "checksum": "0" * 64} | more


@pytest.mark.parametrize("entry", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_what_describes_no_array(tmp_path, entry):
    path, start = file_of(tmp_path, {"__metadata__": metadata(), "a": entry}), time.perf_counter()
    with pytest.raises(ValueError, match="not a safetensors file, or cut short"):
        read(path, "kind", {"1": ()})
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (GOOD | {"dtype": "F4"}, "dtype that NumPy does not have"), (GOOD | {"dtype": ["F32"]}, "dtype that NumPy"),
        (GOOD | {"dtype": None}, "dtype that NumPy"), (GOOD | {"dtype": "F8_E4M3", "shape": [12]}, "dtype that NumPy"),
        (GOOD | {"shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}, "shape that NumPy does not have"),
    ],
)  # fmt: skip
def test_what_numpy_has_not(tmp_path, entry, message):
    header = {"__metadata__": metadata(), "a": entry} | ({"b": GOOD} if entry["data_offsets"] == [0, 0] else {})
    with pytest.raises(ValueError, match=message):
        read(file_of(tmp_path, header), "kind", {"1": ()})


@pytest.mark.parametrize(
    "header",
    [
        b"", b"null", b"[]", b"1", b'"a"', b"{", DEEP, b"[" * 200_000, b"\xff{}", b'{"a":NaN}', b'{"a":1,"a":1}',
        b'{"__metadata__":1}', b'{"__metadata__":{"a":1}}', b'{"__metadata__":{"a":null}}', b'{"__metadata__":[]}',
        b'{"__metadata__":{"a":"\\ud800"}}', b'{"\\ud800":{}}', b'{"__metadata__":{"a":"1","a":"2"}}',
        b'{"a":' + b"9" * 5000 + b"}",
    ],
    ids=lambda header: header[:24],
)  # fmt: skip
def test_what_is_no_header(tmp_path, header):
    path = file_of(tmp_path, header)
    with pytest.raises(ValueError, match="not a safetensors file, or cut short|not a file of the format|lacks"):
        read(path, "kind", {"1": ()})


@pytest.mark.parametrize("length", [0, 1, 7, 8, 21, 2**31, 2**63, 2**64 - 1])
def test_a_header_of_another_length(tmp_path, length):
    path = tmp_path / "x"
    path.write_bytes(length.to_bytes(8, "little") + b'{"__metadata__":{}}'[:12])
    with pytest.raises(ValueError, match="not a safetensors file, or cut short"):
        read(path, "kind", {"1": ()})


def test_arrays_without_entries_and_scalars_come_in_any_order(tmp_path):
    tensors = {
        "z": np.ones((0, 3)),
        "a": np.array(2.0),
        "m": np.ones((2, 0, 4), np.int8),
        "b": np.ones(3),
    }
    (tmp_path / "x").write_bytes(encode("kind", tensors, {}))
    found, _ = read(tmp_path / "x", "kind", {"1": ()})
    assert {name: array.shape for name, array in found.items()} == {
        name: array.shape for name, array in tensors.items()
    }
    assert not found["b"].flags.writeable


@pytest.mark.parametrize("dtype", sorted(tensor_files._CODES))
def test_every_dtype_is_read_as_it_was_written(tmp_path, dtype):
    array = jnp.arange(6).reshape(2, 3).astype(dtype) if dtype != "bool" else np.array([[True, False, True]])
    (tmp_path / "x").write_bytes(encode("kind", {"a": np.asarray(array, dtype)}, {}))
    found = read(tmp_path / "x", "kind", {"1": ()})[0]["a"]
    assert found.dtype == np.dtype(dtype) and np.array_equal(found, np.asarray(array))


@pytest.mark.parametrize("name", ["__metadata__"])
def test_a_name_that_safetensors_needs(name):
    """It would be written, and could never be read."""
    with pytest.raises(ValueError, match="an array is called '__metadata__', a name that safetensors needs"):
        encode("kind", {name: np.ones(2)}, {})
