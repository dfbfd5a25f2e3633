"""Reads NIST's nonlinear regression files: observations, two starts, certified parameters. Imports NumPy only.

Source: Statistical Reference Datasets (StRD), National Institute of Standards and Technology, public domain.
"""

import re
from importlib import resources
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = ["Dataset", "parse", "read"]

HEADER = "NIST/ITL StRD"


class Dataset(NamedTuple):
    """One regression with NIST's certified answer."""

    name: str
    level: str  # of difficulty, as NIST rates it: "lower", "average" or "higher"
    x: Float[np.ndarray, " m"]
    y: Float[np.ndarray, " m"]
    starts: Float[np.ndarray, "2 k"]
    parameters: Float[np.ndarray, " k"]
    standard_deviations: Float[np.ndarray, " k"]
    residual_sum_of_squares: float
    degrees_of_freedom: int


def read(name: str) -> Dataset:
    """Reads a data set shipped with the package.

    Args:
        name: name of the data set, such as "Thurber".

    Returns:
        The data set.

    Raises:
        ValueError: if no such data set is shipped.

    Example:
        >>> read("Misra1a").starts.tolist()
        [[500.0, 0.0001], [250.0, 0.0005]]

    Source: NIST StRD, nonlinear regression.
    """
    folder = resources.files("jaxopt_lite.demo") / "data" / "nist"
    shipped = sorted(file.name.removesuffix(".dat") for file in folder.iterdir() if file.name.endswith(".dat"))
    if name not in shipped:
        raise ValueError(f"name: expected one of {shipped}, got {name!r}")
    return parse((folder / f"{name}.dat").read_text(encoding="ascii"), name)


def parse(text: str, name: str) -> Dataset:
    """Reads the text of a NIST StRD nonlinear regression file with one predictor.

    The header says which lines hold what; a file that contradicts it is refused.

    Args:
        text: the whole file.
        name: name of the data set, which the file must bear.

    Returns:
        The data set.

    Raises:
        ValueError: if the text is not such a file, bears another name, is cut short, or contradicts its
            header.

    Example:
        >>> parse("time,volume", "Misra1a")
        Traceback (most recent call last):
        ValueError: Misra1a: expected a NIST StRD file that begins with 'NIST/ITL StRD', got 'time,volume'

    Source: NIST StRD file format, stated in every file's header.
    """
    lines = text.splitlines()
    if not lines or lines[0].strip() != HEADER:
        found = lines[0] if lines else "an empty text"
        raise ValueError(f"{name}: expected a NIST StRD file that begins with {HEADER!r}, got {found!r}")
    bears = _find(text, r"Dataset Name:\s*(\S+)", name)
    if bears != name:
        raise ValueError(f"{name}: expected the file of that data set, got the file of {bears!r}")
    table = _block(lines, text, "Starting Values", 4, name)
    data = _block(lines, text, "Data", 2, name)
    dataset = Dataset(
        name=name,
        level=_find(text, r"(Lower|Average|Higher) Level of Difficulty", name).lower(),
        x=data[:, 1],
        y=data[:, 0],
        starts=table[:, :2].T,
        parameters=table[:, 2],
        standard_deviations=table[:, 3],
        residual_sum_of_squares=float(_find(text, r"Residual Sum of Squares:\s*([\d.E+-]+)", name)),
        degrees_of_freedom=len(data) - len(table),
    )
    _check_counts(dataset, text)
    return dataset


def _find(text: str, pattern: str, name: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"{name}: expected a header entry like {pattern!r}, got none; fetch the file again")
    return found[1]


def _check_counts(dataset: Dataset, text: str) -> None:
    """Check that there are as many rows of data and parameters as the header's summary implies.

    The summary's own "Degrees of Freedom" is not used: Rat43's says 9, while 15 observations, 4 parameters and the
    residual standard deviation printed beside it all say 11.
    """
    name, m, freedom = dataset.name, len(dataset.y), dataset.degrees_of_freedom
    stated = int(_find(text, r"Number of Observations:\s*(\d+)", name))
    deviation = float(_find(text, r"Residual Standard Deviation:\s*([\d.E+-]+)", name))
    if m != stated:
        raise ValueError(f"{name}: expected {stated} observations, got {m} rows; fetch the file again")
    if freedom < 1 or not np.isclose(dataset.residual_sum_of_squares, freedom * deviation**2, rtol=1e-9):
        raise ValueError(
            f"{name}: expected residual sum of squares = degrees of freedom * standard deviation ** 2, got "
            f"{dataset.residual_sum_of_squares}, {freedom} and {deviation}; fetch the file again"
        )


def _block(lines, text: str, title: str, width: int, name: str) -> Float[np.ndarray, "row width"]:
    """The numbers in the lines that the header gives to `title`, without a parameter's label ("b1 =")."""
    first = int(_find(text, rf"{title}\s+\(lines\s+(\d+)", name))
    last = int(_find(text, rf"{title}\s+\(lines\s+\d+\s+to\s+(\d+)", name))
    if len(lines) < last:
        raise ValueError(f"{name}: expected data up to line {last}, got {len(lines)} lines; fetch the file again")
    rows = []
    for number, line in enumerate(lines[first - 1 : last], start=first):
        row = [_number(word) for word in line.split("=")[-1].split()]
        if len(row) != width or not np.all(np.isfinite(row)):
            raise ValueError(f"{name}: expected {width} finite numbers in line {number}, got {line.strip()!r}")
        rows.append(row)
    return np.array(rows)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")
