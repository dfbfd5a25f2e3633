"""Damaged files of tokenizers: each loads and encodes, or is refused by an error that names it, in no time.

`python -m tests.stress.bpe_mutations [--count 12000] [--seed 0]` makes files of every form, damages them at random, and
loads each. It prints what does anything else, with the number that makes it again, and then exits with 1.
"""

import argparse
import hashlib
import json
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lite import bpe
from jaxopt_lite.bpe.formats.own import _checksum
from jaxopt_lite.bpe.vocabulary import Vocabulary

LIMIT = 5.0  # seconds for a file of some kilobytes
TEXT = "The quick brown fox, it's 12345 times   quicker\n\n than the lazy dog. <end><x>  naïve 東京"
WORDS = Counter(("the quick brown fox jumps over the lazy dog and sleeps on and on " * 4).split())
VALUES = (
    *(None, True, False, 0, -1, 1, 257, 2**31, 2**63, -(2**63), 2**70, 10**30, 1.5, 2.0, float("nan"), float("inf")),
    *("", "a", "Ġ", "é", "\ud800", "BPE", "gpt4", r"\w+", "(", "a*", "x" * 5000),
    *([], [[]], ["a"], ["a", "b"], [0, 1], [1, 2, 3]),
    *({}, {"a": 1}, {"type": "Sequence"}, {"type": "Split"}, {"type": "NFC"}, {"": 0}, {"a": True}, {"a": 2**60}),
)  # fmt: skip


class Form(NamedTuple):
    """A valid file, or two of which one is damaged, and how to load it: what is returned must be right."""

    files: dict[str, bytes]
    load: Callable[[Path], Any]


class TookTooLong(BaseException):
    """A load that took more than its time."""


def tokenizers() -> dict[str, bpe.Tokenizer]:
    """Some of every kind."""
    text = [TEXT * 3, "low low lower newest newest widest"]
    plain = bpe.train(text, 300, special_tokens=["<end>"])
    v = plain.vocabulary
    whole = Vocabulary(
        (*v.tokens, b"", b"<x>", b"  ", b" whole"), v.merges, v.merged, special_tokens=v.special_tokens,
        whole_words=True, added_tokens={"<x>": 301, "  ": 302}, found_last=frozenset({"  "}),
    )  # fmt: skip
    return {
        "plain": plain,
        "added": bpe.Tokenizer(whole, bpe.splitter("llama3")),
        "own pattern": bpe.Tokenizer(v, bpe.splitter(r"(?i:'s|x)?\p{L}+| ?[^\s\p{L}]{1,3}|\s+(?!\S)|\s")),
        "mark": bpe.train(text, 280, pattern="whitespace", end_of_word="</w>"),
        "fallback": bpe.train(text, merges=15, level="char", byte_fallback=True),
        "unknown": bpe.train(text, merges=15, level="char", unknown="<unk>"),
    }


def forms(folder: Path) -> dict[str, Form]:
    """Valid files of every form."""
    made: dict[str, Form] = {}
    for name, tokenizer in tokenizers().items():
        ways = {"huggingface": ".json", "jaxopt_lite": ".json", "tiktoken": ".tiktoken"}
        for format, suffix in ways.items():
            path = folder / f"file{suffix}"
            with suppress(ValueError):
                tokenizer.save(path, format)
                made[f"{name}, {format}"] = Form({path.name: path.read_bytes()}, _loads_one(suffix))
        with suppress(ValueError):
            tokenizer.save(folder / "folder")
            pair = {file: (folder / "folder" / file).read_bytes() for file in ("vocab.json", "merges.txt")}
            made[f"{name}, pair"] = Form(pair, lambda path: bpe.load((path / "vocab.json", path / "merges.txt")))
            made[f"{name}, foreign pair"] = Form(
                pair | {"merges.txt": b"#version: 0.2\n" + pair["merges.txt"].partition(b"\n")[2]},
                lambda path: bpe.load((path / "vocab.json", path / "merges.txt")),
            )
    first = json.loads(made["plain, jaxopt_lite"].files["file.json"]) | {"version": 1}
    for name in ("checksum", "added_tokens", "found_last"):
        del first[name]
    made["plain, version 1"] = Form({"file.json": json.dumps(first).encode()}, _loads_one(".json"))
    whole = bpe.train(WORDS, merges=30, checkpoint=folder / "run.npz").vocabulary
    made["checkpoint"] = Form({"run.npz": (folder / "run.npz").read_bytes()}, lambda path: _resumed(path, whole))
    return made


