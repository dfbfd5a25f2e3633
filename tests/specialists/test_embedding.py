"""Task2Vec against closed forms, distances against plain formulas, neighbours and order."""

import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform

from jaxopt_lite.specialists import (
    IA3,
    Base,
    Embeddings,
    LoRA,
    Shift,
    Similarity,
    categorical,
    compress,
    distances,
    fisher_diagonal,
    linear_parameters,
    nearest,
    similarity,
    sums,
    task2vec,
    tuned_parameters,
)
from tests.specialists.small import random_library, small_base

pytestmark = pytest.mark.hardly_optimized

RNG = np.random.default_rng(0)
SOFTMAX = Base({"w": RNG.normal(size=(4, 3)), "b": np.zeros(3)}, lambda params, x: x @ params["w"] + params["b"])
HEAD = Shift("b")
DRAWS = 1000  # in most tests, so that they share a program


def cross_entropy(logits, y):
    return -jax.nn.log_softmax(logits)[y]


def labelled(size, seed, classes=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, 4)), rng.integers(0, classes, size=size)


TASKS = {"a": labelled(12, 1), "b": labelled(30, 2), "c": labelled(7, 3)}


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def probabilities(x, y):
    """Of softmax regression with the bias fitted, by Newton's method on the bias alone; the prior is that of `fit`."""
    w, b = np.asarray(SOFTMAX.params["w"]), np.zeros(3)
    for _ in range(50):
        p = softmax(x @ w + b)
        gradient = (p - np.eye(3)[y]).sum(0) + b
        b -= np.linalg.solve(np.diag(p.sum(0)) - p.T @ p + np.eye(3), gradient)
    return softmax(x @ w + b)


def test_task2vec_of_softmax_regression():
    """F of W_ij is E x_i² p_j (1 − p_j); the mean over i is the unit's. Within five deviations of the draws."""
    embeddings = task2vec(SOFTMAX, TASKS, HEAD, cross_entropy, probe="w", draws=DRAWS, progress=False)
    assert embeddings.names == ("a", "b", "c") and embeddings.vectors.shape == (3, 3)
    for vector, (x, y) in zip(np.asarray(embeddings.vectors), TASKS.values(), strict=True):
        p, size = probabilities(x, y), (x**2).mean(1, keepdims=True)
        expected = (size * p * (1 - p)).mean(0)
        # (p − 1{y})² is (1 − p)² with probability p, and p² otherwise.
        variance = (size**2 * p * (1 - p) * ((1 - p) ** 2 - p**2) ** 2).sum(0) / len(x) ** 2 / DRAWS
        assert np.all(np.abs(vector - expected) < 5 * np.sqrt(variance) + 1e-6)


@pytest.fixture
@cache  # and not the fixture: one of the module would be compiled before the tests say how
def embeddings():
    return task2vec(SOFTMAX, TASKS, HEAD, cross_entropy, probe="w", draws=DRAWS, progress=False)


def test_a_task_is_embedded_the_same_whatever_is_beside_it(embeddings):
    others = {"x": TASKS["c"], "b": TASKS["b"], "y": TASKS["a"]}
    moved = task2vec(SOFTMAX, others, HEAD, cross_entropy, probe="w", draws=DRAWS, progress=False)
    np.testing.assert_allclose(moved.vectors[1], embeddings.vectors[1], rtol=1e-4)
    assert not np.allclose(moved.vectors[2], embeddings.vectors[0], rtol=1e-2)  # another name, other draws


def test_the_seed_chooses_the_draws(embeddings):
    same, other = (
        task2vec(SOFTMAX, TASKS, HEAD, cross_entropy, probe="w", draws=DRAWS, seed=seed, progress=False).vectors
        for seed in (0, 1)
    )
    assert np.array_equal(same, embeddings.vectors) and not np.allclose(other, same, rtol=1e-2)


def test_the_head_is_no_part_of_the_embedding(embeddings):
    """Nor may the probe be about the head."""
    assert embeddings.vectors.shape[1] == 3
    with pytest.raises(ValueError, match="both change 'b'"):
        task2vec(SOFTMAX, TASKS, HEAD, cross_entropy, probe="*", progress=False)


