"""Public names whose modules are loaded when they are first asked for (PEP 562): who needs no JAX does not load it.

Imports the standard library alone; used by the `__init__` of packages. They also write the imports out below
`if TYPE_CHECKING:`, for type checkers, editors and readers.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

__all__ = ["lazy"]


def lazy(
    package: str, names_in: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        names_in: module of the package -> the names that it defines, or its own name.

    Returns:
        Both functions. What `__getattr__` finds becomes an ordinary attribute of the package.

    Example:
        >>> from jaxopt_lite.lazy import lazy
        >>> find, names = lazy("jaxopt_lite", {"lanes.status": ["Status"]})
        >>> find("Status").__module__, "Status" in names()
        ('jaxopt_lite.lanes.status', True)
    """

    homes = {name: module for module, names in names_in.items() for name in names}

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        module = import_module(f"{package}.{homes[name]}")
        value = module if homes[name] == name else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return find, names
