"""Reads text files in the usual formats: plain, JSON Lines and Parquet, compressed or not, by name, folder or pattern.

A file's name says what it is. A plain file is one text; in the others each record is one, by a field. Text is UTF-8.
"""

import bz2
import codecs
import json
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Self, get_args

from jaxopt_lite.bpe.arguments import existing_file

__all__ = ["BLOCK", "ERRORS", "Errors", "Part", "check_head", "check_text", "files_of", "is_plain", "parts", "size_of"]

Errors = Literal["strict", "replace", "ignore", "surrogateescape"]
ERRORS: tuple[Errors, ...] = get_args(Errors)
BLOCK = 1 << 20
"""How much is read, and sent to a worker, at a time: characters of a text or bytes of a file."""
_PACKED_BLOCK = 1 << 14  # bytes that are decompressed at once, into maybe thousands of times as many

_LINES = frozenset({".jsonl", ".ndjson", ".jsonlines"})
_IN_FOLDERS = frozenset({".txt", ".parquet", *_LINES})
_PACKED = frozenset({".gz", ".bz2", ".xz", ".lzma", ".zst", ".zstd"})
_SIGNS = frozenset("*?[")  # they make a path a pattern

_UNPACK = "unpack it, and pass its folder"
_CONVERT = "convert it to plain text first"
_RECORDS = "it is read for training, by a field of its records; here pass the texts in it"
# What is not text, by name suffix, and what to do about it.
_OTHERWISE = {
    ".arrow .feather": "pass pyarrow.feather.read_table({path!r})['text'].to_pylist()",
    ".zip .tar .tgz .tbz2 .txz .7z .rar": _UNPACK,
    ".pdf .docx .doc .odt .rtf .epub .pptx .xlsx": _CONVERT,
    ".npy .npz .pkl .pt .safetensors .h5 .db .sqlite": "pass the texts that are in it",
}
_BY_SUFFIX = {suffix: advice for suffixes, advice in _OTHERWISE.items() for suffix in suffixes.split()}
# The same, by how the content begins.
_UTF16 = "UTF-16, judging by its byte order mark: pass pathlib.Path({path!r}).read_text(encoding='utf-16')"
_BEGINNINGS = {
    b"\xff\xfe": _UTF16,
    b"\xfe\xff": _UTF16,
    b"\0": "not text, judging by the NUL it begins with, or UTF-16 or UTF-32: convert it to UTF-8 first",
    b"\x1f\x8b": "compressed by gzip: name it .gz",
    b"BZh91AY&SY": "compressed by bzip2: name it .bz2",
    b"\xfd7zXZ\0": "compressed by xz: name it .xz",
    b"(\xb5/\xfd": "compressed by zstd: name it .zst",
    b"PAR1": "Parquet: name it .parquet",
    b"PK\x03\x04": f"an archive, or a document made of one: {_UNPACK}",
    b"7z\xbc\xaf": f"an archive: {_UNPACK}",
    b"%PDF-": f"a PDF: {_CONVERT}",
}


class Part(NamedTuple):
    """A part of a text: its characters, how much work it is, and whether the text ends with it."""

    text: str
    size: int
    is_last: bool


def check_text(path: Path) -> Path:
    """The path, if it is a file or a stream and, judging by its name, plain text.

    Raises:
        ValueError: it is something else.
        OSError: there is no such file, or it is a directory.
    """
    path = existing_file(path)
    kinds = _kinds(path)
    if _LINES.intersection(kinds) or ".parquet" in kinds or _PACKED.intersection(kinds):
        raise ValueError(f"{path}: a {path.suffix} file is not plain text; {_RECORDS}.")
    _check_kind(path)
    return path


