"""How often every word of a corpus occurs: what training starts from. The front door of `reading` and `counting`."""

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from rich.progress import DownloadColumn, TransferSpeedColumn

from jaxopt_lite.bpe.counting import Find, Pool
from jaxopt_lite.bpe.given import texts, whole_number
from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.reading import ERRORS, Batch, batches, check_text, names_a_file
from jaxopt_lite.bpe.special import Finder
from jaxopt_lite.cores import cores
from jaxopt_lite.progress import progress_bar

__all__ = ["checked_counts", "count_words"]

SMALL = 8 << 20  # bytes that are counted in this process, in the time in which workers would start
MOST_PROCESSES = 32  # by default; what they find is put together in this process, which more of them would not speed up


def count_words(
    corpus: "os.PathLike | str | Iterable[str | os.PathLike] | Mapping[str, int]",
    splitter: Splitter,
    *,
    special_tokens: Sequence[str] | Finder = (),
    errors: str = "strict",
    processes: int | None = None,
    progress: bool | None = None,
    device: Any = None,
) -> Counter[str]:
    """Count the words of a corpus.

    Files are read and counted in parts, so that memory grows with the number of distinct words and not with the size of
    the corpus. (A custom pattern may look anywhere, so that under one every file is held in memory whole; and so is a
    stretch of a file without any space or line end.) The counts do not depend on the number of processes; the order of
    the words does.

    Args:
        corpus: one of these.

            - Files: an `os.PathLike` such as `pathlib.Path`, or an iterable of them. Each is one text, in UTF-8.
            - Texts: an iterable of str, for instance a generator; a single str is one text. **A str is always a text,
              never the name of a file**; one among the first hundred that names one is refused. Words do not go from
              one text to the next.
            - Ready counts: a mapping from words to how often they occur. It is checked and returned.
        splitter: what the words are; see `splitter`.
        special_tokens: texts that stand for themselves. They are cut out and counted nowhere.
        errors: what to do about bytes in files that are not UTF-8: "strict" (raise an error that says where),
            "replace" (U+FFFD in their place), "ignore" (leave them out), or "surrogateescape" (keep them: a word's
            bytes are `word.encode("utf-8", "surrogateescape")`).
        processes: how many processes count. Default: one for every core that this process may use, at most 32. Small
            corpora are counted in this process.
        progress: whether to show a progress bar. Default: if standard error is a terminal and the corpus is not small.
        device: a JAX device on which to find words and count them, from this process alone, with the same result. The
            host still splits what is distinct. The device is not used for a custom pattern, for texts with NUL
            characters, and where there are very many pieces or a text cannot be cut anywhere for 64 MB. Default: the
            host, which is quicker than JAX on a CPU.

    Returns:
        How often every word occurs, as Python ints, which do not overflow. Words come without the end-of-word mark.

    Raises:
        TypeError: a corpus, or an item in it, that is none of these; a device that is none of JAX.
        ValueError: a str that names an existing file; a file that is no text, such as `.jsonl` or `.gz`: its texts can
            be passed; bytes that are not UTF-8, under "strict"; a count below zero; an unknown value of `errors`; fewer
            than one process, or more than one with a device.
        OSError: a file that is missing, is a directory, or cannot be read.
        RuntimeError: a process ended before its time, for instance because memory ran out.

    Example:
        >>> from jaxopt_lite.bpe.patterns import splitter
        >>> from jaxopt_lite.bpe.words import count_words
        >>> count_words(["to be or not to be"], splitter("whitespace"))["be"]
        2
    """
    if not isinstance(splitter, Splitter):
        raise TypeError(f"splitter={splitter!r:.80}: expected a Splitter, as bpe.splitter('gpt4') makes it.")
    special = _checked_settings(special_tokens, errors, processes)
    find = _finder(device, processes)
    if isinstance(corpus, Mapping):
        return checked_counts(corpus)
    items, total = _items(corpus)
    stream = batches(items, splitter, special.tokens, errors)
    head: list[Batch] = []
    for batch in stream:
        head.append(batch)
        if sum(batch.size for batch in head) > SMALL:
            break
    else:
        processes, progress = 1, bool(progress)
    shown = sys.stderr.isatty() if progress is None else progress
    if processes is None:
        processes = _usual_processes() if device is None else 1
    with _Bar(shown, total) as bar, Pool(splitter, special, processes, bar.advance, find) as pool:
        while head:
            pool.put(head.pop(0))
        for batch in stream:
            pool.put(batch)
        return pool.words()


