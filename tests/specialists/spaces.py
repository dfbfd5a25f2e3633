"""A base whose inputs are their own features, libraries in it, and tasks that are normal clouds."""

import jax
import numpy as np

from jaxopt_lite.specialists import Adapter, Base, Card, Library, Profile, Shift


def plane(d: int, name: str = "plane", dtype=np.float32) -> Base:
    """The features of an input `[d]` are the input; the output is a number."""
    params = jax.device_put({"w": np.ones(d, dtype), "b": np.zeros((), dtype)})
    return Base(params, lambda params, x: params["w"] @ x + params["b"], lambda params, x: x, name=name)


def library_at(base: Base, mean, count=100.0, prefix: str = "t") -> Library:
    """Specialists with these mean features; number k adds k + 1 to the output."""
    mean = np.asarray(mean, base.params["w"].dtype)
    size = len(mean)
    shift = np.arange(1, size + 1, dtype=mean.dtype)
    count = np.broadcast_to(np.asarray(count, mean.dtype), (size,))
    count, mean, none, gate, shift = jax.device_put((count, mean, 0 * shift, np.zeros_like(mean), shift))
    profile = Profile(count, mean, {"shift:b": none}, gate)
    return Library(
        base, {"shift:b": shift}, profile, Adapter((Shift("b"),)), tuple(Card(f"{prefix}{k}") for k in range(size))
    )


def clouds(mean, count, seed: int = 0, mixing=None, dtype=np.float32):
    """`count` inputs of each task, `[T, count, d]`, normal around its mean with covariance `mixingᵀ mixing`."""
    mean = np.asarray(mean)
    noise = np.random.default_rng(seed).normal(size=(len(mean), count, mean.shape[1]))
    return (mean[:, None] + (noise if mixing is None else noise @ mixing)).astype(dtype)


def as_tasks(x, prefix: str = "t") -> dict:
    """Stacked inputs as tasks without an output to learn."""
    return {f"{prefix}{k}": (inputs, np.zeros(len(inputs), np.float32)) for k, inputs in enumerate(x)}
