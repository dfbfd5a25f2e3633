"""Folders of specialists: what is saved is loaded to the bit, nothing is lost, a crash harms nothing."""

import contextlib
import math
import os
import threading
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from jaxopt_lite import bpe
from jaxopt_lite.specialists import Base, Card, load, load_base, save, save_base, save_one
from tests.specialists.store_cases import PowerCut, apply, assert_same, base_of, card_of, cut_power, library_of, lora

pytestmark = pytest.mark.hardly_optimized


def files_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every specialist's file: its bytes, and when it was written."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("tokenizer", [False, True])
def test_what_is_saved_is_loaded_to_the_bit(tmp_path, dtype, tokenizer):
    base = base_of(dtype, tokenizer=tokenizer)
    library = library_of("b", "a", "c", base=base)
    save(library, tmp_path / "new" / "folder")
    assert_same(load(tmp_path / "new" / "folder", base), library)
    again = load(str(tmp_path / "new" / "folder"), base_of(dtype, tokenizer=tokenizer))
    assert_same(again, library)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, 1e-310, 0.1, 0.0])
def test_every_field_of_a_card_is_kept(tmp_path, loss):
    card = Card("a", 2**40, loss, "STALLED", ("x", "y"), "recipe", "author", "license", "notes")
    library = replace(library_of("a"), cards=(card,))
    save(library, tmp_path)
    assert_same(load(tmp_path, library.base), library)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=300) | st.text("./\\aA\0:*", max_size=6), min_size=1, max_size=4, unique=True))
def test_any_names(tmp_path_factory, names):
    """A name may hold anything: slashes, dots, NUL, lone surrogates, too many letters, the same in another case."""
    folder = tmp_path_factory.mktemp("library") / "inside"
    library = library_of(*names)
    save(library, folder)
    assert_same(load(folder, library.base), library)
    files = {file.lower() for file in files_in(folder)}
    assert len(files) == len(names) and all(len(file) < 100 for file in files)
    assert [path.name for path in folder.parent.iterdir()] == ["inside"]


@pytest.mark.parametrize(
    "names", [("..", "../..", "/etc/passwd"), ("a", "A"), ("", " ", "\0"), ("x" * 9000,), ("CON", "NUL.x"), ("\ud800",)]
)
def test_names_that_no_file_may_have(tmp_path, names):
    library = library_of(*names)
    save(library, tmp_path)
    assert_same(load(tmp_path, library.base), library)
    assert len({file.lower() for file in files_in(tmp_path)}) == len(names)


def test_adding_one_touches_no_other_file(tmp_path):
    library = library_of("a", "b")
    save(library, tmp_path)
    before = files_in(tmp_path)
    more = library.add(library_of("c"))
    save(more, tmp_path)
    after = files_in(tmp_path)
    assert len(after) == 3 and before.items() <= after.items()
    assert_same(load(tmp_path, library.base), more)


