"""Constructs of regular expressions in two languages: `python -m benchmarks.bpe_patterns [--serving PYTHON]`.

Each is read from a `tokenizer.json`, as a pattern of Oniguruma, and written to one, as a pattern of `regex`. Its words
must be those of `tokenizers` 0.23 on texts made to be nasty, or there must be a refusal that names the construct. With
an interpreter that has tokenizers 1.0, what was written runs there too: 1.0 takes few patterns, by their text, and for
all others a warning must have said so on saving.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import harness
from benchmarks.bpe_real import byte_letters

# Constructs of both languages, whatever they mean there.
CONSTRUCTS = [
    r"\w+|[^\w\s]+", r"\W+", r"\d+|\D", r"\s+|\S+", r"\h+", r"\H+", r"\bx|.", r"x\b|.", r"\B.", r"\A.", r".\Z", r".\z",
    "^.", ".$", r"\v+", r"\a|\S", r"\x0B|.", r"\x41+", r"\u00e9+", r"\n+|.", r"\r\n|.", r"\t+", r"\f|\S", r"\R", r"\X",
    r"\p{L}+", r"\p{Lu}\p{Ll}*", r"\P{L}+", r"\p{^L}+", r"\P{^L}+", r"\p{N}", r"\p{Nd}+", r"\p{M}+", r"\p{P}+",
    r"\p{S}", r"\p{Zs}+", r"\p{Han}+", r"\p{Hiragana}+", r"\p{Latin}+", r"\p{Alphabetic}+", r"\p{Lowercase}+",
    r"[a-z]+", r"[^a-z]+", r"[\w-]+", r"[^\W_]+", r"[\W_]+", r"[\d.,]+", r"[\s\S]", r"[^\s\S]|.", r"[a&&b]+",
    r"[a-z&&[^aeiou]]+", r"[\p{L}&&[^\p{Han}]]+", r"[[a-c][x-z]]+", r"[^[a-c]x]+", r"[[:alpha:]]+", r"[[:digit:]]+",
    r"[[:alnum:]_]+", r"[[:space:]]+", r"[[:upper:]]+", r"[[:lower:]]+", r"[[:punct:]]+", r"[[:xdigit:]]+",
    r"[^[:alpha:]]", r"[\-a]+", r"[]a]+", r"[a-]+", r"a{2}", r"a{1,3}", r"a{2,}", r"a{,3}b", r"a{1,3}+", r"a{1,3}?b",
    r"a{2}?", r"a*b", r"a+?b", r"a++b", r"a*+", r"a?+b", r"(?:ab)+", r"(ab)+", r"(?>ab|a)b", r"(?<n>ab)", r"(?P<n>ab)",
    r"(a)\1", r"(?=a)\w", r"(?!a)\w", r"(?<=a)\w", r"(?<!a)\w", r"(?<=ab|c)x", r"(?i:ab)", r"(?i)ab", r"(?i:ss)|ß",
    r"(?i:k)", r"(?m:a.b)", r"(?s:a.b)", r"(?x) a b", r"(?i:é)", r"a|", r"\s*", r"(?#x)a", r"\Qa.b\E", r"\Ga",
    r"\K", r"a\Kb", r"'(?i:[sdmt]|ll|ve|re)|.",
]  # fmt: skip
NAMES = ("gpt2", "gpt4", "o200k", "llama3", "qwen2", "tekken")
_NASTY = [
    *"aAbBkKsStTfFiIlLxyzZ09_-'.,/&|~[](){}!?*+^$#\\", *" \n\r\t\x0b\x0c\x1c\x7f", "ss", "ab", "aab", "aaa", "\r\n",
    *"\x85\u00a0\u2003\u2028\u200b\u200d\u3000", "e\u0301", *"²½ßſKéÅİıʼµΩσ", *"ﬁﬆ", *"漢字かカ한ไ١Ⅷ🙂",
    "ab12", "x\n", "12345",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serving", metavar="PYTHON", help="an interpreter with tokenizers 1.0")
    options = parser.parse_args()
    load = harness.check_load()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            {
                "pattern": pattern,
                "reading": reading(pattern, Path(folder)),
                **writing(pattern, Path(folder), k, options),
            }
            for k, pattern in enumerate((*CONSTRUCTS, *NAMES))
        ]
    show(rows)
    print("wrote", harness.save("bpe_patterns", rows, load, ""))
    sys.exit(any("OTHER" in str(row) for row in rows))


def texts() -> list[str]:
    """Texts of characters that the two languages read differently."""
    made = []
    for seed in range(120):
        draw = random.Random(seed)
        made.append("".join(draw.choices(_NASTY, k=draw.randrange(1, 25))))
    return [*made, "".join(_NASTY), "x\n", "\n\n  ", "x \n "]


def body(pattern: str) -> dict[str, Any]:
    """A file of the 256 bytes without merges, for the words: its ids say nothing."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    model = {"type": "BPE", "vocab": {letter: k for k, letter in enumerate(byte_letters())}, "merges": []}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "decoder": level,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}, "post_processor": None, "model": model,
    }  # fmt: skip


