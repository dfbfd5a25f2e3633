"""What is released: its wheel and sdist hold what they must, and work in environments that hold nothing else."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
NOT_PACKED = ("__pycache__", ".pyc", ".git", ".jax_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".DS_Store")


def test_the_version_has_a_dated_section_in_the_changelog():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert re.fullmatch(rf"{re.escape(PROJECT['version'])} – 20\d\d-\d\d-\d\d", released[0])


def test_the_pythons_that_are_named_begin_with_the_oldest_allowed():
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


def call(*words: object, folder: Path) -> str:
    """What a program prints, which must end well; it sees nothing of this environment."""
    hidden = ("PYTHON", "JAX", "XLA", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX")
    settings = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    ended = subprocess.run(
        list(map(str, words)), cwd=folder, env=settings, capture_output=True, text=True, encoding="utf-8", timeout=1500
    )
    assert ended.returncode == 0, f"{words}\n{ended.stdout[-3000:]}\n{ended.stderr[-6000:]}"
    return ended.stdout


def environment(folder: Path, python: str | Path, *packages: object) -> Path:
    """The Python of a new virtual environment with these packages and what they need."""
    call(python, "-m", "venv", folder / "venv", folder=folder)
    inside = folder / "venv" / "bin" / "python"
    call(inside, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages, folder=folder)
    return inside


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    ignored = shutil.ignore_patterns(".git", ".venv*", "venv", "_build", "dist", "build", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=ignored)
    python = environment(folder, sys.executable, "build")
    call(python, "-m", "build", "--outdir", folder / "dist", source, folder=folder)
    (wheel,), (sdist,) = (list((folder / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    return {"wheel": wheel, "sdist": sdist}


def files_of(folder: Path) -> set[str]:
    """The files below a folder of the repository that belong to it, by their paths in the repository."""
    paths = (path.relative_to(ROOT).as_posix() for path in folder.rglob("*") if path.is_file())
    return {path for path in paths if not any(part in path for part in NOT_PACKED)}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = set(wheel.namelist())
        about = f"jaxopt_lite-{PROJECT['version']}.dist-info"
        metadata = message_from_string(wheel.read(f"{about}/METADATA").decode())
        scripts = wheel.read(f"{about}/entry_points.txt").decode()
    inside = {name for name in names if not name.startswith(about)}
    assert inside == files_of(ROOT / "jaxopt_lite")
    for needed in ("py.typed", "__init__.pyi", "demo/data/ieee14.json", "demo/data/nist/Thurber.dat"):
        assert f"jaxopt_lite/{needed}" in inside
    assert f"{about}/licenses/LICENSE" in names
    assert "jaxopt-lite = jaxopt_lite.__main__:main" in scripts
    assert metadata["License-Expression"] == "Apache-2.0" and metadata["Requires-Python"] == PROJECT["requires-python"]
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL") or ())
    assert urls.keys() == {"Homepage", "Documentation", "Changelog", "Issues"}


@pytest.mark.slow
def test_the_sdist_holds_what_its_tests_need(built, tmp_path):
    """All are collected from it, and those that read files beside the package run in it."""
    with tarfile.open(built["sdist"]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    for folder in ("jaxopt_lite", "tests", "docs", "findings", "benchmarks"):
        assert files_of(ROOT / folder) <= names
    assert not any(part in name for name in names for part in NOT_PACKED if part != ".git")
    pytest_there = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    call(*pytest_there, "--collect-only", "-m", "", folder=unpacked)
    reading = (
        "tests/test_layers.py",
        "tests/commands/test_known.py",
        "tests/test_packaging.py",
        "tests/demo/test_nist.py",
    )
    call(*pytest_there, *reading, folder=unpacked)


def pythons(version: str) -> Iterator[Path]:
    """Where a version of Python may be: on the path, and of pyenv."""
    if found := shutil.which(f"python{version}"):
        yield Path(found)
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(root.glob(f"versions/{version}.*/bin/python"))


def python_of(version: str) -> Path:
    """A Python of this version that runs; else the test is skipped."""
    for path in pythons(version):
        said = subprocess.run([path, "-c", "import sys; print(*sys.version_info[:2], sep='.')"], capture_output=True)
        if said.returncode == 0 and said.stdout.decode().strip() == version:
            return path
    pytest.skip(f"there is no Python {version} here")


def oldest() -> list[str]:
    """Of everything that the package needs, the oldest version that it allows."""
    bounds = [(each.name, spec) for each in map(Requirement, PROJECT["dependencies"]) for spec in each.specifier]
    assert all(spec.operator == ">=" for _, spec in bounds) and len(bounds) == len(PROJECT["dependencies"])
    return [f"{name}=={spec.version}{'.*' if name == 'regex' else ''}" for name, spec in bounds]


@pytest.mark.slow
@pytest.mark.parametrize("age", ["oldest", "newest"])
@pytest.mark.parametrize("version", PYTHONS)
def test_it_works_where_nothing_else_is_installed(built, tmp_path, version, age):
    """The wheel, and then the sdist in its place, with the oldest or the newest of what the package needs.

    Not every oldest version runs on a later Python: there it is the oldest JAX with the newest of all else.
    """
    bounds = oldest() if version == PYTHONS[0] else [each for each in oldest() if each.startswith("jax=")]
    python = environment(tmp_path, python_of(version), built["wheel"], *(bounds if age == "oldest" else ()))
    smoke = shutil.copy(ROOT / "tests" / "smoke.py", tmp_path)
    wanted = f"jaxopt_lite {PROJECT['version']}, JAX " + (r"0\.10\.0," if age == "oldest" else r"0\.1\d")
    by_wheel = call(python, "-I", smoke, folder=tmp_path)
    assert re.match(wanted, by_wheel)
    call(python, "-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", built["sdist"], folder=tmp_path)
    assert call(python, "-I", smoke, folder=tmp_path) == by_wheel
    print(f"\nPython {version}, {age}: {by_wheel}")
