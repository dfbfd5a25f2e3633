"""Merging against slow oracles written from the papers, and the properties that a merge must have."""

from dataclasses import dataclass, replace
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import (
    DARE,
    IA3,
    TIES,
    Adapter,
    Base,
    Fisher,
    LoRA,
    Mean,
    RegMean,
    Shift,
    TaskArithmetic,
    compress,
    fisher_diagonal,
    linear_parameters,
    merge,
)
from jaxopt_lite.specialists.adapters import Part, as_adapter
from jaxopt_lite.specialists.merging.methods import _sum_of_changes
from tests.oracles import merging as oracle
from tests.specialists.small import library_of, random_library, small_base

pytestmark = pytest.mark.hardly_optimized

BASE = small_base()
SCALES = IA3("hidden") + Shift("bias")
LOW_RANK = LoRA("hidden", rank=2, alpha=3.0) + Shift("bias")
LINEAR_METHODS = [Mean(), TaskArithmetic(1.0), DARE(1.0)]
SIGNED_METHODS = [TIES(1.0), DARE(1.0, TIES(1.0))]


def rows(library):
    """The linear form as rows of numbers, keys in order."""
    linear = linear_parameters(library)
    return np.concatenate([np.asarray(linear[key]).reshape(len(library), -1) for key in sorted(linear)], axis=1)


def inputs(names, size=30):
    rng = np.random.default_rng(5)
    return {name: (rng.normal(size=(size + place, 4)), np.zeros(size + place)) for place, name in enumerate(names)}


EACH_ADAPTER = pytest.mark.parametrize(
    "adapter", [pytest.param(SCALES, marks=pytest.mark.slow), LOW_RANK], ids=["scales", "low rank"]
)  # what is wrong for scales is wrong for their product too


@EACH_ADAPTER
@pytest.mark.parametrize("method", LINEAR_METHODS, ids=repr)
def test_one_specialist_times_its_weight(adapter, method):
    """merge([a], [w]) = w·a for a negative weight, which factors of LoRA would turn into its square."""
    library = random_library(BASE, adapter, "a")
    merged = merge(library, method, [-1.5])
    np.testing.assert_allclose(rows(merged), -1.5 * rows(library), rtol=1e-12)


@EACH_ADAPTER
@pytest.mark.parametrize("method", SIGNED_METHODS, ids=repr)
def test_one_specialist_turned_round_by_a_negative_weight(adapter, method):
    library = random_library(BASE, adapter, "a")
    np.testing.assert_allclose(rows(merge(library, method, [-1.5])), -rows(library), rtol=1e-12)


@pytest.mark.parametrize("method", [Fisher(), RegMean(inputs("a"))], ids=["fisher", "regmean"])
def test_one_specialist_merges_to_itself_where_weights_are_relative(method):
    library = random_library(BASE, SCALES, "a")
    np.testing.assert_allclose(rows(merge(library, method, [0.3])), rows(library), rtol=1e-9)


def test_the_merged_model_has_the_weighted_sum_of_the_products():
    """Through the model: the hidden layer's matrix is W + Σ w (α/r) B A, computed apart."""
    library = random_library(BASE, LOW_RANK, "ab")
    merged = merge(library, Mean(), [0.25, 2.0])
    params, parameters = jax.tree.map(np.asarray, (BASE.params, library.parameters))
    down, up, shift = parameters["down:hidden"], parameters["up:hidden"], parameters["shift:bias"]
    hidden = params["hidden"] + 1.5 * (0.25 * down[0] @ up[0] + 2.0 * down[1] @ up[1])
    bias = params["bias"] + 0.25 * shift[0] + 2.0 * shift[1]
    x = inputs("a")["a"][0]
    expected = np.tanh(x @ hidden + bias) @ params["out"]
    np.testing.assert_allclose(merged.apply(x, np.zeros(len(x), int)), expected, rtol=1e-10)


METHODS = [
    Mean(),
    TaskArithmetic(0.4),
    TIES(0.4),
    DARE(0.5),
    DARE(0.7, TIES(0.5), seed=3),
    Fisher(),
    RegMean(inputs("abc")),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: repr(method)[:24])
