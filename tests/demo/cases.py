"""PYPOWER's test cases and its Newton power flow, the oracle of the demonstration's network and power flow."""

from typing import Any

import numpy as np
from pypower.api import case14, case30, case118, ppoption, runpf

from jaxopt_lite.demo.network import from_tables

QUIET = ppoption(VERBOSE=0, OUT_ALL=0, PF_TOL=1e-12)


def network_of(case):
    return from_tables(case["bus"], case["gen"], case["branch"], case["baseMVA"])


def rows(network, case):
    """Rows of the case's bus table in the network's order."""
    row_of = {int(number): row for row, number in enumerate(case["bus"][:, 0])}
    return np.array([row_of[number] for number in network.numbers.tolist()])


def unknowns_of(network, solved):
    """The unknowns at PYPOWER's solution."""
    table = solved["bus"][rows(network, solved)]
    return {"angle": np.deg2rad(table[1:, 8]), "voltage": table[network.held :, 7]}


def awkward_case():
    """A phase shifter, a lossy shunt, an open branch, a stopped generator, and two generators at one bus."""
    case: Any = case14()
    case["branch"][8, 9] = 12.0
    case["bus"][4, 4] = 7.0
    case["branch"][2, 10] = 0
    case["gen"][4, 7] = 0
    case["gen"] = np.vstack([case["gen"], case["gen"][1]])
    del case["gencost"]  # costs would have to match the generators, and power flow has no use for them
    return case


def case_with_injections(network, p, q):
    """The 14-bus case with scheduled injections in per unit; the loads take them all, the generators only hold V."""
    case: Any = case14()
    order = rows(network, case)
    case["gen"][:, 1:3] = 0
    case["bus"][order, 2] = -network.base_mva * p
    case["bus"][order, 3] = -network.base_mva * q
    return case


def solved_by_pypower(case):
    """The case with voltages filled in."""
    solved, converged = runpf(case, QUIET)
    assert converged
    return solved


CASES = {"case14": case14, "case30": case30, "case118": case118, "awkward": awkward_case}