def _finder(device, processes: int | None) -> Find | None:
    if device is None:
        return None
    if processes not in (None, 1):
        raise ValueError(f"processes={processes} with device={device}: one process feeds a device; expected None or 1.")
    from jaxopt_lite.bpe.device_words import finder  # it loads JAX, which the host can do without

    return finder(device)


def _usual_processes() -> int:
    if not sys.executable or getattr(sys, "frozen", False):
        return 1  # Python is built into another program, and there is no interpreter to start workers with
    return min(cores(), MOST_PROCESSES)


def _checked_settings(special_tokens: Sequence[str] | Finder, errors: str, processes: int | None) -> Finder:
    if errors not in ERRORS:
        raise ValueError(f"errors={errors!r}: expected one of {', '.join(map(repr, ERRORS))}.")
    if processes is not None:
        whole_number("processes", processes, least=1)
    return special_tokens if isinstance(special_tokens, Finder) else Finder(texts("special_tokens", special_tokens))


def checked_counts(counts: Mapping) -> Counter[str]:
    """Ready word counts, when they are such."""
    checked: Counter[str] = Counter()
    for word, count in counts.items():
        if not isinstance(word, str):
            raise TypeError(f"the word {word!r:.80} in the counts is of type {type(word).__name__}: expected str.")
        if not isinstance(count, Integral) or isinstance(count, bool):
            raise TypeError(f"the count of {word!r:.80} is {count!r} ({type(count).__name__}): expected an int.")
        if count < 0:
            raise ValueError(f"the count of {word!r:.80} is {count}: expected how often it occurs, at least 0.")
        checked[word] = int(count)
    return checked


def _items(corpus) -> tuple[Iterable[object], int | None]:
    """The texts and paths of the corpus, and the bytes they are, if that is known beforehand."""
    if isinstance(corpus, str):
        if names_a_file(corpus):
            raise ValueError(
                f"corpus={corpus!r} is the name of an existing file, but a str is taken for text. Pass "
                f"pathlib.Path({corpus!r}) to count the file, or collections.Counter(splitter.words({corpus!r})) to "
                "count these few letters."
            )
        return [corpus], len(corpus)
    if isinstance(corpus, os.PathLike):
        corpus = [corpus]
    if isinstance(corpus, bytes | bytearray) or not isinstance(corpus, Iterable):
        raise TypeError(
            f"corpus is {corpus!r:.80} ({type(corpus).__name__}): expected a pathlib.Path, an iterable of paths or of "
            "texts (str), or a mapping from words to counts."
        )
    if not isinstance(corpus, Sequence) or not all(isinstance(item, os.PathLike) for item in corpus):
        return corpus, None
    paths = [check_text(path) for path in corpus]
    sizes = [path.stat() for path in paths]
    return paths, sum(size.st_size for size in sizes) if all(stat.S_ISREG(size.st_mode) for size in sizes) else None


class _Bar:
    """A progress bar on standard error, or nothing."""

    def __init__(self, shown: bool, total: int | None):
        self.progress = progress_bar(shown, DownloadColumn(), TransferSpeedColumn())
        self.task = self.progress.add_task("counting words", total=total)

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *_) -> None:
        self.progress.stop()

    def advance(self, size: int) -> None:
        self.progress.advance(self.task, size)
