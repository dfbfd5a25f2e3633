"""Settings shared by all tests: float64 is on, so that float32 results are a choice and not the default."""

import jax
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.fixture(autouse=True, scope="module")
def _programs_are_forgotten():
    """Drop what a module has compiled: a process may map only so many pieces of memory, and each program takes some."""
    yield
    jax.clear_caches()
