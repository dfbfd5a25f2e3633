"""Texts and small tokenizers of other libraries, for the tests of encoding and of files."""

import base64
import random
import sysconfig
import unicodedata
from functools import cache
from pathlib import Path

import rustbpe
import tiktoken
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from jaxopt_lite.bpe.patterns import GPT2, GPT4

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPECIAL = ["<|begin|>", "<|end|>"]
SPECIAL_IDS = {"<|begin|>": 1500, "<|end|>": 1501}  # behind 1,500 tokens

MANY_LANGUAGES = (
    "Zwölf Boxkämpfer jagen Viktor. Příliš žluťoučký kůň úpěl. Съешь ещё этих мягких булок. いろはにほへと ちりぬるを。"
    "天地玄黃宇宙洪荒日月盈昃。 키스의 고유조건은 입술끼리 만나야. نص حكيم له سر قاطع. ऋषियों को सताने वाले दुष्ट। "
    "עטלף אבק נס דרך.\n"
)
ODD = [
    "", " ", "\n\n  \n", "a" * 33, "ab" * 40, "aab" * 31, "abababa", "".join(map(chr, range(256))), "\x1c\x1d \x1f",
    "👩‍👩‍👧‍👦👍🏽", "e\u0301\u0323 a\u030a", "今日は天気がいい",
    "\ufeff", "ſ's Kʼs", "don't DON'T", "1234567",
    "\r\n \r\n", "a  b   c    ", "\t\tx ",
    "\U0010ffff\ue000", "ﬁﬃ", "x" * 1000 + "y", "=" * 300, "hello\xa0world\u3000!",
]  # fmt: skip


@cache
def sources(characters=150_000):
    """Text of Python's standard library."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    texts, size = [], 0
    for path in paths:
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        size += len(texts[-1])
        if size > characters:
            break
    return [*texts, MANY_LANGUAGES * 30]


def real_texts(characters=40_000_000):
    """The sources and texts of the standard library, its tests among them, and of the packages that are installed."""
    size = 0
    for folder in (sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"]):
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix in (".py", ".txt", ".md", ".rst") and (text := _read(path)):
                yield text
                size += len(text)
                if size > characters:
                    return


def _read(path):
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def unicode_names():
    """The names of all characters."""
    return {unicodedata.name(chr(code), "") for code in range(0x110000)} - {""}


def odd_texts(count, seed=0):
    """Random texts of few letters, of runs, and of any characters."""
    choose = random.Random(seed)
    alphabets = ["a", "ab", "aab ", "self.xy_ ", "\n\t x", MANY_LANGUAGES, "".join(map(chr, range(1, 0xD800)))]
    texts = []
    for _ in range(count):
        letters = choose.choice(alphabets)
        texts.append("".join(choose.choice(letters) for _ in range(choose.randrange(60))))
    return ODD + texts


@cache
def huggingface(kind="gpt2", size=1500):
    """A tokenizer of Hugging Face: "gpt2" (ByteLevel alone) or "llama3" (Split, ignore_merges, a template around)."""
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "gpt2")
    split = [pre_tokenizers.Split(Regex(LLAMA3), "isolated")] if kind == "llama3" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, byte_level]) if split else byte_level
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(sources(), trainer)
    if kind == "llama3":
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
        )
    return tokenizer


@cache
def ranks(size=1500, pattern=GPT4):
    """Token -> rank, as in a file of tiktoken."""
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(sources()), size, pattern=pattern)
    return {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}


def tiktoken_of(known, pattern=GPT4, special=()):
    """tiktoken itself, with these ranks."""
    special = {text: len(known) + k for k, text in enumerate(special)}
    return tiktoken.Encoding("test", pat_str=pattern, mergeable_ranks=known, special_tokens=special)


def write_ranks(path, known):
    """Write a file of tiktoken."""
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in known.items()))
    return path


__all__ = [
    "GPT2",
    "GPT4",
    "SPECIAL",
    "SPECIAL_IDS",
    "huggingface",
    "odd_texts",
    "ranks",
    "real_texts",
    "sources",
    "tiktoken_of",
    "unicode_names",
    "write_ranks",
]
