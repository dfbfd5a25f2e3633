"""What is drawn: lines, colors, labels. Most solutions are made by hand, for a picture asks for few numbers."""

import io
import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from rich.console import Console

import jaxopt_lite as jol
from jaxopt_lite import Status, bpe, plots
from jaxopt_lite.plots import style
from jaxopt_lite.solvers.solution import History, Solution
from jaxopt_lite.specialists import Similarity
from jaxopt_lite.specialists.report import Cost, Report, Routing, Row

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.colors import to_hex, to_rgb  # noqa: E402

pytestmark = pytest.mark.hardly_optimized


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def solution(status, steps, x=None, history=None, grad=0.0) -> Solution:
    """A solution by hand: of a minimum, or of a root where `grad` is None."""
    status, steps = np.asarray(status), np.asarray(steps)
    x = np.zeros((*status.shape, 2)) if x is None else np.asarray(x)
    grad = None if grad is None else np.zeros_like(x)
    error = np.zeros(status.shape)
    return Solution(x, error, grad, error, status, np.isin(status, (0, 8)), steps, steps, history=history)


def recorded(errors) -> Solution:
    errors = np.asarray(errors, float)
    shape = errors.shape[:-1]
    return solution(np.zeros(shape, int), np.zeros(shape, int), history=History(errors**2, errors))


# --- Style -----------------------------------------------------------------------------------------------------------


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("paper", ["white", "#111111"])
def test_text_and_colors_are_seen_on_light_and_on_dark_paper(paper):
    assert contrast(style.GREY, paper) > 4
    assert all(contrast(color, paper) > 2 for color in style.COLORS)


def test_a_new_figure_is_transparent_and_its_text_grey():
    before = dict(pyplot.rcParams)
    ax = plots.statuses(solution([0, 1], [3, 9]))
    assert ax.figure.get_facecolor()[3] == ax.get_facecolor()[3] == 0
    legend = ax.get_legend()
    texts = [
        ax.xaxis.label,
        ax.yaxis.label,
        ax.title,
        *ax.get_xticklabels(),
        *ax.get_yticklabels(),
        *legend.get_texts(),
    ]
    shown = {to_hex(text.get_color()) for text in texts if text.get_text() or text is not ax.title}
    assert shown == {style.GREY} and not legend.get_frame_on()
    assert dict(pyplot.rcParams) == before  # the user's own settings stay


def test_given_axes_are_drawn_on_and_keep_their_colors():
    figure, given = pyplot.subplots()
    assert plots.statuses(solution([0], [3]), ax=given) is given
    assert figure.get_facecolor()[3] == 1 and to_hex(given.xaxis.label.get_color()) == "#000000"


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"pip install 'jaxopt-lite\[plot\]'"):
        plots.statuses(solution([0], [3]))


# --- Batches ---------------------------------------------------------------------------------------------------------


def test_convergence_draws_quantiles_over_steps():
    nan = np.nan
    errors = [[1, 0.1, 0.01, 1e-3, nan], [1, 0.5, nan, nan, nan], [1, 0.2, 0.04, nan, nan], [nan] * 5]
    ax = plots.convergence(recorded(errors))
    (line,) = ax.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2, 3])  # up to the last step of any
    np.testing.assert_allclose(line.get_ydata(), [1, 0.2, 0.04, 0.04])  # what has ended keeps its last number
    assert len(ax.collections) == 2 and ax.get_yscale() == "log"
    outer = ax.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(outer[outer[:, 0] == 2, 1].min(), np.quantile([0.01, 0.5, 0.04], 0.05))
    assert ax.get_xlabel() == "accepted steps" and ax.get_ylabel() == "gradient ‖∇f(x)‖∞"
    assert "3 problems" in ax.get_title(loc="left") and ax.get_legend() is None


def test_convergence_of_one_problem_zeros_and_values():
    ax = plots.convergence(recorded([1.0, 0.1, 0.0]))
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [1, 0.1, 0.1])  # a zero has no place on a log axis
    assert not ax.collections
    falling = recorded([[3.0, 2.0]])
    object.__setattr__(falling, "history", History(np.array([[1.0, -2.0]]), falling.history.error))
    ax = plots.convergence(falling, "value")
    assert ax.get_yscale() == "linear" and ax.get_ylabel() == "f(x)" and ax.get_lines()[0].get_ydata()[1] == -2


