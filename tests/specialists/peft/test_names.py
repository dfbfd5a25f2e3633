"""How leaves are called in PyTorch: by default, by a dictionary, by a function."""

import re

import numpy as np
import pytest

from jaxopt_lite.specialists import Base, TorchNames

PARAMS = {"h": [{"attn": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}}], "wte": {"embedding": np.ones((5, 2))}}
BASE = Base(PARAMS, lambda params, x: x)
LEAVES = ["h/0/attn/bias", "h/0/attn/kernel", "wte/embedding"]


def names_of(params, torch=None):
    places = (torch or TorchNames()).places(Base(params, lambda params, x: x))
    return {leaf: place.name for leaf, place in places.items()}


def test_by_default_the_keys_are_joined_by_dots():
    assert names_of(PARAMS) == dict(zip(LEAVES, ["h.0.attn.bias", "h.0.attn.weight", "wte.weight"], strict=True))
    other = {"hidden": np.ones(2), "out": {"w": np.ones(2), "b": np.ones(2), "scale": {"other": np.ones(2)}}}
    assert names_of(other) == {
        "hidden": "hidden.weight",
        "out/w": "out.weight",
        "out/b": "out.bias",
        "out/scale/other": "out.scale.other.weight",
    }
    haiku = {"net/~/linear": {"w": np.ones((2, 2))}}
    assert names_of(haiku, TorchNames(lambda leaf: "net.0.weight")) == {"net/~/linear/w": "net.0.weight"}


def test_a_leaf_that_pytorch_does_not_have():
    known = {LEAVES[0]: None, LEAVES[1]: "attn.weight", LEAVES[2]: None}
    assert names_of(PARAMS, TorchNames(known)) == names_of(PARAMS, TorchNames(known.get)) == {LEAVES[1]: "attn.weight"}


def layouts(torch):
    return {leaf: (p.is_embedding, p.input, p.is_transposed) for leaf, p in torch.places(BASE).items()}


def test_how_matrices_lie():
    assert layouts(TorchNames())["h/0/attn/kernel"] == (False, 0, True)
    assert layouts(TorchNames(conv1d=["attn"]))["h/0/attn/kernel"] == (False, 0, False)
    assert layouts(TorchNames(conv1d=["tn"]))["h/0/attn/kernel"] == (False, 0, True)
    assert layouts(TorchNames(matrices="out_in"))["h/0/attn/kernel"] == (False, 1, False)
    assert layouts(TorchNames(matrices="out_in", conv1d=["h.0.attn"]))["h/0/attn/kernel"] == (False, 1, True)
    for torch in (TorchNames(), TorchNames(matrices="out_in"), TorchNames(embeddings=["wte"])):
        assert layouts(torch)["wte/embedding"] == (True, 0, False)
    assert layouts(TorchNames(embeddings=["attn"]))["h/0/attn/kernel"] == (True, 0, False)


REFUSED = {
    "another type": (
        lambda: TorchNames(3),
        TypeError,
        "names=3: expected a dictionary {leaf: parameter}, or a function",
    ),
    "another order": (lambda: TorchNames(matrices="io"), ValueError, "matrices='io': expected 'in_out', as in Flax"),
    "one name": (lambda: TorchNames(conv1d="c_fc"), TypeError, "conv1d='c_fc': expected several names, and not one"),
    "a name of another type": (lambda: TorchNames(embeddings=[3]), TypeError, "embeddings=3: expected a string"),
    "a leaf is missing": (
        lambda: TorchNames({LEAVES[1]: "a.weight"}).places(BASE),
        ValueError,
        "names has nothing for the leaf 'h/0/attn/bias'; give its parameter, or None",
    ),
    "no string": (
        lambda: TorchNames(lambda leaf: 3).places(BASE),
        TypeError,
        "names['h/0/attn/bias']=3: expected a str",
    ),
    "no module": (
        lambda: TorchNames(lambda leaf: "weight").places(BASE),
        ValueError,
        "names['h/0/attn/bias']='weight': expected a module and its parameter, 'module.weight'",
    ),
    "one name for two": (
        lambda: TorchNames(lambda leaf: "a.weight").places(BASE),
        ValueError,
        "names has 'a.weight' for 'h/0/attn/bias' and for 'h/0/attn/kernel'; expected one leaf",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
