"""The lowest voltage is that of a load bus, and bears its number."""

import numpy as np

from jaxopt_lite.demo.lowest_voltage import lowest
from jaxopt_lite.demo.network import read_case
from jaxopt_lite.demo.power_flow import mismatch


def test_lowest_names_the_load_bus_and_ignores_held_voltages():
    network = read_case("ieee14")
    _, x0, _ = mismatch(network)
    voltage = np.full((2, x0["voltage"].size), 1.5)  # above every setpoint: a generator bus would be lower
    voltage[0, 3], voltage[1, 8] = 1.2, 1.3
    magnitude, bus = lowest(network, {"angle": np.zeros((2, x0["angle"].size)), "voltage": voltage})
    assert magnitude.tolist() == [1.2, 1.3]
    assert bus.tolist() == [9, 14]
