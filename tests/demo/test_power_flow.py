"""Power flow against PYPOWER's Newton power flow: the equations at its solutions.

Solutions of many scenarios are held against it in `test_demonstration.py`, with the program of the demonstration.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pypower.api import case14

import jaxopt_lite as jol
from jaxopt_lite.demo import power_flow
from jaxopt_lite.demo.network import read_case
from tests.demo.cases import CASES, network_of, solved_by_pypower, unknowns_of

pytestmark = pytest.mark.hardly_optimized


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_residual_vanishes_at_pypowers_solution(make):
    network = network_of(make())
    fun, x0, args = power_flow.mismatch(network)
    assert np.abs(fun(x0, args)).max() > 1e-2
    np.testing.assert_allclose(fun(unknowns_of(network, solved_by_pypower(make())), args), 0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["case30", "case118"])
def test_root_from_the_flat_start_reaches_pypowers_solution(name):
    network = network_of(CASES[name]())
    fun, x0, args = power_flow.mismatch(network)
    solution = jol.root(fun, x0, args, batched=False, solver=jol.Broyden(rescue=False))
    assert solution.success
    for unknown, expected in unknowns_of(network, solved_by_pypower(CASES[name]())).items():
        np.testing.assert_allclose(solution.x[unknown], expected, atol=1e-8)


def test_fourteen_buses_have_twenty_two_unknowns_and_equations():
    fun, x0, args = power_flow.mismatch(read_case("ieee14"))
    assert (x0["angle"].shape, x0["voltage"].shape) == ((13,), (9,))
    assert fun(x0, args).shape == (22,)


def test_arithmetic_follows_the_dtype():
    fun, x0, args = power_flow.mismatch(read_case("ieee14"))
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (x0, args))
    assert fun(*single).dtype == jnp.float32
    np.testing.assert_allclose(fun(*single), fun(x0, args), atol=2e-5)


def test_equations_of_a_row_of_lanes_trace_without_a_gather():
    fun, x0, args = power_flow.mismatch(read_case("ieee14"))
    lanes = jax.tree.map(lambda leaf: np.stack([leaf, leaf], axis=-1), (x0, args))
    traced = str(jax.make_jaxpr(jax.vmap(fun, in_axes=-1, out_axes=-1))(*lanes))
    assert "dot_general" in traced
    assert "gather" not in traced


def test_scenarios_scale_every_load_at_its_power_factor():
    network = read_case("ieee14")
    args = power_flow.scenarios(network, count=500, seed=3)
    loads = (network.load_p > 0) & (network.generation_p == 0) & (network.generation_q == 0)
    factor = -args["p"][:, loads] / network.load_p[loads]
    np.testing.assert_allclose(-args["q"][:, loads], factor * network.load_q[loads])
    assert 0.5 <= factor.min() < 0.51 and 1.49 < factor.max() <= 1.5
    assert np.abs(np.corrcoef(factor.T) - np.eye(loads.sum())).max() < 0.2


def test_scenarios_scale_generation_with_the_total_load():
    network = read_case("ieee14")
    p = power_flow.scenarios(network, count=50, seed=3)["p"]
    growth = p[:, 0] / network.generation_p[0]  # the slack bus has no load of its own
    load = growth * network.generation_p.sum() - p.sum(axis=1)
    np.testing.assert_allclose(load, growth * network.load_p.sum())
    assert growth.min() < 0.95 and growth.max() > 1.05


def test_scenarios_are_repeatable_and_extend_one_another():
    network = read_case("ieee14")
    long, short = (power_flow.scenarios(network, count, seed=1)["p"] for count in (20, 5))
    np.testing.assert_array_equal(long[:5], short)
    assert np.abs(long[:5] - power_flow.scenarios(network, 5, seed=2)["p"]).max() > 0.01


def test_injections_at_the_solution_give_the_slack_power_and_the_losses():
    network = read_case("ieee14")
    solved = solved_by_pypower(case14())
    p, q = power_flow.injections(network, *power_flow.voltages(network, unknowns_of(network, solved)))
    np.testing.assert_allclose(p[0] * network.base_mva, solved["gen"][0, 1], atol=1e-8)
    np.testing.assert_allclose((q + network.load_q)[: network.held] * network.base_mva, solved["gen"][:, 2], atol=1e-8)
    losses = (solved["branch"][:, 13] + solved["branch"][:, 15]).sum()
    np.testing.assert_allclose(p.sum() * network.base_mva, losses, atol=1e-8)


def test_senseless_scenarios_are_refused():
    network = read_case("ieee14")
    with pytest.raises(ValueError, match="count: expected a number of scenarios >= 0, got -1"):
        power_flow.scenarios(network, -1)
    with pytest.raises(ValueError, match="network: expected loads that add to a positive power"):
        power_flow.scenarios(network._replace(load_p=np.zeros(14)), 1)
