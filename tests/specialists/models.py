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
    rng = np.random.default_rng(0)
    draw = lambda *shape: jax.device_put((rng.normal(size=shape) / np.sqrt(shape[0])).astype(dtype))
    return {
        "hidden": {"w": draw(WIDTH, HIDDEN), "b": draw(HIDDEN)},
        "out": {"w": draw(HIDDEN, CLASSES), "b": draw(CLASSES)},
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
    rng = np.random.default_rng(seed)
    return {
        name: jax.device_put((np.asarray(leaf) + scale * rng.normal(size=leaf.shape)).astype(leaf.dtype))
        for name, leaf in adapter.identity(params).items()
    }
