"""Speed of the solvers beside their peers: `python -m benchmarks.solvers [--quick] [--only PATTERN]`.

Every race is a process of its own, so that each starts clean; all solvers of a race run in that process, in turn.
"""

import argparse
import sys

from benchmarks import harness

_SIZES = (1_000, 10_000, 100_000, 1_000_000)
_WIDE = "--xla_cpu_prefer_vector_width=512"  # XLA's default is 256 bits, also where the CPU has AVX-512
# name: (module, race, unknowns, problems, problems with --quick)
RACES = {
    "bfgs-n2": ("races", "bfgs", 2, 10_000, 500),
    "bfgs-n10": ("races", "bfgs", 10, 10_000, 200),
    "bfgs-n30": ("races", "bfgs", 30, 10_000, 50),
    "broyden-n2": ("races", "broyden", 2, 10_000, 1_000),
    "broyden-n10": ("races", "broyden", 10, 10_000, 1_000),
    "broyden-n30": ("races", "broyden", 30, 10_000, 200),
    "trigonometric-n6": ("races", "trigonometric_system", 6, 10_000, 500),
    **{f"bfgs-n{n}-wide-vectors": ("races", "bfgs", n, 10_000, 50) for n in (2, 10)},
    **{f"broyden-n{n}-wide-vectors": ("races", "broyden", n, 10_000, 50) for n in (2, 10)},
    "alone-bfgs-n10": ("races", "alone_bfgs", 10, 100, 10),
    "alone-broyden-n10": ("races", "alone_broyden", 10, 100, 10),
    **{f"fixed-points-n{n}": ("implicit", "solve", n, size, 8) for n, size in ((32, 64), (1024, 32))},
    **{f"gradient-n{n}": ("implicit", "gradient", n, size, 8) for n, size in ((32, 64), (1024, 32))},
    **{f"lanes-float64-n2-{size}": ("lanes", "float64", 2, size, size // 10) for size in _SIZES},
    **{f"lanes-float32-n10-{size}": ("lanes", "float32", 10, size, size // 100) for size in _SIZES},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small batches, to see that it works")
    options, names = harness.chosen(parser, RACES, "race")

    load, rows, failed = harness.check_load(), [], []
    for name in names:
        module, race, n, problems, few = RACES[name]
        flags = _WIDE if name.endswith("wide-vectors") else ""
        new = harness.in_child(f"benchmarks.{module}", race, n, few if options.quick else problems, xla_flags=flags)
        harness.print_rows(name, new)
        rows += [{"race": name, "unknowns": n} | row for row in new]
        failed += [] if new else [name]
    if not options.quick:
        print("wrote", harness.save("solvers", rows, load, options.only))
    if failed:
        sys.exit(f"these races ended with an error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