def test_several_batches_on_the_same_axes_have_colors_and_names():
    ax = plots.convergence(recorded([[1.0, 0.5]] * 2), label="one")
    plots.convergence(recorded([[1.0, 0.2]] * 2), label="other", ax=ax)
    colors = [line.get_color() for line in ax.get_lines()]
    assert colors == list(style.COLORS[:2])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "other"]
    assert [to_hex(band.get_facecolor()[0]) for band in ax.collections] == [c.lower() for c in np.repeat(colors, 2)]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: plots.convergence(solution([0], [1])), "record="),
        (lambda: plots.convergence(recorded([[np.nan, np.nan]])), "no problem has a finite number"),
        (lambda: plots.convergence(recorded([[1.0]]), "gradient"), "quantity='gradient': expected 'error' or 'value'"),
        (lambda: plots.basins(np.zeros((3, 2)), solution([0], [1])), r"starts has shape \(3, 2\); expected \[1, n\]"),
        (lambda: plots.basins(np.zeros((1, 2)), solution([0], [1]), unknowns=(0, 2)), r"unknowns=\(0, 2\): .* 0 to 1"),
        (lambda: plots.basins(np.zeros((1, 2)), solution([0], [1]), tolerance=-1), "tolerance=-1: expected a positive"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_statuses_are_stacked_bars_with_counts():
    status = [Status.CONVERGED] * 5 + [Status.STALLED] * 2 + [Status.AT_PRECISION]
    ax = plots.statuses(solution(status, [3, 3, 3, 4, 9, 9, 9, 4]))
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["converged (5)", "at precision (1)", "stalled (2)"]  # the solved ones first
    heights = np.array([[bar.get_height() for bar in bars] for bars in ax.containers])
    assert heights.sum(axis=1).tolist() == [5, 1, 2]
    at_nine = [bars[-1] for bars in ax.containers]
    assert [bar.get_height() for bar in at_nine] == [1, 0, 2] and at_nine[2].get_y() == 1
    assert np.isclose(at_nine[0].get_x() + at_nine[0].get_width() / 2, 9)
    assert [to_hex(bars[0].get_facecolor()) for bars in ax.containers] == ["#0072b2", "#009e73", "#d55e00"]
    assert ax.get_title(loc="left") == "8 problems, 6 solved"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda it: plots.convergence(it), "solution: expected a Solution"),
        (lambda it: plots.statuses(it), "solution: expected a Solution"),
        (lambda it: plots.basins(np.zeros((1, 2)), it), "solution: expected a Solution"),
        (
            lambda it: plots.bands(it, None, [1.0]),
            "solution: expected a Solution of `least_squares`",
        ),
        (lambda it: plots.compression(it, "a"), "tokenizer: expected a Tokenizer"),
        (lambda it: plots.rounds(it), "tokenizer: expected a Tokenizer"),
        (lambda it: plots.tokens(it, "a"), "tokenizer: expected a Tokenizer"),
        (
            lambda it: plots.similarity(it),
            "matrix: expected what `specialists.similarity` returns",
        ),
        (lambda it: plots.confusion(it), "report: expected what `specialists.evaluate` returns"),
    ],
)
def test_what_cannot_be_drawn_is_named(draw, message):
    """As embeddings in place of their similarity, whose `distance` is a name."""
    with pytest.raises(TypeError, match=re.escape(f"{message}, got SimpleNamespace.")):
        draw(SimpleNamespace(names=("a",), distance="cosine"))


def test_given_axes_may_be_logarithmic_but_must_be_axes():
    ax = pyplot.subplots()[1]
    ax.set_yscale("log")
    assert plots.statuses(solution([0, 0], [3, 5]), ax=ax).get_yscale() == "log"
    with pytest.raises(TypeError, match="ax: expected the axes to draw on, got ndarray"):
        plots.statuses(solution([0], [3]), ax=np.array([ax]))


def test_statuses_of_no_problem_and_of_one():
    assert plots.statuses(solution(np.zeros(0, int), np.zeros(0, int))).get_title(loc="left") == "0 problems, 0 solved"
    assert plots.statuses(solution(0, 7)).get_title(loc="left") == "1 problem, 1 solved"


def test_every_status_has_a_color():
    every = [status for status in Status if status >= 0]
    ax = plots.statuses(solution(every, np.full(len(every), 2)))
    assert len(ax.get_legend().get_texts()) == len(every)


