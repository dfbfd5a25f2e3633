r"""`tokenizer.json` of Hugging Face `tokenizers`: written to make the same ids, and read if this package supports it.

Normalizers, pre-tokenizers, decoders and post-processors are kept as they are and turned into functions elsewhere
(`steps.py`, `around.py`). A pre-tokenizer whose words are those of a single pattern becomes that pattern, with which
texts are cut into pieces and encoded much faster.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jaxopt_lite.bpe.around import Around, decoder, names_byte, template
from jaxopt_lite.bpe.formats.content import check_shape, merges_of_texts, tokens_by_id
from jaxopt_lite.bpe.letters import as_characters, from_characters, is_byte
from jaxopt_lite.bpe.oniguruma import difference, translated
from jaxopt_lite.bpe.patterns import LITERAL, LLAMA3, LOCAL, O200K, QWEN2, STOCK, TEKKEN, Splitter, splitter
from jaxopt_lite.bpe.steps import GPT2_WORDS, as_parts, check_starts, normalizer, pre_tokenizer
from jaxopt_lite.bpe.vocabulary import BYTE_NAMES, FLAGS, Vocabulary

__all__ = ["as_json", "from_json", "texts_of"]

_SPACES = r"[\s\x1C-\x1F]+"  # what str.split() splits at
# The same in parts that tokenizers 1.0 accepts: white space, and four control characters.
_AT_SPACES: list[Mapping[str, Any]] = [
    {"type": "WhitespaceSplit"},
    *(
        {"type": "Split", "pattern": {"String": chr(code)}, "behavior": "Removed", "invert": False}
        for code in range(0x1C, 0x20)
    ),
]
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
# The only patterns that tokenizers 1.0 accepts (as of 1.0.0rc3), compared as strings.
_TAKEN = frozenset({LLAMA3, QWEN2, O200K, TEKKEN, LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}{1,2}")})
_SHAPE = {
    "model": {
        "type?": (str, None), "vocab": {str: int}, "merges": [(str, [str])], "dropout?": (float, int, None),
        "unk_token?": (str, None), "continuing_subword_prefix?": (str, None), "end_of_word_suffix?": (str, None),
        "fuse_unk?": (bool, None), "byte_fallback?": (bool, None), "ignore_merges?": (bool, None),
    },
    "added_tokens?": [{"id": int, "content": str, "normalized": bool, "special": bool} | dict.fromkeys(FLAGS, bool)],
}  # fmt: skip


def as_json(vocabulary: Vocabulary, split: Splitter, around: Around) -> dict[str, Any]:
    """A tokenizer as the content of a `tokenizer.json`.

    Raises:
        ValueError: an end-of-word mark, or anything else that Hugging Face's library would treat differently.
    """
    v, is_bytes = vocabulary, vocabulary.level == "byte"
    if v.end_of_word is not None:
        raise ValueError(
            "format='huggingface' has no form for an end-of-word mark that is a symbol of its own (its "
            "end_of_word_suffix makes other merges); use format='jaxopt_lite'."
        )
    if v.by_token:
        raise ValueError(
            "format='huggingface' has no form for tokens that can be made in several ways of one rank, as in the "
            "tiktoken file that this comes from; use format='tiktoken' or 'jaxopt_lite'."
        )
    texts = texts_of(v)
    left_out = _left_out(v, texts, split)
    named = (
        []
        if v.fallback is None
        else [(texts[k], name) for k, name in zip(v.fallback.tolist(), BYTE_NAMES, strict=True) if k >= 0]
    )
    if any(text != name for text, name in named):
        raise ValueError("format='huggingface' expects the fallback tokens to be called '<0x00>' to '<0xFF>'.")
    added = [
        {"id": k, "content": text, **{flag: flag in v.flags.get(text, ()) for flag in FLAGS},
         "normalized": text in v.found_last, "special": text in v.special_tokens}
        for text, k in sorted({**v.special_tokens, **v.added_tokens}.items(), key=lambda item: item[1])
    ]  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": None if v.unknown is None else texts[v.unknown],
        "continuing_subword_prefix": _mark_text(v.prefix, is_bytes) or None,
        "end_of_word_suffix": _mark_text(v.suffix, is_bytes) or None, "fuse_unk": bool(v.fuses_unknown),
        "byte_fallback": bool(v.byte_fallback), "ignore_merges": bool(v.whole_words),
        "vocab": {text: k for k, text in enumerate(texts) if text and k not in left_out},
        "merges": [[texts[left], texts[right]] for left, right in v.merges.tolist()],
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": _parsed(split.normalizer), "pre_tokenizer": _as_step(split, is_bytes),
        "post_processor": _parsed(around.post_processor), "decoder": _decoder_of(around, v), "model": model,
    }  # fmt: skip


def _left_out(v: Vocabulary, texts: list[str], split: Splitter) -> set[int]:
    """The ids of tokens that are only found and must be left out of the model, which would use them itself.

    Hugging Face's library numbers such tokens after those of the model, so they must have the last ids.

    Raises:
        ValueError: one of them is not among the last.
    """
    marks = [_mark_text(mark, v.level == "byte") for mark in (v.prefix, v.suffix)]
    is_bytes, is_whole = v.level == "byte", bool(v.whole_words)
    used = {k for k in v.found_only if _is_used(texts[k], is_bytes, is_whole, marks, split)}
    named = {k for k in v.found_only if v.byte_fallback and texts[k] in BYTE_NAMES}  # byte fallback would use them
    used |= named
    fallback = [] if v.fallback is None else v.fallback.tolist()
    alone = v.found_only.difference(v.merges.ravel().tolist(), v.merged.tolist(), fallback, [v.unknown])
    if not used & alone:
        return set()
    last = len(texts)
    while last - 1 in alone:
        last -= 1
    left_out = set(range(last, len(texts))) if all(texts[:last]) else set()
    changes = split.normalizer is not None or split.steps is not None
    for k in sorted(used & alone - left_out):  # the others are always found, unless told to ignore them
        if changes or k in named or "single_word" in v.flags.get(texts[k], ()):
            raise ValueError(
                f"the token {texts[k]!r} is only found, but has an id among those of the model, which in this format "
                "would make it of text too; use format='jaxopt_lite'."
            )
    return left_out


def _is_used(text: str, is_bytes: bool, is_whole: bool, marks: list[str], split: Splitter) -> bool:
    """Whether a model that has this token would make it of text: as a symbol, or as a whole word."""
    prefix, suffix = marks
    units = {text, text.removeprefix(prefix), text.removesuffix(suffix), text.removeprefix(prefix).removesuffix(suffix)}
    if any(len(unit) == 1 and (not is_bytes or is_byte(unit)) for unit in units):
        return True
    if not is_whole or (is_bytes and not all(map(is_byte, text))):
        return False
    # A word of a known pattern is the same wherever it stands, except for white space.
    return not split.local or split.words(text) == [text] or any(map(str.isspace, text))


def _parsed(parts: str | None) -> Any:
    return None if parts is None else json.loads(parts)


def _mark_text(mark: bytes, is_bytes: bool) -> str:
    return as_characters(mark) if is_bytes else mark.decode()


def _decoder_of(around: Around, v: Vocabulary) -> Any:
    if around.decoder is not None:
        return json.loads(around.decoder)
    if v.level == "byte":
        return {"type": "ByteLevel"} | _BYTE_LEVEL
    if v.fallback is None and any(map(names_byte, v.tokens)):  # here these are ordinary text
        return {"type": "Fuse"}
    return {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}


def texts_of(vocabulary: Vocabulary) -> list[str]:
    """The names of the tokens as in Hugging Face's files; ids that stand for nothing have no name.

    Raises:
        ValueError: two tokens with the same name, or a token that is not UTF-8.
    """
    v, is_bytes = vocabulary, vocabulary.level == "byte"
    found = {k: text for tokens in (v.special_tokens, v.added_tokens) for text, k in tokens.items()}
    try:
        texts = [
            as_characters(token) if is_bytes and k not in found else token.decode() for k, token in enumerate(v.tokens)
        ]
    except UnicodeDecodeError as error:
        raise ValueError(f"the token {error.object!r} is not UTF-8, which this format needs") from error
    for k in {*v.merges.ravel().tolist(), *v.merged.tolist()}.intersection(found):
        if is_bytes and as_characters(v.tokens[k]) != texts[k]:
            raise ValueError(
                f"the added token {texts[k]!r} is one that merges use or make, and has two names in this format; use "
                "format='jaxopt_lite'."
            )
    seen: dict[str, int] = {}
    for k, text in enumerate(texts):
        if text and seen.setdefault(text, k) != k:
            raise ValueError(
                f"tokens {seen[text]} and {k} are both called {text!r} in this format, which needs distinct names; "
                "use format='jaxopt_lite'."
            )
    return texts


# --- Words ------------------------------------------------------------------------------------------------------------


def _as_step(split: Splitter, is_bytes: bool) -> dict[str, Any] | None:
    """The pre-tokenizer that finds the words, in a form that tokenizers 1.0 accepts too if there is one."""
    if split.steps is not None:
        return json.loads(split.steps)
    end = [_BYTE_LEVEL] if is_bytes else []
    if split.pattern is None:
        return {"type": "Sequence", "pretokenizers": [*_AT_SPACES, *end]}
    if split.pattern in (STOCK["gpt2"], GPT2_WORDS) and is_bytes:
        return _BYTE_LEVEL | {"use_regex": True}
    pattern = GPT2_WORDS if split.pattern == STOCK["gpt2"] else translated(split.pattern, "regex")
    if found := difference(pattern):
        raise ValueError(
            f"pattern={split.pattern!r}: Hugging Face's engine reads it differently, or may: {found}. Or use a stock "
            "pattern such as 'gpt4', or format='jaxopt_lite'."
        )
    if pattern not in _TAKEN | {GPT2_WORDS}:
        warnings.warn(
            f"tokenizers 1.0 does not take the pattern of {split.name!r}, {pattern!r:.60}: it accepts only a few exact "
            "patterns and raises when it encodes. tokenizers 0.23 takes it, and so does transformers with 0.23. To "
            "serve with 1.0 train with pattern='llama3', which has the words of 'gpt4' except for whitespace at the "
            "end of a text, or with 'qwen2', 'o200k', 'tekken', 'gpt2' or 'whitespace'.",
            ServingWarning,
            stacklevel=6,
        )
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [step, *end]}


class ServingWarning(UserWarning):
    """The saved tokenizer will not run in the next version of Hugging Face's library."""


