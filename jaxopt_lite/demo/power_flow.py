"""AC power flow as root finding: which voltages deliver the scheduled powers? Imports JAX and NumPy only.

In per unit, with the bus admittance matrix Y = G + jB and the voltages e + jf = V (cos θ + j sin θ), the
injected currents are I = Y (e + jf) and the injected powers S = (e + jf) conj(I):

    Ir = G e - B f      P = e Ir + f Ii
    Ii = G f + B e      Q = f Ir - e Ii

One bus, the slack, has a given V and θ; a PV bus a given P and V; a PQ bus a given P and Q. The unknowns are
θ at every bus but the slack and V at the PQ buses; the equations are P at the former and Q at the latter.

This rectangular form costs one cosine and one sine a bus and four products with constant matrices, which a
row of lanes shares. The polar double sum needs a cosine and a sine for every pair of buses.

Sources: W. F. Tinney, C. E. Hart, "Power Flow Solution by Newton's Method", IEEE Trans. Power Apparatus and
Systems 86 (1967) 1449-1460; R. D. Zimmerman, C. E. Murillo-Sánchez, R. J. Thomas, "MATPOWER: Steady-State
Operations, Planning, and Analysis Tools for Power Systems Research and Education", IEEE Trans. Power Systems
26 (2011) 12-19, for the branch model and the tables.
"""

import json
from collections.abc import Callable
from importlib import resources
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int
from numpy.typing import ArrayLike

# Columns of the MATPOWER case format, version 2: MW, MVAr and degrees; impedances in per unit.
NUMBER, KIND, LOAD_P, LOAD_Q, SHUNT_P, SHUNT_Q, ANGLE = 0, 1, 2, 3, 4, 5, 8
AT, GENERATION_P, GENERATION_Q, SETPOINT, IN_SERVICE = 0, 1, 2, 5, 7
FROM, TO, RESISTANCE, REACTANCE, CHARGING, TAP, SHIFT, CLOSED = 0, 1, 2, 3, 4, 8, 9, 10
PQ, PV, SLACK = 1, 2, 3


class Network(NamedTuple):
    """A power system in per unit, its buses in the order slack, PV, PQ (within a kind, as in the table).

    In that order everything the equations need is a slice or a concatenation, never a gather.
    """

    numbers: Int[np.ndarray, " bus"]  # the user's bus numbers
    kinds: Int[np.ndarray, " bus"]  # SLACK, PV or PQ
    conductance: Float[np.ndarray, "bus bus"]  # G, the real part of Y
    susceptance: Float[np.ndarray, "bus bus"]  # B, the imaginary part of Y
    generation_p: Float[np.ndarray, " bus"]
    generation_q: Float[np.ndarray, " bus"]
    load_p: Float[np.ndarray, " bus"]
    load_q: Float[np.ndarray, " bus"]
    setpoints: Float[np.ndarray, " bus"]  # V at the slack and PV buses; 1 at the PQ buses
    slack_angle: float  # radians
    base_mva: float

    @property
    def held(self) -> int:
        """Number of buses whose voltage magnitude is given: the slack and the PV buses."""
        return int(np.count_nonzero(self.kinds != PQ))


def read_case(name: str = "ieee14") -> Network:
    """Reads a network shipped with the package.

    Args:
        name: the case; "ieee14", the IEEE 14-bus test case, is shipped.

    Returns:
        The network.

    Raises:
        ValueError: if no such case is shipped.

    Example:
        >>> network = read_case("ieee14")
        >>> len(network.numbers), network.held
        (14, 5)

    Source: Power Systems Test Case Archive, University of Washington (CC BY 4.0); see data/README.md.
    """
    folder = resources.files("jaxopt_lite.demo") / "data"
    shipped = sorted(
        file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json")
    )
    if name not in shipped:
        raise ValueError(
            f"name: expected one of {shipped}, got {name!r}; build other networks by from_tables"
        )
    case = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return from_tables(case["bus"], case["gen"], case["branch"], case["base_mva"])


