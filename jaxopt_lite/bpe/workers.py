"""Fresh interpreters that work alongside this process, for counting and for encoding.

A worker loads only the modules of this package that it needs: it starts in a tenth of a second, and neither forks a
process that has threads nor imports the user's script again, as `multiprocessing` would.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from jaxopt_lite.cores import cores

__all__ = ["Worker", "Workers", "serve", "usual_processes"]

_MOST_PROCESSES = 32  # by default; this process combines their results, so more would gain nothing

# Empty modules take the place of the packages, so that their submodules are imported without running `__init__`.
START = """
import sys, types
package, folders, sys.path[:] = sys.argv[1], sys.argv[2:4], sys.argv[4:]
for name, folder in zip((package.rpartition(".")[0], package), folders):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from jaxopt_lite.bpe.workers import serve
serve()
"""


def usual_processes() -> int:
    """The default number of processes: one for every core that this one may use, at most 32."""
    if not sys.executable or getattr(sys, "frozen", False):
        return 1  # Python is built into another program, and there is no interpreter to start workers with
    return min(cores(), _MOST_PROCESSES)


class Worker(Protocol):
    """What does the work, in this process and in every other."""

    def do(self, message: Any, /) -> Any:
        """The answer to a message."""
        ...

    def end(self) -> Any:
        """The result after the last message."""
        ...


class Workers:
    """This process and others, which answer messages; only as many are started as are kept busy.

    Args:
        what: what they do, for errors, such as "counting words".
        here: does it in this process.
        task: a class and its arguments, from which every other process makes its own `Worker`.
        processes: how many there are at most, this one included.
        done: called with the key of every message and the answer, from any thread.
    """

    def __init__(
        self,
        what: str,
        here: Worker,
        task: tuple[Callable[..., Worker], *tuple[Any, ...]],
        processes: int,
        done: Callable[[Any, Any], None],
    ):
        self.what, self.here, self.task, self.done = what, here, task, done
        self.most_workers = processes - 1
        self.messages: queue.Queue[tuple[Any, Any] | None] = queue.Queue(maxsize=max(self.most_workers, 1))
        self.threads: list[threading.Thread] = []
        self.processes: list[subprocess.Popen] = []
        self.results: list[Any] = []
        self.failure: Exception | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        """End all workers, whatever they are doing, and wait for them."""
        self.failure = self.failure or RuntimeError("the workers are gone")
        for process in self.processes:
            process.kill()
        for thread in self.threads:
            if thread.ident is not None:  # it has been started
                thread.join()

    def put(self, message: Any, key: Any) -> None:
        """Pass a message to the workers, or answer it here if all have enough to do."""
        if self.failure is not None:
            raise self.failure
        if len(self.threads) < self.most_workers and (self.messages.full() or not self.threads):
            self.threads.append(threading.Thread(target=self._attend, daemon=True))
            self.threads[-1].start()
        if self.threads and not self.messages.full():  # nobody else fills it
            self.messages.put((message, key))
        else:
            self.done(key, self.here.do(message))

    def end(self) -> list[Any]:
        """The result of each process, this one first; no messages can be put afterwards."""
        while self.threads and self.failure is None:
            try:
                message, key = self.messages.get_nowait()  # pyright: ignore[reportGeneralTypeIssues]  # none is the end
            except queue.Empty:
                break
            self.done(key, self.here.do(message))
        for _ in self.threads:
            self._put_end()
        here = self.here.end()
        for thread in self.threads:
            thread.join()
        if self.failure is not None:
            raise self.failure
        return [here, *self.results]

    def _put_end(self) -> None:
        while self.failure is None:
            try:
                return self.messages.put(None, timeout=0.1)
            except queue.Full:
                continue

    def _attend(self) -> None:
        """Start a worker, feed it and wait for its end; errors are raised where messages are put.

        This runs in a separate thread, where Ctrl-C cannot come between starting a process and ending it.
        """
        try:
            with self._started() as process:
                try:
                    self._ask(process, self.task)
                    while (message := self._next()) is not None:
                        self.done(message[1], self._ask(process, message))
                    self.results.append(self._ask(process, None))
                except Exception as error:  # kept before the pipes are closed, which may fail too
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
            start_new_session=True,  # Ctrl-C in the terminal reaches only this process, which then ends the workers
        )
        self.processes.append(process)
        if self.failure is not None:  # the processes in the list may have been killed before this one was in it
            process.kill()
        return process

    def _next(self) -> tuple[Any, Any] | None:
        while self.failure is None:
            try:
                return self.messages.get(timeout=0.1)
            except queue.Empty:
                continue
        raise self.failure

    def _ask(self, process: subprocess.Popen, message: object):
        try:
            _send(process.stdin, message)
            succeeded, answer = pickle.load(process.stdout)  # pyright: ignore[reportArgumentType]  # it is a pipe
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise RuntimeError(
                f"a process that was {self.what} ended with exit code {process.wait()}; a negative one is a signal, "
                "and -9 usually means that memory ran out. Pass fewer processes, or processes=1 to do it in this one."
            ) from error
        if not succeeded:
            raise RuntimeError(f"{self.what} failed in a worker:\n{answer}")
        return answer


def serve() -> None:
    """What a worker does: read a task and messages from standard input, answer each, and finally send its result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        make, *args = pickle.load(sys.stdin.buffer)
        worker: Worker = make(*args)
        _send(sys.stdout.buffer, (True, None))
        while (message := pickle.load(sys.stdin.buffer)) is not None:
            _send(sys.stdout.buffer, (True, worker.do(message[0])))
        _send(sys.stdout.buffer, (True, worker.end()))
    except (EOFError, BrokenPipeError):
        os._exit(1)  # nobody is listening anymore
    except BaseException:
        _send(sys.stdout.buffer, (False, traceback.format_exc()))


def _send(pipe, message: object) -> None:
    pickle.dump(message, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()
