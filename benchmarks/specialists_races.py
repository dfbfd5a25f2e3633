"""The parts of `benchmarks.specialists`: `PART SEED SMALL OUT` in a process of its own; each writes its rows."""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.languages import FAMILIES, languages
from jaxopt_lite import bpe
from jaxopt_lite.demo.modules import modules, tasks
from jaxopt_lite.specialists import (
    IA3,
    Base,
    Card,
    Library,
    Shift,
    bits_per_byte,
    evaluate,
    fit,
    language_model,
    window_loss,
)
from jaxopt_lite.specialists.base import digest
from jaxopt_lite.specialists.report import Report
from jaxopt_lite.specialists.routers.calibration import calibrate
from jaxopt_lite.specialists.routers.lda import LDA
from jaxopt_lite.specialists.tasks import Task
from jaxopt_lite.specialists.windows import windows

_LENGTH = 64  # bytes of a window
_PRIOR = 30.0
_ADAPTER = IA3("out/w", axis=0) + Shift("hidden/b") + Shift("out/b")


# --- Languages ----------------------------------------------------------------------------------------------


def language_tasks(seed: int, small: bool) -> tuple[dict[str, Task], dict[str, Task], list[str]]:
    """Training and test windows of each language, and the texts; the seed draws which windows."""
    found = languages()[:: 8 if small else 1]
    most = 16 if small else 96
    draw = np.random.default_rng(seed)

    def some(texts: list[str], most: int) -> Task:
        whole = Task(*windows("\n".join(texts), length=_LENGTH))
        rows = np.sort(draw.permutation(len(whole.weight))[:most])
        return Task(whole.x[rows], whole.y[rows], whole.weight[rows])

    train = {language.code: some(language.train, most) for language in found}
    test = {language.code: some(language.test, most // 2) for language in found}
    return train, test, ["\n".join(language.train) for language in found]


def language_base(texts: list[str], seed: int, small: bool, hidden: int = 64) -> Base:
    return language_model(texts, hidden=hidden, steps=100 if small else 2000, seed=seed, progress=False)


def language_race(seed: int, small: bool) -> list[dict]:
    """Routing of short windows to the specialist of their language, beside all baselines; nearest neighbours."""
    train, test, texts = language_tasks(seed, small)
    base = language_base(texts, seed, small)
    start = time.perf_counter()
    library = fit(base, _ADAPTER, train, window_loss, prior=_PRIOR, progress=False)
    seconds = time.perf_counter() - start
    router = LDA.of(library, calibrate(base, train, fallback=0.0 if small else 0.01))
    joint = language_base(texts, seed + 1, small, _joint_width(base, library))
    report = evaluate(
        library,
        router,
        test,
        window_loss,
        train_tasks=train,
        joint=joint,
        unit=bits_per_byte(),
        prior=_PRIOR,
        seed=seed,
    )
    print(report)
    numbers = {"tasks": len(library), "fit_s": seconds} | numbers_of(report)
    numbers |= {"converged": float(np.mean([card.status == "CONVERGED" for card in library.cards]))}
    numbers |= {"tuned_kin": kin(library.names, flat(library)), "chance_kin": kin_by_chance(library.names)}
    numbers |= {"centroid_kin": kin(library.names, np.asarray(library.profile.mean - library.profile.mean.mean(0)))}
    return [*rows_of(report), {"name": "numbers"} | numbers]


def _joint_width(base: Base, library: Library) -> int:
    """The hidden width at which a model alone has the parameters of the base and all specialists."""
    width = base.params["hidden"]["b"].size
    each = sum(leaf.size for leaf in jax.tree.leaves((base.params["hidden"], base.params["out"]["w"]))) // width
    return width + len(library) * library.size // each


def flat(library: Library) -> np.ndarray:
    """The parameters of each specialist as one row."""
    return np.concatenate([np.asarray(leaf).reshape(len(library), -1) for leaf in library.parameters.values()], axis=1)


def families(names) -> np.ndarray:
    family = {code: family for family, codes in FAMILIES.items() for code in codes.split()}
    return np.array([family[name] for name in names])


def kin(names, vectors: np.ndarray) -> float:
    """How often the nearest by cosine is of the same family, of the languages that have kin here."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    own = families(names)
    has_kin = (own[:, None] == own).sum(axis=1) > 1
    return float(np.mean((own[near.argmax(axis=1)] == own)[has_kin])) if has_kin.any() else float("nan")


def kin_by_chance(names) -> float:
    own = families(names)
    others = (own[:, None] == own).sum(axis=1) - 1
    return float(np.mean(others[others > 0] / (len(own) - 1))) if (others > 0).any() else float("nan")


# --- Modules ------------------------------------------------------------------------------------------------


def module_race(seed: int, small: bool) -> list[dict]:
    """A specialist for each module of Python's standard library, beside all baselines, on held-out code."""
    found = modules()[:: 50 if small else 1]
    tokenizer = bpe.train([module.learned for module in found], 384, progress=False)
    train, test = tasks(found, tokenizer, 32, (8, 4) if small else (32, 8))
    base = language_model(
        [module.learned for module in found], tokenizer, steps=100 if small else 2000, embed=32, hidden=32, length=32,
        seed=seed, progress=False,
    )  # fmt: skip
    adapter = IA3("out/w", axis=0) + Shift("hidden/b")
    start = time.perf_counter()
    library = fit(base, adapter, train, window_loss, prior=_PRIOR, progress=False)
    seconds = time.perf_counter() - start
    router = LDA.of(library, calibrate(base, train, fallback=0.0 if small else 0.01))
    unit = bits_per_byte(tokenizer)
    report = evaluate(library, router, test, window_loss, train_tasks=train, unit=unit, prior=_PRIOR, seed=seed)
    print(report)
    return [*rows_of(report), {"name": "numbers", "tasks": len(library), "fit_s": seconds} | numbers_of(report)]


def rows_of(report: Report) -> list[dict]:
    return [{"name": row.name, report.unit: row.loss, "share": report.share(row.name)} for row in report.rows]


def numbers_of(report: Report) -> dict:
    return report.routing._asdict() | report.cost._asdict()


# --- Adding one ---------------------------------------------------------------------------------------------


def incremental(seed: int, small: bool) -> list[dict]:
    """Add one language to all others, against training the joint model again; and prove that nothing else moved."""
    train, _, texts = language_tasks(seed, small)
    base = language_base(texts[:-1], seed, small)
    *others, last = train
    library = fit(base, _ADAPTER, {name: train[name] for name in others}, window_loss, prior=_PRIOR, progress=False)
    before = digest({key: np.asarray(leaf) for key, leaf in library.parameters.items()}, *library.ids)
    router = LDA.of(library, geometry := calibrate(base, train, fallback=0.0))
    features = base.embed(np.concatenate([train[name].x for name in others]))
    scores = np.asarray(router.scores(features))
    add = partial(fit, base, _ADAPTER, {last: train[last]}, window_loss, prior=_PRIOR, progress=False)
    add()  # compiles
    start = time.perf_counter()
    added = library.add(add())
    seconds = time.perf_counter() - start
    kept = added[others]
    after = digest({key: np.asarray(leaf) for key, leaf in kept.parameters.items()}, *kept.ids)
    again = np.asarray(LDA.of(added, geometry).scores(features))[:, : len(others)]
    start = time.perf_counter()
    language_base(texts, seed, small, _joint_width(base, added))
    joint = time.perf_counter() - start
    return [
        {
            "name": f"{last} added to {len(others)}", "add_s": seconds, "joint_s": joint, "ratio": joint / seconds,
            "parameters_same": before == after, "scores_same": bool(np.array_equal(scores, again)),
        }
    ]  # fmt: skip


# --- Serving ------------------------------------------------------------------------------------------------


def serving(seed: int, small: bool) -> list[dict]:
    """A mixed batch over many specialists in one call, against a loop over them."""
    count, batch = (50, 100) if small else (1000, 1000)
    _, _, texts = language_tasks(seed, True)
    base = language_base(texts, seed, True)
    x = windows(texts, length=_LENGTH).x
    draw = np.random.default_rng(seed)
    x = jnp.asarray(x[draw.integers(0, len(x), batch)])
    library = fit(base, _ADAPTER, {"one": Task(x[:4], x[:4])}, window_loss, progress=False)
    parameters = {
        key: jnp.asarray(0.1 * draw.normal(size=(count, *leaf.shape[1:])), leaf.dtype)
        for key, leaf in library.parameters.items()
    }
    profile = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape[1:])), library.profile)
    cards = tuple(Card(f"specialist {k}") for k in range(count))
    library = Library(base, parameters, profile, _ADAPTER, cards)
    index = jnp.asarray(draw.permutation(np.arange(batch) % count))
    one = jax.jit(lambda a, x: base.apply(_ADAPTER.apply(base.params, a), x))
    rows = [(jax.tree.map(lambda leaf, k=int(k): leaf[k], parameters), x[i]) for i, k in enumerate(index)]

    def loop():
        return jnp.stack([one(a, x) for a, x in rows])

    together, apart = (seconds_of(call) for call in (lambda: library.apply(x, index), loop))
    error = float(jnp.max(jnp.abs(library.apply(x, index) - loop())))
    return [{"name": f"{batch} inputs, {count} specialists", "together_s": together, "loop_s": apart,
             "ratio": apart / together, "largest_difference": error}]  # fmt: skip


def seconds_of(call: Callable, repeats: int = 3) -> float:
    """The least of some runs after the first."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    name, seed, small, out = sys.argv[1:]
    parts = {"languages": language_race, "modules": module_race, "incremental": incremental, "serving": serving}
    Path(out).write_text(json.dumps(parts[name](int(seed), small == "small")))
