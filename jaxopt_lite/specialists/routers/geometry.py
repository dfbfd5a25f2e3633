"""What LDA needs beside the specialists: made once for a base, then frozen, and shared by all who add to it."""

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxopt_lite.specialists.base import Base

__all__ = ["Geometry"]

_FORMAT = "jaxopt-lite geometry 1"
_ARRAYS = ("center", "whiten", "threshold", "temperature")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Geometry:
    """The feature space of a base, from inputs of many tasks; `calibrate` makes one. A pytree of d features.

    Attributes:
        center: the mean features.
        whiten: `(features − center) @ whiten` has within a task about the identity for its covariance.
        threshold: the largest novelty of an input that is not sent to the base, for LDA.
        temperature: of the softmax of LDA's scores.
        fingerprint: of the base.
    """

    center: Float[Array, " d"]
    whiten: Float[Array, "d d"]
    threshold: Float[Array, ""]
    temperature: Float[Array, ""]
    fingerprint: str = field(metadata={"static": True})

    def save(self, path: str | os.PathLike) -> None:
        """Write it as a safetensors file, whole or not at all."""
        path = Path(path)
        arrays = {name: np.asarray(getattr(self, name), order="C") for name in _ARRAYS}
        metadata = {"format": _FORMAT, "base": self.fingerprint}
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            try:
                file.write(save(arrays, metadata))
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise

    @classmethod
    def load(cls, path: str | os.PathLike, base: Base) -> "Geometry":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the geometry of another base; a file that is damaged or is none of a geometry.
        """
        try:
            with safe_open(path, "numpy") as file:
                metadata, arrays = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file, or is damaged: {error}.") from error
        if metadata.get("format") != _FORMAT or set(arrays) != set(_ARRAYS):
            raise ValueError(
                f"{path} is no geometry: its format is {metadata.get('format')!r} and it holds "
                f"{json.dumps(sorted(arrays))}; expected {_FORMAT!r} and {json.dumps(sorted(_ARRAYS))}."
            )
        geometry = cls(**{name: jnp.asarray(array) for name, array in arrays.items()}, fingerprint=metadata["base"])
        _check_shapes(geometry, path)
        geometry.check(base)
        return geometry

    def check(self, base: Base) -> None:
        """Refuse another base.

        Raises:
            ValueError: the geometry of another base.
        """
        if self.fingerprint != base.fingerprint:
            raise ValueError(
                f"this geometry is of the base {self.fingerprint[:12]}…, not of {base.name!r}, {base.fingerprint[:12]}…"
                "; make one by `calibrate(base, tasks)`."
            )


def _check_shapes(geometry: Geometry, path) -> None:
    d = geometry.center.size
    shapes = {name: getattr(geometry, name).shape for name in _ARRAYS}
    if shapes != {"center": (d,), "whiten": (d, d), "threshold": (), "temperature": ()}:
        raise ValueError(f"{path} is no geometry: its arrays have the shapes {shapes}.")
