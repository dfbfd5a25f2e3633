"""`.tiktoken`: the tokens in base64 with their ranks, one per line. Pattern and special tokens are not in the file.

Neither is what each token was made of; `recover` finds the merges.
"""

import base64
import binascii
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxopt_lite.bpe.arguments import to_bytes
from jaxopt_lite.bpe.encode_words import merge_word
from jaxopt_lite.bpe.formats.content import read_text, resaved, tokens_by_id
from jaxopt_lite.bpe.patterns import Splitter, splitter
from jaxopt_lite.bpe.vocabulary import Vocabulary
from jaxopt_lite.files import write

__all__ = ["LaterPart", "all_merges", "of_ranks", "read_tiktoken", "recover", "write_tiktoken"]


def write_tiktoken(vocabulary: Vocabulary, split: Splitter, path: Path) -> None:
    """Write the tokens with their ids as ranks. Special tokens, the pattern and templates are left out.

    Raises:
        ValueError: a vocabulary whose merges do not follow from the order of its ids, or that is not at byte level, or
            has added tokens or anything else that the format cannot express.
    """
    v = vocabulary
    if v.level != "byte" or v.end_of_word is not None:
        raise ValueError("format='tiktoken' is for byte level without an end-of-word mark; use format='jaxopt_lite'.")
    if v.is_marked or v.unknown is not None:
        raise ValueError("format='tiktoken' has no form for prefixes, suffixes or unknown tokens; use another format.")
    if v.added_tokens:
        raise ValueError(
            f"format='tiktoken' has no form for added tokens, such as {next(iter(v.added_tokens))!r}, which are found "
            "in every text; use format='huggingface'."
        )
    parts = {
        "normalizers": split.normalizer, "words in several steps": split.steps,
        "flags of special tokens": v.flags or None,
    }  # fmt: skip
    for what, part in parts.items():
        if part is not None:
            raise ValueError(
                f"format='tiktoken' has no form for {what}, which this tokenizer has; use format='huggingface'."
            )
    special = set(v.special_tokens.values())
    ids = [k for k, token in enumerate(v.tokens) if token and k not in special]
    tokens = [v.tokens[k] for k in ids]
    if len(set(tokens)) != len(tokens):
        raise ValueError("format='tiktoken' needs distinct tokens; two of them have the same bytes.")
    if not v.by_token:
        _check_order_of(v, ids, tokens)
    lines = [f"{base64.b64encode(v.tokens[k]).decode()} {k}\n" for k in ids]
    write(path, "".join(lines).encode())


def _check_order_of(v: Vocabulary, ids: list[int], tokens: list[bytes]) -> None:
    """Raise ValueError unless the merges are those that follow from the ids."""
    try:
        merges, merged = recover(tokens, _bytes(tokens))
    except ValueError as error:
        raise ValueError(f"format='tiktoken' cannot express these merges: {error}.") from None
    ranks = np.asarray(ids, np.int32)
    found = set(map(tuple, np.column_stack([ranks[merges], ranks[merged]]).tolist()))
    ours = set(map(tuple, np.column_stack([v.merges, v.merged]).tolist()))
    whole = len(tokens) - len(merged) - len(_bytes(tokens))
    if not found <= ours or {new for *_, new in found} != set(v.merged.tolist()) or np.any(np.diff(v.merged) < 0):
        raise ValueError(
            "format='tiktoken' derives merges from the order of the ids, which would give other merges than these; use "
            "format='huggingface'."
        )
    if whole and not v.whole_words:
        raise ValueError(f"format='tiktoken' would find {whole} tokens as whole words that no merge makes.")


