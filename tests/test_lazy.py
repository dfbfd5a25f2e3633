"""Public names are loaded when they are asked for; JAX is, where it is needed and nowhere else."""

import importlib
import inspect
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import jaxopt_lite
from jaxopt_lite import bpe, plots, specialists

ROOT = Path(__file__).parents[1]
PACKAGES = [jaxopt_lite, bpe, plots, specialists]

names_of = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)


def run(code: str, folder: Path) -> str:
    """What a fresh process prints that runs this code and then says whether it has loaded JAX."""
    code += "\nimport sys; print('jax' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    shared = "ignore:Error reading persistent compilation cache entry"  # an entry that another process is writing
    command = [sys.executable, "-W", "error", "-W", shared, "-c", code]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text").write_text("to be or not to be " * 300_000)  # enough for workers
    return tmp_path


TRAIN = (
    "from jaxopt_lite import bpe; from pathlib import Path; "
    "t = bpe.train(Path('text'), 262, pattern='llama3', progress=False)"
)
COMMAND = "from jaxopt_lite.__main__ import main; assert main({}.split()) == 0"


WITHOUT_JAX = {
    "import": "import jaxopt_lite; print(jaxopt_lite.__version__)",
    "version": f"try: {COMMAND.format(repr('--version'))}\nexcept SystemExit: pass",
    "help": f"try: {COMMAND.format(repr('bench --help'))}\nexcept SystemExit: pass",
    "train, save and load": (
        f"{TRAIN}; t.save('t.json'); assert bpe.load('t.json').decode(t.encode_batch(['to be'])[0]) == 'to be'"
    ),
    "many distinct words": f"{TRAIN}; t.encode(' '.join(map(str, range(100_000))))",
    "command line": "\n".join(
        COMMAND.format(repr(words))
        for words in ("bpe train --vocab-size 262 -o t.json text", "bpe encode t.json text", "bpe inspect t.json")
    ),
}


def test_the_host_needs_no_jax(folder):
    """One process does all of it, from what needs least to what needs most, and says what has loaded JAX first."""
    told = "import sys; loaded = []"
    for name, code in WITHOUT_JAX.items():
        told += f"\n{code}\nif 'jax' in sys.modules: loaded.append({name!r})"
    *_, loaded, has_jax = run(f"{told}\nprint(loaded)", folder).splitlines()
    assert (loaded, has_jax) == ("[]", "False")


def test_the_first_jitted_function_that_solves_is_compiled_once(tmp_path):
    code = """
import jax, jax.numpy as jnp
import jaxopt_lite as jol
traced = []
@jax.jit
def solve(x):
    traced.append(x)
    return jol.root(lambda x, a: x**2 - 2, x, solver=jol.Broyden(rescue=False)).x
for _ in range(3):
    solve(jnp.ones((4, 1)))
print(len(traced))"""
    assert run(code, tmp_path).startswith("1\n")


@pytest.mark.parametrize("code", ["from jaxopt_lite import root", "from jaxopt_lite.bpe import *; count_pairs"])
def test_what_needs_jax_loads_it(tmp_path, code):
    assert run(code, tmp_path) == "True\n"


def test_a_library_of_specialists_loads_nothing_of_byte_pairs(tmp_path):
    code = "import sys, jaxopt_lite.specialists.library; print([name for name in sys.modules if '.bpe' in name])"
    assert run(code, tmp_path) == "[]\nTrue\n"


def test_the_version_is_that_of_the_installed_package():
    assert jaxopt_lite.__version__ == version("jaxopt-lite")
    assert "__version__" not in jaxopt_lite.__all__  # `import *` would replace that of whoever imports


@names_of
def test_all_names_are_there_and_listed(package):
    for name in package.__all__:
        assert getattr(package, name) is getattr(importlib.import_module(package.__name__), name)
    assert set(package.__all__) == set(dir(package))
    star: dict = {}
    exec(f"from {package.__name__} import *", star)
    assert set(package.__all__) == set(star) - {"__builtins__"}


@names_of
def test_importing_a_module_replaces_no_public_name(package):
    """Where a function has the name of its module, the name means the function, whatever is imported in which order."""
    for path in Path(package.__file__).parent.glob("[a-z]*.py"):
        importlib.import_module(f"{package.__name__}.{path.stem}")
    modules = {name for name in package.__all__ if inspect.ismodule(getattr(package, name))}
    assert modules == ({"bounds", "bpe", "plots", "specialists"} if package is jaxopt_lite else set())


@names_of
def test_other_names_are_not_there(package):
    with pytest.raises(AttributeError, match=f"{package.__name__} attribute rooot"):
        package.rooot  # noqa: B018
    with pytest.raises(ImportError, match="rooot"):
        exec(f"from {package.__name__} import rooot")
