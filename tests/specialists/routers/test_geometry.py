"""Geometries on disk: as they were, or refused."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import Geometry, save_base
from jaxopt_lite.specialists.tensor_files import encode
from tests.specialists.spaces import plane

BASE = plane(3)
GEOMETRY = Geometry(
    jnp.arange(3.0), jnp.arange(9.0).reshape(3, 3), jnp.float32(jnp.inf), jnp.float32(2), BASE.fingerprint
)
ARRAYS = ("center", "whiten", "threshold", "temperature")


def test_it_comes_back_as_it_was(tmp_path):
    path = tmp_path / "geometry.safetensors"
    path.write_bytes(b"older")
    GEOMETRY.save(path)
    again = Geometry.load(path, BASE)
    for name, value in vars(GEOMETRY).items():
        assert np.array_equal(getattr(again, name), value)
        assert name == "fingerprint" or getattr(again, name).dtype == value.dtype
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_failed_save_leaves_what_was_there(tmp_path):
    path = tmp_path / "geometry.safetensors"
    path.mkdir()
    with pytest.raises(OSError):
        GEOMETRY.save(path)
    assert list(tmp_path.iterdir()) == [path]


def test_others_are_refused(tmp_path):
    path = tmp_path / "geometry.safetensors"
    GEOMETRY.save(path)
    with pytest.raises(ValueError, match="geometry.safetensors: .*not of 'other'"):
        Geometry.load(path, plane(3, "other"))
    save_base(BASE, path)
    with pytest.raises(ValueError, match="geometry.safetensors: not a file of the format 'jaxopt_lite geometry'"):
        Geometry.load(path, BASE)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        Geometry.load(tmp_path / "nowhere", BASE)


def test_damage_is_found(tmp_path):
    """A file cut short, and one number changed."""
    path = tmp_path / "geometry.safetensors"
    GEOMETRY.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match="cut short"):
        Geometry.load(path, BASE)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="checksum"):
        Geometry.load(path, BASE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"center": np.array([0, np.nan, 0], np.float32)}, "'center' is empty or holds NaN"),
        ({"whiten": np.full((3, 3), np.inf, np.float32)}, "'whiten' is empty or holds NaN or infinity"),
        ({"whiten": np.zeros((3, 3), np.float32)}, "'whiten' has a row or a column of zeros"),
        ({"whiten": np.diag(np.float32([1, 0, 1]))}, "'whiten' has a row or a column of zeros"),
        ({"whiten": np.ones((2, 2), np.float32)}, r"'whiten' has shape \(2, 2\); expected \(3, 3\)"),
        ({"whiten": np.ones((3, 3), np.int32)}, "'whiten' is int32; expected floating-point"),
        ({"center": np.zeros(0, np.float32), "whiten": np.zeros((0, 0), np.float32)}, "'center' is empty"),
        ({"threshold": np.float32(np.nan)}, "'threshold' is nan"),
        ({"threshold": np.float32(-np.inf)}, "'threshold' is -inf"),
        ({"temperature": np.float32(np.inf)}, "'temperature' is inf"),
        ({"temperature": np.float32(0)}, r"'temperature' is 0.0; expected a positive number"),
        ({"temperature": np.float32(np.nan)}, "'temperature' is nan"),
    ],
)
def test_numbers_that_cannot_route_are_neither_loaded_nor_saved(tmp_path, changes, message):
    path, tensors = tmp_path / "geometry.safetensors", {name: getattr(GEOMETRY, name) for name in ARRAYS}
    tensors = {name: np.asarray(array) for name, array in (tensors | changes).items()}
    path.write_bytes(encode("jaxopt_lite geometry", tensors, {"base": BASE.fingerprint})[1])
    with pytest.raises(ValueError, match=f"geometry.safetensors: {message}.*"):
        Geometry.load(path, BASE)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        replace(GEOMETRY, **{name: jnp.asarray(array) for name, array in changes.items()}).save(path)
    assert path.read_bytes() == before


def test_other_tensors_or_metadata_are_refused(tmp_path):
    path, tensors = tmp_path / "geometry.safetensors", {"center": np.zeros(3, np.float32)}
    path.write_bytes(encode("jaxopt_lite geometry", tensors, {"base": BASE.fingerprint})[1])
    with pytest.raises(ValueError, match=r"lacks the tensors \['temperature', 'threshold', 'whiten'\]"):
        Geometry.load(path, BASE)
    path.write_bytes(encode("jaxopt_lite geometry", tensors, {})[1])
    with pytest.raises(ValueError, match=r"its metadata are .*; expected \['base'"):
        Geometry.load(path, BASE)


def test_it_may_be_read_by_whom_the_folder_lets(tmp_path):
    GEOMETRY.save(tmp_path / "x")
    (tmp_path / "y").write_bytes(b"")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode
