"""A user's mistakes, each in a line that says so: type checkers must find them there, and nowhere else.

A line that ends in `# wrong` is one that every checker finds; `# wrong: pyright` one that others may overlook.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

import jaxopt_lite as jol
from jaxopt_lite import bpe, plots
from jaxopt_lite import specialists as sp

x0, a = np.zeros((4, 2)), jnp.arange(4.0)


def fun(x, a):
    return a * jnp.sum(x**2)


jol.minimize(3, x0, a)  # wrong
jol.minimize(fun)  # wrong
jol.minimize(fun, x0, a, solver="bfgs")  # wrong
jol.minimize(fun, x0, a, solver=jol.BFGS)  # wrong
jol.minimize(fun, x0, a, solver=jol.Broyden())  # wrong
jol.minimize(fun, x0, a, tol=1e-6)  # wrong
jol.minimize(fun, x0, a, method="BFGS")  # wrong
jol.minimize(fun, x0, a, backend="gpu")  # wrong
jol.minimize(fun, x0, a, bounds=(0.0,))  # wrong
jol.minimize(fun, x0, a, batched="no")  # wrong
jol.minimize(fun, x0, a, jol.BFGS())  # wrong
jol.root(fun, x0, a, solver=jol.BFGS())  # wrong
jol.root(fun, x0, a, bounds=(0, 1))  # wrong
jol.least_squares(fun, x0, a, loss="hubber")  # wrong
jol.least_squares(fun, x0, a, derivatives="fast")  # wrong
jol.least_squares(fun, x0, a, solver=jol.LBFGS())  # wrong
jol.fixed_point(fun, x0, a, solver=jol.BFGS())  # wrong
jol.multistart(fun, x0, a, solver=3)  # wrong
jol.explain(fun, x0, a)  # wrong
jol.explain(fun, x0, a, solver=jol.BFGS(), platform="metal")  # wrong
jol.BFGS(atol="small")  # wrong
jol.BFGS(maxiter=5)  # wrong
jol.LBFGS(memory="large")  # wrong
jol.BFGS().atol = 1e-3  # wrong
jol.rooot(fun, x0, a)  # wrong
jol.minimize(fun, x0, a).sucess  # wrong
jol.minimize(fun, x0, a).summary().shape  # wrong
jol.Status.CONVERGD  # wrong
jol.__version__ + 1  # wrong

tokenizer = bpe.train(["text"], 300)
bpe.train(["text"], "many")  # wrong
bpe.train(["text"], 300, level="chars")  # wrong
bpe.train(["text"], 300, tie="first")  # wrong
bpe.train(["text"], 300, errors="lax")  # wrong
bpe.train(["text"], 300, extend="tokenizer.json")  # wrong
bpe.load(3)  # wrong
tokenizer.encode(3)  # wrong
tokenizer.encode("text", special="skip")  # wrong
plots.tokens(tokenizer, "text", special="skip")  # wrong
tokenizer.encode("text").shape  # wrong
tokenizer.encode_batch("text", length="long")  # wrong
tokenizer.decode("text")  # wrong
tokenizer.decode([1], errors="lax")  # wrong
tokenizer.encode_batch(["text"], length=4, overflow="cut")  # wrong
tokenizer.save(Path("t.json"), "gguf")  # wrong

base = sp.Base({"w": jnp.ones(2)}, lambda params, x: params["w"] @ x)
tasks = {"one": (np.ones((3, 2)), np.ones(3))}
sp.Base({"w": jnp.ones(2)}, 3)  # wrong
sp.Shift(3)  # wrong
sp.fit(base, "lora", tasks, fun)  # wrong
sp.fit(base, sp.Shift("w"), [tasks], fun)  # wrong
sp.fit(base, sp.Shift("w"), tasks, fun, solver=jol.Broyden())  # wrong
library = sp.fit(base, sp.Shift("w"), tasks, fun)
library.apply(x0)  # wrong
library.nmaes  # wrong
sp.save(library)  # wrong
