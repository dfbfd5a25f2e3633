"""What must not go wrong, tried very often: `python -m benchmarks.reliability [--only PATTERN] [--seed N] [--share S]`.

Calls drawn at random, damaged files, killed writers, and memory over many minutes, each by a script of `tests/stress`.
A row says how often something was tried, what came of it, and how often that was a fault. The exit status is 1 if there
was one.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

from benchmarks.harness import check_load, chosen, save
from tests.stress import bpe_kills, bpe_mutations, soak, specialists_kills, specialists_mutations, surface

_SAY: Callable[[str], None] = Console().print
Part = Callable[[int, float], Iterator[dict]]


def calls(seed: int, share: float) -> Iterator[dict]:
    for name in surface.NAMES:
        outcomes, faults = surface.run(name, max(1, round(share * 1000)), seed)
        yield _row(name, outcomes.total(), outcomes, outcomes["wrong"], faults)


def tokenizer_files(seed: int, share: float) -> Iterator[dict]:
    count = round(share * 12_000)
    outcomes, faults = bpe_mutations.run(count, seed)
    yield _row("files of tokenizers", count, outcomes, len(faults), faults)


def specialist_files(seed: int, share: float) -> Iterator[dict]:
    count = round(share * 6_000)
    with tempfile.TemporaryDirectory() as folder:
        faults, found = specialists_mutations.run(count, seed, Path(folder))
    outcomes: Counter[str] = Counter()
    for name, times in found.items():
        outcomes["loads" if name.endswith("loaded") else "refused"] += times
    yield _row("files of specialists", count, outcomes, len(faults), faults)


def tokenizer_writers(seed: int, share: float) -> Iterator[dict]:
    count = max(1, round(share * 40))
    for form in bpe_kills.FORMS:
        half, wrong = bpe_kills.run(form, count, _SAY)
        yield _row(f"writers of {_FORMS[form]}", count, {"half done": half}, wrong)


def specialist_writers(seed: int, share: float) -> Iterator[dict]:
    count, rng = max(1, round(share * 40)), random.Random(seed)
    for kind in specialists_kills.KINDS:
        half, faults = specialists_kills.run(kind, count, rng)
        yield _row(f"writers of {_KINDS[kind]}", count, {"half done": half}, len(faults), faults)


def memory(seed: int, share: float) -> Iterator[dict]:
    rounds, settled, last = soak.run(20 * share, 8 * share, _SAY)
    outcomes = {"MB settled": settled, "MB at the end": last}
    yield _row("rounds of calls", rounds, outcomes, int(soak.still_grows(settled, last)))


_FORMS = {
    "huggingface": "`tokenizer.json`", "gpt2": "`vocab.json` and `merges.txt`", "tiktoken": "`.tiktoken`",
    "jaxopt_lite": "tokenizers' own form", "run": "checkpoints",
}  # fmt: skip
_KINDS = {
    "folder": "libraries", "kept": "libraries that grow", "file": "specialists", "base": "bases",
    "geometry": "geometries",
}  # fmt: skip
PARTS: dict[str, Part] = {
    "calls": calls,
    "tokenizer-files": tokenizer_files,
    "specialist-files": specialist_files,
    "tokenizer-writers": tokenizer_writers,
    "specialist-writers": specialist_writers,
    "memory": memory,
}


def _row(what: str, tried: int, outcomes: dict, faults: int, told: list[str] | tuple = ()) -> dict:
    return {"what": what, "tried": tried, "outcomes": dict(outcomes), "faults": faults, "told": list(told[:5])}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=_share, default=1.0, help="of the usual number of tries")
    options, names = chosen(parser, PARTS, "part")
    jax.config.update("jax_enable_x64", True)
    load, rows = check_load(), []
    for name in names:
        start = time.perf_counter()
        made = [{"part": name, "seed": options.seed} | row for row in PARTS[name](options.seed, options.share)]
        rows += [row | {"part_s": time.perf_counter() - start} for row in made]
        _print(made)
    print(save("reliability", rows, load, only=options.only))
    return int(any(row["faults"] for row in rows))


def _share(word: str) -> float:
    try:
        share = float(word)
    except ValueError:
        share = 0.0
    if not 0 < share < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above zero, got {word!r}")
    return share


def _print(rows: list[dict]) -> None:
    table = Table("tried", "", "outcomes", "faults", title=rows[0]["part"], title_justify="left")
    for row in rows:
        outcomes = ", ".join(f"{name} {number:,.0f}" for name, number in row["outcomes"].items())
        table.add_row(f"{row['tried']:,}", row["what"], outcomes, str(row["faults"]))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
