"""Byte-pair encoding: training by vectorised pair counting, encoding, and the files of other tokenizers.

`train` learns a `Tokenizer` from text, `load` reads one from a file; `count_pairs` is the counting kernel itself.
"""

from typing import TYPE_CHECKING

from jaxopt_lite.bpe.formats.load import load
from jaxopt_lite.bpe.patterns import Splitter, splitter
from jaxopt_lite.bpe.tokenizer import Tokenizer
from jaxopt_lite.bpe.train import train
from jaxopt_lite.bpe.vocabulary import Vocabulary
from jaxopt_lite.bpe.words import count_words
from jaxopt_lite.lazy import lazy

if TYPE_CHECKING:
    from jaxopt_lite.bpe.hosts import sum_over_hosts
    from jaxopt_lite.bpe.pairs import Pairs, count_pairs

__all__ = [
    "Pairs",
    "Splitter",
    "Tokenizer",
    "Vocabulary",
    "count_pairs",
    "count_words",
    "load",
    "splitter",
    "sum_over_hosts",
    "train",
]

_NAMES_IN = {"hosts": ["sum_over_hosts"], "pairs": ["Pairs", "count_pairs"]}  # which alone need JAX
__getattr__, __dir__ = lazy(__name__, _NAMES_IN)
