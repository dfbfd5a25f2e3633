"""Solve very many small problems at once, in one jitted call, on CPU, GPU and TPU.

The package also holds `bpe`, byte-pair encoding, and `specialists`, very many small adapters of one model. The public
names are listed in `__init__.pyi` and loaded on first use.
"""

import sys
from importlib import import_module

import lazy_loader

if "jax" in sys.modules:
    # It adds to the settings by which JAX keys programs. If it were loaded while the user's first jitted function is
    # traced, that function would be compiled twice.
    import_module("jax.extend")

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":  # as installed; looking it up takes longer than all else here
        return import_module("importlib.metadata").version("jaxopt-lite")
    return _load(name)
