"""Merges from ranks: a file of tiktoken holds tokens in the order they were learned, without what they were made of."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxopt_lite.bpe.merging import merge_word

__all__ = ["recover"]


def recover(tokens: Sequence[bytes], first: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The merges that make tokens, given in the order of their ranks.

    What earlier merges make of a token's bytes are the two parts of its own merge. Where there are more, no merge makes
    it, and tiktoken finds it as a whole word only.

    Args:
        tokens: the bytes of each, by rank.
        first: the rank of each byte.

    Returns:
        int32 [M, 2], the merges, and int32 [M], the ranks of what they make.

    Raises:
        ValueError: a token that may be made of a later one, so that no order of merges has the same effect.
    """
    size = len(tokens)
    rank_of = {token: rank for rank, token in enumerate(tokens)}
    ranks: dict[int, int] = {}
    merged, merges, whole = [], [], []
    for rank, token in enumerate(tokens):
        if len(token) == 1:
            continue
        if any(byte not in first for byte in token):
            raise ValueError(f"the token {token!r} of rank {rank} has a byte that is no token; expected all its bytes")
        parts = merge_word([first[byte] for byte in token], ranks, merged, size)
        if len(parts) == 2:
            ranks[parts[0] * size + parts[1]] = len(merged)
            merged.append(rank)
            merges.append(parts)
        else:
            whole.append(rank)
    for rank in whole:
        _check_order(tokens, rank, rank_of)
    return np.asarray(merges, np.int32).reshape(-1, 2), np.asarray(merged, np.int32)


def _check_order(tokens: Sequence[bytes], rank: int, rank_of: Mapping[bytes, int]) -> None:
    """tiktoken joins any two neighbours whose bytes are a token; later parts would join into this one after all."""
    token = tokens[rank]
    for cut in range(1, len(token)):
        parts = token[:cut], token[cut:]
        late = [part for part in parts if len(part) > 1 and rank_of.get(part, -1) > rank]
        if late and all(part in rank_of for part in parts):
            raise ValueError(
                f"the token {token!r} of rank {rank} may be made of {late[0]!r} of rank {rank_of[late[0]]}, which is "
                "learned later; expected the ranks of a byte-pair encoding, where parts come first"
            )
