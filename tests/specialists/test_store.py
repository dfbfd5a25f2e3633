"""Folders of specialists: what is saved is loaded to the bit, nothing is lost, a crash harms nothing."""

import contextlib
import math
import os
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_lite.specialists import Card, load, load_base, rebuild_index, save, save_base, save_one
from tests.specialists.store_cases import PowerCut, assert_same, base_of, card_of, cut_power, library_of, lora


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


def test_lora_and_an_empty_library(tmp_path):
    for library in (library_of("a", adapter=lora()), library_of(adapter=lora())):
        save(library, tmp_path, others="remove")
        assert_same(load(tmp_path, library.base), library)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, 1e-310, 0.1, 0.0])
def test_every_field_of_a_card_is_kept(tmp_path, loss):
    card = Card("a", 2**40, loss, "STALLED", ("x", "y"), "recipe", "author", "licence", "notes")
    library = replace(library_of("a"), cards=(card,))
    save(library, tmp_path)
    assert_same(load(tmp_path, library.base), library)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=300) | st.text("./\\aA\0:*", max_size=6), max_size=4, unique=True))
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


def test_others_are_kept(tmp_path):
    mine, theirs = library_of("a", "b"), library_of("c")
    save(mine, tmp_path)
    before = files_in(tmp_path)
    save(theirs, tmp_path, others="keep")
    assert before.items() <= files_in(tmp_path).items()
    assert_same(load(tmp_path, mine.base), theirs.add(mine))
    with pytest.raises(ValueError, match="other specialists of the same names: 'a'"):
        save(library_of("a", seed=1), tmp_path, others="keep")


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


def test_another_base_or_adapter_does_not_continue_a_folder(tmp_path):
    save(library_of("a"), tmp_path)
    before = files_in(tmp_path)
    for other, message in [
        (library_of("a", base=base_of(seed=1)), "made for the base"),
        (library_of("a", base=base_of(tokenizer=True)), "made with the tokenizer none"),
        (library_of("a", adapter=lora()), "another adapter"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            save(other, tmp_path, others="remove")
        assert str(tmp_path) in str(caught.value) and "another" in str(caught.value)
    assert files_in(tmp_path) == before


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


def test_a_crash_at_any_step_leaves_a_whole_library(tmp_path, monkeypatch):
    """Old or new, never between; and saving again, once the power is back, makes the new one."""
    old = library_of("a", "b")
    new = old.remove("a").add(library_of("c", "d"))
    outcomes = []
    for step in range(100):
        folder = tmp_path / str(step)
        save(old, folder)
        with monkeypatch.context() as patch:
            calls = cut_power(patch, step)
            with contextlib.suppress(PowerCut), warnings.catch_warnings(action="ignore"):
                save(new, folder, others="remove")
        found = load(folder, old.base)
        outcomes.append(found.names == new.names)
        assert_same(found, new if outcomes[-1] else old)
        save(new, folder, others="remove")
        assert_same(load(folder, old.base), new)
        assert sorted(os.listdir(folder)) == sorted([".lock", "index.json", *files_in(folder)])
        assert len(files_in(folder)) == len(new)
        if len(calls) <= step:
            break
    else:
        pytest.fail("the power was never on to the end")
    assert outcomes == sorted(outcomes) and outcomes.count(False) > 6 and outcomes.count(True) >= 2


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


def test_a_file_put_by_hand_is_indexed_and_stays(tmp_path):
    library = library_of("a")
    save(library, tmp_path)
    save_one(library_of("b"), tmp_path / "from Ada.safetensors")
    assert load(tmp_path, library.base).names == ("a",)
    both = rebuild_index(tmp_path, library.base)
    assert sorted(both.names) == ["a", "b"]
    before = files_in(tmp_path)
    assert_same(load(tmp_path, library.base), both)
    save(both, tmp_path)
    assert files_in(tmp_path) == before


def test_a_first_save_that_was_interrupted_can_be_made_again(tmp_path, monkeypatch):
    library = library_of("a", "b")
    for step in range(1, 12):
        with monkeypatch.context() as patch:
            cut_power(patch, step)
            with contextlib.suppress(PowerCut):
                save(library, tmp_path / str(step))
        save(library, tmp_path / str(step))
        assert_same(load(tmp_path / str(step), library.base), library)


def test_what_a_lost_index_listed_is_not_left_out(tmp_path):
    save(library_of("a", "b"), tmp_path)
    before = files_in(tmp_path)
    (tmp_path / "index.json").unlink()
    for others in ("raise", "keep", "remove"):
        with pytest.raises(ValueError, match=r"no index and files of 1 other specialists: 'b-.*rebuild_index"):
            save(library_of("a"), tmp_path, others=others)
    assert files_in(tmp_path) == before and not (tmp_path / "index.json").exists()


def test_the_base_may_be_in_the_folder_too(tmp_path):
    library = library_of("a")
    save_base(library.base, tmp_path / "base.safetensors")
    save(library, tmp_path)
    (tmp_path / "index.json").unlink()
    assert_same(rebuild_index(tmp_path, library.base), library)
    save(library_of(), tmp_path, others="remove")
    assert load_base(tmp_path / "base.safetensors", library.base).fingerprint == library.base.fingerprint


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b'{"format"')])
def test_a_lost_index_is_rebuilt(tmp_path, damage):
    library = library_of("b", "a")
    save(library, tmp_path)
    damage(tmp_path / "index.json")
    for action in (lambda: load(tmp_path, library.base), lambda: load(tmp_path, library.base, errors="skip")):
        with pytest.raises((ValueError, FileNotFoundError), match="rebuild_index"):
            action()
    assert_same(rebuild_index(tmp_path, library.base), library[["a", "b"]])
    assert_same(load(tmp_path, library.base), library[["a", "b"]])


def test_a_rebuilt_index_refuses_what_does_not_belong(tmp_path):
    library = library_of("a", "b")
    save(library, tmp_path)
    save_one(library_of("c", adapter=lora()), tmp_path / "other.safetensors")
    save_one(library_of("a", seed=1), tmp_path / "zz.safetensors")
    (tmp_path / "index.json").unlink()
    with pytest.raises(ValueError, match="2 of 4 specialists are refused, errors='skip'"):
        rebuild_index(tmp_path, library.base)
    with pytest.warns(UserWarning, match=r"(?s)zz.safetensors: it is named 'a'.*other.safetensors: it has the layout"):
        rebuilt = rebuild_index(tmp_path, library.base, errors="skip")
    assert_same(rebuilt, library)
    assert_same(load(tmp_path, library.base), library)
    assert len(files_in(tmp_path)) == 4


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load(tmp_path / "nowhere", base_of())
    with pytest.raises(FileNotFoundError, match="no index.json"):
        load(tmp_path, base_of())
    with pytest.raises(ValueError, match="none of the 0 files"):
        rebuild_index(tmp_path, base_of())
    save(library_of("a"), tmp_path)
    with pytest.raises(ValueError, match="errors='ignore'"):
        load(tmp_path, base_of(), errors="ignore")


def test_cards_of_the_cases_differ_from_the_default():
    """A field that was not saved would be found: none of them has its default."""
    card, default = card_of("a"), Card("")
    assert all(value != getattr(default, name) for name, value in vars(card).items())
