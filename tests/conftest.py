"""Settings shared by all tests: float64 is on, so that float32 results are a choice and not the default."""

import atexit
import gc
import os
import tempfile
from pathlib import Path

# Before JAX is imported: the processes of a run, also those that tests start, share what they compile. Between runs it
# is kept where JAX's own variable names a folder, which cuts a second run to a third; else it is gone after the run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _folder = tempfile.TemporaryDirectory(prefix="jaxopt_lite_tests_", ignore_cleanup_errors=True)
    atexit.register(_folder.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _folder.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")  # what takes less is not worth a file
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import pytest

_LONG = {"test_contract.py", "test_docs.py", "test_degenerate.py", "test_demonstration.py"}
_SHARING = {"specialists", "bounds", "demo"}  # folders whose modules keep small programs for each other
_MAPS, _MOST_MAPS = Path("/proc/self/maps"), 20_000  # pieces of memory that a process has mapped; Linux allows 65,530

jax.config.update("jax_enable_x64", True)


def pytest_xdist_make_scheduler(config, log):
    """A module runs in one process: its tests share what they compile."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False  # by the number of tests, which says little of their time
    return LoadScopeScheduling(config, log)


def pytest_collection_modifyitems(items):
    """The modules that compile most come first: one of them begun last would leave the other processes idle."""
    items.sort(key=lambda item: not ("solvers" in item.path.parts or item.path.name in _LONG))


def pytest_collection_finish(session):
    """What is imported by now lives as long as the process: the garbage collector need not look at it at every turn.

    Nor at every few hundred of the objects that tracing makes, which takes a twentieth of the time.
    """
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.fixture(autouse=True)
def _effort(request):
    """Compile the programs of tests marked so in half the time."""
    hardly_optimized = request.node.get_closest_marker("hardly_optimized") is not None
    jax.config.update("jax_disable_most_optimizations", hardly_optimized)


@pytest.fixture(autouse=True, scope="module")
def _programs(request):
    """Drop what a module has compiled: a process may map only so many pieces of memory, and each takes some.

    Modules of some folders share many small programs, and keep them for each other while there is room. One that
    compares bits has its own, compiled as users compile them.
    """
    is_hardly_optimized = request.node.get_closest_marker("hardly_optimized") is not None
    if not is_hardly_optimized:
        jax.clear_caches()
    yield
    has_room = _MAPS.exists() and _MAPS.read_bytes().count(b"\n") < _MOST_MAPS
    if not (is_hardly_optimized and has_room and _SHARING.intersection(request.path.parts)):
        jax.clear_caches()
