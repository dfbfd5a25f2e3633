"""Arrow: the direction in which a specialist's LoRA changes its layer's inputs most. Nothing is learned or counted.

Ostapenko et al., Towards modular LLMs by building and reusing a library of LoRAs, arXiv 2405.11157, section 4.2: the
score is the size of vᵀ h, for the inputs h of the layer and the direction v in which h ΔW is longest, |v| = 1.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxopt_lite.lanes.arithmetic import at_least_float32
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.routing import Router

__all__ = ["Arrow"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Arrow(Router):
    """Scores are the sizes of vᵀ h, for the inputs h `[B, m]` of the layer that a LoRA changes: its features.

    The method was designed to route each token at each layer, in networks with many layers. Once per input, at one
    layer, it is weak; compare it with `LDA` by `evaluate` before relying on it. Its novelty measures the length of
    h, not how unfamiliar it is.
    """

    @classmethod
    def of(cls, library: Library, leaf: str | None = None) -> "Arrow":
        """For the specialists of a library; the threshold is ∞ until `calibrated` sets one.

        Args:
            library: specialists with a LoRA on a matrix W `[m, n]`, used as `h @ W`.
            leaf: the name of that matrix, if LoRA changes several.

        Raises:
            ValueError: no LoRA on a matrix; several, and no `leaf`.
        """
        down, up = _factors(library, leaf)
        v = _directions(down, up)
        one = jnp.ones((), v.dtype)
        return cls(v, jnp.zeros_like(v[:, 0]), jnp.inf * one, one)

    def match(self, query, weight):
        return jnp.abs(super().match(query, weight))


def _factors(library: Library, leaf: str | None):
    """The factors of the changes of one matrix, stacked."""
    found = {}
    for part, name, matrix in library.adapter.matches(library.base.params):
        factors = part.factors(*(library.parameters[f"{key}:{name}"] for key in part.keys))
        if factors is not None and jnp.ndim(matrix) == 2:
            found[name] = factors
    if leaf is not None and leaf in found:
        return found[leaf]
    if len(found) != 1 or leaf is not None:
        raise ValueError(
            f"Arrow needs a LoRA on one matrix, and those of this library are: {', '.join(found) or 'none'}. Its "
            f"parameters are {', '.join(library.parameters)}. Give one of the matrices as `leaf`, or take another "
            "router."
        )
    return next(iter(found.values()))


@jax.jit
@jax.vmap
def _directions(down, up):
    """The first left singular vector of `down @ up`; zero where the product is."""
    wide = at_least_float32(down.dtype)
    down, up = down.astype(wide), up.astype(wide)
    basis, r = jnp.linalg.qr(down)
    vectors, lengths, _ = jnp.linalg.svd(r @ up, full_matrices=False)
    return jnp.where(lengths[0] > 0, basis @ vectors[:, 0], 0)