def _pre_tokenizer(part: Any, normal: str | None, fail) -> tuple[Splitter, bool]:
    """The splitter, and whether words become bytes."""
    try:
        steps = as_parts(part, "pretokenizers")
        at = [k for k, step in enumerate(steps) if step["type"] == "ByteLevel"]
        is_bytes = len(at) > 0
        text = json.dumps(part, ensure_ascii=False)
        pre_tokenizer(text)
        check_starts(None if normal is None else json.loads(normal), part)
        pattern = None if is_bytes and at[0] < len(steps) - 1 else _one_pattern(steps, is_bytes)
        if pattern is None:
            return Splitter("steps", "", normalizer=normal, steps=text), is_bytes
        return replace(pattern, normalizer=normal), is_bytes
    except (ValueError, TypeError) as error:
        raise fail(f"has {error}") from None


def _one_pattern(steps: list[Mapping[str, Any]], is_bytes: bool) -> Splitter | None:
    """The splitter with a single pattern that has the words of these steps, if there is one."""
    steps = list(steps)
    if is_bytes:
        last = steps.pop()
        if last.get("add_prefix_space", True):
            return None
        if last.get("use_regex", True):
            steps.append({"type": "Split", "pattern": {"Regex": GPT2_WORDS}, "behavior": "Isolated"})
    if steps == _AT_SPACES:
        return splitter("whitespace")
    if len(steps) != 1 or steps[0]["type"] != "Split" or "Regex" not in steps[0]["pattern"]:
        return None
    pattern, behavior, invert = steps[0]["pattern"]["Regex"], steps[0].get("behavior"), bool(steps[0].get("invert"))
    if (pattern, behavior, invert) == (_SPACES, "Removed", False):
        return splitter("whitespace")
    pattern = STOCK["gpt2"] if pattern == GPT2_WORDS else translated(pattern, "oniguruma")
    if behavior == "Isolated" and not invert:
        return splitter(f"(?:{pattern})" if LITERAL.fullmatch(pattern) else pattern)  # it is never meant as a name
    # The patterns known here match the whole text, so there is nothing between matches to remove.
    return splitter(pattern) if (behavior, invert) == ("Removed", True) and pattern in LOCAL else None


