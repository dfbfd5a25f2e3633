"""The kernels lower for accelerators that this machine need not have."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import export

from jaxopt_lite.bpe.device import Device
from jaxopt_lite.bpe.device_words import runs
from jaxopt_lite.bpe.pairs import count_pairs
from jaxopt_lite.bpe.rounds import Chosen, Table, apply, table

N, P, A, K, SIZE = 50, 200, 300, 8, 16


def spec(shape, dtype):
    return jax.ShapeDtypeStruct(shape, dtype)


INT, LONG = partial(spec, dtype=jnp.int32), partial(spec, dtype=jnp.int64)
LINKED = Table(*(INT((N + 1,)) for _ in range(4)), LONG((N + 1,)), LONG((P + 1,)), INT((A,)))
KERNELS = {
    "count pairs": (count_pairs, (INT((N,)), INT((N,)))),
    "count pairs of 16 bits": (count_pairs, (spec((N,), jnp.int16), INT((N,)))),
    "words": (
        partial(runs, is_whitespace=False, lines=True),
        (spec((64,), jnp.uint8), INT(())),
    ),
    "table": (
        lambda *words: table(Device, *words, P, A),
        (INT((N,)), spec((N,), jnp.bool_), LONG((N,))),
    ),
    "round": (
        lambda t, chosen, pairs, places: apply(Device, t, chosen, SIZE, pairs, places),
        (LINKED, Chosen(*(INT((K,)) for _ in range(6))), INT(()), INT(())),
    ),
}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_lowers_for_an_accelerator(name, platform):
    kernel, specs = KERNELS[name]
    exported = export.export(jax.jit(kernel), platforms=(platform,))(*specs)
    assert exported.platforms == (platform,)
    assert "sort" in exported.mlir_module()
