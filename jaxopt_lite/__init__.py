"""Solve very many small problems at once, in one jitted call, on CPU, GPU and TPU.

And what stands on that, in rooms of their own: `bpe`, byte-pair encoding, and `specialists`, very many small adapters
of one model. The public names are in `__init__.pyi`, and are loaded when they are first asked for.
"""

import sys
from importlib import import_module

import lazy_loader

if "jax" in sys.modules:
    # It adds to the settings that JAX keys programs by. Were it loaded while the first jitted function of a user's is
    # traced, that would be compiled twice.
    import_module("jax.extend")

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":  # as installed; to look it up takes longer than all else here
        return import_module("importlib.metadata").version("jaxopt-lite")
    return _load(name)
