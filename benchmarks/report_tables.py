"""Every table of README and docs, each a function of the results; a page asks for it by its name in `TABLES`.

A cell says so where not all problems were solved, verified or the same. Rates count solved problems.
"""

import re
import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple

from benchmarks import curve_fits, solvers
from benchmarks.records import Results

__all__ = [
    "SETS",
    "TABLES",
    "Table",
    "device_name",
    "distinct",
    "fits_of",
    "is_ours",
    "mean",
    "percent",
    "significant",
    "trainer",
    "whole_percent",
    "work",
]


class Table(NamedTuple):
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""

    def __str__(self) -> str:
        """In Markdown, numbers to the right."""
        lines = [self.headings, ("---", *["---:"] * (len(self.headings) - 1)), *self.rows]
        text = "\n".join("".join(f"| {cell} " if cell else "| " for cell in line) + "|" for line in lines)
        return f"{text}\n\n{self.note}" if self.note else text


TABLES: dict[str, Callable[..., Table]] = {}


def table(function: Callable[..., Table]) -> Callable[..., Table]:
    TABLES[function.__name__.replace("_", "-")] = function
    return function


# --- Words and numbers -------------------------------------------------------------------------------------------

_OURS = {"Broyden", "LimitedBroyden", "BFGS", "LBFGS", "LevenbergMarquardt"}
_WORK = {"bfgs": "BFGS, Rosenbrock", "broyden": "Broyden, tridiagonal", "trigonometric": "Broyden, trigonometric"}
_PACKAGES = {"jaxopt_lite": "this library", "tokenizers": "Hugging Face tokenizers"}


def significant(number: float, digits: int = 3) -> str:
    """1234567 as 1,230,000 and 0.012345 as 0.0123."""
    rounded = float(f"{number:.{digits}g}")
    decimals = max(0, digits - len(str(int(abs(rounded))))) if abs(rounded) >= 1 else None
    text = f"{rounded:#.{digits}g}" if decimals is None else f"{rounded:,.{decimals}f}"
    return text.rstrip(".").replace("-", "−")


def percent(share: float, decimals: int = 1) -> str:
    """With enough decimals that only all of them are 100%."""
    if share == 1 or decimals > 6:
        return "100%"
    text = f"{100 * share:.{decimals}f}%"
    return percent(share, decimals + 1) if share < 1 and text.startswith("100") else text.replace("-", "−")


def whole_percent(share: float) -> str:
    return f"{round(100 * share):,}%".replace("-", "−")


def device_name(slug: str) -> str:
    """`amd-epyc-2-cores` as AMD EPYC, 2 cores."""
    names = {"intel": "Intel", "xeon": "Xeon"}
    capitals = {"amd", "epyc", "nvidia"}
    words = [
        word.upper() if word in capitals or re.search(r"[a-z]\d|\d[a-z]", word) else names.get(word, word)
        for word in slug.split("-")
    ]
    return re.sub(r" (\d+ cores)", r", \1", " ".join(words))


def display(method: str) -> str:
    """A solver of this library as code, followed by what comes after its name."""
    name, comma, rest = method.partition(",")
    return f"`{name}`{comma}{rest}" if is_ours(method) else method


def work(race: str) -> str:
    name, _, size = race.partition("-n")
    return f"{_WORK[name]} n = {size}"


def unsolved(row: dict) -> str:
    """The share that a rate must be read with, unless all are solved."""
    return f" ({percent(row['solved'], 0)} solved)" if row["solved"] < 0.9995 else ""


def beside(peer: dict) -> str:
    """Such as 5,310, optimistix Newton (91% solved)."""
    return f"{significant(peer['solved_per_second'])}, {peer['solver'].removesuffix(' BFGS')}{unsolved(peer)}"


def best_peer(rows: Iterable[dict]) -> dict:
    return max((row for row in rows if not row["is_ours"]), key=lambda row: row["solved_per_second"])


def distinct(rows: Iterable[dict], key: str) -> list:
    return list(dict.fromkeys(row[key] for row in rows))


