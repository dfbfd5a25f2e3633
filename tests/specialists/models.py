"""Small models and tasks that the tests of this room share."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lite.specialists import IA3, Base, LoRA, Shift, Task

WIDTH, HIDDEN, CLASSES = 5, 7, 3

ADAPTERS = {
    "ia3": IA3("hidden/w") + Shift("out/b"),
    "ia3 on activations": IA3("out/w", axis=0) + IA3("hidden/b"),
    "lora": LoRA("hidden/w", rank=2, alpha=3.0) + LoRA("out/w", rank=1, seed=1) + Shift("*/b"),
    "shift": Shift("out/w") + Shift("hidden/w"),
}


def params(dtype=jnp.float32):
    """A small perceptron."""
    keys = jax.random.split(jax.random.key(0), 4)
    draw = lambda key, *shape: jax.random.normal(key, shape, dtype) / np.sqrt(shape[0]).astype(dtype)
    return {
        "hidden": {"w": draw(keys[0], WIDTH, HIDDEN), "b": draw(keys[1], HIDDEN)},
        "out": {"w": draw(keys[2], HIDDEN, CLASSES), "b": draw(keys[3], CLASSES)},
    }


def apply(params, x):
    h = jnp.tanh(x @ params["hidden"]["w"] + params["hidden"]["b"])
    return h @ params["out"]["w"] + params["out"]["b"]


def cross_entropy(output, y):
    return jax.nn.logsumexp(output) - output[y]


def base(dtype=jnp.float32, name="perceptron"):
    return Base(params(dtype), apply, features=lambda params, x: x, name=name)


def tasks(count, sizes=(20,), seed=0, dtype=np.float32):
    """Classification tasks, each with its own true matrix and place in feature space."""
    rng = np.random.default_rng(seed)
    made = {}
    for t in range(count):
        center, truth = rng.normal(size=WIDTH), rng.normal(size=(WIDTH, CLASSES))
        x = (center + rng.normal(size=(sizes[t % len(sizes)], WIDTH))).astype(dtype)
        made[f"task {t}"] = Task(x, (x @ truth + 0.3 * rng.gumbel(size=(len(x), CLASSES))).argmax(1).astype(np.int32))
    return made


def moved(adapter, params, seed=1, scale=0.3):
    """Parameters of an adapter away from its identity."""
    a = adapter.identity(params)
    keys = jax.random.split(jax.random.key(seed), len(a))
    return {
        name: leaf + scale * jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, (name, leaf) in zip(keys, a.items(), strict=True)
    }
