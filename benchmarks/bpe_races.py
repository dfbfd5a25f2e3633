"""What runs in the processes that `benchmarks.bpe` starts: trainers and encoders timed in turn, and their memory.

Functions load the packages they need, so that a process that measures the memory of one trainer holds no other.
"""

import hashlib
import json
import re
import resource
import statistics
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import psutil

from benchmarks.bpe_peers import OURS, TRAINERS, documents
from benchmarks.packages import version
from jaxopt_lite.cores import cores

_ENCODED = 16_000_000  # characters at most in the race of encoders
_SAMPLE_SECONDS = 0.02


# --- Timing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """One call in a race: `run` is timed; `prepare`, whose result it gets, is not."""

    name: str
    package: str
    size: int  # bytes of text
    run: Callable[[Any], Any]
    prepare: Callable[[], Any] = lambda: None


def _interleaved(entries: list[_Entry], judge: Callable[[Any], Any], repeats: int) -> tuple[list[dict], list]:
    """The rows of a race, and what `judge` says of the last answer of each entry."""
    seconds, used, verdicts = [[] for _ in entries], [[] for _ in entries], []
    for repeat in range(repeats):
        for k, entry in enumerate(entries):
            prepared = entry.prepare()
            begin, busy = time.perf_counter(), _processor_time()
            answer = entry.run(prepared)
            seconds[k].append(time.perf_counter() - begin)
            used[k].append((_processor_time() - busy) / seconds[k][-1])
            if repeat == repeats - 1:
                verdicts.append(judge(answer))
            del answer, prepared  # no peer should have to share the memory with it
    rows = [
        {
            "name": entry.name,
            "version": version(entry.package),
            "is_ours": entry.name.startswith(OURS),
            "bytes": entry.size,
            "run_s": statistics.median(times),
            "all_runs_s": times,
            "cores_used": statistics.median(part),
            "mb_per_second": entry.size / 1e6 / statistics.median(times),
        }
        for entry, times, part in zip(entries, seconds, used, strict=True)
    ]
    return rows, verdicts