def mean(rows: Iterable[dict], key: str) -> float:
    return statistics.mean(row[key] for row in rows)


def by_method(rows: list[dict]) -> dict[str, list[dict]]:
    """The rows of each method: ours in their order, then the others, the best first."""
    groups = {name: [row for row in rows if row["method"] == name] for name in distinct(rows, "method")}
    ours = [name for name in groups if is_ours(name)]
    others = sorted(groups.keys() - set(ours), key=lambda name: (-mean(groups[name], "solved"), name))
    return {name: groups[name] for name in ours + others}


def is_ours(method: str) -> bool:
    return method.partition(",")[0] in _OURS


# --- Roots and minima --------------------------------------------------------------------------------------------


def _raced(results: Results, race: str) -> tuple[dict, dict, dict]:
    """The rows of a plain call, of the same inside a jit, and of the quickest peer."""
    rows = results.rows("solvers", race=race)
    solver = "BFGS" if race.startswith("bfgs") else "Broyden"
    inside = results.row("solvers", race=race, solver=f"{solver}, inside a jit")
    return results.row("solvers", race=race, solver=solver), inside, best_peer(rows)


@table
def speeds(results: Results, *races: str) -> Table:
    """Solved problems a second beside the quickest peer."""
    rows = []
    for race in races:
        ours, inside, peer = _raced(results, race)
        rows.append(
            (
                work(race),
                significant(ours["solved_per_second"]) + unsolved(ours),
                significant(inside["solved_per_second"]) + unsolved(inside),
                beside(peer),
                significant(ours["solved_per_second"] / peer["solved_per_second"], 2),
                f"{ours['first_call_s']:.1f}",
            )
        )
    headings = ("Work", "This library", "Inside a `jit`, one core", "Quickest peer", "Ratio", "First call, s")
    return Table(headings, rows)


@table
def contenders(results: Results, *races: str) -> Table:
    """Solved problems a second of all contenders."""
    rows = [row for race in races for row in results.rows("solvers", race=race)]
    lines = []
    for name in distinct(rows, "solver"):
        mine = {row["race"]: row for row in rows if row["solver"] == name}
        cells = (significant(mine[r]["solved_per_second"]) + unsolved(mine[r]) if r in mine else "" for r in races)
        lines.append((display(name), *cells))
    return Table(("", *map(work, races)), lines)


@table
def batches(results: Results) -> Table:
    """Time and memory as the batch grows."""
    kinds = {"lanes-float64-n2": "n = 2, float64", "lanes-float32-n10": "n = 10, float32"}
    rows = results.rows("solvers", race=tuple(race for race in solvers.RACES if race.rpartition("-")[0] in kinds))
    lines = []
    for size in sorted(set(distinct(rows, "problems"))):
        by_kind = {row["race"].rpartition("-")[0]: row for row in rows if row["problems"] == size}
        cells = ((significant(1e6 * by_kind[k]["run_s"] / size, 2), significant(by_kind[k]["peak_mib"])) for k in kinds)
        lines.append((f"{size:,}", *(cell for pair in cells for cell in pair)))
    headings = (f"{name}, {what}" for name in kinds.values() for what in ("µs each", "MiB in all"))
    return Table(("Problems", *headings), lines)


@table
def alone(results: Results) -> Table:
    """One problem a call."""
    lines = []
    for race in ("alone-bfgs-n10", "alone-broyden-n10"):
        for row in results.rows("solvers", race=race):
            lines.append(
                (
                    f"{display(row['solver'])}, n = {row['unknowns']}",
                    significant(1e6 * row["run_s"] / row["problems"], 2),
                )
            )
    return Table(("One problem a call", "µs"), lines)