def read_tiktoken(
    path: Path, pattern: str | None, special_tokens: Mapping[str, int] | Sequence[str] | None
) -> tuple[Vocabulary, Splitter]:
    """Read the tokens, and recover the merges from their order.

    Args:
        path: the file.
        pattern: what a word is; it must be given.
        special_tokens: text -> id, or texts, which get the ids that the file leaves out, then those after its last.

    Raises:
        ValueError: naming the file, and what is wrong in it.
    """
    _check_no_sentencepiece(path)
    ranks = _ranks(path)
    if pattern is None:
        raise ValueError(
            f"{path} does not say what a word is; pass pattern=, for instance 'gpt4' for cl100k_base, 'o200k' for "
            "o200k_base, or 'gpt2'."
        )
    split = splitter(pattern)
    try:
        tokens_by_id(ranks)
        return of_ranks(ranks, _special(path, ranks, special_tokens)), split
    except ValueError as error:
        raise ValueError(f"{path}: {error}.") from None


def _check_no_sentencepiece(path: Path) -> None:
    """Raise ValueError if it is a model of SentencePiece, which many folders call tokenizer.model too."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"\n") and b"\0" in head:  # the first field, a piece, and its score, which is 0
        raise ValueError(
            f"{path} is a model of SentencePiece; expected tokens in base64 with their ranks. Load the tokenizer.json "
            f"instead, which {resaved(path.parent)} writes."
        )


def of_ranks(ranks: Mapping[int, bytes], special: Mapping[str, int]) -> Vocabulary:
    """The vocabulary of tokens given only by their ranks.

    Args:
        ranks: rank, which is the id, -> token.
        special: text -> id.

    Raises:
        ValueError: ids that are negative or far too large, or tokens with a byte that is not a token.
    """
    everything = tokens_by_id({**ranks, **{k: to_bytes(text) for text, k in special.items()}})
    ids = sorted(ranks)
    tokens = [ranks[k] for k in ids]
    try:
        merges, merged = recover(tokens, _bytes(tokens))
        is_by_token = False
    except LaterPart:
        merges, merged = all_merges(tokens)
        is_by_token = True
    back = np.asarray(ids, np.int32)
    return Vocabulary(
        everything, back[merges], back[merged], special_tokens=special, whole_words=True, by_token=is_by_token
    )


def _bytes(tokens: Sequence[bytes]) -> dict[int, int]:
    """The index of every byte that is a token."""
    return {token[0]: k for k, token in enumerate(tokens) if len(token) == 1}


def _ranks(path: Path) -> dict[int, bytes]:
    """Rank -> token."""
    ranks: dict[int, bytes] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            text, rank = line.split()
            k = int(rank) if rank.isascii() and rank.isdigit() else -1
            token = b"" if text == "=" else base64.b64decode(text, validate=True)  # "=": an empty token, in Whisper
        except (ValueError, binascii.Error):
            raise ValueError(
                f"{path}, line {number}: expected a token in base64 and its rank; got {line[:60]!r}."
            ) from None
        if k in ranks or k < 0:
            raise ValueError(
                f"{path}, line {number}: expected a token and a unique rank, not negative; got {line[:60]!r}."
            )
        ranks[k] = token
    # The id of an empty token stands for nothing; it may be meant for a special token.
    ranks = {k: token for k, token in ranks.items() if token}
    if not ranks:
        raise ValueError(f"{path}: expected tokens in base64 with their ranks; the file is empty.")
    if len(set(ranks.values())) != len(ranks):
        raise ValueError(f"{path}: expected distinct tokens; some have two ranks.")
    return ranks


def _special(path: Path, ranks: Mapping[int, bytes], given) -> dict[str, int]:
    """The special tokens with their ids."""
    if isinstance(given, Mapping):
        taken = {text: k for text, k in given.items() if k in ranks}
        if taken or len(set(given.values())) < len(given):
            raise ValueError(f"special_tokens={taken or given}: expected distinct ids that no token has")
        return dict(given)
    texts, last = list(given or ()), max(ranks)
    holes = [k for k in range(last) if k not in ranks]
    special: dict[str, int] = dict(zip(texts, [*holes, *range(last + 1, last + 1 + len(texts))], strict=False))
    if special:
        warnings.warn(
            f"{path} does not have the ids of special tokens; they got {special}: first ids that it leaves out, then "
            "those that follow. If they have other ids, as in cl100k_base, pass a mapping of texts to ids.",
            stacklevel=5,
        )
    return special


class LaterPart(ValueError):
    """A token that may be made of a token that comes later in the order."""


def all_merges(tokens: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Every way to make a token of two others, ordered by the token made: literally what tiktoken does.

    It joins the two neighbors whose bytes form the token of lowest rank, however they were made, the leftmost first.

    Args:
        tokens: the bytes of each, by rank.

    Returns:
        As `recover`, but with several merges for most tokens.
    """
    ranks = {token: rank for rank, token in enumerate(tokens)}
    merges, merged = [], []
    for rank, token in enumerate(tokens):
        for middle in range(1, len(token)):
            left, right = ranks.get(token[:middle]), ranks.get(token[middle:])
            if left is not None and right is not None:
                merges.append((left, right))
                merged.append(rank)
    return np.asarray(merges, np.int32).reshape(-1, 2), np.asarray(merged, np.int32)


