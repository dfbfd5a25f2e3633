"""Networks against PYPOWER's tables and admittance matrices."""

import numpy as np
import pytest
from pypower.api import case14, ext2int, makeYbus

from jaxopt_lite.demo.network import from_tables, read_case
from tests.demo.cases import CASES, network_of, rows

BUS = [[1, 3, 0, 0, 0, 0, 1, 1, 0], [2, 1, 50, 10, 0, 0, 1, 1, 0]]
GEN = [[1, 0, 0, 0, 0, 1.02, 100, 1]]
BRANCH = [[1, 2, 0.01, 0.1, 0, 0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_admittance_matrix_is_pypowers(make):
    network, case = network_of(make()), make()
    inner = ext2int(make())
    expected = makeYbus(inner["baseMVA"], inner["bus"], inner["branch"])[0].toarray()
    order = rows(network, case)
    actual = network.conductance + 1j * network.susceptance
    np.testing.assert_allclose(actual, expected[np.ix_(order, order)], rtol=1e-13, atol=1e-12)


def test_shipped_case_is_the_ieee_14_bus_system():
    shipped, expected = read_case("ieee14"), network_of(case14())
    for name, value, reference in zip(shipped._fields, shipped, expected, strict=True):
        np.testing.assert_array_equal(value, reference, err_msg=name)


def test_bus_order_is_slack_then_pv_then_pq():
    network = read_case("ieee14")
    assert network.numbers.tolist() == [1, 2, 3, 6, 8, 4, 5, 7, 9, 10, 11, 12, 13, 14]
    assert network.held == 5


def test_a_pv_bus_without_a_generator_in_service_is_a_pq_bus():
    case = case14()
    case["gen"][2, 7] = 0
    assert network_of(case).held == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(bus=[[1, 3, 0, 0]]), r"bus: expected a MATPOWER table \[rows, 9 or more\], got shape \(1, 4\)"),
        (dict(branch=[[1, 2, np.nan, 0.1, 0, 0, 0, 0, 0, 0, 1]]), "branch: expected finite numbers"),
        (dict(bus=[BUS[0], BUS[0]]), "bus: expected one slack bus"),
        (dict(bus=[*BUS, BUS[1]]), "bus: expected every bus number once"),
        (dict(bus=[BUS[0], [2, 4, *BUS[1][2:]]]), "bus: expected types 1, 2 and 3"),
        (dict(gen=[[1, 0, 0, 0, 0, 1.02, 100, 0]]), "bus: expected one slack bus .* got 0"),
        (dict(gen=[*GEN, [7, 0, 0, 0, 0, 1.0, 100, 1]]), "gen: expected bus numbers of the bus table"),
        (
            dict(branch=[[1, 9, 0.01, 0.1, 0, 0, 0, 0, 0, 0, 1]]),
            "branch: expected bus numbers of the bus table",
        ),
        (dict(branch=[[1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1]]), r"branch: expected r \+ jx other than 0"),
        (dict(base_mva=0), "base_mva: expected a positive power"),
    ],
)
def test_tables_that_make_no_network_are_refused(change, message):
    tables = dict(bus=BUS, gen=GEN, branch=BRANCH, base_mva=100) | change
    with pytest.raises(ValueError, match=message):
        from_tables(**tables)


def test_unknown_cases_are_refused():
    with pytest.raises(ValueError, match=r"name: expected one of \['ieee14'\], got 'ieee15'"):
        read_case("ieee15")
