"""One of each, by an installed package: `tests/test_packaging.py` runs it in environments that hold nothing else."""

import subprocess
import sysconfig
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lite as jol
from jaxopt_lite import bpe
from jaxopt_lite import specialists as sp


def solve() -> None:
    minimum = jol.minimize(lambda x, a: jnp.sum((x - a) ** 2), np.zeros((5, 2)), np.arange(5.0))
    root = jol.root(lambda x, a: x**2 - a, np.ones((5, 1)), np.arange(1.0, 6.0))
    assert minimum.success.all() and root.success.all()
    assert np.allclose(root.x[:, 0], np.sqrt(np.arange(1.0, 6.0)), atol=1e-4)


def fit_curves() -> None:
    times = jnp.linspace(0.0, 4.0, 20)
    rates = np.array([[0.5], [1.0]])
    fits = jol.least_squares(
        lambda b, y: b[0] * jnp.exp(-b[1] * times) - y, np.ones((2, 2)), 3 * np.exp(-rates * times)
    )
    assert fits.success.all() and np.allclose(fits.x[:, 1], rates[:, 0], atol=1e-3)


def encode() -> None:
    tokenizer = bpe.train(["to be or not to be"] * 10, 262, progress=False)
    assert tokenizer.decode(tokenizer.encode("not to be")) == "not to be" and tokenizer.vocab_size == 262


def specialize() -> None:
    base = sp.Base({"b": jnp.zeros(())}, lambda params, x: x[0] + params["b"], features=lambda params, x: x)
    x = np.arange(6.0).reshape(6, 1)
    tasks = {"up": (x, x[:, 0] + 1), "down": (x, x[:, 0] - 1)}
    library = sp.fit(base, sp.Shift("b"), tasks, lambda out, y: (out - y) ** 2, progress=False)
    assert all(card.solved for card in library.cards)
    up, down = np.asarray(library.apply(x[:2], np.array([0, 1]))) - x[:2, 0]
    assert up > 0.5 and down < -0.5


def call(*words: str) -> str:
    script = Path(sysconfig.get_path("scripts"), "jaxopt-lite")
    return subprocess.run([script, *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    for each in (solve, fit_curves, encode, specialize):
        each()
    assert call("--version") == f"jaxopt_lite {jol.__version__}\n"
    assert "It works" in call("doctor")
    print(f"jaxopt_lite {jol.__version__}, JAX {jax.__version__}, NumPy {version('numpy')}: all well")
