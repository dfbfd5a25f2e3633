"""Texts in batches of a few megabytes: files read in blocks, cut where no word and no special token can span."""

import codecs
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from jaxopt_lite.bpe.patterns import Splitter

__all__ = ["BLOCK", "ERRORS", "Batch", "batches", "check_file", "check_head", "check_text", "names_a_file"]

BLOCK = 1 << 20
"""How much is read, and sent to a worker, at a time: characters of a text or bytes of a file."""

ERRORS = ("strict", "replace", "ignore", "surrogateescape")

# A text may be cut here and counted in parts. Before a space that follows a visible character: see `patterns.CHUNK`.
# Between a letter or digit and whitespace: of the words with whitespace behind their first character, some are all
# whitespace, and the others have line ends behind punctuation. Between a line end that stands alone and a visible
# character: the line end is a word or the end of one, whatever follows, except that o200k may put a slash behind it.
CUT = re.compile(r"(?<=\S)(?= )|(?<=[A-Za-z0-9])(?=[ \t\r\n])|(?<=\S\n)(?=[^\s/])")
NEAR_THE_END = 2000  # characters in which most texts have such a place


_LOOKED_AT = 100  # items that are looked at for names of files; who passes names passes them from the first on
_LONGEST_NAME = 1000

_UNPACK = "unpack it, and pass sorted(pathlib.Path(folder).rglob('*.txt'))"
_CONVERT = "convert it to plain text first"
# What is no text as it stands, by its name, and what reads it.
_OTHERWISE = {
    ".jsonl .ndjson .jsonlines": "pass (json.loads(line)['text'] for line in open({path!r}, encoding='utf-8'))",
    ".gz": "pass gzip.open({path!r}, 'rt', encoding='utf-8')",
    ".bz2": "pass bz2.open({path!r}, 'rt', encoding='utf-8')",
    ".xz .lzma": "pass lzma.open({path!r}, 'rt', encoding='utf-8')",
    ".zst .zstd": "pass zstandard.open({path!r}, 'rt', encoding='utf-8')",
    ".parquet": "pass (text for batch in pyarrow.parquet.ParquetFile({path!r}).iter_batches(columns=['text']) "
    "for text in batch['text'].to_pylist())",
    ".arrow .feather": "pass pyarrow.feather.read_table({path!r})['text'].to_pylist()",
    ".zip .tar .tgz .tbz2 .txz .7z .rar": _UNPACK,
    ".pdf .docx .doc .odt .rtf .epub .pptx .xlsx": _CONVERT,
    ".npy .npz .pkl .pt .safetensors .h5 .db .sqlite": "pass the texts that are in it",
}
_BY_SUFFIX = {suffix: advice for suffixes, advice in _OTHERWISE.items() for suffix in suffixes.split()}
# The same by how it begins.
_BEGINNINGS = {
    b"\xff\xfe": "UTF-16, to go by the mark it begins with: pass pathlib.Path({path!r}).read_text(encoding='utf-16')",
    b"\xfe\xff": "UTF-16, to go by the mark it begins with: pass pathlib.Path({path!r}).read_text(encoding='utf-16')",
    b"\0": "no text, to go by the NUL it begins with, or UTF-16 or UTF-32: convert it to UTF-8 first",
    b"\x1f\x8b": f"compressed by gzip: {_BY_SUFFIX['.gz']}",
    b"BZh91AY&SY": f"compressed by bzip2: {_BY_SUFFIX['.bz2']}",
    b"\xfd7zXZ\0": f"compressed by xz: {_BY_SUFFIX['.xz']}",
    b"(\xb5/\xfd": f"compressed by zstd: {_BY_SUFFIX['.zst']}",
    b"PK\x03\x04": f"an archive, or a document made of one: {_UNPACK}",
    b"7z\xbc\xaf": f"an archive: {_UNPACK}",
    b"%PDF-": f"a PDF: {_CONVERT}",
}


class Batch(NamedTuple):
    """Texts to count, and how much work they are: bytes of a file, characters of texts."""

    texts: list[str]
    size: int


def batches(
    items: Iterable[object], splitter: Splitter, special_tokens: tuple[str, ...], errors: str
) -> Iterator[Batch]:
    """The texts of all items, small ones together and large ones in parts.

    Args:
        items: texts (str) and paths (os.PathLike), each a text of its own.
        splitter: the scheme whose words must come out whole.
        special_tokens: texts that must come out whole.
        errors: what to do about bytes that are not UTF-8, one of `ERRORS`.

    Raises:
        TypeError: an item that is neither text nor path.
        ValueError: a file that is not UTF-8, under "strict", or no text at all; a text that names a file.
        OSError: a file that cannot be read.
    """
    texts: list[str] = []
    size = 0
    for number, item in enumerate(items):
        if isinstance(item, str):
            if number < _LOOKED_AT and names_a_file(item):
                raise ValueError(
                    f"item {number} of the corpus is {item!r}, the name of an existing file, but a str is taken for "
                    "text. Pass names as paths: map(pathlib.Path, names). For texts called like files pass counts: "
                    "collections.Counter(word for text in texts for word in splitter.words(text))."
                )
            pieces = [(item, len(item))] if len(item) <= BLOCK else _cut(_sliced(item), splitter, special_tokens)
        elif isinstance(item, os.PathLike):
            pieces = _cut(_decoded(check_text(item), errors), splitter, special_tokens)
        else:
            raise TypeError(
                f"item {number} of the corpus is {item!r:.80} ({type(item).__name__}): expected a text (str) or a path "
                "(pathlib.Path). Decode bytes first; pass word counts as one mapping."
            )
        for text, amount in pieces:
            texts.append(text)
            size += amount
            if size >= BLOCK:
                yield Batch(texts, size)
                texts, size = [], 0
    if texts:
        yield Batch(texts, size)


