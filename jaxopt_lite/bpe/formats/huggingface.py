"""`tokenizer.json` of Hugging Face `tokenizers`: written to make the same ids, and read where this room can."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxopt_lite.bpe.alphabet import FALLBACK
from jaxopt_lite.bpe.formats.byte_text import from_text, to_text
from jaxopt_lite.bpe.formats.merge_texts import merges_of_texts
from jaxopt_lite.bpe.patterns import GPT2, Splitter, splitter
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["as_json", "from_json", "texts_of"]

# What its engine, Oniguruma, reads otherwise than `regex`: `{1,3}+` as a repetition, `^` and `$` at every line.
_READ_OTHERWISE = re.compile(r"\{\d*,?\d*\}\+|(?<!\\)[$^]")
_CLASSES = re.compile(r"\[[^\]]*\]")
_SPACES = r"[\s\x1C-\x1F]+"  # what str.split() splits at
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def as_json(vocabulary: Vocabulary, split: Splitter) -> dict[str, Any]:
    """A tokenizer as the content of a `tokenizer.json`.

    Raises:
        ValueError: an end-of-word mark, or anything else that Hugging Face would understand differently.
    """
    v, is_bytes = vocabulary, vocabulary.level == "byte"
    if v.end_of_word is not None:
        raise ValueError(
            "format='huggingface' has no form for an end-of-word mark that is a symbol of its own (its "
            "end_of_word_suffix makes other merges); use format='jaxopt_lite'."
        )
    texts = texts_of(v)
    if v.fallback is not None and [texts[k] for k in v.fallback.tolist()] != list(FALLBACK):
        raise ValueError("format='huggingface' expects the fallback tokens to be called '<0x00>' to '<0xFF>'.")
    steps = [_split_step(split), *([_BYTE_LEVEL] if is_bytes else [])]
    decoders = [{"type": "ByteLevel"} | _BYTE_LEVEL] if is_bytes else [{"type": "ByteFallback"}, {"type": "Fuse"}]
    added = [
        {"id": k, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True} for text, k in sorted(v.special_tokens.items(), key=lambda item: item[1])
    ]  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": None if v.unknown is None else texts[v.unknown],
        "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
        "byte_fallback": v.byte_fallback, "ignore_merges": v.whole_words,
        "vocab": {text: k for k, text in enumerate(texts)},
        "merges": [[texts[left], texts[right]] for left, right in v.merges.tolist()],
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "post_processor": None,
        "decoder": decoders[0] if is_bytes else {"type": "Sequence", "decoders": decoders}, "model": model,
    }  # fmt: skip


def texts_of(vocabulary: Vocabulary) -> list[str]:
    """The tokens as a file of texts names them.

    Raises:
        ValueError: two tokens with one name, or one that is no UTF-8.
    """
    special = set(vocabulary.special_tokens.values())
    is_bytes = vocabulary.level == "byte"
    try:
        texts = [
            to_text(token) if is_bytes and k not in special else token.decode()
            for k, token in enumerate(vocabulary.tokens)
        ]
    except UnicodeDecodeError as error:
        raise ValueError(f"the token {error.object!r} is not UTF-8, which this format needs") from error
    seen: dict[str, int] = {}
    for k, text in enumerate(texts):
        if seen.setdefault(text, k) != k:
            raise ValueError(
                f"tokens {seen[text]} and {k} are both called {text!r} in this format, which needs different names; "
                "use format='jaxopt_lite'."
            )
    return texts


def _split_step(split: Splitter) -> dict[str, Any]:
    behavior = "Isolated" if split.pattern is not None else "Removed"
    pattern = _SPACES if split.pattern is None else split.pattern
    if _is_read_otherwise(pattern):
        raise ValueError(
            f"pattern={pattern!r}: Hugging Face's engine reads '{{1,3}}+', '^', '$' otherwise; write '(?>…{{1,3}})', "
            "'(?<![\\s\\S])' and '(?![\\s\\S])', or use a stock pattern such as 'gpt4'."
        )
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def _is_read_otherwise(pattern: str) -> bool:
    return _READ_OTHERWISE.search(_CLASSES.sub("", pattern)) is not None


def from_json(content: Mapping[str, Any], source: str) -> tuple[Vocabulary, Splitter]:
    """A vocabulary and splitter from the content of a `tokenizer.json`.

    Tokens that a post-processor puts around a text are not added: the ids are those of `add_special_tokens=False`.
    Added tokens that are not special are taken for special ones.

    Raises:
        ValueError: naming the file and the component that this room has no counterpart for.
    """
    fail = _failure(source)
    for name in ("normalizer", "truncation", "padding"):
        if content.get(name):
            raise fail(f"has a {name} ({_type(content[name])}), which is not supported; expected none")
    _expect_kinds(content.get("decoder"), {"ByteLevel", "ByteFallback", "Fuse"}, "decoder", "decoders", fail)
    model = _model(content, fail)
    split, is_bytes = _pre_tokenizer(content.get("pre_tokenizer"), fail)
    special = _added(content.get("added_tokens") or [], fail)
    names = _names(model["vocab"], special, fail)
    falls_back = bool(model.get("byte_fallback")) and not is_bytes
    if falls_back and not set(FALLBACK) <= set(model["vocab"]):
        raise fail("says byte_fallback, but lacks tokens from '<0x00>' to '<0xFF>'")
    unknown = model.get("unk_token") if not is_bytes else None
    if unknown is not None and unknown not in model["vocab"]:
        raise fail(f"has the unk_token {unknown!r}, which is not in its vocab")
    try:
        tokens = [from_text(name) if is_bytes and name not in special else name.encode() for name in names]
        merges, merged = merges_of_texts(model["merges"], model["vocab"])
        return Vocabulary(
            tokens=tuple(tokens), merges=merges, merged=merged, special_tokens=special,
            level="byte" if is_bytes else "char", unknown=None if unknown is None else model["vocab"][unknown],
            byte_fallback=falls_back, whole_words=bool(model.get("ignore_merges")),
            fallback=np.array([model["vocab"][name] for name in FALLBACK], np.int32) if falls_back else None,
        ), split  # fmt: skip
    except (ValueError, UnicodeEncodeError) as error:
        raise fail(f"does not fit together: {error}") from None


def _failure(source: str) -> Callable[[str], ValueError]:
    return lambda problem: ValueError(f"{source} {problem}.")


def _type(part: Any) -> str:
    return str(part.get("type", part)) if isinstance(part, Mapping) else str(part)


def _expect_kinds(part: Any, known: set[str], name: str, inner: str, fail) -> None:
    parts = part.get(inner, []) if _type(part) == "Sequence" else [part]
    unknown = [_type(p) for p in parts if p is not None and _type(p) not in known]
    if unknown:
        raise fail(f"has the {name} {unknown[0]}, which is not supported; expected {', '.join(sorted(known))}, or none")


def _model(content: Mapping[str, Any], fail) -> Mapping[str, Any]:
    model = content.get("model")
    if not isinstance(model, Mapping) or model.get("type", "BPE") != "BPE":
        raise fail(f"has a model of type {_type(model)}; expected BPE")
    for name, good in (("dropout", 0), ("continuing_subword_prefix", ""), ("end_of_word_suffix", "")):
        if (model.get(name) or good) != good:
            raise fail(f"has the model setting {name}={model[name]!r}, which is not supported; expected none")
    if model.get("fuse_unk") and model.get("unk_token") is not None:
        raise fail("has the model setting fuse_unk=true, which is not supported; expected false")
    if not isinstance(model.get("vocab"), Mapping) or not isinstance(model.get("merges"), list):
        raise fail("lacks the model's vocab or merges; expected a mapping and a list")
    return model


def _pre_tokenizer(part: Any, fail) -> tuple[Splitter, bool]:
    """The splitter, and whether words become bytes."""
    steps = list(part.get("pretokenizers", [])) if _type(part) == "Sequence" else [part]
    is_bytes = len(steps) > 0 and _type(steps[-1]) == "ByteLevel"
    if is_bytes:
        last = steps.pop()
        if last.get("add_prefix_space", True):
            raise fail("has a ByteLevel pre_tokenizer with add_prefix_space, which is not supported; expected false")
        if last.get("use_regex", True):
            steps.append({"type": "Split", "pattern": {"Regex": GPT2}, "behavior": "Isolated"})
    if len(steps) != 1 or _type(steps[0]) != "Split":
        kinds = [_type(step) for step in steps] or ["none"]
        raise fail(f"has the pre_tokenizer {' + '.join(kinds)}, which is not supported; expected Split and ByteLevel")
    pattern, behavior = steps[0].get("pattern", {}).get("Regex"), steps[0].get("behavior")
    if behavior == "Removed" and pattern == _SPACES and not steps[0].get("invert"):
        return splitter("whitespace"), is_bytes
    if not isinstance(pattern, str) or behavior != "Isolated" or steps[0].get("invert") or _is_read_otherwise(pattern):
        raise fail(f"has the pre_tokenizer {steps[0]}, which is not supported; expected Split by a Regex, Isolated")
    return splitter(pattern), is_bytes


def _added(added: list[Any], fail) -> dict[str, int]:
    for token in added:
        odd = [name for name in ("lstrip", "rstrip", "single_word") if token.get(name)]
        if odd:
            raise fail(f"has the added token {token.get('content')!r} with {odd[0]}; expected false")
    return {token["content"]: int(token["id"]) for token in added}


def _names(vocab: Mapping[str, int], special: Mapping[str, int], fail) -> list[str]:
    """The names by id, which must be 0, 1, 2, …"""
    by_id = {k: name for names in (vocab, special) for name, k in names.items()}
    both = [name for name in special if vocab.get(name, special[name]) != special[name]]
    if both:
        raise fail(f"has the ids {vocab[both[0]]} and {special[both[0]]} for {both[0]!r}; expected one")
    if len(by_id) != len({*vocab, *special}) or sorted(by_id) != list(range(len(by_id))):
        raise fail(f"has {len({*vocab, *special})} tokens with other ids than 0 to {len({*vocab, *special}) - 1}")
    return [by_id[k] for k in range(len(by_id))]