GRID = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0)), -1).reshape(-1, 2)


def test_basins_color_each_start_by_its_answer():
    answers = np.where(GRID[:, :1] < 2.5, [[0.0, 1.0]], [[5.0, 0.0]]) + 1e-9 * GRID
    status = np.where(GRID.sum(axis=1) == 0, int(Status.NO_ROOT), 0)
    shuffle = np.random.default_rng(0).permutation(12)
    made = solution(status[shuffle], np.arange(12)[shuffle], answers[shuffle])
    ax = plots.basins(GRID[shuffle], made)
    (mesh,) = ax.collections
    image = mesh.get_array()
    assert image.shape == (3, 4, 4)
    names = np.array([[to_hex(pixel[:3]) for pixel in row] for row in image])
    assert names[0, 0] == style.GREY and set(names[1:, :3].ravel()) == {"#0072b2"}
    assert set(names[:, 3]) == {"#e69f00"}
    assert image[0, 1, 3] > image[2, 2, 3] > image[2, 3, 3] == pytest.approx(0.4)  # fainter where it takes longer
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["(0, 1): 67%", "(5, 0): 25%", "unsolved: 8%"]
    assert [tuple(np.round(line.get_xydata()[0])) for line in ax.get_lines()[:2]] == [(0, 1), (5, 0)]


def test_basins_of_starts_that_fill_no_grid_and_of_very_many_answers():
    starts = np.random.default_rng(1).normal(size=(40, 3))
    ax = plots.basins(starts, solution(np.zeros(40, int), np.zeros(40, int), 100 * starts), unknowns=(2, 0))
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), starts[:, [2, 0]])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(labels) == len(style.COLORS) + 1 and labels[-1] == "others: 85%"
    assert ax.get_xlabel() == "start, x[2]" and ax.get_ylabel() == "start, x[0]"


def test_answers_in_a_chain_are_one_and_tolerance_says_how_near():
    x = np.stack([np.arange(12.0), np.zeros(12)], axis=1)
    count = lambda tolerance: len(
        plots.basins(GRID, solution(np.zeros(12, int), np.zeros(12, int), x), tolerance=tolerance).get_lines()
    )
    assert count(1.0) == 1 and count(0.1) == len(style.COLORS) + 1
    none = plots.basins(GRID, solution(np.full(12, 2), np.zeros(12, int), x))
    assert [text.get_text() for text in none.get_legend().get_texts()] == ["unsolved: 100%"]


def test_starts_from_which_nothing_is_solved_do_not_make_answers_one():
    """One far away, or that is no number, does not say how near two answers are."""
    starts, answers = np.arange(12.0).reshape(6, 2), np.repeat([[0.0, 0.0], [5.0, 0.0]], 3, axis=0)
    starts[2], starts[3] = np.nan, 1e30
    ax = plots.basins(starts, solution([0, 0, 5, 5, 0, 0], np.zeros(6, int), answers))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["(0, 0): 33%", "(5, 0): 33%", "unsolved: 33%"]


# --- Fits ------------------------------------------------------------------------------------------------------------


def line(x, t):
    return x[0] + x[1] * t


T = np.linspace(0.0, 4.0, 9)
Y = np.stack([1 + 2 * T + 0.1 * np.cos(7 * T), 3 - T + 0.2 * np.sin(5 * T)])


@pytest.fixture(scope="module")
def fits():
    return jol.least_squares(lambda x, data: line(x, data[0]) - data[1], np.zeros((2, 2)), (T, Y), args_axes=(None, 0))


def test_bands_are_those_of_the_covariance(fits):
    ax = plots.bands(fits, line, T, Y[1], index=1, level=0.9, label="line")
    data, curve = ax.get_lines()
    np.testing.assert_array_equal(data.get_xydata(), np.stack([T, Y[1]], axis=1))
    slope, offset = np.polyfit(T, Y[1], 1)
    np.testing.assert_allclose(curve.get_ydata(), offset + slope * curve.get_xdata(), atol=1e-6)
    # The textbook's band of a straight line: s² (1/m + (t − mean)² / Σ(t − mean)²), Student's t of m − 2.
    s = np.sqrt(np.sum((Y[1] - offset - slope * T) ** 2) / 7)
    at = scipy.stats.t.ppf(0.95, 7) * s * np.sqrt(1 / 9 + (0 - 2.0) ** 2 / np.sum((T - 2) ** 2))
    band = ax.collections[0].get_paths()[0].vertices
    ends = band[band[:, 0] == 0, 1]
    np.testing.assert_allclose([ends.min(), ends.max()], [offset - at, offset + at], rtol=1e-5)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["data", "line", "90 % confidence"]


