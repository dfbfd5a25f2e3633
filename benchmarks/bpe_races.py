"""What `benchmarks.bpe` runs in processes of its own: trainers and encoders timed in turn, and the memory of each.

The functions load the packages that they need, so that a process that measures one trainer holds no other.
"""

import hashlib
import json
import re
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.harness import cores

__all__ = ["OURS", "TRAINERS", "documents"]

OURS = "jaxopt_lite"
_REPEATS = 3
_ENCODED = 16_000_000  # characters at most in the race of encoders
_SAMPLE_SECONDS = 0.02
# Between a line end and a visible character words end under the pattern gpt4, whatever is around them.
_CUT = re.compile(r"\n(?=\S)")


def documents(path: Path, size: int = 1000) -> Iterator[str]:
    """The text of a file in pieces of `size` characters or a little more, cut where words end."""
    rest = ""
    with open(path, encoding="utf-8", newline="") as file:
        while block := file.read(1 << 20):
            rest, start = rest + block, 0
            while cut := _CUT.search(rest, start + size):
                yield rest[start : cut.end()]
                start = cut.end()
            rest = rest[start:]
    if rest:
        yield rest


def _gpt4() -> str:
    """The pattern, for peers."""
    from jaxopt_lite.bpe.patterns import GPT4

    return GPT4


def _train_ours(path: Path, size: int, **settings):
    from jaxopt_lite import bpe

    return bpe.train(path, size, progress=False, **settings)


def _train_rustbpe(path: Path, size: int, pattern: str):
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(documents(path), size, pattern=pattern)
    return tokenizer


def _train_tokenizers(path: Path, size: int, pattern: str):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    byte_level, alphabet = pre_tokenizers.ByteLevel, pre_tokenizers.ByteLevel.alphabet()
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(documents(path), trainer)
    return tokenizer


def _train_sentencepiece(path: Path, size: int):
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.train(
            input=str(path), model_prefix=f"{folder}/model", model_type="bpe", vocab_size=size, byte_fallback=True,
            hard_vocab_limit=False, max_sentence_length=1 << 20, num_threads=cores(), minloglevel=2,
        )  # fmt: skip


# name: (package, loads its packages and returns (path, size) -> what it trained)
def _with_pattern(train: Callable) -> Callable:
    def load():
        pattern = _gpt4()
        return lambda path, size: train(path, size, pattern)

    return load


TRAINERS: dict[str, tuple[str, Callable]] = {
    OURS: ("jaxopt-lite", lambda: _train_ours),
    "rustbpe": ("rustbpe", _with_pattern(_train_rustbpe)),
    "tokenizers": ("tokenizers", _with_pattern(_train_tokenizers)),
    "sentencepiece, words of its own": ("sentencepiece", lambda: _train_sentencepiece),
}
