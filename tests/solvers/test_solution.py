"""How a solution shows itself: at the prompt, in 80 columns, in a notebook, as a data frame."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lite as jol
from jaxopt_lite.lanes.status import MESSAGES
from jaxopt_lite.solvers.solution import Solution

STATUS = np.array([0, 2, 0, 8, 5, 5])


def solution(x=None, status=STATUS, **rest) -> Solution:
    """By hand."""
    numbers = np.zeros(np.shape(status))
    x = np.arange(2.0 * numbers.size).reshape(*numbers.shape, 2) if x is None else x
    rest = dict(fun=None, grad=None) | rest
    evaluations = np.full(np.shape(status), 1500)
    return Solution(x=x, error=numbers + 0.25, status=status, success=np.isin(status, (0, 8)), steps=evaluations,
                    evaluations=evaluations, **rest)  # fmt: skip


def test_at_the_prompt_it_is_a_line():
    shown = "Solution(6 problems of 2 unknowns: 2 CONVERGED, 1 STALLED, 2 NO_ROOT, 1 AT_PRECISION)"
    assert repr(solution()) == shown
    one = solution({"a": np.zeros(3), "b": np.zeros(())}, np.array(0))
    assert repr(one) == "Solution(1 problem of 4 unknowns: 1 CONVERGED)"
    assert repr(solution(status=STATUS[:0])) == "Solution(0 problems of 2 unknowns: )"


def test_what_has_no_numbers_yet_is_shown_field_by_field():
    shown = []

    @jax.jit
    def inside(made):
        shown.append((repr(made), made._repr_html_()))
        return made.status

    inside(jax.tree.map(jnp.asarray, solution()))
    shapes = jax.eval_shape(lambda made: made, solution())
    axes = jax.tree.map(lambda leaf: 0, solution())
    for text in (shown[0][0], repr(shapes), repr(axes)):
        assert text.startswith("Solution(x=") and "status=" in text
    assert shown[0][1].startswith("<pre>Solution(x=")
    for asked in (Solution.summary, Solution.raise_if_failed, Solution.to_pandas):
        with pytest.raises(TypeError, match=rf"{asked.__name__}\(\) needs numbers, .* mask by `success`"):
            asked(shapes)


def test_a_summary_fits_80_columns_and_leaves_nothing_out():
    every = np.array([status for status in jol.Status if status >= 0])
    text = solution(status=every).summary()
    assert max(map(len, text.splitlines())) <= 80
    joined = " ".join(text.split())
    assert all(" ".join(MESSAGES[status].split()) in joined for status in every.tolist())
    assert solution(status=np.array(0)).summary().startswith("1 problem, 1 solved\n")


def test_in_a_notebook_it_is_a_table():
    html = solution()._repr_html_()
    assert "6 problems, 3 solved" in html and html.count("<tr>") == 5  # the headings, and four statuses
    assert "NO_ROOT" in html and "4, 5" in html and "1,500" in html and "‖F‖" in html


def test_pandas_has_a_row_for_each_problem():
    pandas = pytest.importorskip("pandas")
    frame = solution().to_pandas()
    assert list(frame.columns) == ["x[0]", "x[1]", "status", "success", "steps", "evaluations", "error"]
    assert frame.index.name == "problem" and frame["x[1]"].tolist() == [1, 3, 5, 7, 9, 11]
    assert frame["status"].tolist() == ["CONVERGED", "STALLED", "CONVERGED", "AT_PRECISION", "NO_ROOT", "NO_ROOT"]
    assert isinstance(frame["status"].dtype, pandas.CategoricalDtype) and frame["success"].sum() == 3
    x = {"rate": np.arange(6.0), "w": [np.zeros((6, 2, 1))]}
    least = solution(x, grad=x, cost=np.ones(6)).to_pandas()
    assert list(least.columns[:3]) == ["x.rate", "x.w.0[0, 0]", "x.w.0[1, 0]"] and "cost" in least
    assert solution(np.arange(6.0), grad=0.0, fun=np.full(6, 7.0)).to_pandas()["fun"].tolist() == [7.0] * 6
    assert list(solution(np.zeros(6)).to_pandas().columns[:1]) == ["x"]
    assert solution(status=np.array(0)).to_pandas().shape == (1, 7)
    nested = solution(status=STATUS.reshape(2, 3)).to_pandas()
    assert nested.loc[(1, 0), "status"] == "AT_PRECISION" and nested.index.nlevels == 2


def test_what_pandas_is_in_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"pip install 'jaxopt-lite\[pandas\]'"):
        solution().to_pandas()
