"""The pictures of README and docs, drawn from the results with matplotlib, the `plot` extra.

A picture is two functions: from results to plain data, and from that to a figure. The file holds a digest of the data
and the version of matplotlib, so that an outdated one is found without drawing it; where that version is installed,
every byte is compared. Colors are Okabe and Ito's; lines and letters are a grey that is legible on white and on black.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.packages import version
from benchmarks.records import Results
from benchmarks.report_tables import (
    FITS_MACHINE,
    SETS,
    device_name,
    distinct,
    fits_of,
    is_ours,
    mean,
    percent,
    significant,
    trainer,
    work,
)

__all__ = ["FOLDER", "PICTURES", "stale"]

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
_GREY = "#808080"
_COLORS = {
    "jaxopt_lite": "#0072B2",
    "TensorFlow Probability": "#E69F00",
    "optimistix": "#009E73",
    "jaxopt": "#56B4E9",
    "jax.scipy": "#CC79A7",
    "SciPy": "#D55E00",
    "NLSQ": "#999999",
    "rustbpe": "#D55E00",
    "tokenizers": "#E69F00",
    "sentencepiece": "#CC79A7",
}
_LABELS = {"jaxopt_lite": "this library", "tokenizers": "Hugging Face tokenizers"}
_STYLE = {
    "svg.hashsalt": "jaxopt_lite",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
} | dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor"), _GREY
)


class Picture(NamedTuple):
    data: Callable[[Results], Any]
    draw: Callable[[Any], Any]


# --- What is shown -----------------------------------------------------------------------------------------------


def package(row: dict) -> str:
    """The package of a solver.

    Raises:
        ValueError: It has no color.
    """
    name = row.get("solver") or row.get("method") or row["name"]
    if row.get("is_ours") or is_ours(name):
        return "jaxopt_lite"
    for known in sorted(_COLORS, key=len, reverse=True):
        if name.startswith(known):
            return known
    raise ValueError(f"{name!r} is of a package without a color in benchmarks/report_pictures.py")


def _best_of_packages(rows: list[dict]) -> list[list]:
    """`[package, solved a second, share solved]` for the quickest solver of each."""
    best: dict[str, dict] = {}
    for row in sorted(rows, key=lambda row: row["solved_per_second"]):
        best[package(row)] = row
    ordered = sorted(best.items(), key=lambda item: (item[0] != "jaxopt_lite", -item[1]["solved_per_second"]))
    return [[name, row["solved_per_second"], row["solved"]] for name, row in ordered]


def _axis(what: str, row: dict) -> str:
    return f"solved {what} a second; {device_name(row['on'])}, float64"


def speed_data(results: Results) -> list:
    races = [f"bfgs-n{n}" for n in (2, 10, 30)] + [f"broyden-n{n}" for n in (10, 30)] + ["trigonometric-n6"]
    groups, rows = [], []
    for race in races:
        rows = [row for row in results.rows("solvers", race=race) if "inside a jit" not in row["solver"]]
        groups.append([work(race).replace(", ", "\n"), _best_of_packages(rows)])
    return [_axis("problems", rows[0]), groups]


def fits_data(results: Results) -> list:
    panels, on = [], results.rows("curve_fits", FITS_MACHINE)[0]
    for kind, title in (("free", "without bounds"), ("bounded", "with bounds")):
        curves, rows = fits_of(results, kind)
        rows = [row for row in rows if "inside a jit" not in row["solver"]]
        panels.append([f"{title}\n({', '.join(curves)})", _best_of_packages(rows)])
    return [_axis("curve fits", on), panels]


def robustness_data(results: Results) -> list:
    rows = [row for row in results.rows("robustness") if "float32" not in row["method"]]
    panels = []
    for name, words in SETS.items():
        mine = [row for row in rows if name in row["sets"]]
        shares = [(m, mean([row for row in mine if row["method"] == m], "solved")) for m in distinct(mine, "method")]
        shares = [[m, package({"method": m}), share] for m, share in sorted(shares, key=lambda pair: -pair[1])]
        panels.append([words.format(len(set(distinct(mine, "problem")))), shares])
    return [f"of {rows[0]['lanes']} starts of every problem, % solved (diamonds: this library)", panels]


def bpe_data(results: Results) -> list:
    rows = [row for row in results.rows("bpe", race="training") if row["name"].partition(", ")[2] not in _PARTS]
    trained = [[trainer(row), package(row), row["run_s"]] for row in sorted(rows, key=lambda row: -row["run_s"])]
    what = f"seconds to learn from {rows[0]['bytes'] / 1e6:.0f} MB; {device_name(rows[0]['on'])}"
    grown: dict[str, list] = {}
    for row in sorted(results.rows("bpe", race=("linearity", "large")), key=lambda row: row["bytes"]):
        grown.setdefault(package(row), []).append([row["bytes"] / 1e6, row["run_s"]])
    return [what, trained, list(grown.items())]


_PARTS = ("counting", "merging")


# --- How it is drawn ---------------------------------------------------------------------------------------------


def _figure(width: float, height: float, *subplots: int, **options: Any) -> tuple:
    from matplotlib.figure import Figure  # an extra, and slow to load

    figure = Figure((width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)  # for a browser's letters, which may be wider
    figure.patch.set_alpha(0)
    axes = figure.subplots(*subplots, **options)
    for ax in axes.flat if hasattr(axes, "flat") else [axes]:
        ax.patch.set_alpha(0)
        ax.grid(axis="x", color=_GREY, alpha=0.3, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def _label(name: str) -> str:
    return _LABELS.get(name, name)


def draw_rates(data: list) -> Any:
    """Bars on a logarithmic axis, a group for each kind of work, with the number at the end of each bar."""
    what, groups = data
    bars = sum(len(bars) for _, bars in groups)
    figure, ax = _figure(8, 0.8 + 0.24 * bars + 0.2 * len(groups))
    seen, y, ticks = {}, 0.0, []
    for name, group in groups:
        ticks.append((y + (len(group) - 1) / 2, name))
        for who, rate, solved in group:
            bar = ax.barh(y, rate, color=_COLORS[who], height=0.85)
            text = significant(rate) + ("" if solved > 0.9995 else f"  ({percent(solved, 0)} solved)")
            ax.annotate(text, (rate, y), (3, 0), textcoords="offset points", va="center", fontsize=8)
            seen.setdefault(who, bar)
            y += 1
        y += 0.8
    ax.set_xscale("log")
    ax.set_xlim(right=ax.get_xlim()[1] * 8)  # room for the last number
    ax.set_yticks(*zip(*ticks, strict=True))
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set_xlabel(what)
    figure.legend(seen.values(), map(_label, seen), loc="outside upper center", ncols=len(seen))
    return figure


def draw_robustness(data: list) -> Any:
    what, panels = data
    sizes = [len(shares) for _, shares in panels]
    figure, axes = _figure(8, 1.4 + 0.27 * sum(sizes), len(panels), 1, sharex=True, height_ratios=sizes)
    for ax, (title, shares) in zip(axes, panels, strict=True):
        ax.set_title(title)
        for y, (_, who, share) in enumerate(shares):
            ours = who == "jaxopt_lite"
            ax.plot(100 * share, y, "D" if ours else "o", color=_COLORS[who], markersize=8, clip_on=False)
            where = {"xytext": (-9, 0), "ha": "right"} if share > 0.78 else {"xytext": (9, 0), "ha": "left"}
            ax.annotate(percent(share), (100 * share, y), textcoords="offset points", va="center", fontsize=8, **where)
        ax.set_yticks(range(len(shares)), [method for method, *_ in shares])
        for tick, (_, who, _) in zip(ax.get_yticklabels(), shares, strict=True):
            tick.set_fontweight("bold" if who == "jaxopt_lite" else "normal")
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(shares) - 0.5, -0.5)
    axes[-1].set_xlim(right=100)
    axes[-1].set_xlabel(what)
    return figure


def draw_bpe(data: list) -> Any:
    what, trained, grown = data
    figure, (left, right) = _figure(9, 3.2, 1, 2, width_ratios=(1, 1.1))
    for y, (_, who, seconds) in enumerate(trained):
        left.barh(y, seconds, color=_COLORS[who], height=0.7)
        left.annotate(f"{seconds:.2f}", (seconds, y), (3, 0), textcoords="offset points", va="center", fontsize=8)
    left.set_yticks(range(len(trained)), [name.replace(", ", ",\n").replace("Face ", "Face\n") for name, *_ in trained])
    left.tick_params(axis="y", length=0)
    left.set_xlim(right=1.15 * max(seconds for *_, seconds in trained))
    left.set_xlabel(what)
    for marker, (who, points) in zip("Dosv^", grown, strict=False):
        right.loglog(*zip(*points, strict=True), marker=marker, color=_COLORS[who], label=_label(who))
    right.grid(axis="y", color=_GREY, alpha=0.3, linewidth=0.6)
    right.set_xlabel("text, MB")
    right.set_ylabel("seconds")
    right.legend()
    return figure


PICTURES = {
    "speed": Picture(speed_data, draw_rates),
    "fits": Picture(fits_data, draw_rates),
    "robustness": Picture(robustness_data, draw_robustness),
    "bpe": Picture(bpe_data, draw_bpe),
}


# --- Files -------------------------------------------------------------------------------------------------------


def plain(data: Any) -> Any:
    """Data as JSON holds it, to six digits: the last ones of a sum depend on the version of Python."""
    return json.loads(json.dumps(data), parse_float=lambda text: float(f"{float(text):.6g}"))


def digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()


def drawn(picture: Picture, data: Any) -> str:
    import matplotlib

    with matplotlib.rc_context({"font.family": ["sans-serif"]} | _STYLE):
        out = io.StringIO()
        picture.draw(data).savefig(out, format="svg", metadata={"Date": None, "Identifier": digest(data)})
    return re.sub(r" +$", "", out.getvalue(), flags=re.MULTILINE)


def stale(results: Results, write: bool) -> list[str]:
    """The pictures that differ from the results; drawn anew if `write`.

    Raises:
        ModuleNotFoundError: One must be drawn and matplotlib is not installed.
    """
    here, found = version("matplotlib"), []
    for name, picture in PICTURES.items():
        path, data = FOLDER / f"{name}.svg", plain(picture.data(results))
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        by = re.search(r"Matplotlib v([^,<]+)", text)
        if digest(data) in text and (by is None or by[1] != here or drawn(picture, data) == text):
            continue
        found.append(path.relative_to(FOLDER.parents[1]).as_posix())
        if write:
            path.parent.mkdir(exist_ok=True)
            path.write_text(drawn(picture, data), encoding="utf-8")
    return found
