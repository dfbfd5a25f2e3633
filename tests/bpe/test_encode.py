"""The encoder: what it remembers changes no ids. What can go wrong meanwhile is in `test_encode_state.py`."""

import pytest

from jaxopt_lite import bpe
from jaxopt_lite.bpe import encode
from tests.bpe.texts import sources


def test_short_texts_are_remembered_with_their_ids():
    """Whoever alters what he got changes nothing; special tokens are looked for first."""
    tokenizer = bpe.train(sources()[:2], 400, special_tokens=["<s>"], progress=False)
    first = tokenizer.encode("import os")
    first.append(7)
    assert tokenizer.encode("import os") == tokenizer.encode_batch(["import os"])[0] == first[:-1]
    for special in ("encode", "ignore"):
        assert tokenizer.encode("a<s>", special=special) == tokenizer.encode("a<s>", special=special)
    assert tokenizer.encode("a<s>", special="encode")[-1] == 0 != tokenizer.encode("a<s>", special="ignore")[-1]
    with pytest.raises(ValueError, match="special token"):
        tokenizer.encode("a<s>")
    for number in range(encode._MOST_RECENT + 10):
        tokenizer.encode(f"x = {number}")
    assert len(tokenizer._encoder.recent) <= encode._MOST_RECENT
