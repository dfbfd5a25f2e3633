"""Training very many specialists at once, beside peers on the same objective: `TASKS PARAMETERS SEED WHO OUT`.

Each specialist is a shift of the output bias and a scale of the hidden activations of one small classifier, fitted with
a prior to examples of its own. The objective is convex, so all solvers have one answer. A fit is *solved* when its
loss, evaluated independently in float64, is within 1e-3 of the best that any found. This library takes part with
`specialists.fit`, which makes a whole library, and with the solve alone; both say which fits they verified. WHO is
`all`, or `cores`: this library alone, with each core a device of its own. Peers use cores as XLA does by default.
"""

import json
import statistics
import sys
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
from benchmarks.timing import timed
from jaxopt_lite.specialists import IA3, Base, Shift, fit

_CLASSES, _EXAMPLES, _PRIOR = 16, 32, 1.0
_CLOSE = 1e-3  # relative to the loss
_SCIPY, _LOOP = "SciPy L-BFGS, a loop", 100  # it gets this many problems, once; its time is scaled up to all
_ADAM = [(0.1, 300), (0.1, 100), (0.3, 100), (0.3, 50)]  # the first learning rate, and steps
_FEW = {
    32: 1000,
    300: 200,
}  # parameters: problems, at most, of the vmapped peers, which would otherwise take minutes
_MAX_STEPS = 200
_REPEATS = 3


def problems(tasks: int, parameters: int, seed: int):
    """Hidden activations and labels of each task, and the shared output layer, for a number of parameters."""
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


Answer = tuple[np.ndarray, float | None]  # the parameters, and the share of fits that the solver itself verified


def ours(f: Callable, out, starts, data) -> dict[str, Callable[[], Answer]]:
    """This library, on all devices: all of `fit`, and the solve by itself."""
    tasks, size = starts.shape
    hidden = size - _CLASSES
    base = Base(
        {"out": {"w": out, "b": jnp.zeros(_CLASSES)}}, lambda params, h: h @ params["out"]["w"] + params["out"]["b"]
    )
    adapter = IA3("out/w", axis=0) + Shift("out/b")
    named = {str(k): (h, y) for k, (h, y) in enumerate(zip(*map(np.asarray, data), strict=True))}
    solver = jol.BFGS() if size <= 128 else jol.LBFGS()
    solve = jol.over_devices(lambda a, data: jol.minimize(f, a, data, solver=solver))
    where = f", {jax.device_count()} devices" * (jax.device_count() > 1)

    def whole():
        library = fit(base, adapter, named, cross_entropy, prior=_PRIOR, progress=False)
        rows = np.concatenate([library.parameters["scale:out/w"], library.parameters["shift:out/b"]], axis=1)
        assert rows.shape == (tasks, hidden + _CLASSES)
        return rows, float(np.mean([card.solved for card in library.cards]))

    def bare():
        solution = solve(starts, data)
        return np.asarray(solution.x), float(np.mean(solution.success))

    return {f"jaxopt_lite.specialists.fit{where}": whole, f"jaxopt_lite {type(solver).__name__}{where}": bare}


def peers(f: Callable, starts, data) -> dict[str, Callable[[], Answer]]:
    """The peers in JAX, vmapped and jitted."""

    def scipy_like(a, data):
        found = jax.scipy.optimize.minimize(lambda a: f(a, data), a, method="BFGS", options={"maxiter": _MAX_STEPS})
        return found.x, found.success

    def optimistix(a, data):
        found = optx.minimise(f, optx.BFGS(rtol=1e-4, atol=1e-5), a, data, max_steps=_MAX_STEPS, throw=False)
        return found.value, found.result == optx.RESULTS.successful

    def adam(rate, steps, a, data):
        rule = optax.adam(optax.cosine_decay_schedule(rate, steps))

        def step(_, carry):
            a, state = carry
            changes, state = rule.update(jax.grad(f)(a, data), state)
            return optax.apply_updates(a, changes), state

        return jax.lax.fori_loop(0, steps, step, (a, rule.init(a)))[0], None

    entries = {"jax.scipy BFGS, vmapped": scipy_like, "optimistix BFGS, vmapped": optimistix}
    entries |= {f"optax Adam {rate} x {steps}, vmapped": partial(adam, rate, steps) for rate, steps in _ADAM}

    def call(solve):
        run = jax.jit(jax.vmap(solve))

        def answer():
            x, success = run(starts, data)
            return np.asarray(x), None if success is None else float(np.mean(success))

        return answer

    return {name: call(solve) for name, solve in entries.items()}


def cross_entropy(logits, y):
    return jax.nn.logsumexp(logits) - logits[y]


def scipy_loop(f: Callable, starts, data) -> Answer:
    """SciPy's L-BFGS on one problem after the other."""
    value_and_grad = jax.jit(jax.value_and_grad(f))

    def one(k: int):
        mine = jax.tree.map(lambda leaf: leaf[k], data)

        def fun(a):
            value, grad = value_and_grad(a.astype(np.float32), mine)
            return float(value), np.asarray(grad, np.float64)

        return scipy.optimize.minimize(fun, starts[k], jac=True, method="L-BFGS-B")

    found = [one(k) for k in range(len(starts))]
    return np.stack([each.x for each in found]), float(np.mean([each.success for each in found]))


def race(tasks: int, parameters: int, seed: int, with_peers: bool) -> list[dict]:
    """The rows: first calls, then repeats in turn, then the judge."""
    out, *data = map(jnp.asarray, problems(tasks, parameters, seed))
    f = partial(objective, out)
    starts = jnp.zeros((tasks, parameters), jnp.float32)
    few = min(tasks, _LOOP)
    mine = ours(f, out, starts, data)
    loop = partial(scipy_loop, f, np.zeros((few, parameters)), jax.tree.map(lambda leaf: leaf[:few], data))
    most = min(tasks, _FEW[parameters])
    theirs = peers(f, starts[:most], jax.tree.map(lambda leaf: leaf[:most], data))
    calls = mine | (theirs | {_SCIPY: loop} if with_peers else {})
    answers, verified, first = {}, {}, {}
    for name, call in calls.items():
        first[name], (answers[name], verified[name]) = timed(call)
    seconds = {name: [] for name in calls}
    for repeat in range(_REPEATS):
        for name, call in calls.items():
            if name != _SCIPY or not repeat:
                seconds[name].append(timed(call)[0])
    losses = {name: judged(out, answer, data) for name, answer in answers.items()}
    best = np.full(tasks, np.inf)
    for loss in losses.values():
        best[: len(loss)] = np.minimum(best[: len(loss)], loss)
    rows = []
    for name in calls:
        count, run = len(losses[name]), statistics.median(seconds[name])
        solved = float(np.mean(losses[name] <= best[:count] * (1 + _CLOSE)))
        rows.append(
            {
                "solver": name, "is_ours": name in mine, "tasks": tasks, "timed": count,
                "parameters": parameters, "seed": seed, "first_call_s": first[name], "run_s": run * tasks / count,
                "solved": solved, "verified": verified[name], "solved_per_second": solved * count / run,
                "mean_loss": float(losses[name].mean()),
            }
        )  # fmt: skip
    return rows


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
    tasks, parameters, seed, who, out = sys.argv[1:]
    if who == "cores":
        jol.use_cpu_cores()
    Path(out).write_text(json.dumps(race(int(tasks), int(parameters), int(seed), who == "all")))
