"""In what a loss is reported: per example, or in bits per byte, which models with different tokens share."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, PyTree

from jaxopt_lite.bpe.tokenizer import Tokenizer
from jaxopt_lite.specialists.windows import byte_lengths

__all__ = ["PER_EXAMPLE", "Unit", "bits_per_byte"]


class Unit(NamedTuple):
    """A reported loss is Σ w_i loss_i / Σ amount_i, over the examples of one task or of all.

    Attributes:
        name: as printed.
        amount: `amount(x, weight) -> [N]`, what of it each example has.
    """

    name: str
    amount: Callable[[PyTree, Float[np.ndarray, " N"]], Float[np.ndarray, " N"]]


PER_EXAMPLE = Unit("mean loss", lambda x, weight: weight)


def bits_per_byte(tokenizer: Tokenizer | None = None) -> Unit:
    """Bits per byte of text, for windows of token ids with losses in nats per token, weighted by their tokens.

    Args:
        tokenizer: what made the tokens; without one they are bytes.

    Example:
        >>> import numpy as np
        >>> from jaxopt_lite.specialists import bits_per_byte, windows
        >>> x, _, weight = windows("abcde", length=3)
        >>> nats = np.full(2, np.log(256))  # a token, for each window
        >>> float((weight * nats).sum() / bits_per_byte().amount(x, weight).sum())
        8.0
    """
    lengths = math.log(2) * byte_lengths(tokenizer)
    return Unit("bits per byte", lambda x, weight: lengths[np.asarray(x)].sum(axis=-1))
