"""Encoding in several processes: texts are divided into parts, and whichever process is free encodes the next part."""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from jaxopt_lite.bpe.encode import Encoder
from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.pieces import groups
from jaxopt_lite.bpe.vocabulary import Vocabulary
from jaxopt_lite.bpe.workers import Workers

__all__ = ["encode"]

_PART = 1 << 20  # characters of a part, approximately

_Part = tuple[Sequence[str], Sequence[bool]]
_Row = tuple[np.ndarray, np.ndarray]


def encode(encoder: Encoder, texts: Sequence[str], firsts: Sequence[bool] = (), processes: int = 1) -> list[list[int]]:
    """`Encoder.encode` in this process and in others.

    Args:
        encoder: the encoder of this process. Its cache helps here; workers begin with empty caches.
        texts: as for `Encoder.encode`.
        firsts: as for `Encoder.encode`.
        processes: at most how many encode, this one included.
    """
    if processes == 1:
        return encoder.encode(texts, firsts)
    answers: dict[int, list[list[int]] | _Row | ValueError] = {}
    here, task = _Here(encoder), (_There, encoder.vocabulary, encoder.splitter)
    with Workers("encoding", here, task, processes, answers.__setitem__) as workers:
        at = 0
        for part in groups(texts, _PART):
            workers.put((part, firsts[at : at + len(part)]), at)
            at += len(part)
        workers.end()
    rows = []
    for _, answer in sorted(answers.items()):
        if isinstance(answer, ValueError):
            raise answer
        rows += encoder.as_lists(*answer) if isinstance(answer, tuple) else answer
    return rows


class _Here:
    """Encodes in this process."""

    def __init__(self, encoder: Encoder):
        self._encoder = encoder

    def do(self, part: _Part) -> list[list[int]] | ValueError:
        try:
            return self._encoder.encode(*part)
        except ValueError as error:  # raised later if it is the first among all parts
            return error

    def end(self) -> None:
        """There is nothing left to return."""


class _There:
    """Encodes in a worker, which answers with arrays: the ids of all texts, and where those of each text end."""

    def __init__(self, vocabulary: Vocabulary, splitter: Splitter):
        self._here = _Here(Encoder(vocabulary, splitter))

    def do(self, part: _Part) -> _Row | ValueError:
        rows = self._here.do(part)
        if isinstance(rows, ValueError):
            return rows
        ends = np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)))
        return np.fromiter(chain.from_iterable(rows), np.int32, ends[-1]), ends

    def end(self) -> None:
        """There is nothing left to return."""