def _kinds(path: Path) -> list[str]:
    """The suffixes of its name that say what it is, the outer one last: [".jsonl", ".gz"]."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return suffixes if suffixes and suffixes[-1] in _PACKED else suffixes[-1:]


def _check_kind(path: Path) -> None:
    """Raise ValueError if it is not text, judging by its name."""
    for suffix in _kinds(path):
        if (advice := _BY_SUFFIX.get(suffix)) is not None:
            raise ValueError(
                f"{path}: a {suffix} file is not plain text; {advice.format(path=str(path))}. If it is "
                f"text after all, pass pathlib.Path({str(path)!r}).read_text(encoding='utf-8')."
            )


def check_head(data: bytes, path: Path) -> None:
    """Raise ValueError if a file that begins with these bytes is not UTF-8 text, whatever `errors` is."""
    for beginning, what in _BEGINNINGS.items():
        if data.startswith(beginning):
            raise ValueError(f"{path}: expected UTF-8; it is {what.format(path=str(path))}.")


def files_of(path: Path) -> list[Path]:
    """The files that a path stands for: itself, those in a folder, or those of a pattern such as "data/**/*.txt".

    From a folder and its subfolders, links included, files are taken whose names say that they are text: `.txt`,
    `.jsonl` and the like, `.parquet`, compressed or not, sorted by path. Names that begin with a dot are left out.

    Raises:
        ValueError: a folder or pattern without such a file; a file that is not text.
        FileNotFoundError: nothing is there.
    """
    if path.is_dir():
        return _named(path, "**/*", lambda name: _IN_FOLDERS.intersection(_kinds(name)))
    if not path.exists() and _SIGNS.intersection(str(path)):
        fixed = next(k for k, part in enumerate(path.parts) if _SIGNS.intersection(part))
        return _named(Path(*path.parts[:fixed]), str(Path(*path.parts[fixed:])), lambda _: True)
    existing_file(path)
    _check_kind(path)
    return [path]


def _named(folder: Path, pattern: str, is_wanted) -> list[Path]:
    found = sorted(_matches(folder, folder, Path(pattern).parts))
    found = [p for p in found if not any(q.startswith(".") for q in p.relative_to(folder).parts)]
    # A dangling link is not a file but was meant to be one: it raises below and is not left out.
    files = [path for path in found if (path.is_file() or not path.exists()) and is_wanted(path)]
    if not files:
        others = sum(path.is_file() for path in found)
        raise ValueError(
            f"{folder / pattern}: expected {', '.join(sorted(_IN_FOLDERS))} files, compressed or not; there are none, "
            f"and {others} others. For those give a pattern, pathlib.Path({str(folder / '**/*.py')!r}) for instance."
        )
    for path in files:
        _check_kind(existing_file(path))
    return files


def _matches(top: Path, folder: Path, parts: tuple[str, ...]) -> set[Path]:
    """The paths that a pattern matches; its `**` also follows links to folders, which `Path.glob` skips."""
    if "**" not in parts:
        return set(folder.glob("/".join(parts))) if parts else {folder}
    at = parts.index("**")
    inside = chain.from_iterable(_folders(top, start) for start in _matches(top, folder, parts[:at]))
    return set().union(*(_matches(top, one, parts[at + 1 :]) for one in inside))


def _folders(top: Path, start: Path) -> Iterator[Path]:
    """A folder and all folders in it, except hidden ones and links that lead back to a folder on the way from `top`."""
    for name, inside, _ in os.walk(start, followlinks=True):
        folder = Path(name)
        inside[:] = [one for one in inside if not one.startswith(".") and not _leads_back(folder / one, top)]
        yield folder


def _leads_back(folder: Path, top: Path) -> bool:
    """Whether this is a link to a folder on the way from `top` to it, or to a parent of one."""
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    return any(one.resolve().is_relative_to(target) for one in folder.parents if one.is_relative_to(top))


def is_plain(path: Path) -> bool:
    """Whether the file as a whole is one plain text."""
    return not {".parquet", *_LINES, *_PACKED}.intersection(_kinds(path))


def size_of(paths: Iterable[Path]) -> int | None:
    """The total size of files in bytes; `None` if it is not known how much will be read."""
    total = 0
    for path in paths:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or not is_plain(path):
            return None
        total += status.st_size
    return total


def parts(path: Path, errors: str, field: str) -> Generator[Part, None, None]:
    """The texts of a file, long ones in parts.

    Args:
        path: one of `files_of`.
        errors: what to do about bytes that are not UTF-8, one of `ERRORS`.
        field: the field of a record that holds the text. Records in which it is null are skipped.

    Raises:
        ValueError: bytes that are not UTF-8, with "strict"; a file that is something else; a record without the field.
        ImportError: a Parquet or zstd file without the package that reads it, naming the package.
        OSError: a file that cannot be read.
    """
    kinds = _kinds(path)
    if ".parquet" in kinds:
        texts = _of_parquet(path, errors, field)
    elif _LINES.intersection(kinds):
        texts = _of_lines(path, errors, field)
    else:
        yield from _decoded(path, errors)
        return
    for text in texts:
        yield Part(text, len(text), True)


def _opened(path: Path) -> IO[bytes]:
    kind = path.suffix.lower()
    if kind not in _PACKED:
        return path.open("rb")
    return _Packed(path, _zstd(path) if kind in (".zst", ".zstd") else _UNPACKERS[kind])  # pyright: ignore[reportReturnType]


_UNPACKERS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),  # with the header and checksum of gzip
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lzma.LZMADecompressor,
    ".lzma": lzma.LZMADecompressor,
}


def _zstd(path: Path) -> Callable[[], Any]:
    try:
        import zstandard  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(f"{path}: reading zstd needs the package zstandard: pip install zstandard") from None
    return lambda: zstandard.ZstdDecompressor().decompressobj()


class _Packed:
    """Decompresses the frames of a file, one after another.

    A truncated frame raises, unlike in zstandard's reader, and so does anything else after a frame: Python's readers
    ignore that, and all frames after it. Zeros between frames are padding.
    """

    def __init__(self, path: Path, unpacker: Callable[[], Any]):
        self._file, self._unpacker = path.open("rb"), unpacker
        self._frame, self._rest = None, b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """`size` bytes, or somewhat more; nothing at the end."""
        made: list[bytes] = []
        while sum(map(len, made)) < size and (data := self._rest or self._file.read(_PACKED_BLOCK)):
            self._rest = b""
            if self._frame is not None and self._frame.eof:
                data = data.lstrip(b"\0")
            if data:
                made.append(self._unpacked(data))
        if not any(made) and (self._frame is None or not self._frame.eof):
            raise EOFError("it is empty" if self._frame is None else "it ends within a frame")
        return b"".join(made)

    def _unpacked(self, data: bytes) -> bytes:
        if self._frame is None or self._frame.eof:
            self._frame = self._unpacker()
        try:
            return self._frame.decompress(data)
        except Exception as error:  # each format has its own
            raise OSError(str(error)) from None
        finally:
            self._rest = self._frame.unused_data


def _read(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """The content in blocks, at least one, the last of which is empty."""
    while True:
        try:
            data = file.read(BLOCK)
        except (OSError, EOFError) as error:
            if is_plain(path):
                raise
            raise ValueError(f"{path}: cannot be decompressed ({error}). Is it complete, and named right?") from None
        yield data
        if not data:
            return


def _decoded(path: Path, errors: str) -> Iterator[Part]:
    """A plain text in blocks, with the number of bytes of each."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    at = 0
    with _opened(path) as file:
        for data in _read(file, path):
            if at == 0:
                check_head(data, path)
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise _no_utf8(f"{path}: byte {at - waiting + error.start}", error) from error
            at += len(data)
            yield Part(text, len(data), not data)