def test_the_probe_may_be_any_adapter():
    """For a scale of the outputs the square is that of (x w_j) (p_j − 1{y = j}), and nothing is left to average."""
    draws = 500
    embeddings = task2vec(SOFTMAX, TASKS, HEAD, cross_entropy, probe=IA3("w"), draws=draws, progress=False)
    for vector, (x, y) in zip(embeddings.vectors, TASKS.values(), strict=True):
        p, size = probabilities(x, y), (x @ np.asarray(SOFTMAX.params["w"])) ** 2
        expected = (size * p * (1 - p)).mean(0)
        variance = (size**2 * p * (1 - p) * ((1 - p) ** 2 - p**2) ** 2).sum(0) / len(x) ** 2 / draws
        assert np.all(np.abs(vector - expected) < 5 * np.sqrt(variance) + 1e-6)


@pytest.mark.parametrize("adapter", [Shift("w"), LoRA("w", rank=2)], ids=["shift", "low rank"])
def test_the_empirical_fisher_is_the_mean_of_squares(adapter):
    """Example by example in a loop, with weights; not the square of the mean."""
    library = random_library(SOFTMAX, adapter, "abc")
    weighted = {f"{name}\udcff": (x, y, np.linspace(0, 1, len(y))) for name, (x, y) in TASKS.items()}  # as of a file
    diagonal = fisher_diagonal(SOFTMAX, adapter, library.parameters, weighted, cross_entropy)
    loss = lambda a, x, y: cross_entropy(SOFTMAX.apply(library.adapter.apply(SOFTMAX.params, a), x), y)
    gradient = jax.jit(jax.grad(loss))
    stacked = jax.tree.map(np.asarray, library.parameters)
    for row, (x, y, weight) in enumerate(weighted.values()):
        a = {key: leaf[row] for key, leaf in stacked.items()}
        each = [gradient(a, *example) for example in zip(x, y, strict=True)]
        for key in a:
            expected = sum(w * np.asarray(g[key]) ** 2 for w, g in zip(weight, each, strict=True)) / weight.sum()
            np.testing.assert_allclose(diagonal[key][row], expected, rtol=1e-5, atol=1e-12)


def test_few_examples_at_a_time_give_the_same(monkeypatch):
    library = random_library(SOFTMAX, Shift("w"), "abc")
    at_once = fisher_diagonal(SOFTMAX, Shift("w"), library.parameters, TASKS, lambda o, y: cross_entropy(o, y))
    monkeypatch.setattr(sums, "_MEMORY", 12 * 7 * 8)  # 7 examples of 12 numbers
    by_sevens = fisher_diagonal(SOFTMAX, Shift("w"), library.parameters, TASKS, lambda o, y: cross_entropy(o, y))
    np.testing.assert_allclose(by_sevens["shift:w"], at_once["shift:w"], rtol=1e-12)


def test_padding_is_not_drawn():
    """Labels outside of the logits stay what they are, and only they do."""
    logits, y = np.tile([0.0, 50.0, 0.0], (6, 1)), np.array([0, 1, 2, 3, -1, 0], np.int32)
    drawn = categorical(jax.random.key(0), logits, y)
    assert drawn.tolist() == [1, 1, 1, 3, -1, 1] and drawn.dtype == y.dtype
    for labels in (np.zeros(6), np.zeros((6, 3), int)):
        with pytest.raises(ValueError, match=r"expected integers of shape \(6,\).*sample="):
            categorical(jax.random.key(0), logits, labels)


def test_fisher_refuses():
    library = random_library(SOFTMAX, Shift("w"), "ab")
    with pytest.raises(ValueError, match="parameters has the shapes"):
        fisher_diagonal(SOFTMAX, Shift("w"), library.parameters, TASKS, cross_entropy)
    with pytest.raises(ValueError, match="draws=0"):
        fisher_diagonal(SOFTMAX, Shift("w"), library.parameters, TASKS, cross_entropy, draws=0)
    with pytest.raises(ValueError, match="draws=0"):
        task2vec(SOFTMAX, TASKS, HEAD, cross_entropy, probe="w", draws=0)


