"""`tokenizer.json` of Hugging Face `tokenizers`: written to make the same ids, and read where this room can."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxopt_lite.bpe.alphabet import FALLBACK
from jaxopt_lite.bpe.formats.byte_text import from_text, is_byte, to_text
from jaxopt_lite.bpe.formats.dialect import difference
from jaxopt_lite.bpe.formats.ids import tokens_by_id
from jaxopt_lite.bpe.formats.merge_texts import merges_of_texts
from jaxopt_lite.bpe.formats.shapes import check_shape
from jaxopt_lite.bpe.patterns import GPT2, Splitter, splitter
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["as_json", "from_json", "texts_of"]

_SPACES = r"[\s\x1C-\x1F]+"  # what str.split() splits at
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
_FLAGS = ("single_word", "lstrip", "rstrip")  # of added tokens, that have no counterpart here
_SHAPE = {
    "model": {
        "type?": str, "vocab": {str: int}, "merges": [(str, [str])], "dropout?": (float, int, None),
        "unk_token?": (str, None), "continuing_subword_prefix?": (str, None), "end_of_word_suffix?": (str, None),
        "fuse_unk?": (bool, None), "byte_fallback?": (bool, None), "ignore_merges?": (bool, None),
    },
    "added_tokens?": [{"id": int, "content": str, "normalized": bool, "special": bool} | dict.fromkeys(_FLAGS, bool)],
}  # fmt: skip
_STEP = {
    "type": str, "pattern?": {"Regex?": str}, "behavior?": str, "invert?": (bool, None), "add_prefix_space?": bool,
    "use_regex?": bool, "pretokenizers?": list, "decoders?": list,
}  # fmt: skip


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
        {"id": k, "content": text, **dict.fromkeys(_FLAGS, False), "normalized": text in v.found_last,
         "special": text in v.special_tokens}
        for text, k in sorted({**v.special_tokens, **v.added_tokens}.items(), key=lambda item: item[1])
    ]  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": None if v.unknown is None else texts[v.unknown],
        "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
        "byte_fallback": bool(v.byte_fallback), "ignore_merges": bool(v.whole_words),
        "vocab": {text: k for k, text in enumerate(texts) if text},
        "merges": [[texts[left], texts[right]] for left, right in v.merges.tolist()],
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "post_processor": None,
        "decoder": decoders[0] if is_bytes else {"type": "Sequence", "decoders": decoders}, "model": model,
    }  # fmt: skip


def texts_of(vocabulary: Vocabulary) -> list[str]:
    """The tokens as a file of texts names them; ids that stand for nothing have no name.

    Raises:
        ValueError: two tokens with one name, or one that is no UTF-8.
    """
    v, is_bytes = vocabulary, vocabulary.level == "byte"
    found = {k: text for tokens in (v.special_tokens, v.added_tokens) for text, k in tokens.items()}
    try:
        texts = [to_text(token) if is_bytes and k not in found else token.decode() for k, token in enumerate(v.tokens)]
    except UnicodeDecodeError as error:
        raise ValueError(f"the token {error.object!r} is not UTF-8, which this format needs") from error
    for k in {*v.merges.ravel().tolist(), *v.merged.tolist()}.intersection(found):
        if is_bytes and to_text(v.tokens[k]) != texts[k]:
            raise ValueError(
                f"the added token {texts[k]!r} is one that merges take or make, and has two names in this format; use "
                "format='jaxopt_lite'."
            )
    seen: dict[str, int] = {}
    for k, text in enumerate(texts):
        if text and seen.setdefault(text, k) != k:
            raise ValueError(
                f"tokens {seen[text]} and {k} are both called {text!r} in this format, which needs different names; "
                "use format='jaxopt_lite'."
            )
    return texts


def _split_step(split: Splitter) -> dict[str, Any]:
    behavior = "Isolated" if split.pattern is not None else "Removed"
    pattern = _SPACES if split.pattern is None else split.pattern
    if found := difference(pattern):
        raise ValueError(
            f"pattern={pattern!r}: Hugging Face's engine reads it otherwise, or may: {found}. Or use a stock pattern "
            "such as 'gpt4', or format='jaxopt_lite'."
        )
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def from_json(content: Mapping[str, Any], source: str) -> tuple[Vocabulary, Splitter]:
    """A vocabulary and splitter from the content of a `tokenizer.json`.

    Tokens that a post-processor puts around a text are not added: the ids are those of `add_special_tokens=False`.

    Raises:
        ValueError: naming the file and the component that this room has no counterpart for.
    """
    fail = _failure(source)
    model = _model(content, fail)
    for name in ("normalizer", "truncation", "padding"):
        if content.get(name) is not None:
            raise fail(f"has a {name} ({_type(content[name])}), which is not supported; expected none")
    for part in _steps(content.get("decoder"), "decoder", "decoders", fail):
        if part["type"] not in ("ByteLevel", "ByteFallback", "Fuse"):
            raise fail(f"has the decoder {part['type']}, which is not supported; expected ByteLevel, or none")
    split, is_bytes = _pre_tokenizer(content.get("pre_tokenizer"), fail)
    added = content.get("added_tokens", [])
    _check_added(added, model["vocab"], is_bytes, fail)
    found = {token["content"]: token["id"] for token in added}
    vocab: dict[str, int] = model["vocab"] | found
    falls_back = bool(model.get("byte_fallback")) and not is_bytes
    if falls_back and not set(FALLBACK) <= set(model["vocab"]):
        raise fail("says byte_fallback, but lacks tokens from '<0x00>' to '<0xFF>'")
    unknown = model.get("unk_token") if not is_bytes else None
    if unknown is not None and unknown not in model["vocab"]:
        raise fail(f"has the unk_token {unknown!r}, which is not in its vocab")
    try:
        merges, merged = merges_of_texts(model["merges"], model["vocab"])
        return Vocabulary(
            tokens=_tokens(vocab, found if is_bytes else vocab), merges=merges, merged=merged,
            special_tokens={token["content"]: token["id"] for token in added if token["special"]},
            level="byte" if is_bytes else "char", unknown=None if unknown is None else model["vocab"][unknown],
            byte_fallback=falls_back, whole_words=bool(model.get("ignore_merges")),
            fallback=np.array([model["vocab"][name] for name in FALLBACK]) if falls_back else None,
            added_tokens={token["content"]: token["id"] for token in added if not token["special"]},
            found_last=frozenset(token["content"] for token in added if token["normalized"]),
        ), split  # fmt: skip
    except ValueError as error:
        raise fail(f"does not fit together: {error}") from None


def _failure(source: str) -> Callable[[str], ValueError]:
    return lambda problem: ValueError(f"{source} {problem}.")


def _type(part: Any) -> str:
    return str(part.get("type", part) if isinstance(part, Mapping) else part)[:60]


def _steps(part: Any, name: str, inner: str, fail) -> list[dict[str, Any]]:
    """The parts of a pre-tokenizer or decoder, one behind the other."""
    steps = [] if part is None else [part]
    try:
        if isinstance(part, Mapping) and part.get("type") == "Sequence":
            check_shape(part, {inner: list}, name)
            steps = list(part[inner])
        for step in steps:
            check_shape(step, _STEP, name)
    except ValueError as error:
        raise fail(f"does not fit together: {error}") from None
    return steps


def _model(content: Mapping[str, Any], fail) -> dict[str, Any]:
    model = content.get("model")
    if not isinstance(model, Mapping) or model.get("type", "BPE") != "BPE":
        raise fail(f"has a model of type {_type(model)}; expected BPE")
    if not isinstance(model.get("vocab"), dict) or not isinstance(model.get("merges"), list):
        raise fail("lacks the model's vocab or merges; expected a mapping and a list")
    try:
        check_shape(content, _SHAPE)
    except ValueError as error:
        raise fail(f"does not fit together: {error}") from None
    for name, good in (("dropout", 0), ("continuing_subword_prefix", ""), ("end_of_word_suffix", "")):
        if (model.get(name) or good) != good:
            raise fail(f"has the model setting {name}={model[name]!r:.60}, which is not supported; expected none")
    if model.get("fuse_unk") and model.get("unk_token") is not None:
        raise fail("has the model setting fuse_unk=true, which is not supported; expected false")
    return dict(model)


def _pre_tokenizer(part: Any, fail) -> tuple[Splitter, bool]:
    """The splitter, and whether words become bytes."""
    steps = _steps(part, "pre_tokenizer", "pretokenizers", fail)
    is_bytes = len(steps) > 0 and steps[-1]["type"] == "ByteLevel"
    if is_bytes:
        last = steps.pop()
        if last.get("add_prefix_space", True):
            raise fail("has a ByteLevel pre_tokenizer with add_prefix_space, which is not supported; expected false")
        if last.get("use_regex", True):
            steps.append({"type": "Split", "pattern": {"Regex": GPT2}, "behavior": "Isolated"})
    if len(steps) != 1 or steps[0]["type"] != "Split":
        kinds = [step["type"] for step in steps] or ["None"]
        raise fail(f"has the pre_tokenizer {' + '.join(kinds)}, which is not supported; expected Split and ByteLevel")
    pattern, behavior = steps[0].get("pattern", {}).get("Regex"), steps[0].get("behavior")
    if behavior == "Removed" and pattern == _SPACES and not steps[0].get("invert"):
        return splitter("whitespace"), is_bytes
    if pattern is None or behavior != "Isolated" or steps[0].get("invert"):
        shown = f"{steps[0]!r:.200}"
        raise fail(f"has the pre_tokenizer {shown}, which is not supported; expected Split by a Regex, Isolated")
    if found := difference(pattern):
        raise fail(f"has a Split by {pattern!r:.200}, which is read otherwise here, or may be: {found}")
    try:
        return splitter(pattern), is_bytes
    except ValueError as error:
        raise fail(f"has a Split that cannot be used: {error}") from None


def _check_added(added: list[dict[str, Any]], vocab: Mapping[str, int], is_bytes: bool, fail) -> None:
    """Whether the added tokens get the ids that they say, and are found as here."""
    for name in ("content", "id"):
        seen = set()
        for token in added:
            if token[name] in seen:
                raise fail(f"has two added tokens with the {name} {token[name]!r}; expected different ones")
            seen.add(token[name])
    following = len(vocab)
    for token in added:
        text, k = token["content"], token["id"]
        odd = [name for name in _FLAGS if token[name]]
        if odd or not text:
            raise fail(f"has the added token {text!r} with {odd[0] if odd else 'no text'}; expected none such")
        if vocab.get(text, k) != k:
            raise fail(f"has the ids {vocab[text]} and {k} for {text!r}; expected one")
        if text not in vocab and k != following:
            raise fail(
                f"has the added token {text!r} with the id {k}, to which Hugging Face gives the id {following}: it "
                "numbers those that are not in the vocab one by one"
            )
        if is_bytes and text in vocab and is_byte(text) and not text.isascii():
            raise fail(f"has the added token {text!r}, which in its vocab is the byte {from_text(text)!r}")
        following += text not in vocab


def _tokens(vocab: Mapping[str, int], as_text: Mapping[str, int]) -> tuple[bytes, ...]:
    """The tokens by their ids; those of `as_text` are text, the others bytes in GPT-2's way."""
    by_id = {k: name.encode() if name in as_text else from_text(name) for name, k in vocab.items()}
    if len(by_id) < len(vocab):
        raise ValueError(f"{len(vocab)} tokens have {len(by_id)} ids; expected one each")
    return tokens_by_id(by_id)