def check_file(path: os.PathLike) -> Path:
    """The path, if it is a file or a stream.

    Raises:
        FileNotFoundError: there is nothing there.
        IsADirectoryError: it is a directory.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a directory: expected a file. Pass its files, for instance sorted(Path({str(path)!r})"
            '.rglob("*.txt")).'
        )
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file. Relative paths start in {Path.cwd()}.")
    return path


def check_text(path: os.PathLike) -> Path:
    """The path, if it is a file or a stream, and to go by its name one of text.

    Raises:
        ValueError: it is something else.
        OSError: as `check_file`.
    """
    path = check_file(path)
    advice = _BY_SUFFIX.get(path.suffix.lower())
    if advice is not None:
        advice = _UNPACK if ".tar" in path.suffixes else advice
        raise ValueError(
            f"{path}: a file called {path.suffix} is no text as it stands; {advice.format(path=str(path))}. If it is "
            f"text after all, pass pathlib.Path({str(path)!r}).read_text(encoding='utf-8')."
        )
    return path


def check_head(data: bytes, path: Path) -> None:
    """Raise ValueError if a file that begins with these bytes is no text in UTF-8, whatever becomes of other bytes."""
    for beginning, what in _BEGINNINGS.items():
        if data.startswith(beginning):
            raise ValueError(f"{path}: expected UTF-8; it is {what.format(path=str(path))}.")


def names_a_file(text: str) -> bool:
    """Whether a text, short and of one line, is the name of an existing file."""
    if not text or len(text) > _LONGEST_NAME or "\n" in text:
        return False
    try:
        return os.path.isfile(text)
    except (OSError, ValueError):
        return False  # with characters that no name can have


def _sliced(text: str) -> Iterator[tuple[str, int]]:
    """The text in blocks, with the number of characters of each."""
    for start in range(0, len(text), BLOCK):
        block = text[start : start + BLOCK]
        yield block, len(block)


def _decoded(path: Path, errors: str) -> Iterator[tuple[str, int]]:
    """The file in blocks, with the number of bytes of each."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    at = 0
    with path.open("rb") as file:
        while True:
            data = file.read(BLOCK)
            if at == 0:
                check_head(data, path)
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                bad = error.object[error.start : error.end]
                raise ValueError(
                    f"{path}: byte {at - waiting + error.start} is {bad.hex(' ')!r}, expected UTF-8 ({error.reason}). "
                    'Pass errors="replace" (U+FFFD in its place), "ignore" (leave it out) or "surrogateescape" (keep '
                    "the bytes as they are), or convert the file."
                ) from error
            at += len(data)
            yield text, len(data)
            if not data:
                return


def _cut(
    blocks: Iterable[tuple[str, int]], splitter: Splitter, special_tokens: tuple[str, ...]
) -> Iterator[tuple[str, int]]:
    """The same text in blocks that end where a text may be cut; in one block if the pattern allows no cut.

    A block without such a place grows by the next one.
    """
    waiting: list[str] = []
    size = 0
    for text, amount in blocks:
        size += amount
        # The place is looked for in the new block and a little before it, so that long waits take linear time.
        if waiting and splitter.local:
            before = waiting.pop()
            text = before[-NEAR_THE_END:] + text
            waiting.append(before[:-NEAR_THE_END])
        place = _place(text, special_tokens) if splitter.local else None
        if place is None:
            waiting.append(text)
            continue
        yield "".join([*waiting, text[:place]]), size
        waiting, size = [text[place:]], 0
    rest = "".join(waiting)
    if rest or size:
        yield rest, size


def _place(text: str, special_tokens: tuple[str, ...]) -> int | None:
    """The last place, or one of the last, where the text may be cut; None if there is none."""
    longest = max(map(len, special_tokens), default=0)
    for start in dict.fromkeys((max(len(text) - NEAR_THE_END - longest, 0), 0)):
        places = [match.start() for match in CUT.finditer(text, start)]
        for place in reversed(places):
            if place + longest <= len(text) and not _inside_special(text, place, special_tokens):
                return place
    return None


def _inside_special(text: str, place: int, special_tokens: tuple[str, ...]) -> bool:
    """Whether a special token, wherever it begins, would be cut at the place."""
    return any(
        text.find(token, max(place - len(token) + 1, 0), place + len(token) - 1) >= 0 for token in special_tokens
    )
