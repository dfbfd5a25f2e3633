"""Text as windows of token ids, all of one length, the last of each text filled up."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxopt_lite.bpe.tokenizer import Tokenizer
from jaxopt_lite.specialists.checks import whole

__all__ = ["Windows", "byte_lengths", "encode", "padding", "windows"]

_BYTES = 256


class Windows(NamedTuple):
    """Windows of a text, ready to be a task of `fit`: inputs, what their predictions are compared with, and weights.

    Attributes:
        x: token ids, filled up with the padding.
        y: the same: a language model predicts its own input. Neither can be written to; to mask labels, copy them.
        weight: how many tokens each window has, so that a mean over windows is one over tokens.
    """

    x: Int[np.ndarray, "N length"]
    y: Int[np.ndarray, "N length"]
    weight: Float[np.ndarray, " N"]


def windows(
    texts: str | Iterable[str], tokenizer: Tokenizer | None = None, length: int = 64, stride: int | None = None
) -> Windows:
    """Cut texts into windows. No window holds parts of two texts.

    Args:
        texts: one text, or several.
        tokenizer: what makes tokens of them; without one they are the bytes of the text in UTF-8.
        length: of a window, in tokens.
        stride: from the start of one window to that of the next; by default `length`, so that none overlap.

    Returns:
        The windows, in the order of the texts; of an empty text there are none.

    Raises:
        ValueError: a length or stride below 1; `texts` that hold no text at all.

    Example:
        >>> from jaxopt_lite.specialists import windows
        >>> windows("abcde", length=3).x.tolist()
        [[97, 98, 99], [100, 101, 256]]
    """
    length = whole("length", length, least=1)
    stride = length if stride is None else whole("stride", stride, least=1)
    rows = encode([texts] if isinstance(texts, str) else list(texts), tokenizer)
    pieces = [row[start : start + length] for row in rows for start in _starts(len(row), length, stride)]
    if not pieces:
        raise ValueError("texts hold no text; expected at least one token.")
    x = np.full((len(pieces), length), padding(tokenizer), np.int32)
    for window, piece in zip(x, pieces, strict=True):
        window[: len(piece)] = piece
    x.flags.writeable = False  # one array stands for both
    return Windows(x, x, np.array([len(piece) for piece in pieces], np.float32))


def _starts(size: int, length: int, stride: int) -> range:
    """Where windows start: none lies whole in the one before it."""
    return range(0, max(size - max(length - stride, 0), 1) if size else 0, stride)


def encode(texts: Sequence[str], tokenizer: Tokenizer | None) -> list[np.ndarray]:
    """The ids of each text; of bytes that `surrogateescape` kept, these bytes."""
    if tokenizer is None:
        return [np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8) for text in texts]
    return [np.asarray(ids, np.int32) for ids in tokenizer.encode_batch(texts, special="ignore")]


def padding(tokenizer: Tokenizer | None) -> int:
    """The id that stands for no token: the one behind the last."""
    return _BYTES if tokenizer is None else tokenizer.vocab_size


def byte_lengths(tokenizer: Tokenizer | None) -> Int[np.ndarray, " size"]:
    """How many bytes of text each id stands for, the padding included."""
    if tokenizer is None:
        return np.append(np.ones(_BYTES, np.int64), 0)
    vocabulary = tokenizer.vocabulary
    return np.append([len(text) for text in vocabulary.texts] + vocabulary.ends_word, 0)
