"""The parameters of a base as a file, for whoever has its functions."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite import bpe
from jaxopt_lite.specialists import Base, load_base, save_base, save_one
from tests.specialists.store_cases import apply, base_of, library_of


def fresh(base: Base) -> Base:
    """The same but for its numbers."""
    return replace(base, params=jax.tree.map(jnp.zeros_like, base.params))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32"])
@pytest.mark.parametrize("tokenizer", [False, True])
def test_what_is_saved_is_loaded_to_the_bit(tmp_path, dtype, tokenizer):
    base, file = base_of(dtype, tokenizer=tokenizer), tmp_path / "base.safetensors"
    save_base(base, file)
    for like in (fresh(base), replace(base, params=jax.eval_shape(lambda: base.params))):
        loaded = load_base(str(file), like)
        assert loaded.fingerprint == base.fingerprint
        assert jax.tree.structure(loaded.params) == jax.tree.structure(base.params)
        for one, other in zip(jax.tree.leaves(loaded.params), jax.tree.leaves(base.params), strict=True):
            assert isinstance(one, jax.Array) and one.dtype == other.dtype
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_nested_params_with_numpy_leaves(tmp_path):
    params = {"layers": [{"w": np.ones((2, 3)).T, "on": np.array(True)}, (np.arange(3), np.zeros((0, 2), np.float32))]}
    base = Base(params, apply)
    save_base(base, tmp_path / "base.safetensors")
    assert load_base(tmp_path / "base.safetensors", base).fingerprint == base.fingerprint


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (base_of(name="lm"), "made for the base 'base' .*, and this one is 'lm'"),
        (base_of(tokenizer=True), "made with the tokenizer none"),
        (base_of("float64"), "'bias' is float32; expected float64 as in `like`"),
        (Base({"hidden": jnp.zeros((3, 4), "float32")}, apply), r"has \['bias'\] beside the expected"),
        (
            Base({"hidden": jnp.zeros((3, 4), "float32"), "bias": jnp.zeros(5, "float32")}, apply),
            r"'bias' has shape \(4,\); expected \(5,\)",
        ),
    ],
)
def test_another_base_is_refused(tmp_path, like, message):
    file = tmp_path / "base.safetensors"
    save_base(base_of(), file)
    with pytest.raises(ValueError, match=f"base.safetensors: .*{message}"):
        load_base(file, like)


def test_what_is_no_base_is_refused(tmp_path):
    file = tmp_path / "base.safetensors"
    with pytest.raises(FileNotFoundError, match="base.safetensors does not exist"):
        load_base(file, base_of())
    save_one(library_of("a"), file)
    with pytest.raises(ValueError, match="not a file of the format 'jaxopt_lite base'"):
        load_base(file, base_of())
    save_base(base_of(), file)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match="base.safetensors: not a safetensors file, or cut short"):
        load_base(file, base_of())


def test_what_no_file_can_hold_is_not_saved(tmp_path):
    twice = {"a/b": jnp.ones(1), "a": {"b": jnp.zeros(1)}}
    with pytest.raises(ValueError, match="two leaves that are called 'a/b'"):
        save_base(Base(twice, apply), tmp_path / "x")
    with pytest.raises(ValueError, match="'w' is complex128; expected one of"):
        save_base(Base({"w": np.ones(1, complex)}, apply), tmp_path / "x")
    with pytest.raises(ValueError, match="'w' is float8_e4m3fn; expected one of"):
        save_base(Base({"w": jnp.ones(1, "float8_e4m3fn")}, apply), tmp_path / "x")
    assert not list(tmp_path.iterdir())


NAMES = {
    "brackets": {"layers[0].w": jnp.ones(2), "layers0.w": jnp.zeros(2)},
    "colons": {"a:b": jnp.ones(1), "a": jnp.zeros(1), "parameters/scale:a": jnp.ones(3)},
    "nothing": {"": jnp.ones(1), "a": {"": jnp.zeros(2)}},
    "no name at all": jnp.ones(3),
    "numbers": {0: jnp.ones(1), 1: jnp.ones(2)},
    "pairs": {("a", 0): jnp.ones(1)},
    "line breaks": {"a\nb": jnp.ones(1), "\0": jnp.zeros(1), "ü;float32": jnp.ones(2)},
    "a number of Python": {"a": 2.0, "b": 3, "c": True},
}


@pytest.mark.parametrize("params", NAMES.values(), ids=NAMES)
def test_leaves_of_any_name(tmp_path, params):
    base = Base(params, lambda params, x: x)
    save_base(base, tmp_path / "x")
    assert load_base(tmp_path / "x", base).fingerprint == base.fingerprint


def test_names_that_no_file_can_hold(tmp_path):
    with pytest.raises(ValueError, match="an array is called '__metadata__'"):
        save_base(Base({"__metadata__": jnp.ones(1)}, apply), tmp_path / "x")
    with pytest.raises(ValueError, match="params has a leaf that is called .*UTF-8"):
        save_base(Base({"\ud800": jnp.ones(1)}, apply), tmp_path / "x")
    with pytest.raises(ValueError, match="name=.*expected a text that UTF-8 can write"):
        Base({"w": jnp.ones(1)}, apply, name="\ud800")
    for wrong in ({"name": 1}, {"features": 1}, {"name": None}):
        with pytest.raises(TypeError, match="expected a (text|function)"):
            Base({"w": jnp.ones(1)}, apply, **wrong)
    assert not list(tmp_path.iterdir())


def test_the_fingerprint_of_a_tokenizer_tells_what_is_found_in_a_text():
    """Tokens that are found before a text is cut change its ids; without any it is what it was before they existed."""
    plain = bpe.train(["one two two"], vocab_size=258)
    known = {"plain": plain}
    known = {"plain": plain}
    for name, found in {
        "special": {"special_tokens": {"tw": 257}},
        "added": {"added_tokens": {"tw": 257}},
        "last": {"added_tokens": {"tw": 257}, "found_last": {"tw"}},
        "another": {"added_tokens": {"tw": 257, "wo": 256}},
        "special, last": {"special_tokens": {"tw": 257}, "found_last": {"tw"}},
    }.items():
        tokens = (*plain.vocabulary.tokens[:256], b"wo", b"tw")
        vocabulary = replace(plain.vocabulary, tokens=tokens, merges=np.zeros((0, 2)), merged=[], counts=None, **found)
        known[name] = replace(plain, vocabulary=vocabulary)
    prints = {
        name: Base({"w": jnp.ones(1)}, apply, tokenizer=each).tokenizer_fingerprint for name, each in known.items()
    }
    assert len(set(prints.values())) == len(prints)
    assert prints["plain"].startswith("f39d463b97a678d9") and prints["special"].startswith("9c631f7599e7b5f8")
