"""Fits to the bit: many devices, and many cores of one, fit as one does."""

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.lanes import fan_out, widths
from jaxopt_lite.specialists import Shift, fit
from tests.specialists import models


@pytest.mark.slow
def test_many_devices_fit_as_one_does_to_the_bit():
    """In a process with four; that the second fit is divided among them is noted when it is traced."""
    code = """
        import jax, numpy as np, jaxopt_lite as jol
        jol.use_cpu_cores(4)
        from dataclasses import replace
        from importlib import import_module
        from jax.sharding import NamedSharding, PartitionSpec

        from jaxopt_lite.specialists import fit
        from tests.specialists import models

        module = import_module("jaxopt_lite.specialists.fit")  # the package has a function of that name
        divided, over_devices, devices = [], module.over_devices, jax.local_devices()
        module.over_devices = lambda share, mesh: divided.append(mesh.size) or over_devices(share, mesh)
        tasks = models.tasks(5, sizes=(6, 11))

        def fitted(base=models.base()):
            library = fit(base, models.ADAPTERS["ia3"], tasks, models.cross_entropy, progress=False)
            return jax.tree.map(np.asarray, library.parameters)

        jax.local_devices = lambda: devices[:1]
        one = fitted()
        assert not divided
        jax.local_devices = lambda: devices
        jax.clear_caches()
        four = fitted()
        assert divided == [4], divided
        place = NamedSharding(jax.make_mesh((2,), ("other",), devices=devices[:2]), PartitionSpec())
        base = models.base()
        placed = fitted(replace(base, params=jax.device_put(base.params, place)))  # of a base on another mesh
        with jax.set_mesh(jax.make_mesh((4,), ("other",))):  # which is not that of the fit
            within = fitted()
        for key in one:
            np.testing.assert_array_equal(one[key], four[key])
            np.testing.assert_array_equal(one[key], placed[key])
            np.testing.assert_array_equal(one[key], within[key])
    """
    env = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


ADAPTER, TASKS = Shift("out/b"), models.tasks(200, sizes=(5,), dtype=np.float64)


def distance(output, y):
    """Compiled in less time than a cross-entropy."""
    return jnp.sum((output - y) ** 2)


def fitted(names):
    """The parameters and profile of these tasks."""
    part = {name: TASKS[name] for name in names}
    library = fit(models.base(jnp.float64), ADAPTER, part, distance, progress=False)
    return jax.tree.map(np.asarray, (library.parameters, library.profile))


@functools.cache
def whole():
    return fitted(TASKS)


def test_every_core_fits_its_share_to_the_bit(monkeypatch):
    expected, started, submit = whole(), [], fan_out._submitted
    monkeypatch.setattr(fan_out, "cores", lambda: 3)
    monkeypatch.setattr(widths, "_PART_OPERATIONS", 1)
    monkeypatch.setattr(fan_out, "_submitted", lambda *call: started.append(call) or submit(*call))
    shared = fitted(TASKS)
    assert started
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(shared), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.slow  # above, fits of 67 have the bits of a fit of 200; this is of one alone
def test_no_bit_depends_on_how_many_tasks_are_fitted():
    part = jax.tree.map(lambda leaf: leaf[150:151], whole())
    jax.tree.map(np.testing.assert_array_equal, fitted(list(TASKS)[150:151]), part)
