"""A user's program without a mistake: no type checker may find one. `test_typing.py` reads it; nothing runs it."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lite as jol
from jaxopt_lite import bounds, bpe, plots
from jaxopt_lite import specialists as sp


def valley(x: jax.Array, a: jax.Array) -> jax.Array:
    return a * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def system(x: dict[str, jax.Array], a: jax.Array) -> dict[str, jax.Array]:
    return {"u": x["u"] ** 2 - a, "v": x["v"] - x["u"]}


def misfit(b: jax.Array, y: jax.Array) -> jax.Array:
    return b[0] * jnp.exp(-b[1] * jnp.arange(5.0)) - y


def solve() -> float:
    starts, steepness = np.zeros((4, 2)), jnp.arange(1.0, 5.0)
    solution: jol.Solution = jol.minimize(valley, starts, steepness)
    jol.minimize(valley, starts, 3.0, args_axes=None, solver=jol.LBFGS(memory=5, atol=1e-8, max_steps=50))
    jol.minimize(valley, starts, steepness, bounds=(0, None), backend="loop", record=3, keep_state=True)
    jol.minimize(valley, starts, steepness, bounds=[np.zeros(2), np.ones(2)], solver=jol.BFGS(rescue=True))
    root = jol.root(system, {"u": jnp.ones(4), "v": jnp.ones(4)}, steepness, solver=jol.Broyden(rtol=1e-3))
    jol.root(system, {"u": jnp.ones(4), "v": jnp.ones(4)}, steepness, solver=jol.LimitedBroyden(), batched=False)
    jol.fixed_point(lambda x, a: a * jnp.cos(x), jnp.ones((4, 1)), 0.5, args_axes=None)
    fits = jol.least_squares(misfit, starts, jnp.ones((4, 5)), loss="huber", f_scale=0.1, derivatives="gauss-newton")
    jol.least_squares(misfit, starts, jnp.ones((4, 5)), solver=jol.LevenbergMarquardt(atol=1e-6))
    errors: jol.Covariance = fits.covariance()
    best = jol.multistart(valley, np.zeros((4, 8, 2)), steepness, bounds=(-1.0, 1.0), solver=jol.BFGS())
    certificate: jol.MinimumCertificate = jol.certify_minimum(valley, best.x, steepness)
    jol.certify_root(system, root.x, steepness)
    jol.check_derivatives(valley, starts, steepness)
    explanation: jol.Explanation = jol.explain(valley, starts, steepness, solver=jol.BFGS(), platform="gpu")
    status = jol.Status(int(np.asarray(solution.status)[0]))
    text: str = solution.summary() + str(explanation) + status.name + jol.__version__
    share: float = float(jnp.mean(certificate.valid)) + float(np.mean(solution.success)) + len(text)
    return share + float(errors.standard_errors[0, 0])


def encode(folder: Path) -> list[int]:
    tokenizer: bpe.Tokenizer = bpe.train(folder, 300, level="char", tie="sentencepiece", special_tokens=["<end>"])
    bpe.train(["some text"], merges=10, extend=tokenizer, errors="surrogateescape", checkpoint="run.part")
    tokenizer.save(folder / "tokenizer.json", "huggingface")
    again = bpe.load(str(folder / "tokenizer.json"))
    pieces: tuple[str, ...] = plots.tokens(again, "text", special="ignore").pieces
    plots.rounds(tokenizer, ax=plots.compression(tokenizer, {"of one kind": pieces, "of another": "text"}))
    ids, spans = again.encode("a text", return_offsets=True)
    rows = again.encode_batch(["one", "two"], special="ignore")
    padded = again.encode_batch(["one", "two"], length=4, pad=0, overflow="report")
    words: str = again.decode(ids) + again.decode(padded[0])
    return ids + rows[0] + [len(words), len(spans), again.token_to_id("a") or 0]


def specialize(folder: Path) -> str:
    base = sp.Base({"w": jnp.ones(2)}, lambda params, x: params["w"] @ x, features=lambda params, x: x)
    tasks: dict[str, Any] = {"one": (np.ones((3, 2)), np.ones(3)), "two": sp.Task(np.ones((3, 2)), np.zeros(3))}
    loss = lambda out, y: (out - y) ** 2
    library: sp.Library = sp.fit(base, sp.IA3("w"), tasks, loss, prior=2.0, solver=jol.BFGS(), progress=False)
    sp.save(library, folder)
    router = sp.LDA.of(library, sp.calibrate(base, tasks))
    outputs = sp.load(folder, base).apply(np.ones((2, 2)), router(base.embed(np.ones((2, 2)))))
    report = sp.evaluate(library, router, tasks, loss)
    print(report.routing.accuracy, report["oracle"].loss, library.names, outputs)
    return report.summary()


def check() -> None:
    for access in bounds.find_unchecked(lambda x, i: x[i], jnp.ones(3), 1):
        print(access)
    print(bounds.checked(lambda x, i: x[i])(jnp.ones(3), 1))
