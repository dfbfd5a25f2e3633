"""Sums over many examples lose no terms, in any dtype."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists.sums import weighted_mean, weighted_sum


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_many_numbers_of_half_precision_are_summed_in_float32(kind):
    """The sum of the weights is no number in float16, and in bfloat16 one value adds nothing to many others."""
    weight = np.full(100_000, 2, np.float32)
    values = np.linspace(0, 1, len(weight), dtype=np.float32)
    half = lambda x: jnp.stack([x, x / 1000]).astype(kind)
    mean = weighted_mean(half, values, weight)
    assert mean.dtype == kind
    np.testing.assert_allclose(np.asarray(mean, float), [0.5, 0.0005], rtol=5e-3)
    total = weighted_sum(half, values, weight)
    np.testing.assert_allclose(np.asarray(total, float)[1], 100, rtol=5e-3)
