"""Learning merges on a device and on the host, from made-up words that are the same in every run."""

import time

import jax
import numpy as np

from jaxopt_lite import bpe

__all__ = ["made_up_words", "race"]

_SYLLABLES, _MOST = 3_000, 5  # syllables there are; syllables in a word, at most
_LETTERS = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))


def made_up_words(symbols: int) -> dict[str, int]:
    """Distinct words, word -> count, of about `symbols` bytes. Letters, syllables and words follow Zipf's law."""
    draw, words, size = np.random.default_rng(0), {}, 0
    lengths = draw.integers(1, 4, _SYLLABLES)
    syllables = ["".join(draw.choice(_LETTERS, length, p=_zipf(_LETTERS.size))) for length in lengths]
    while size < symbols:
        many = 10_000
        picked = draw.choice(_SYLLABLES, (many, _MOST), p=_zipf(_SYLLABLES))
        for row, length in zip(picked, draw.integers(1, _MOST + 1, many), strict=True):
            word = " " + "".join(syllables[k] for k in row[:length])
            if word not in words:
                words[word] = 10_000_000 // (len(words) + 1) + 1
                size += len(word)
    return words


def _zipf(size: int) -> np.ndarray:
    weights = 1 / np.arange(1, size + 1)
    return weights / weights.sum()


def race(symbols: int, vocabulary: int) -> list[dict]:
    """A row for the device and one for the host: the same words, the same merges."""
    words, device = made_up_words(symbols), jax.devices()[0]
    rows, learned = [], []
    for name, place in (("merging on the device", device), ("merging on the host", None)):
        seconds = []
        for _ in range(2 if place is not None else 1):  # the first compiles
            begin = time.perf_counter()
            learned.append(bpe.train(words, vocabulary, device=place, progress=False))
            seconds.append(time.perf_counter() - begin)
        rows.append({
            "solver": name, "problems": len(learned[-1].vocabulary.merges), "symbols": sum(map(len, words)),
            "compile_s": seconds[0] - seconds[-1], "run_s": seconds[-1],
        })  # fmt: skip
    same = all(np.array_equal(one.vocabulary.merges, learned[0].vocabulary.merges) for one in learned)
    return [row | {"same": same} for row in rows]
