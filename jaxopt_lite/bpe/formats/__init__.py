"""Tokenizers as files: `read` and `write` choose the form by the path. `bpe.load` and `Tokenizer.save` call them.

Files, in reading order:

- `content`: what the files of all forms are made of.
- `huggingface`: `tokenizer.json`, and which patterns Hugging Face reads as this package does.
- `gpt2`: `vocab.json` and `merges.txt`.
- `tiktoken`: `.tiktoken`.
- `own`: this package's own form, which keeps everything.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxopt_lite import files
from jaxopt_lite.bpe.arguments import existing_file, texts, whole_number
from jaxopt_lite.bpe.formats.content import read_json
from jaxopt_lite.bpe.formats.gpt2 import read_gpt2, write_gpt2
from jaxopt_lite.bpe.formats.huggingface import as_json, from_json
from jaxopt_lite.bpe.formats.own import FORMAT, as_own, from_own
from jaxopt_lite.bpe.formats.tiktoken import read_tiktoken, write_tiktoken
from jaxopt_lite.bpe.patterns import Splitter, splitter
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["FORMATS", "read", "write"]

FORMATS = ("huggingface", "gpt2", "tiktoken", "jaxopt_lite")


def write(vocabulary: Vocabulary, splitter: Splitter, path: str | Path, format: str | None = None) -> None:
    """Write a tokenizer; see `Tokenizer.save`."""
    if not str(path):
        raise ValueError(f"path={path!r}: expected the name of a file or folder.")
    path = Path(path)
    if format is None:
        format = _format_of(path, vocabulary)
    if format not in FORMATS:
        raise ValueError(f"format={format!r}: expected one of {FORMATS}.")
    if format == "gpt2" and path.exists() and not path.is_dir():
        raise ValueError(
            f"path={str(path)!r} is no folder, which format='gpt2' needs; pass another path, or say another format=."
        )
    if format != "gpt2" and path.is_dir():
        raise ValueError(f"path={str(path)!r} is a folder; expected the path of a file for format={format!r}.")
    if format == "tiktoken":
        write_tiktoken(vocabulary, path)
    elif format == "gpt2":
        write_gpt2(vocabulary, splitter, path)
    else:
        content = (as_json if format == "huggingface" else as_own)(vocabulary, splitter)
        text = json.dumps(content, ensure_ascii=False, indent=1 if format == "huggingface" else None)
        files.write(path, text.encode())


def _format_of(path: Path, vocabulary: Vocabulary) -> str:
    if path.is_dir():
        return "gpt2"
    if path.suffix == ".tiktoken":
        return "tiktoken"
    if path.suffix == ".json":
        return "huggingface" if vocabulary.end_of_word is None else "jaxopt_lite"
    if not path.suffix:
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
    special_tokens = _checked(special_tokens)
    if isinstance(path, tuple | list):
        if len(path) != 2:
            raise ValueError(f"path={path!r:.200}: expected one path, or those of vocab.json and merges.txt.")
        return read_gpt2(Path(path[0]), Path(path[1]), pattern, _names(special_tokens))
    path = Path(path)
    if path.is_dir():
        if not (path / "tokenizer.json").exists():
            return read_gpt2(path / "vocab.json", path / "merges.txt", pattern, _names(special_tokens))
        path = path / "tokenizer.json"
    existing_file(path)
    if path.suffix != ".json":
        return read_tiktoken(path, pattern, special_tokens)
    vocabulary, split = _from_json(path)
    if pattern not in (None, split.pattern) and splitter(pattern).pattern != split.pattern:
        raise ValueError(f"pattern={pattern!r}: {path} says itself what a word is, {split.name}; leave it out.")
    known = vocabulary.special_tokens
    given = dict(known) if special_tokens is None else special_tokens
    if set(given) != set(known) or (isinstance(given, dict) and given != known):
        raise ValueError(f"special_tokens={special_tokens}: {path} says them itself, {dict(known)}; leave them out.")
    return vocabulary, split


def _from_json(path: Path) -> tuple[Vocabulary, Splitter]:
    content = read_json(path)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return from_own(content, str(path))
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        return from_json(content, str(path))
    raise ValueError(f"{path}: expected a tokenizer.json, or a file of {FORMAT}; got {_other(content)}.")


def _other(content: Any) -> str:
    """What JSON this is."""
    if isinstance(content, dict) and content and all(type(k) is int for k in content.values()):
        return "a vocab.json, which says no merges: pass (vocab.json, merges.txt), or their folder"
    if isinstance(content, dict) and {"tokenizer_class", "added_tokens_decoder"} & content.keys():
        return "a tokenizer_config.json, which says no tokens: pass the tokenizer.json beside it"
    return "other JSON. If it is a vocab.json, pass (vocab.json, merges.txt), or their folder"


def _checked(special_tokens: Any) -> dict[str, int] | tuple[str, ...] | None:
    if special_tokens is None:
        return None
    several = texts("special_tokens", special_tokens)
    if not isinstance(special_tokens, Mapping):
        return several
    return {text: whole_number(f"special_tokens[{text!r}]", special_tokens[text], least=0) for text in several}


def _names(special_tokens: dict[str, int] | tuple[str, ...] | None) -> list[str] | None:
    return None if special_tokens is None else list(special_tokens)
