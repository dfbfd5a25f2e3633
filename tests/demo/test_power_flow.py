"""Power flow against PYPOWER: its admittance matrices and its own Newton solutions are the oracle."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from pypower.api import case14, case30, case118, ext2int, makeYbus, ppoption, runpf

from jaxopt_lite.demo import power_flow

CASES = {"case14": case14, "case30": case30, "case118": case118}
QUIET = ppoption(VERBOSE=0, OUT_ALL=0, PF_TOL=1e-12)

BUS = [[1, 3, 0, 0, 0, 0, 1, 1, 0], [2, 1, 50, 10, 0, 0, 1, 1, 0]]
GEN = [[1, 0, 0, 0, 0, 1.02, 100, 1]]
BRANCH = [[1, 2, 0.01, 0.1, 0, 0, 0, 0, 0, 0, 1]]


def network_of(case):
    return power_flow.from_tables(case["bus"], case["gen"], case["branch"], case["baseMVA"])


def rows(network, case):
    """Rows of the case's bus table in the network's order."""
    row_of = {int(number): row for row, number in enumerate(case["bus"][:, 0])}
    return np.array([row_of[number] for number in network.numbers.tolist()])


def solution(network, solved):
    """The unknowns at PYPOWER's solution."""
    table = solved["bus"][rows(network, solved)]
    return {"angle": np.deg2rad(table[1:, 8]), "voltage": table[network.held :, 7]}


def newton(fun, x0, args, steps=8):
    start, unravel = ravel_pytree(x0)

    def step(x, _):
        J = jax.jacfwd(lambda x: fun(unravel(x), args))(x)
        return x - jnp.linalg.solve(J, fun(unravel(x), args)), None

    return unravel(jax.lax.scan(step, start, None, length=steps)[0])


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


@pytest.mark.parametrize("make", [*CASES.values(), awkward_case])
def test_admittance_matrix_is_pypowers(make):
    network, case = network_of(make()), make()
    inner = ext2int(make())
    expected = makeYbus(inner["baseMVA"], inner["bus"], inner["branch"])[0].toarray()
    order = rows(network, case)
    actual = network.conductance + 1j * network.susceptance
    np.testing.assert_allclose(actual, expected[np.ix_(order, order)], rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("make", [*CASES.values(), awkward_case])
def test_residual_vanishes_at_pypowers_solution(make):
    network = network_of(make())
    solved, converged = runpf(make(), QUIET)
    fun, x0, args = power_flow.mismatch(network)
    assert converged
    assert np.abs(fun(x0, args)).max() > 1e-2
    np.testing.assert_allclose(fun(solution(network, solved), args), 0, atol=1e-10)


@pytest.mark.parametrize("make", [*CASES.values(), awkward_case])
def test_newton_from_the_flat_start_reaches_pypowers_solution(make):
    network = network_of(make())
    solved, _ = runpf(make(), QUIET)
    found = newton(*power_flow.mismatch(network))
    for name, expected in solution(network, solved).items():
        np.testing.assert_allclose(found[name], expected, atol=1e-10)


def test_shipped_case_is_the_ieee_14_bus_system():
    shipped, expected = power_flow.read_case("ieee14"), network_of(case14())
    for name, value, reference in zip(shipped._fields, shipped, expected, strict=True):
        np.testing.assert_array_equal(value, reference, err_msg=name)


def test_fourteen_buses_have_twenty_two_unknowns_and_equations():
    fun, x0, args = power_flow.mismatch(power_flow.read_case("ieee14"))
    assert (x0["angle"].shape, x0["voltage"].shape) == ((13,), (9,))
    assert fun(x0, args).shape == (22,)


def test_bus_order_is_slack_then_pv_then_pq():
    network = power_flow.read_case("ieee14")
    assert network.numbers.tolist() == [1, 2, 3, 6, 8, 4, 5, 7, 9, 10, 11, 12, 13, 14]
    assert network.held == 5


def test_arithmetic_follows_the_dtype():
    fun, x0, args = power_flow.mismatch(power_flow.read_case("ieee14"))
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (x0, args))
    assert fun(*single).dtype == jnp.float32
    np.testing.assert_allclose(fun(*single), fun(x0, args), atol=2e-5)


