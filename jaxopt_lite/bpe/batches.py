"""Many texts as padded arrays, and back. Used by `tokenizer.py`."""

from collections.abc import Iterator, Sequence

import numpy as np

from jaxopt_lite.bpe.given import whole_number, whole_numbers

__all__ = ["groups", "padded", "shortened"]

_SHOWN = 5


def groups(texts: Sequence[str], most: int) -> Iterator[list[str]]:
    """Texts to work on together: so many that they have about so many characters, or one."""
    group, size = [], 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= most:
            yield group
            group, size = [], 0
    if group:
        yield group


def padded(ids: list[list[int]], length: int, pad: int, overflow: str) -> tuple[np.ndarray, np.ndarray]:
    """Lists of ids as int32 `[B, length]`, and how many each had, int32 `[B]`. See `Tokenizer.encode_batch`."""
    length = whole_number("length", length, least=0)
    (pad,) = whole_numbers("pad", [whole_number("pad", pad)], np.int32)
    lengths = np.fromiter(map(len, ids), np.int32, len(ids))
    long = np.flatnonzero(lengths > length)
    if long.size and overflow == "raise":
        shown = ", ".join(f"{k} ({lengths[k]})" for k in long[:_SHOWN].tolist())
        raise ValueError(
            f"length={length}, but {long.size} of {len(ids)} texts have more ids: {shown}"
            f"{', …' if long.size > _SHOWN else ''}. Use length={lengths.max()}, or overflow='report'."
        )
    rows = np.full((len(ids), length), pad, np.int32)
    for row, values in zip(rows, ids, strict=True):
        row[: len(values)] = values[:length]
    return rows, lengths


def shortened(ids, lengths) -> list:
    """The first `lengths[k]` ids of each row, without the padding. See `Tokenizer.decode_batch`."""
    rows, ends = list(ids), whole_numbers("lengths", lengths, np.int64).tolist()
    if len(ends) != len(rows):
        raise ValueError(f"lengths has {len(ends)} entries for {len(rows)} texts; expected one for each.")
    for k, (row, end) in enumerate(zip(rows, ends, strict=True)):
        if not 0 <= end <= len(row):
            raise ValueError(
                f"lengths[{k}]={end}, but there are {len(row)} ids; expected at most as many. A text that was cut by "
                "`encode_batch` cannot be decoded whole."
            )
    return [row[:end] for row, end in zip(rows, ends, strict=True)]
