"""Geometries on disk: as they were, or refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxopt_lite.specialists import Geometry
from tests.specialists.spaces import plane

BASE = plane(3)
GEOMETRY = Geometry(
    jnp.arange(3.0), jnp.arange(9.0).reshape(3, 3), jnp.float32(jnp.inf), jnp.float32(2), BASE.fingerprint
)


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
    with pytest.raises(ValueError, match="not of 'other'"):
        Geometry.load(path, plane(3, "other"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match="damaged"):
        Geometry.load(path, BASE)
    save_file({"center": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="no geometry"):
        Geometry.load(path, BASE)
    Geometry(jnp.zeros(3), jnp.zeros((2, 2)), jnp.zeros(()), jnp.ones(()), BASE.fingerprint).save(path)
    with pytest.raises(ValueError, match="shapes"):
        Geometry.load(path, BASE)
    with pytest.raises(FileNotFoundError):
        Geometry.load(tmp_path / "nowhere", BASE)
