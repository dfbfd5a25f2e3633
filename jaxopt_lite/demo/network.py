"""A power network: bus, generator and branch tables in, per-unit numbers and admittances out. Imports NumPy only.

Sources: R. D. Zimmerman, C. E. Murillo-Sánchez, R. J. Thomas, "MATPOWER: Steady-State Operations, Planning, and
Analysis Tools for Power Systems Research and Education", IEEE Trans. Power Systems 26 (2011) 12-19, for the branch
model and the tables.
"""

import json
from importlib import resources
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float, Int
from numpy.typing import ArrayLike

__all__ = ["Network", "from_tables", "read_case"]

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
        name: name of the case; "ieee14", the IEEE 14-bus test case, is shipped.

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
    shipped = sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))
    if name not in shipped:
        raise ValueError(f"name: expected one of {shipped}, got {name!r}; build other networks by from_tables")
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


def _table(name: str, table: ArrayLike, columns: int) -> Float[np.ndarray, "row column"]:
    values = np.asarray(table, dtype=float)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < columns:
        raise ValueError(f"{name}: expected a MATPOWER table [rows, {columns} or more], got shape {values.shape}")
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
        raise ValueError(f"{table}: expected bus numbers of the bus table, got also {unknown}")
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