@table
def fixed_points(results: Results) -> Table:
    races = tuple(f"{what}-n{n}" for n in (32, 1024) for what in ("fixed-points", "gradient"))
    rows = results.rows("solvers", race=races)
    lines = []
    for name in distinct(rows, "solver"):
        mine = {row["race"]: row for row in rows if row["solver"] == name}
        times = (significant(1e3 * mine[race]["run_s"], 2) + unsolved(mine[race]) for race in races)
        lines.append((display(name), *times, f"{max(row['first_call_s'] for row in mine.values()):.1f}"))
    sizes = {row["unknowns"]: row["problems"] for row in rows}
    headings = (f"{count} of n = {n:,}{more}" for n, count in sizes.items() for more in (", ms", ", with gradient"))
    return Table(("", *headings, "Longest first call, s"), lines)


SETS = {
    "NONLINEAR_23": "{} standard systems",
    "MGH_EQUATIONS": "Moré, Garbow and Hillstrom's {} systems",
    "MGH_UNCONSTRAINED": "their {} objectives",
}


@table
def robustness(results: Results) -> Table:
    rows = [row | {"set": name} for row in results.rows("robustness") for name in row["sets"]]
    headings = [
        words.format(len({row["problem"] for row in rows if row["set"] == name})) for name, words in SETS.items()
    ]
    lines = []
    for method, mine in by_method(rows).items():
        by_set = ([row for row in mine if row["set"] == name] for name in SETS)
        lines.append((display(method), *(percent(mean(those, "solved")) if those else "" for those in by_set)))
    return Table(("Solved", *headings), lines)


@table
def nist(results: Results) -> Table:
    rows = results.rows("nist")
    lines = []
    for method, mine in by_method(rows).items():
        successes = [row for row in mine if row["success"]]
        wrong = sum(not row["solved"] for row in successes)
        precise = str(sum(row["precise"] for row in mine)) if all("precise" in row for row in mine) else ""
        lines.append(
            (display(method), str(sum(row["solved"] for row in mine)), precise, str(len(successes)), str(wrong))
        )
    count = len({(row["dataset"], row["start"]) for row in rows})
    return Table(("", f"Solved of {count}", "8 digits, and deviations", "Called a success", "Of these wrong"), lines)


FITS_MACHINE = "intel-xeon-2-cores"
"""Where curve fits, and minima within bounds, were measured last."""


@table
def bounded(results: Results, part: str) -> Table:
    rows = results.rows("bounded", FITS_MACHINE, part=part)
    keys = ("solved", "at_the_best", "of_these_not_solved")
    groups = by_method(rows)
    lines = [(display(name), *(percent(mean(mine, key)) for key in keys)) for name, mine in groups.items()]
    count = len(set(distinct(rows, "problem")))
    return Table((f"{count} problems", "Solved", "At the best minimum", "False successes"), lines)


@table
def verdicts(results: Results) -> Table:
    rows = results.rows("verdicts")
    keys = ("lanes", "solved", "at_precision", "false_successes", "false_failures")
    lines = []
    for dtype in distinct(rows, "dtype"):
        mine = [row for row in rows if row["dtype"] == dtype]
        lines.append((dtype, *(f"{sum(row[key] for row in mine):,}" for key in keys)))
    return Table(("", "Equations", "Solved", "Of these `AT_PRECISION`", "False successes", "False failures"), lines)


# --- Curve fits --------------------------------------------------------------------------------------------------


def fits_of(results: Results, kind: str) -> tuple[list[str], list[dict]]:
    """The curves that were fitted, and a row for each solver over all of them, quickest first."""
    races = tuple(race for race in curve_fits.RACES if race.endswith(f"-{kind}"))
    rows = results.rows("curve_fits", FITS_MACHINE, race=races)
    curves = [race.partition("-")[0] for race in distinct(rows, "race")]
    return curves, sorted(curve_fits.total(kind, rows), key=lambda row: -row["solved_per_second"])


