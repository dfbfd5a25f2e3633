"""GPT-2's `vocab.json` and `merges.txt`: byte-level tokens with their ids, and merges, one per line.

What the two cannot express is in a `tokenizer.json` next to them, which is written first and completely, and which
readers of folders prefer: so a folder holds exactly one tokenizer at any time. For readers of the two files alone, the
first line of `merges.txt`, which other libraries skip, says it too, with a checksum of both files.
"""

import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxopt_lite.bpe.around import Around
from jaxopt_lite.bpe.formats.content import check_shape, merges_of_texts, read_json, read_text, resaved, tokens_by_id
from jaxopt_lite.bpe.formats.huggingface import as_json, texts_of
from jaxopt_lite.bpe.letters import from_characters, is_byte
from jaxopt_lite.bpe.patterns import Splitter, splitter
from jaxopt_lite.bpe.vocabulary import Vocabulary
from jaxopt_lite.files import write

__all__ = ["read_gpt2", "write_gpt2"]

_VOCAB, _MERGES, _WHOLE = "vocab.json", "merges.txt", "tokenizer.json"
_VERSION = "#version: 0.2"
_SUFFIX = "</w>"
_SIGNS = frozenset(string.punctuation)  # special tokens of all models contain some: "<|endoftext|>", "[PAD]"
_NOTE = {
    "pattern": str, "whole_words": bool, "special_tokens": [str], "added_tokens": [str], "found_last": [str],
    "checksum": str,
}  # fmt: skip


def write_gpt2(vocabulary: Vocabulary, split: Splitter, around: Around, folder: Path) -> None:
    """Write all three files into a folder, which is created if necessary.

    Raises:
        ValueError: a vocabulary of characters, or with a mark, or anything else that the files cannot express.
    """
    v = vocabulary
    if v.level != "byte" or v.end_of_word is not None:
        raise ValueError(
            "format='gpt2' is for byte level without an end-of-word mark; use format='huggingface' for characters, and "
            "format='jaxopt_lite' for a mark."
        )
    is_plain = split.steps is None and split.normalizer is None and not v.is_marked and v.unknown is None
    if not is_plain or v.flags or v.in_model:
        raise ValueError(
            "format='gpt2' has no form for normalizers, steps, marks or flags, some of which this tokenizer has; use "
            "format='transformers', which is a folder too."
        )
    whole, texts = json.dumps(as_json(v, split, around), ensure_ascii=False, indent=1), texts_of(v)
    vocab = json.dumps({text: k for k, text in enumerate(texts) if text}, ensure_ascii=False)
    merges = "".join(f"{texts[left]} {texts[right]}\n" for left, right in v.merges.tolist())
    note = {
        "pattern": split.pattern if split.name == "custom" else split.name, "whole_words": bool(v.whole_words),
        "special_tokens": list(v.special_tokens), "added_tokens": list(v.added_tokens),
        "found_last": sorted(v.found_last),
    }  # fmt: skip
    note["checksum"] = _checksum(note, vocab, merges)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / _WHOLE, whole.encode())
    write(folder / _VOCAB, vocab.encode())
    write(folder / _MERGES, f"{_VERSION} {json.dumps(note)}\n{merges}".encode())


def _checksum(note: Mapping[str, Any], vocab: str, merges: str) -> str:
    rest = json.dumps({name: value for name, value in note.items() if name != "checksum"}, sort_keys=True)
    return hashlib.sha256("\n".join([rest, vocab, merges]).encode()).hexdigest()


