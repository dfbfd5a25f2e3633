"""Training very many specialists at once, beside peers on the same objective: `TASKS PARAMETERS SEED OUT`.

Each specialist is a shift of the output bias and a scale of the hidden activations of one small classifier, fitted to
examples of its own with a prior. The objective is convex, so that all solvers have one answer. A fit is *solved* when
its loss, in float64 and apart from any solver, is within 1e-3 of the best that anyone found.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.scipy.optimize
import numpy as np
import optax
import optimistix as optx
import scipy.optimize

import jaxopt_lite as jol

_CLASSES, _EXAMPLES, _PRIOR = 16, 32, 1.0
_CLOSE = 1e-3  # of the loss
_LOOP = 100  # problems for the loop over SciPy; its time is scaled up to all
_ADAM_STEPS = 300
_MAX_STEPS = 200
_REPEATS = 3


def problems(tasks: int, parameters: int, seed: int):
    """Hidden activations and labels of each task, and the shared output layer, for so many parameters."""
    draw = np.random.default_rng(seed)
    hidden = parameters - _CLASSES
    out = (draw.normal(size=(hidden, _CLASSES)) / np.sqrt(hidden)).astype(np.float32)
    h = np.tanh(draw.normal(size=(tasks, _EXAMPLES, hidden))).astype(np.float32)
    scale, shift = draw.normal(size=(tasks, 1, hidden)), draw.normal(size=(tasks, 1, _CLASSES))
    logits = (h * (1 + scale)) @ out + shift + draw.gumbel(size=(tasks, _EXAMPLES, _CLASSES))
    return out, h, logits.argmax(axis=-1).astype(np.int32)


def objective(out, a, data):
    """The mean cross-entropy with the prior, for one task; `a` is scale and shift in one row."""
    h, y = data
    scale, shift = a[: h.shape[1]], a[h.shape[1] :]
    logits = (h * (1 + scale)) @ out + shift
    own = jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - own) + _PRIOR / 2 * jnp.sum(a**2) / len(y)


def solvers(f: Callable, size: int) -> dict[str, tuple[Callable, bool]]:
    """Every solver as `(starts, data) -> answers`, and whether it is this library."""
    settings = jol.BFGS() if size <= 128 else jol.LBFGS()

    def ours(a, data):
        return jol.minimize(f, a, data, solver=settings).x

    def scipy_like(a, data):
        return jax.scipy.optimize.minimize(lambda a: f(a, data), a, method="BFGS", options={"maxiter": _MAX_STEPS}).x

    def optimistix(a, data):
        return optx.minimise(f, optx.BFGS(rtol=1e-4, atol=1e-5), a, data, max_steps=_MAX_STEPS, throw=False).value

    def adam(a, data):
        rule = optax.adam(optax.cosine_decay_schedule(0.1, _ADAM_STEPS))

        def step(_, carry):
            a, state = carry
            changes, state = rule.update(jax.grad(f)(a, data), state)
            return optax.apply_updates(a, changes), state

        return jax.lax.fori_loop(0, _ADAM_STEPS, step, (a, rule.init(a)))[0]

    entries = {type(settings).__name__: (jax.jit(ours), True)}
    peers = {"jax.scipy BFGS, vmapped": scipy_like, "optimistix BFGS, vmapped": optimistix}
    peers["optax Adam, vmapped"] = adam
    return entries | {name: (jax.jit(jax.vmap(solve)), False) for name, solve in peers.items()}


def scipy_loop(f: Callable, starts, data) -> np.ndarray:
    """SciPy's L-BFGS on one problem after the other."""
    value_and_grad = jax.jit(jax.value_and_grad(f))

    def one(k: int):
        mine = jax.tree.map(lambda leaf: leaf[k], data)

        def fun(a):
            value, grad = value_and_grad(a.astype(np.float32), mine)
            return float(value), np.asarray(grad, np.float64)

        return scipy.optimize.minimize(fun, starts[k], jac=True, method="L-BFGS-B").x

    return np.stack([one(k) for k in range(len(starts))])


def race(tasks: int, parameters: int, seed: int) -> list[dict]:
    """The rows: first calls, then repeats in turn, then the judge."""
    out, *data = map(jnp.asarray, problems(tasks, parameters, seed))
    f = partial(objective, out)
    starts = jnp.zeros((tasks, parameters), jnp.float32)
    few = min(tasks, _LOOP)
    entries = solvers(lambda a, data: f(a, data), parameters)
    loop = partial(scipy_loop, f, np.zeros((few, parameters)), jax.tree.map(lambda leaf: leaf[:few], data))
    calls = {name: partial(solve, starts, data) for name, (solve, _) in entries.items()} | {
        "SciPy L-BFGS, a loop": loop
    }
    answers, first = {}, {}
    for name, call in calls.items():
        first[name], answers[name] = timed(call)
    seconds = {name: [] for name in calls}
    for _ in range(_REPEATS):
        for name, call in calls.items():
            seconds[name].append(timed(call)[0])
    losses = {name: judged(out, answer, data) for name, answer in answers.items()}
    best = np.min([loss for loss in losses.values() if len(loss) == tasks], axis=0)
    rows = []
    for name in calls:
        count, run = len(losses[name]), statistics.median(seconds[name])
        solved = float(np.mean(losses[name] <= best[:count] * (1 + _CLOSE)))
        rows.append(
            {
                "solver": name, "is_ours": name in entries and entries[name][1], "tasks": tasks, "timed": count,
                "parameters": parameters, "seed": seed, "first_call_s": first[name], "run_s": run * tasks / count,
                "solved": solved, "solved_per_second": solved * count / run, "mean_loss": float(losses[name].mean()),
            }
        )  # fmt: skip
    peers = max(row["solved_per_second"] for row in rows if not row["is_ours"])
    return [row | {"times_best_peer": row["solved_per_second"] / peers} for row in rows]


def timed(call: Callable) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    answer = np.asarray(call())
    return time.perf_counter() - start, answer


def judged(out, answers, data) -> np.ndarray:
    """The objective at each answer in float64, by NumPy."""
    h, y = (np.asarray(leaf)[: len(answers)] for leaf in data)
    a = np.asarray(answers, np.float64)
    scale, shift = a[:, : h.shape[2]], a[:, h.shape[2] :]
    losses = []
    for k in range(len(a)):
        logits = (h[k] * (1 + scale[k])) @ np.asarray(out, np.float64) + shift[k]
        top = logits.max(axis=1)
        nats = top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[np.arange(len(logits)), y[k]]
        losses.append(nats.mean() + _PRIOR / 2 * (a[k] ** 2).sum() / len(logits))
    return np.array(losses)


if __name__ == "__main__":
    tasks, parameters, seed, out = sys.argv[1:]
    Path(out).write_text(json.dumps(race(int(tasks), int(parameters), int(seed))))
