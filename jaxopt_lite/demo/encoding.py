"""How few tokens does text take? A tokenizer learned from Python's own library, and tried on files it has not seen."""

import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jaxopt_lite import bpe
from jaxopt_lite.bpe.report import first_merges
from jaxopt_lite.demo.batches import Tally, passing_ctrl_c_on
from jaxopt_lite.progress import working

__all__ = ["library_sources", "run"]

_TOKENS = 8192
_HELD_OUT = 10  # every tenth file
_TOGETHER = 100  # files that are encoded in one call
_MERGES_SHOWN = 8
_ELSEWHERE = {"site-packages", "dist-packages", "test", "tests", "lib2to3"}  # not the library, or no usual Python
_ERRORS = "surrogateescape"  # keeps bytes that are not UTF-8


def run(paths: Sequence[Path] | None, console: Console, tallies: list[Tally], every: int = 1) -> None:
    """Learn a tokenizer from nine files in ten, encode all, decode them again, and print compression and speed.

    Args:
        paths: the files; `None` for the sources of Python's standard library. With fewer than ten, none is held out.
        console: where to print.
        tallies: this batch's is appended: files encoded (solved), and those of them that decode to the same (verified).
        every: take one in this many of the standard library's files; default 1, all.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the tally says how far the batch had come.
    """
    subject = "Python's standard library" if paths is None else "your text"
    paths = library_sources()[::every] if paths is None else list(paths)
    console.print()
    console.rule(f"Byte-pair encoding: {subject}", align="left")
    if not paths:
        console.print("Its sources are not installed here; give files with: python -m jaxopt_lite demo --text FILE ...")
        return
    is_held_out = [k % _HELD_OUT == 0 for k in range(1, len(paths) + 1)]
    learned = [path for path, held in zip(paths, is_held_out, strict=True) if not held]
    size = sum(path.stat().st_size for path in learned)
    share, rest = (f"{len(learned):,} of them", "the others are") if any(is_held_out) else ("all", "none is")
    console.print(
        f"{len(paths):,} file{'s' if len(paths) > 1 else ''}. Up to {_TOKENS:,} tokens, learned from {share} "
        f"({size / 1e6:.1f} MB); {rest} held out. Text is cut into words as for GPT-4; the first tokens are the 256 "
        "bytes."
    )
    tally = Tally("byte-pair encoding", len(paths))
    tallies.append(tally)
    lines = Table.grid(padding=(0, 2))
    with working("learning a tokenizer"):
        tokenizer = _learn(learned, size, lines)
    console.print("\nThe first merges:")
    console.print(first_merges(tokenizer, _MERGES_SHOWN))
    with working("encoding"):
        measured = _encode_and_verify(tokenizer, paths, tally)
    _add_results(lines, tally, measured, is_held_out)
    console.print(lines)


def library_sources() -> list[Path]:
    """The Python files of the standard library by name, without tests and installed packages."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return [path for path in sorted(root.rglob("*.py")) if _ELSEWHERE.isdisjoint(path.relative_to(root).parts)]


def _learn(paths: list[Path], size: int, lines: Table) -> bpe.Tokenizer:
    """Count words, learn merges, and add a line for each."""
    start = time.perf_counter()
    words = bpe.count_words(paths, bpe.splitter("gpt4"), errors=_ERRORS, progress=False)
    counted = time.perf_counter()
    with passing_ctrl_c_on():
        tokenizer = bpe.train(words, _TOKENS, progress=False)
    learned = time.perf_counter()
    lines.add_row(
        "counting", f"{words.total():,} words, {len(words):,} of them distinct; {_speed(size, counted - start)}"
    )
    merges = len(tokenizer.vocabulary.merges)
    lines.add_row("merging", f"{merges:,} merges; {_speed(size, learned - counted)}")
    return tokenizer


def _encode_and_verify(tokenizer: bpe.Tokenizer, paths: Sequence[Path], tally: Tally) -> list[tuple[int, int]]:
    """Encode each file and decode it again; returns the bytes and tokens of each."""
    measured = []
    for first in range(0, len(paths), _TOGETHER):
        files = [path.read_bytes() for path in paths[first : first + _TOGETHER]]
        start = time.perf_counter()
        ids = tokenizer.encode_batch([data.decode("utf-8", _ERRORS) for data in files])
        encoded = time.perf_counter()
        tally.solve_seconds += encoded - start
        tally.reached += len(files)
        tally.solved += len(ids)
        tally.verified += sum(tokenizer.decode_bytes(row) == data for row, data in zip(ids, files, strict=True))
        tally.verify_seconds += time.perf_counter() - encoded
        measured += zip(map(len, files), map(len, ids), strict=True)
    return measured


def _add_results(lines: Table, tally: Tally, measured: list[tuple[int, int]], is_held_out: list[bool]) -> None:
    size = sum(data for data, _ in measured)
    lines.add_row("encoding", f"{tally.solved:,} of {tally.size:,} files; {_speed(size, tally.solve_seconds)}")
    lines.add_row("decoding", f"{_speed(size, tally.verify_seconds)}")
    lines.add_row("verified", f"{tally.verified:,} of {tally.size:,}: decoded, every byte of the file is there again")
    for name, wanted in (("learned from", False), ("held out", True)):
        chosen = [pair for pair, held in zip(measured, is_held_out, strict=True) if held == wanted]
        data, tokens = map(sum, zip(*chosen, strict=True)) if chosen else (0, 0)
        if tokens:
            lines.add_row(name, f"{data:,} bytes are {tokens:,} tokens: {data / tokens:.2f} bytes per token")


def _speed(size: int, seconds: float) -> str:
    return f"{seconds:.2f} s, {size / 1e6 / max(seconds, 1e-9):.1f} MB a second"
