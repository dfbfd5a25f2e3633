"""Files of specialists that are damaged, foreign or of something else are refused, and the others stay usable."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from jaxopt_lite.specialists import Geometry, Shift, load, load_base, save, save_one
from jaxopt_lite.specialists.tensor_files import encode
from tests.specialists.store_cases import assert_same, base_of, library_of, lora
from tests.stress.specialists_mutations import run

pytestmark = pytest.mark.hardly_optimized


def forge(change: Callable[[dict, dict], object], kind: str = "jaxopt_lite specialist") -> Callable[[Path], None]:
    """Changes arrays or metadata, and makes the checksum fit again."""

    def damage(path: Path) -> None:
        with safe_open(path, framework="numpy") as file:
            tensors, metadata = file.get_tensors(), file.metadata()
        metadata = {key: metadata[key] for key in metadata if key not in ("format", "version", "checksum")}
        change(tensors, metadata)
        path.write_bytes(encode(kind, tensors, metadata, version="2"))

    return damage


def card(**fields) -> Callable[[Path], None]:
    """Changes the card, or takes out what is None."""

    def change(_, metadata):
        entries = json.loads(metadata["card"]) | fields
        metadata["card"] = json.dumps({key: value for key, value in entries.items() if value is not None})

    return forge(change)


def replaced(old: bytes, new: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        assert data.count(old) == 1 and len(old) == len(new)
        path.write_bytes(data.replace(old, new))

    return damage


def by_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def header(text: bytes, body: bytes = b"") -> Callable[[Path], None]:
    return lambda path: path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def another(*names: str, **settings) -> Callable[[Path], None]:
    return lambda path: save_one(library_of(*names, **settings), path)


class Bomb:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def linked(path: Path) -> None:
    outside = path.parent.parent / "outside.safetensors"
    shutil.move(path, outside)
    path.symlink_to(outside)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


LARGE = b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,4]}}'
HALF = b'{"__metadata__":{},"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}'
DAMAGES = {
    "a folder": (as_folder, "is a folder; put the file itself there"),
    "a link out of the folder": (linked, "is a link or not a file; put a copy"),
    "empty": (by_bytes(lambda data: b""), "not a safetensors file, or cut short"),
    "cut short in the arrays": (by_bytes(lambda data: data[:-1]), "not a safetensors file, or cut short"),
    "cut short in the header": (by_bytes(lambda data: data[:100]), "not a safetensors file, or cut short"),
    "something behind it": (by_bytes(lambda data: data + b"\0"), "not a safetensors file"),
    "an array changed": (by_bytes(lambda data: data[:-1] + bytes([data[-1] ^ 1])), "its checksum does not fit"),
    "the author changed": (replaced(b"Ada", b"Eve"), "its checksum does not fit"),
    "the name of a tensor changed": (replaced(b"profile/gate", b"profile/hate"), "its checksum does not fit"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(Bomb())), "not a safetensors file"),
    "another program's": (lambda path: save_file({"a": np.ones(3)}, path), "not a file of the format .* but ''"),
    "a number too large": (header(LARGE, b"1234"), "not a file of the format"),
    "a header too large": (lambda path: path.write_bytes(b"\xff" * 7 + b"\x7f{}"), "not a safetensors file"),
    "a dtype unknown": (header(HALF, b"12"), "not a file of the format"),
    "another kind": (forge(lambda t, m: None, kind="jaxopt_lite base"), "not a file of the format"),
    "a later version": (
        replaced(b'"version":"2"', b'"version":"3"'),
        "version '3'.*expected '1' or '2'. Update",
    ),
    "metadata missing": (forge(lambda t, m: m.pop("id")), "its metadata keys are"),
    "metadata extra": (forge(lambda t, m: m.update(more="x")), "its metadata keys are"),
    "another base": (another("a", base=base_of(seed=1)), "made for the base 'base' .*give the base it was made for"),
    "another base's name": (another("a", base=base_of(name="lm")), "made for the base 'lm'"),
    "another tokenizer": (another("a", base=base_of(tokenizer=True)), "made with the tokenizer .* this base has none"),
    "another adapter": (another("a", adapter=lora()), "it has the adapter .*LoRA.*; the others have .*Load it alone"),
    "other leaves": (another("a", adapter=Shift("bias") + Shift("hidden")), "it has the adapter .*Shift"),
    "another specialist": (another("b", seed=1), "it holds 'b', and its name is that of another; rename it"),
    "an unknown adapter": (forge(lambda t, m: m.update(adapter='[{"kind":"New"}]')), "adapter.*does not fit this base"),
    "an adapter's setting": (
        forge(lambda t, m: m.update(adapter='[{"kind":"IA3","path":"hidden","axis":"x"}]')),
        "adapter.*does not fit this base",
    ),
    "an adapter that is no JSON": (forge(lambda t, m: m.update(adapter="[" * 9999)), "does not fit this base"),
    "a giant adapter": (
        forge(lambda t, m: m.update(adapter='[{"kind":"LoRA","path":"hidden","rank":1000000000000}]')),
        "the tensors .* are missing",
    ),
    "a tensor missing": (forge(lambda t, m: t.pop("profile/gate")), r"the tensors \['profile/gate'\] are missing"),
    "the mean missing": (forge(lambda t, m: t.pop("profile/mean")), r"the tensors \['profile/mean'\] are missing"),
    "a tensor extra": (forge(lambda t, m: t.update(x=np.ones(1))), r"the tensors \['x'\] are unexpected"),
    "a shape": (
        forge(lambda t, m: t.update({"parameters/shift:bias": np.zeros(5, np.float32)})),
        r"'parameters/shift:bias' has shape \(5,\); expected \(4,\)",
    ),
    "integers": (
        forge(lambda t, m: t.update({"profile/count": np.array(3)})),
        "'profile/count' is int64; expected floating-point",
    ),
    "another dtype": (
        forge(lambda t, m: t.update({"profile/count": np.array(3.0)})),
        "it has the adapter .*float32, float64; the others have .*with float32",
    ),
    "NaN": (
        forge(lambda t, m: t.update({"profile/gate": np.array([0, np.nan, 0], np.float32)})),
        "'profile/gate' holds NaN or infinity",
    ),
    "infinity": (
        forge(lambda t, m: t.update({"profile/count": np.array(np.inf, np.float32)})),
        "'profile/count' holds NaN or infinity",
    ),
    "an id that is not its own": (forge(lambda t, m: m.update(id="0" * 64)), "its id is not that of its content"),
    "an order that is no number": (
        forge(lambda t, m: m.update(order="-1")),
        "its order is '-1'; expected a whole",
    ),
    "an endless order": (
        forge(lambda t, m: m.update(order="9" * 9999)),
        "its order is '9{40}'; expected",
    ),
    "a card that is no JSON": (forge(lambda t, m: m.update(card="{")), "its card { cannot be read"),
    "a card that is a list": (forge(lambda t, m: m.update(card="[1]")), "its card"),
    "a card without a field": (card(license=None), "lacks a field.*license"),
    "a card with a new field": (card(more=1), "its card .* cannot be read"),
    "a card of other types": (card(examples="7"), "another type: examples"),
    "a card with a truth for a number": (card(examples=True), "another type: examples"),
    "a card with a text for parents": (card(parents="ab"), "another type: parents"),
    "a card with other parents": (card(parents=[1]), "another type: parents"),
    "a loss that is no number": (card(loss="low"), "one of another type: loss"),
    "a name changed": (card(name="z"), "it holds 'z', and its name is that of another"),
    "a name that is there": (card(name="b"), "it holds 'b', and its name is that of another"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_bad_file_is_refused_and_the_others_are_loaded(tmp_path, monkeypatch, damage, message):
    """The error names the file and the reason; with errors="skip" a warning does."""
    monkeypatch.chdir(tmp_path)
    library, folder = library_of("b", "a", "c"), tmp_path / "library"
    save(library, folder)
    (path,) = folder.glob("a-*")
    damage(path)
    with pytest.raises(ValueError, match=f"(?s){path.name}: .*{message}"):
        load(folder, library.base)
    with pytest.warns(UserWarning, match=f"(?s)1 of 3 specialists were left out:.*{path.name}: .*{message}") as caught:
        rest = load(folder, library.base, errors="skip")
    assert caught[0].filename == __file__
    assert_same(rest, library[["b", "c"]])
    assert not Path("exploded").exists()


def test_a_file_that_is_deleted_is_a_specialist_less(tmp_path):
    library = library_of("a", "b")
    save(library, tmp_path)
    next(tmp_path.glob("a-*")).unlink()
    assert_same(load(tmp_path, library.base), library["b"])


def test_a_library_of_which_nothing_is_left(tmp_path):
    save(library_of("a"), tmp_path)
    next(tmp_path.glob("a-*")).write_bytes(b"damaged")
    with (
        pytest.warns(UserWarning, match="1 of 1 specialists were left out"),
        pytest.raises(ValueError, match="none of the 1 files"),
    ):
        load(tmp_path, base_of(), errors="skip")


def test_double_precision_needs_double_precision(tmp_path):
    """Nothing is rounded silently."""
    library = library_of("a", base=base_of("float64"))
    save(library, tmp_path)
    with jax.enable_x64(False), pytest.raises(ValueError, match="is float64; enable it.*jax_enable_x64"):
        load(tmp_path, library.base)
    assert_same(load(tmp_path, library.base), library)


@pytest.mark.parametrize("seed", range(3))
def test_bytes_at_random_are_refused(tmp_path, seed):
    path = tmp_path / "x.safetensors"
    path.write_bytes(np.random.default_rng(seed).bytes(500))
    with pytest.raises(ValueError, match=r"x.safetensors: not a safetensors file"):
        load(path, base_of())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_byte_can_change_unnoticed(tmp_path_factory, data):
    """A file with another byte is refused, or what it says is the same."""
    library = library_of("a")
    path = tmp_path_factory.mktemp("files") / "a.safetensors"
    save_one(library, path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        found = load(path, library.base)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert_same(found, library)


# What earlier versions wrote. `version_1/library` was saved as b, a, c by the last build that wrote an index.

OLD, OLD_BASE = Path(__file__).parent / "version_1", base_of(tokenizer=True)
OLD_LIBRARY = library_of("b", "a", "c", base=OLD_BASE)


@pytest.fixture
def old(tmp_path):
    """A copy that may be changed."""
    return Path(shutil.copytree(OLD / "library", tmp_path / "library"))


def test_files_of_version_1_are_loaded_in_their_order(old):
    assert_same(load(old, OLD_BASE), OLD_LIBRARY)
    assert_same(load(OLD / "gift.safetensors", OLD_BASE), library_of("gift", base=OLD_BASE))
    assert load_base(OLD / "base.safetensors", OLD_BASE).fingerprint == OLD_BASE.fingerprint
    assert Geometry.load(OLD / "geometry.safetensors", OLD_BASE).center.tolist() == [1, 1, 1]
    (old / "index.json").unlink()
    assert_same(load(old, OLD_BASE), OLD_LIBRARY[["a", "b", "c"]])


def test_saving_to_a_folder_of_version_1_touches_no_file(old):
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    save(OLD_LIBRARY, old)
    more = OLD_LIBRARY.add(library_of("0", base=OLD_BASE))
    save(more, old)
    after = {path.name: path.read_bytes() for path in old.iterdir()}
    assert before.items() < after.items() and len(after) == len(before) + 2  # one is the lock
    assert_same(load(old, OLD_BASE), more)
    fewer = more[["a", "0"]]
    save(fewer, old, others="remove")
    assert_same(load(old, OLD_BASE), fewer)
    assert len(list(old.glob("*.safetensors"))) == 2


def test_a_file_that_an_old_index_does_not_list_is_left_out_with_a_warning(old):
    """It may be what a save that was killed had left."""
    shutil.copy(OLD / "gift.safetensors", old)
    with pytest.warns(UserWarning, match="1 files are not listed in index.json.*'gift.safetensors'. Delete index.json"):
        assert_same(load(old, OLD_BASE), OLD_LIBRARY)
    save(library_of("new", base=OLD_BASE), old, others="remove")
    assert (old / "gift.safetensors").exists()
    (old / "index.json").unlink()
    assert set(load(old, OLD_BASE).names) == {"new", "gift"}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(format="other"),
        lambda content: content.pop("checksum"),
        lambda content: content["specialists"].reverse(),
        lambda content: content.update(specialists=1),
    ],
)
def test_a_damaged_index_is_refused(old, change):
    path = old / "index.json"
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))
    for action in (lambda: load(old, OLD_BASE), lambda: save(OLD_LIBRARY, old)):
        with pytest.raises(ValueError, match="index.json is not an index of an earlier version, or.*Move it away"):
            action()
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="index.json is not an index.*is a folder"):
        load(old, OLD_BASE)


# A few of the files with mistakes that `python -m tests.stress.specialists_mutations` makes by the thousand.


def test_a_file_with_a_mistake_is_whole_or_refused_by_name(tmp_path):
    faults, outcomes = run(220, 7, tmp_path)
    assert not faults, "\n".join(faults)
    assert sum(outcomes.values()) == 220
    loaded = sum(count for outcome, count in outcomes.items() if outcome.endswith("loaded"))
    assert 20 < loaded < 120
