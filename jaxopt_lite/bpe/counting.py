"""Counting the words of texts, in this process or in workers. Imports the standard library and `patterns` alone.

A worker is a fresh interpreter that loads this file and `patterns`, without JAX: it starts in a few hundredths of a
second, and neither forks a process that has threads nor imports the user's script again, as `multiprocessing` would.
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
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from jaxopt_lite.bpe.patterns import Splitter, split_special

__all__ = ["Pool", "Tally", "serve"]

MOST_CHUNKS = 500_000  # about 100 MB
MOST_CHARACTERS = 64_000_000

# The packages are stood in for by empty modules, whose submodules can be imported without running `__init__`.
START = """
import sys, types
package, places, sys.path[:] = sys.argv[1], sys.argv[2:4], sys.argv[4:]
for name, place in zip((package.rpartition(".")[0], package), places):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [place]
from jaxopt_lite.bpe.counting import serve
serve()
"""


class Tally:
    """Word counts of the texts added so far.

    Chunks are counted first, and only the distinct ones are cut into words; see `Splitter.chunks`. Their number is
    bounded, so that memory goes with the distinct words of the corpus and not with its size.
    """

    def __init__(self, splitter: Splitter, special_tokens: tuple[str, ...] = ()):
        self.splitter, self.special_tokens = splitter, special_tokens
        self.chunk_counts: Counter[str] = Counter()
        self.word_counts: Counter[str] = Counter()
        self.waiting = 0  # characters whose chunks are in chunk_counts

    def add(self, texts: list[str]) -> None:
        """Count the words of these texts."""
        pieces = texts
        if self.special_tokens:
            cut = chain.from_iterable(split_special(text, self.special_tokens) for text in texts)
            pieces = [piece for is_special, piece in cut if not is_special]
        if self.splitter.local and self.splitter.pattern is not None:
            self.chunk_counts.update(chain.from_iterable(map(self.splitter.chunks, pieces)))
            self.waiting += sum(map(len, pieces))
        else:
            self.word_counts.update(chain.from_iterable(map(self.splitter.words, pieces)))
        if len(self.chunk_counts) > MOST_CHUNKS or self.waiting > MOST_CHARACTERS:
            self._split_chunks()

    def words(self) -> Counter[str]:
        """The counts."""
        self._split_chunks()
        return self.word_counts

    def _split_chunks(self) -> None:
        """Cut the chunks into words, those of one count joined: one call of the pattern is faster than thousands."""
        groups: dict[tuple[int, bool], list[str]] = {}
        alone = []
        for chunk, count in self.chunk_counts.items():
            # Between two such chunks is a place where every text may be cut, so that joining them is sound.
            if chunk[0] == " " and not chunk[-1].isspace():
                groups.setdefault((count, chunk.isascii()), []).append(chunk)
            else:
                alone.append((chunk, count))
        self.chunk_counts, self.waiting = Counter(), 0
        counts = self.word_counts
        for (count, _), chunks in groups.items():
            words = self.splitter.words("".join(chunks))
            if count == 1:
                counts.update(words)
            else:
                for word in words:
                    counts[word] += count
        for chunk, count in alone:
            for word in self.splitter.words(chunk):
                counts[word] += count


class Pool:
    """Workers that count batches of texts, as many as are kept busy.

    Args:
        splitter: what the words are.
        special_tokens: texts that are cut out and not counted.
        processes: how many workers at most.
        done: is told the size of every batch that has been counted, from any thread.
    """

    def __init__(
        self, splitter: Splitter, special_tokens: tuple[str, ...], processes: int, done: Callable[[int], None]
    ):
        self.task = (splitter, special_tokens)
        self.processes, self.done = processes, done
        self.batches: queue.Queue[tuple[list[str], int] | None] = queue.Queue(maxsize=1)
        self.workers: list[tuple[subprocess.Popen, threading.Thread]] = []
        self.results: list[dict[str, int]] = []
        self.failure: Exception | None = None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_) -> None:
        """End all workers, whatever they are doing, and wait for them."""
        for process, _ in self.workers:
            process.kill()
        for process, thread in self.workers:
            process.wait()
            self.failure = self.failure or RuntimeError("the pool is closed")
            thread.join()
            for pipe in (process.stdin, process.stdout):
                _close(pipe)

    def put(self, batch: tuple[list[str], int] | None) -> None:
        """Give a batch to a worker that has nothing to do; wait for one if need be."""
        if self.batches.full() or not self.workers:
            self._start()
        while True:
            if self.failure is not None:
                raise self.failure
            try:
                return self.batches.put(batch, timeout=0.1)
            except queue.Full:
                continue

    def words(self) -> Counter[str]:
        """The counts of all batches; no more can be put afterwards."""
        self.processes = len(self.workers)
        for _ in self.workers:
            self.put(None)
        for _, thread in self.workers:
            thread.join()
        if self.failure is not None:
            raise self.failure
        counts: Counter[str] = Counter()
        for result in sorted(self.results, key=len, reverse=True):
            counts.update(result)
        return counts

    def _start(self) -> None:
        if len(self.workers) >= self.processes:
            return
        room = Path(__file__).parent
        command = [sys.executable, "-I", "-S", "-c", START, __package__ or "", str(room.parent), str(room), *sys.path]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal reaches this process alone, which then ends the workers
        )
        thread = threading.Thread(target=self._attend, args=(process,), daemon=True)
        self.workers.append((process, thread))
        thread.start()

    def _attend(self, process: subprocess.Popen) -> None:
        """Feed one worker; what goes wrong is raised where batches are put."""
        try:
            self._ask(process, self.task)
            while (batch := self._next()) is not None:
                self._ask(process, batch[0])
                self.done(batch[1])
            self.results.append(self._ask(process, None))
        except Exception as error:
            self.failure = self.failure or error

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


def _close(pipe) -> None:
    try:
        pipe.close()
    except OSError:
        pass  # what was still to be written to a worker that is gone
