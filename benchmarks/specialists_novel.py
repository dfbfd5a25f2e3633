"""Languages that neither the base nor any specialist has seen: which method is best for how many bytes?"""

from collections.abc import Iterable

import jax
import numpy as np

from benchmarks.languages import languages
from benchmarks.specialists_languages import ADAPTER, LENGTH, NOVEL, PRIOR, base_of, cut, losses, some, tasks_of
from jaxopt_lite.specialists import LDA, Library, Task, calibrate, fit, merge, mix, window_loss

_BYTES = (128, 512, 2048, 8192)
_NEAREST = 4
_TEST = 96  # windows of a language


def race(seed: int, small: bool) -> list[dict]:
    """The losses of all methods, a row for each method and number of bytes."""
    train, _, texts = tasks_of(seed, small)
    base = base_of(texts, seed, small)
    library = fit(base, ADAPTER, train, window_loss, prior=PRIOR, progress=False)
    router = LDA.of(library, calibrate(base, train, fallback=0.0))
    draw = np.random.default_rng(seed)
    found = [language for language in languages() if language.code in NOVEL]
    most = max(_BYTES) // LENGTH
    seen = {language.code: some(language.train, most, draw) for language in found}
    test = {language.code: some(language.test, _TEST, draw) for language in found}
    few = {f"{code} {size}": _first(task, size, most) for code, task in seen.items() for size in _BYTES}
    candidates = _candidates(library, router, few)
    rows = []
    for size in _BYTES:
        mine = [f"{code} {size}" for code in seen]
        bits = {name: [_bits(some[task], test[task.split()[0]]) for task in mine] for name, some in candidates.items()}
        best = np.argmin(list(bits.values()), axis=0)
        rows += [
            {"name": f"novel, {size:,} bytes: {name}", "bits per byte": float(np.mean(values))}
            | {"best_of": float(np.sum(best == k)), "languages": float(len(seen))}
            | dict(zip(seen, values, strict=True))
            for k, (name, values) in enumerate(bits.items())
        ]
    return rows


def _first(task: Task, size: int, most: int) -> Task:
    """The first windows, padded with windows of weight 0: all sizes have one shape, and compile once."""
    rows = np.resize(np.arange(task.examples), most)
    there = np.arange(most) < min(size // LENGTH, task.examples)
    whole = cut(task, rows)
    return whole._replace(weight=np.where(there, whole.weight, 0).astype(np.float32))


def _candidates(library: Library, router: LDA, few: dict[str, Task]) -> dict[str, dict[str, Library]]:
    """For each method and novel task, a library of one."""
    near = {name: library[_nearest(library, router, task)] for name, task in few.items()}
    mixed = {name: mix(near[name], {name: few[name]}, window_loss, progress=False) for name in few}
    one = {name: some[:1] for name, some in near.items()}
    return {
        "base": {name: library[[]] for name in few},
        "nearest": one,
        f"mean of nearest {_NEAREST}": {name: merge(some) for name, some in near.items()},
        f"mix of nearest {_NEAREST}": mixed,
        "few-shot": _fitted(library, few, None),
        "few-shot from nearest": _fitted(library, few, one.values()),
        "few-shot from mix": _fitted(library, few, mixed.values()),
    }


def _nearest(library: Library, router: LDA, task: Task) -> list[str]:
    """The specialists that LDA finds likeliest for all windows together."""
    score = np.asarray(router.scores(library.base.embed(task.x[task.weight > 0]))).sum(axis=0)
    return [library.names[row] for row in np.argsort(-score)[:_NEAREST]]


def _fitted(library: Library, few: dict[str, Task], start: Iterable[Library] | None) -> dict[str, Library]:
    """Fitted to the few examples, with the prior centered where the fit starts."""
    parts = [] if start is None else [one.parameters for one in start]
    center = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) if parts else None
    fitted = fit(library.base, ADAPTER, few, window_loss, prior=PRIOR, center=center, progress=False)
    return {name: fitted[name] for name in few}


def _bits(specialist: Library, test: Task) -> float:
    nats = losses(specialist, test.x, np.full(test.examples, len(specialist) - 1), batch=_TEST)
    return float(nats @ test.weight / test.weight.sum() / np.log(2))