def test_order_does_not_matter(method):
    library, weights = random_library(BASE, SCALES, "abc"), {"a": 0.5, "b": 1.0, "c": 2.0}
    first = merge(library, method, list(weights.values()))
    other = merge(library[["c", "a", "b"]], method, [weights[name] for name in "cab"])
    np.testing.assert_allclose(rows(other), rows(first), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", [0.2, 1.7])
def test_scales(scale):
    library = random_library(BASE, SCALES, "abc")
    np.testing.assert_allclose(rows(merge(library, TaskArithmetic(scale)))[0], scale * rows(library).sum(0), rtol=1e-12)
    twice = rows(merge(library, TIES(0.3, 2 * scale)))
    np.testing.assert_allclose(twice, 2 * rows(merge(library, TIES(0.3, scale))), rtol=1e-12)


def test_default_weights():
    library = random_library(BASE, SCALES, "abc")
    np.testing.assert_allclose(rows(merge(library))[0], rows(library).mean(0), rtol=1e-12)
    np.testing.assert_allclose(rows(merge(library, "arithmetic"))[0], 0.3 * rows(library).sum(0), rtol=1e-12)
    np.testing.assert_allclose(rows(merge(library, DARE(1.0)))[0], rows(library).mean(0), rtol=1e-12)


def test_sums_take_some_specialists_at_a_time(monkeypatch):
    """The same sum, and of many specialists never all dense changes at once: as compiled, for 1,000 of 64 KB each."""
    monkeypatch.setattr(import_module("jaxopt_lite.specialists.sums"), "_MEMORY", 3 * 90 * 91 * 8)
    base = Base({"w": jnp.zeros((90, 91))}, lambda params, x: x @ params["w"])
    library, weights = random_library(base, LoRA("w", rank=2), "abcdefgh"), np.arange(8) - 2.5
    for method, scale in ((Mean(), 1.0), (TaskArithmetic(0.4), 0.4)):
        merged, expected = rows(merge(library, method, weights))[0], scale * weights @ rows(library)
        np.testing.assert_allclose(merged, expected, rtol=1e-10, atol=1e-12)
    stacked = lambda leaf: jax.ShapeDtypeStruct((1000, *leaf.shape[1:]), leaf.dtype)
    many = jax.tree.map(stacked, library.parameters)
    lowered = _sum_of_changes.lower(base.params, many, jnp.zeros(1000), library.adapter)
    factors = sum(leaf.size * leaf.dtype.itemsize for leaf in many.values())
    assert lowered.compile().memory_analysis().temp_size_in_bytes < 2 * factors + 10 * 90 * 91 * 8


@pytest.mark.parametrize("density", [0.01, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("whole", [False, True], ids=["distinct", "many equal"])
def test_ties_is_that_of_the_paper(density, whole):
    """Also where entries are equal or cancel: the oracle breaks both in the same order."""
    for seed in range(4):
        library = random_library(BASE, SCALES, "abc", seed, whole)
        for weights in ([1.0, 1.0, 0.5], [1.0, -1.0, 2.0], [0.0, -1.0, 0.5]):
            expected = oracle.ties(rows(library).tolist(), weights, density, 1.3)
            np.testing.assert_allclose(rows(merge(library, TIES(density, 1.3), weights))[0], expected, rtol=1e-12)


def test_the_size_of_all_weights_does_not_matter_to_ties():
    library = random_library(BASE, SCALES, "abc")
    np.testing.assert_allclose(rows(merge(library, TIES(), [0.5, 0.5, 0.5])), rows(merge(library, "ties")), rtol=1e-12)


def test_ties_keeps_exactly_the_share_asked_for():
    """12 numbers, all equal: a quarter of them are three, and not all that reach the threshold."""
    library = library_of(BASE, SCALES, "a", {"scale:hidden": np.ones((1, 6)), "shift:bias": -np.ones((1, 6))})
    assert np.count_nonzero(rows(merge(library, TIES(0.25)))) == 3
    assert np.count_nonzero(rows(merge(library, TIES(1.0)))) == 12
    assert np.count_nonzero(rows(merge(library, TIES(1e-9)))) == 1


def test_ties_elects_the_majority_where_entries_cancel():
    """+1 and −1 cancel at one place. Elsewhere two are negative, so the negative one is taken."""
    parameters = {"shift:bias": np.array([[1.0, -3.0, -3.0, 0, 0, 0], [-1.0, -1.0, -5.0, 0, 0, 0]])}
    merged = merge(library_of(BASE, Adapter((Shift("bias"),)), "ab", parameters), TIES(1.0))
    assert merged.parameters["shift:bias"][0].tolist() == [-1, -2, -4, 0, 0, 0]


def test_dare_drops_and_rescales():
    """What is left is the entry over 1 − p, a share of about 1 − p is left, and the seed chooses."""
    base = Base({"w": jnp.zeros((100, 100))}, lambda params, x: x @ params["w"])
    library = random_library(base, Shift("w"), "a")
    merged = rows(merge(library, DARE(0.3, seed=1)))
    kept = merged != 0
    np.testing.assert_allclose(merged[kept], rows(library)[kept] / 0.3, rtol=1e-12)
    assert abs(kept.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 1e4)
    other = rows(merge(library, DARE(0.3, seed=2))) != 0
    assert abs((kept & other).mean() - 0.09) < 5 * np.sqrt(0.09 / 1e4)
    assert np.array_equal(rows(merge(library.rename({"a": "z"}), DARE(0.3, seed=1))), merged)


def test_dare_drops_of_each_specialist_on_its_own():
    base = Base({"w": jnp.zeros((100, 100))}, lambda params, x: x @ params["w"])
    library = random_library(base, Shift("w"), "ab")
    both = [rows(merge(library, DARE(0.5), weights)) != 0 for weights in ([1, 0], [0, 1])]
    assert abs((both[0] & both[1]).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 1e4)
    together = rows(merge(library, DARE(0.5), [1, 1]))
    apart = sum(rows(merge(library, DARE(0.5), weights)) for weights in ([1, 0], [0, 1]))
    np.testing.assert_allclose(together, apart, rtol=1e-12)


@pytest.mark.parametrize("floor", [1e-6, 0.1])
def test_fisher_is_the_weighted_mean(floor):
    library, weights = random_library(BASE, SCALES, "abc"), [1.0, 3.0, 0.5]
    fisher = np.concatenate([np.asarray(library.profile.fisher[key]) for key in sorted(library.profile.fisher)], axis=1)
    expected = oracle.fisher(rows(library), fisher, weights, floor)
    np.testing.assert_allclose(rows(merge(library, Fisher(floor=floor), weights))[0], expected, rtol=1e-12)


def test_fisher_takes_the_mean_where_nothing_is_known():
    library = random_library(BASE, Shift("bias"), "ab")
    fisher = {"shift:bias": library.profile.fisher["shift:bias"].at[:, 2].set(0).at[0, 3].set(0)}
    merged = rows(merge(library, Fisher(fisher)))[0]
    np.testing.assert_allclose(merged[2], rows(library)[:, 2].mean(), rtol=1e-12)
    np.testing.assert_allclose(merged[3], rows(library)[1, 3], rtol=1e-3)


def test_fisher_of_low_rank_needs_the_diagonal_of_the_product():
    library = random_library(BASE, LOW_RANK, "ab")
    with pytest.raises(ValueError, match="does not follow from those of its factors.*fisher_diagonal"):
        merge(library, "fisher")
    linear = linear_parameters(library)
    loss = lambda out, y: jnp.sum((out - y) ** 2)
    diagonal = fisher_diagonal(BASE, library.adapter.linear, linear, inputs("ab"), loss)
    merged = merge(library, Fisher(diagonal))
    flat = np.concatenate([np.asarray(diagonal[key]).reshape(2, -1) for key in sorted(diagonal)], axis=1)
    np.testing.assert_allclose(rows(merged)[0], oracle.fisher(rows(library), flat, [1, 1], 1e-6), rtol=1e-9)


def test_fisher_refuses_what_it_does_not_know():
    library = random_library(BASE, SCALES, "abc")
    merged = merge(library)
    with pytest.raises(ValueError, match="no Fisher diagonal is known for merged"):
        merge(library.add(merged), "fisher")
    with pytest.raises(ValueError, match="diagonal has the shapes"):
        merge(library, Fisher({"shift:bias": np.ones((3, 6))}))
    with pytest.raises(ValueError, match="none negative"):
        merge(library, "fisher", [1, -1, 1])
    with pytest.raises(ValueError, match="one positive"):
        merge(library, "fisher", [0, 0, 0])


def hidden_outputs(params, x):
    """What RegMean's least squares are about: the products of a matrix with what comes in."""
    return x @ params["hidden"]


@pytest.mark.parametrize(
    "part",
    [
        Shift("hidden"), IA3("hidden"), IA3("hidden", axis=0),
        pytest.param(LoRA("hidden", rank=2), marks=pytest.mark.slow),
    ],
    ids=["any matrix", "scaled outputs", "scaled inputs", "low rank"],
)  # fmt: skip
def test_regmean_has_the_least_squares(part):
    """Against a least-squares solve over the linear map from an adapter's parameters to the layer's outputs."""
    library, weights, tasks = random_library(BASE, part, "abc"), [1.0, 0.5, 2.0], inputs("abc")
    key = {"Shift": "shift", "IA3": "scale", "LoRA": "shift"}[type(part).__name__] + ":hidden"
    zero = library.adapter.linear.identity(BASE.params)[key]

    def outputs(a, x):
        changed = library.adapter.linear.apply(BASE.params, {key: a.reshape(zero.shape)})
        return hidden_outputs(changed, x) - hidden_outputs(BASE.params, x)

    jacobian = jax.jit(jax.jacobian(outputs))
    start, largest = np.zeros(zero.size), len(tasks["c"][0])

    def linear_map(x):
        """Of inputs filled up to as many as the largest task has, so that all share a program."""
        filled = np.concatenate([x, np.zeros((largest - len(x), 4))])
        return np.asarray(jacobian(start, filled))[: len(x)].reshape(-1, zero.size) / np.sqrt(len(x))

    maps = [linear_map(tasks[name][0]) for name in "abc"]
    expected = oracle.least_squares(maps, rows(library), weights)
    merged = merge(library, RegMean(tasks, off_diagonal=1.0, ridge=1e-12), weights)
    np.testing.assert_allclose(rows(merged)[0], expected, rtol=1e-7, atol=1e-9)


def test_regmean_formula_with_shrunk_off_diagonals_and_ridge():
    """The inputs of the second layer are those of each specialist's own first layer."""
    library, tasks = random_library(BASE, Shift("hidden") + Shift("out") + Shift("bias"), "ab"), inputs("ab")
    moments, params, parameters = [], *jax.tree.map(np.asarray, (BASE.params, library.parameters))
    for row, name in enumerate("ab"):
        a = {key: leaf[row] for key, leaf in parameters.items()}
        x, hidden = tasks[name][0], params["hidden"] + a["shift:hidden"]
        u = np.tanh(x @ hidden + params["bias"] + a["shift:bias"])
        moments.append(u.T @ u / len(x))
    merged = merge(library, RegMean(tasks, off_diagonal=0.7, ridge=0.05), [1.0, 3.0])
    expected = oracle.regmean(moments, parameters["shift:out"], [1.0, 3.0], 0.7, 0.05)
    np.testing.assert_allclose(merged.parameters["shift:out"][0], expected, rtol=1e-9)
    bias = parameters["shift:bias"]
    np.testing.assert_allclose(merged.parameters["shift:bias"][0], 0.25 * bias[0] + 0.75 * bias[1], rtol=1e-12)


def test_regmean_keeps_each_where_its_inputs_are():
    """Two tasks that see different inputs: each keeps its own rows, and rows that no one sees are averaged."""
    library = random_library(BASE, Shift("hidden"), "ab")
    x = np.eye(4)
    merged = merge(library, RegMean({"a": (x[:1], np.zeros(1)), "b": (x[1:2], np.zeros(1))}, ridge=1e-9))
    a, b = np.asarray(library.parameters["shift:hidden"])
    expected = np.stack([a[0], b[1], (a[2] + b[2]) / 2, (a[3] + b[3]) / 2])
    np.testing.assert_allclose(merged.parameters["shift:hidden"][0], expected, rtol=1e-6)


def test_regmean_follows_transposes_and_averages_what_is_no_product():
    """A transposed matrix is one axis the other way; a table, and a matrix used along both axes, are averaged."""
    rng = np.random.default_rng(2)
    shapes = {"both": (3, 4), "table": (5, 3), "turned": (6, 4)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}

    @jax.jit
    def layer(matrix, x):
        return x.astype(matrix.dtype) @ matrix.T

    def apply(params, x):
        u = params["table"][x] @ params["both"]
        return layer(params["turned"], u), u @ params["both"].T

    base = Base(params, apply)
    library = random_library(base, Shift("*"), "ab")
    tasks = {name: (rng.integers(0, 5, size=9), np.zeros(9)) for name in "ab"}
    merged = merge(library, RegMean(tasks, 0.8, 0.01))
    params, parameters = jax.tree.map(np.asarray, (params, library.parameters))
    for name in ("table", "both"):
        mean = parameters[f"shift:{name}"].mean(0)
        np.testing.assert_allclose(merged.parameters[f"shift:{name}"][0], mean, rtol=1e-12)
    moments = []
    for row, name in enumerate("ab"):
        a = {key: leaf[row] for key, leaf in parameters.items()}
        u = (params["table"] + a["shift:table"])[tasks[name][0]] @ (params["both"] + a["shift:both"])
        moments.append(u.T @ u / 9)
    turned = parameters["shift:turned"].swapaxes(1, 2)
    expected = oracle.regmean(moments, turned, [1, 1], 0.8, 0.01).T
    np.testing.assert_allclose(merged.parameters["shift:turned"][0], expected, rtol=1e-9)


def test_regmean_follows_matrices_into_calls():
    """A block that is computed again for the derivative, or has one of its own, is multiplied like any other."""

    def own_rule(f):
        g = jax.custom_jvp(f)
        g.defjvp(lambda primals, tangents: jax.jvp(f, primals, tangents))
        return g

    library, tasks = random_library(BASE, Shift("hidden") + Shift("out"), "ab"), inputs("ab")
    expected, mean = merge(library, RegMean(tasks)), merge(library)
    assert abs(rows(expected) - rows(mean)).max() > 0.1
    for wrap in (jax.checkpoint, own_rule):
        same = replace(library, base=replace(BASE, apply=wrap(BASE.apply)))
        np.testing.assert_allclose(rows(merge(same, RegMean(tasks))), rows(expected), rtol=1e-12)


@dataclass(frozen=True)
class Affine(Part):
    """`leaf ⊙ (1 + s) + t`: two arrays of parameters for a leaf."""

    keys = ("scale", "shift")

    def identity(self, name, leaf):
        return jnp.zeros(leaf.shape, leaf.dtype), jnp.zeros(leaf.shape, leaf.dtype)

    def change(self, leaf, *parameters):
        return leaf * (1 + parameters[0]) + parameters[1]


def test_regmean_averages_all_parameters_of_a_part():
    """A formula is for one array of parameters; what is averaged may have several."""
    library, tasks = random_library(BASE, Affine("bias") + Shift("hidden"), "ab"), inputs("ab")
    merged, mean = merge(library, RegMean(tasks)), merge(library)
    for key in ("scale:bias", "shift:bias"):
        np.testing.assert_allclose(merged.parameters[key], mean.parameters[key], rtol=1e-12)
    with pytest.raises(ValueError, match=r"no formula for Affine\(path='hidden'\), .* the parameters scale, shift"):
        merge(random_library(BASE, Affine("hidden"), "ab"), RegMean(tasks))


def test_regmean_needs_examples_of_each():
    library = random_library(BASE, SCALES, "abc")
    with pytest.raises(ValueError, match="no examples of c"):
        merge(library, RegMean(inputs("ab")))
    with pytest.raises(ValueError, match="NaN"):
        merge(library, RegMean(inputs("ab") | {"c": (np.full((2, 4), np.nan), np.zeros(2))}))
    with pytest.raises(ValueError, match="off_diagonal=1.5"):
        RegMean({}, off_diagonal=1.5)
    with pytest.raises(ValueError, match="ridge=0"):
        RegMean({}, ridge=0)


@pytest.mark.parametrize(
    "method", [*LINEAR_METHODS, *SIGNED_METHODS, TaskArithmetic(0.3), TIES(0.37), DARE(0.75, seed=4)], ids=repr
)
def test_the_recipe_reproduces_the_specialist(method):
    """The card's recipe is an expression in the parents, and these are known by their ids."""
    library = random_library(BASE, SCALES, "abcd")
    merged = merge(library[["d", "b", "a"]], method, [0.1, 1 / 3, 2.0])
    (card,) = merged.cards
    parents = library[[library.ids.index(parent) for parent in card.parents]]
    again = eval(card.recipe, dict(vars(__import__("jaxopt_lite.specialists", fromlist=["*"])), parents=parents))
    assert again.ids == merged.ids


def test_a_recipe_names_the_data_it_depends_on():
    library = random_library(BASE, SCALES, "ab")
    first, other = (repr(RegMean(inputs("ab", size))) for size in (30, 31))
    assert first != other and first == repr(RegMean(inputs("ba"[::-1])))
    assert repr(RegMean(inputs("\udcff"))) != repr(RegMean(inputs("a")))
    assert repr(Fisher(library.profile.fisher)) != repr(Fisher(jax.tree.map(lambda f: 2 * f, library.profile.fisher)))


def test_the_card_and_the_profile():
    library = random_library(BASE, SCALES, "abc")
    merged = merge(library, "ties", name="new", author="someone", license="MIT")
    (card,) = merged.cards
    assert (card.name, card.author, card.license, card.examples) == ("new", "someone", "MIT", 6)
    assert card.parents == library.ids and "TIES(density=0.2" in card.recipe
    assert merged.profile.count.tolist() == [6]
    mean = (1 * library.profile.mean[0] + 2 * library.profile.mean[1] + 3 * library.profile.mean[2]) / 6
    np.testing.assert_allclose(merged.profile.mean[0], mean, rtol=1e-12)
    grown = library.add(merged)
    assert grown.names == ("a", "b", "c", "new") and grown.ids[:3] == library.ids


@pytest.mark.slow  # that each leaf keeps its dtype is below
@pytest.mark.parametrize("method", METHODS, ids=lambda method: repr(method)[:24])
def test_single_precision_stays(method):
    library = random_library(small_base(np.float32), SCALES, "abc")
    assert {leaf.dtype.name for leaf in merge(library, method).parameters.values()} == {"float32"}


def test_merge_refuses():
    library = random_library(BASE, SCALES, "ab")
    with pytest.raises(ValueError, match="library is empty"):
        merge(library[[]])
    with pytest.raises(ValueError, match="expected one of mean, arithmetic, ties, dare, fisher"):
        merge(library, "median")
    for weights in ([1.0], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="expected 2 finite numbers"):
            merge(library, "mean", weights)
    for density in (0.0, 1.1, np.nan):
        with pytest.raises(ValueError, match="density"):
            TIES(density)
    for density in (0.0, 1.1, np.nan):
        with pytest.raises(ValueError, match="density"):
            DARE(density)


def test_compressing_is_the_best_of_its_rank():
    """The error is that of the singular values that are left out, and scale and other parts come through."""
    library = merge(random_library(BASE, LOW_RANK, "abc"))
    adapter = LoRA("hidden", rank=2, alpha=5.0) + Shift("bias")
    compressed, error = compress(library, adapter)
    change = np.asarray(library.parameters["shift:hidden"][0])
    singular = np.linalg.svd(change, compute_uv=False)
    np.testing.assert_allclose(error[0], np.linalg.norm(singular[2:]) / np.linalg.norm(rows(library)), rtol=1e-9)
    left = linear_parameters(compressed)
    np.testing.assert_allclose(np.linalg.norm(left["shift:hidden"][0] - change), np.linalg.norm(singular[2:]))
    np.testing.assert_array_equal(left["shift:bias"], library.parameters["shift:bias"])
    assert compressed.adapter == adapter and compressed.cards[0].parents == library.ids
    assert "rank=2" in compressed.cards[0].recipe


@pytest.mark.parametrize("rank", [2, pytest.param(4, marks=pytest.mark.slow), 6])
def test_compressing_loses_nothing_where_the_rank_suffices(rank):
    """Back to LoRA, beside those it was made of; also where the rank is more than the matrix can have."""
    library = random_library(BASE, LoRA("hidden", rank=2), "ab")
    compressed, error = compress(library, LoRA("hidden", rank=rank))
    assert compressed.parameters["down:hidden"].shape == (2, 4, rank) and np.all(np.asarray(error) < 1e-14)
    np.testing.assert_allclose(rows(compressed), rows(library), atol=1e-13)


def test_compressing_nothing_can_still_be_fitted():
    """For no change the first factor is not zero, or a fit that starts there would never move."""
    adapter = Adapter((Shift("hidden"),))
    library = library_of(BASE, adapter, "a", {"shift:hidden": np.zeros((1, 4, 6))})
    compressed, error = compress(library, LoRA("hidden", rank=2))
    assert error.tolist() == [0]
    np.testing.assert_allclose(np.linalg.norm(compressed.parameters["down:hidden"][0], axis=0), 1)
    assert not np.any(compressed.parameters["up:hidden"])


def test_compress_refuses_another_linear_form():
    with pytest.raises(ValueError, match="linear form"):
        compress(random_library(BASE, SCALES, "a"), LoRA("hidden"))


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        ([True, False, True], TypeError), (np.array([True, False, True]), TypeError), (["a", "b", "c"], TypeError),
        ([1j, 1, 1], TypeError), ([None, 1, 1], TypeError), ([1, 1], ValueError), (1.0, ValueError),
        ([[1, 1, 1]], ValueError), ([1, np.nan, 1], ValueError), ([1, np.inf, 1], ValueError),
        (np.zeros(0), ValueError),
    ],
)  # fmt: skip
def test_weights_are_numbers_one_for_each(weights, error):
    """A mask is no choice of whom to merge: that is `library[mask]`."""
    library = random_library(BASE, SCALES, "abc")
    with pytest.raises(error, match="weights.*expected (real numbers|3 finite numbers)"):
        merge(library, "mean", weights)


def test_weights_that_are_too_large_for_the_parameters():
    base = small_base(np.float32)
    with pytest.raises(ValueError, match="expected 2 finite numbers"):
        merge(random_library(base, SCALES, "ab"), "mean", [1e300, 1.0])


def test_a_method_is_a_method():
    library = random_library(BASE, SCALES, "ab")
    for method in (TIES, "TIES", None, 1, Mean):
        with pytest.raises(ValueError, match="method=.*expected one of mean"):
            merge(library, method)
    with pytest.raises(TypeError, match="then='mean': expected a method"):
        DARE(then="mean")


@pytest.mark.parametrize(
    "method",
    [
        "mean", "ties", "fisher", RegMean(inputs("ab")),
        *(pytest.param(method, marks=pytest.mark.slow) for method in ("arithmetic", "dare", DARE(then=TIES()))),
    ],
)  # fmt: skip
def test_a_merge_has_the_dtypes_of_what_it_merges(method):
    """So that it can join its own library, and the features' mean too, so that it can join its folder."""
    base = small_base(np.float32)
    half = {name: leaf.astype(jnp.bfloat16 if name == "bias" else leaf.dtype) for name, leaf in base.params.items()}
    base = Base(half, base.apply, features=lambda params, x: x.astype(jnp.bfloat16))
    library = random_library(base, Shift("bias") + Shift("out"), "ab")
    profile = replace(library.profile, mean=library.profile.mean.astype(jnp.bfloat16))
    library = replace(library, profile=profile)
    merged = merge(library, method)
    assert [leaf.dtype for leaf in merged.parameters.values()] == [leaf.dtype for leaf in library.parameters.values()]
    assert merged.profile.mean.dtype == jnp.bfloat16
    both = library.add(merged)
    assert len(both) == 3 and {leaf.dtype.name for leaf in both.parameters.values()} == {"bfloat16", "float32"}


def test_sums_and_squares_of_half_precision_are_in_range():
    """Of more numbers than float16 can count, and of larger ones than it can square."""
    size = 140_000
    base = Base({"b": jnp.zeros(size, jnp.float16)}, lambda params, x: params["b"] + x)
    mine = np.arange(size) % 2 == 0
    parameters = {"shift:b": np.asarray([np.where(mine, 300, 100), np.where(mine, 100, 300)], jnp.float16)}
    library = library_of(base, as_adapter(Shift("b")), "ab", parameters)
    diagonal = {"shift:b": np.asarray([mine, ~mine], jnp.float16)}
    merged = merge(library, Fisher(diagonal)).parameters["shift:b"]
    assert merged.dtype == jnp.float16
    np.testing.assert_allclose(np.asarray(merged, float), 300, rtol=1e-3)

    change = 100 * np.random.default_rng(0).normal(size=(1, 8, 8))
    matrix = Base({"w": jnp.zeros((8, 8), jnp.float16)}, lambda params, x: x @ params["w"])
    dense = library_of(matrix, as_adapter(Shift("w")), "a", {"shift:w": np.asarray(change, jnp.float16)})
    lost = np.linalg.svd(change[0], compute_uv=False)
    expected = np.linalg.norm(lost[2:]) / np.linalg.norm(lost)
    np.testing.assert_allclose(compress(dense, LoRA("w", rank=2)).error, [expected], rtol=1e-2)

    tasks = {"a": ((300 * np.eye(8)).astype(np.float16), np.zeros(8))}  # of one task, so that it merges to itself
    merged = merge(dense, RegMean(tasks)).parameters["shift:w"]
    np.testing.assert_array_equal(merged, dense.parameters["shift:w"])


@pytest.mark.parametrize("kind", [np.float64, np.float32, jnp.float32])
def test_recipes_are_plain_whatever_settings_were_given_as(kind):
    """Where they were kept as given, a recipe said `np.float64(0.5)`, and TIES refused numbers of JAX."""
    library = random_library(BASE, SCALES, "ab")
    diagonal = library.profile.fisher
    half, one = kind(0.5), kind(1)
    given = (
        TIES(half, one),
        DARE(half, TaskArithmetic(half), np.int64(3)),
        Fisher(diagonal, half),
        RegMean({}, half, one),
    )
    plain = TIES(0.5), DARE(0.5, TaskArithmetic(0.5), 3), Fisher(diagonal, 0.5), RegMean({}, 0.5, 1.0)
    assert list(map(repr, given)) == list(map(repr, plain))
    merged = merge(library, given[0])
    assert merged.ids == merge(library, plain[0]).ids and "TIES(density=0.5, scale=1.0)" in merged.cards[0].recipe


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_fisher_diagonals_are_means_of_squares(bad):
    library = random_library(BASE, SCALES, "abc")
    diagonal = library.profile.fisher | {"shift:bias": library.profile.fisher["shift:bias"].at[1, 2].set(bad)}
    for method, one in ((Fisher(diagonal), library), (Fisher(), with_fisher(library, diagonal))):
        with pytest.raises(ValueError, match="Fisher diagonals of b hold NaN, infinity or negative numbers"):
            merge(one, method)


def with_fisher(library, diagonal):
    return replace(library, profile=replace(library.profile, fisher=diagonal))


def test_compressing_half_precision():
    base = small_base(jnp.bfloat16)
    library = random_library(base, LoRA("hidden", rank=1), "ab")
    again = compress(merge(library[["a"]]), LoRA("hidden", rank=1))
    assert again.error[0] < 0.01
    assert {leaf.dtype.name for leaf in again.library.parameters.values()} == {"bfloat16"}


def test_a_diagonal_that_changes_later_changes_no_merge():
    library = random_library(BASE, Shift("bias"), "ab")
    diagonal = {"shift:bias": np.arange(1.0, 13).reshape(2, 6)}
    method = Fisher(diagonal)
    expected, recipe = rows(merge(library, method)), merge(library, method).cards[0].recipe
    diagonal["shift:bias"][:] = 1
    merged = merge(library, method)
    np.testing.assert_array_equal(rows(merged), expected)
    assert merged.cards[0].recipe == recipe


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_the_size_of_a_fisher_diagonal_does_not_matter(scale):
    library = random_library(BASE, SCALES, "ab")
    ones = {key: np.ones(leaf.shape, np.float32) for key, leaf in linear_parameters(library).items()}
    diagonal = {key: np.arange(leaf.size, dtype=np.float32).reshape(leaf.shape) + 1 for key, leaf in ones.items()}
    scaled = {key: leaf * np.float32(scale) for key, leaf in diagonal.items()}
    expected, found = (rows(merge(library, Fisher(each))) for each in (diagonal, scaled))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
