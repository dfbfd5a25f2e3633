"""A specialist for each language, from Django's texts: how well short windows find theirs, and which resemble which."""

import time
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.languages import FAMILY_OF, languages
from jaxopt_lite.specialists import (
    IA3,
    LDA,
    Arrow,
    Base,
    Centroid,
    Embeddings,
    Gates,
    Library,
    LoRA,
    RegMean,
    Router,
    Shift,
    Softmax,
    Task,
    TaskArithmetic,
    bits_per_byte,
    calibrate,
    distances,
    evaluate,
    fit,
    fit_gates,
    language_model,
    merge,
    task2vec,
    tuned_parameters,
    window_loss,
    windows,
)
from jaxopt_lite.specialists.report import Report

LENGTH = 64  # bytes of a window
PRIOR = 30.0
ADAPTER = IA3("out/w", axis=0) + Shift("hidden/b") + Shift("out/b")
NOVEL = ("gl", "sk", "nn", "pt_BR", "uk", "be")  # in neither the base nor the library
_MOST = 64  # windows of a language to learn from; half as many to test on
_FEW = 16  # for gates and for Arrow's LoRA, whose fits cost more
_STEPS = 1000  # of training the base and the joint model


def tasks_of(seed: int, small: bool) -> tuple[dict[str, Task], dict[str, Task], list[str]]:
    """Training and test windows of each known language, drawn by the seed, and the texts."""
    found = [language for language in languages() if language.code not in NOVEL][:: 8 if small else 1]
    most, draw = 16 if small else _MOST, np.random.default_rng(seed)
    train = {language.code: some(language.train, most, draw) for language in found}
    test = {language.code: some(language.test, most // 2, draw) for language in found}
    return train, test, ["\n".join(language.train) for language in found]


def some(texts: list[str], most: int, draw: np.random.Generator) -> Task:
    """Some windows of texts, in a random order."""
    task = Task(*windows("\n".join(texts), length=LENGTH))
    return cut(task, draw.permutation(task.examples)[:most])


def cut(task: Task, rows) -> Task:
    return Task(*jax.tree.map(lambda leaf: leaf[rows], tuple(task)))


def base_of(texts: list[str], seed: int, small: bool, hidden: int = 64) -> Base:
    return language_model(texts, hidden=hidden, steps=100 if small else _STEPS, seed=seed, progress=False)


def joint_width(base: Base, library: Library) -> int:
    """The hidden width at which one model has as many parameters as the base and all specialists together."""
    width = base.params["hidden"]["b"].size
    each = sum(leaf.size for leaf in jax.tree.leaves((base.params["hidden"], base.params["out"]["w"]))) // width
    return width + len(library) * library.size // each


def race(seed: int, small: bool) -> list[dict]:
    """All tables about the known languages."""
    train, test, texts = tasks_of(seed, small)
    base = base_of(texts, seed, small)
    start = time.perf_counter()
    library = fit(base, ADAPTER, train, window_loss, prior=PRIOR, progress=False)
    seconds = time.perf_counter() - start
    geometry = calibrate(base, train, fallback=0.0 if small else 0.01)
    report = evaluate(
        library, LDA.of(library, geometry), test | _novel_windows(), window_loss, train_tasks=train,
        joint=base_of(texts, seed + 1, small, joint_width(base, library)), unit=bits_per_byte(), prior=PRIOR, seed=seed,
    )  # fmt: skip
    converged = float(np.mean([card.solved for card in library.cards]))
    numbers = {"tasks": float(len(library)), "fit_s": seconds, "converged": converged} | numbers_of(report)
    tested = _Windows(test, library.names)
    more = [*_routers(library, geometry, train, tested), *_arrow(base, train, tested), *_merges(library, train, tested)]
    lost, gain = report["base"].loss, report["base"].loss - report["oracle"].loss
    more = [row | {"share": (lost - row[report.unit]) / gain} for row in more]
    return [*rows_of(report), {"name": "numbers"} | numbers, *more, *_kin(library, train)]


def rows_of(report: Report) -> list[dict]:
    return [{"name": row.name, report.unit: row.loss, "share": report.share(row.name)} for row in report.rows]


def numbers_of(report: Report) -> dict:
    return report.routing._asdict() | report.cost._asdict()


def _novel_windows() -> dict[str, Task]:
    draw = np.random.default_rng(0)
    return {language.code: some(language.test, 32, draw) for language in languages() if language.code in NOVEL}


class _Windows:
    """Test windows of all languages in one array, and their loss when given specialists answer."""

    def __init__(self, tasks: dict[str, Task], names: tuple[str, ...]):
        self.x, _, self.weight = (np.concatenate(leaves) for leaves in zip(*tasks.values(), strict=True))
        self.own = np.repeat([names.index(name) for name in tasks], [task.examples for task in tasks.values()])

    def bits(self, library: Library, index) -> float:
        """Bits per byte."""
        nats = losses(library, self.x, np.broadcast_to(index, self.own.shape))
        return float(nats @ self.weight / self.weight.sum() / np.log(2))


def losses(library: Library, x: np.ndarray, index: np.ndarray, batch: int = 512) -> np.ndarray:
    """The loss of each window, in batches of one size."""
    done = []
    for start in range(0, len(x), batch):
        rows = np.minimum(np.arange(start, start + batch), len(x) - 1)
        done.append(np.asarray(_window_losses(library.apply(x[rows], index[rows]), x[rows])))
    return np.concatenate(done)[: len(x)]


_window_losses = jax.jit(jax.vmap(window_loss))


def _routers(library: Library, geometry, train: dict[str, Task], test: _Windows) -> list[dict]:
    """Every router without a fallback, on the same test windows."""
    few = {name: cut(task, slice(_FEW)) for name, task in train.items()}
    routers = {
        "LDA": LDA.of(library, geometry),
        "centroid": Centroid.of(library, geometry),
        "softmax": Softmax.fit(library, train, fallback=0.0),
        f"gates, of {_FEW} windows": Gates.of(fit_gates(library, few, window_loss)),
    }
    features = library.base.embed(test.x)
    return [_routed(name, router, features, library, test) for name, router in routers.items()]


def _routed(name: str, router: Router, features, library: Library, test: _Windows) -> dict:
    index = np.asarray(replace(router, threshold=jnp.full_like(router.threshold, jnp.inf))(features))
    own = float(np.mean(index == test.own))
    return {"name": f"router: {name}", "bits per byte": test.bits(library, index), "accuracy": own}


def _arrow(base: Base, train: dict[str, Task], test: _Windows) -> list[dict]:
    """Arrow, which needs a LoRA on a matrix and the inputs of that matrix, beside the oracle with the same LoRA."""
    few = {name: cut(task, slice(_FEW)) for name, task in train.items()}
    library = fit(base, LoRA("out/w", rank=1), few, window_loss, prior=PRIOR, progress=False)
    hidden = base.embed(test.x)[:, base.params["embed"].shape[1] :]
    oracle = {"name": f"LoRA of {_FEW} windows: oracle", "bits per byte": test.bits(library, test.own)}
    return [oracle, _routed(f"Arrow, for LoRA of {_FEW} windows", Arrow.of(library), hidden, library, test)]


def _merges(library: Library, train: dict[str, Task], test: _Windows) -> list[dict]:
    """All specialists merged into one."""
    methods = {name: name for name in ("mean", "ties", "dare", "fisher")} | {"RegMean": RegMean(train)}
    methods |= {"arithmetic, sum times 0.3": "arithmetic"}
    methods |= {"arithmetic, twice the mean": TaskArithmetic(scale=2 / len(library))}
    merged = {name: merge(library, method) for name, method in methods.items()}
    return [{"name": f"merge: {name}", "bits per byte": test.bits(one, 0)} for name, one in merged.items()]


# --- Who resembles whom -------------------------------------------------------------------------------------


def _kin(library: Library, train: dict[str, Task]) -> list[dict]:
    """How often the nearest other language is of the same family, by several embeddings."""
    centered = library.profile.mean - library.profile.mean.mean(axis=0)
    probe = partial(task2vec, library.base, train, loss=window_loss, prior=PRIOR, progress=False)
    embeddings = {
        "Task2Vec": probe(Shift("out/b"), probe="hidden/w"),
        "Task2Vec of the adapter": probe(Shift("out/b"), probe=ADAPTER.parts[0] + ADAPTER.parts[1]),
        "tuned parameters": tuned_parameters(library),
        "tuned parameters, standardized": tuned_parameters(library, standardize=True),
        "mean features": Embeddings(library.names, centered),
    }
    chance = _by_chance(library.names)
    return [
        {"name": f"nearest by {name}", "same_family": _same_family(these), "chance": chance}
        for name, these in embeddings.items()
    ]


def _families(names: tuple[str, ...]) -> np.ndarray:
    return np.array([FAMILY_OF[name] for name in names])


def _same_family(embeddings: Embeddings) -> float:
    """How often the nearest is of the same family, among the languages that have kin here."""
    apart = np.array(distances(embeddings))
    np.fill_diagonal(apart, np.inf)
    own = _families(embeddings.names)
    has_kin = (own[:, None] == own).sum(axis=1) > 1
    return float(np.mean((own[apart.argmin(axis=1)] == own)[has_kin])) if has_kin.any() else float("nan")


def _by_chance(names: tuple[str, ...]) -> float:
    own = _families(names)
    others = (own[:, None] == own).sum(axis=1) - 1
    return float(np.mean(others[others > 0] / (len(own) - 1))) if (others > 0).any() else float("nan")
