"""The parts of `benchmarks.specialists`: `PART SEED SMALL OUT` in a process of its own; each writes its rows."""

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import specialists_languages, specialists_novel, specialists_serving
from benchmarks.specialists_languages import ADAPTER, PRIOR, base_of, joint_width, numbers_of, rows_of, tasks_of
from jaxopt_lite import bpe
from jaxopt_lite.demo.modules import modules, tasks
from jaxopt_lite.specialists import (
    IA3,
    LDA,
    Shift,
    bits_per_byte,
    calibrate,
    evaluate,
    fit,
    language_model,
    window_loss,
)
from jaxopt_lite.specialists.base import digest


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
    library = fit(base, adapter, train, window_loss, prior=PRIOR, progress=False)
    seconds = time.perf_counter() - start
    router = LDA.of(library, calibrate(base, train, fallback=0.0 if small else 0.01))
    unit = bits_per_byte(tokenizer)
    report = evaluate(library, router, test, window_loss, train_tasks=train, unit=unit, prior=PRIOR, seed=seed)
    print(report)
    return [*rows_of(report), {"name": "numbers", "tasks": len(library), "fit_s": seconds} | numbers_of(report)]


def incremental(seed: int, small: bool) -> list[dict]:
    """Add one language to all others, against training the joint model again; and prove that nothing else moved."""
    train, _, texts = tasks_of(seed, small)
    base = base_of(texts[:-1], seed, small)
    *others, last = train
    library = fit(base, ADAPTER, {name: train[name] for name in others}, window_loss, prior=PRIOR, progress=False)
    before = digest({key: np.asarray(leaf) for key, leaf in library.parameters.items()}, *library.ids)
    router = LDA.of(library, geometry := calibrate(base, train, fallback=0.0))
    features = base.embed(np.concatenate([train[name].x for name in others]))
    scores = np.asarray(router.scores(features))
    add = partial(fit, base, ADAPTER, {last: train[last]}, window_loss, prior=PRIOR, progress=False)
    add()  # compiles
    start = time.perf_counter()
    added = library.add(add())
    seconds = time.perf_counter() - start
    kept = added[others]
    after = digest({key: np.asarray(leaf) for key, leaf in kept.parameters.items()}, *kept.ids)
    again = np.asarray(LDA.of(added, geometry).scores(features))[:, : len(others)]
    start = time.perf_counter()
    base_of(texts, seed, small, joint_width(base, added))
    joint = time.perf_counter() - start
    return [
        {
            "name": f"{last} added to {len(others)}", "add_s": seconds, "joint_s": joint, "ratio": joint / seconds,
            "parameters_same": before == after, "scores_same": bool(np.array_equal(scores, again)),
        }
    ]  # fmt: skip


if __name__ == "__main__":
    name, seed, small, out = sys.argv[1:]
    parts = {
        "languages": specialists_languages.race,
        "novel": specialists_novel.race,
        "modules": module_race,
        "incremental": incremental,
        "serving": specialists_serving.race,
    }
    Path(out).write_text(json.dumps(parts[name](int(seed), small == "small")))
