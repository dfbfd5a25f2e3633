"""CLIP's merges, `bpe_simple_vocab_16e6.txt`, compressed or not: one per line, from which its vocabulary follows.

The ids are those of Hugging Face's conversion: bytes, bytes at the end of a word, what the merges make, two special
tokens; texts are lower-cased and brought to one normal form, and whitespace is dropped. OpenAI's own code and OpenCLIP
also repair texts first (ftfy, HTML entities), which is not done here.
"""

import gzip
import json
from pathlib import Path

from jaxopt_lite.bpe.around import Around
from jaxopt_lite.bpe.formats.huggingface import from_json
from jaxopt_lite.bpe.letters import as_characters, byte_order
from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.steps import WORDS_OF_CLIP
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["is_clip", "read_clip"]

_BEGINNING = b'"bpe_simple_vocab_16e6.txt#version'
_MERGES = 49152 - 2 * 256 - 2  # of 49,152 tokens; the file holds more
_SUFFIX = "</w>"
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def is_clip(path: Path) -> bool:
    """Whether a file begins like CLIP's merges."""
    return _opened(path, len(_BEGINNING)) == _BEGINNING


def _opened(path: Path, size: int = -1) -> bytes:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return file.read(size)


def read_clip(path: Path) -> tuple[Vocabulary, Splitter, Around]:
    """Read the merges, and derive the rest.

    Raises:
        ValueError: a line that is not a merge.
    """
    lines = _opened(path).decode().split("\n")[1 : _MERGES + 1]
    merges = [line.split() for line in lines if line.strip()]
    letters = [as_characters(byte) for byte in byte_order("gpt2")]
    tokens = [*letters, *(letter + _SUFFIX for letter in letters), *map("".join, merges), *_SPECIAL]
    ids = {token: k for k, token in enumerate(tokens)}
    added = [
        {"id": ids[text], "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for text in _SPECIAL
    ]  # fmt: skip
    start, end = ([text, ids[text]] for text in _SPECIAL)
    content = {
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS_OF_CLIP}, "behavior": "Removed", "invert": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": end, "cls": start, "trim_offsets": False,
                           "add_prefix_space": False},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            {"type": "Replace", "pattern": {"String": _SUFFIX}, "content": " "},
        ]},
        "model": {"type": "BPE", "unk_token": _SPECIAL[1], "end_of_word_suffix": _SUFFIX, "vocab": ids,
                  "merges": merges},
    }  # fmt: skip
    return from_json(json.loads(json.dumps(content)), str(path))