@table
def fits(results: Results, kind: str) -> Table:
    """`kind` is free or bounded."""
    curves, totals = fits_of(results, kind)
    lines = []
    for row in totals:
        name = f"**{row['solver']}**" if row["is_ours"] else row["solver"]
        cells = (
            significant(row["solved_per_second"]),
            percent(row["solved"]),
            f"{row['first_call_s'] / len(curves):.1f}",
        )
        lines.append((name, f"{row['problems']:,}", *cells))
    headings = (f"{kind.capitalize()}", "Fits", "Solved fits a second", "Solved", "First call, s")
    return Table(headings, lines, f"Curves: {', '.join(curves)}; of first calls the mean.")


@table
def fit_errors(results: Results) -> Table:
    rows = results.rows("curve_fits", FITS_MACHINE, race=tuple(curve_fits.CHECKS))
    lines = []
    for row in rows:
        kind = row["race"].rpartition("-")[2]
        counts = (row[key] for key in ("fits", "same_minimum", "errors_agree", "same_active_set"))
        lines.append((f"{row['curve']}, {kind}", *map(str, counts), significant(row["errors_off_most"], 2)))
    headings = ("Curve", "Fits", "Same minimum", "Same errors", "Same active set", "Errors differ at most, relative")
    return Table(headings, lines)


# --- A GPU -------------------------------------------------------------------------------------------------------


@table
def gpu(results: Results) -> Table:
    rows = results.rows("accelerator", "nvidia")
    lines = []
    for device, race in sorted({(row["on"], row["race"]) for row in rows}, key=lambda pair: _place(*pair)):
        mine = [row for row in rows if (row["on"], row["race"]) == (device, race)]
        if race.partition("-")[0] not in _WORK:
            continue
        peer = best_peer(mine)
        for ours in (row for row in mine if row["is_ours"]):
            name = work(race) + "".join(ours["solver"].partition(",")[1:])
            rate = significant(ours["solved_per_second"]) + unsolved(ours)
            ratio = significant(ours["solved_per_second"] / peer["solved_per_second"], 2)
            lines.append((name, _short(device), f"{ours['problems']:,}", rate, beside(peer), ratio))
    return Table(("Work, float32", "GPU", "Problems", "This library", "Quickest peer", "Ratio"), lines)


def _short(device: str) -> str:
    return " ".join(device_name(device).split()[1:2])


def _place(device: str, race: str) -> tuple:
    name, _, size = race.partition("-n")
    return list(_WORK).index(name) if name in _WORK else len(_WORK), device, int(size or 0)


# --- Byte-pair encoding ------------------------------------------------------------------------------------------


def trainer(row: dict) -> str:
    """Such as Hugging Face tokenizers 0.23.3; the version of this library is that of the page."""
    package, comma, how = row["name"].partition(",")
    version = "" if row["is_ours"] else f" {row['version']}"
    return f"{_PACKAGES.get(package, package)}{version}{comma}{how.replace('other', 'by its own')}"


@table
def bpe_training(results: Results) -> Table:
    rows = results.rows("bpe", race="training")
    lines = []
    for row in rows:
        same = {True: "all", False: "not all", None: ""}[row["same"]]
        times = f"{row['run_s']:.2f}", f"{min(row['all_runs_s']):.2f} to {max(row['all_runs_s']):.2f}"
        lines.append((trainer(row), *times, f"{row['peak_mib']:,.0f}" if "peak_mib" in row else "", same))
    note = f"{rows[0]['bytes'] / 1e6:,.0f} MB of text, {rows[0]['merges']:,} merges, medians of three runs."
    return Table(("Training", "s", "Shortest to longest", "Peak memory, MiB", "Our merges"), lines, note)


@table
def bpe_growth(results: Results) -> Table:
    rows = results.rows("bpe", race=("linearity", "large"))
    base = [row | {"package": row["name"].partition(",")[0]} for row in rows]
    packages = distinct(base, "package")
    lines = []
    for size in sorted(set(distinct(base, "bytes"))):
        mine = {row["package"]: row for row in base if row["bytes"] == size}
        seconds = (significant(mine[name]["run_s"]) if name in mine else "" for name in packages)
        memory = (f"{mine[name]['peak_mib']:,.0f}" if "peak_mib" in mine.get(name, {}) else "" for name in packages)
        lines.append((f"{significant(size / 1e6, 2)} MB", *seconds, *memory))
    names = [_PACKAGES.get(name, name) for name in packages]
    return Table(("Text", *(f"{name}, s" for name in names), *(f"{name}, MiB" for name in names)), lines)


