"""`vocab.json` and `merges.txt`, as GPT-2 came: byte-level tokens and their ids; merges, one a line."""

import json
from collections.abc import Sequence
from pathlib import Path

from jaxopt_lite.bpe.formats.byte_text import from_text
from jaxopt_lite.bpe.formats.huggingface import texts_of
from jaxopt_lite.bpe.formats.merge_texts import merges_of_texts
from jaxopt_lite.bpe.formats.plain import read_json, read_text, write_text
from jaxopt_lite.bpe.patterns import Splitter, splitter
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["read_gpt2", "write_gpt2"]

_VOCAB, _MERGES = "vocab.json", "merges.txt"


def write_gpt2(vocabulary: Vocabulary, folder: Path) -> None:
    """Write both files into a folder, which is made if it is not there.

    Raises:
        ValueError: a vocabulary of characters, or with a mark: the files cannot say so.
    """
    if vocabulary.level != "byte" or vocabulary.end_of_word is not None:
        raise ValueError(
            "format='gpt2' is for byte level without an end-of-word mark; use format='huggingface' for characters, and "
            "format='jaxopt_lite' for a mark."
        )
    texts = texts_of(vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{texts[left]} {texts[right]}" for left, right in vocabulary.merges.tolist()]
    write_text(folder / _VOCAB, json.dumps({text: k for k, text in enumerate(texts)}, ensure_ascii=False))
    write_text(folder / _MERGES, "\n".join(["#version: 0.2", *lines, ""]))


def read_gpt2(
    vocab: Path, merges: Path, pattern: str | None, special_tokens: Sequence[str] | None
) -> tuple[Vocabulary, Splitter]:
    """Read both files.

    Args:
        vocab: the path of `vocab.json`.
        merges: the path of `merges.txt`.
        pattern: what a word is; "gpt2" if `None`.
        special_tokens: which tokens are special. `None`: those of several characters that no merge makes.

    Raises:
        ValueError: naming the file, and what is wrong in it.
    """
    ids = read_json(vocab)
    if not isinstance(ids, dict) or sorted(map(str, ids.values())) != sorted(map(str, range(len(ids)))):
        raise ValueError(f"{vocab}: expected one mapping of tokens to the ids 0, 1, 2, …")
    names = sorted(ids, key=ids.__getitem__)
    lines = read_text(merges).split("\n")
    lines = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
    try:
        pairs, merged = merges_of_texts(lines, ids)
    except ValueError as error:
        raise ValueError(f"{merges}: {error}; is it of the same tokenizer as {vocab}?") from None
    made = set(merged.tolist())
    if special_tokens is None:
        special_tokens = [name for k, name in enumerate(names) if len(name) > 1 and k not in made]
    missing = [name for name in special_tokens if name not in ids]
    if missing:
        raise ValueError(f"special_tokens: {missing[0]!r} is not in {vocab}; expected tokens that are.")
    special = {name: ids[name] for name in special_tokens}
    try:
        tokens = tuple(name.encode() if name in special else from_text(name) for name in names)
        return Vocabulary(tokens, pairs, merged, special_tokens=special), splitter(pattern or "gpt2")
    except ValueError as error:
        raise ValueError(f"{vocab}: {error}") from None
