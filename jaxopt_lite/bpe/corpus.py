"""A corpus: files read in blocks, texts, or ready-made counts; and how often every word occurs in it.

Training starts from `count_words`. It cuts files where neither a word nor a special token can span the cut, and passes
batches of a few megabytes to `counting.py`.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import DownloadColumn, TransferSpeedColumn

from jaxopt_lite.arguments import flag, one_of, whole_number
from jaxopt_lite.bpe import readers
from jaxopt_lite.bpe.arguments import is_row, texts, word_counts
from jaxopt_lite.bpe.counting import Find, Tally
from jaxopt_lite.bpe.cuts import ONE_CUT
from jaxopt_lite.bpe.patterns import Finder, Splitter
from jaxopt_lite.bpe.readers import ERRORS, Errors, files_of, size_of
from jaxopt_lite.bpe.workers import Workers, usual_processes
from jaxopt_lite.progress import progress_bar

__all__ = ["Batch", "batches", "count_words"]

SMALL = 8 << 20  # up to so many bytes are counted in this process, in the time in which workers would start
NEAR_THE_END = 2000  # within so many characters most texts may be cut
_BEFORE = 2  # characters before a cut that `ONE_CUT` looks at

_LOOKED_AT = 100  # so many items are checked for being file names: names passed by mistake come first
_LONGEST_NAME = 1000


def count_words(
    corpus: "os.PathLike | str | Iterable[str | os.PathLike] | Mapping[str, int]",
    splitter: Splitter,
    *,
    special_tokens: Sequence[str] | Finder = (),
    errors: Errors = "strict",
    field: str = "text",
    processes: int | None = None,
    progress: bool | None = None,
    device: Any = None,
) -> Counter[str]:
    """Count the words of a corpus.

    Files are read and counted in parts, so that memory grows with the number of distinct words and not with the size of
    the corpus. (A custom pattern may look anywhere, so with one every file is held in memory whole; so is any stretch
    of a file without spaces or line ends.) The counts do not depend on the number of processes; the order of the words
    does.

    Args:
        corpus: one of these.

            - Files: an `os.PathLike` such as `pathlib.Path`, or an iterable of them; in UTF-8. A plain file is one
              text. In JSON Lines (`.jsonl`) and Parquet (`.parquet`, with pyarrow) each record is one, by its `field`.
              Files may be compressed: `.gz`, `.bz2`, `.xz`, and with zstandard `.zst`. A folder stands for the files
              in it of these types and `.txt`; a path such as `Path("data/**/*.md")` stands for what it matches.
            - Texts: an iterable of str, for instance a generator; a single str is one text. **A str is always a text,
              never the name of a file**; if one of the first hundred names a file, it is refused. Words do not span
              two texts.
            - Ready-made counts: a mapping from words to how often they occur. It is checked and returned.
        splitter: what the words are; see `splitter`.
        special_tokens: strings that are one token each. They are cut out and not counted.
        errors: what to do about bytes in files that are not UTF-8: "strict" (raise an error that says where),
            "replace" (U+FFFD in their place), "ignore" (leave them out), or "surrogateescape" (keep them: a word's
            bytes are `word.encode("utf-8", "surrogateescape")`).
        field: the field of JSON Lines and Parquet records that holds the text. Default: "text".
        processes: how many processes count. Default: one for every core that this process may use, at most 32. Small
            corpora are counted in this process.
        progress: whether to show a progress bar. Default: on a terminal and in a notebook, if the corpus is not small.
        device: a JAX device on which to find words and count them, fed by this process alone, with the same result. The
            host still splits the distinct pieces. The device is not used for a custom pattern, for texts with NUL
            characters, or where there are very many pieces or a text cannot be cut anywhere for 64 MB. Default: the
            host, which is faster than JAX on a CPU.

    Returns:
        How often every word occurs, as Python ints, which do not overflow. Words come without the end-of-word mark.

    Raises:
        TypeError: a corpus, or an item in it, that is none of these; a device that is not a JAX device.
        ValueError: a str that names an existing file; a file that is not text, such as `.pdf`; a folder without texts;
            a record without the field; bytes that are not UTF-8, with "strict"; a negative count; an unknown value of
            `errors`; fewer than one process, or more than one with a device.
        OSError: a file that is missing or cannot be read.
        ImportError: a Parquet or zstd file without the package that reads it.
        RuntimeError: a process died, for instance because memory ran out.

    Example:
        >>> from jaxopt_lite.bpe.patterns import splitter
        >>> from jaxopt_lite.bpe.corpus import count_words
        >>> count_words(["to be or not to be"], splitter("whitespace"))["be"]
        2
    """
    if not isinstance(splitter, Splitter):
        raise TypeError(f"splitter={splitter!r:.80}: expected a Splitter, as bpe.splitter('gpt4') makes it.")
    special = _checked_settings(special_tokens, errors, processes)
    progress = None if progress is None else flag("progress", progress)
    find = _finder(device, processes)
    if isinstance(corpus, Mapping):
        return word_counts(corpus)
    items, total = _items(corpus)
    stream = batches(items, splitter, special.tokens, errors, field)
    head: list[Batch] = []
    for batch in stream:
        head.append(batch)
        if sum(batch.size for batch in head) > SMALL:
            break
    else:
        processes, progress = 1, bool(progress)
    if processes is None:
        processes = usual_processes() if device is None else 1
    here, task = Tally(splitter, special, find), (Tally, splitter, special)
    with (
        _Bar(progress, total) as bar,
        Workers("counting words", here, task, processes, lambda size, _: bar.advance(size)) as workers,
    ):
        while head:
            workers.put(*head.pop(0))
        for batch in stream:
            workers.put(*batch)
        counts, *others = workers.end()
    for other in others:
        counts.update(other)
    return counts


def _finder(device, processes: int | None) -> Find | None:
    if device is None:
        return None
    if processes not in (None, 1):
        raise ValueError(f"processes={processes} with device={device}: one process feeds a device; expected None or 1.")
    from jaxopt_lite.bpe.accelerator.words import finder  # it loads JAX, which the host does not need

    return finder(device)


def _checked_settings(special_tokens: Sequence[str] | Finder, errors: str, processes: int | None) -> Finder:
    one_of("errors", errors, ERRORS)
    if processes is not None:
        whole_number("processes", processes, least=1)
    return special_tokens if isinstance(special_tokens, Finder) else Finder(texts("special_tokens", special_tokens))


def _items(corpus) -> tuple[Iterable[object], int | None]:
    """The texts and paths of the corpus, and their size in bytes, if that is known beforehand."""
    if isinstance(corpus, str):
        if _names_a_file(corpus):
            raise ValueError(
                f"corpus={corpus!r} is the name of an existing file, but a str is taken for text. Pass "
                f"pathlib.Path({corpus!r}) to count the file, or collections.Counter(splitter.words({corpus!r})) to "
                "count the string itself."
            )
        return [corpus], len(corpus)
    if isinstance(corpus, os.PathLike):
        corpus = [corpus]
    if isinstance(corpus, bytes | bytearray) or not is_row(corpus):
        raise TypeError(
            f"corpus is {corpus!r:.80} ({type(corpus).__name__}): expected a pathlib.Path, an iterable of paths or of "
            "texts (str), such as one column of a table, or a mapping from words to counts."
        )
    if not isinstance(corpus, Sequence) or not all(isinstance(item, os.PathLike) for item in corpus):
        return corpus, None
    paths = [file for path in corpus for file in files_of(Path(path))]
    return paths, size_of(paths)


class Batch(NamedTuple):
    """Texts to count, and how much work they are: in bytes of files, in characters of texts."""

    texts: list[str]
    size: int


def batches(
    items: Iterable[object], splitter: Splitter, special_tokens: tuple[str, ...], errors: str, field: str = "text"
) -> Iterator[Batch]:
    """The texts of all items, small ones together and large ones in parts.

    Args:
        items: texts (str) and paths (os.PathLike), each a separate text.
        splitter: the scheme whose words must stay whole.
        special_tokens: strings that must stay whole.
        errors: what to do about bytes that are not UTF-8, one of `ERRORS`.
        field: the field of a record that holds the text.

    Raises:
        TypeError: an item that is neither text nor path.
        ValueError: a file that is not UTF-8, with "strict", or not text at all; a text that names a file.
        OSError: a file that cannot be read.
    """
    texts: list[str] = []
    size = 0
    for number, item in enumerate(items):
        if isinstance(item, str):
            if number < _LOOKED_AT and _names_a_file(item):
                raise ValueError(
                    f"item {number} of the corpus is {item!r}, the name of an existing file, but a str is taken for "
                    "text. Pass names as paths: map(pathlib.Path, names). For texts that equal file names pass counts: "
                    "collections.Counter(word for text in texts for word in splitter.words(text))."
                )
            pieces = _pieces(item, splitter, special_tokens)
        elif isinstance(item, os.PathLike):
            files = files_of(Path(item))
            pieces = chain.from_iterable(_of_file(file, splitter, special_tokens, errors, field) for file in files)
        else:
            raise TypeError(
                f"item {number} of the corpus is {item!r:.80} ({type(item).__name__}): expected a text (str) or a path "
                "(pathlib.Path). Decode bytes first; pass word counts as one mapping."
            )
        for text, amount in pieces:
            texts.append(text)
            size += amount
            if size >= readers.BLOCK:
                yield Batch(texts, size)
                texts, size = [], 0
    if texts:
        yield Batch(texts, size)


def _names_a_file(text: str) -> bool:
    """Whether a text is short, on one line, and the name of an existing file."""
    if not text or len(text) > _LONGEST_NAME or "\n" in text:
        return False
    try:
        return os.path.isfile(text)
    except (OSError, ValueError):
        return False  # it has characters that no file name can have


def _pieces(text: str, splitter: Splitter, special_tokens: tuple[str, ...]) -> Iterable[tuple[str, int]]:
    """A text, in blocks if it is long."""
    if len(text) <= readers.BLOCK:
        return [(text, len(text))]
    return _whole_words(_sliced(text), splitter, special_tokens)


def _of_file(
    path: Path, splitter: Splitter, special_tokens: tuple[str, ...], errors: str, field: str
) -> Iterator[tuple[str, int]]:
    """The texts of a file, long ones in blocks."""
    with closing(readers.parts(path, errors, field)) as parts:
        for part in parts:
            if part.is_last:
                yield from _pieces(part.text, splitter, special_tokens)
                continue
            yield from _whole_words(_up_to_last(part, parts), splitter, special_tokens)


def _up_to_last(part: readers.Part, more: Iterator[readers.Part]) -> Iterator[tuple[str, int]]:
    """A text in blocks, with the size of each."""
    yield part.text, part.size
    while not part.is_last:
        part = next(more)
        yield part.text, part.size


def _sliced(text: str) -> Iterator[tuple[str, int]]:
    """The text in blocks, with the number of characters of each."""
    for start in range(0, len(text), readers.BLOCK):
        block = text[start : start + readers.BLOCK]
        yield block, len(block)


def _whole_words(
    blocks: Iterable[tuple[str, int]], splitter: Splitter, special_tokens: tuple[str, ...]
) -> Iterator[tuple[str, int]]:
    """The same text in blocks that end where a text may be cut; one block if the pattern allows no cut.

    A block that cannot be cut anywhere grows by the next one.
    """
    longest = max(map(len, special_tokens), default=0)
    may_cut = splitter.local and splitter.normalizer is None
    waiting: list[str] = []  # text without a cut
    last, first, size = "", 0, 0  # the end of what was read, and from where in it to look for a cut
    for text, amount in blocks:
        if last and text:  # there is no need to cut where nothing follows
            at = _last_cut(last, first, special_tokens) if may_cut else None
            if at is None:
                # Only the end is searched again, so that long waits take linear time. As much before a possible cut is
                # kept as matters: a special token may begin there.
                first = max(len(last) - longest, first)
                at = max(first - longest - _BEFORE, 0)
                waiting.append(last[:at])
                first -= at
            else:
                yield "".join([*waiting, last[:at]]), size
                waiting, first, size = [], 0, 0
            last = last[at:]
        last += text
        size += amount
    rest = "".join([*waiting, last])
    if rest or size:
        yield rest, size


def _last_cut(text: str, first: int, special_tokens: tuple[str, ...]) -> int | None:
    """The index of one of the last characters before which the text may be cut, at least `first`; None if none is."""
    longest = max(map(len, special_tokens), default=0)
    for start in dict.fromkeys((max(len(text) - NEAR_THE_END - longest, first), first)):
        for at in reversed([match.start() for match in ONE_CUT.finditer(text, start)]):
            if at + longest <= len(text) and not _inside_special(text, at, special_tokens):
                return at
    return None


def _inside_special(text: str, at: int, special_tokens: tuple[str, ...]) -> bool:
    """Whether a cut before this character would fall inside a special token."""
    return any(text.find(token, max(at - len(token) + 1, 0), at + len(token) - 1) >= 0 for token in special_tokens)


class _Bar:
    """A progress bar on standard error, or nothing."""

    def __init__(self, shown: bool | None, total: int | None):
        self.progress = progress_bar(shown, DownloadColumn(), TransferSpeedColumn())
        self.task = self.progress.add_task("counting words", total=total)

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *_) -> None:
        self.progress.stop()

    def advance(self, size: int) -> None:
        self.progress.advance(self.task, size)