@table
def bpe_encoding(results: Results) -> Table:
    rows = results.rows("bpe", race="encoding")
    ordered = sorted(rows, key=lambda row: -row["mb_per_second"])
    same = {True: "all", False: "not all", None: ""}
    lines = [(trainer(row), significant(row["mb_per_second"]), same[row["same"]]) for row in ordered]
    return Table(("Encoding", "MB/s", "Our ids"), lines, f"{rows[0]['bytes'] / 1e6:,.0f} MB of text in short pieces.")


@table
def tokenizers(results: Results) -> Table:
    """Tokenizers that people use, loaded and compared."""
    rows = results.rows("bpe_real")
    lines = []
    for kind in distinct(rows, "kind"):
        mine = [row for row in rows if row["kind"] == kind]
        counts = (sum(row[key] for row in mine) for key in ("texts", "same", "refused", "other"))
        lines.append((kind, str(len(mine)), *(f"{count:,}" for count in counts)))
    return Table(("Form", "Tokenizers", "Texts", "Same ids", "Refused", "Other ids"), lines)


# --- Specialists -------------------------------------------------------------------------------------------------

_SYSTEMS = {
    "base": "base",
    "monolith of the same size": "monolith, one adapter for all",
    "joint retrain of the same total size": "joint model of the same total size, trained on everything",
    "random routing": "random routing",
    "uniform merge": "uniform merge",
    "routed": "routed by LDA, 1% fallback",
    "oracle": "each input's own specialist",
}


def seeds(rows: list[dict], key: str, write: Callable[[float], str]) -> str:
    """The median over the seeds, and the range unless both ends are written the same."""
    values = [row[key] for row in rows]
    low, high = (write(value).removesuffix("%") for value in (min(values), max(values)))
    return write(statistics.median(values)) + (f" ({low} to {high})" if low != high else "")


def _named(results: Results, part: str) -> dict[str, list[dict]]:
    rows = results.rows("specialists", part=part)
    return {name: [row for row in rows if row["name"] == name] for name in distinct(rows, "name")}


def _kind_of(results: Results, prefix: str) -> dict[str, list[dict]]:
    rows = {name: rows for name, rows in _named(results, "languages").items() if name.startswith(prefix)}
    best = sorted(
        rows, key=lambda name: -statistics.median(row.get("share", row.get("same_family")) for row in rows[name])
    )
    return {name.removeprefix(prefix): rows[name] for name in best}


@table
def systems(results: Results, part: str) -> Table:
    """`part` is languages or modules."""
    named = _named(results, part)
    bits = {name: statistics.median(row["bits per byte"] for row in named[name]) for name in _SYSTEMS}
    lines = [
        (_SYSTEMS[name], f"{bits[name]:.3f}", seeds(named[name], "share", whole_percent))
        for name in sorted(_SYSTEMS, key=lambda name: -bits[name])
    ]
    note = f"{named['numbers'][0]['tasks']:.0f} specialists, {len(named['base'])} seeds: medians, and the range."
    return Table(("", "Bits per byte", "Of the own specialist's gain"), lines, note)


@table
def one_more(results: Results) -> Table:
    """What one specialist is and costs."""
    lines = []
    for part in ("languages", "modules"):
        rows = _named(results, part)["numbers"]
        strange = [row for row in rows if row["novel_fallback"] is not None]
        shares = (seeds(rows, "accuracy", whole_percent), seeds(rows, "false_fallback", percent))
        novel = seeds(strange, "novel_fallback", percent) if strange else ""
        times = (significant(statistics.median(row[key] for row in rows), 2) for key in ("seconds", "first_seconds"))
        lines.append((part, f"{rows[0]['bytes']:,}", *shares, novel, *times))
    headings = ("Bytes, with its profile", "Inputs sent to their own", "To the base", "Of novel tasks to the base")
    return Table(("A specialist", *headings, "One more, s", "With what it compiles"), lines)


