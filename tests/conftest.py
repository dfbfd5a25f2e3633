"""Settings shared by all tests: float64 is on, so that float32 results are a choice and not the default."""

import jax
import pytest

jax.config.update("jax_enable_x64", True)


def pytest_xdist_make_scheduler(config, log):
    """A module runs in one process: its tests share what they compile."""
    from xdist.scheduler import LoadScopeScheduling

    return LoadScopeScheduling(config, log)


@pytest.fixture(autouse=True)
def _effort(request):
    """Compile the programs of tests marked so in half the time."""
    hardly_optimised = request.node.get_closest_marker("hardly_optimised") is not None
    jax.config.update("jax_disable_most_optimizations", hardly_optimised)


@pytest.fixture(autouse=True, scope="module")
def _programs():
    """Drop what a module has compiled: a process may map only so many pieces of memory, and each takes some."""
    yield
    jax.clear_caches()