def test_the_same_library_makes_the_same_files(tmp_path):
    library = library_of("a", "b")
    save(library, tmp_path / "one")
    save(library, tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_new_card_replaces_the_file(tmp_path):
    library = library_of("a", "b")
    save(library, tmp_path)
    before = files_in(tmp_path)
    changed = replace(library, cards=(library.cards[0], replace(library.cards[1], notes="better")))
    save(changed, tmp_path)
    assert_same(load(tmp_path, library.base), changed)
    assert len(before.items() & files_in(tmp_path).items()) == 1 and len(files_in(tmp_path)) == 2


def test_a_damaged_file_is_written_again(tmp_path):
    library = library_of("a", "b")
    save(library, tmp_path)
    next(tmp_path.glob("a-*")).write_bytes(b"damaged")
    save(library, tmp_path)
    assert_same(load(tmp_path, library.base), library)


def test_others_are_not_lost_silently(tmp_path):
    mine, theirs = library_of("a", "b"), library_of("c")
    save(mine, tmp_path)
    before = files_in(tmp_path)
    with pytest.raises(ValueError, match=r"holds 2 specialists that this library does not: 'a', 'b'.*others='keep'"):
        save(theirs, tmp_path)
    assert files_in(tmp_path) == before
    assert_same(load(tmp_path, mine.base), mine)
    with pytest.raises(ValueError, match="others='all'"):
        save(theirs, tmp_path, others="all")


def test_others_are_removed(tmp_path):
    library = library_of("a", "b", "c")
    save(library, tmp_path)
    before = files_in(tmp_path)
    (tmp_path / "README.txt").write_text("mine")
    fewer = library.remove("b").rename({"c": "d"})
    save(fewer, tmp_path, others="remove")
    assert_same(load(tmp_path, library.base), fewer)
    left = files_in(tmp_path)
    assert len(left) == 2 and len(before.items() & left.items()) == 1 and (tmp_path / "README.txt").exists()


def test_contributors_who_save_at_once_keep_each_other(tmp_path):
    parts = [library_of(*(f"{k}-{n}" for n in range(5))) for k in range(6)]
    failures = []

    def contribute(part):
        try:
            save(part, tmp_path, others="keep")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=contribute, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(load(tmp_path, base_of()).names) == sorted(name for part in parts for name in part.names)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    library = library_of("a", "b", "c")
    spoilt = {"scale:hidden": library.parameters["scale:hidden"].at[1, 0].set(jnp.nan)}
    with pytest.raises(ValueError, match="NaN or infinity in 1 specialists, and nothing was written: 'b'"):
        save(replace(library, parameters=library.parameters | spoilt), tmp_path / "x")
    short = {"scale:hidden": library.parameters["scale:hidden"][:, :2]}
    with pytest.raises(ValueError, match=r"'parameters/scale:hidden' has shape \(3, 2\); expected \(3, 4\)"):
        save(replace(library, parameters=library.parameters | short), tmp_path / "x")
    whole = jax.tree.map(lambda leaf: leaf.astype(int), library.parameters)
    with pytest.raises(ValueError, match="int64; expected floating-point"):
        save(replace(library, parameters=whole), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_write_that_is_cut_short_leaves_nothing_behind(tmp_path, monkeypatch):
    library = library_of("a")
    save(library, tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save(library.add(library_of("b")), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert_same(load(tmp_path, library.base), library)


def test_one_file_for_one_specialist(tmp_path):
    library, file = library_of("a", "b"), tmp_path / "sent by mail.safetensors"
    save_one(library["b"], file)
    one = load(file, library.base)
    assert_same(one, library["b"])
    assert_same(library["a"].add(one), library)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    with pytest.raises(ValueError, match="a library of 2; expected one"):
        save_one(library, file)


def test_a_first_save_that_was_interrupted_can_be_made_again(tmp_path, monkeypatch):
    library = library_of("a", "b")
    for step in range(1, 12):
        with monkeypatch.context() as patch:
            cut_power(patch, step)
            with contextlib.suppress(PowerCut):
                save(library, tmp_path / str(step))
        save(library, tmp_path / str(step))
        assert_same(load(tmp_path / str(step), library.base), library)


def test_lora(tmp_path):
    library = library_of("a", adapter=lora())
    save(library, tmp_path)
    assert_same(load(tmp_path, library.base), library)


def test_an_empty_library_is_an_empty_folder(tmp_path):
    """Saved, it removes the others; there is nothing to load then."""
    save(library_of("a"), tmp_path)
    save(library_of(), tmp_path, others="remove")
    assert not files_in(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no specialists; expected files made by `save` or `save_one`"):
        load(tmp_path, base_of())


def test_what_cannot_be_read_as_ones_own_is_not_overwritten(tmp_path):
    """A file of a later version, and one that was given the name of another specialist's."""
    library = library_of("a", "b")
    save(library, tmp_path)
    (path,) = tmp_path.glob("a-*")
    later = path.read_bytes().replace(b'"version":"2"', b'"version":"3"')
    save_one(library_of("c"), tmp_path / "c.safetensors")
    for content in (later, (tmp_path / "c.safetensors").read_bytes()):
        path.write_bytes(content)
        (tmp_path / "c.safetensors").unlink(missing_ok=True)
        for others, message in (("raise", "holds 1 specialists that"), ("keep", "others='remove'")):
            with pytest.raises(ValueError, match=message):
                save(library, tmp_path, others=others)
            assert path.read_bytes() == content
    save(library, tmp_path, others="remove")
    assert_same(load(tmp_path, library.base), library)


def test_others_are_kept(tmp_path):
    """Their bytes too; those that are new come after them."""
    mine, theirs = library_of("a", "b"), library_of("c")
    save(mine, tmp_path)
    before = files_in(tmp_path)
    save(theirs, tmp_path, others="keep")
    assert before.items() <= files_in(tmp_path).items()
    assert_same(load(tmp_path, mine.base), mine.add(theirs))
    with pytest.raises(ValueError, match="other specialists of the same names: 'a'"):
        save(library_of("a", seed=1), tmp_path, others="keep")


def test_another_order_is_the_order_that_is_loaded(tmp_path):
    """And no more files are written than it takes."""
    library = library_of("a", "b", "c")
    for names, touched in [("abc", 3), ("acb", 1), ("cab", 2), ("ab", 0), ("axb", 2), ("xab", 2)]:
        before = files_in(tmp_path)
        part = library.add(library_of("x"))[list(names)]
        save(part, tmp_path, others="remove")
        assert_same(load(tmp_path, library.base), part)
        assert len(files_in(tmp_path).items() - before.items()) == touched, names


def test_another_base_or_adapter_does_not_continue_a_folder(tmp_path):
    save(library_of("a"), tmp_path)
    before = files_in(tmp_path)
    for other, message in [
        (library_of("a", base=base_of(seed=1)), "made for the base"),
        (library_of("a", base=base_of(tokenizer=True)), "made with the tokenizer none"),
        (library_of("a", adapter=lora()), "another adapter"),
        (library_of("b", base=base_of("float64")), "made for the base"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            save(other, tmp_path, others="remove")
        assert str(tmp_path) in str(caught.value) and "another" in str(caught.value)
    assert files_in(tmp_path) == before


def test_a_file_put_by_hand_is_one_of_the_library_and_stays(tmp_path):
    library = library_of("a", "b")
    save(library, tmp_path)
    save_one(library_of("0"), tmp_path / "from Ada.safetensors")
    both = load(tmp_path, library.base)
    assert_same(both, library.add(library_of("0")))
    with pytest.raises(ValueError, match="holds 1 specialists that this library does not: '0'"):
        save(library, tmp_path)
    before = files_in(tmp_path)
    save(both, tmp_path)
    save(library, tmp_path, others="keep")
    assert files_in(tmp_path) == before
    more = both.add(library_of("c"))
    save(more, tmp_path)
    assert_same(load(tmp_path, library.base), more)


def test_a_base_and_other_programs_files_may_be_in_the_folder_too(tmp_path):
    library = library_of("a")
    save_base(library.base, tmp_path / "base.safetensors")
    save_file({"x": np.ones(3)}, tmp_path / "model.safetensors")
    save(library, tmp_path)
    assert_same(load(tmp_path, library.base), library)
    save(library_of(), tmp_path, others="remove")
    assert load_base(tmp_path / "base.safetensors", library.base).fingerprint == library.base.fingerprint
    assert (tmp_path / "model.safetensors").exists()


def test_what_does_not_belong_together_is_refused(tmp_path):
    """What most of them have in common is the library; of two with one name the first."""
    library = library_of("a", "b")
    save(library, tmp_path)
    save_one(library_of("c", adapter=lora()), tmp_path / "other.safetensors")
    save_one(library_of("a", seed=1), tmp_path / "zz.safetensors")
    with pytest.raises(ValueError, match="2 of 4 specialists are refused; errors='skip'"):
        load(tmp_path, library.base)
    with pytest.warns(UserWarning, match=r"(?s)other.safetensors: it has the adapter.*zz.safetensors: it is named 'a'"):
        assert_same(load(tmp_path, library.base, errors="skip"), library)
    assert len(files_in(tmp_path)) == 4


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load(tmp_path / "nowhere", base_of())
    with pytest.raises(FileNotFoundError, match="holds no specialists"):
        load(tmp_path, base_of())
    save(library_of("a"), tmp_path)
    with pytest.raises(ValueError, match="errors='ignore'"):
        load(tmp_path, base_of(), errors="ignore")


def test_cards_of_the_cases_differ_from_the_default():
    """A field that was not saved would be found: none of them has its default."""
    card, default = card_of("a"), Card("")
    assert all(value != getattr(default, name) for name, value in vars(card).items())


# The parameters of a base as a file, for whoever has its functions.


def fresh(base: Base) -> Base:
    """The same but for its numbers."""
    return replace(base, params=jax.tree.map(jnp.zeros_like, base.params))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32"])
@pytest.mark.parametrize("tokenizer", [False, True])
def test_what_is_saved_is_loaded_to_the_bit_of_base_files(tmp_path, dtype, tokenizer):
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


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_random_keys_are_saved_as_their_data(tmp_path, kind):
    key = jax.random.key(3, impl=kind)
    base = Base({"w": np.ones(2), "key": key, "keys": jax.random.split(key, 3)}, apply)
    save_base(base, tmp_path / "base.safetensors")
    for like in (base, replace(base, params=jax.eval_shape(lambda: base.params))):
        loaded = load_base(tmp_path / "base.safetensors", like)
        assert loaded.fingerprint == base.fingerprint
        assert loaded.params["key"] == key and (loaded.params["keys"] == base.params["keys"]).all()
    with pytest.raises(ValueError, match="'key' is uint32; expected float"):
        like = Base(base.params | {"key": jnp.zeros(jax.random.key_data(key).shape)}, apply)
        load_base(tmp_path / "base.safetensors", like)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (base_of(name="lm"), "made for the base 'base' .*, and this one is 'lm'"),
        (base_of(tokenizer=True), "made with the tokenizer none"),
        (base_of("float64"), "'bias' is float32; expected float64 as in `like`"),
        (Base({"hidden": np.zeros((3, 4), "float32")}, apply), r"the tensors \['bias'\] are unexpected"),
        (
            Base({"hidden": np.zeros((3, 4), "float32"), "bias": np.zeros(5, "float32")}, apply),
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
    twice = {"a/b": np.ones(1), "a": {"b": np.zeros(1)}}
    with pytest.raises(ValueError, match="two leaves that are called 'a/b'"):
        save_base(Base(twice, apply), tmp_path / "x")
    with pytest.raises(ValueError, match="'w' is complex128; expected one of"):
        save_base(Base({"w": np.ones(1, complex)}, apply), tmp_path / "x")
    with pytest.raises(ValueError, match="'w' is float8_e4m3fn; expected one of"):
        save_base(Base({"w": np.ones(1, "float8_e4m3fn")}, apply), tmp_path / "x")
    assert not list(tmp_path.iterdir())


NAMES = {
    "brackets": {"layers[0].w": np.ones(2), "layers0.w": np.zeros(2)},
    "colons": {"a:b": np.ones(1), "a": np.zeros(1), "parameters/scale:a": np.ones(3)},
    "nothing": {"": np.ones(1), "a": {"": np.zeros(2)}},
    "no name at all": np.ones(3),
    "numbers": {0: np.ones(1), 1: np.ones(2)},
    "pairs": {("a", 0): np.ones(1)},
    "line breaks": {"a\nb": np.ones(1), "\0": np.zeros(1), "ü;float32": np.ones(2)},
    "a number of Python": {"a": 2.0, "b": 3, "c": True},
}


@pytest.mark.parametrize("params", NAMES.values(), ids=NAMES)
def test_leaves_of_any_name(tmp_path, params):
    base = Base(params, lambda params, x: x)
    save_base(base, tmp_path / "x")
    assert load_base(tmp_path / "x", base).fingerprint == base.fingerprint


def test_names_that_no_file_can_hold(tmp_path):
    with pytest.raises(ValueError, match="an array is called '__metadata__'"):
        save_base(Base({"__metadata__": np.ones(1)}, apply), tmp_path / "x")
    with pytest.raises(ValueError, match="params has a leaf that is called .*UTF-8"):
        save_base(Base({"\ud800": np.ones(1)}, apply), tmp_path / "x")
    with pytest.raises(ValueError, match="name=.*expected a string that UTF-8 can write"):
        Base({"w": np.ones(1)}, apply, name="\ud800")
    for wrong in ({"name": 1}, {"features": 1}, {"name": None}):
        with pytest.raises(TypeError, match="expected a (string|function)"):
            Base({"w": np.ones(1)}, apply, **wrong)
    assert not list(tmp_path.iterdir())


def test_the_fingerprint_of_a_tokenizer_tells_what_is_found_in_a_text():
    """Tokens that are found before a text is cut change its ids; without any it is what it was before they existed."""
    plain = bpe.train(["one two two"], vocab_size=258)
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
    unmade = replace(plain.vocabulary, tokens=(*plain.vocabulary.tokens, b"one"))
    known["merged"] = replace(plain, vocabulary=unmade)
    known["whole"] = replace(plain, vocabulary=replace(unmade, whole_words=True))
    prints = {
        name: Base({"w": np.ones(1)}, apply, tokenizer=each).tokenizer_fingerprint for name, each in known.items()
    }
    assert len(set(prints.values())) == len(prints)
    assert prints["plain"].startswith("f39d463b97a678d9") and prints["special"].startswith("9c631f7599e7b5f8")
    whole = replace(plain, vocabulary=replace(plain.vocabulary, whole_words=True))  # its merges make all its tokens
    assert Base({"w": np.ones(1)}, apply, tokenizer=whole).tokenizer_fingerprint == prints["plain"]
