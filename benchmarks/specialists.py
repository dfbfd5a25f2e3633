"""Specialists beside the alternatives: `python -m benchmarks.specialists [--quick] [--only PATTERN] [--seeds N]`.

Every part and seed is a process of its own. The tables show the median over the seeds, the least and the most.
"""

import argparse
import statistics
import sys

from rich.console import Console
from rich.table import Table

from benchmarks import harness

_SEEDS = 5
PARTS = ("languages", "novel", "modules", "training", "incremental", "serving")
_TRAINING = [(tasks, parameters) for parameters in (32, 300) for tasks in (1_000, 10_000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small tasks and one seed, to see that it works")
    parser.add_argument("--seeds", type=int, default=_SEEDS, help=f"how many (default {_SEEDS})")
    options, names = harness.chosen(parser, PARTS, "part")

    load, rows, failed = harness.check_load(), [], []
    for name in names:
        new = [row for seed in range(1 if options.quick else options.seeds) for row in run(name, seed, options.quick)]
        print_rows(name, new)
        rows += [{"part": name} | row for row in new]
        failed += [] if new else [name]
    if not options.quick and rows:
        print("wrote", harness.save("specialists", rows, load, options.only))
    if failed:
        sys.exit(f"these parts ended with an error: {', '.join(failed)}")


def run(name: str, seed: int, quick: bool) -> list[dict]:
    """The rows of one part and seed; none if it failed."""
    if name != "training":
        rows = harness.in_child("benchmarks.specialists_races", name, seed, "small" if quick else "full")
        return [{"seed": seed} | row for row in rows]
    return [row for size in ([(100, 32)] if quick else _TRAINING) for row in train(*size, seed)]


def train(tasks: int, parameters: int, seed: int) -> list[dict]:
    """The race of training at one size: beside peers, and with each core a device."""
    module = "benchmarks.specialists_training"
    rows = [row for who in ("all", "cores") for row in harness.in_child(module, tasks, parameters, seed, who)]
    peers = [row["solved_per_second"] for row in rows if not row["is_ours"]]
    best = max(peers, default=float("nan"))
    name = f"{tasks:,} of {parameters}"
    return [
        {"name": f"{row['solver']}, {name}"} | row | {"times_best_peer": row["solved_per_second"] / best}
        for row in rows
    ]


def print_rows(title: str, rows: list[dict]) -> None:
    """One line for each name and number: the median over the seeds, and the spread."""
    table = Table(title=title, title_justify="left")
    for heading in ("", "number", "median", "least", "most"):
        table.add_column(heading, justify="left" if heading in ("", "number") else "right", no_wrap=True)
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        for key, value in mine[0].items():
            if key not in ("name", "seed", "is_ours") and isinstance(value, float):
                values = [row[key] for row in mine]
                numbers = (statistics.median(values), min(values), max(values))
                table.add_row(name, key, *(f"{number:.4g}" for number in numbers))
            elif isinstance(value, bool) and key != "is_ours":
                table.add_row(name, key, "always" if all(row[key] for row in mine) else "[red]not always", "", "")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
