"""Merges from ranks: a file of tiktoken holds tokens in the order they were learned, without what they were made of."""

from collections.abc import Collection, Mapping, Sequence

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
    ranks: dict[int, int] = {}
    merged, merges, whole = [], [], []
    for rank, token in enumerate(tokens):
        if len(token) == 1:
            continue
        if any(byte not in first for byte in token):
            raise ValueError(
                f"the token {token!r:.80} of rank {rank} has a byte that is no token; expected all of them"
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
    """tiktoken joins any two neighbours whose bytes are a token; later parts would join into this one after all."""
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
                raise ValueError(
                    f"the token {token!r:.80} of rank {rank} may be made of {tokens[late[0]]!r:.80} of rank {late[0]}, "
                    "which is learned later; expected the ranks of a byte-pair encoding, where parts come first"
                )


def _beginnings(tokens: Sequence[bytes], wanted: Collection[int]) -> dict[int, dict[int, int]]:
    """For some tokens, by rank: the lengths and ranks of other tokens that they begin with.

    In alphabetical order these stand before a token, each one a beginning of the next.
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