def test_tuned_parameters_are_the_linear_form():
    """Two factorisations of one product are one embedding, and the base is zero."""
    base = small_base()
    library = random_library(base, LoRA("hidden", rank=2) + Shift("bias"), "ab")
    turned = np.array([[2.0, 1.0], [0.5, -1.0]])
    down, up = library.parameters["down:hidden"], library.parameters["up:hidden"]
    other = dict(library.parameters) | {"down:hidden": down @ turned, "up:hidden": np.linalg.inv(turned) @ up}
    same = tuned_parameters(type(library)(base, other, library.profile, library.adapter, library.cards))
    embeddings = tuned_parameters(library)
    np.testing.assert_allclose(same.vectors, embeddings.vectors, rtol=1e-9, atol=1e-12)
    linear = linear_parameters(library)
    expected = np.concatenate([linear["shift:bias"].reshape(2, -1), linear["shift:hidden"].reshape(2, -1)], axis=1)
    np.testing.assert_array_equal(embeddings.vectors, expected)


def test_standardized():
    library = random_library(small_base(), Shift("bias"), "abcd")
    library.parameters["shift:bias"] = library.parameters["shift:bias"].at[:, 2].set(7.0)
    vectors = tuned_parameters(library, standardize=True).vectors
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(vectors.std(0), [1, 1, 0, 1, 1, 1], rtol=1e-12)


@pytest.mark.parametrize("size", [3, 6, 7, 10])
def test_a_number_that_is_the_same_for_all_is_standardized_to_zero(size):
    """In float32 the mean of these 0.1 is off by rounding; each was −1, and the cosines were those of other vectors."""
    library = random_library(small_base(), Shift("bias"), "abcdefghij"[:size])
    bias = library.parameters["shift:bias"].astype(jnp.float32)
    library.parameters["shift:bias"] = bias.at[:, 2].set(0.1)
    vectors = np.asarray(tuned_parameters(library, standardize=True).vectors)
    assert not vectors[:, 2].any()
    others = np.delete(np.asarray(bias, float), 2, axis=1)
    expected = (others - others.mean(0)) / others.std(0)
    np.testing.assert_allclose(np.delete(vectors, 2, axis=1), expected, rtol=1e-4, atol=1e-5)


FISHERS = Embeddings(
    ("a", "b", "c"), np.array([[1.0, 2.0, 0.0, 0.0], [3.0, 1.0, 1.0, 0.0], [0.5, 0.0, 4.0, 0.0]]), "task2vec"
)


def normalised_cosine(a, b):
    """As in the paper, with the reference's 1e-8 in the denominators."""
    p, q = a / (a + b + 1e-8), b / (a + b + 1e-8)
    return 1 - p @ q / np.sqrt((p @ p) * (q @ q))


def test_the_symmetric_distance():
    vectors = np.asarray(FISHERS.vectors)
    expected = [[normalised_cosine(a, b) for b in vectors] for a in vectors]
    np.testing.assert_allclose(distances(FISHERS), expected, atol=1e-6)
    np.testing.assert_array_equal(distances(FISHERS), distances(FISHERS).T)
    scaled = Embeddings(FISHERS.names, 1e-12 * FISHERS.vectors, "task2vec")
    np.testing.assert_allclose(distances(scaled), distances(FISHERS), atol=1e-12)  # and of no unit


def test_the_asymmetric_distance():
    """d(a → b) = d(a, b) − α d(a, trivial): hard tasks are nearer to all."""
    vectors = np.asarray(FISHERS.vectors)
    expected = [
        [normalised_cosine(a, b) - 0.3 * normalised_cosine(a, 0.2 * np.ones(4)) for b in vectors] for a in vectors
    ]
    given = distances(FISHERS, "asymmetric", alpha=0.3, trivial=0.2)
    np.testing.assert_allclose(given, expected, atol=1e-6)
    np.testing.assert_allclose(distances(FISHERS, "asymmetric", alpha=0.0), distances(FISHERS), atol=1e-12)
    default = distances(FISHERS, "asymmetric", trivial=np.full(4, vectors.mean()))
    np.testing.assert_allclose(distances(FISHERS, "asymmetric"), default, atol=1e-12)


