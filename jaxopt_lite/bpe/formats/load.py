"""Reading tokenizers from files: the front door of the file formats."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxopt_lite.bpe.formats.save import read
from jaxopt_lite.bpe.tokenizer import Tokenizer

__all__ = ["load"]


def load(
    path: str | Path | tuple[str | Path, str | Path],
    *,
    pattern: str | None = None,
    special_tokens: Mapping[str, int] | Sequence[str] | None = None,
) -> Tokenizer:
    """Read a tokenizer that `Tokenizer.save`, Hugging Face `tokenizers` or `tiktoken` wrote.

    Args:
        path: a `tokenizer.json`, a file of this package's own form, a `.tiktoken`, a folder with a `tokenizer.json` or
            with `vocab.json` and `merges.txt`, or the paths of these two.
        pattern: what a word is, where the file does not say: for `.tiktoken` it must be given ("gpt4" for
            `cl100k_base`, "o200k" for `o200k_base`); for `vocab.json` it is "gpt2" unless given.
        special_tokens: likewise for `.tiktoken`: text -> id, or texts, for which ids that the file leaves out are
            taken; and for `vocab.json`: which tokens are special, unless those that no merge makes.

    Returns:
        A `Tokenizer`. Its ids are those of whoever wrote the file, without tokens that a post-processor adds around a
        text (`add_special_tokens=False` in Hugging Face's words).

    Raises:
        ValueError: a file that is something else, cut short, inconsistent, or that uses what this package has no
            counterpart for: naming the file, what was expected and what is there.
        OSError: a file that cannot be read.

    Example:
        >>> import tempfile, pathlib
        >>> from jaxopt_lite import bpe
        >>> path = pathlib.Path(tempfile.mkdtemp(), "tokenizer.json")
        >>> tokenizer = bpe.train(["low low lower"], merges=2)
        >>> tokenizer.save(path)
        >>> bpe.load(path).encode("lower") == tokenizer.encode("lower")
        True
    """
    return Tokenizer(*read(path, pattern=pattern, special_tokens=special_tokens))
