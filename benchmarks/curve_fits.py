"""A hundred thousand curve fits beside peers: `python -m benchmarks.curve_fits [--quick] [--only PATTERN]`.

25,000 fits each of four kinds of curves, with bounds on all parameters and without; standard errors and active sets
beside SciPy's; and first calls. The races are run as in `benchmarks.solvers`.
"""

import argparse
import statistics
import sys

from rich.console import Console
from rich.table import Table

from benchmarks import harness

_FITS, _QUICK = 25_000, 500
_CHECKED = 250  # of each kind of curve, beside SciPy
_FIRST_CALLS = 2
_KINDS, _CURVES = ("bounded", "free"), ("decay", "peak", "logistic", "hill")
_FIRST = [f"first-{who}" for who in ("call-free", "call-bounded", "jit-free", "jit-bounded", "optimistix-free")]
RACES = [f"{curve}-{kind}" for kind in _KINDS for curve in _CURVES]
CHECKS = [f"errors-{kind}" for kind in _KINDS]
PARTS = [*RACES, *CHECKS, "first"]


def total(kind: str, rows: list[dict]) -> list[dict]:
    """A row for each solver over all kinds of curves, with its times, scaled up where it got only some of the fits."""
    mine = [row for row in rows if row.get("race", "").endswith(f"-{kind}") and "run_s" in row]
    names = {row["race"] for row in mine}
    totals = []
    for solver in dict.fromkeys(row["solver"] for row in mine):
        those = [row for row in mine if row["solver"] == solver]
        if len(those) < len(names):
            continue
        rate = len(those) / sum(1 / row["problems_per_second"] for row in those)
        solved = statistics.mean(row["solved"] for row in those)
        summed = {key: sum(row[key] for row in those) for key in ("problems", "first_call_s", "compile_s", "run_s")}
        totals.append(
            {"solver": solver, "is_ours": those[0]["is_ours"], "problems_per_second": rate, "solved": solved}
            | {"cores_used": statistics.mean(row["cores_used"] for row in those), "peak_mib": None}
            | {"solved_per_second": rate * solved}
            | summed
        )
    best = max((row["solved_per_second"] for row in totals if not row["is_ours"]), default=0)
    return [row | {"times_best_peer": row["solved_per_second"] / best if best else None} for row in totals]


def first_calls() -> list[dict]:
    """The medians over a few processes of each, in turn."""
    rows = [
        row
        for _ in range(_FIRST_CALLS)
        for race in _FIRST
        for row in harness.in_child("benchmarks.curve_checks", race, _FITS)
    ]
    stages = ("first_s", "again_s", "trace_s", "lower_s", "compile_s")
    medians = []
    for race in dict.fromkeys(row["race"] for row in rows):
        those = [row for row in rows if row["race"] == race]
        medians.append(
            {"race": race} | {key: statistics.median(row[key] for row in those) for key in stages if key in those[0]}
        )
    return medians


def print_plain(title: str, rows: list[dict]) -> None:
    table = Table(title=title, title_justify="left")
    keys = dict.fromkeys(key for row in rows for key in row)
    for key in keys:
        table.add_column(key.replace("_", " "))
    for row in rows:
        values = [row.get(key, "") for key in keys]
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values))
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few fits, to see that it works")
    options, parts = harness.chosen(parser, PARTS, "part")

    load, rows, failed = harness.check_load(), [], []
    for name in parts:
        if name in RACES:
            new = harness.in_child("benchmarks.curve_races", name, 4, _QUICK if options.quick else _FITS)
            harness.print_rows(name, new)
            new = [{"race": name} | row for row in new]
        elif name == "first":
            new = first_calls()
        else:
            new = harness.in_child("benchmarks.curve_checks", name, 20 if options.quick else _CHECKED)
        if new and name not in RACES:
            print_plain(name, new)
        rows += new
        failed += [] if new else [name]
    for kind in _KINDS:
        totals = total(kind, rows)
        if not totals:
            continue
        harness.print_rows(f"all four curves, {kind}", totals)
        rows += [{"race": f"all-{kind}"} | row for row in totals]
    if not options.quick:
        print("wrote", harness.save("curve_fits", rows, load, options.only))
    if failed:
        sys.exit(f"these parts ended with an error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
