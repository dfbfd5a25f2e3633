"""Small bases and libraries for the tests of what is stored; no fit is needed."""

import os
import threading
from functools import cache

import jax
import numpy as np

from jaxopt_lite import bpe
from jaxopt_lite.specialists import IA3, Adapter, Base, Card, Library, LoRA, Profile, Shift

ADAPTER = IA3("hidden") + Shift("bias")
FEATURES = 3


def apply(params, x):
    return x @ params["hidden"] + params["bias"]


@cache
def base_of(dtype: str = "float32", seed: int = 0, tokenizer: bool = False, name: str = "base") -> Base:
    """A base of a matrix and a bias."""
    numbers = np.random.default_rng(seed)
    params = jax.device_put({"hidden": numbers.normal(size=(3, 4)).astype(dtype), "bias": np.zeros(4, dtype)})
    words = bpe.train(["one two two"], vocab_size=257) if tokenizer else None
    return Base(params, apply, tokenizer=words, name=name)


def library_of(*names: str, base: Base | None = None, adapter: Adapter = ADAPTER, seed: int = 0) -> Library:
    """Specialists with numbers of their own: the same name and seed is the same specialist."""
    base = base or base_of()
    dtype = base.params["bias"].dtype
    identity = jax.tree.map(np.asarray, adapter.identity(base.params))

    def one(name: str):
        numbers = np.random.default_rng([seed, *name.encode("utf-8", "surrogatepass")])
        draw = lambda leaf: numbers.normal(size=np.shape(leaf)).astype(dtype)
        vector = np.zeros(FEATURES)
        profile = Profile(draw(0.0), draw(vector), jax.tree.map(draw, identity), draw(vector))
        return {"parameters": jax.tree.map(draw, identity), "profile": profile}

    rows = [one(name) for name in names]
    if rows:
        whole = jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *rows))
    else:
        whole = jax.device_put(jax.tree.map(lambda leaf: np.zeros((0, *np.shape(leaf)), dtype), one("")))
    cards = tuple(card_of(name) for name in names)
    return Library(base, whole["parameters"], whole["profile"], adapter, cards)


def card_of(name: str) -> Card:
    return Card(name, 7, 0.1, "CONVERGED", ("parent", "other"), "mean of two", "Ada", "MIT", 'any "text"\n – ü')


def lora() -> Adapter:
    return LoRA("hidden", rank=2, alpha=3.0) + Shift("bias")


def assert_same(one: Library, other: Library) -> None:
    """Equal to the bit, cards too."""
    assert repr(one.cards) == repr(other.cards)  # NaN is not equal to itself
    assert one.adapter == other.adapter and one.ids == other.ids
    leaves, others = (jax.tree.leaves_with_path((each.parameters, each.profile)) for each in (one, other))
    assert [path for path, _ in leaves] == [path for path, _ in others]
    for (_, a), (_, b) in zip(leaves, others, strict=True):
        assert isinstance(b, jax.Array) and a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


class PowerCut(OSError):
    """What a step that changes the disk meets, once the power is cut."""


def cut_power(monkeypatch, after: int) -> list[str]:
    """From the given call on that changes the disk, none works."""
    calls: list[str] = []
    lock = threading.Lock()

    def wrap(owner, name, real):
        def call(*args, **kwargs):
            with lock:
                calls.append(name)
                if len(calls) > after:
                    raise PowerCut(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call, raising=False)

    for owner, name in [(os, name) for name in ("mkdir", "replace", "rename", "fsync", "unlink", "rmdir")]:
        wrap(owner, name, getattr(owner, name))
    return calls
