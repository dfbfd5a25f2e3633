"""What is added up outside of the model is so at full precision, also where a device would round factors by default."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import (
    IA3,
    TIES,
    Base,
    Embeddings,
    LoRA,
    Mean,
    RegMean,
    Shift,
    TaskArithmetic,
    distances,
    linear_parameters,
)
from jaxopt_lite.specialists.mixing import _Mixture
from jaxopt_lite.specialists.sums import weighted_mean
from tests.specialists.small import products, random_library

EXACT = Base({"w": np.ones((4, 6))}, lambda params, x: jnp.matmul(x, params["w"], precision="highest"))
TASKS = {name: (np.eye(4), np.zeros(4)) for name in "ab"}
PARTS = [Shift("w"), IA3("w"), IA3("w", axis=0), LoRA("w", rank=2)]


def all_highest(f, *args) -> bool:
    found = products(f, *args)
    assert found
    return all("precision = [HIGHEST, HIGHEST]" in line for line in found)


def test_a_product_at_the_default_is_noticed():
    assert not all_highest(jnp.matmul, jnp.eye(3), jnp.eye(3))


@pytest.mark.parametrize("part", PARTS, ids=repr)
@pytest.mark.parametrize("method", [Mean(), TaskArithmetic(), RegMean(TASKS)], ids=lambda m: type(m).__name__)
def test_merges(method, part):
    weights = np.ones(2)
    merged = lambda library: method.combine(library, linear_parameters(library), weights)
    assert all_highest(merged, random_library(EXACT, part, "ab"))
    assert all_highest(lambda library: method.merged(library, weights), random_library(EXACT, part, "ab"))


def test_linear_forms_of_low_rank():
    assert all_highest(linear_parameters, random_library(EXACT, LoRA("w", rank=2), "ab"))
    ties = lambda library: TIES().combine(library, linear_parameters(library), jnp.ones(2))
    assert all_highest(ties, random_library(EXACT, LoRA("w", rank=2), "ab"))


def test_sums():
    assert all_highest(_Mixture.sum, {"w": np.ones((2, 3, 4))}, np.ones(2))
    assert all_highest(lambda x, weight: weighted_mean(jnp.sin, x, weight), jnp.ones((5, 3)), jnp.ones(5))


def test_distances():
    vectors = lambda v: distances(Embeddings(("a", "b"), v))
    assert all_highest(vectors, np.ones((2, 5)))
