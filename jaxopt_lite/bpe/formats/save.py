"""Tokenizers as files: which form a path has, for writing and reading. The forms stand in their own files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxopt_lite.bpe.formats.gpt2 import read_gpt2, write_gpt2
from jaxopt_lite.bpe.formats.huggingface import as_json, from_json
from jaxopt_lite.bpe.formats.own import FORMAT, as_own, from_own
from jaxopt_lite.bpe.formats.plain import read_json, write_text
from jaxopt_lite.bpe.formats.tiktoken import read_tiktoken, write_tiktoken
from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["read", "save"]

FORMATS = ("huggingface", "gpt2", "tiktoken", "jaxopt_lite")


def save(vocabulary: Vocabulary, splitter: Splitter, path: str | Path, format: str | None = None) -> None:
    """Write a tokenizer; see `Tokenizer.save`."""
    path = Path(path)
    if format is None:
        format = _format_of(path, vocabulary)
    if format == "tiktoken":
        write_tiktoken(vocabulary, path)
    elif format == "gpt2":
        write_gpt2(vocabulary, path)
    elif format in FORMATS:
        content = (as_json if format == "huggingface" else as_own)(vocabulary, splitter)
        write_text(path, json.dumps(content, ensure_ascii=False, indent=1 if format == "huggingface" else None))
    else:
        raise ValueError(f"format={format!r}: expected one of {FORMATS}.")


def _format_of(path: Path, vocabulary: Vocabulary) -> str:
    if path.suffix == ".tiktoken":
        return "tiktoken"
    if path.suffix == ".json":
        return "huggingface" if vocabulary.end_of_word is None else "jaxopt_lite"
    if not path.suffix or path.is_dir():
        return "gpt2"
    raise ValueError(
        f"path={str(path)!r}: expected it to end with '.json' or '.tiktoken', or a folder; or say format=, one of "
        f"{FORMATS}."
    )


def read(
    path: str | Path | tuple[str | Path, str | Path],
    *,
    pattern: str | None = None,
    special_tokens: Mapping[str, int] | Sequence[str] | None = None,
) -> tuple[Vocabulary, Splitter]:
    """Read a tokenizer; see `bpe.load`."""
    if isinstance(path, tuple):
        return read_gpt2(Path(path[0]), Path(path[1]), pattern, _texts(special_tokens))
    path = Path(path)
    if path.is_dir() and not (path / "tokenizer.json").exists():
        return read_gpt2(path / "vocab.json", path / "merges.txt", pattern, _texts(special_tokens))
    if path.is_dir():
        path = path / "tokenizer.json"
    if path.suffix != ".json":
        return read_tiktoken(path, pattern, special_tokens)
    if pattern is not None or special_tokens is not None:
        raise ValueError(f"pattern and special_tokens: {path} says both itself; leave them out.")
    content = read_json(path)
    if not isinstance(content, Mapping) or not ({"format", "model"} & set(content)):
        raise ValueError(
            f"{path}: expected a tokenizer.json, or a file of {FORMAT}; got other JSON. If it is a vocab.json, pass "
            "(vocab.json, merges.txt), or their folder."
        )
    return (from_own if content.get("format") == FORMAT else from_json)(content, str(path))


def _texts(special_tokens) -> list[str] | None:
    return None if special_tokens is None else list(special_tokens)
