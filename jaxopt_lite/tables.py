"""Tables for notebooks: plain HTML, in which names given by users are text, never markup."""

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_table"]


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a title above it. Strings are left-aligned, numbers right-aligned; colors are the notebook's own.

    Args:
        title: what it is about.
        columns: the headings; all empty for none.
        rows: the cells of each row; numbers are written with commas between thousands, and None is left empty.
    """
    head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in columns)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    caption = f'<caption style="caption-side:top;text-align:left;white-space:nowrap"><b>{escape(title)}</b></caption>'
    return (
        f"<table>{caption}\n{f'<thead><tr>{head}</tr></thead>' if any(columns) else ''}\n<tbody>{body}</tbody></table>"
    )


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        text = f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
        return f'<td style="text-align:right">{text}</td>'
    return f'<td style="text-align:left;white-space:pre-wrap">{escape("" if value is None else str(value))}</td>'
