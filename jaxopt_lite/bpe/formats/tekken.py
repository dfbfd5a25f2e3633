"""Mistral's `tekken.json`: tokens in base64 with their ranks as in tiktoken, the pattern, and special tokens.

The special tokens, usually a thousand, have the first ids, and the id of any other token is its rank plus their number.
The file holds more tokens than are used; its configuration says how many are.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from jaxopt_lite.bpe.formats.content import check_shape
from jaxopt_lite.bpe.formats.tiktoken import of_ranks
from jaxopt_lite.bpe.patterns import Splitter, splitter
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["from_tekken", "is_tekken"]

_SHAPE = {
    "config": {"pattern": str, "default_vocab_size": int, "default_num_special_tokens": int},
    "vocab": [{"rank": int, "token_bytes": str}],
    "special_tokens?": ([{"rank": int, "token_str": str}], None),
}  # fmt: skip
# The first special tokens if a file does not list them, as before Mistral's version 7.
_UNSAID = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip


def is_tekken(content: Any) -> bool:
    """Whether JSON content is that of a `tekken.json`."""
    return isinstance(content, Mapping) and isinstance(content.get("vocab"), list) and "config" in content


def from_tekken(content: Mapping[str, Any], source: str) -> tuple[Vocabulary, Splitter]:
    """A vocabulary and splitter from the content of a `tekken.json`.

    Raises:
        ValueError: naming the file, and what is wrong in it.
    """
    try:
        check_shape(content, _SHAPE)
        config = content["config"]
        first, size = config["default_num_special_tokens"], config["default_vocab_size"]
        ranks = {token["rank"]: token for token in content["vocab"]}
        wanted = range(size - first)
        if missing := [rank for rank in wanted if rank not in ranks]:
            raise ValueError(f"the vocab lacks the rank {missing[0]}; expected all from 0 to {len(wanted) - 1}")
        tokens = {first + rank: base64.b64decode(ranks[rank]["token_bytes"], validate=True) for rank in wanted}
        return of_ranks(tokens, _special(content.get("special_tokens"), first)), splitter(config["pattern"])
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"{source} does not fit together: {error}.") from None


def _special(said: list[Mapping[str, Any]] | None, number: int) -> dict[str, int]:
    """The special tokens; those without a name are named by their ids."""
    texts = dict(enumerate(_UNSAID[:number])) if said is None else {token["rank"]: token["token_str"] for token in said}
    return {texts.get(k, f"<SPECIAL_{k}>"): k for k in range(number)}
