"""Pictures of tokenizers: how well they compress, for every size of the vocabulary, and how they were learned."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from jaxopt_lite.plots.style import BLUE, axes, check, legend, next_color, title

__all__ = ["Encodes", "compression", "rounds"]


class Encodes(Protocol):
    """The parts of a `Tokenizer` that are drawn."""

    @property
    def vocabulary(self) -> Any: ...
    def encode_batch(
        self, texts: Sequence[str], *, special: Literal["raise", "ignore"] = "raise"
    ) -> list[list[int]]: ...


def compression(
    tokenizer: Encodes,
    texts: str | Sequence[str] | Mapping[str, str | Sequence[str]],
    *,
    label: str | None = None,
    ax: Any = None,
) -> Any:
    """Draw how many bytes of text a token stands for, for this vocabulary and each one with fewer of its merges.

    One encoding tells of all sizes, exactly: without the last merge, each token that it makes is two.

    Args:
        tokenizer: a trained one, or another with merges in order.
        texts: a text or several, preferably ones that it was not trained on; or several kinds by name, a line for each.
            Special tokens in them are text like any other.
        label: name of the line in a legend, to compare several tokenizers on the same axes; not used for several kinds.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: a vocabulary that cannot be cut short, because a merge comes before those of its parts or two make
            one token; texts without a token.
        TypeError: something else than a `Tokenizer`.
        ImportError: matplotlib is not installed.
    """
    check("tokenizer", tokenizer, "a Tokenizer", "vocabulary", "encode_batch")
    vocabulary = tokenizer.vocabulary
    if not vocabulary.is_unique or vocabulary.whole_words:
        raise ValueError(
            "the vocabulary cannot be cut short: expected merges in order that make each token once, as `bpe.train` "
            "learns them. For others `python -m jaxopt_lite bpe inspect` prints the compression of texts."
        )
    kinds = texts if isinstance(texts, Mapping) else {label: texts}
    lines = {name: _bytes_per_token(tokenizer, kind) for name, kind in kinds.items()}
    ax, sizes = axes(ax), len(vocabulary.tokens) - len(vocabulary.merges) + np.arange(len(vocabulary.merges) + 1)
    for name, values in lines.items():
        ax.plot(sizes, values, color=next_color(ax), label=name)
    if sizes[-1] > 4 * sizes[0]:
        ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set(xlabel="tokens in the vocabulary", ylabel="bytes per token")
    legend(ax)
    return ax


def _bytes_per_token(tokenizer: Encodes, texts: str | Iterable[str]) -> np.ndarray:
    """Bytes per token with the first 0, 1, ..., M merges, `[M + 1]`."""
    texts = [texts] if isinstance(texts, str) else list(texts)
    vocabulary = tokenizer.vocabulary
    ids = np.concatenate([np.asarray(row, np.int64) for row in tokenizer.encode_batch(texts, special="ignore")] or [[]])
    if not ids.size:
        raise ValueError("texts: expected at least one token in all of them.")
    times = np.bincount(ids, minlength=len(vocabulary.tokens)).tolist()
    total = [ids.size]
    for (left, right), made in zip(vocabulary.merges[::-1].tolist(), vocabulary.merged[::-1].tolist(), strict=True):
        total.append(total[-1] + times[made])
        times[left] += times[made]
        times[right] += times[made]
    size = sum(len(text.encode("utf-8", "surrogateescape")) for text in texts)
    return size / np.array(total[::-1])


def rounds(tokenizer: Encodes, *, ax: Any = None) -> Any:
    """Draw how many merges can be made at once: the runs of merges in which none touches an earlier one.

    `bpe.train` takes at least as many rounds: there, one also ends where the next merge is not yet known.

    Args:
        tokenizer: one with merges.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: something else than a `Tokenizer`.
        ImportError: matplotlib is not installed.
    """
    check("tokenizer", tokenizer, "a Tokenizer", "vocabulary")
    lengths = tokenizer.vocabulary.rounds
    ax = axes(ax)
    first = np.cumsum(lengths) - lengths + 1
    ax.plot(first, lengths, ".", color=BLUE, markersize=4)
    ax.set(xlabel="merges so far", ylabel="merges at once", xscale="log", yscale="log")
    count = len(tokenizer.vocabulary.merges)
    mean = f", {count / len(lengths):.1f} at once" if count else ""
    title(ax, f"{count:,} merges in {len(lengths):,} rounds{mean}")
    return ax
