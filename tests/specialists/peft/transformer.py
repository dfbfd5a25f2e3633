"""A small transformer in JAX: that of GPT-2, whose layers are `Conv1D` in PyTorch, and of GPT-Neo, with `Linear`."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lite.specialists import Base, TorchNames
from jaxopt_lite.specialists.leaves import leaf_names

HEADS = 2
WORDS = {"weight": "kernel", "ln_1.weight": "scale", "ln_2.weight": "scale", "ln_f.weight": "scale"}
WORDS |= {"wte.weight": "embedding", "wpe.weight": "embedding"}


def norm(p, x):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def dense(p, x):
    y = x @ p["kernel"]
    return y + p["bias"] if "bias" in p else y


def attention(p, x):
    """Causal; that of GPT-Neo does not divide by the root of the width."""
    if "c_attn" in p:
        q, k, v = jnp.split(dense(p["c_attn"], x), 3, axis=-1)
        q, last = q / np.sqrt(q.shape[-1] / HEADS), p["c_proj"]
    else:
        p = p["attention"]
        q, k, v = (dense(p[f"{name}_proj"], x) for name in "qkv")
        last = p["out_proj"]
    q, k, v = (each.reshape(len(x), HEADS, -1) for each in (q, k, v))
    scores = jnp.einsum("thd,shd->hts", q, k)
    scores = jnp.where(jnp.tril(jnp.ones(scores.shape[1:], bool)), scores, -jnp.inf)
    return dense(last, jnp.einsum("hts,shd->thd", jax.nn.softmax(scores), v).reshape(x.shape))


def apply(params, tokens):
    """The logits of one text."""
    p = params["transformer"]
    x = p["wte"]["embedding"][tokens] + p["wpe"]["embedding"][: len(tokens)]
    for name in sorted(p["h"]):
        block = p["h"][name]
        x = x + attention(block["attn"], norm(block["ln_1"], x))
        inner = jax.nn.gelu(dense(block["mlp"]["c_fc"], norm(block["ln_2"], x)), approximate=True)
        x = x + dense(block["mlp"]["c_proj"], inner)
    return dense(params["lm_head"], norm(p["ln_f"], x))


def leaf_of(name):
    """How the leaf for a parameter is called here."""
    module, _, last = name.rpartition(".")
    word = WORDS.get(f"{module.rpartition('.')[2]}.{last}", WORDS.get(last, last))
    return f"{module.replace('.', '/')}/{word}"


def is_turned(name, conv1d):
    """Whether PyTorch's matrix is the transpose of the one here."""
    return leaf_of(name).endswith("kernel") and not any(f".{module}." in name for module in conv1d)


def base_of(state, conv1d):
    """The base with the weights of a PyTorch model, as NumPy arrays by name, and the names."""
    params = {}
    for name, array in state.items():
        *keys, last = leaf_of(name).split("/")
        place = params
        for key in keys:
            place = place.setdefault(key, {})
        place[last] = jnp.asarray(array.T if is_turned(name, conv1d) else array)
    base = Base(params, apply, name="transformer")
    assert sorted(leaf_names(base.params)) == sorted(map(leaf_of, state))
    return base, TorchNames({leaf_of(name): name for name in state}, conv1d=conv1d)