def from_tables(bus: ArrayLike, gen: ArrayLike, branch: ArrayLike, base_mva: float) -> Network:
    """Builds a network from case tables as MATPOWER and PYPOWER define them.

    Args:
        bus: [buses, 9 or more] number, type, Pd, Qd, Gs, Bs, area, Vm, Va, ... in MW, MVAr and degrees.
        gen: [generators, 8 or more] bus, Pg, Qg, Qmax, Qmin, Vg, mBase, status, ...
        branch: [branches, 11 or more] from, to, r, x, b, three ratings, tap ratio (0 for a line), phase shift
            in degrees, status, ...; impedances in per unit.
        base_mva: the power in MVA that is 1 per unit.

    Returns:
        The network. What is out of service is left out; a PV bus without a generator in service is a PQ bus;
        where several generators share a bus, their powers add and the last one sets the voltage.

    Raises:
        ValueError: if a table has a wrong shape or a value that is not finite, a bus number is repeated or
            unknown, a bus type is not 1, 2 or 3, a branch has no impedance, `base_mva` is not positive, or
            there is not exactly one slack bus with a generator in service.

    Example:
        >>> bus = [[1, 3, 0, 0, 0, 0, 1, 1, 0], [2, 1, 50, 10, 0, 0, 1, 1, 0]]
        >>> gen = [[1, 0, 0, 0, 0, 1.02, 100, 1]]
        >>> branch = [[1, 2, 0.01, 0.1, 0, 0, 0, 0, 0, 0, 1]]
        >>> from_tables(bus, gen, branch, base_mva=100).load_p.tolist()
        [0.0, 0.5]

    Source: MATPOWER case format, version 2.
    """
    bus, gen, branch = _table("bus", bus, 9), _table("gen", gen, 8), _table("branch", branch, 11)
    if not base_mva > 0:
        raise ValueError(f"base_mva: expected a positive power in MVA, got {base_mva}")
    gen, branch = gen[gen[:, IN_SERVICE] > 0], branch[branch[:, CLOSED] > 0]
    kinds = _kinds(bus, gen)
    order = np.argsort(-kinds, kind="stable")
    bus, kinds = bus[order], kinds[order]
    at = _positions(bus, gen[:, AT], "gen")
    generation, setpoints = np.zeros((len(bus), 2)), np.ones(len(bus))
    np.add.at(generation, at, gen[:, [GENERATION_P, GENERATION_Q]] / base_mva)
    setpoints[at] = gen[:, SETPOINT]
    Y = _admittance(bus, branch, base_mva)
    return Network(
        numbers=bus[:, NUMBER].astype(int),
        kinds=kinds,
        conductance=np.real(Y),
        susceptance=np.imag(Y),
        generation_p=generation[:, 0],
        generation_q=generation[:, 1],
        load_p=bus[:, LOAD_P] / base_mva,
        load_q=bus[:, LOAD_Q] / base_mva,
        setpoints=np.where(kinds == PQ, 1.0, setpoints),
        slack_angle=float(np.deg2rad(bus[0, ANGLE])),
        base_mva=float(base_mva),
    )


