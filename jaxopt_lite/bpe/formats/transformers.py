"""A folder that `AutoTokenizer.from_pretrained` of Hugging Face `transformers` reads.

Besides the `tokenizer.json` it has a `tokenizer_config.json`, which says which tokens end a text, pad it and so on, and
how a conversation becomes a text.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxopt_lite.bpe.vocabulary import Vocabulary
from jaxopt_lite.files import write

__all__ = ["ROLES", "check_roles", "write_config"]

ROLES = ("bos", "eos", "pad", "unk")
"""What a token may be for: the beginning and the end of a text, padding, what has no token."""


def check_roles(vocabulary: Vocabulary, roles: Mapping[str, str]) -> None:
    """Raise ValueError unless the tokens of all roles are special ones."""
    for role, text in roles.items():
        if text not in vocabulary.special_tokens:
            known = ", ".join(map(repr, list(vocabulary.special_tokens)[:5])) or "none"
            raise ValueError(
                f"{role}={text!r:.80}: expected a special token of this tokenizer ({known}). Pass it to `train` as one "
                "of special_tokens=."
            )


def write_config(vocabulary: Vocabulary, folder: Path, roles: Mapping[str, str], chat_template: str | None) -> None:
    """Write `tokenizer_config.json` into a folder that has the other files.

    Args:
        vocabulary: the tokens.
        folder: where to write it.
        roles: some of `ROLES` -> special tokens.
        chat_template: how a conversation becomes a text, in Jinja; `None` leaves it out.
    """
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
        "model_max_length": 10**30,  # how transformers writes that there is no limit
        **{f"{role}_token": text for role, text in roles.items()},
    }  # fmt: skip
    if chat_template is not None:
        config["chat_template"] = chat_template
    write(folder / "tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=1).encode())