def _no_utf8(where: str, error: UnicodeDecodeError) -> ValueError:
    bad = error.object[error.start : error.end]
    return ValueError(
        f"{where} is {bad.hex(' ')!r}, expected UTF-8 ({error.reason}). "
        'Pass errors="replace" (U+FFFD in its place), "ignore" (leave it out) or "surrogateescape" (keep '
        "the bytes as they are), or convert the file."
    )


def _of_lines(path: Path, errors: str, field: str) -> Iterator[str]:
    with _opened(path) as file, closing(_lines(file, path)) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = json.loads(line.decode("utf-8", errors))
            except UnicodeDecodeError as error:
                raise _no_utf8(f"{where}: byte {error.start}", error) from error
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: expected JSON, one record per line; {error}.") from None
            if (text := _field(record, field, where)) is not None:
                yield text if text.isascii() else _without_surrogates(text, errors, where)


def _without_surrogates(text: str, errors: str, where: str) -> str:
    """The text. Lone surrogates, which JSON allows, are replaced, left out or refused, as `errors` says."""
    try:
        text.encode("utf-8", "surrogateescape" if errors == "surrogateescape" else "strict")
    except UnicodeEncodeError as error:
        if errors == "replace":
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if errors == "ignore":
            return text.encode("utf-8", "ignore").decode()
        raise ValueError(
            f"{where}: the text has the lone surrogate U+{ord(text[error.start]):04X}, which is not a character. "
            'Pass errors="replace" (U+FFFD in its place) or "ignore" (leave it out), or fix the file.'
        ) from None
    return text


