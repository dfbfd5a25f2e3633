"""Every example runs: the Python blocks of README.md and docs/, and the `>>>` examples of the docstrings.

The blocks of one Markdown file are one program, in order. One that cannot run here says why, either in its
first line, ```python no-run: reason, or in a comment above it, <!-- skip: reason -->. One that begins with
```python needs: a package, another runs where these are installed, with whatever they warn of.
"""

import ast
import doctest
import importlib
import re
import subprocess
import sys
import textwrap
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

import jaxopt_lite

pytestmark = pytest.mark.hardly_optimized
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "gallery").glob("*.md"))]
PICTURES = ROOT / "docs" / "pictures"
MODULES = sorted((ROOT / "jaxopt_lite").rglob("*.py"))

FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,}) *(?P<info>.*?) *$")
SKIP = re.compile(r"^<!-- *skip\b:? *(?P<reason>.*?) *-->$")
NO_RUN = re.compile(r"^python no-run\b:? *(?P<reason>.*)$")
NEEDS = re.compile(r"^python needs: (?P<packages>\w+(, \w+)*)$")
# Other ways to write a Python block, which would be shown to a reader and never run.
DISGUISED = re.compile(r"^(py|python3?|pycon|ipython3?|\{code(-block|-cell)?\} *(py|ipython)\w*|\{doctest\}.*)\b")


class Block(NamedTuple):
    """A fenced block of Markdown: where its code starts, what its first line says, and its code."""

    path: Path
    line: int
    info: str
    code: str
    above: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}"


class Example(NamedTuple):
    """A docstring with examples: where its string starts, whose it is, and its text."""

    path: Path
    line: int
    name: str
    text: str


class ExampleError(Exception):
    """An example of the documentation fails."""


def blocks_of(path: Path, text: str) -> Iterator[Block]:
    """All fenced blocks of a page, Python or not."""
    lines = text.splitlines()
    position, above = 0, ""
    while position < len(lines):
        fence = FENCE.match(lines[position])
        if not fence:
            above = lines[position].strip() or above
            position += 1
            continue
        first = position + 1
        position = next((k for k in range(first, len(lines)) if closes(fence, lines[k])), None)
        if position is None:
            raise ExampleError(f"{path.name}:{first}: this fence is never closed")
        code = textwrap.dedent("\n".join(lines[first:position]))
        yield Block(path, first + 1, fence["info"], code, above)
        position, above = position + 1, ""


def closes(fence: re.Match[str], line: str) -> bool:
    return line.strip().startswith(fence["ticks"]) and not line.strip().strip(fence["ticks"][0])


def is_run(block: Block) -> bool:
    """Whether a block is a program; one that is left out must say why.

    Raises:
        ExampleError: It is left out without a reason, or Python in a form that would be left out silently.
    """
    left_out = SKIP.match(block.above) or NO_RUN.match(block.info)
    if left_out:
        if not left_out["reason"]:
            raise ExampleError(f"{block}: left out without a reason; write `skip: reason` or `no-run: reason`")
        return False
    needs = NEEDS.match(block.info)
    if needs:
        return all(find_spec(package) is not None for package in needs["packages"].split(", "))
    if block.info == "python":
        return True
    if DISGUISED.match(block.info):
        raise ExampleError(f"{block}: `{block.info}` is Python that is not run; write ```python")
    return False


def run(path: Path, text: str) -> int:
    """Runs the Python blocks of a page as one program, and counts them.

    Raises:
        ExampleError: One fails, named by the page's file and line.
    """
    names, count = {"__name__": "__main__"}, 0
    for block in filter(is_run, blocks_of(path, text)):
        try:
            with ignoring_warnings() if NEEDS.match(block.info) else nullcontext():
                execute(block, path, names)
        except Exception as error:
            raise ExampleError(f"{path.name}:{line_of(error, path, block)}: {describe(error)}") from error
        count += 1
    return count


def execute(block: Block, path: Path, names: dict[str, object]) -> None:
    # The empty lines above the code give its lines the numbers they have in the page.
    exec(compile("\n" * (block.line - 1) + block.code, str(path), "exec"), names)


