"""Settings shared by all tests: float64 is on, so that float32 results are a choice and not the default."""

import jax
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.fixture(autouse=True, scope="module")
def _programs(request):
    """Compile the programs of a module marked so in half the time, and drop what a module has compiled.

    A process may map only so many pieces of memory, and each program takes some.
    """
    hardly_optimised = request.node.get_closest_marker("hardly_optimised") is not None
    jax.config.update("jax_disable_most_optimizations", hardly_optimised)
    yield
    jax.clear_caches()
