"""Merges as lists of texts, as files of Hugging Face and GPT-2 have them."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxopt_lite.bpe.given import whole_numbers

__all__ = ["merges_of_texts"]


def merges_of_texts(merges: Sequence[str | Sequence[str]], ids: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Merges as ids.

    Args:
        merges: of each its left and right text, as a list or as one text with a space between.
        ids: text -> id.

    Returns:
        int32 [M, 2], left and right, and int32 [M], what they make.

    Raises:
        ValueError: a merge that is none, or of texts that are no tokens.
    """
    pairs, made = [], []
    for k, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if len(parts) != 2:
            raise ValueError(f"merge {k} is {merge!r:.80}; expected two texts")
        left, right = parts
        try:
            pairs.append((ids[left], ids[right]))
            made.append(ids[left + right])
        except KeyError as error:
            problem = f"needs {error.args[0]!r:.80}, which is not in the vocabulary"
            raise ValueError(f"merge {k}, {merge!r:.80}, {problem}") from None
    return whole_numbers("merges", pairs, np.int32, 2), whole_numbers("merged", made, np.int32)