def test_bands_want_one_fit(fits):
    with pytest.raises(ValueError, match="2 fits; expected index="):
        plots.bands(fits, line, T)
    with pytest.raises(IndexError, match="index=2: expected a fit from 0 to 1"):
        plots.bands(fits, line, T, index=2)
    with pytest.raises(ValueError, match="9 places and y has 18 data"):
        plots.bands(fits, line, T, Y, index=0)
    with pytest.raises(ValueError, match="index=True: expected a whole number"):
        plots.bands(fits, line, T, index=True)
    with pytest.raises(ValueError, match="t: expected at least one place that is finite, got 2 others"):
        plots.bands(fits, line, [np.nan, np.inf], index=0)
    with pytest.raises(ValueError, match=r"model: expected 200 numbers at 200 places, got the shape \(\)"):
        plots.bands(fits, lambda x, t: x[0], T, index=0)
    with pytest.raises(ValueError, match="least_squares"):
        plots.bands(solution([0], [1]), line, T)
    assert len(plots.bands(fits, line, T, index=-1).get_lines()) == 1
    (curve,) = plots.bands(fits, line, [*T, np.nan], index=0).get_lines()  # a gap in the data
    assert curve.get_xdata()[[0, -1]].tolist() == [0, 4] and np.isfinite(curve.get_ydata()).all()


# --- Tokenizers ------------------------------------------------------------------------------------------------------


TEXT = ["the cat and the hat and the rat sat there, then they that were there sat too"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(TEXT, merges=20, special_tokens=["<end>"], progress=False)


def test_compression_is_that_of_each_smaller_tokenizer(tokenizer):
    held_out = "the other cat, there <end>"
    ax = plots.compression(tokenizer, {"held out": held_out, "training": TEXT})
    one, other = ax.get_lines()
    np.testing.assert_array_equal(one.get_xdata(), 257 + np.arange(21))
    for merges in (0, 1, 7, 20):
        smaller = bpe.train(TEXT, merges=merges, special_tokens=["<end>"], progress=False)
        ids = smaller.encode(held_out, special="ignore")
        assert np.isclose(one.get_ydata()[merges], len(held_out) / len(ids))
    assert other.get_ydata()[-1] > one.get_ydata()[-1] and one.get_color() != other.get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["held out", "training"]
    assert ax.get_xlabel() == "tokens in the vocabulary" and ax.get_ylabel() == "bytes per token"


def test_compression_refuses_what_it_cannot_cut_off(tokenizer):
    twice = bpe.Vocabulary((b"a", b"b", b"ab", b"abb"), [[2, 1], [0, 1]], [3, 2])
    with pytest.raises(ValueError, match="merges in order"):
        plots.compression(bpe.Tokenizer(twice, bpe.splitter("gpt4")), "ab")
    with pytest.raises(ValueError, match="at least one token"):
        plots.compression(tokenizer, [""])


def test_rounds_are_runs_of_merges_that_touch_no_other(tokenizer):
    ax = plots.rounds(tokenizer)
    (points,) = ax.get_lines()
    first, lengths = points.get_data()
    assert lengths.sum() == 20 and first[0] == 1 and np.array_equal(np.diff(first), lengths[:-1])
    merges, made = tokenizer.vocabulary.merges, tokenizer.vocabulary.merged
    for start, length in zip(first.astype(int) - 1, lengths, strict=True):
        run = slice(start, start + length)
        assert not set(merges[run].ravel()) & set(made[run])
    assert ax.get_title(loc="left").startswith(f"20 merges in {len(lengths)} rounds")


class Spans(HTMLParser):
    """The text of each span, and whatever else is marked up."""

    def __init__(self, html: str):
        super().__init__()
        self.texts, self.styles, self.tags = [], [], set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "span":
            self.texts.append("")
            self.styles.append(dict(attrs)["style"])

    def handle_data(self, data):
        if self.texts and self.lasttag == "span":
            self.texts[-1] += data


def test_tokens_color_a_text(tokenizer):
    text = "the <b>cat</b> & é\nthere<end>"
    shown = plots.tokens(tokenizer, text)
    assert shown.ids == tuple(tokenizer.encode(text, special="encode"))
    assert str(shown).startswith("the|") and str(shown).endswith("|<end>") and r"\xc3|\xa9" in str(shown)
    spans = Spans(shown._repr_html_())
    assert spans.tags == {"div", "span", "small"}  # nothing of the text became markup
    assert "".join(spans.texts).replace(r"\xc3\xa9", "é").replace("⏎", "").startswith(text)
    assert all(one != other for one, other in zip(spans.styles, spans.styles[1:], strict=False))
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="truecolor", width=80).print(shown)
    assert "\x1b[30;48;2;86;180;233mthe\x1b[0m" in out.getvalue()  # black on sky blue
    plain = io.StringIO()
    Console(file=plain, width=80).print(shown)
    assert plain.getvalue().replace("⏎", "").startswith("the <b>cat</b>")  # no markup of rich's either


