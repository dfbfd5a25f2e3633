"""This package's own file: JSON with everything that a tokenizer is, also the counts of merges and the mark."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jaxopt_lite.bpe.formats.content import as_characters, check_shape, from_characters
from jaxopt_lite.bpe.patterns import Splitter, splitter
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["FORMAT", "as_own", "from_own"]

FORMAT = "jaxopt_lite.bpe"
_VERSION = 2  # 1 had neither a checksum nor added tokens
_FIRST = {
    "level": str, "end_of_word": (int, None), "unknown": (int, None), "whole_words": bool, "special_tokens": {str: int},
    "pattern": str, "mark": (str, None), "fallback": ([int], None), "tokens": [str], "merges": [[int]], "merged": [int],
    "counts": ([int], None),
}  # fmt: skip
_SHAPES = {1: _FIRST, 2: _FIRST | {"added_tokens": {str: int}, "found_last": [str], "checksum": str}}


def as_own(vocabulary: Vocabulary, split: Splitter) -> dict[str, Any]:
    """A tokenizer as the content of a file. Tokens are written in GPT-2's way, one character a byte."""
    v = vocabulary
    content = {
        "format": FORMAT, "version": _VERSION, "level": v.level, "end_of_word": v.end_of_word, "unknown": v.unknown,
        "whole_words": bool(v.whole_words), "special_tokens": dict(v.special_tokens),
        "added_tokens": dict(v.added_tokens), "found_last": sorted(v.found_last),
        "pattern": split.pattern if split.name == "custom" else split.name, "mark": split.end_of_word,
        "fallback": None if v.fallback is None else v.fallback.tolist(), "tokens": [as_characters(t) for t in v.tokens],
        "merges": v.merges.tolist(), "merged": v.merged.tolist(),
        "counts": None if v.counts is None else v.counts.tolist(),
    }  # fmt: skip
    return content | {"checksum": _checksum(content)}


def _checksum(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def from_own(content: Mapping[str, Any], source: str) -> tuple[Vocabulary, Splitter]:
    """The inverse.

    Raises:
        ValueError: naming the file, and what is wrong in it.
    """
    version = content.get("version")
    if type(version) is not int or version not in _SHAPES:
        raise ValueError(f"{source} has version {version!r:.40} of {FORMAT}; expected 1 to {_VERSION}. Is it newer?")
    try:
        check_shape(content, _SHAPES[version])
        if version > 1 and content["checksum"] != _checksum(content):
            raise ValueError("the checksum is of another content. Was the file altered, or cut and mended?")
        if (content["end_of_word"] is None) != (content["mark"] is None):
            raise ValueError("end_of_word and mark: expected both, or neither.")
        vocabulary = Vocabulary(
            tokens=tuple(map(from_characters, content["tokens"])),
            merges=content["merges"],
            merged=content["merged"],
            counts=content["counts"],
            special_tokens=content["special_tokens"],
            level=content["level"],
            end_of_word=content["end_of_word"],
            unknown=content["unknown"],
            byte_fallback=content["fallback"] is not None,
            fallback=content["fallback"],
            whole_words=content["whole_words"],
            added_tokens=content.get("added_tokens", {}),
            found_last=frozenset(content.get("found_last", ())),
        )
        return vocabulary, splitter(content["pattern"], content["mark"])
    except ValueError as error:
        raise ValueError(f"{source} does not fit together: {error}") from None