@table
def routers(results: Results) -> Table:
    lines = [
        (name, seeds(rows, "share", whole_percent), seeds(rows, "accuracy", whole_percent))
        for name, rows in _kind_of(results, "router: ").items()
    ]
    return Table(("Router, without fallback", "Of the own specialist's gain", "Right"), lines)


@table
def merges(results: Results) -> Table:
    lines = [(name, seeds(rows, "share", whole_percent)) for name, rows in _kind_of(results, "merge: ").items()]
    return Table(("Merge of all", "Of the own specialist's gain"), lines)


@table
def families(results: Results) -> Table:
    found = _kind_of(results, "nearest by ")
    lines = [(name, seeds(rows, "same_family", whole_percent)) for name, rows in found.items()]
    (chance, *_) = found.values()
    return Table(("Nearest by", "Of the same family"), [*lines, ("chance", seeds(chance, "chance", whole_percent))])


@table
def novel(results: Results) -> Table:
    cells = {}
    for name, rows in _named(results, "novel").items():
        size, method = re.fullmatch(r"novel, ([\d,]+) bytes: (.*)", name).groups()
        cells[int(size.replace(",", "")), method] = f"{statistics.median(row['bits per byte'] for row in rows):.3f}"
    methods = list(dict.fromkeys(method for _, method in cells))
    sizes = sorted({size for size, _ in cells})
    lines = [(f"{size:,}", *(cells.get((size, method), "") for method in methods)) for size in sizes]
    return Table(("Bytes seen", *methods), lines, "Bits per byte of the novel languages, medians over the seeds.")


@table
def serving(results: Results) -> Table:
    write = lambda ratio: significant(ratio, 2)  # noqa: E731
    lines = [
        (name.partition(":")[0], seeds(rows, "loop_times", write), seeds(rows, "loop_ready_times", write))
        for name, rows in _named(results, "serving").items()
    ]
    return Table(("Times as fast as", "a loop that takes each out of the library", "a loop with all at hand"), lines)


@table
def adding(results: Results) -> Table:
    rows = results.rows("specialists", part="incremental")
    line = lambda name, *keys: (name, *(seeds(rows, key, lambda s: significant(s, 2)) for key in keys))  # noqa: E731
    same = all(row[key] for row in rows for key in row if key.endswith("_same"))
    note = (
        f"Files, parameters and scores of the others are {'the same, byte for byte' if same else '**not** the same'}."
    )
    lines = [line("one specialist, its file included", "add_s", "add_first_s")]
    return Table(
        ("", "s", "With what it compiles"), [*lines, line("the joint model anew", "joint_s", "joint_first_s")], note
    )


_FITTED = {
    "the solve alone": r"jaxopt_lite L?BFGS",
    "all of `fit`": r"jaxopt_lite\.specialists\.fit",
    "the best Adam that solves all": r"optax Adam .*",
    "optimistix BFGS": r"optimistix BFGS.*",
    "`jax.scipy` BFGS": r"jax\.scipy BFGS.*",
    "SciPy L-BFGS, a loop": r"SciPy L-BFGS.*",
}


@table
def fitting(results: Results) -> Table:
    """Seconds to fit all tasks, for those that solve all of them."""
    rows = results.rows("specialists", part="training")
    lines = []
    for tasks, parameters in dict.fromkeys((row["tasks"], row["parameters"]) for row in rows):
        mine = [row for row in rows if (row["tasks"], row["parameters"]) == (tasks, parameters) and row["solved"] == 1]
        times = {
            name: min((row["run_s"] for row in mine if re.fullmatch(pattern, row["solver"])), default=None)
            for name, pattern in _FITTED.items()
        }
        ratio = min(row["run_s"] for row in mine if not row["is_ours"]) / times["the solve alone"]
        cells = ("" if seconds is None else significant(seconds) for seconds in times.values())
        lines.append((f"{tasks:,} of {parameters}", *cells, significant(ratio, 2)))
    return Table(("Tasks, parameters each", *_FITTED, "Ratio to the best peer"), lines)


