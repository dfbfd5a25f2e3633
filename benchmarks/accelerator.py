"""The solvers on the device that JAX finds first: `python -m benchmarks.accelerator [--quick] [--only PATTERN]`.

Float32 batches of a size that fills a GPU, beside vmapped peers in the same process. Every answer is judged in
float64. `--quick` takes small batches, to see on a CPU that it works.
"""

import argparse
import re

import jax
import optimistix as optx

from benchmarks import harness, peers, timing
from benchmarks.races import rosenbrock, uniform
from benchmarks.timing import Entry, Race, gradient_error, residual_error
from tests.problems import broyden_tridiagonal

_GRADIENT, _RESIDUAL = 1e-3, 1e-5  # the library's defaults in float32
_SLACK = 1.05  # a float32 gradient at the tolerance may be a little more in float64


def minima(n: int, batch: int) -> Race:
    """Rosenbrock from starts uniform in [-2, 2]ⁿ."""
    entries = (
        Entry("BFGS", jax.jit(peers.our_minimum(rosenbrock, _GRADIENT)), is_ours=True),
        Entry("TensorFlow Probability BFGS", peers.tfp_minimum(rosenbrock, _GRADIENT)),
        Entry("optimistix BFGS", peers.vmapped(peers.optimistix_minimum(rosenbrock, tolerance=1e-5))),
    )
    return Race(uniform(0, 2, batch, n, "float32"), gradient_error(rosenbrock), _GRADIENT * _SLACK, entries)


def roots(n: int, batch: int) -> Race:
    """Broyden's tridiagonal system from starts around -1."""
    system = broyden_tridiagonal
    newton = peers.vmapped(peers.optimistix_root(system, optx.Newton, 1e-4))
    entries = (
        Entry("Broyden", jax.jit(peers.our_root(system, _RESIDUAL)), is_ours=True),
        Entry("optimistix Newton", newton),
    )
    return Race(uniform(-1, 0.5, batch, n, "float32"), residual_error(system), _RESIDUAL * _SLACK, entries)


# name: (race, unknowns, problems, problems with --quick)
RACES = {
    "bfgs-n2": (minima, 2, 1_000_000, 1_000),
    "bfgs-n10": (minima, 10, 1_000_000, 200),
    "bfgs-n32": (minima, 32, 100_000, 50),
    "bfgs-n64": (minima, 64, 30_000, 20),
    "broyden-n2": (roots, 2, 1_000_000, 1_000),
    "broyden-n10": (roots, 10, 1_000_000, 500),
    "broyden-n32": (roots, 32, 100_000, 100),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small batches, to see that it works")
    parser.add_argument("--only", metavar="PATTERN", default="", help="races whose name matches: " + ", ".join(RACES))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # for the judge: the problems are float32

    load, rows, device = harness.check_load(), [], jax.devices()[0].device_kind
    for name in [name for name in RACES if re.search(options.only, name)]:
        jax.clear_caches()
        race, n, problems, few = RACES[name]
        new = timing.run(race(n, few if options.quick else problems))
        harness.print_rows(f"{name} on {device}", new)
        rows += [{"race": name, "unknowns": n} | row for row in new]
    if not options.quick:
        print("wrote", harness.save("accelerator", rows, load, options.only, device))


if __name__ == "__main__":
    main()
