"""The house keeps its shape: a room imports only from floors below it, functions are short enough to read.

A rule is a function from one parsed file to its problems. Each is run over the package and, so that it is
known to find what it looks for, over small sources that break it.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "jaxopt_lite"

# A room may import rooms on lower floors and itself, nothing else. So `solvers` and `bpe` never meet, and
# only the demo and the command line may use the public names, which stand in the package's own __init__.
FLOORS = {
    "arguments": -1,
    "cores": -1,
    "files": -1,
    "jaxprs": -1,
    "progress": -1,
    "sizes": -1,
    "tables": -1,
    "lanes": 0,
    "bounds": 0,
    "plots": 0.5,  # they know how a lane can end, and what has a picture draws itself
    "solvers": 1,
    "bpe": 1,
    "specialists": 2,
    PACKAGE: 3,
    "demo": 4,
    "commands": 5,
    "__main__": 6,
}

# What the lowest rooms may import beside the standard library; the others whatever is declared.
GROUND = {"jax", "jaxtyping", "numpy"}
MAY_IMPORT = {
    "arguments": {"numpy"},
    "cores": set(),
    "files": set(),
    "jaxprs": GROUND,
    "progress": {"rich"},
    "sizes": set(),
    "tables": set(),
    "lanes": GROUND,
    "bounds": GROUND,
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = {re.split(r"[^\w-]", wanted)[0] for wanted in PROJECT["dependencies"]}
OPTIONAL = {
    "matplotlib",
    "pandas",
    "pyarrow",
    "zstandard",
}  # may be imported inside a function, and need not be installed

FUNCTION_LINES = 45  # without the docstring


class Source(NamedTuple):
    """One file of the package: its dotted name, where it stands, and what is in it."""

    module: str
    path: str
    text: str
    tree: ast.Module

    def at(self, node: ast.AST, problem: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {problem}"


class Import(NamedTuple):
    """One imported name, written in full: `from a.b import c` is `a.b.c`."""

    name: str
    node: ast.stmt


@cache
def package_sources() -> tuple[Source, ...]:
    """Every Python file of the package."""
    return tuple(source_of(path) for path in sorted((ROOT / PACKAGE).rglob("*.py")))


@cache
def source_of(path: Path) -> Source:
    relative = path.relative_to(ROOT)
    parts = relative.with_suffix("").parts
    text = path.read_text(encoding="utf-8")
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Source(module, relative.as_posix(), text, ast.parse(text, relative.as_posix()))


def imports_in(source: Source, tree: ast.AST | None = None) -> Iterator[Import]:
    """The imports anywhere below `tree`, by default the whole file."""
    for node in ast.walk(tree or source.tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = absolute(source, node)
            yield from (Import(f"{start}.{alias.name}", node) for alias in node.names)


def absolute(source: Source, node: ast.ImportFrom) -> str:
    """The module that a `from` import names, also where it is written with leading dots."""
    if not node.level:
        return node.module or ""
    package = source.module.split(".")
    above = node.level - (1 if source.path.endswith("__init__.py") else 0)
    start = package[: len(package) - above]
    return ".".join([*start, *([node.module] if node.module else [])])


def room(name: str) -> str | None:
    """The room of a dotted name; the package itself for a name of its __init__; None outside the package."""
    top, *rest = name.split(".")
    if top != PACKAGE:
        return None
    return rest[0] if len(rest) > 1 or (rest and rest[0] in FLOORS) else PACKAGE


def home(source: Source) -> str:
    """The room that a file belongs to."""
    return source.module.split(".")[1] if "." in source.module else PACKAGE


def go_up_only(source: Source) -> Iterator[str]:
    """Imports within the package point to lower floors or stay in the room."""
    mine = home(source)
    if mine not in FLOORS:
        yield f"{source.path}: `{mine}` stands on no floor; give it one in FLOORS"
        return
    for name, node in imports_in(source):
        other = room(name)
        if other in (None, mine):
            continue
        if other not in FLOORS:
            yield source.at(node, f"imports {name}, but `{other}` stands on no floor; give it one in FLOORS")
        elif FLOORS[other] >= FLOORS[mine]:
            yield source.at(
                node, f"`{mine}` (floor {FLOORS[mine]}) imports {name} from `{other}` (floor {FLOORS[other]})"
            )


def outside_only_what_is_declared(source: Source) -> Iterator[str]:
    """Floor 0 stands on JAX alone; the rest imports only what an installation of the package brings."""
    everywhere = MAY_IMPORT.get(home(source), DECLARED)
    late = {node for function in functions_in(source) for _, node in imports_in(source, function)}
    for name, node in imports_in(source):
        top = name.split(".")[0]
        allowed = everywhere | OPTIONAL if node in late and everywhere is DECLARED else everywhere
        if top != PACKAGE and top not in sys.stdlib_module_names and top not in allowed:
            yield source.at(node, f"imports {name}; only {sorted(allowed)} may be imported here")


def at_the_top(source: Source) -> Iterator[str]:
    """No import inside a function, but of an optional dependency, or of what loads JAX in a file that does not."""
    for function in functions_in(source):
        for name, node in imports_in(source, function):
            if name.split(".")[0] not in OPTIONAL and (imports_jax(source) or not is_module_with_jax(name)):
                yield source.at(node, f"imports {name} inside `{function.name}`; move it to the top of the file")


def imports_jax(source: Source) -> bool:
    return any(name.split(".")[0] == "jax" for name, _ in imports_in(source))


@cache
def modules_with_jax() -> set[str]:
    return {source.module for source in package_sources() if imports_jax(source)}


def is_module_with_jax(name: str) -> bool:
    """Whether a dotted name is a module of the package that imports JAX, or something in such a module."""
    return not modules_with_jax().isdisjoint({name, name.rpartition(".")[0]})


def no_private_jax(source: Source) -> Iterator[str]:
    """Neither an import nor an attribute reaches into a private module of JAX."""
    for name, node in imports_in(source):
        if is_private_jax(name):
            yield source.at(node, f"imports {name}, a private module of JAX")
    for node in ast.walk(source.tree):
        # Of jax._src.core only the part jax._src is told, so that one use is one problem.
        if isinstance(node, ast.Attribute) and private(node.attr) and is_private_jax(ast.unparse(node)):
            yield source.at(node, f"uses {ast.unparse(node)}, a private module of JAX")


def is_private_jax(name: str) -> bool:
    top, *rest = name.split(".")
    return top in ("jax", "jaxlib") and any(private(part) for part in rest)


def private(part: str) -> bool:
    return part.startswith("_") and not part.startswith("__")


# What versions of JAX write in different ways; one file knows it.
OF_VERSIONS = {"ClosedJaxpr", "Jaxpr", "JaxprEqn", "Literal", "Var", "jaxpr_as_fun", "source_info_util"}
PARAMETERS = {
    "body_jaxpr", "body_nconsts", "branches", "call_jaxpr", "cond_jaxpr", "cond_nconsts", "ft_in", "fun_jaxpr", "jaxpr",
    "num_carry", "num_consts",
}  # fmt: skip


def one_file_knows_jaxprs(source: Source) -> Iterator[str]:
    """How JAX writes down jaxprs, and the parameters of their calls and loops, only `jaxprs` knows."""
    if home(source) == "jaxprs":
        return
    for name, node in imports_in(source):
        if name.startswith("jax.extend.") and not OF_VERSIONS.isdisjoint(name.split(".")):
            yield source.at(node, f"imports {name}; use what `jaxprs` has")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in PARAMETERS:
            yield source.at(node, f"reads {ast.unparse(node)}; use what `jaxprs` has")


def short_functions(source: Source) -> Iterator[str]:
    """A function fits one screen; its docstring does not count."""
    for function in functions_in(source):
        lines = length(function)
        if ast.get_docstring(function) is not None:
            lines -= length(function.body[0])
        if lines > FUNCTION_LINES:
            yield source.at(function, f"`{function.name}` has {lines} lines; at most {FUNCTION_LINES}")


def length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def functions_in(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(source.tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


RULES = [
    go_up_only,
    outside_only_what_is_declared,
    at_the_top,
    no_private_jax,
    one_file_knows_jaxprs,
    short_functions,
]


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps(rule: Callable[[Source], Iterator[str]]):
    """Every file of the package obeys the rule."""
    problems = [problem for source in package_sources() for problem in rule(source)]
    assert not problems, f"{rule.__doc__}\n" + "\n".join(problems)


def closure(module: str) -> set[str]:
    """The files that are loaded with one, itself included, but for the `__init__` of the rooms above them."""
    sources = {source.module: source for source in package_sources()}
    seen, left = set(), [module]
    while left:
        seen.add(here := left.pop())
        late = {node for f in functions_in(sources[here]) for _, node in imports_in(sources[here], f)}
        names = {name for name, node in imports_in(sources[here]) if node not in late}
        left += ({name if name in sources else name.rpartition(".")[0] for name in names} & sources.keys()) - seen
    return seen


CLOSURES = {  # of what one has in hand: at most so many of these files, the package's or the room's, and none of those
    "bpe.tokenizer": (30, "", {"bpe.counting", "bpe.corpus", "bpe.pairs", "bpe.merges", "bpe.training"}),
    "bpe.training": (37, "", {"bpe.command", "bpe.report", "bpe.accelerator.pairs"}),
    "specialists.fit": (11, "specialists.", {"bpe"}),
} | {
    f"specialists.{name}": (None, "", {"bpe"})
    for name in ("library", "files.writing", "routing", "evaluate", "merging.methods", "routers.lda")
}  # fmt: skip


@pytest.mark.parametrize("module", CLOSURES)
def test_a_file_loads_only_what_it_needs(module: str):
    """So that who reads one file has few others to read; using what was learned loads nothing of learning it."""
    most, counted, apart = CLOSURES[module]
    loaded = {name.removeprefix(f"{PACKAGE}.") for name in closure(f"{PACKAGE}.{module}")}
    assert most is None or len([name for name in loaded if name.startswith(counted)]) <= most, sorted(loaded)
    assert not [name for name in loaded for other in apart if f"{name}.".startswith(f"{other}.")]


@pytest.mark.parametrize("inside", sorted({path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")}))
def test_no_file_needs_itself(inside: str):
    """There is no cycle of imports in a room, not even of those inside functions."""
    sources = {source.module: source for source in package_sources() if home(source) == inside}
    needs = {}
    for module, source in sources.items():
        names = {name for name, _ in imports_in(source)}
        needs[module] = {name if name in sources else name.rpartition(".")[0] for name in names} & sources.keys()
    needs.pop(f"{PACKAGE}.{inside}")  # its own names are loaded when they are asked for
    while free := {module for module, wanted in needs.items() if not wanted & needs.keys()}:
        needs = {module: wanted for module, wanted in needs.items() if module not in free}
    assert not needs


def reading_order(text: str) -> list[str]:
    """The files that the docstring of an `__init__` lists: `- `name`: what it is`."""
    lists = re.findall(r"^- ((?:`[a-z_0-9/]+`(?:, | and )?)+)", ast.get_docstring(ast.parse(text)) or "", re.MULTILINE)
    return [name.rstrip("/") for names in lists for name in re.findall(r"`(.+?)`", names)]


FOLDERS = sorted(path.parent for path in (ROOT / PACKAGE).glob("*/**/__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT / PACKAGE).as_posix())
def test_a_folder_lists_its_files_in_reading_order(folder: Path):
    """None is missing, and none imports one that comes later: there are floors inside the rooms too."""
    order = reading_order((folder / "__init__.py").read_text())
    there = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert sorted(order) == sorted(there - {"__init__"})
    sources = {path: source_of(path) for path in folder.rglob("*.py") if path != folder / "__init__.py"}
    for path, source in sources.items():
        mine = path.relative_to(folder).parts[0].removesuffix(".py")
        late = {node for function in functions_in(source) for _, node in imports_in(source, function)}
        for name, node in imports_in(source):
            inside = name.removeprefix(".".join(folder.relative_to(ROOT).parts) + ".").split(".")[0]
            if node not in late and name.startswith(PACKAGE) and inside in there and inside != mine:
                assert order.index(inside) < order.index(mine), source.at(node, f"`{mine}` imports `{inside}`")


def test_the_walk_finds_the_package():
    """The rules see the files that exist: a room that is missed would obey every rule."""
    seen = {source.module for source in package_sources()}
    assert {PACKAGE, f"{PACKAGE}.lanes.engine", f"{PACKAGE}.solvers.bfgs", f"{PACKAGE}.demo"} <= seen


def example(module: str, text: str) -> Source:
    path = module.replace(".", "/")
    is_package = module == PACKAGE or (module.count(".") == 1 and module != f"{PACKAGE}.__main__")
    return Source(module, f"{path}/__init__.py" if is_package else f"{path}.py", text, ast.parse(text))


def long_function(lines: int, docstring: str = "") -> str:
    return "def f():\n" + docstring + "    x = 0\n" * (lines - 1)


BROKEN = {
    "lanes use a solver": (go_up_only, "lanes.a", "from jaxopt_lite.solvers import bfgs", "`solvers`"),
    "lanes use bounds": (go_up_only, "lanes.a", "from jaxopt_lite import bounds", "`bounds`"),
    "bounds use lanes": (go_up_only, "bounds.a", "import jaxopt_lite.lanes.status", "`lanes`"),
    "solvers use bpe": (go_up_only, "solvers.a", "from jaxopt_lite.bpe.training import train", "`bpe`"),
    "bpe uses solvers": (go_up_only, "bpe.a", "import jaxopt_lite.solvers.bfgs as b", "`solvers`"),
    "solvers use specialists": (
        go_up_only,
        "solvers.a",
        "from jaxopt_lite import specialists",
        "specialists",
    ),
    "a solver uses the demo": (go_up_only, "solvers.a", "from jaxopt_lite.demo import regression", "`demo`"),
    "a solver uses a public name": (go_up_only, "solvers.a", "from jaxopt_lite import root", "(floor 3)"),
    "a solver uses the package": (go_up_only, "solvers.a", "import jaxopt_lite as jol", "(floor 3)"),
    "a room's __init__ uses the package": (
        go_up_only,
        "solvers",
        "from jaxopt_lite import root",
        "(floor 3)",
    ),
    "dots out of the room": (go_up_only, "lanes.a", "from ..solvers import bfgs", "`solvers`"),
    "dots out of a room's __init__": (go_up_only, "lanes", "from ..solvers import bfgs", "`solvers`"),
    "dots to the package": (go_up_only, "lanes.a", "from .. import root", "(floor 3)"),
    "the package uses the demo": (go_up_only, "", "from jaxopt_lite.demo import power_flow", "`demo`"),
    "the demo uses the command line": (go_up_only, "demo.a", "import jaxopt_lite.__main__", "`__main__`"),
    "typing is no excuse": (
        go_up_only,
        "lanes.a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from jaxopt_lite.solvers import bfgs",
        "lanes/a.py:3",
    ),
    "inside a function is no excuse": (
        go_up_only,
        "lanes.a",
        "def f():\n    from jaxopt_lite.solvers import bfgs",
        "lanes/a.py:2",
    ),
    "a room on no floor": (go_up_only, "utils.a", "import jax", "`utils` stands on no floor"),
    "use of a room on no floor": (
        go_up_only,
        "solvers.a",
        "import jaxopt_lite.utils.a",
        "stands on no floor",
    ),
    "lanes use scipy": (outside_only_what_is_declared, "lanes.a", "import scipy.linalg", "scipy.linalg"),
    "the lowest floor uses NumPy": (outside_only_what_is_declared, "files", "import numpy", "numpy"),
    "bounds use rich": (outside_only_what_is_declared, "bounds.a", "from rich import print", "rich"),
    "lanes use matplotlib": (
        outside_only_what_is_declared,
        "lanes.a",
        "def f():\n    import matplotlib",
        "matplotlib",
    ),
    "the demo needs matplotlib": (outside_only_what_is_declared, "demo.a", "import matplotlib", "matplotlib"),
    "a solver uses sklearn": (outside_only_what_is_declared, "solvers.a", "from sklearn import svm", "sklearn"),
    "import in a function": (at_the_top, "solvers.a", "def f():\n    import math", "math inside `f`"),
    "import in a method": (
        at_the_top,
        "solvers.a",
        "class A:\n    def f(self):\n        if self:\n            from jax import lax",
        "solvers/a.py:4: imports jax.lax inside `f`",
    ),
    "import in a function of a file with JAX": (
        at_the_top,
        "bpe.a",
        "import jax\ndef f():\n    from jaxopt_lite.bpe.accelerator.pairs import OnDevice",
        "pairs.OnDevice inside `f`",
    ),
    "import in a function of a file without JAX": (
        at_the_top,
        "bpe.a",
        "def f():\n    from jaxopt_lite.bpe.corpus import count_words",
        "count_words inside `f`",
    ),
    "JAX itself in a function": (at_the_top, "bpe.a", "def f():\n    import jax.numpy", "jax.numpy inside `f`"),
    "import in an async function": (at_the_top, "demo.a", "async def f():\n    import math", "inside `f`"),
    "import of jax._src": (no_private_jax, "lanes.a", "import jax._src.core", "jax._src.core"),
    "from jax import _src": (no_private_jax, "lanes.a", "from jax import _src", "jax._src"),
    "from jax._src": (no_private_jax, "solvers.a", "from jax._src.lax import lax", "jax._src.lax.lax"),
    "a private module of jaxlib": (no_private_jax, "lanes.a", "from jaxlib import _jax", "jaxlib._jax"),
    "an attribute jax._src": (no_private_jax, "lanes.a", "import jax\nx = jax._src.core.Jaxpr", "a.py:2"),
    "a type of jaxprs": (one_file_knows_jaxprs, "lanes.a", "from jax.extend.core import Literal", "core.Literal"),
    "positions in the source": (
        one_file_knows_jaxprs,
        "bounds.a",
        "from jax.extend.source_info_util import summarize",
        "summarize",
    ),
    "a parameter of a loop": (one_file_knows_jaxprs, "lanes.a", "def f(e):\n    return e.params['jaxpr']", "a.py:2"),
    "a long function": (short_functions, "lanes.a", long_function(FUNCTION_LINES + 1), "`f` has 46 lines"),
    "a long method": (
        short_functions,
        "lanes.a",
        "class A:\n    def f(self):\n" + "        x = 0\n" * FUNCTION_LINES,
        "a.py:2: `f`",
    ),
}

SOUND = {
    "a solver uses lanes": (go_up_only, "solvers.a", "from jaxopt_lite.lanes.status import Status"),
    "a solver uses its room": (
        go_up_only,
        "solvers.a",
        "from jaxopt_lite.solvers import bfgs\nfrom . import b",
    ),
    "specialists use solvers and bpe": (go_up_only, "specialists.a", "from jaxopt_lite import bpe, solvers"),
    "the public names are gathered": (go_up_only, "", "from jaxopt_lite.solvers.solve import root"),
    "the demo uses the public names": (go_up_only, "demo.a", "import jaxopt_lite as jol"),
    "the command line uses all": (go_up_only, "__main__", "import jaxopt_lite\nfrom jaxopt_lite import demo"),
    "another package": (go_up_only, "lanes.a", "import jaxopt_lite_extras.solvers"),
    "lanes use JAX": (
        outside_only_what_is_declared,
        "lanes.a",
        "import os, jax, numpy\nfrom jaxtyping import Array",
    ),
    "the command line uses rich": (outside_only_what_is_declared, "__main__", "from rich.table import Table"),
    "matplotlib where it is used": (
        outside_only_what_is_declared,
        "demo.a",
        "def f():\n    import matplotlib.pyplot as plt",
    ),
    "an optional dependency": (at_the_top, "demo.a", "def f():\n    import matplotlib.pyplot as plt"),
    "JAX where it is needed": (
        at_the_top,
        "bpe.a",
        "def f():\n    from jaxopt_lite.bpe.accelerator.pairs import OnDevice",
    ),
    "imports at the top": (at_the_top, "demo.a", "import math\ndef f():\n    return math.pi"),
    "public JAX": (no_private_jax, "lanes.a", "import jax\nfrom jax.extend import core\nx = jax.__version__"),
    "a private name of one's own": (no_private_jax, "lanes.a", "x = self._src.core"),
    "jaxprs themselves": (one_file_knows_jaxprs, "jaxprs", "from jax.extend.core import Literal\nx = p['jaxpr']"),
    "a parameter like any other": (one_file_knows_jaxprs, "lanes.a", "def f(e):\n    return e.params['axis']"),
    "a primitive of one's own": (one_file_knows_jaxprs, "lanes.a", "from jax.extend.core import Primitive"),
    "a function just short enough": (short_functions, "lanes.a", long_function(FUNCTION_LINES)),
    "a docstring does not count": (
        short_functions,
        "lanes.a",
        long_function(FUNCTION_LINES, '    """One.\n\n    Two.\n    """\n'),
    ),
}


@pytest.mark.parametrize(("rule", "module", "text", "finding"), BROKEN.values(), ids=BROKEN)
def test_rule_finds(rule, module, text, finding):
    """Each source breaks its rule once, and the finding names the culprit."""
    (problem,) = rule(example(f"{PACKAGE}.{module}".rstrip("."), text))
    assert finding in problem


@pytest.mark.parametrize(("rule", "module", "text"), SOUND.values(), ids=SOUND)
def test_rule_accepts(rule, module, text):
    """Each source comes close to breaking its rule and does not."""
    assert list(rule(example(f"{PACKAGE}.{module}".rstrip("."), text))) == []