# --- Reliability ---------------------------------------------------------------------------------------------------

_LEFT = {"answers": "answered", "refused": "refused", "loads": "loaded", "half done": "left something half written"}


@table
def reliability(results: Results, *parts: str) -> Table:
    """How often what must not go wrong was tried, and what came of it."""
    rows = results.rows("reliability", part=parts)
    lines = [
        (row["what"], f"{row['tried']:,}", *_came(row["outcomes"]), f"{row['faults']:,}")
        for part in parts
        for row in rows
        if row["part"] == part
    ]
    return Table(("What", "Tried", "Of which", "Faults"), lines)


def _came(outcomes: dict[str, float]) -> tuple[str]:
    return (", ".join(f"{outcomes[name]:,} {word}" for name, word in _LEFT.items() if name in outcomes),)


# --- In a few lines ----------------------------------------------------------------------------------------------


@table
def highlights(results: Results) -> Table:
    """For those who read only one table."""
    training = {row["name"]: row for row in results.rows("bpe", race="training")}
    encoding = {row["name"]: row for row in results.rows("bpe", race="encoding")}
    systems = _named(results, "languages")
    seconds = {name: significant(row["run_s"], 2) + " s" for name, row in training.items()}
    speed = {name: significant(row["mb_per_second"], 2) + " MB/s" for name, row in encoding.items()}
    share = {name: seeds(systems[name], "share", whole_percent) for name in _SYSTEMS}
    megabytes = f"{training['rustbpe']['bytes'] / 1e6:,.0f} MB"
    same = ", the same merges" if training["rustbpe"]["same"] and training["tokenizers"]["same"] else ""
    lines = [
        ("Minima of Moré, Garbow and Hillstrom's found", *_beside(results, "MGH_UNCONSTRAINED", "BFGS")),
        ("Roots of their equations found", *_beside(results, "MGH_EQUATIONS", "Broyden")),
        ("Curves of four parameters fitted a second", *_fitted(results, "free")),
        ("The same within bounds", *_fitted(results, "bounded")),
        (
            f"A tokenizer of 32,000 tokens learned from {megabytes}{same}",
            seconds["jaxopt_lite"],
            f"rustbpe {seconds['rustbpe']}, Hugging Face {seconds['tokenizers']}",
        ),
        (
            "Text encoded; text seen before",
            f"{speed['jaxopt_lite, first call']}; {speed['jaxopt_lite, again']}",
            f"tiktoken {speed['tiktoken, 2 threads']}",
        ),
        (
            f"Routing to {systems['numbers'][0]['tasks']:.0f} specialists: of what the right ones gain",
            share["routed"],
            f"the joint model {share['joint retrain of the same total size']}",
        ),
    ]
    return Table(("Work", "This library", "Best beside it"), lines)


def _fitted(results: Results, kind: str) -> tuple[str, str]:
    """The solved fits a second, and those of the best peer that keeps to the bounds."""
    totals = [row for row in fits_of(results, kind)[1] if "no bounds" not in row["solver"]]
    ours, peer = (next(row for row in totals if row["is_ours"] is mine) for mine in (True, False))
    name = peer["solver"].removesuffix(", of 1,000")  # the size of its batches
    rate = significant(peer["solved_per_second"])
    return significant(ours["solved_per_second"]), f"{name} {rate}{unsolved(peer)}"


def _beside(results: Results, name: str, method: str) -> tuple[str, str]:
    """The share of the starts of a set that a method solves, and that of the best peer."""
    rows = [row for row in results.rows("robustness") if name in row["sets"]]
    shares = {other: mean(mine, "solved") for other, mine in by_method(rows).items()}
    peer = max((other for other in shares if not is_ours(other)), key=shares.get)
    return percent(shares[method]), f"{peer} {percent(shares[peer])}"
