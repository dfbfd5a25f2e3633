"""Counting the words of texts, in this process and in workers.

A worker is a fresh interpreter that loads this file and what it imports: it starts in a tenth of a second, and neither
forks a process that has threads nor imports the user's script again, as `multiprocessing` would.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import numpy as np

from jaxopt_lite.bpe.cuts import WALL, starts
from jaxopt_lite.bpe.patterns import Finder, Splitter
from jaxopt_lite.bpe.table import Table

__all__ = ["Pool", "Tally", "serve"]

MOST_PIECES = 500_000  # about 50 MB
MOST_BYTES = 64_000_000  # of pieces too long for the table
# Of texts with `WALL` between them, by a pattern as `cuts.starts` takes it: where pieces start, and, if equal ones have
# been counted, their lengths and how often each occurs.
Find = Callable[[bytes, str | None], tuple[np.ndarray, ...]]
_UTF8 = "utf-8", "surrogatepass"  # surrogates stand for bytes that were not UTF-8

# Empty modules take the place of the packages, so that their submodules are imported without running `__init__`.
START = """
import sys, types
package, folders, sys.path[:] = sys.argv[1], sys.argv[2:4], sys.argv[4:]
for name, folder in zip((package.rpartition(".")[0], package), folders):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from jaxopt_lite.bpe.counting import serve
serve()
"""


class Tally:
    """Word counts of the texts added so far.

    Pieces are counted first, see `cuts.py`, and only the distinct ones are split into words. Their number is bounded,
    so that memory grows with the distinct words of the corpus and not with its size.
    """

    def __init__(self, splitter: Splitter, special: Finder | None = None, find: Find | None = None):
        self.splitter, self.special = splitter, special
        self.find = find or _find
        self.table, self.counts = Table(), np.zeros(0, np.int64)
        self.word_counts: Counter[str] = Counter()

    def add(self, texts: list[str]) -> None:
        """Count the words of these texts."""
        pieces, firsts = texts, [True] * len(texts)
        if self.special is not None and self.special.finds(texts):
            cut = [(piece, not k) for text in texts for k, (token, piece) in enumerate(self.special.cut(text))
                   if token is None]  # fmt: skip
            pieces, firsts = [piece for piece, _ in cut], [is_first for _, is_first in cut]
        if not self.splitter.local:
            self.word_counts.update(chain.from_iterable(map(self.splitter.words, pieces, firsts)))
            return
        data = WALL.join(piece.encode(*_UTF8) for piece in pieces)
        if b"\0" in data:  # which a table cannot tell from nothing
            distinct = Counter(chain.from_iterable(map(self.splitter.chunks, pieces)))
            self._split(distinct.items())
        elif data:
            self._count(data, *self.find(data, self.splitter.pattern))
        if self.table.is_full(MOST_PIECES, MOST_BYTES):
            self._empty_table()

    def words(self) -> Counter[str]:
        """The counts."""
        self._empty_table()
        return self.word_counts

    def _empty_table(self) -> None:
        pieces = self.table.items(self.counts)
        self.table, self.counts = Table(), np.zeros(0, np.int64)
        self._split((piece.decode(*_UTF8), count) for piece, count in pieces if piece != WALL)

    def _count(self, data: bytes, starts: np.ndarray, *found: np.ndarray) -> None:
        """Count the pieces that start here: once each, or with their lengths and counts as often as these say."""
        lengths, times = found or (None, None)
        numbers = self.table.numbers(data, starts, lengths)
        before, self.counts = self.counts, np.bincount(numbers, minlength=len(self.table))
        if times is not None:
            self.counts[:] = 0  # weights of `bincount` would be floats
            np.add.at(self.counts, numbers, times)
        self.counts[: before.size] += before

    def _split(self, pieces: Iterable[tuple[str, int]]) -> None:
        """Split pieces into words, those of one count joined: one call of the pattern is faster than thousands."""
        groups: dict[tuple[int, bool], list[str]] = {}
        counts = self.word_counts
        for piece, count in pieces:
            # Between two such pieces every text may be cut, so that joining them is sound.
            if piece[0] == " " and not piece[-1].isspace():
                groups.setdefault((count, piece.isascii()), []).append(piece)
            else:
                for word in self.splitter.words(piece):
                    counts[word] += count
        for (count, _), joined in groups.items():
            words = self.splitter.words("".join(joined))
            if count == 1:
                counts.update(words)
            else:
                for word in words:
                    counts[word] += count


def _find(data: bytes, pattern: str | None) -> tuple[np.ndarray, ...]:
    return (starts(data, pattern),)


class Pool:
    """This process and workers that count batches of texts, as many as are kept busy.

    Args:
        splitter: what the words are.
        special: finds texts that are cut out and not counted.
        processes: how many processes count at most; one is this.
        done: called with the size of every batch that has been counted, from any thread.
        find: finds the pieces of texts in this process; by NumPy if it is left out.
    """

    def __init__(
        self,
        splitter: Splitter,
        special: Finder,
        processes: int,
        done: Callable[[int], None],
        find: Find | None = None,
    ):
        self.task = (splitter, special)
        self.tally = Tally(splitter, special, find)
        self.most_workers, self.done = processes - 1, done
        self.batches: queue.Queue[tuple[list[str], int] | None] = queue.Queue(maxsize=max(self.most_workers, 1))
        self.threads: list[threading.Thread] = []
        self.processes: list[subprocess.Popen] = []
        self.results: list[dict[str, int]] = []
        self.failure: Exception | None = None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_) -> None:
        """End all workers, whatever they are doing, and wait for them."""
        self.failure = self.failure or RuntimeError("the pool is closed")
        for process in self.processes:
            process.kill()
        for thread in self.threads:
            if thread.ident is not None:  # it has been started
                thread.join()

    def put(self, batch: tuple[list[str], int]) -> None:
        """Give a batch to the workers, or count it here if all have enough to do."""
        if self.failure is not None:
            raise self.failure
        if len(self.threads) < self.most_workers and (self.batches.full() or not self.threads):
            self.threads.append(threading.Thread(target=self._attend, daemon=True))
            self.threads[-1].start()
        if self.threads and not self.batches.full():  # nobody else fills it
            self.batches.put(batch)
        else:
            self.tally.add(batch[0])
            self.done(batch[1])

    def words(self) -> Counter[str]:
        """The counts of all batches; no more can be put afterwards."""
        for _ in self.threads:
            self._put_end()
        counts = self.tally.words()
        for thread in self.threads:
            thread.join()
        if self.failure is not None:
            raise self.failure
        for result in self.results:
            counts.update(result)
        return counts

    def _put_end(self) -> None:
        while self.failure is None:
            try:
                return self.batches.put(None, timeout=0.1)
            except queue.Full:
                continue

    def _attend(self) -> None:
        """Start a worker, feed it and see it end; what goes wrong is raised where batches are put.

        It runs in a thread of its own, where no Ctrl-C comes between the start of a process and what ends it.
        """
        try:
            with self._started() as process:
                try:
                    self._ask(process, self.task)
                    while (batch := self._next()) is not None:
                        self._ask(process, batch[0])
                        self.done(batch[1])
                    self.results.append(self._ask(process, None))
                except Exception as error:  # noted before the pipes are closed, which may fail in turn
                    self.failure = self.failure or error
                finally:
                    process.kill()
        except Exception as error:
            self.failure = self.failure or error

    def _started(self) -> subprocess.Popen:
        here = Path(__file__).parent
        command = [sys.executable, "-I", "-S", "-c", START, __package__ or "", str(here.parent), str(here), *sys.path]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal reaches this process alone, which then ends the workers
        )
        self.processes.append(process)
        if self.failure is not None:  # whoever ends those in the list may have done so before
            process.kill()
        return process

    def _next(self) -> tuple[list[str], int] | None:
        while self.failure is None:
            try:
                return self.batches.get(timeout=0.1)
            except queue.Empty:
                continue
        raise self.failure

    def _ask(self, process: subprocess.Popen, message: object):
        try:
            _send(process.stdin, message)
            succeeded, answer = pickle.load(process.stdout)  # pyright: ignore[reportArgumentType]  # it is a pipe
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise RuntimeError(
                f"a process that counted words ended with exit code {process.wait()}; a negative one is a signal, and "
                "-9 mostly means that memory ran out. Pass fewer processes, or processes=1 to count in this process."
            ) from error
        if not succeeded:
            raise RuntimeError(f"counting words failed in a worker:\n{answer}")
        return answer


def serve() -> None:
    """What a worker does: read the task and batches from its standard input, answer each, and in the end the counts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        tally = Tally(*pickle.load(sys.stdin.buffer))
        _send(sys.stdout.buffer, (True, None))
        while (texts := pickle.load(sys.stdin.buffer)) is not None:
            tally.add(texts)
            _send(sys.stdout.buffer, (True, None))
        _send(sys.stdout.buffer, (True, dict(tally.words())))
    except (EOFError, BrokenPipeError):
        os._exit(1)  # nobody listens any more
    except BaseException:
        _send(sys.stdout.buffer, (False, traceback.format_exc()))


def _send(pipe, message: object) -> None:
    pickle.dump(message, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()
