"""`.tiktoken`: the tokens in base64 with their ranks, one a line. Pattern and special tokens stand outside the file."""

import base64
import binascii
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxopt_lite.bpe.formats.ids import tokens_by_id
from jaxopt_lite.bpe.formats.plain import read_text, write_text
from jaxopt_lite.bpe.formats.recover import recover
from jaxopt_lite.bpe.patterns import Splitter, splitter
from jaxopt_lite.bpe.utf8 import to_bytes
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["read_tiktoken", "write_tiktoken"]


def write_tiktoken(vocabulary: Vocabulary, path: Path) -> None:
    """Write the tokens with their ids as ranks. Special tokens and the pattern are left out: the form has no place.

    Raises:
        ValueError: a vocabulary whose merges do not follow from the order of its ids, or not of bytes, or with tokens
            that are found in every text.
    """
    v = vocabulary
    if v.level != "byte" or v.end_of_word is not None:
        raise ValueError("format='tiktoken' is for byte level without an end-of-word mark; use format='jaxopt_lite'.")
    if v.added_tokens:
        raise ValueError(
            f"format='tiktoken' has no form for added tokens, such as {next(iter(v.added_tokens))!r}, which are found "
            "in every text; use format='huggingface'."
        )
    special = set(v.special_tokens.values())
    ids = [k for k, token in enumerate(v.tokens) if token and k not in special]
    tokens = [v.tokens[k] for k in ids]
    if len(set(tokens)) != len(tokens):
        raise ValueError("format='tiktoken' needs different tokens; two of them have the same bytes.")
    try:
        merges, merged = recover(tokens, _bytes(tokens))
    except ValueError as error:
        raise ValueError(f"format='tiktoken' cannot say these merges: {error}.") from None
    ranks = np.asarray(ids, np.int32)
    found = set(map(tuple, np.column_stack([ranks[merges], ranks[merged]]).tolist()))
    ours = set(map(tuple, np.column_stack([v.merges, v.merged]).tolist()))
    whole = len(tokens) - len(merged) - len(_bytes(tokens))
    if not found <= ours or {new for *_, new in found} != set(v.merged.tolist()) or np.any(np.diff(v.merged) < 0):
        raise ValueError(
            "format='tiktoken' finds merges by the order of the ids, and these merges are others; use "
            "format='huggingface'."
        )
    if whole and not v.whole_words:
        raise ValueError(f"format='tiktoken' would find {whole} tokens as words that no merge makes.")
    lines = [f"{base64.b64encode(v.tokens[k]).decode()} {k}\n" for k in ids]
    write_text(path, "".join(lines))


def read_tiktoken(
    path: Path, pattern: str | None, special_tokens: Mapping[str, int] | Sequence[str] | None
) -> tuple[Vocabulary, Splitter]:
    """Read the tokens, and recover the merges from their order.

    Args:
        path: the file.
        pattern: what a word is; it must be given.
        special_tokens: text -> id, or texts, which get the ids that the file leaves out, then those behind its last.

    Raises:
        ValueError: naming the file, and what is wrong in it.
    """
    if pattern is None:
        raise ValueError(
            f"{path} does not say what a word is; pass pattern=, for instance 'gpt4' for cl100k_base, 'o200k' for "
            "o200k_base, or 'gpt2'."
        )
    split, ranks = splitter(pattern), _ranks(path)
    try:
        tokens_by_id(ranks)
        special = _special(path, ranks, special_tokens)
        everything = tokens_by_id(ranks | {k: to_bytes(text) for text, k in special.items()})
        ids = sorted(ranks)
        tokens = [ranks[k] for k in ids]
        merges, merged = recover(tokens, _bytes(tokens))
        back = np.asarray(ids, np.int32)
        return Vocabulary(everything, back[merges], back[merged], special_tokens=special, whole_words=True), split
    except ValueError as error:
        raise ValueError(f"{path}: {error}.") from None


def _bytes(tokens: Sequence[bytes]) -> dict[int, int]:
    """The place of every byte that is a token."""
    return {token[0]: k for k, token in enumerate(tokens) if len(token) == 1}


def _ranks(path: Path) -> dict[int, bytes]:
    """Rank -> token."""
    ranks: dict[int, bytes] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            text, rank = line.split()
            token, k = base64.b64decode(text, validate=True), int(rank) if rank.isascii() and rank.isdigit() else -1
        except (ValueError, binascii.Error):
            raise ValueError(
                f"{path}, line {number}: expected a token in base64 and its rank; got {line[:60]!r}."
            ) from None
        if k in ranks or k < 0 or not token:
            raise ValueError(
                f"{path}, line {number}: expected a token and a rank of its own, not negative; got {line[:60]!r}."
            )
        ranks[k] = token
    if not ranks:
        raise ValueError(f"{path}: expected tokens in base64 with their ranks; the file is empty.")
    if len(set(ranks.values())) != len(ranks):
        raise ValueError(f"{path}: expected different tokens; some have two ranks.")
    return ranks


def _special(path: Path, ranks: Mapping[int, bytes], given) -> dict[str, int]:
    """The special tokens with their ids."""
    if isinstance(given, Mapping):
        taken = {text: k for text, k in given.items() if k in ranks}
        if taken or len(set(given.values())) < len(given):
            raise ValueError(f"special_tokens={taken or given}: expected ids of their own, that no token has")
        return dict(given)
    texts, last = list(given or ()), max(ranks)
    holes = [k for k in range(last) if k not in ranks]
    special: dict[str, int] = dict(zip(texts, [*holes, *range(last + 1, last + 1 + len(texts))], strict=False))
    if special:
        warnings.warn(
            f"{path} does not say the ids of special tokens; they were given {special}, what it leaves out and then "
            "what follows. If they have others, as in cl100k_base, pass a mapping of texts to ids.",
            stacklevel=5,
        )
    return special