def _processor_time() -> float:
    """The processor time of this process and of those it started that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


# --- Races: (file, size of the vocabulary, pattern, repeats) -> rows -------------------------------------------------


def training(path: Path, size: int, pattern: str, repeats: int) -> list[dict]:
    """From the file to the vocabulary; also counting and merging by themselves."""
    from jaxopt_lite import bpe

    for _, module, _ in TRAINERS.values():
        import_module(module)
    many, split = path.stat().st_size, bpe.splitter(pattern)
    counts = bpe.count_words(path, split, progress=False)
    entries = [
        _Entry(name, package, many, lambda _, train=train: train(path, size, pattern))
        for name, (package, _, train) in TRAINERS.items()
    ]
    entries += [
        _Entry(f"{OURS}, counting", "jaxopt-lite", many, lambda _: bpe.count_words(path, split, progress=False)),
        _Entry(
            f"{OURS}, merging", "jaxopt-lite", many, lambda _: bpe.train(counts, size, pattern=pattern, progress=False)
        ),
    ]
    rows, trained = _interleaved(entries, lambda answer: answer, repeats)
    ours, rust, hugging_face = trained[:3]
    same = [None] * len(rows)
    same[1] = [bytes(token) for token, _ in rust.get_mergeable_ranks()] == list(ours.vocabulary.tokens)
    in_their_order = bpe.train(counts, size, pattern=pattern, initial_alphabet="gpt2", progress=False)
    same[2] = _merges(in_their_order) == json.loads(hugging_face.to_str())["model"]["merges"]
    made = {"merges": len(ours.vocabulary.merges), "distinct_words": len(counts), "device": _device()}
    return [row | {"same": equal} | made for row, equal in zip(rows, same, strict=True)]


def _merges(tokenizer) -> list:
    """The merges of one of our tokenizers as Hugging Face writes them."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder, "tokenizer.json"))
        return json.loads(Path(folder, "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]


def encoding(path: Path, size: int, pattern: str, repeats: int) -> list[dict]:
    """Pieces of about 1 kB of the text, many in one call, with the vocabulary that was trained on it."""
    import tiktoken
    import tokenizers

    from jaxopt_lite import bpe

    trained = bpe.train(path, size, pattern=pattern, progress=False)
    texts, length = [], 0
    for text in documents(path):
        texts.append(text)
        length += len(text)
        if length > _ENCODED:
            break
    many = sum(len(text.encode()) for text in texts)
    ranks = {token: k for k, token in enumerate(trained.vocabulary.tokens)}
    peer = tiktoken.Encoding("trained", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    with tempfile.TemporaryDirectory() as folder:
        trained.save(Path(folder, "tokenizer.json"))
        theirs = tokenizers.Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
    trained.encode_batch(texts)
    all_cores, empty = cores(), lambda: bpe.Tokenizer(trained.vocabulary, trained.splitter)
    entries = [
        _Entry(f"{OURS}, first call", "jaxopt-lite", many, lambda fresh: fresh.encode_batch(texts), empty),
        _Entry(
            f"{OURS}, first call, {all_cores} processes", "jaxopt-lite", many,
            lambda fresh: fresh.encode_batch(texts, processes=all_cores), empty,
        ),
        _Entry(f"{OURS}, again", "jaxopt-lite", many, lambda _: trained.encode_batch(texts)),
        _Entry("tiktoken, one by one", "tiktoken", many, lambda _: [peer.encode_ordinary(text) for text in texts]),
        _Entry(
            f"tiktoken, {all_cores} threads", "tiktoken", many,
            lambda _: peer.encode_ordinary_batch(texts, num_threads=all_cores),
        ),
        _Entry("tokenizers", "tokenizers", many, lambda _: theirs.encode_batch_fast(texts)),
    ]  # fmt: skip
    rows, answers = _interleaved(entries, _digest, repeats)
    same = [None, *(answer == answers[0] for answer in answers[1:])]
    what = {"tokens": answers[0][0], "texts": len(texts), "device": _device()}
    return [row | {"same": equal} | what for row, equal in zip(rows, same, strict=True)]


def _digest(answer: list) -> tuple[int, str]:
    """How many ids there are, and a digest of them."""
    rows = [row if isinstance(row, list) else row.ids for row in answer]
    content = array("q", map(len, rows)).tobytes() + array("q", chain.from_iterable(rows)).tobytes()
    return sum(map(len, rows)), hashlib.sha256(content).hexdigest()


def linearity(path: Path, size: int, pattern: str, repeats: int) -> list[dict]:
    """Training on a quarter, a half and all of the text."""
    ours, peer = TRAINERS[OURS], TRAINERS["rustbpe"]
    import_module(ours[1])
    import_module(peer[1])
    with tempfile.TemporaryDirectory() as folder:
        entries = []
        for share in (4, 2, 1):
            part = _beginning(path, share, Path(folder, f"part-{share}.txt"))
            for name, (package, _, train) in ((OURS, ours), ("rustbpe", peer)):
                label = f"{name}, 1/{share}" if share > 1 else f"{name}, all"
                run = lambda _, part=part, train=train: train(part, size, pattern)  # noqa: E731
                entries.append(_Entry(label, package, part.stat().st_size, run))
        rows, _ = _interleaved(entries, lambda answer: None, repeats)
    return [row | {"device": _device()} for row in rows]


def _beginning(path: Path, share: int, part: Path) -> Path:
    """Write the first of `share` equal parts of a text."""
    left = path.stat().st_size // share
    with open(part, "wb") as out:
        for text in documents(path):
            if left <= 0:
                break
            left -= out.write(text.encode())
    return part


def _device() -> str:
    import jax

    device = jax.devices()[0]
    return "cpu" if device.platform == "cpu" else device.device_kind


# --- Memory -----------------------------------------------------------------------------------------------------


class _Sampler(threading.Thread):
    """Samples how much memory this process and those it started hold together, and keeps the most."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self._process, self._done = 0, psutil.Process(), threading.Event()

    def run(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            total = 0
            for process in (self._process, *self._process.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.Error:  # it has just ended
                    continue
            self.peak = max(self.peak, total)

    def stop(self) -> float:
        """The peak in MiB; at least that of this process by the system, in case it kept the sampler waiting."""
        self._done.set()
        self.join()
        return max(self.peak, _own_peak()) / 2**20


def _own_peak() -> int:
    """Bytes, or 0 where the system does not say. (`ru_maxrss` begins at that of the process that started this.)"""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else 0


def alone(path: Path, size: int, pattern: str, name: str) -> list[dict]:
    """One training by one trainer in this process: its time and its memory."""
    package, module, train = TRAINERS[name]
    import_module(module)
    sampler = _Sampler()
    sampler.start()
    entry = _Entry(name, package, path.stat().st_size, lambda _: train(path, size, pattern))
    rows, _ = _interleaved([entry], lambda answer: None, 1)
    row = rows[0] | {"peak_mib": sampler.stop()}
    return [row | {"device": _device()} if name == OURS else row]  # peers load no JAX


def stock_pattern() -> list[dict]:
    """The pattern gpt4, so that the asking process need not load JAX."""
    from jaxopt_lite.bpe import splitter

    return [{"pattern": splitter("gpt4").pattern}]


def main() -> None:
    """The command of a child process: writes the rows.

    `training|encoding|linearity FILE SIZE PATTERN REPEATS OUT`, `alone FILE SIZE PATTERN TRAINER OUT`, or
    `stock_pattern OUT`.
    """
    race, *arguments, out = sys.argv[1:]
    if race == "stock_pattern":
        rows = stock_pattern()
    else:
        path, size, pattern, last = arguments
        races = {"training": training, "encoding": encoding, "linearity": linearity}
        if race == "alone":
            rows = alone(Path(path), int(size), pattern, last)
        else:
            rows = races[race](Path(path), int(size), pattern, int(last))
    Path(out).write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
