"""How many cores this process may use."""

import os

import pytest

from jaxopt_lite.cores import cores


def test_an_environment_variable_bounds_them(monkeypatch):
    monkeypatch.delenv("JAXOPT_LITE_CORES", raising=False)
    there = cores()
    assert 1 <= there <= (os.cpu_count() or 1)
    for bound, expected in (("1", 1), (str(there), there), ("100000", there)):
        monkeypatch.setenv("JAXOPT_LITE_CORES", bound)
        assert cores() == expected


@pytest.mark.parametrize("bound", ["", "0", "two", "-1", "1.5", "²"])
def test_what_is_no_number_of_cores_is_refused(bound, monkeypatch):
    monkeypatch.setenv("JAXOPT_LITE_CORES", bound)
    with pytest.raises(ValueError, match=f"JAXOPT_LITE_CORES is '{bound}': expected a number of cores, at least 1"):
        cores()
