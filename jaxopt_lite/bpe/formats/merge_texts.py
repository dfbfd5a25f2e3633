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
        missing = [text for text in (*parts, "".join(parts)) if text not in ids]
        if missing:
            raise ValueError(f"merge {k}, {merge!r:.80}, needs {missing[0]!r:.80}, which is not in the vocabulary")
        pairs.append([ids[parts[0]], ids[parts[1]]])
        made.append(ids["".join(parts)])
    return whole_numbers("merges", pairs, np.int32, 2), whole_numbers("merged", made, np.int32)
