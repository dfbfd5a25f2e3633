"""The trainers of `benchmarks.bpe`, and the pieces in which they get a text. Loads none of the packages by itself.

A trainer loads the package it needs, so that a process that measures the memory of one holds no other.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxopt_lite.cores import cores

__all__ = ["OURS", "TRAINERS", "documents"]

OURS = "jaxopt_lite"
# Under the pattern gpt4 words end between a line end and a visible character, and between a visible character and a
# space, whatever is around them.
_CUT = re.compile(r"\n(?=\S)|(?<=\S)(?= )")


def documents(path: Path, size: int = 1000) -> Iterator[str]:
    """The text of a file in pieces of `size` characters or slightly more, cut where words end."""
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


# --- Trainers: (file, size of the vocabulary, pattern) -> what they trained -----------------------------------------


def _ours(path: Path, size: int, pattern: str):
    from jaxopt_lite import bpe

    return bpe.train(path, size, pattern=pattern, progress=False)


def _rustbpe(path: Path, size: int, pattern: str):
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(documents(path), size, pattern=pattern)
    return tokenizer


def _tokenizers(path: Path, size: int, pattern: str):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(documents(path), trainer)
    return tokenizer


def _sentencepiece(path: Path, size: int, pattern: str):
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.train(
            input=str(path), model_prefix=f"{folder}/model", model_type="bpe", vocab_size=size, byte_fallback=True,
            hard_vocab_limit=False, max_sentence_length=1 << 24, num_threads=cores(), minloglevel=2,
        )  # fmt: skip


# name: (package, module, trainer)
TRAINERS: dict[str, tuple[str, str, Callable]] = {
    OURS: ("jaxopt-lite", "jaxopt_lite.bpe", _ours),
    "rustbpe": ("rustbpe", "rustbpe", _rustbpe),
    "tokenizers": ("tokenizers", "tokenizers", _tokenizers),
    "sentencepiece, other words": ("sentencepiece", "sentencepiece", _sentencepiece),
}
