"""What a `tokenizer.json` says besides words and merges: how tokens become text again, and what goes around a text.

A decoder is a sequence of steps, each from a list of strings to another; the first list is the tokens, and the last is
joined. A post-processor adds tokens before and after a text; this is done only on request.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from jaxopt_lite.bpe.letters import from_characters, is_byte
from jaxopt_lite.bpe.steps import as_parts, compiled, get

__all__ = ["Around", "as_texts", "decoder", "names_byte", "template"]

_BYTE_NAME = re.compile(r"<0x([0-9A-Fa-f]{2}|\+[0-9A-Fa-f])>")  # a sign is allowed too, as when Rust parses numbers
# What WordPiece's decoder cleans up, in this order.
_CLEANED = [
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
]  # fmt: skip

Tokens = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class Around:
    """Decoder and post-processor of a file, as JSON.

    Attributes:
        decoder: how tokens become text; `None`: their bytes are concatenated.
        post_processor: what goes around a text on request; `None`: nothing.

    Raises:
        ValueError: one of them is not JSON, or has no counterpart in this package.
    """

    decoder: str | None = None
    post_processor: str | None = None

    def __post_init__(self):
        """Refuse what is not supported now rather than when a text is decoded."""
        if self.decoder is not None:
            decoder(self.decoder)
        template(self.post_processor)


# --- From tokens to text ----------------------------------------------------------------------------------------------


@cache
def decoder(parts: str, errors: str = "replace") -> Callable[[list[str]], str]:
    """A decoder as a function, from the names of tokens to their text.

    Args:
        parts: the decoder, as JSON; `null` puts spaces between tokens, an empty sequence puts nothing.
        errors: what becomes of bytes that are not UTF-8: "replace", U+FFFD as in Hugging Face's library, or
            "surrogateescape", which keeps them.

    Raises:
        ValueError: a decoder that is not supported, naming it.

    Example:
        >>> from jaxopt_lite.bpe.around import decoder
        >>> decoder('{"type": "BPEDecoder", "suffix": "</w>"}')(["lo", "w</w>", "tide</w>"])
        'low tide'
    """
    part = json.loads(parts)
    if part is None:
        return " ".join
    steps = [_decoder(one, errors) for one in as_parts(part, "decoders")]

    def decoded(tokens: list[str]) -> str:
        for step in steps:
            tokens = step(tokens)
        return "".join(tokens)

    return decoded


def _decoder(part: Mapping[str, Any], errors: str) -> Tokens:
    kind = part["type"]
    if kind in _ON_BYTES:
        return partial(_ON_BYTES[kind], errors=errors)
    if kind not in _DECODERS:
        names = (*_ON_BYTES, *_DECODERS)
        raise ValueError(f"the decoder {kind!r:.60}, which is not supported; expected one of {', '.join(names)}")
    return _DECODERS[kind](part)


def _byte_level(tokens: list[str], errors: str) -> list[str]:
    data = (from_characters(t) if all(map(is_byte, t)) else t.encode("utf-8", "surrogateescape") for t in tokens)
    return [b"".join(data).decode("utf-8", errors)]


def _byte_fallback(tokens: list[str], errors: str) -> list[str]:
    texts: list[str] = []
    data = bytearray()
    for token in [*tokens, ""]:
        value = _value(token)
        if value is not None:
            data.append(value)
            continue
        if data:
            texts += as_texts(bytes(data), errors)
            data.clear()
        texts.append(token)
    return texts[:-1]


def _value(token: str) -> int | None:
    """The byte that a fallback token stands for."""
    found = _BYTE_NAME.fullmatch(token)
    return None if found is None else int(found[1], 16)


def names_byte(token: bytes) -> bool:
    """Whether the ByteFallback decoder takes a token for a byte, whatever the model does."""
    return len(token) == 6 and token[:3] == b"<0x" and _value(token.decode("utf-8", "replace")) is not None


def as_texts(data: bytes, errors: str = "replace") -> list[str]:
    """Bytes as one text if they are valid UTF-8; else each byte by itself, as U+FFFD or as `errors` says."""
    try:
        return [data.decode()]
    except UnicodeDecodeError:
        if errors == "replace":  # also in place of ASCII
            return ["\ufffd"] * len(data)
        return [bytes([byte]).decode("utf-8", errors) for byte in data]


def _fuse(part: Mapping[str, Any]) -> Tokens:
    return lambda tokens: ["".join(tokens)]


def _replace(part: Mapping[str, Any]) -> Tokens:
    pattern, content = compiled(part), get(part, "content", str)
    return lambda tokens: [pattern.sub(lambda _: content, token) for token in tokens]


def _strip(part: Mapping[str, Any]) -> Tokens:
    content, start, stop = get(part, "content", str), get(part, "start", int), get(part, "stop", int)

    def stripped(token: str) -> str:
        left = min(len(token) - len(token.lstrip(content)), start)
        token = token[left:]
        right = min(len(token) - len(token.rstrip(content)), stop)
        return token[: len(token) - right]

    return lambda tokens: list(map(stripped, tokens))


def _metaspace(part: Mapping[str, Any]) -> Tokens:
    mark, scheme = get(part, "replacement", str, "▁"), get(part, "prepend_scheme", str, "always").lower()
    first = " " if scheme == "never" or part.get("add_prefix_space") is False else ""
    return lambda tokens: [token.replace(mark, " " if k else first) for k, token in enumerate(tokens)]


def _bpe(part: Mapping[str, Any]) -> Tokens:
    suffix = get(part, "suffix", str, "</w>")
    return lambda tokens: [t.replace(suffix, " " * (k < len(tokens) - 1)) for k, t in enumerate(tokens)]


def _word_piece(part: Mapping[str, Any]) -> Tokens:
    prefix, cleans = get(part, "prefix", str, "##"), get(part, "cleanup", bool, True)

    def decoded(tokens: list[str]) -> list[str]:
        texts = []
        for k, token in enumerate(tokens):
            text = token if not k else token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
            for old, new in _CLEANED if cleans else ():
                text = text.replace(old, new)
            texts.append(text)
        return texts

    return decoded


_ON_BYTES: dict[str, Callable[..., list[str]]] = {"ByteLevel": _byte_level, "ByteFallback": _byte_fallback}
_DECODERS: dict[str, Callable[[Mapping[str, Any]], Tokens]] = {
    "Fuse": _fuse, "Replace": _replace, "Strip": _strip, "Metaspace": _metaspace, "BPEDecoder": _bpe,
    "WordPiece": _word_piece,
}  # fmt: skip


# --- Around a text ----------------------------------------------------------------------------------------------------


def template(parts: str | None) -> tuple[list[int], list[int]]:
    """The ids that a post-processor adds before and after one text.

    Args:
        parts: the post-processor, as JSON; `None` for none.

    Raises:
        ValueError: a post-processor that is not supported, naming it.
    """
    before: list[int] = []
    behind: list[int] = []
    holds_template = False
    for part in as_parts(None if parts is None else json.loads(parts), "processors"):
        kind = part["type"]
        if holds_template and kind != "ByteLevel":
            raise ValueError(
                f"the post_processor {kind!r:.60} after a TemplateProcessing, whose tokens it would treat as separate "
                "texts; expected TemplateProcessing as the last one"
            )
        if kind in ("RobertaProcessing", "BertProcessing"):
            left, right = ([_marker(part, name)] for name in ("cls", "sep"))
        elif kind == "TemplateProcessing":
            left, right = _around(part)
            holds_template = True
        elif kind == "ByteLevel":  # it changes offsets only
            continue
        else:
            raise ValueError(f"the post_processor {kind!r:.60}, which is not supported; expected TemplateProcessing")
        before, behind = left + before, behind + right
    return before, behind


def _marker(part: Mapping[str, Any], name: str) -> int:
    value = get(part, name, list)
    if len(value) != 2 or type(value[1]) is not int:
        raise ValueError(f"{part['type']} with {name}={value!r:.60}; expected a token and its id")
    return value[1]


def _in(part: Any, name: Any) -> Any:
    """The entry of this name, or `None`."""
    return part.get(name) if isinstance(part, Mapping) and isinstance(name, str) else None


def _around(part: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """The ids that a template adds before and after one text."""
    known = get(part, "special_tokens", dict)
    before: list[int] = []
    behind: list[int] | None = None
    for item in get(part, "single", list):
        if isinstance(item, Mapping) and "Sequence" in item and behind is None:
            behind = []
            continue
        token = _in(_in(item, "SpecialToken"), "id")
        ids = _in(_in(known, token), "ids")
        if not isinstance(ids, list) or not all(type(k) is int for k in ids):
            raise ValueError(f"TemplateProcessing with {item!r:.80}; expected one Sequence, and tokens with ids")
        (before if behind is None else behind).extend(ids)
    if behind is None:
        raise ValueError("TemplateProcessing without a Sequence; expected one")
    return before, behind