def test_a_text_gives_a_terminal_no_orders(tokenizer):
    shown = plots.tokens(tokenizer, "\x1b[31mred\a\u202e\tx\n")
    assert "".join(shown.pieces) == "\\x1b[31mred\\x07" + "\\xe2\\x80\\xae" + "\tx\n"


def test_tokens_with_a_mark_behind_words():
    marked = bpe.train(["low low lower"], merges=3, pattern="whitespace", end_of_word="_", progress=False)
    assert "".join(plots.tokens(marked, "low lower").pieces) == "low lower "


# --- Specialists -----------------------------------------------------------------------------------------------------


def report(destinations, specialists=("a", "b")) -> Report:
    rows = tuple(Row(name, loss, np.array([loss])) for name, loss in (("base", 1.0), ("oracle", 0.5), ("routed", 0.6)))
    return Report(
        "mean loss", ("a", "b"), rows, Routing(0.5, 0.0, None), Cost(8, None, None), specialists, destinations
    )


def test_confusion_draws_shares_of_each_task():
    made = report({"a": np.array([0, 0, 0, 1]), "b": np.array([1, -1]), "new": np.array([], int)})
    ax = made.plot()
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.75, 0.25, 0], [0, 0.5, 0.5], [0, 0, 0]])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "base"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b", "new"]
    assert {(text.get_position(), text.get_text()) for text in ax.texts} == {
        ((0, 0), "75%"), ((1, 0), "25%"), ((1, 1), "50%"), ((2, 1), "50%"),
    }  # fmt: skip
    assert made.confusion().counts.tolist() == [[3, 1, 0], [0, 1, 1], [0, 0, 0]]


def test_similarity_draws_the_matrix_with_its_names():
    matrix = Similarity(("a", "b"), np.array([[0.0, 0.3], [0.3, 0.0]]))
    ax = matrix.plot()
    np.testing.assert_array_equal(ax.images[0].get_array(), matrix.distance)
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["a", "b"]
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "distance" and to_hex(bar.yaxis.label.get_color()) == style.GREY
    many = tuple(map(str, range(60)))
    assert len(plots.similarity(Similarity(many, np.zeros((60, 60)))).get_xticklabels()) < 60


def test_every_picture_can_be_written(tokenizer, fits, tmp_path):
    """Whatever a backend finds out only when it draws."""
    drawn = [
        plots.convergence(recorded([[1.0, 0.1]] * 3), label="_x$"),
        plots.basins(GRID, solution(np.zeros(12, int), np.arange(12))),
        plots.bands(fits, line, T, Y[0], index=0),
        plots.compression(tokenizer, TEXT),
        plots.rounds(tokenizer),
        report({"a": np.array([0])}, ("$x^", "$ {\\y")).plot(),
    ]
    for k, ax in enumerate(drawn):
        ax.figure.savefig(tmp_path / f"{k}.png")
        image = pyplot.imread(tmp_path / f"{k}.png")
        assert image[0, 0, 3] == 0 and image[..., 3].max() == 1  # transparent, and something on it


def test_the_jax_arrays_of_a_solve_are_drawn_as_they_are():
    real = solution(jnp.zeros(2, int), jnp.array([1, 2]), jnp.zeros((2, 2)))
    assert re.match("2 problems", plots.statuses(real).get_title(loc="left"))