def _lines(file: IO[bytes], path: Path) -> Generator[bytes, None, None]:
    line: list[bytes] = []  # so far; joined once, for otherwise a long line would take quadratic time
    for number, data in enumerate(_read(file, path)):
        if not number:
            check_head(data, path)
            data = data.removeprefix(codecs.BOM_UTF8)  # Windows writes it, and JSON does not allow it
        first, *others = data.split(b"\n")
        line.append(first)
        if others or not data:
            yield b"".join(line)
            yield from others[:-1]
            line = others[-1:]


def _field(record: Any, field: str, where: str) -> str | None:
    """The text of a record; a record may also be a string."""
    if isinstance(record, str):
        return record
    if not isinstance(record, dict) or field not in record:
        there = ", ".join(map(repr, record)) if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"{where}: expected a record with {field!r}; there is {there:.200}. Pass the name as field=.")
    text = record[field]
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{where}: {field!r} is {text!r:.60} ({type(text).__name__}); expected a string. Pass field=.")
    return text


def _of_parquet(path: Path, errors: str, field: str) -> Iterator[str]:
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(f"{path}: reading Parquet needs the package pyarrow: pip install pyarrow") from None
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path}: expected Parquet; {error}") from None
    with file:
        names = file.schema_arrow.names
        if field not in names:
            raise ValueError(f"{path}: expected a column {field!r}; there are {names!r:.200}. Pass the name as field=.")
        if names.count(field) > 1:
            raise ValueError(f"{path}: {names.count(field)} columns are called {field!r}; expected one. Pass field=.")
        kind = given = file.schema_arrow.field(field).type
        types = pyarrow.types
        if types.is_dictionary(kind):  # a categorical of pandas
            kind = kind.value_type
        if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
            raise ValueError(f"{path}: the column {field!r} is of type {given}; expected strings. Pass field=.")
        batches, row = file.iter_batches(columns=[field], batch_size=1024), 0
        while (batch := _next(batches, path)) is not None:
            yield from _of_column(batch.column(field), errors, path, row)
            row += batch.num_rows


def _of_column(column: Any, errors: str, path: Path, first: int) -> Iterator[str]:
    """The texts of rows from `first` on. Parquet requires UTF-8, but not all writers check."""
    try:
        texts = column.to_pylist()
    except UnicodeDecodeError:
        texts = _decoded_rows(column, errors, path, first)
    return (text for text in texts if text is not None)


def _decoded_rows(column: Any, errors: str, path: Path, first: int) -> Iterator[str | None]:
    for row, scalar in enumerate(column, first):
        data = getattr(scalar, "value", scalar).as_buffer() if scalar.is_valid else None  # of a categorical, its text
        try:
            yield None if data is None else data.to_pybytes().decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise _no_utf8(f"{path}, row {row}: byte {error.start}", error) from error


def _next(batches: Iterator[Any], path: Path) -> Any:
    """The next of a file's batches, or `None`."""
    try:
        return next(batches, None)
    except (OSError, ValueError) as error:  # what pyarrow raises if a page is damaged
        raise ValueError(f"{path}: cannot be read to its end ({error}). Is it complete?") from None
