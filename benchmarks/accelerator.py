"""The solvers on the device that JAX finds first: `python -m benchmarks.accelerator [--quick] [--only PATTERN]`.

Float32 batches of a size that fills a GPU, beside vmapped peers in the same process. Every answer is judged in
float64. `--quick` takes small batches, to see on a CPU that it works.
"""

import argparse
import re

import jax
import optimistix as optx

import jaxopt_lite as jol
from benchmarks import harness, kernels, peers, timing
from benchmarks.races import rosenbrock, uniform
from benchmarks.timing import Entry, Race, gradient_error, residual_error
from tests.problems import broyden_tridiagonal

_GRADIENT, _RESIDUAL = 1e-3, 1e-5  # the library's defaults in float32
_CHECKED, _EMULATED = 200, 2  # problems that the kernel is compared on; unknowns up to which it is, when emulated
_SLACK = 1.05  # a float32 gradient at the tolerance may be a little more in float64


def minima(n: int, batch: int) -> Race:
    """Rosenbrock from starts uniform in [-2, 2]ⁿ."""
    entries = (
        Entry("BFGS", jax.jit(peers.our_minimum(rosenbrock, _GRADIENT)), is_ours=True),
        *_in_a_loop("BFGS in a loop", peers.our_minimum(rosenbrock, _GRADIENT, path="loop")),
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
        *_in_a_loop("Broyden in a loop", peers.our_root(system, _RESIDUAL, path="loop")),
        Entry("optimistix Newton", newton),
    )
    return Race(uniform(-1, 0.5, batch, n, "float32"), residual_error(system), _RESIDUAL * _SLACK, entries)


def _in_a_loop(name: str, solve) -> tuple[Entry, ...]:
    """The same without a kernel, where there may be one."""
    return (Entry(name, jax.jit(solve), is_ours=True),) if jax.default_backend() == "gpu" else ()


# race: (entry, function, solver, where starts lie, the judge, its threshold)
_KERNELS = {
    minima: (jol.minimize, rosenbrock, jol.BFGS(atol=_GRADIENT), (0, 2), gradient_error, _GRADIENT * _SLACK),
    roots: (
        jol.root,
        broyden_tridiagonal,
        jol.Broyden(atol=_RESIDUAL, rtol=0.0),
        (-1, 0.5),
        residual_error,
        _RESIDUAL * _SLACK,
    ),
}


def check(race, n: int, problems: int) -> dict | None:
    """Print whether the kernel of a race is right; the row of it. `None` where the race is no kernel."""
    entry, fun, solver, (centre, spread), judge, threshold = _KERNELS[race]
    starts = uniform(centre, spread, problems, n, "float32")
    if jol.explain(lambda x, _: fun(x), starts, solver=solver, platform="gpu").path != "kernel":
        return None
    row = kernels.agreement(entry, fun, starts, solver, judge(fun), threshold)
    print(f"{row['path']}: solves {row['kernel']:.1%}, the loop {row['loop']:.1%}; the same status {row['same']:.1%}")
    return row


def near_the_limit(race, n: int, problems: int, rows: list[dict]) -> float | None:
    """Print what share of the quickest possible time the kernel takes; that time in seconds."""
    entry, fun, solver, (centre, spread), _, _ = _KERNELS[race]
    limit = kernels.issue_limit(entry, fun, uniform(centre, spread, problems, n, "float32"), solver)
    if limit:
        print(f"issue limit {1e3 * limit:.3g} ms: the kernel is at {limit / rows[0]['run_s']:.0%} of it")
    return limit


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
        agreement = check(race, n, _CHECKED) if n <= _EMULATED or jax.default_backend() == "gpu" else None
        count = few if options.quick else problems
        new = timing.run(race(n, count))
        harness.print_rows(f"{name} on {device}", new)
        limit = near_the_limit(race, n, count, new) if jax.default_backend() == "gpu" else None
        rows += [{"race": name, "unknowns": n, "agreement": agreement, "issue_limit_s": limit} | row for row in new]
    if not options.quick:
        print("wrote", harness.save("accelerator", rows, load, options.only, device))


if __name__ == "__main__":
    main()
