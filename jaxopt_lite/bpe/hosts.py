"""One corpus on many hosts: each counts the words of its own part, and all have the sum.

What travels is each host's distinct words with their counts, once, before training. Every host then learns the same
merges from the same counts.
"""

import json
from collections import Counter
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxopt_lite.bpe.words import checked_counts

__all__ = ["sum_over_hosts"]


def sum_over_hosts(counts: Mapping[str, int]) -> Counter[str]:
    """Add up the word counts of all processes of a `jax.distributed` job; each gets the sum.

    Every process must call it, also one whose part of the corpus is empty. Of one process it is the counts themselves.

    Args:
        counts: what this process has counted, for instance by `count_words`.

    Returns:
        The sum, its words in alphabetical order on every process.

    Raises:
        TypeError: words or counts of other types.
        ValueError: counts below zero.

    Example:
        >>> from jaxopt_lite import bpe
        >>> words = bpe.count_words(["to be or not to be"], bpe.splitter("whitespace"))  # of this host's files
        >>> bpe.sum_over_hosts(words)["be"]
        2
    """
    total = checked_counts(counts)
    if jax.process_count() > 1:
        parts = _from_all(json.dumps(total).encode())  # in ASCII, whatever the words hold
        total = Counter()
        for part in parts:
            total.update(json.loads(part))
    return Counter(dict(sorted(total.items())))


def _from_all(message: bytes) -> list[bytes]:
    """The messages of all processes, in their order."""
    lengths = np.ravel(multihost_utils.process_allgather(np.int32(len(message))))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(message)] = np.frombuffer(message, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:length]) for row, length in zip(rows, lengths, strict=True)]
