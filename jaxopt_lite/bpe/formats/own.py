"""This package's own file: JSON with everything that a tokenizer is, also the counts of merges and the mark."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxopt_lite.bpe.formats.byte_text import from_text, to_text
from jaxopt_lite.bpe.patterns import Splitter, splitter
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["FORMAT", "as_own", "from_own"]

FORMAT = "jaxopt_lite.bpe"
_VERSION = 1
_STOCK = ("whitespace", "gpt2", "gpt4", "o200k")


def as_own(vocabulary: Vocabulary, split: Splitter) -> dict[str, Any]:
    """A tokenizer as the content of a file. Tokens are written in GPT-2's way, one character a byte."""
    v = vocabulary
    return {
        "format": FORMAT, "version": _VERSION, "level": v.level, "end_of_word": v.end_of_word, "unknown": v.unknown,
        "whole_words": v.whole_words, "special_tokens": dict(v.special_tokens),
        "pattern": split.name if split.name in _STOCK else split.pattern, "mark": split.end_of_word,
        "fallback": None if v.fallback is None else v.fallback.tolist(), "tokens": [to_text(t) for t in v.tokens],
        "merges": v.merges.tolist(), "merged": v.merged.tolist(),
        "counts": None if v.counts is None else v.counts.tolist(),
    }  # fmt: skip


def from_own(content: Mapping[str, Any], source: str) -> tuple[Vocabulary, Splitter]:
    """The inverse.

    Raises:
        ValueError: naming the file, and what is wrong in it.
    """
    if content.get("version") != _VERSION:
        raise ValueError(
            f"{source} has version {content.get('version')!r} of {FORMAT}; expected {_VERSION}. Is it newer?"
        )
    try:
        vocabulary = Vocabulary(
            tokens=tuple(from_text(text) for text in content["tokens"]),
            merges=np.asarray(content["merges"], np.int32),
            merged=np.asarray(content["merged"], np.int32),
            counts=content["counts"],
            special_tokens=content["special_tokens"],
            level=content["level"],
            end_of_word=content["end_of_word"],
            unknown=content["unknown"],
            byte_fallback=content["fallback"] is not None,
            fallback=content["fallback"],
            whole_words=content["whole_words"],
        )
        return vocabulary, splitter(content["pattern"], content["mark"])
    except KeyError as error:
        raise ValueError(f"{source} lacks {error.args[0]!r}; expected a whole file of {FORMAT}.") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{source} does not fit together: {error}") from None
