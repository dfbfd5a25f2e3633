"""Small models and libraries for the tests."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lite.specialists import Adapter, Base, Card, Library, Profile
from jaxopt_lite.specialists.adapters import as_adapter


def network(params, x):
    """Two layers."""
    return jnp.tanh(x @ params["hidden"] + params["bias"]) @ params["out"]


def small_base(dtype=np.float64) -> Base:
    """Four inputs, six hidden units, three outputs."""
    rng = np.random.default_rng(0)
    shapes = {"bias": (6,), "hidden": (4, 6), "out": (6, 3)}
    params = {name: jax.device_put(rng.normal(size=shape).astype(dtype)) for name, shape in shapes.items()}
    return Base(params, network, features=lambda params, x: x)


def random_library(base: Base, adapter, names: str, seed: int = 1, whole: bool = False) -> Library:
    """Specialists nobody fitted, one for each letter; of small whole numbers, so that many are equal, if `whole`."""
    adapter = as_adapter(adapter)
    rng = np.random.default_rng(seed)

    def draw(leaf):
        values = rng.normal(size=(len(names), *leaf.shape))
        return (np.round(2 * values) if whole else values).astype(leaf.dtype)

    identity = adapter.identity(base.params)
    parameters = jax.tree.map(draw, identity)
    fisher = jax.tree.map(lambda leaf: draw(leaf) ** 2, identity)
    parameters, fisher = jax.device_put((parameters, fisher))
    return library_of(base, adapter, names, parameters, fisher)


def library_of(base: Base, adapter: Adapter, names: str, parameters, fisher=None) -> Library:
    """A library with these parameters."""
    fisher = jax.device_put(jax.tree.map(np.zeros_like, parameters)) if fisher is None else fisher
    features = np.arange(4.0 * len(names)).reshape(-1, 4)[:, : 4 if base.features else 0]
    count, features, gate = jax.device_put((1.0 + np.arange(len(names)), features, np.zeros_like(features)))
    profile = Profile(count, features, fisher, gate)
    cards = tuple(Card(name, examples=place + 1) for place, name in enumerate(names))
    return Library(base, parameters, profile, adapter, cards)


def products(f, *args) -> list[str]:
    """The products of matrices in a function, as the compiler gets them."""
    text = jax.jit(f).lower(*args).as_text()
    return [line for line in text.splitlines() if "dot_general" in line]