def test_cosine_and_zero():
    vectors = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    apart = distances(Embeddings(tuple("abcd"), vectors))
    expected = [[0, 2, 1, 1], [2, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]]
    np.testing.assert_allclose(apart, expected, atol=1e-12)


def test_distances_refuse():
    negative = Embeddings(("a",), -np.ones((1, 4)))
    with pytest.raises(ValueError, match="some numbers are negative"):
        distances(negative, "task2vec")
    with pytest.raises(ValueError, match="kind=.*: expected one of .cosine., .task2vec., .asymmetric."):
        distances(negative, "euclid")
    with pytest.raises(ValueError, match="have 4 and 3 numbers"):
        distances(FISHERS, to=Embeddings(("a",), np.ones((1, 3))))
    with pytest.raises(ValueError, match="kind=''"):
        distances(FISHERS, "")


def test_there_may_be_no_tasks():
    """An empty `to` is not taken for none given; `fit` gives an empty library, and an early Ctrl-C does too."""
    assert distances(FISHERS, to=Embeddings((), np.zeros((0, 4)))).shape == (3, 0)
    library = random_library(small_base(), LoRA("hidden", rank=1), "ab")[[]]
    assert tuned_parameters(library).vectors.shape == (0, 24) and nearest(library, np.ones(24)) == []
    assert compress(library, Shift("hidden")).library.parameters["shift:hidden"].shape == (0, 4, 6)
    diagonal = fisher_diagonal(library.base, library.adapter, library.parameters, {}, cross_entropy)
    assert {key: leaf.shape for key, leaf in diagonal.items()} == {"down:hidden": (0, 4, 1), "up:hidden": (0, 1, 6)}
    assert len(task2vec(small_base(), {}, Shift("bias"), cross_entropy, probe="out", progress=False)) == 0


def test_nearest():
    """By name, without itself; by vector; of a library."""
    apart = np.asarray(distances(FISHERS))
    order = sorted(("b", "c"), key=lambda name: apart[0, "abc".index(name)])
    found = nearest(FISHERS, "a")
    assert [name for name, _ in found] == order
    np.testing.assert_allclose([d for _, d in found], sorted(apart[0, 1:]), rtol=1e-6)
    assert nearest(FISHERS, FISHERS.vectors[1], 1)[0][0] == "b" and nearest(FISHERS, "a", 0) == []
    library = random_library(small_base(), Shift("bias"), "abcd")
    a = library.parameters["shift:bias"]
    library.parameters["shift:bias"] = a.at[3].set(1.1 * a[1])
    assert nearest(library, "b", 1)[0][0] == "d"
    assert nearest(library, a[2], 1) == [("c", pytest.approx(0, abs=1e-12))]


def test_nearest_from_the_asymmetric_side():
    """The distance is from each of the others to the query, the task to be learned."""
    apart = np.asarray(distances(FISHERS, "asymmetric"))
    for name, value in nearest(FISHERS, "a", kind="asymmetric"):
        np.testing.assert_allclose(value, apart["abc".index(name), 0], rtol=1e-6)


def test_nearest_refuses():
    with pytest.raises(KeyError, match="no task 'z'"):
        nearest(FISHERS, "z")
    with pytest.raises(ValueError, match="expected one vector"):
        nearest(FISHERS, np.ones((1, 4)))


