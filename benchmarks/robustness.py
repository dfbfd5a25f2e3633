"""How many lanes each method solves on the standard sets: `python -m benchmarks.robustness [--quick] [--only PATTERN]`.

Row 0 of each batch is the standard start; the others are perturbed. One batched call for each method and problem.
"""

import argparse
import sys

from rich.console import Console
from rich.table import Table

from benchmarks import harness

_STARTS, _FEW_STARTS = 100, 10


def print_summary(rows: list[dict]) -> None:
    """A table for each set, with a line for each method: the fraction of lanes and of standard starts solved."""
    for name in dict.fromkeys(name for row in rows for name in row["sets"]):
        table = Table(title=f"{name}, fraction solved", title_justify="left")
        for heading in ("method", "perturbed starts", "standard starts", "problems with a lane lost"):
            table.add_column(heading, justify="left" if heading == "method" else "right")
        mine = [row for row in rows if name in row["sets"]]
        for method in dict.fromkeys(row["method"] for row in mine):
            those = [row for row in mine if row["method"] == method]
            lost = [row for row in those if row["solved"] < 1]
            mean = sum(row["solved"] for row in those) / len(those)
            standard = sum(row["standard_start"] for row in those)
            table.add_row(method, f"{100 * mean:.1f}%", f"{standard} of {len(those)}", str(len(lost)))
        Console(width=130).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every fifth problem and few starts")
    options, kinds = harness.chosen(parser, ("equations", "minima"), "set")

    load, every = harness.check_load(), 5 if options.quick else 1
    count = _FEW_STARTS if options.quick else _STARTS
    parts = [("benchmarks.lost_lanes", kind, part, every, count) for kind in kinds for part in (0, 1)]
    rows = harness.in_children(parts)
    if rows is None:
        sys.exit("a part ended with an error: nothing is reported, for a fraction of the rest would mislead")
    print_summary(rows)
    if not options.quick:
        print("wrote", harness.save("robustness", rows, load, options.only))


if __name__ == "__main__":
    main()
