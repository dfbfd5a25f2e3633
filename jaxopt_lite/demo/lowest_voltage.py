"""How low do voltages sink under random loads? Ten thousand power flows of the IEEE 14-bus network, by Broyden."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from rich.console import Console

import jaxopt_lite as jol
from jaxopt_lite.demo.batches import CHUNK, Tally, solve_and_verify
from jaxopt_lite.demo.network import Network, read_case
from jaxopt_lite.demo.power_flow import mismatch, scenarios
from jaxopt_lite.demo.programs import Compiler, Program
from jaxopt_lite.demo.report import print_histogram, print_tally

__all__ = ["Programs", "lowest", "prepare", "run"]

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


class Programs(NamedTuple):
    """What solves and certifies the scenarios."""

    solve: Program
    certify: Program


def prepare(compiler: Compiler) -> Programs:
    """Begin to compile. No scenario needs a rescue, so no second method is compiled."""
    fun, x0, args = mismatch(read_case("ieee14"))

    def solve(x0, args):
        return jol.root(fun, x0, args, solver=jol.Broyden(rescue=False))

    def certify(x, args):
        verdict = jol.certify_root(fun, x, args)
        return verdict.valid, verdict.error

    return Programs(
        compiler.begin("the power flow", CHUNK, solve, x0, args),
        compiler.begin("its certificate", CHUNK, certify, x0, args, well=False),
    )


def run(programs: Programs, count: int, seed: int, console: Console, tallies: list[Tally]) -> None:
    """Solve the scenarios, verify the answers, and print the distribution of the lowest voltage.

    Args:
        programs: as prepared.
        count: how many load scenarios.
        seed: seed of the random loads.
        console: where to print.
        tallies: this batch's is appended, as soon as the batch begins.
    """
    network = read_case("ieee14")
    _, start, _ = mismatch(network)
    x0 = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (count, *leaf.shape)), start)
    console.print()
    console.rule("Root finding: AC power flow of the IEEE 14-bus network", align="left")
    console.print(
        f"{count:,} load scenarios: every bus at its own 50 to 150 % of the load, generation following the total. "
        f"{sum(map(np.size, start.values()))} unknowns each, from the flat start, by Broyden's method."
    )
    tally = Tally("power flow", count)
    tallies.append(tally)
    tally.compile_seconds = programs.solve.wait() + programs.certify.wait()
    solution, error = solve_and_verify(tally, *programs, x0, scenarios(network, count, seed))
    print_tally(
        console,
        tally,
        "power balances at every bus to 1e-9 per unit, recomputed at the answer",
        f"by the true Jacobian, no voltage or angle is off by more than {error.max():.0e}",
    )
    if not tally.is_complete:
        console.print(solution.summary())
    _print_distribution(console, network, jax.tree.map(lambda leaf: leaf[solution.success], solution.x))


def lowest(
    network: Network, x: dict[str, Float[Array, "count unknown"]]
) -> tuple[Float[np.ndarray, " count"], Int[np.ndarray, " count"]]:
    """The lowest voltage of each scenario and the bus where it occurs, among the buses that nothing holds.

    Args:
        network: the power system.
        x: solved scenarios, as `mismatch` has its unknowns.

    Returns:
        Magnitudes in per unit, and bus numbers. Generator buses hold a given voltage and do not count.

    Example:
        >>> import jaxopt_lite as jol
        >>> network = read_case("ieee14")
        >>> fun, x0, args = mismatch(network)
        >>> solution = jol.root(fun, x0, args, batched=False)
        >>> magnitude, bus = lowest(network, jax.tree.map(lambda leaf: leaf[None], solution.x))
        >>> round(float(magnitude[0]), 3), int(bus[0])
        (1.018, 4)
    """
    free = np.asarray(x["voltage"])
    return free.min(axis=1), network.numbers[network.held + free.argmin(axis=1)]


def _print_distribution(console: Console, network: Network, x) -> None:
    magnitude, bus = lowest(network, x)
    if magnitude.size == 0:
        return
    console.print("\nThe lowest voltage at a load bus, per unit, and how many scenarios have it:")
    print_histogram(console, magnitude)
    values = np.percentile(magnitude, _PERCENTILES)
    listed = ", ".join(f"{p} %: {value:.4f}" for p, value in zip(_PERCENTILES, values, strict=True))
    console.print(f"percentiles  {listed}")
    buses, times = np.unique(bus, return_counts=True)
    weakest = buses[times.argmax()]
    console.print(
        f"Bus {weakest} is the lowest in {times.max() / bus.size:.1%} of the scenarios; the worst of all is bus "
        f"{bus[magnitude.argmin()]} at {magnitude.min():.4f}. Below 0.95, a usual limit: {np.sum(magnitude < 0.95):,}."
    )
