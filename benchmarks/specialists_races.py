"""The parts of `benchmarks.specialists`: `PART SEED SMALL OUT`, each in a process of its own that writes its rows."""

import hashlib
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np

from benchmarks import specialists_languages, specialists_novel, specialists_serving
from benchmarks.specialists_languages import ADAPTER, PRIOR, base_of, joint_width, numbers_of, rows_of, tasks_of
from benchmarks.timing import timed
from jaxopt_lite import bpe
from jaxopt_lite.demo.modules import modules, tasks
from jaxopt_lite.specialists import (
    IA3,
    LDA,
    Library,
    Shift,
    Task,
    bits_per_byte,
    calibrate,
    evaluate,
    fit,
    language_model,
    save,
    window_loss,
)


def module_race(seed: int, small: bool) -> list[dict]:
    """A specialist for each module of Python's standard library, beside all baselines, on held-out code."""
    found = modules()[:: 50 if small else 1]
    tokenizer = bpe.train([module.learned for module in found], 384, progress=False)
    train, test = tasks(found, tokenizer, 32, (8, 4) if small else (32, 8))
    trained = partial(
        language_model, [module.learned for module in found], tokenizer, steps=100 if small else 2000, embed=32,
        length=32, progress=False,
    )  # fmt: skip
    base = trained(hidden=32, seed=seed)
    adapter = IA3("out/w", axis=0) + Shift("hidden/b")
    start = time.perf_counter()
    library = fit(base, adapter, train, window_loss, prior=PRIOR, progress=False)
    seconds = time.perf_counter() - start
    router = LDA.of(library, calibrate(base, train, fallback=0.0 if small else 0.01))
    unit = bits_per_byte(tokenizer)
    report = evaluate(
        library, router, test, window_loss, train_tasks=train, unit=unit, prior=PRIOR, seed=seed,
        joint=trained(hidden=joint_width(base, library), seed=seed + 1),
    )  # fmt: skip
    print(report)
    return [*rows_of(report), {"name": "numbers", "tasks": len(library), "fit_s": seconds} | numbers_of(report)]


def incremental(seed: int, small: bool) -> list[dict]:
    """Add one language to all others, against training the joint model again, and check that nothing else changed.

    Both are timed twice: with what they compile, and again. The files of the others are compared before and after.
    """
    train, _, texts = tasks_of(seed, small)
    base = base_of(texts[:-1], seed, small)
    *others, last = train
    known = {name: train[name] for name in others}
    library = fit(base, ADAPTER, known, window_loss, prior=PRIOR, progress=False)
    geometry = calibrate(base, known, fallback=0.0)
    features = base.embed(np.concatenate([task.x for task in known.values()]))
    scores = np.asarray(LDA.of(library, geometry).scores(features))
    with tempfile.TemporaryDirectory() as folder:
        save(library, folder)
        before = _digests(folder)
        jax.clear_caches()
        add_first, _ = timed(lambda: _added(library, last, train[last], Path(folder, "first")))
        add, added = timed(lambda: _added(library, last, train[last], folder))
        after = _digests(folder)
    again = np.asarray(LDA.of(added, geometry).scores(features))[:, : len(others)]
    width = joint_width(base, added)
    joint_first, _ = timed(lambda: base_of(texts, seed, small, width))
    joint, _ = timed(lambda: base_of(texts, seed, small, width))
    changed = [name for name, digest in before.items() if after.get(name) != digest]
    return [
        {
            "name": f"one added to {len(others)}", "add_first_s": add_first, "add_s": add,
            "joint_first_s": joint_first, "joint_s": joint, "ratio_first": joint_first / add_first,
            "ratio": joint / add, "files_same": not changed and len(after) == len(before) + 1,
            "ids_same": added[others].ids == library.ids, "scores_same": bool(np.array_equal(scores, again)),
        }
    ]  # fmt: skip


def _added(library: Library, name: str, task: Task, folder: str | Path) -> Library:
    """The library with one more, fitted, added and saved."""
    one = fit(library.base, ADAPTER, {name: task}, window_loss, prior=PRIOR, progress=False)
    more = library.add(one)
    save(more, folder)
    return more


def _digests(folder: str | Path) -> dict[str, str]:
    """A digest of the file of each specialist."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).glob("*.safetensors")}


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
