"""Loading while others write: the library before or after, whole; and what cannot be read is called what it is."""

import os
import stat
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from jaxopt_lite.specialists import Geometry, load, load_base, rebuild_index, save, save_base, save_one, store
from jaxopt_lite.specialists.specialist_files import Reader
from tests.specialists.store_cases import assert_same, base_of, library_of

BASE = base_of()
KINDS = {"a folder": load, "a file": load, "a base": load_base, "a geometry": Geometry.load}


@pytest.fixture
def meanwhile(monkeypatch):
    """Lets something happen before a load reads its n-th file; the names of all that it reads."""
    read, actions = [], {}
    call = Reader.__call__

    def reads(self, path):
        actions.pop(len(read), lambda: None)()
        read.append(path.name)
        return call(self, path)

    monkeypatch.setattr(Reader, "__call__", reads)
    return read, actions


LIBRARIES = [library_of("a", "b", "c", seed=seed) for seed in range(4)]


@pytest.mark.parametrize("errors", ["raise", "skip"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_save_that_ends_meanwhile_makes_it_the_new_library(tmp_path, meanwhile, place, errors):
    _, actions = meanwhile
    save(LIBRARIES[0], tmp_path)
    actions[place] = lambda: save(LIBRARIES[1], tmp_path, others="remove")
    assert_same(load(tmp_path, BASE, errors=errors), LIBRARIES[1])


def test_a_save_that_ends_after_the_last_file_was_read_changes_nothing(tmp_path, meanwhile):
    _, actions = meanwhile
    save(LIBRARIES[0], tmp_path)
    actions[2] = lambda: save(LIBRARIES[0].add(library_of("d")), tmp_path)
    assert_same(load(tmp_path, BASE), LIBRARIES[0])


def test_several_saves_meanwhile(tmp_path, meanwhile):
    _, actions = meanwhile
    save(LIBRARIES[0], tmp_path)
    for place, library in zip((1, 4, 5), LIBRARIES[1:], strict=True):
        actions[place] = lambda library=library: save(library, tmp_path, others="remove")
    assert_same(load(tmp_path, BASE), LIBRARIES[3])
    assert not actions


def test_a_library_that_is_replaced_and_put_back_meanwhile(tmp_path, meanwhile, monkeypatch):
    """The index says the same as before, and yet the files were not there for a while."""
    _, actions = meanwhile
    save(LIBRARIES[0], tmp_path)
    actions[0] = lambda: save(LIBRARIES[1], tmp_path, others="remove")
    listing, calls = store._listing, []

    def put_back_first(*args):
        calls.append(args)
        if len(calls) == 2:
            save(LIBRARIES[0], tmp_path, others="remove")
        return listing(*args)

    monkeypatch.setattr(store, "_listing", put_back_first)
    assert_same(load(tmp_path, BASE), LIBRARIES[0])
    assert len(calls) == 2


def test_only_what_is_new_is_read_again(tmp_path, meanwhile):
    """So that a load is done in the end, beside any number of saves."""
    read, actions = meanwhile
    many = library_of(*(f"{k}" for k in range(9)))
    save(many, tmp_path)
    actions[3] = lambda: save(many.remove("7").add(library_of("x")), tmp_path, others="remove")
    found = load(tmp_path, BASE)
    assert "x" in found and "7" not in found and len(found) == 9
    assert sorted(name[0] for name in read) == sorted("01234568x")


@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_a_damaged_file_is_reported_beside_saves_too(tmp_path, meanwhile, errors):
    read, actions = meanwhile
    save(LIBRARIES[0], tmp_path)
    next(tmp_path.glob("b-*")).write_bytes(b"damaged")
    rest = LIBRARIES[0].remove("c").add(library_of("d"))
    actions[1] = lambda: save_index_only(tmp_path, rest)
    if errors == "skip":
        with pytest.warns(UserWarning, match="1 of 3 specialists were left out:\n.*b-.*cut short"):
            assert_same(load(tmp_path, BASE, errors="skip"), rest[["a", "d"]])
    else:
        with pytest.raises(ValueError, match=r"b-.*cut short"):
            load(tmp_path, BASE)
    assert len(read) <= 6


def save_index_only(folder, library):
    """As if by a build that does not look at the files that are there: `save` would mend the damaged one."""
    (damaged,) = folder.glob("b-*")
    content = damaged.read_bytes()
    save(library, folder, others="remove")
    damaged.write_bytes(content)


def test_a_folder_that_is_gone_meanwhile(tmp_path, meanwhile):
    _, actions = meanwhile
    folder = tmp_path / "library"
    save(LIBRARIES[0], folder)
    actions[1] = lambda: folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="library does not exist"):
        load(folder, BASE)


def test_a_link_that_is_turned_meanwhile(tmp_path, meanwhile):
    """The file it pointed to is gone, and the one it points to is whole."""
    _, actions = meanwhile
    for k in range(2):
        save_one(LIBRARIES[k]["a"], tmp_path / f"{k}")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "0")

    def turn():
        (tmp_path / "0").unlink()
        link.unlink()
        link.symlink_to(tmp_path / "1")

    actions[0] = turn
    assert_same(load(link, BASE), LIBRARIES[1]["a"])


