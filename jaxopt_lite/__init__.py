"""Solve very many small problems at once, in one jitted call, on CPU, GPU and TPU.

And what stands on that, in rooms of their own: `bpe`, byte-pair encoding, and `specialists`, very many small adapters
of one model.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from jaxopt_lite.lazy import lazy

if "jax" in sys.modules:
    # It adds to the settings that JAX keys programs by. Were it loaded while the first jitted function of a user's is
    # traced, that would be compiled twice.
    import_module("jax.extend")

if TYPE_CHECKING:
    from jaxopt_lite import bounds, bpe, specialists
    from jaxopt_lite.lanes.devices import over_devices, use_cpu_cores
    from jaxopt_lite.lanes.status import Status
    from jaxopt_lite.solvers.bfgs import BFGS
    from jaxopt_lite.solvers.broyden import Broyden
    from jaxopt_lite.solvers.certify import (
        Curvature,
        DerivativeCheck,
        MinimumCertificate,
        RootCertificate,
        certify_minimum,
        certify_root,
        check_derivatives,
    )
    from jaxopt_lite.solvers.chunks import in_chunks
    from jaxopt_lite.solvers.explain import Explanation, explain
    from jaxopt_lite.solvers.lbfgs import LBFGS
    from jaxopt_lite.solvers.limited_broyden import LimitedBroyden
    from jaxopt_lite.solvers.multistart import multistart
    from jaxopt_lite.solvers.solution import History, Solution, SolveError
    from jaxopt_lite.solvers.solve import minimize, root

__all__ = [
    "BFGS",
    "LBFGS",
    "Broyden",
    "Curvature",
    "DerivativeCheck",
    "Explanation",
    "History",
    "LimitedBroyden",
    "MinimumCertificate",
    "RootCertificate",
    "Solution",
    "SolveError",
    "Status",
    "bounds",
    "bpe",
    "certify_minimum",
    "certify_root",
    "check_derivatives",
    "explain",
    "in_chunks",
    "minimize",
    "multistart",
    "over_devices",
    "root",
    "specialists",
    "use_cpu_cores",
]

_NAMES_IN = {
    "bounds": ["bounds"],
    "bpe": ["bpe"],
    "specialists": ["specialists"],
    "lanes.devices": ["over_devices", "use_cpu_cores"],
    "lanes.status": ["Status"],
    "solvers.bfgs": ["BFGS"],
    "solvers.broyden": ["Broyden"],
    "solvers.certify": [
        "Curvature",
        "DerivativeCheck",
        "MinimumCertificate",
        "RootCertificate",
        "certify_minimum",
        "certify_root",
        "check_derivatives",
    ],
    "solvers.chunks": ["in_chunks"],
    "solvers.explain": ["Explanation", "explain"],
    "solvers.lbfgs": ["LBFGS"],
    "solvers.limited_broyden": ["LimitedBroyden"],
    "solvers.multistart": ["multistart"],
    "solvers.solution": ["History", "Solution", "SolveError"],
    "solvers.solve": ["minimize", "root"],
}
__getattr__, __dir__ = lazy(__name__, _NAMES_IN)
