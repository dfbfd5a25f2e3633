"""Numbers of README and docs: all from committed results, none typed by hand."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import report_pictures
from benchmarks.records import MissingResultError, Results, read
from benchmarks.report import PAGES, ReportError, block, rewritten
from benchmarks.report_tables import FITS_MACHINE, TABLES, Table, percent, significant, whole_percent

ROOT = Path(__file__).parents[1]

# --- A number with a unit outside of a block -----------------------------------------------------------------------

WORDS = "half a|a quarter of a|two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|thirty|a hundred"
UNITS = r"[nµm]?s|seconds?|minutes?|hours?|days?|bytes?|[kMGT]B|[kKMG]iB|[MGT]B/s|cycles|percent|times"
MEASURED = re.compile(
    rf"(?:(?<![\w.^])\d[\d.,]*(?: (?:to|and|or) \d[\d.,]*)?[\s-]?|\b(?:{WORDS})[\s-])(?:%|×|(?:{UNITS})\b)"
)
MEASURED_CELL = re.compile(r"(?<=\|)[ \t]*[−-]?(?:\d+\.\d+|\d{3,}|\d{1,3}(?:,\d{3})+)[ \t]*(?=\|)")
NO_PROSE = re.compile(
    r"^<!-- report:.*?^<!-- /report -->$|^[ \t]*(?P<fence>```+|~~~+).*?^[ \t]*(?P=fence)|^    .*?$"
    r"|`[^`]*`|\$[^$]*\$|\]\([^)]*\)",
    re.MULTILINE | re.DOTALL,
)

# What a page may say by itself, since nobody measured it: definitions, capacities, rules.
NOT_MEASURED = {
    "docs/bpe.md": ("three times", "256 bytes", "200 MB"),  # windows of a pair; an alphabet; the most a memory takes
    "docs/performance.md": ("64 bytes", "320 kB", "512 bytes"),  # a window; what decides the width of a tile
    "docs/scaling.md": ("100 bytes", "8 bytes", "256 bytes"),  # sizes of what is stored
    "docs/solvers.md": ("ten times",),  # when the rescue begins
    "docs/specialists.md": ("64 bytes",),  # a window
}


def typed_by_hand(text: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """`line: number` of all that look measured and stand in no block, code or formula."""
    prose = NO_PROSE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    found = [match for pattern in (MEASURED, MEASURED_CELL) for match in pattern.finditer(prose)]
    words = ((match, " ".join(match[0].split())) for match in sorted(found, key=lambda match: match.start()))
    return [f"{prose.count(chr(10), 0, match.start()) + 1}: {word}" for match, word in words if word not in allowed]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_number_is_typed_by_hand(page):
    """Make it a table of benchmarks/report_tables.py, say it without the number, or list what is no measurement."""
    name = page.relative_to(ROOT).as_posix()
    assert typed_by_hand(page.read_text(encoding="utf-8"), NOT_MEASURED.get(name, ())) == []


def test_what_is_allowed_is_there():
    for name, allowed in NOT_MEASURED.items():
        found = {line.partition(": ")[2] for line in typed_by_hand((ROOT / name).read_text(encoding="utf-8"))}
        assert found == set(allowed), name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It takes 2.7 s, or\n1,045\nms.", ["1: 2.7 s", "2: 1,045 ms"]),
        ("from 5 to 7 times as fast, 96% of it, 3× the rate", ["1: 5 to 7 times", "1: 96%", "1: 3×"]),
        ("three times as long, half a\nminute", ["1: three times", "1: half a minute"]),
        ("at 14 MB/s, in 609 MiB, with 64-byte words", ["1: 14 MB", "1: 609 MiB", "1: 64-byte"]),
        ("| BFGS | 23,400 | 0.87 | 49 |", ["1: 23,400", "1: 0.87"]),
        ("n = 30, `5 s`, $2 s$, [text](10%20s.md), x86, 1e-6, batches of millions, 4 problems", []),
        ("```\n5 s\n```\n\n    7 s\n\n<!-- report: nist -->\n96%\n<!-- /report -->\n8 s", ["10: 8 s"]),
    ],
)
def test_measured_numbers_are_recognized(text, found):
    assert typed_by_hand(text) == found


# --- The pages and pictures of this repository ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed() -> Results:
    return read()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_is_what_the_results_say(page, committed):
    text = page.read_text(encoding="utf-8")
    assert rewritten(text, committed, page.name) == text, "run `python -m benchmarks.report`"


def test_pictures_are_what_the_results_say(committed):
    """By the digest of their data, and to the byte where the version of matplotlib that drew them is installed."""
    assert report_pictures.stale(committed, write=False) == [], "run `python -m benchmarks.report`"


def test_every_picture_is_shown_and_every_table_asked_for():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    asked = set(re.findall(r"<!-- report: ([\w-]+)", text))
    assert TABLES.keys() <= asked
    assert all(f"pictures/{name}.svg)" in text for name in report_pictures.PICTURES)


# --- The mechanism, on results that are made up --------------------------------------------------------------------


def raced(race: str, solver: str, rate: float, **more: object) -> dict:
    row = {"race": race, "solver": solver, "is_ours": solver.startswith("BFGS"), "solved_per_second": rate}
    return row | {"solved": 1.0, "first_call_s": 1.25} | more


FIRST = [
    raced("bfgs-n2", "BFGS", 2_000_000.0),
    raced("bfgs-n2", "BFGS, inside a jit", 1_234_567.0),
    raced("bfgs-n2", "optimistix BFGS", 50_000.0, solved=0.91),
    raced("bfgs-n2", "jaxopt BFGS", 400.0),
    raced("bfgs-n10", "BFGS", 10.0),
    raced("alone-bfgs-n10", "BFGS", 10.0),
]


def results_of(folder: Path, device: str = "amd-epyc-2-cores", **files: list[dict]) -> Results:
    """Result files `<date of two digits>_<benchmark>=rows`, all of one month and one device."""
    for name, rows in files.items():
        day, benchmark = name[1:3], name[4:]
        content = {"date": f"2026-01-{day}", "device": device, "versions": {"jax": "0.12.0"}, "rows": rows}
        path = folder / f"{content['date']}-{device}-{benchmark}.json"
        path.write_text(json.dumps(content | {"command": f"python -m benchmarks.{benchmark} --only x"}))
    return read(folder)


def test_a_table_of_results(tmp_path):
    """The quickest peer, its share, the ratio, and where all of it is from."""
    asked = block("speeds bfgs-n2", results_of(tmp_path, d05_solvers=FIRST))
    *_, row, _, source = asked.split("\n")
    assert row == "| BFGS, Rosenbrock n = 2 | 2,000,000 | 1,230,000 | 50,000, optimistix (91% solved) | 40 | 1.2 |"
    assert source == "*AMD EPYC, 2 cores, JAX 0.12.0: `2026-01-05-amd-epyc-2-cores-solvers.json`*"


def test_the_newest_race_counts_whole(tmp_path):
    """What was measured together stays together, and what was not measured again stays."""
    again = [raced("bfgs-n2", "BFGS", 7.0), raced("bfgs-n2", "BFGS, inside a jit", 5.0), raced("bfgs-n2", "SciPy", 2.0)]
    results = results_of(tmp_path, d05_solvers=FIRST, d06_solvers=again, d07_robustness=[])
    assert [row["solved_per_second"] for row in results.rows("solvers", race="bfgs-n2")] == [7.0, 5.0, 2.0]
    assert results.used == ["2026-01-06-amd-epyc-2-cores-solvers.json"]
    assert results.row("solvers", race="bfgs-n10")["solved_per_second"] == 10.0
    with pytest.raises(MissingResultError, match="jaxopt BFGS"):
        results.rows("solvers", race="bfgs-n2", solver="jaxopt BFGS")


def test_the_later_of_one_day_is_newer(tmp_path):
    results = results_of(tmp_path, d05_solvers=[raced("bfgs-n10", "BFGS", 1.0)])
    (path,) = tmp_path.glob("*.json")
    for hour, rate in (("23:10", 3.0), ("09:59", 2.0)):
        content = json.loads(path.read_text()) | {"time": hour, "rows": [raced("bfgs-n10", "BFGS", rate)]}
        (tmp_path / f"{path.stem}-part-{rate:.0f}.json").write_text(json.dumps(content))
    assert results.row("solvers")["solved_per_second"] == 1.0
    assert read(tmp_path).row("solvers")["solved_per_second"] == 3.0


PAGE = "# Speed\n\n<!-- report: speeds bfgs-n2 -->\n<!-- /report -->\n\nWords.\n"


def test_a_page_is_written_once(tmp_path):
    """Writing it again changes nothing, and neither do blocks touch what is around them."""
    results = results_of(tmp_path, d05_solvers=FIRST)
    once = rewritten(PAGE, results, "page.md")
    assert once != PAGE and once.startswith("# Speed\n\n<!-- report") and once.endswith("-->\n\nWords.\n")
    assert rewritten(once, results, "page.md") == once


def test_a_changed_number_is_noticed(tmp_path):
    """In the page, and in a newer result file."""
    results = results_of(tmp_path, d05_solvers=FIRST)
    once = rewritten(PAGE, results, "page.md")
    assert rewritten(once.replace("1,230,000", "1,240,000"), results, "page.md") == once
    newer = results_of(tmp_path, d06_solvers=[row | {"solved_per_second": 9.0} for row in FIRST])
    assert rewritten(once, newer, "page.md") != once


@pytest.mark.parametrize(
    ("page", "error", "message"),
    [
        ("a\n<!-- report: speeds bfgs-n2 -->\nb", ReportError, "page.md:2: this block has no end"),
        ("a\nb\n<!-- /report -->", ReportError, "page.md:3: an end without a beginning"),
        (PAGE.replace("<!-- /report -->", PAGE), ReportError, "page.md:3: this block has no end"),
        ("see <!-- report: nist -->", ReportError, "page.md:1: a marker wants a line of its own"),
        (PAGE.replace("speeds", "sped"), ReportError, "page.md:3: no table is called 'sped'; there are adding, alone"),
        (PAGE.replace("report: speeds bfgs-n2", "report"), ReportError, "page.md:3: no table is called ''"),
        (PAGE.replace("speeds", "batches"), ReportError, "page.md:3: 'batches' was given ['bfgs-n2']"),
        (
            PAGE.replace("n2", "n3"),
            MissingResultError,
            "page.md:3: no file in benchmarks/results has rows of 'solvers'",
        ),
        (
            PAGE.replace("n2", "n10"),
            MissingResultError,
            "solver = 'BFGS, inside a jit': run `python -m benchmarks.solvers",
        ),
        (PAGE.replace("speeds bfgs-n2", "nist"), MissingResultError, "run `python -m benchmarks.nist`"),
        (PAGE.replace("speeds bfgs-n2", "alone"), MissingResultError, "'alone' needs 'unknowns', which is not among"),
    ],
)
def test_what_is_wrong_is_said(page, error, message, tmp_path):
    with pytest.raises(error, match=re.escape(message)):
        rewritten(page, results_of(tmp_path, d05_solvers=FIRST), "page.md")


def test_what_is_no_result_file_is_named(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=re.escape("other.json is not a result file")):
        read(tmp_path)


def test_a_table_of_minima_within_bounds(tmp_path):
    """Where fits were measured last, and not where the rest was."""
    row = {"part": "free", "problem": "wood", "solved": 1.0, "at_the_best": 0.5, "of_these_not_solved": 0.0}
    rows = [row | {"method": "SciPy lm"}, row | {"method": "LevenbergMarquardt", "solved": 0.9999}]
    asked = block("bounded free", results_of(tmp_path, FITS_MACHINE, d05_bounded=rows)).split("\n")
    assert asked[2:4] == ["| `LevenbergMarquardt` | 99.99% | 50.0% | 0.0% |", "| SciPy lm | 100% | 50.0% | 0.0% |"]


def test_a_picture_is_drawn_anew_when_its_results_change(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(report_pictures, "FOLDER", tmp_path / "docs" / "pictures")
    drawing = report_pictures.Picture(lambda results: [results.rows("solvers")[0]["solved"]], draw_nothing)
    monkeypatch.setattr(report_pictures, "PICTURES", {"one": drawing})
    (tmp_path / "docs").mkdir()
    results = results_of(tmp_path, d05_solvers=FIRST)
    assert report_pictures.stale(results, write=True) == ["docs/pictures/one.svg"]
    assert report_pictures.stale(results, write=False) == []
    newer = results_of(tmp_path, d06_solvers=[raced("bfgs-n2", "BFGS", 1.0, solved=0.5)])
    assert report_pictures.stale(newer, write=False) == ["docs/pictures/one.svg"]


def draw_nothing(data):
    from matplotlib.figure import Figure

    return Figure((1, 1))


def test_numbers_are_written_for_people():
    assert [significant(x) for x in (1_234_567, 86_612, 9.62, 0.86, 0.012345, 1045.4, 2.7e-8)] == [
        *("1,230,000", "86,600", "9.62", "0.860", "0.0123", "1,050", "2.70e−08")
    ]
    assert [significant(x, 2) for x in (9.62, 36.6, 0.996, 99.7)] == ["9.6", "37", "1.0", "100"]
    assert [percent(x) for x in (1, 0.99957, 0.9965, 0.5, 0)] == ["100%", "99.96%", "99.7%", "50.0%", "0.0%"]
    assert [whole_percent(x) for x in (-45.546, -0.001, 0.96)] == ["−4,555%", "0%", "96%"]
    assert (
        str(Table(("", "s"), [("a", ""), ("", "1")], "Note.")) == "| | s |\n| --- | ---: |\n| a | |\n| | 1 |\n\nNote."
    )