@contextmanager
def ignoring_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def line_of(error: Exception, path: Path, block: Block) -> int:
    """The line of the page where the error arose, or the first of the block if it arose before a line ran."""
    inside = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        inside.append(error.lineno)
    return next((line for line in reversed(inside) if line), block.line)


def describe(error: Exception) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def examples_of(path: Path, text: str) -> Iterator[Example]:
    """Every docstring with a `>>>`, whatever decorates the thing it describes."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, documented) and ">>>" in (docstring := ast.get_docstring(node) or ""):
            name = getattr(node, "name", path.stem)
            yield Example(path, node.body[0].lineno, name, docstring)


def check(example: Example, names: dict[str, object]) -> int:
    """Runs the examples of a docstring, given the names of its module, and counts them.

    Raises:
        ExampleError: One prints something else than it says, or fails.
    """
    name, path, line = example.name, str(example.path), example.line - 1
    parsed = doctest.DocTestParser().get_doctest(example.text, names, name, path, line)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(parsed, out=report.append)
    if runner.failures:
        raise ExampleError("".join(report))
    return runner.tries


EXAMPLES = [
    example
    for path in MODULES
    if ">>>" in (text := path.read_text(encoding="utf-8"))  # the others need not be parsed
    for example in examples_of(path, text)
]


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """An example may write files and set the precision; neither reaches the next one."""
    monkeypatch.chdir(tmp_path)
    x64 = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", x64)


# What they say has quick tests elsewhere; these take seconds, most of them to compile.
LONG = {
    "docs/accelerators.md", "docs/add_an_adapter.md", "docs/bpe.md", "docs/design.md", "docs/getting_started.md",
    "docs/migration.md", "docs/peft.md", "docs/plots.md",
    "docs/questions.md", "docs/scaling.md", "docs/solvers.md", "docs/specialists.md",
    "docs/gallery/deep_equilibrium.md", "docs/gallery/hundred_digits.md", "docs/gallery/languages.md",
    "docs/gallery/nist_fits.md", "docs/gallery/other_models.md", "docs/gallery/penalties.md",
    "docs/gallery/power_flow.md", "docs/gallery/robot_arm.md", "docs/gallery/tokenizer.md",
    "jaxopt_lite/bounds/buffer.py",
    "jaxopt_lite/demo/confidence.py", "jaxopt_lite/demo/lowest_voltage.py", "jaxopt_lite/lanes/devices.py",
    "jaxopt_lite/solvers/bfgs.py",
    "jaxopt_lite/solvers/chunks.py", "jaxopt_lite/solvers/covariance.py", "jaxopt_lite/solvers/lbfgs.py",
    "jaxopt_lite/solvers/least_squares.py",
    "jaxopt_lite/solvers/levenberg_marquardt.py", "jaxopt_lite/solvers/limited_broyden.py",
    "jaxopt_lite/solvers/multistart.py", "jaxopt_lite/solvers/solution.py", "jaxopt_lite/solvers/solve.py",
    "jaxopt_lite/specialists/embedding.py", "jaxopt_lite/specialists/evaluate.py", "jaxopt_lite/specialists/fit.py",
    "jaxopt_lite/specialists/language.py", "jaxopt_lite/specialists/merging/methods.py",
    "jaxopt_lite/specialists/mixing.py", "jaxopt_lite/specialists/peft/saving.py",
    "jaxopt_lite/specialists/routers/lda.py",
}  # fmt: skip


def _marked(value, path):
    name = path.relative_to(ROOT).as_posix()
    return pytest.param(value, marks=pytest.mark.slow if name in LONG else ())


@pytest.mark.parametrize(
    "path", [_marked(path, path) for path in PAGES], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_page_runs(path, tmp_path):
    """The page's Python, copied out from top to bottom, works, and draws what the page shows."""
    text = path.read_text(encoding="utf-8")
    with drawing(text):
        run(path, text)
        for drawn in tmp_path.glob("gallery-*"):
            assert (PICTURES / drawn.name).exists(), f"{path.name} draws {drawn.name}, which is not in docs/pictures"
            assert is_alike(drawn, PICTURES / drawn.name), f"draw {drawn.name} anew, as docs/gallery/index.md says"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_is_python_and_its_names_are_there(path):
    """Which is seen at once, also of a page that takes long to run."""
    rooms = {"jol": jaxopt_lite, "bpe": jaxopt_lite.bpe, "sp": jaxopt_lite.specialists}
    for block in filter(is_run, blocks_of(path, path.read_text(encoding="utf-8"))):
        for node in ast.walk(ast.parse(block.code, str(block))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in rooms:
                assert hasattr(rooms[node.value.id], node.attr), f"{block}: {node.value.id}.{node.attr}"


@contextmanager
def drawing(text: str):
    """In the style of the pictures of the pages, which are closed afterwards."""
    if "matplotlib" not in text or find_spec("matplotlib") is None:
        yield
        return
    import matplotlib
    from matplotlib import pyplot

    try:
        with matplotlib.rc_context(fname=PICTURES / "matplotlibrc"):
            yield
    finally:
        pyplot.close("all")


def is_alike(drawn: Path, kept: Path) -> bool:
    """Whether pictures show the same: the same words, or pixels nearly alike. Versions of matplotlib differ in more."""
    if drawn.suffix == ".svg":
        return sorted(words_of(drawn)) == sorted(words_of(kept))
    from matplotlib.image import imread

    one, other = imread(drawn), imread(kept)
    return one.shape == other.shape and abs(one - other).mean() < 0.02


def words_of(svg: Path) -> list[str]:
    return re.findall(r"(?<=>)[^<>]+(?=</text>)", svg.read_text(encoding="utf-8"))


def test_every_page_of_the_gallery_has_its_picture():
    """It is drawn by the page's last block, shown by the page, and on a card of the index."""
    gallery = ROOT / "docs" / "gallery"
    cards = (gallery / "index.md").read_text(encoding="utf-8")
    pages = sorted(set(gallery.glob("*.md")) - {gallery / "index.md"})
    assert pages
    for path in pages:
        text = path.read_text(encoding="utf-8")
        *_, last = blocks_of(path, text)
        (name,) = re.findall(rf"gallery-{path.stem}\.(?:svg|png)", last.code)
        shown = f"../pictures/{name}"
        assert NEEDS.match(last.info)["packages"].endswith("matplotlib"), path.name
        assert f"]({shown})" in text and shown in cards, path.name
        assert (PICTURES / name).stat().st_size < 80_000, name


@pytest.mark.parametrize(
    "example",
    [_marked(example, example.path) for example in EXAMPLES],
    ids=lambda e: f"{e.path.relative_to(ROOT).as_posix()}-{e.name}",
)
def test_docstring_runs(example):
    """The docstring's example prints what it says."""
    module = ".".join(example.path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    assert check(example, vars(importlib.import_module(module))) > 0


def test_there_is_something_to_run():
    """README shows Python, and so do docstrings of the rooms: nothing is missed by looking elsewhere."""
    readme = ROOT / "README.md"
    assert any(is_run(block) for block in blocks_of(readme, readme.read_text(encoding="utf-8")))
    assert {"bounds", "solvers"} <= {example.path.parent.name for example in EXAMPLES}


@pytest.mark.parametrize(
    "room",
    [jaxopt_lite, jaxopt_lite.bounds, jaxopt_lite.bpe, jaxopt_lite.plots, jaxopt_lite.specialists],
    ids=lambda room: room.__name__,
)
def test_reference_names_everything_public(room):
    """A name that users may import is described in docs/api.md."""
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    described = set(re.findall(r":: (\S+)$", reference, re.MULTILINE))
    assert {f"{room.__name__}.{name}" for name in room.__all__} <= described


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    """And draws its formulas without a script."""
    for package in ("sphinx", "myst_parser", "sphinx_design", "latex2mathml", "furo"):
        pytest.importorskip(package)
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", ROOT / "docs", tmp_path]
    subprocess.run(build, check=True)
    page = (tmp_path / "solvers.html").read_text(encoding="utf-8")
    assert "<math" in page and '<script src="http' not in page and "mathjax.js" not in page.lower()


PAGE = Path("page.md")


def page(*lines: str) -> str:
    return "\n".join(lines)


def test_blocks_share_names_in_order():
    """What one block defines the next may use; other languages are left alone."""
    text = page("```python", "x = 1", "```", "```bash", "rm -rf /", "```", "", "```python", "assert x == 1", "```")
    assert run(PAGE, text) == 2


def test_a_block_runs_where_what_it_needs_is_installed():
    """And a page that shows a library which is not there runs all the same."""
    text = page(
        "```python needs: json",
        "import warnings",
        "warnings.warn('old')",
        "```",
        "```python needs: no_such",
        "x",
        "```",
        "```python needs: json, no_such",
        "x",
        "```",
    )
    assert run(PAGE, text) == 1


def test_indented_and_longer_fences_run():
    """A block inside a list, and a fence of four ticks around one of three."""
    listed = page("- item", "  ```python", "  def f():", "      return 1", "  assert f() == 1", "  ```")
    assert run(PAGE, listed) == 1
    assert run(PAGE, page("````markdown", "```python", "1 / 0", "```", "````", "~~~python", "x = 1", "~~~")) == 1


@pytest.mark.parametrize(
    ("text", "finding"),
    {
        "fails": (page("Text", "```python", "x = 1", "", "x / 0", "```"), "page.md:5: ZeroDivisionError"),
        "asserts": (page("```python", "assert 1 == 2", "```"), "page.md:2: AssertionError"),
        "fails in a function": (
            page("```python", "def f():", "    return 1 / 0", "```", "```python", "", "f()", "```"),
            "page.md:3: ZeroDivisionError",
        ),
        "is not Python": (page("```python", "x = 1", "x = = 2", "```"), "page.md:3: "),
        "uses a name of no block": (page("```python", "y", "```"), "page.md:2: NameError"),
        "is never closed": (page("```python", "x = 1"), "page.md:1: this fence is never closed"),
        "no reason in the comment": (page("<!-- skip: -->", "```python", "1 / 0", "```"), "without a reason"),
        "no reason in the fence": (page("```python no-run", "1 / 0", "```"), "page.md:2: left out without"),
        "py": (page("```py", "x = 1", "```"), "page.md:2: `py` is Python that is not run"),
        "python3": (page("```python3", "x = 1", "```"), "is Python that is not run"),
        "pycon": (page("```pycon", ">>> 1", "```"), "is Python that is not run"),
        "directive": (page("```{code-block} python", "x = 1", "```"), "is Python that is not run"),
        "options": (page("```python title=a", "x = 1", "```"), "is Python that is not run"),
    }.values(),
)
def test_broken_page_is_found(text, finding):
    """A page whose Python does not run fails, and names the file and the line."""
    with pytest.raises(ExampleError, match=re.escape(finding)):
        run(PAGE, text)


@pytest.mark.parametrize(
    "text",
    [
        page("<!-- skip: needs a GPU -->", "```python", "1 / 0", "```"),
        page("<!-- skip: needs a GPU -->", "", "```python", "1 / 0", "```"),
        page("```python no-run: needs a GPU", "1 / 0", "```"),
    ],
)
def test_block_left_out_for_a_reason(text):
    """A block with a stated reason is left out, and only that one."""
    assert run(PAGE, page(text, "```python", "x = 1", "```")) == 1


def module(*lines: str) -> str:
    return page("import functools", "", "@functools.cache", "def f():", '    """One.', "", *lines, '    """')


def test_docstring_example_is_found_and_run():
    """Also where the function is decorated into something that is no function."""
    (found,) = examples_of(Path("m.py"), module("    >>> 1 + 1", "    2"))
    assert (found.name, check(found, {})) == ("f", 1)


@pytest.mark.parametrize(
    ("lines", "finding"),
    [
        (["    >>> 1 + 1", "    3"], "Expected:\n    3\nGot:\n    2"),
        (["    >>> f()"], "NameError"),
        (["    >>> 1 + 1", "    3"], 'File "m.py", line 7, in f'),
    ],
)
def test_broken_docstring_is_found(lines, finding):
    """An example that prints something else, or uses a name from nowhere, fails by file and line."""
    (found,) = examples_of(Path("m.py"), module(*lines))
    with pytest.raises(ExampleError, match=re.escape(finding)):
        check(found, {})