def mismatch(network: Network) -> tuple[Callable, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The power flow equations of a network, for one scenario of injections.

    Args:
        network: the power system; n buses of which m are PQ buses.

    Returns:
        `fun`, `x0` and `args`. `fun(x, args)` is the residual [n - 1 + m] in per unit, calculated less
        scheduled: P at every bus but the slack, then Q at the PQ buses. `x` is {"angle": [n - 1] radians,
        "voltage": [m] per unit}; `x0` is the flat start. `args` is {"p": [n], "q": [n]}, the scheduled
        injections (generation less load) in per unit in the network's bus order; entries that no equation
        uses are ignored. The arithmetic follows the dtype of `x` and `args`.

    Example:
        >>> fun, x0, args = mismatch(read_case("ieee14"))
        >>> fun(x0, args).shape
        (22,)

    Source: Tinney and Hart (1967).
    """
    n, held = len(network.numbers), network.held

    def fun(x, args):
        p, q = injections(network, *voltages(network, x))
        return jnp.concatenate([(p - args["p"])[1:], (q - args["q"])[held:]])

    x0 = {"angle": np.full(n - 1, network.slack_angle), "voltage": np.ones(n - held)}
    args = {"p": network.generation_p - network.load_p, "q": network.generation_q - network.load_q}
    return fun, x0, args


def voltages(
    network: Network, x: dict[str, Float[Array, "*batch unknown"]]
) -> tuple[Float[Array, "*batch bus"], Float[Array, "*batch bus"]]:
    """Voltage of every bus, the given ones included.

    Args:
        network: the power system.
        x: {"angle": [..., n - 1] radians, "voltage": [..., m] per unit}, of one scenario or of many.

    Returns:
        Magnitudes in per unit and angles in radians, [..., n] each, in the order of `network.numbers`.

    Example:
        >>> network = read_case("ieee14")
        >>> _, x0, _ = mismatch(network)
        >>> magnitude, angle = voltages(network, x0)
        >>> magnitude.shape, angle.shape
        ((14,), (14,))
    """
    magnitude = _prepend(network.setpoints[: network.held], x["voltage"])
    return magnitude, _prepend([network.slack_angle], x["angle"])


def injections(
    network: Network, magnitude: Float[Array, " bus"], angle: Float[Array, " bus"]
) -> tuple[Float[Array, " bus"], Float[Array, " bus"]]:
    """Active and reactive power that the voltages inject at every bus.

    At a solution the slack entry of P and the slack and PV entries of Q are what those buses must supply.

    Args:
        network: the power system.
        magnitude: [bus] voltage magnitudes in per unit.
        angle: [bus] voltage angles in radians.

    Returns:
        P and Q in per unit, [bus] each, in the order of `network.numbers`.

    Example:
        >>> network = read_case("ieee14")
        >>> _, x0, _ = mismatch(network)
        >>> p, q = injections(network, *voltages(network, x0))

    Source: Tinney and Hart (1967), here in rectangular form.
    """
    G = jnp.asarray(network.conductance, magnitude.dtype)
    B = jnp.asarray(network.susceptance, magnitude.dtype)
    e, f = magnitude * jnp.cos(angle), magnitude * jnp.sin(angle)
    Ir, Ii = G @ e - B @ f, G @ f + B @ e
    return e * Ir + f * Ii, f * Ir - e * Ii


def scenarios(network: Network, count: int, seed: int = 0) -> dict[str, Float[np.ndarray, "count bus"]]:
    """Random load scenarios: the `args` of many power flows on one network.

    Each bus's load is scaled by a factor of its own, uniform in [0.5, 1.5], at constant power factor; the
    generation is scaled by the total load, so that the slack bus covers only what is lost on the way.

    Args:
        network: the power system.
        count: how many scenarios.
        seed: of NumPy's generator; default 0. A longer run begins with the scenarios of a shorter one.

    Returns:
        {"p": [count, bus], "q": [count, bus]}, scheduled injections in per unit.

    Raises:
        ValueError: if `count` is negative, or if the loads do not add to a positive power.

    Example:
        >>> scenarios(read_case("ieee14"), count=3)["p"].shape
        (3, 14)
    """
    total = network.load_p.sum()
    if count < 0:
        raise ValueError(f"count: expected a number of scenarios >= 0, got {count}")
    if not total > 0:
        raise ValueError(f"network: expected loads that add to a positive power, got {total} per unit")
    factor = np.random.default_rng(seed).uniform(0.5, 1.5, (count, len(network.numbers)))
    demand = (factor @ network.load_p / total)[:, None]
    return {
        "p": demand * network.generation_p - factor * network.load_p,
        "q": demand * network.generation_q - factor * network.load_q,
    }


def _prepend(given, unknown):
    """Given entries [g], the same for every scenario, before the unknown ones [..., u] and in their dtype."""
    unknown = jnp.asarray(unknown)
    given = jnp.broadcast_to(jnp.asarray(given, unknown.dtype), (*unknown.shape[:-1], len(given)))
    return jnp.concatenate([given, unknown], axis=-1)


def _table(name: str, table: ArrayLike, columns: int) -> Float[np.ndarray, "row column"]:
    values = np.asarray(table, dtype=float)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < columns:
        raise ValueError(
            f"{name}: expected a MATPOWER table [rows, {columns} or more], got shape {values.shape}"
        )
    if not np.all(np.isfinite(values[:, :columns])):
        raise ValueError(f"{name}: expected finite numbers in {columns} columns, got NaN or infinity")
    return values


def _kinds(bus, gen) -> Int[np.ndarray, " bus"]:
    """Kind of every bus; a bus without a generator in service cannot hold its voltage."""
    stated = bus[:, KIND]
    if not np.isin(stated, (PQ, PV, SLACK)).all():
        raise ValueError(f"bus: expected types 1, 2 and 3, got {np.unique(stated)}; leave isolated buses out")
    kinds = np.where(np.isin(bus[:, NUMBER], gen[:, AT]), stated, PQ).astype(int)
    slack = bus[kinds == SLACK, NUMBER]
    if len(slack) != 1:
        raise ValueError(
            f"bus: expected one slack bus (type 3) with a generator in service, got {len(slack)}; check types"
        )
    return kinds


def _positions(bus, numbers, table: str) -> Int[np.ndarray, " row"]:
    """Row of the bus table that holds each bus number."""
    row_of = {number: row for row, number in enumerate(bus[:, NUMBER])}
    if len(row_of) != len(bus):
        raise ValueError("bus: expected every bus number once, got repeated numbers")
    unknown = sorted(set(numbers) - set(row_of))
    if unknown:
        raise ValueError(f"{table}: expected bus numbers of the bus table, got {unknown} besides")
    return np.array([row_of[number] for number in numbers], dtype=int)


def _admittance(bus, branch, base_mva: float) -> Complex[np.ndarray, "bus bus"]:
    """Bus admittance matrix: π model of every branch, ideal transformer at its "from" end, and the shunts."""
    impedance = branch[:, RESISTANCE] + 1j * branch[:, REACTANCE]
    if np.any(impedance == 0):
        ends = branch[impedance == 0][:, [FROM, TO]].astype(int).tolist()
        raise ValueError(f"branch: expected r + jx other than 0, got 0 between {ends}; join those buses")
    f, t = _positions(bus, branch[:, FROM], "branch"), _positions(bus, branch[:, TO], "branch")
    series, charging = 1 / impedance, 0.5j * branch[:, CHARGING]
    ratio = np.where(branch[:, TAP] == 0, 1.0, branch[:, TAP])  # the tables write a line's ratio of 1 as 0
    tap = ratio * np.exp(1j * np.deg2rad(branch[:, SHIFT]))
    Y = np.diag((bus[:, SHUNT_P] + 1j * bus[:, SHUNT_Q]) / base_mva)
    np.add.at(Y, (f, f), (series + charging) / np.abs(tap) ** 2)
    np.add.at(Y, (f, t), -series / np.conj(tap))
    np.add.at(Y, (t, f), -series / tap)
    np.add.at(Y, (t, t), series + charging)
    return Y