def read_gpt2(
    vocab: Path, merges: Path, pattern: str | None, special_tokens: Sequence[str] | None
) -> tuple[Vocabulary, Splitter]:
    """Read `vocab.json` and `merges.txt`.

    Args:
        vocab: the path of `vocab.json`.
        merges: the path of `merges.txt`.
        pattern: what a word is. `None`: what `merges.txt` says, or "gpt2".
        special_tokens: which tokens are special. `None`: those that `merges.txt` lists, or those of several characters
            that no merge makes.

    Raises:
        ValueError: naming the file, and what is wrong in it.
    """
    ids = read_json(vocab)
    try:
        check_shape(ids, {str: int})
    except ValueError as error:
        raise ValueError(f"{vocab}: expected one mapping of tokens to ids; {error}.") from None
    head, line_end, body = read_text(merges).partition("\n")
    note = _note(head, vocab, merges, body) if head.startswith(_VERSION) else {}
    lines = (body if head.startswith("#version") else f"{head}{line_end}{body}").split("\n")
    lines = [line.rstrip("\r") for line in lines if line.strip()]
    try:
        pairs, merged = merges_of_texts(lines, ids)
    except ValueError as error:
        raise ValueError(f"{merges}: {error}; is it of the same tokenizer as {vocab}?") from None
    if not note:
        _check_no_suffix(vocab, ids, set(merged.tolist()))
    if special_tokens is None:
        special_tokens = note["special_tokens"] if note else _guessed(vocab, merges, ids, set(merged.tolist()))
    return _tokenizer(vocab, ids, pairs, merged, special_tokens, pattern, note)


def _check_no_suffix(vocab: Path, ids: Mapping[str, int], made: set[int]) -> None:
    """Raise ValueError if symbols at the end of a word are tokens of their own, as in CLIP and the first GPT."""
    marked = [name for name, k in ids.items() if k not in made and name[1:] == _SUFFIX]
    if marked:
        raise ValueError(
            f"{vocab} has {marked[0]!r}, a symbol that ends a word, as in CLIP; expected bytes as in GPT-2. Load the "
            f"tokenizer.json instead, which {resaved(vocab.parent)} writes."
        )


def _guessed(vocab: Path, merges: Path, ids: Mapping[str, int], made: set[int]) -> list[str]:
    """The tokens of several characters that no merge makes, if they look like special ones."""
    names = [name for name, k in ids.items() if len(name) > 1 and k not in made]
    plain = [name for name in names if not _SIGNS.intersection(name) or any(c > "\xff" and is_byte(c) for c in name)]
    if plain:
        raise ValueError(
            f"{vocab} has {plain[0]!r} and {len(names) - 1} more tokens that no merge in {merges} makes. Is that file "
            "truncated, or of another tokenizer? If it is complete, pass special_tokens=, those that are special."
        )
    return names


def _note(head: str, vocab: Path, merges: Path, body: str) -> dict[str, Any]:
    """What the first line says, if this package wrote it."""
    try:
        note = json.loads(head.removeprefix(_VERSION))
        check_shape(note, _NOTE)
    except (ValueError, RecursionError):
        return {}  # another library wrote it
    if note["checksum"] != _checksum(note, read_text(vocab), body):
        raise ValueError(
            f"{vocab} and {merges} do not fit together: the checksum in {merges} does not match. One of them was "
            "truncated or altered, or they are of two tokenizers."
        )
    return note


def _tokenizer(vocab: Path, ids, pairs, merged, special_tokens, pattern, note) -> tuple[Vocabulary, Splitter]:
    special = set(special_tokens)
    added = [name for name in note.get("added_tokens", ()) if name not in special]
    found = special.union(added)
    if missing := [name for name in (*special_tokens, *added) if name not in ids]:
        raise ValueError(f"special_tokens: {missing[0]!r} is not in {vocab}; expected tokens that are.")
    try:
        known = {k: name.encode() if name in found else from_characters(name) for name, k in ids.items()}
        if len(known) < len(ids):
            raise ValueError(f"{len(ids)} tokens have {len(known)} ids; expected one each")
        vocabulary = Vocabulary(
            tokens_by_id(known), pairs, merged, special_tokens={name: ids[name] for name in special_tokens},
            whole_words=note.get("whole_words", False), added_tokens={name: ids[name] for name in added},
            found_last=frozenset(note.get("found_last", ())) & found,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{vocab}: {error}") from None
    return vocabulary, splitter(pattern or note.get("pattern", "gpt2"))
