"""Byte-pair encoding beside its peers: `python -m benchmarks.bpe [--text FILE ...] [--quick] [--only PATTERN]`.

The text is that of the given files, or else the sources of Python's standard library. Every race is a process of its
own, in which all contenders run in turn. The memory of each trainer is measured in one more process.
"""

import argparse
import random
import sys
import sysconfig
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import harness
from benchmarks.bpe_peers import OURS, TRAINERS, documents

_VOCABULARY, _FEW = 32_000, 2_000  # tokens; with --quick
_REPEATS = 3
_QUICK_BYTES = 2_000_000
_LARGE_BYTES = 1_000_000_000
_LARGE_TRAINERS = (OURS, "rustbpe")
RACES = ("training", "encoding", "linearity", "large")
_MODULE = "benchmarks.bpe_races"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", metavar="FILE", nargs="+", type=Path, help="what to train on and to encode")
    parser.add_argument("--quick", action="store_true", help="a small text, to see that it works")
    parser.add_argument("--large", action="store_true", help="also train on 1 GB made of the text")
    options, names = harness.chosen(parser, RACES, "race")
    names = [name for name in names if name != "large" or options.large]
    if missing := [str(path) for path in options.text or () if not path.is_file()]:
        parser.error(f"--text: there is no file {', '.join(missing)}")
    if not names:
        parser.error("the race large needs --large")

    load, rows, failed = harness.check_load(), [], []
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        write_text(options.text or sources(), text, _QUICK_BYTES if options.quick else None)
        pattern = harness.in_child(_MODULE, "stock_pattern")[0]["pattern"]
        for name in names:
            new = run(name, text, pattern, options.quick)
            print_rows(name, new)
            rows += [{"race": name} | row for row in new]
            failed += [] if new else [name]
    if not options.quick and rows:
        texts = ", ".join(path.name for path in options.text or ()) or "Python's standard library"
        rows = [{"text": texts} | row for row in rows]
        print("wrote", harness.save("bpe", rows, load, options.only, device_of(rows)))
    if failed:
        sys.exit(f"these races ended with an error: {', '.join(failed)}")


def sources() -> list[Path]:
    """The Python files of the standard library."""
    folder = Path(sysconfig.get_path("stdlib"))
    return [path for path in sorted(folder.rglob("*.py")) if "site-packages" not in path.parts]


def write_text(files: list[Path], out: Path, most: int | None) -> None:
    """Write the texts of the files as one, in UTF-8, of about `most` bytes at most."""
    with open(out, "wb") as joined:
        for path in files:
            text = path.read_bytes().decode("utf-8", "replace")
            joined.write(text[:most].encode() + b"\n" * (not text.endswith("\n")))
            if most is not None and joined.tell() >= most:
                break


def run(name: str, text: Path, pattern: str, quick: bool) -> list[dict]:
    """The rows of a race; none if it failed."""
    size, repeats = (_FEW, 1) if quick else (_VOCABULARY, _REPEATS)
    if name == "large":
        large = text.with_name("large.txt")
        write_large(text, large, 5 * _QUICK_BYTES if quick else _LARGE_BYTES)
        parts = [harness.in_child(_MODULE, "alone", large, size, pattern, trainer) for trainer in _LARGE_TRAINERS]
        large.unlink()
        return [row for rows in parts for row in rows] if all(parts) else []
    rows = harness.in_child(_MODULE, name, text, size, pattern, repeats)
    if name == "training":
        for row in rows:
            if row["name"] in TRAINERS:
                measured = harness.in_child(_MODULE, "alone", text, size, pattern, row["name"])
                row["peak_mib"] = measured[0]["peak_mib"] if measured else None
    return rows


def write_large(text: Path, out: Path, size: int) -> None:
    """Write a text of `size` bytes: the pieces of another in random orders, each with a word of its own in it.

    So the number of distinct words grows with the text, as in real ones. It is the same text in every run.
    """
    pieces, draw, number, written = list(documents(text)), random.Random(0), 0, 0
    with open(out, "wb") as file:
        while written < size:
            draw.shuffle(pieces)
            for piece in pieces:
                words, number = piece.split(" "), number + 1
                words[draw.randrange(len(words))] += in_letters(number)
                written += file.write(" ".join(words).encode())
                if written >= size:
                    break


def in_letters(number: int) -> str:
    """A number as letters: digits would be cut into words of three, of which there are only a thousand."""
    letters = ""
    while number:
        number, letter = divmod(number, 26)
        letters += chr(ord("a") + letter)
    return letters


def print_rows(title: str, rows: list[dict]) -> None:
    """A table of one race, in the order of the runs."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    headings = ("version", "MB", "run s", "MB/s", "cores", "MiB", "same")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        peak, same = row.get("peak_mib"), row.get("same")
        table.add_row(
            f"[bold]{row['name']}[/bold]" if row["is_ours"] else row["name"],
            row["version"] or "",
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['run_s']:.2f}",
            f"{row['mb_per_second']:.1f}",
            f"{row['cores_used']:.1f}",
            "" if peak is None else f"{peak:,.0f}",
            "" if same is None else "yes" if same else "[red]no[/red]",
        )
    Console(width=110).print(table)


def device_of(rows: list[dict]) -> str:
    """What JAX ran on, for the name of the result file; empty for this machine's CPU."""
    kinds = {row["device"] for row in rows if "device" in row} - {"cpu"}
    return " ".join(sorted(kinds))


if __name__ == "__main__":
    main()
