"""Colors for any color vision, and the axes of a new figure, legible on light and on dark paper."""

from typing import Any

__all__ = [
    "BLUE", "COLORS", "GREEN", "GREY", "ORANGE", "PALE", "PINK", "SKY", "VERMILLION", "axes", "check", "legend",
    "next_color", "title",
]  # fmt: skip

# Okabe and Ito, Color Universal Design (2008). Without its black, which is lost on dark paper, and its yellow, lost on
# white.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY = "#CC79A7", "#56B4E9"
COLORS = (BLUE, ORANGE, GREEN, VERMILLION, PINK, SKY)
GREY = "#767676"  # 4.5 : 1 in contrast to white, 4.6 : 1 to black
PALE = "#b8b8b8"


def check(name: str, value: Any, expected: str, *parts: str) -> None:
    """Refuse what lacks one of the parts that are drawn.

    Raises:
        TypeError: a part is missing.
    """
    if not all(hasattr(value, part) for part in parts):
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}.")


def axes(ax: Any, size: tuple[float, float] = (6.0, 3.6)) -> Any:
    """The axes to draw on: those given, as they are, or those of a new figure.

    Args:
        ax: matplotlib axes, or None.
        size: width and height of a new figure, in inches.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `ax` is something else.
    """
    try:
        from matplotlib import pyplot  # pyright: ignore[reportMissingImports]  # optional
    except ImportError as error:
        raise ImportError("a plot needs matplotlib: pip install 'jaxopt-lite[plot]'.") from error
    if ax is not None:
        if not hasattr(ax, "get_lines"):  # all the axes of a figure come as an array
            raise TypeError(f"ax: expected the axes to draw on, got {type(ax).__name__}; of several, pass one.")
        return ax
    with pyplot.rc_context(_STYLE):
        return pyplot.subplots(figsize=size)[1]


def next_color(ax: Any) -> str:
    """A color that no line on these axes has, as long as there is one."""
    used = {line.get_color() for line in ax.get_lines()}
    return next((color for color in COLORS if color not in used), COLORS[len(used) % len(COLORS)])


def title(ax: Any, text: str) -> None:
    """Write a title, in the color of the labels."""
    ax.set_title(text, loc="left", fontsize="medium", color=ax.xaxis.label.get_color())


def legend(ax: Any, **where: Any) -> None:
    """Add a legend if anything has a label, in the color of the axes' labels and without a box: white on dark paper."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, labelcolor=ax.xaxis.label.get_color(), **where)


_INK = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_STYLE: Any = dict.fromkeys(_INK, GREY) | {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
}
