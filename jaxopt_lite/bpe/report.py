"""Tables that describe a tokenizer: first merges, compression of texts, the tokens used most."""

from collections.abc import Iterable

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from jaxopt_lite.bpe.tokenizer import Tokenizer
from jaxopt_lite.bpe.vocabulary import quoted

__all__ = ["compression", "first_merges", "frequent_tokens", "shown"]


def shown(token: bytes) -> Text:
    """A token in quotes, without markup."""
    return Text(quoted(token))


def first_merges(tokenizer: Tokenizer, number: int) -> Table:
    """The first merges in order: left, right, what they make, its id, and how often the pair occurred, if known."""
    table = _table("merge", "left", "right", "token", "id", "count")
    for k, left, right, token, made, count in tokenizer.vocabulary.first_merges(number):
        parts = (Text(part) for part in (left, right, token))
        table.add_row(f"{k:,}", *parts, str(made), "unknown" if count is None else f"{count:,}")
    return table


def compression(sizes: Iterable[tuple[str, int, int]]) -> Table:
    """Bytes per token of texts, from their names, bytes and tokens; the last row is their total."""
    rows = list(sizes)
    if len(rows) > 1:
        rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    table = _table("file", "bytes", "tokens", "bytes per token")
    for name, size, tokens in rows:
        table.add_row(Text(name), f"{size:,}", f"{tokens:,}", f"{size / tokens:.2f}" if tokens else "")
    return table


def frequent_tokens(tokenizer: Tokenizer, times: np.ndarray, number: int) -> Table:
    """The tokens used most, from how often each id was used, int64 [V]; ties are ordered by id."""
    table = _table("token", "id", "times", "share")
    for k in np.argsort(-times, kind="stable")[:number].tolist():
        if times[k]:
            table.add_row(shown(tokenizer.id_to_token(k)), str(k), f"{times[k]:,}", f"{times[k] / times.sum():.2%}")
    return table


def _table(*columns: str) -> Table:
    """An empty table with text aligned left and numbers right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        is_text = name in ("left", "right", "token", "file")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    return table
