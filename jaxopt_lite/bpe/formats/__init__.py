"""Tokenizers as files: `read` and `write` choose the format by the path. `bpe.load` and `Tokenizer.save` call them.

The modules in reading order:

- `content`: the parts that files of all formats have in common.
- `huggingface`: `tokenizer.json`.
- `gpt2`: `vocab.json` and `merges.txt`.
- `transformers`: what else a folder needs for AutoTokenizer.
- `tiktoken`: `.tiktoken`.
- `tekken`: Mistral's `tekken.json`.
- `clip`: the merges of CLIP.
- `own`: this package's own format, which keeps everything.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from jaxopt_lite import files
from jaxopt_lite.arguments import one_of, path_of, whole_number
from jaxopt_lite.bpe.arguments import existing_file, texts
from jaxopt_lite.bpe.around import Around
from jaxopt_lite.bpe.formats.clip import is_clip, read_clip
from jaxopt_lite.bpe.formats.content import check_shape, read_json, resaved
from jaxopt_lite.bpe.formats.gpt2 import read_gpt2, write_gpt2
from jaxopt_lite.bpe.formats.huggingface import as_json, from_json
from jaxopt_lite.bpe.formats.own import FORMAT, as_own, from_own
from jaxopt_lite.bpe.formats.tekken import from_tekken, is_tekken
from jaxopt_lite.bpe.formats.tiktoken import read_tiktoken, write_tiktoken
from jaxopt_lite.bpe.formats.transformers import check_roles, write_config
from jaxopt_lite.bpe.patterns import Splitter, splitter
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["FORMATS", "Format", "read", "write"]

_IN_FOLDERS = ("tokenizer.json", "tekken.json", "tokenizer.model")
Format = Literal["huggingface", "gpt2", "transformers", "tiktoken", "jaxopt_lite"]
FORMATS: tuple[Format, ...] = get_args(Format)
_FOLDERS = ("gpt2", "transformers")
# What transformers calls tokenizers with the words of GPT-2, or leaves open, with and without "Fast" at the end.
_AS_GPT2 = (
    "GPT2Tokenizer", "RobertaTokenizer", "BartTokenizer", "LongformerTokenizer", "LEDTokenizer", "DebertaTokenizer",
    "CodeGenTokenizer", "MvpTokenizer", "WhisperTokenizer", "PreTrainedTokenizer", "TokenizersBackend",
)  # fmt: skip
_CONFIG = {
    "added_tokens_decoder?": ({str: {"content": str}}, None), "tokenizer_class?": (str, None),
    "add_prefix_space?": (bool, None),
}  # fmt: skip


def write(
    vocabulary: Vocabulary,
    splitter: Splitter,
    around: Around,
    path: str | Path,
    format: str | None = None,
    *,
    roles: Mapping[str, str] | None = None,
    chat_template: str | None = None,
) -> None:
    """Write a tokenizer; see `Tokenizer.save`."""
    path = path_of("path", path)
    format = _format_of(path, vocabulary, splitter) if format is None else one_of("format", format, FORMATS)
    if format in _FOLDERS and path.exists() and not path.is_dir():
        raise ValueError(
            f"path={str(path)!r} is not a folder, which format={format!r} needs; pass another path, or another format=."
        )
    if format not in _FOLDERS and path.is_dir():
        raise ValueError(f"path={str(path)!r} is a folder; expected the path of a file for format={format!r}.")
    roles = roles or {}
    check_roles(vocabulary, roles)
    if format not in _FOLDERS and (roles or chat_template is not None):
        names = [*roles, *([] if chat_template is None else ["chat_template"])]
        raise ValueError(f"{names[0]}= is for the folder that transformers reads; pass format='transformers'.")
    if format == "tiktoken":
        write_tiktoken(vocabulary, splitter, path)
    elif format in _FOLDERS:
        if format == "gpt2":
            write_gpt2(vocabulary, splitter, around, path)
        else:
            text = json.dumps(as_json(vocabulary, splitter, around), ensure_ascii=False, indent=1)
            path.mkdir(parents=True, exist_ok=True)
            files.write(path / "tokenizer.json", text.encode())
        write_config(vocabulary, path, roles, chat_template)
    else:
        content = (as_json if format == "huggingface" else as_own)(vocabulary, splitter, around)
        text = json.dumps(content, ensure_ascii=False, indent=1 if format == "huggingface" else None)
        files.write(path, text.encode())


def _format_of(path: Path, vocabulary: Vocabulary, splitter: Splitter) -> str:
    is_plain = splitter.steps is None and splitter.normalizer is None and not (vocabulary.is_marked or vocabulary.flags)
    folder = "gpt2" if vocabulary.level == "byte" and is_plain else "transformers"
    if path.is_dir():
        return folder
    if path.suffix == ".tiktoken":
        return "tiktoken"
    if path.suffix == ".json":
        return "huggingface" if vocabulary.end_of_word is None else "jaxopt_lite"
    if not path.suffix:
        return folder
    raise ValueError(
        f"path={str(path)!r}: expected it to end with '.json' or '.tiktoken', or a folder; or pass format=, one of "
        f"{FORMATS}."
    )


def read(
    path: str | Path | tuple[str | Path, str | Path],
    *,
    pattern: str | None = None,
    special_tokens: Mapping[str, int] | Sequence[str] | None = None,
) -> tuple[Vocabulary, Splitter, Around]:
    """Read a tokenizer; see `bpe.load`."""
    special_tokens = _checked(special_tokens)
    if isinstance(path, tuple | list):
        if len(path) != 2:
            raise ValueError(f"path={path!r:.200}: expected one path, or those of vocab.json and merges.txt.")
        vocab, merges = (path_of("path", each) for each in path)
        return *read_gpt2(vocab, merges, pattern, _names(special_tokens)), Around()
    path = path_of("path", path)
    if path.is_dir():
        if (path / "vocab.json").exists() and not (path / "tokenizer.json").exists():
            _check_beside(path, pattern)
            return *read_gpt2(path / "vocab.json", path / "merges.txt", pattern, _names(special_tokens)), Around()
        path = next((path / name for name in _IN_FOLDERS if (path / name).exists()), path / _IN_FOLDERS[0])
    existing_file(path)
    if _is_json(path):
        vocabulary, split, around = _from_json(path)
    elif is_clip(path):
        vocabulary, split, around = read_clip(path)
    else:
        return *read_tiktoken(path, pattern, special_tokens), Around()
    if pattern not in (None, split.pattern) and splitter(pattern).pattern != split.pattern:
        raise ValueError(f"pattern={pattern!r}: {path} itself says what a word is, {split.name}; leave pattern out.")
    known = vocabulary.special_tokens
    given = dict(known) if special_tokens is None else special_tokens
    if set(given) != set(known) or (isinstance(given, dict) and given != known):
        raise ValueError(f"special_tokens={special_tokens}: {path} itself has them, {dict(known)}; leave them out.")
    return vocabulary, split, around


def _check_beside(folder: Path, pattern: str | None) -> None:
    """Raise ValueError if files of transformers next to a `vocab.json` say what the two files do not.

    These are tokens added later, and another way to cut a text than GPT-2's, if no pattern is given.
    """
    added, config = (
        read_json(folder / name) if (folder / name).exists() else {}
        for name in ("added_tokens.json", "tokenizer_config.json")
    )
    try:
        check_shape(added, {str: int})
        check_shape(config, _CONFIG)
    except ValueError as error:
        raise ValueError(f"{folder}: added_tokens.json or tokenizer_config.json is malformed; {error}.") from None
    more = {*added, *(token["content"] for token in (config.get("added_tokens_decoder") or {}).values())}
    missing = more.difference(read_json(folder / "vocab.json")) if more else set()
    kind = config.get("tokenizer_class")
    problem = None
    if missing:
        problem = f"the token {min(missing)!r:.80} in a file next to its vocab.json, not in it"
    elif pattern is None and kind and kind.removesuffix("Fast") not in _AS_GPT2:
        problem = f"the tokenizer_class {kind!r:.80}, which may split text differently from GPT-2"
    elif config.get("add_prefix_space"):
        problem = "add_prefix_space set, a space before every text, which these files cannot express"
    if problem:
        raise ValueError(
            f"{folder} has {problem}; expected a tokenizer.json, which {resaved(folder)} writes. Or pass the paths "
            "(vocab.json, merges.txt) to ignore this, and pattern= if its words are not GPT-2's."
        )


def _is_json(path: Path) -> bool:
    """By its name, or by how it begins: no line of base64 or merges begins like a JSON object."""
    if path.suffix == ".json":
        return True
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"{")


def _from_json(path: Path) -> tuple[Vocabulary, Splitter, Around]:
    content = read_json(path)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return from_own(content, str(path))
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        return from_json(content, str(path))
    if is_tekken(content):
        return *from_tekken(content, str(path)), Around()
    raise ValueError(f"{path}: expected a tokenizer.json, or a file of {FORMAT}; got {_other(content)}.")


def _other(content: Any) -> str:
    """What kind of JSON this is."""
    if isinstance(content, dict) and content and all(type(k) is int for k in content.values()):
        return "a vocab.json, which has no merges: pass (vocab.json, merges.txt), or their folder"
    if isinstance(content, dict) and {"tokenizer_class", "added_tokens_decoder"} & content.keys():
        return "a tokenizer_config.json, which has no tokens: pass the tokenizer.json next to it"
    return "other JSON. If it is a vocab.json, pass (vocab.json, merges.txt), or their folder"


def _checked(special_tokens: Any) -> dict[str, int] | tuple[str, ...] | None:
    if special_tokens is None:
        return None
    is_mapping = isinstance(special_tokens, Mapping)
    several = texts("special_tokens", special_tokens, ordered=not is_mapping)
    if not is_mapping:
        return several
    return {text: whole_number(f"special_tokens[{text!r}]", special_tokens[text], least=0) for text in several}


def _names(special_tokens: dict[str, int] | tuple[str, ...] | None) -> list[str] | None:
    return None if special_tokens is None else list(special_tokens)