def elsewhere(path: Path, text: str) -> list[str]:
    """The words that tokenizers 0.23 finds with this file."""
    import tokenizers

    step = tokenizers.Tokenizer.from_file(str(path)).pre_tokenizer
    return [text[start:end] for _, (start, end) in step.pre_tokenize_str(text)]


def reading(pattern: str, folder: Path) -> str:
    """Whether a pattern of theirs gives the same words here, or what was said."""
    import tokenizers

    from jaxopt_lite import bpe

    path = folder / "theirs.json"
    path.write_text(json.dumps(body(bpe.splitter(pattern).pattern if pattern in NAMES else pattern)))
    try:
        tokenizers.Tokenizer.from_file(str(path))
    except BaseException as error:  # they panic over some
        return f"they refuse it: {str(error)[:60]}"
    try:
        tokenizer = bpe.load(path)
    except ValueError as error:
        return "refused: " + str(error).partition("may be: ")[2][:90]
    differ = [t for t in texts() if tokenizer.splitter.words(tokenizer.splitter.normalize(t)) != elsewhere(path, t)]
    return f"OTHER WORDS for {differ[0]!r}" if differ else "same"


def writing(pattern: str, folder: Path, number: int, options: argparse.Namespace) -> dict[str, str]:
    """Whether a pattern of ours gives the same words in 0.23 and 1.0, or what was said."""
    from jaxopt_lite import bpe

    path = folder / f"{number}.json"
    try:
        tokenizer = bpe.Tokenizer(bpe.train({}, merges=0).vocabulary, bpe.splitter(pattern))
    except ValueError as error:
        return {"writing": f"no pattern here: {str(error)[-60:]}"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tokenizer.save(path)
        except ValueError as error:
            return {"writing": "refused: " + str(error).partition("may: ")[2][:90]}
    differ = [text for text in texts() if tokenizer.splitter.words(text) != elsewhere(path, text)]
    row = {"writing": f"OTHER WORDS for {differ[0]!r}" if differ else "same"}
    is_said = any("tokenizers 1.0 does not take" in str(warning.message) for warning in caught)
    return row | ({"in_1_0": served(path, tokenizer, is_said, options.serving)} if options.serving else {})


_SERVE = """
import json, sys, tokenizers
tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
try:
    print(json.dumps([list(map(int, tokenizer.encode(text).ids)) for text in json.load(sys.stdin)]))
except ValueError as error:
    print(json.dumps(str(error)))
"""


def served(path: Path, tokenizer, is_said: bool, python: str) -> str:
    """What 1.0 makes of a file. Without merges ids do not depend on the words, so merges are learned first."""
    many = texts()
    from jaxopt_lite import bpe

    trained = bpe.train([text for text in many for _ in range(3)], 700, pattern=tokenizer.splitter.pattern)
    trained.save(path)
    done = subprocess.run([python, "-c", _SERVE, path], input=json.dumps(many), capture_output=True, text=True)
    found = json.loads(done.stdout)
    if isinstance(found, str):
        return "refused, as said when saved" if is_said else f"OTHER: refused unsaid: {found[:60]}"
    return "same" if found == trained.encode_batch(many) else "OTHER IDS"


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="constructs", title_justify="left")
    for name in ("pattern", "reading", "writing", "in_1_0"):
        table.add_column(name)
    for row in rows:
        table.add_row(
            *(str(row.get(name, ""))[:60].replace("[", "\\[") for name in ("pattern", "reading", "writing", "in_1_0"))
        )
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
