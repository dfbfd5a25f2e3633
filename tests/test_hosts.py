"""Two processes of one `jax.distributed` job give, bit for bit, what one process gives alone."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite import bpe

pytestmark = pytest.mark.hardly_optimized

TEXTS = [f"the cat {k} sat on the mat, the rat {k % 3} sat on the cat\0 ünd naïve \udce4 {k * k}" for k in range(40)]

# `process`, `folder` and `address` come from the command line.
HOST = """
    import sys
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    process, folder, address = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(address, num_processes=2, process_id=process)
    assert jax.process_count() == 2 and jax.device_count() == 4

    import jaxopt_lite as jol
    from jaxopt_lite import bpe
    from tests.test_hosts import TEXTS, problems, root

    x0, a = problems()
    mesh = Mesh(np.asarray(jax.devices()), ("batch",))
    mine = slice(process * 8, process * 8 + 8)
    share = NamedSharding(mesh, PartitionSpec("batch"))
    x0, a = (jax.make_array_from_process_local_data(share, leaf[mine]) for leaf in (x0, a))
    solution = jol.over_devices(root, mesh)(x0, a)
    rows = {shard.index[0].start or 0: np.asarray(shard.data) for shard in solution.x.addressable_shards}
    x = np.concatenate([rows[start] for start in sorted(rows)])

    words = bpe.count_words(TEXTS[process::2], bpe.splitter("gpt4"))
    tokenizer = bpe.train(bpe.sum_over_hosts(words), merges=60, progress=False)
    np.savez(f"{folder}/{process}.npz", x=x, merges=tokenizer.vocabulary.merges, counts=tokenizer.vocabulary.counts)
"""


def root(x0, a):
    return jol.root(lambda x, a: (x - a) ** 3 + x, x0, a, solver=jol.Broyden(rescue=False))


def problems():
    return np.zeros((16, 3)), np.random.default_rng(0).normal(size=(16, 3))


def test_two_hosts_give_the_bits_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, "-c", textwrap.dedent(HOST)]
    env = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[1])}
    hosts = [
        subprocess.Popen([*command, str(k), str(tmp_path), address], env=env, stderr=subprocess.PIPE, text=True)
        for k in range(2)
    ]
    try:
        for host in hosts:
            _, errors = host.communicate(timeout=600)
            assert host.returncode == 0, errors
    finally:
        for host in hosts:
            host.kill()
    found = [np.load(tmp_path / f"{k}.npz") for k in range(2)]

    alone = root(*map(jnp.asarray, problems()))
    np.testing.assert_array_equal(np.concatenate([host["x"] for host in found]), alone.x)
    tokenizer = bpe.train(TEXTS, merges=60, pattern="gpt4", progress=False)
    for host in found:
        np.testing.assert_array_equal(host["merges"], tokenizer.vocabulary.merges)
        np.testing.assert_array_equal(host["counts"], tokenizer.vocabulary.counts)


def test_one_process_sums_nothing():
    counts = {"b": 2, "a": 1}
    assert jax.process_count() == 1
    assert list(bpe.sum_over_hosts(counts).items()) == [("a", 1), ("b", 2)]
