"""Files of arrays: equal contents are equal bytes, and every program that knows safetensors reads them."""

import numpy as np
import pytest
from safetensors.numpy import load

from jaxopt_lite.specialists import tensor_files
from jaxopt_lite.specialists.tensor_files import encode, read

TENSORS = {"a": np.arange(3, dtype=np.float32), "b/c": np.ones((2, 0)), "d": np.array(True)}
METADATA = {"z": "1", "y": 'ü "text"', "x": "\0\n", "w": "", "base": "b"}


def test_equal_contents_are_equal_bytes():
    """Without help safetensors writes metadata in another order each time."""
    checksum, data = encode("kind", TENSORS, METADATA)
    for _ in range(5):
        again = encode("kind", dict(reversed(TENSORS.items())), dict(reversed(METADATA.items())))
        assert again == (checksum, data)


def test_it_is_a_safetensors_file(tmp_path):
    checksum, data = encode("kind", TENSORS, METADATA)
    (tmp_path / "x").write_bytes(data)
    tensors, metadata = read(tmp_path / "x", "kind", METADATA)
    assert metadata == METADATA | {"format": "kind", "version": tensor_files.VERSION, "checksum": checksum}
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
    assert encode("kind", tensors, metadata)[0] != encode("kind", TENSORS, METADATA)[0]