def test_a_file_that_is_gone_meanwhile(tmp_path, meanwhile):
    _, actions = meanwhile
    save_one(LIBRARIES[0]["a"], tmp_path / "a")
    actions[0] = (tmp_path / "a").unlink
    with pytest.raises(FileNotFoundError, match="a does not exist"):
        load(tmp_path / "a", BASE)


def test_two_threads_that_save_and_load_one_folder(tmp_path):
    save(LIBRARIES[0], tmp_path)
    failures, ids = [], {library.ids for library in LIBRARIES}

    def run(action):
        try:
            for k in range(12):
                action(k)
        except Exception as error:
            failures.append(error)

    def write(k):
        save(LIBRARIES[k % 4], tmp_path, others="remove")

    def read(k):
        assert load(tmp_path, BASE).ids in ids

    def rebuild(k):
        assert rebuild_index(tmp_path, BASE).names == ("a", "b", "c")

    threads = [threading.Thread(target=run, args=(action,)) for action in (write, write, read, read, rebuild)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(list(tmp_path.iterdir())) == 5


def written(folder):
    """One of each kind of file."""
    save(LIBRARIES[0], folder / "a folder")
    save_one(LIBRARIES[0]["a"], folder / "a file")
    save_base(BASE, folder / "a base")
    one = np.float32(1)
    Geometry(np.ones(1, "f4"), np.ones((1, 1), "f4"), one, one, BASE.fingerprint).save(folder / "a geometry")


def let_in(folder):
    """Everybody, as far as the folder."""
    while folder not in (Path(tempfile.gettempdir()), folder.parent):
        folder.chmod(folder.stat().st_mode | 0o755)
        folder = folder.parent


@contextmanager
def as_nobody():
    """Without the rights of the administrator, whom no permissions keep out."""
    if os.name != "posix":
        pytest.skip("permissions are those of POSIX")
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["it", "the folder around it"])
def test_permission_denied_is_not_called_missing(tmp_path, kind, what):
    let_in(tmp_path)
    inside = tmp_path / "in"
    inside.mkdir()
    written(inside)
    path = inside / kind
    for each in inside.rglob("*"):
        each.chmod(0o755)
    (path if what == "it" else inside).chmod(0)
    try:
        with as_nobody(), pytest.raises((ValueError, OSError), match="Permission denied") as caught:
            KINDS[kind](path, BASE)
    finally:
        for each in (inside, path):
            each.chmod(0o755)
    assert str(path) in str(caught.value) and "does not exist" not in str(caught.value)


def test_permission_denied_for_one_of_many(tmp_path):
    let_in(tmp_path)
    save(LIBRARIES[0], tmp_path)
    (file,) = tmp_path.glob("b-*")
    file.chmod(0)
    with as_nobody(), pytest.raises(ValueError, match=f"{file.name}: cannot be read .Permission denied"):
        load(tmp_path, BASE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_in_place_of_a_file_is_called_so(tmp_path, kind):
    written(tmp_path)
    path = tmp_path / kind
    if kind == "a folder":
        (path / "index.json").unlink()
        path = path / "index.json"
    else:
        path.unlink()
    path.mkdir()
    if kind == "a file":  # which may as well be a folder of specialists
        with pytest.raises(FileNotFoundError, match=r"has no index\.json"):
            load(path, BASE)
    else:
        with pytest.raises(ValueError, match=f"{path.name}.* is a folder"):
            KINDS[kind](tmp_path / kind, BASE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path, kind):
    written(tmp_path)
    path = tmp_path / kind / "index.json" if kind == "a folder" else tmp_path / kind
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{path.name}.* no file"):
        KINDS[kind](tmp_path / kind, BASE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_among_the_files_is_not_waited_for(tmp_path):
    save(LIBRARIES[0], tmp_path)
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x.safetensors: is a link or no file"):
        rebuild_index(tmp_path, BASE)
    with pytest.warns(UserWarning, match=r"x.safetensors: is a link or no file"):
        assert_same(rebuild_index(tmp_path, BASE, errors="skip"), LIBRARIES[0])
    assert stat.S_ISFIFO((tmp_path / "x.safetensors").stat().st_mode)


@pytest.mark.skipif(sys.platform == "win32", reason="what is open there cannot be replaced")
@pytest.mark.parametrize("kind", ["a base", "a geometry", "a file"])
def test_a_file_that_another_program_cuts_short_harms_nothing_that_was_loaded(tmp_path, kind):
    """A file that is mapped into memory would end the process."""
    written(tmp_path)
    loaded = KINDS[kind](tmp_path / kind, BASE)
    os.truncate(tmp_path / kind, 10)
    if kind == "a base":
        assert loaded.fingerprint == BASE.fingerprint
    elif kind == "a file":
        assert_same(loaded, LIBRARIES[0]["a"])
    else:
        assert loaded.center.tolist() == [1]