def _loads_one(suffix: str) -> Callable[[Path], Any]:
    more: dict[str, Any] = {"pattern": "gpt4", "special_tokens": {"<end>": 0}} if suffix == ".tiktoken" else {}
    return lambda folder: bpe.load(folder / f"file{suffix}", **more)


def _resumed(folder: Path, whole: Vocabulary) -> None:
    if bpe.train(WORDS, merges=30, checkpoint=folder / "run.npz", progress=False).vocabulary != whole:
        raise AssertionError("goes on to another result")


# --- Damage -----------------------------------------------------------------------------------------------------------


def damaged(data: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    """The bytes with some damage."""
    if draw.random() < 0.6:
        with suppress(ValueError, RecursionError):
            return _damaged_json(data, draw)
    place, length = draw.randrange(len(data) + 1), draw.choice([1, 1, 2, 10, 200, 3000])
    other = draw.choice(
        [draw.randbytes(length), draw.choice(others)[place : place + length], b"\0" * length, b"[" * length]
    )
    return draw.choice([
        data[:place],
        data[:place] + other + data[place:],
        data[:place] + other + data[place + length :],
        data[:place] + data[place + length :],
        data[: place + length] + data[place:],
        data[:place] + bytes([draw.randrange(256)]) + data[place + 1 :],
        data[place:],
        data + data,
        b"",
    ])  # fmt: skip


def _damaged_json(data: bytes, draw: random.Random) -> bytes:
    content = json.loads(data)
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        _change(content, draw)
    if isinstance(content, dict) and "checksum" in content and draw.random() < 0.8:
        content["checksum"] = _checksum(content)
    text = json.dumps(content, ensure_ascii=draw.random() < 0.5)
    if draw.random() < 0.15:  # a name twice
        starts = [k for k, character in enumerate(text) if text.startswith('{"', k)]
        if starts:
            place = draw.choice(starts) + 1
            name = text[place : text.index(":", place)]
            text = f"{text[:place]}{name}: {json.dumps(draw.choice(VALUES))}, {text[place:]}"
    if draw.random() < 0.05:
        text = text.replace("[", "[" * draw.choice([2, 100_000]), 1)
    return text.encode("utf-8", "surrogatepass")


def _change(content: Any, draw: random.Random) -> None:
    """Change something at a random place: a value, a name, or that it is there."""
    part = content
    while True:
        names = list(part) if isinstance(part, dict) else range(len(part))
        if not names:
            return
        name = draw.choice(names)
        if not isinstance(part[name], dict | list) or not part[name] or draw.random() < 0.3:
            break
        part = part[name]
    way = draw.random()
    if way < 0.55:
        part[name] = deepcopy(draw.choice(VALUES))
    elif way < 0.7:
        del part[name]
    elif isinstance(part, dict):
        other = draw.choice([f"{name}x", "", "type", draw.choice(list(part))])
        part[other] = part.pop(name)
    elif draw.random() < 0.5:
        part.insert(name, deepcopy(draw.choice([part[name], *VALUES])))
    else:
        part[name], part[-1] = part[-1], part[name]


def damaged_run(data: bytes, draw: random.Random) -> bytes:
    """A checkpoint with other arrays."""
    path = Path(tempfile.gettempdir(), f"mutation-{draw.random()}.npz")
    try:
        path.write_bytes(data)
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        name = draw.choice(list(arrays))
        array = arrays[name]
        kinds = ["f8", "i8", "i4", "u1", "U9", "O"]
        arrays[name] = draw.choice([
            lambda: array.astype(draw.choice(kinds)), lambda: array[:-1], lambda: array[::-1], lambda: array + 1,
            lambda: array.ravel(), lambda: array[None], lambda: np.zeros(0), lambda: np.array("x"), lambda: array * -1,
            lambda: np.concatenate([array, array]), lambda: array * 10**6,
        ])()  # fmt: skip
        if draw.random() < 0.2:
            del arrays[name]
        np.savez(path, **arrays)
        return path.read_bytes()
    except (TypeError, ValueError, IndexError):
        return data[: draw.randrange(len(data))]
    finally:
        path.unlink(missing_ok=True)


# --- Loading ----------------------------------------------------------------------------------------------------------


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `TookTooLong` after a time."""

    def stop(*_):
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(form: Form, folder: Path) -> str:
    """What loading does: "loads", "refused", or what it must not do."""
    start = time.monotonic()
    try:
        with limited(LIMIT):
            tokenizer = form.load(folder)
    except (ValueError, OSError) as error:
        names = any(str(folder / name) in str(error) for name in form.files)
        return "refused" if names else f"an error that does not name the file: {error!r:.300}"
    except TookTooLong:
        return "took too long:\n" + "".join(traceback.format_exc(limit=-6))
    except BaseException:
        return "another error:\n" + "".join(traceback.format_exc(limit=-6))
    if time.monotonic() - start > LIMIT:
        return "took too long"
    return "loads" if tokenizer is None else _encodes(tokenizer)


def _encodes(tokenizer: bpe.Tokenizer) -> str:
    """Whether it encodes, or says what it has no token for."""
    try:
        with limited(4 * LIMIT):
            for special in ("ignore", "encode"):
                ids = tokenizer.encode(TEXT, special=special)
                tokenizer.decode(ids)
                tokenizer.encode_batch([TEXT * 40, "a"], special=special)
    except ValueError as error:
        return "loads" if "has no token" in str(error) else f"loads and cannot encode: {error!r:.300}"
    except TookTooLong:
        return "loads"  # a pattern with very many ways to match
    except Exception:
        return "loads, and encoding fails:\n" + "".join(traceback.format_exc(limit=-6))
    return "loads"


def run(count: int, seed: int, shown: bool = True) -> tuple[Counter[str], list[str]]:
    """Load so many damaged files. Returns how many did what, and what none may do."""
    outcomes: Counter[str] = Counter()
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(place)
        made = forms(folder)
        everything = [data for form in made.values() for data in form.files.values()]
        for number in range(seed, seed + count):
            draw = random.Random(number)
            kind = draw.choice(list(made))
            form = made[kind]
            name = draw.choice(list(form.files))
            for other, data in form.files.items():
                (folder / other).write_bytes(data)
            data = form.files[name]
            is_run = kind == "checkpoint" and draw.random() < 0.5
            bad = damaged_run(data, draw) if is_run else damaged(data, draw, everything)
            (folder / name).write_bytes(bad)
            found = outcome(form, folder)
            outcomes[found if found in ("loads", "refused") else "wrong"] += 1
            if found not in ("loads", "refused"):
                digest = hashlib.sha256(bad).hexdigest()[:12]
                problems.append(f"--- seed {number}, {kind}, {name} ({len(bad)} bytes, {digest}): {found!a}")
                if shown:
                    print(problems[-1].replace("\\n", "\n"), flush=True)
    return outcomes, problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    outcomes, problems = run(options.count, options.seed)
    print(f"{options.count} files from seed {options.seed}: {dict(outcomes)} in {time.monotonic() - start:.0f} s")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