# --- Reading ----------------------------------------------------------------------------------------------------------


def from_json(content: Mapping[str, Any], source: str) -> tuple[Vocabulary, Splitter, Around]:
    """A vocabulary, a splitter, and decoder and post-processor, from the content of a `tokenizer.json`.

    Raises:
        ValueError: naming the file and the component that is not supported.
    """
    fail = _failure(source)
    model = _model(content, fail)
    for name in ("truncation", "padding"):
        if content.get(name) is not None:
            warnings.warn(f"{source} has {name} set, which is ignored: `encode_batch` pads with length=.", stacklevel=5)
    normal = _normalizer(content.get("normalizer"), fail)
    _check_normal(content.get("added_tokens", []), normal, fail)
    split, is_bytes = _pre_tokenizer(content.get("pre_tokenizer"), normal, fail)
    vocabulary = _vocabulary(content, model, split, is_bytes, fail)
    return vocabulary, split, _around(content, split, vocabulary, fail)


def _normalizer(part: Any, fail) -> str | None:
    try:
        if not as_parts(part, "normalizers"):
            return None
        text = json.dumps(part, ensure_ascii=False)
        normalizer(text)
        return text
    except ValueError as error:
        raise fail(f"has {error}") from None


def _around(content: Mapping[str, Any], split: Splitter, vocabulary: Vocabulary, fail) -> Around:
    decoding = content.get("decoder")
    processor = content.get("post_processor")
    texts = None if processor is None else json.dumps(processor, ensure_ascii=False)
    try:
        template(texts)
        kinds = [part["type"] for part in as_parts(decoding, "decoders")]
        is_plain = split.steps is None and split.normalizer is None and not vocabulary.is_marked
        # If words are bytes, or unchanged characters, the concatenated tokens are the text.
        if kinds in _plain(vocabulary) or (decoding is None and is_plain):
            return Around(None, texts)
        decoding = json.dumps(decoding, ensure_ascii=False)
        decoder(decoding)
        return Around(decoding, texts)
    except ValueError as error:
        raise fail(f"has {error}") from None


