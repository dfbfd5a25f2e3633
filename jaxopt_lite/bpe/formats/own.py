"""This package's own format: JSON with everything a tokenizer has, including the counts of merges and the mark."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxopt_lite.bpe.around import Around
from jaxopt_lite.bpe.formats.content import check_shape
from jaxopt_lite.bpe.letters import as_characters, from_characters
from jaxopt_lite.bpe.patterns import Splitter, splitter
from jaxopt_lite.bpe.steps import pre_tokenizer
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["FORMAT", "as_own", "from_own"]

FORMAT = "jaxopt_lite.bpe"
_VERSION = 3  # version 1 had neither a checksum nor added tokens, version 2 had nothing of `_THIRD`
_FIRST = {
    "level": str, "end_of_word": (int, None), "unknown": (int, None), "whole_words": bool, "special_tokens": {str: int},
    "pattern": str, "mark": (str, None), "fallback": ([int], None), "tokens": [str], "merges": [[int]], "merged": [int],
    "counts": ([int], None),
}  # fmt: skip
_SECOND = _FIRST | {"added_tokens": {str: int}, "found_last": [str], "checksum": str}
_THIRD = {
    "flags": {str: [str]}, "prefix": str, "suffix": str, "fuses_unknown": bool, "by_token": bool,
    "normalizer": (str, None), "steps": (str, None), "decoder": (str, None), "post_processor": (str, None),
    "in_model?": [str],
}  # fmt: skip
_SHAPES = {1: _FIRST, 2: _SECOND, 3: _SECOND | _THIRD}


def as_own(vocabulary: Vocabulary, split: Splitter, around: Around) -> dict[str, Any]:
    """A tokenizer as the content of a file. Tokens are written as in GPT-2's files, one character per byte."""
    v = vocabulary
    content = {
        "format": FORMAT, "version": _VERSION, "level": v.level, "end_of_word": v.end_of_word, "unknown": v.unknown,
        "whole_words": bool(v.whole_words), "special_tokens": dict(v.special_tokens),
        "added_tokens": dict(v.added_tokens), "found_last": sorted(v.found_last),
        "pattern": split.pattern if split.name == "custom" else split.name, "mark": split.end_of_word,
        "fallback": None if v.fallback is None else v.fallback.tolist(), "tokens": [as_characters(t) for t in v.tokens],
        "merges": v.merges.tolist(), "merged": v.merged.tolist(),
        "counts": None if v.counts is None else v.counts.tolist(),
        "flags": {text: list(flags) for text, flags in v.flags.items()}, "prefix": as_characters(v.prefix),
        "suffix": as_characters(v.suffix), "fuses_unknown": bool(v.fuses_unknown), "by_token": bool(v.by_token),
        "normalizer": split.normalizer, "steps": split.steps, "decoder": around.decoder,
        "post_processor": around.post_processor,
    } | ({"in_model": sorted(v.in_model)} if v.in_model else {})  # fmt: skip
    return content | {"checksum": _checksum(content)}


def _checksum(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def from_own(content: Mapping[str, Any], source: str) -> tuple[Vocabulary, Splitter, Around]:
    """The inverse of `as_own`.

    Raises:
        ValueError: naming the file, and what is wrong in it.
    """
    version = content.get("version")
    if type(version) is not int or version not in _SHAPES:
        raise ValueError(f"{source} has version {version!r:.40} of {FORMAT}; expected 1 to {_VERSION}. Is it newer?")
    try:
        check_shape(content, _SHAPES[version])
        if version > 1 and content["checksum"] != _checksum(content):
            raise ValueError("the checksum does not match the content. Was the file altered or truncated?")
        if (content["end_of_word"] is None) != (content["mark"] is None):
            raise ValueError("end_of_word and mark: expected both, or neither.")
        third = {name: content[name] for name in _THIRD if name in content} if version > 2 else {}
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
            flags=third.get("flags", {}),
            prefix=from_characters(third.get("prefix", "")),
            suffix=from_characters(third.get("suffix", "")),
            fuses_unknown=third.get("fuses_unknown", False),
            by_token=third.get("by_token", False),
            in_model=frozenset(content.get("in_model", ())),
        )
        split = replace(_splitter(content, third.get("steps")), normalizer=third.get("normalizer"))
        split.normalize("")
        return vocabulary, split, Around(third.get("decoder"), third.get("post_processor"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} does not fit together: {error}") from None


def _splitter(content: Mapping[str, Any], steps: str | None) -> Splitter:
    if steps is None:
        return splitter(content["pattern"], content["mark"])
    pre_tokenizer(steps)  # raises here rather than later
    return Splitter("steps", "", steps=steps)
