"""A mixed batch for many specialists in one call, beside loops over them, for large and small inputs."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lite.specialists import IA3, Adapter, Base, Card, Library, Profile, Shift, language_model

_HIDDEN, _FEATURES, _CLASSES = 32, 64, 10  # of the classifier


class _Case(NamedTuple):
    """A base with its adapter, and inputs."""

    name: str
    base: Base
    adapter: Adapter
    x: jax.Array


def race(seed: int, small: bool) -> list[dict]:
    """The seconds of one call and of loops, for windows of text of three sizes and for a classifier."""
    count = 50 if small else 1000
    draw = np.random.default_rng(seed)
    return [_served(case, count, draw) for case in _cases(count, draw, seed)]


def _cases(batch: int, draw: np.random.Generator, seed: int) -> list[_Case]:
    text = "all that matters here is the shapes" * 9
    model = language_model(text, steps=1, seed=seed, progress=False)
    adapter = IA3("out/w", axis=0) + Shift("hidden/b") + Shift("out/b")
    texts = [jnp.asarray(draw.integers(0, 256, (batch, length), np.int32)) for length in (64, 8, 4)]
    cases = [_Case(f"language model, windows of {x.shape[1]}", model, adapter, x) for x in texts]
    x = jnp.asarray(draw.normal(size=(batch, _FEATURES)), jnp.float32)
    return [*cases, _Case("classifier", _classifier(draw), IA3("second") + Shift("bias"), x)]


def _classifier(draw: np.random.Generator) -> Base:
    params = {
        "first": draw.normal(size=(_FEATURES, _HIDDEN)),
        "second": draw.normal(size=(_HIDDEN, _CLASSES)),
        "bias": np.zeros(_CLASSES),
    }
    params = {name: jnp.asarray(leaf, jnp.float32) for name, leaf in params.items()}
    return Base(params, lambda params, x: jnp.tanh(x @ params["first"]) @ params["second"] + params["bias"])


def _served(case: _Case, count: int, draw: np.random.Generator) -> dict:
    """The loop calls a compiled function of one specialist; *ready* has all parameters sliced beforehand."""
    base, adapter, x = case.base, case.adapter, case.x
    library = _library(base, adapter, count, draw)
    index = jnp.asarray(draw.permutation(np.arange(len(x)) % count))
    one = jax.jit(lambda a, x: base.apply(adapter.apply(base.params, a), x))

    def parameters(k: int):
        return jax.tree.map(lambda leaf: leaf[k], library.parameters)

    def loop():
        return [one(parameters(k), x[place]) for place, k in enumerate(index.tolist())]

    ready = [(parameters(k), x[place]) for place, k in enumerate(index.tolist())]
    alone = jax.jit(jax.vmap(base.apply, in_axes=(None, 0)))
    calls = {
        "together_s": lambda: library.apply(x, index),
        "base_s": lambda: alone(base.params, x),
        "loop_ready_s": lambda: [one(a, x) for a, x in ready],
        "loop_s": loop,
    }
    seconds = least_seconds(calls)
    apart = jnp.stack(loop())
    ratios = {name: seconds[f"{name}_s"] / seconds["together_s"] for name in ("loop_ready", "loop")}
    ratios = {f"{name}_times": ratio for name, ratio in ratios.items()}
    error = float(jnp.max(jnp.abs(library.apply(x, index) - apart)) / jnp.max(jnp.abs(apart)))
    return {"name": f"{case.name}: {len(x):,} inputs, {count:,} specialists"} | seconds | ratios | {"error": error}


def _library(base: Base, adapter: Adapter, count: int, draw: np.random.Generator) -> Library:
    """Specialists with random parameters."""
    parameters = {
        key: jnp.asarray(0.1 * draw.normal(size=(count, *leaf.shape)), leaf.dtype)
        for key, leaf in adapter.identity(base.params).items()
    }
    nothing = jnp.zeros((count, 1))
    profile = Profile(jnp.ones(count), nothing, parameters, nothing)
    return Library(base, parameters, profile, adapter, tuple(Card(f"specialist {k}") for k in range(count)))


def least_seconds(calls: dict[str, Callable], repeats: int = 7) -> dict[str, float]:
    """The least seconds of each call, over some runs in turn after the first."""
    times = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name] += [time.perf_counter() - start] if turn else []
    return {name: min(mine) for name, mine in times.items()}