def _plain(vocabulary: Vocabulary) -> list[list[str]]:
    """The decoders that concatenate tokens, as bytes where they stand for bytes."""
    if vocabulary.level == "byte":
        return [["ByteLevel"]]
    named = {k for k, token in enumerate(vocabulary.tokens) if names_byte(token)}
    known = set() if vocabulary.fallback is None else {*vocabulary.fallback.tolist()} - {-1}
    both = [["ByteFallback"], ["ByteFallback", "Fuse"]] if named == known else []
    return both if known else [*both, ["Fuse"]]


def _vocabulary(content: Mapping[str, Any], model: dict[str, Any], split: Splitter, is_bytes: bool, fail) -> Vocabulary:
    added = content.get("added_tokens", [])
    _check_added(added, model["vocab"], is_bytes, fail)
    found = {token["content"]: token["id"] for token in added}
    vocab: dict[str, int] = model["vocab"] | found
    falls_back = bool(model.get("byte_fallback")) and not is_bytes
    unknown = model.get("unk_token")
    if unknown is not None and unknown not in model["vocab"]:
        if not is_bytes:
            raise fail(f"has the unk_token {unknown!r}, which is not in its vocab")
        unknown = None  # it is used only if a byte has no token, and raises then
    marks = [model.get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix")]
    in_model = _in_model(model, found, split, is_bytes, fail)
    try:
        merges, merged = merges_of_texts(model["merges"], model["vocab"], marks[0])
        prefix, suffix = (from_characters(mark) if is_bytes else mark.encode() for mark in marks)
        return Vocabulary(
            tokens=_tokens(vocab, found, model, is_bytes), merges=merges, merged=merged,
            special_tokens={token["content"]: token["id"] for token in added if token["special"]},
            level="byte" if is_bytes else "char", unknown=None if unknown is None else model["vocab"][unknown],
            byte_fallback=falls_back, whole_words=bool(model.get("ignore_merges")),
            fallback=np.array([model["vocab"].get(name, -1) for name in BYTE_NAMES]) if falls_back else None,
            added_tokens={token["content"]: token["id"] for token in added if not token["special"]},
            found_last=frozenset(token["content"] for token in added if token["normalized"]),
            flags={t["content"]: flags for t in added if (flags := tuple(flag for flag in FLAGS if t[flag]))},
            prefix=prefix, suffix=suffix, fuses_unknown=bool(model.get("fuse_unk")) and unknown is not None,
            in_model=in_model,
        )  # fmt: skip
    except ValueError as error:
        raise fail(f"does not fit together: {error}") from None


def _in_model(model: Mapping[str, Any], found: Mapping[str, int], split: Splitter, is_bytes: bool, fail):
    """The added tokens that the model has too and would make of text."""
    marks = [model.get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix")]
    is_whole = bool(model.get("ignore_merges"))
    both = [text for text in found if text in model["vocab"] and _is_used(text, is_bytes, is_whole, marks, split)]
    for text in both if is_bytes else ():
        if not text.isascii() and all(map(is_byte, text)):
            raise fail(f"has the added token {text!r}, which in its vocab is the bytes {from_characters(text)!r}")
    return frozenset(both)


def _failure(source: str) -> Callable[[str], ValueError]:
    return lambda problem: ValueError(f"{source} {problem}.")


def _type(part: Any) -> str:
    return str(part.get("type", part) if isinstance(part, Mapping) else part)[:60]


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
    if model.get("dropout"):
        raise fail(f"has the model setting dropout={model['dropout']!r:.60}, which makes ids random; expected none")
    if model.get("byte_fallback") and model.get("continuing_subword_prefix"):
        raise fail("has both byte_fallback and a continuing_subword_prefix, which is not supported; expected one")
    return dict(model)


def _check_added(added: list[dict[str, Any]], vocab: Mapping[str, int], is_bytes: bool, fail) -> None:
    """Check that Hugging Face's library gives the added tokens the ids in the file, and finds them as we do."""
    for name in ("content", "id"):
        seen = set()
        for token in added:
            if token[name] in seen:
                raise fail(f"has two added tokens with the {name} {token[name]!r}; expected distinct ones")
            seen.add(token[name])
    following = len(vocab)
    for token in added:
        text, k = token["content"], token["id"]
        if not text:
            raise fail(f"has the added token {text!r}, which is empty; expected some text")
        if vocab.get(text, k) != k:
            raise fail(f"has the ids {vocab[text]} and {k} for {text!r}; expected one")
        if text not in vocab and k != following:
            raise fail(
                f"has the added token {text!r} with the id {k}, to which Hugging Face gives the id {following}: it "
                "numbers tokens that are not in the vocab consecutively"
            )
        if is_bytes and text in vocab and is_byte(text) and not text.isascii():
            raise fail(f"has the added token {text!r}, which in its vocab is the byte {from_characters(text)!r}")
        following += text not in vocab


def _check_normal(added: list[dict[str, Any]], normal: str | None, fail) -> None:
    """Check that tokens that are searched in normalized text have distinct normal forms that are not empty."""
    seen: dict[str, str] = {}
    for text in (token["content"] for token in added if token["normalized"] and normal is not None):
        form = normalizer(str(normal))(text)
        if not form:
            raise fail(f"has the added token {text!r}, of which its normalizer leaves nothing; expected some text")
        if form in seen:
            raise fail(
                f"has the added tokens {seen[form]!r} and {text!r}, both of which its normalizer turns into {form!r}; "
                "Hugging Face's library may find either; set 'normalized' to false for one"
            )
        seen[form] = text


def _tokens(vocab: Mapping[str, int], found: Mapping[str, int], model, is_bytes: bool) -> tuple[bytes, ...]:
    """The tokens by their ids: text, or bytes as GPT-2 writes them if words become bytes."""
    by_id = {}
    for name, k in vocab.items():
        if not is_bytes or name in found:
            by_id[k] = name.encode()
            continue
        try:
            by_id[k] = from_characters(name)
        except ValueError:
            if model.get("ignore_merges"):
                raise
            by_id[k] = name.encode()  # no word has these characters, so it stands for itself
    if len(by_id) < len(vocab):
        raise ValueError(f"{len(vocab)} tokens have {len(by_id)} ids; expected one each")
    return tokens_by_id(by_id)
