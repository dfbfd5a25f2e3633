"""What LDA needs beside the specialists: made once for a base, then frozen, and shared by all who add to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_lite.files import write
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.frozen import freeze_fields
from jaxopt_lite.specialists.tensor_files import check_dtypes, check_plain, check_tensors, encode, read

__all__ = ["Geometry"]

_KIND = "jaxopt_lite geometry"
_ARRAYS = ("center", "whiten", "threshold", "temperature")
_AGAIN = "make it again by `calibrate(base, tasks)`"


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

    def __post_init__(self):
        freeze_fields(self)

    def save(self, file: str | Path) -> None:
        """Save it as one safetensors file, with a checksum; what is there is replaced, at once.

        Raises:
            OSError: it cannot be written; what is there stays as it is.
            ValueError: what `load` would refuse.
        """
        tensors = {name: np.asarray(getattr(self, name), order="C") for name in _ARRAYS}
        _check(tensors)
        write(file, encode(_KIND, tensors, {"base": self.fingerprint})[1])

    @classmethod
    def load(cls, file: str | Path, base: Base) -> "Geometry":
        """Read what `save` wrote.

        Args:
            file: the file.
            base: the base it was made for.

        Raises:
            FileNotFoundError: nothing there.
            OSError: it cannot be looked at.
            ValueError: the geometry of another base; a damaged file or something else; a center or a matrix that is
                not finite, a matrix with a row or a column of zeros, a threshold that is NaN or −∞, a temperature that
                is not positive and finite.
        """
        file = Path(file)
        check_plain(file, "`Geometry.save`")
        try:
            tensors, metadata = read(file, _KIND, ("base",))
            _check(tensors)
            arrays = {name: jnp.asarray(tensor) for name, tensor in tensors.items()}
            geometry = cls(**arrays, fingerprint=metadata["base"])
            geometry.check(base)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
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


def _check(tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse numbers with which no input could be routed, or all would be routed alike."""
    d = np.size(tensors.get("center", ()))
    check_tensors(tensors, {"center": (d,), "whiten": (d, d), "threshold": (), "temperature": ()})
    check_dtypes(tensors, floating=True)
    for name in ("center", "whiten"):
        if not d or not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name!r} is empty or holds NaN or infinity; {_AGAIN}.")
    used = tensors["whiten"] != 0
    if not (used.any(axis=0).all() and used.any(axis=1).all()):
        raise ValueError(f"'whiten' has a row or a column of zeros; expected a matrix with an inverse; {_AGAIN}.")
    threshold, temperature = (float(tensors[name]) for name in ("threshold", "temperature"))
    if not threshold > -np.inf:
        raise ValueError(f"'threshold' is {threshold}; expected a number, infinity for no fallback; {_AGAIN}.")
    if not 0 < temperature < np.inf:
        raise ValueError(f"'temperature' is {temperature}; expected a positive number; {_AGAIN}.")