def test_families_stand_together():
    """Whatever the order that they come in: three families of four, and within them the near ones side by side."""
    rng = np.random.default_rng(0)
    centers = 10 * rng.normal(size=(3, 5))
    vectors = np.concatenate([center + 0.1 * rng.normal(size=(4, 5)) for center in centers])
    names = [f"{family}{member}" for family in "xyz" for member in range(4)]
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(12)
        embeddings = Embeddings(tuple(names[k] for k in order), vectors[order])
        matrix = similarity(embeddings)
        shown = matrix.ordered()
        families = "".join(name[0] for name in shown.names)
        assert len({families[k : k + 4] for k in (0, 4, 8)}) == 3 and all(
            len(set(families[k : k + 4])) == 1 for k in (0, 4, 8)
        )
        for i, a in enumerate(shown.names):
            for j, b in enumerate(shown.names):
                assert shown.distance[i, j] == matrix.distance[matrix.names.index(a), matrix.names.index(b)]


def test_clusters_are_those_of_average_linkage():
    """Each of those that SciPy finds stands together."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        apart = pdist(rng.normal(size=(12, 3)))
        shown = Similarity(tuple(map(str, range(12))), squareform(apart)).ordered()
        place, clusters = np.argsort([int(name) for name in shown.names]), [[k] for k in range(12)]
        for left, right in linkage(apart, "average")[:, :2].astype(int).tolist():
            clusters.append(clusters[left] + clusters[right])
            assert np.ptp(place[clusters[-1]]) == len(clusters[-1]) - 1


@pytest.mark.parametrize("names", ["", "a", "ab"])
def test_order_of_few(names):
    matrix = Similarity(tuple(names), np.ones((len(names), len(names))))
    assert matrix.ordered().names == tuple(names)


def test_on_a_line_the_order_is_that_of_the_line():
    place = np.array([0.0, 1.1, 2.3, 3.6, 5.0, 6.5])
    shuffled = np.array([3, 0, 5, 1, 4, 2])
    names = tuple(str(k) for k in shuffled)
    matrix = Similarity(names, np.abs(place[shuffled, None] - place[shuffled]))
    shown = [int(name) for name in matrix.ordered().names]
    assert shown in (sorted(shown), sorted(shown)[::-1])


def test_plot_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"pip install 'jaxopt-lite\[plot\]'"):
        similarity(FISHERS).plot()


def test_embeddings_are_rows_by_name_and_stay_so():
    vectors = np.arange(6.0).reshape(3, 2)
    embeddings = Embeddings(("a", "b", "c"), vectors)
    before = nearest(embeddings, "a", 2)
    vectors[:] = 1
    assert nearest(embeddings, "a", 2) == before
    for names, wrong in ((("a", "b"), vectors), (("a",), np.ones(3)), ((), np.ones((1, 2)))):
        with pytest.raises(ValueError, match=r"vectors has shape .*; expected a row for each of \d names"):
            Embeddings(names, wrong)
    assert distances(Embeddings(("a", "b"), [[1.0, 2.0], [2.0, 4.0]])).shape == (2, 2)
    with pytest.raises(TypeError, match="vectors is of bool; expected real numbers"):
        Embeddings(("a",), [[True, False]])
    with pytest.raises(ValueError, match="names: a, c occur more than once"):
        Embeddings(("a", "c", "a", "b", "c"), np.eye(5))  # of which `nearest` would leave out both
    with pytest.raises(ValueError, match="distance='euclid': expected one of 'cosine', 'task2vec', 'asymmetric'"):
        Embeddings(("a",), np.ones((1, 2)), "euclid")
    for alpha in (True, "1", float("nan")):
        with pytest.raises(ValueError, match="alpha=.*: expected a finite number"):
            distances(embeddings, "asymmetric", alpha=alpha)


def test_a_query_may_be_an_array_of_numpys():
    embeddings = Embeddings(("a", "b"), np.eye(2))
    assert [name for name, _ in nearest(embeddings, np.array([0.1, 1.0]))] == ["b", "a"]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_angles_do_not_depend_on_lengths(scale):
    vectors = np.float32([[1, 0], [1, 0], [0, 1]]) * np.float32(scale)
    np.testing.assert_allclose(distances(Embeddings(("a", "b", "c"), vectors))[0], [0, 0, 1], atol=1e-6)