def recover(tokens: Sequence[bytes], first: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The merges that make tokens, given in the order of their ranks, which is the order in which they were learned.

    Earlier merges turn a token's bytes into the two parts of its own merge. If more than two parts are left, no merge
    makes the token, and tiktoken finds it only as a whole word.

    Args:
        tokens: the bytes of each, by rank.
        first: the rank of each byte.

    Returns:
        int32 [M, 2], the merges, and int32 [M], the ranks of what they make.

    Raises:
        LaterPart: a token that may be made of a later one, so that no order of these merges has the same effect.
        ValueError: a token with a byte that is not a token.
    """
    size = len(tokens)
    ranks: dict[int, int] = {}
    merged, merges, whole = [], [], []
    for rank, token in enumerate(tokens):
        if len(token) == 1:
            continue
        if any(byte not in first for byte in token):
            raise ValueError(
                f"the token {token!r:.80} of rank {rank} has a byte that is not a token; expected all bytes to be"
            )
        parts = merge_word([first[byte] for byte in token], ranks, merged, size)
        if len(parts) == 2:
            ranks[parts[0] * size + parts[1]] = len(merged)
            merged.append(rank)
            merges.append(parts)
        else:
            whole.append(rank)
    _check_order(tokens, set(whole))
    return np.asarray(merges, np.int32).reshape(-1, 2), np.asarray(merged, np.int32)


def _check_order(tokens: Sequence[bytes], whole: Collection[int]) -> None:
    """Raise LaterPart if tiktoken, which joins any two neighbors whose bytes are a token, could use later parts."""
    if not whole:
        return
    begins = _beginnings(tokens, whole)
    ends = _beginnings([token[::-1] for token in tokens], whole)
    for rank in whole:
        token = tokens[rank]
        for length, one in begins[rank].items():
            two = ends[rank].get(len(token) - length, -1)
            late = [part for part in (one, two) if part > rank and len(tokens[part]) > 1]
            if two >= 0 and late:
                raise LaterPart(
                    f"the token {token!r:.80} of rank {rank} may be made of {tokens[late[0]]!r:.80} of rank {late[0]}, "
                    "which is learned later; expected the ranks of a byte-pair encoding, where parts come first"
                )


def _beginnings(tokens: Sequence[bytes], wanted: Collection[int]) -> dict[int, dict[int, int]]:
    """For some tokens, by rank: the lengths and ranks of other tokens that they begin with.

    In alphabetical order these come before the token, and each is a prefix of the next.
    """
    found: dict[int, dict[int, int]] = {}
    around: list[int] = []
    for rank in sorted(range(len(tokens)), key=tokens.__getitem__):
        while around and not tokens[rank].startswith(tokens[around[-1]]):
            around.pop()
        if rank in wanted:
            found[rank] = {len(tokens[k]): k for k in around}
        around.append(rank)
    return found