def test_equations_of_a_row_of_lanes_trace_without_a_gather():
    fun, x0, args = power_flow.mismatch(power_flow.read_case("ieee14"))
    lanes = jax.tree.map(lambda leaf: np.stack([leaf, leaf], axis=-1), (x0, args))
    traced = str(jax.make_jaxpr(jax.vmap(fun, in_axes=-1, out_axes=-1))(*lanes))
    assert "dot_general" in traced
    assert "gather" not in traced


def test_scenarios_scale_every_load_at_its_power_factor():
    network = power_flow.read_case("ieee14")
    args = power_flow.scenarios(network, count=500, seed=3)
    loads = (network.load_p > 0) & (network.generation_p == 0) & (network.generation_q == 0)
    factor = -args["p"][:, loads] / network.load_p[loads]
    np.testing.assert_allclose(-args["q"][:, loads], factor * network.load_q[loads])
    assert 0.5 <= factor.min() < 0.51 and 1.49 < factor.max() <= 1.5
    assert np.abs(np.corrcoef(factor.T) - np.eye(loads.sum())).max() < 0.2


def test_scenarios_scale_generation_with_the_total_load():
    network = power_flow.read_case("ieee14")
    p = power_flow.scenarios(network, count=50, seed=3)["p"]
    growth = p[:, 0] / network.generation_p[0]  # the slack bus has no load of its own
    load = growth * network.generation_p.sum() - p.sum(axis=1)
    np.testing.assert_allclose(load, growth * network.load_p.sum())
    assert growth.min() < 0.95 and growth.max() > 1.05


def test_scenarios_are_repeatable_and_extend_one_another():
    network = power_flow.read_case("ieee14")
    long, short = (power_flow.scenarios(network, count, seed=1)["p"] for count in (20, 5))
    np.testing.assert_array_equal(long[:5], short)
    assert np.abs(long[:5] - power_flow.scenarios(network, 5, seed=2)["p"]).max() > 0.01


def test_scenarios_solve_to_pypowers_answers():
    network = power_flow.read_case("ieee14")
    fun, x0, _ = power_flow.mismatch(network)
    many = power_flow.scenarios(network, count=4, seed=5)
    found = jax.vmap(lambda args: newton(fun, x0, args))(many)
    magnitude, angle = power_flow.voltages(network, found)
    for lane in range(4):
        case: Any = case14()
        order = rows(network, case)
        case["gen"][:, 1:3] = (
            0  # everything scheduled goes into the loads, so that the tables hold p and q alone
        )
        case["bus"][order, 2] = -100 * many["p"][lane]
        case["bus"][order, 3] = -100 * many["q"][lane]
        solved, _ = runpf(case, QUIET)
        np.testing.assert_allclose(magnitude[lane], solved["bus"][order, 7], atol=1e-10)
        np.testing.assert_allclose(np.rad2deg(angle[lane]), solved["bus"][order, 8], atol=1e-8)


def test_injections_at_the_solution_give_the_slack_power_and_the_losses():
    network = power_flow.read_case("ieee14")
    solved, _ = runpf(case14(), QUIET)
    p, q = power_flow.injections(network, *power_flow.voltages(network, solution(network, solved)))
    np.testing.assert_allclose(p[0] * network.base_mva, solved["gen"][0, 1], atol=1e-8)
    np.testing.assert_allclose(
        (q + network.load_q)[: network.held] * network.base_mva, solved["gen"][:, 2], atol=1e-8
    )
    losses = (solved["branch"][:, 13] + solved["branch"][:, 15]).sum()
    np.testing.assert_allclose(p.sum() * network.base_mva, losses, atol=1e-8)


def test_a_pv_bus_without_a_generator_in_service_is_a_pq_bus():
    case: Any = case14()
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
        power_flow.from_tables(**tables)


def test_unknown_cases_and_senseless_counts_are_refused():
    network = power_flow.read_case("ieee14")
    with pytest.raises(ValueError, match=r"name: expected one of \['ieee14'\], got 'ieee15'"):
        power_flow.read_case("ieee15")
    with pytest.raises(ValueError, match="count: expected a number of scenarios >= 0, got -1"):
        power_flow.scenarios(network, -1)
    with pytest.raises(ValueError, match="network: expected loads that add to a positive power"):
        power_flow.scenarios(network._replace(load_p=np.zeros(14)), 1)
