"""Folders that several use at once, and saves that are killed: the library before or after, whole, and nothing else."""

import json
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from jaxopt_lite.specialists import Geometry, load, load_base, save, save_base, save_one
from jaxopt_lite.specialists.files import folder as folder_module
from jaxopt_lite.specialists.files import reading
from jaxopt_lite.specialists.files.folder import Listed, locked
from jaxopt_lite.specialists.files.specialist import Reader
from tests.specialists.store_cases import PowerCut, assert_same, base_of, cut_power, library_of

pytestmark = pytest.mark.hardly_optimized

BASE = base_of()
KINDS = {"a folder": load, "a file": load, "a base": load_base, "a geometry": Geometry.load}


@pytest.fixture
def meanwhile(monkeypatch):
    """Lets something happen before a load reads its n-th file; the names of all that it reads."""
    read, actions, busy = [], {}, []
    call = Reader.__call__

    def reads(self, path):
        if busy:  # what an action reads does not count
            return call(self, path)
        busy.append(True)
        actions.pop(len(read), lambda: None)()
        busy.clear()
        read.append(os.path.basename(path))
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


def test_the_lock_of_another_user_is_locked_all_the_same(tmp_path, monkeypatch):
    """Of a folder that a group shares: it can be read, and not written."""
    fcntl = pytest.importorskip("fcntl")
    save(LIBRARIES[0], tmp_path)

    def of_another(path, mode, **settings):
        if mode != "rb":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return open(path, mode, **settings)

    monkeypatch.setattr(folder_module, "open", of_another, raising=False)
    save(LIBRARIES[1], tmp_path, others="remove")
    assert_same(load(tmp_path, BASE), LIBRARIES[1])
    with locked(tmp_path), open(tmp_path / ".lock", "rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_several_saves_meanwhile(tmp_path, meanwhile):
    _, actions = meanwhile
    save(LIBRARIES[0], tmp_path)
    for place, library in zip((1, 4, 5), LIBRARIES[1:], strict=True):
        actions[place] = lambda library=library: save(library, tmp_path, others="remove")
    assert_same(load(tmp_path, BASE), LIBRARIES[3])
    assert not actions


def test_a_library_that_is_replaced_and_put_back_meanwhile(tmp_path, meanwhile, monkeypatch):
    """The files have the same names and contents as before, and yet were others for a while."""
    _, actions = meanwhile
    save(LIBRARIES[0], tmp_path)
    actions[0] = lambda: save(LIBRARIES[1], tmp_path, others="remove")
    read_files, calls = reading._read_files, []

    def put_back_first(*args):
        calls.append(read_files(*args))
        if len(calls) == 1:
            save(LIBRARIES[0], tmp_path, others="remove")
        return calls[-1]

    monkeypatch.setattr(reading, "_read_files", put_back_first)
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
    assert sorted(name[0] for name in read) == sorted("012345678x")  # 7 was gone when its turn came


@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_a_damaged_file_is_reported_beside_saves_too(tmp_path, meanwhile, errors):
    read, actions = meanwhile
    save(LIBRARIES[0], tmp_path)
    next(tmp_path.glob("b-*")).write_bytes(b"damaged")
    rest = LIBRARIES[0].remove("c").add(library_of("d"))
    actions[1] = lambda: save_but_do_not_mend(tmp_path, rest)
    if errors == "skip":
        with pytest.warns(UserWarning, match="1 of 3 specialists were left out:\n.*b-.*cut short"):
            assert_same(load(tmp_path, BASE, errors="skip"), rest[["a", "d"]])
    else:
        with pytest.raises(ValueError, match=r"b-.*cut short"):
            load(tmp_path, BASE)
    assert len(read) <= 6


def save_but_do_not_mend(folder, library):
    """`save` would write the damaged file again."""
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

    threads = [threading.Thread(target=run, args=(action,)) for action in (write, write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(list(tmp_path.iterdir())) == 4


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
        path = path / "x.safetensors"
    else:
        path.unlink()
    path.mkdir()
    if kind == "a file":  # which may as well be a folder of specialists
        with pytest.raises(FileNotFoundError, match=r"holds no specialists"):
            load(path, BASE)
    else:
        with pytest.raises(ValueError, match=f"{path.name}.* is a folder"):
            KINDS[kind](tmp_path / kind, BASE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path, kind):
    written(tmp_path)
    path = tmp_path / kind / "index.json" if kind == "a folder" else tmp_path / kind
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{path.name}.* not a file"):
        KINDS[kind](tmp_path / kind, BASE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_among_the_files_is_not_waited_for(tmp_path):
    save(LIBRARIES[0], tmp_path)
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x.safetensors: is a link or not a file"):
        load(tmp_path, BASE)
    with pytest.warns(UserWarning, match=r"x.safetensors: is a link or not a file"):
        assert_same(load(tmp_path, BASE, errors="skip"), LIBRARIES[0])
    save(LIBRARIES[0], tmp_path)
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


OLD = library_of("a", "b")
NEW = library_of("b", "c", "d")


def names_in(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name != ".lock")


def killed(monkeypatch, step: int, action) -> bool:
    """Run an action of which nothing more reaches the disk from a step on; whether it was cut short."""
    with monkeypatch.context() as patch, warnings.catch_warnings(action="ignore"):
        calls = cut_power(patch, step)
        with suppress(PowerCut):
            action()
    return len(calls) > step


@pytest.mark.parametrize("others", ["keep", "remove", "the first save"])
def test_a_save_that_is_killed_at_any_step_is_done_whole_or_not_at_all(tmp_path, monkeypatch, others):
    """And the next save clears up. A file that was put there by hand is one of the library."""
    added = NEW if others == "remove" else library_of("c", "d")
    committed = []
    for step in range(80):
        folder = tmp_path / str(step)
        folder.mkdir()
        save_one(library_of("gift"), folder / "from Ada.safetensors")
        if others != "the first save":
            save(OLD, folder, others="keep")
        old = load(folder, BASE)
        new = NEW if others == "remove" else old.add(added)
        action = lambda folder=folder: save(added, folder, others="remove" if others == "remove" else "keep")
        cut = killed(monkeypatch, step, action)
        found = load(folder, BASE)
        committed.append(found.names == new.names)
        assert_same(found, new if committed[-1] else old)
        save(found, folder)
        assert_same(load(folder, BASE), found)
        assert len(names_in(folder)) == len(found), names_in(folder)
        if not cut:
            break
    assert committed == sorted(committed) and committed.count(False) > 5 and committed.count(True) > 3 and not cut


def test_a_save_that_fails_undoes_itself(tmp_path, monkeypatch):
    save(OLD, tmp_path)
    before = names_in(tmp_path)
    for others in ("keep", "remove"):
        for error in (OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()):
            with monkeypatch.context() as patch:
                patch.setattr(folder_module, "flush_folder", lambda *_, error=error: (_ for _ in ()).throw(error))
                with pytest.raises(type(error)):
                    save(library_of("c", "d"), tmp_path, others=others)
            assert names_in(tmp_path) == before
            assert_same(load(tmp_path, BASE), OLD)


def test_a_writer_that_fails_beside_others_leaves_nothing(tmp_path, monkeypatch):
    """Files are written by several threads: when one fails, those that are still writing are waited for."""
    many, put, count = library_of(*(f"{k}" for k in range(40))), folder_module.put, iter(range(10**6))

    def fail(path, data):
        if next(count) % 17 == 5:
            raise OSError(28, "No space left on device")
        put(path, data)

    save(OLD, tmp_path)
    before = names_in(tmp_path)
    monkeypatch.setattr(folder_module, "put", fail)
    for _ in range(5):
        with pytest.raises(OSError, match=re.escape(f"No space left on device: {str(tmp_path)!r}")):
            save(many, tmp_path, others="keep")
        assert names_in(tmp_path) == before


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals of POSIX")
def test_ctrl_c_while_files_are_written_stops_soon_and_undoes_them(tmp_path, monkeypatch):
    many, put, written, count = library_of(*(f"{k}" for k in range(300))), folder_module.put, [], iter(range(300))

    def slow(path, data):
        written.append(path.name)
        put(path, data)
        if next(count) == 20:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.002)

    save(OLD, tmp_path)
    before = names_in(tmp_path)
    monkeypatch.setattr(folder_module, "put", slow)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            save(many, tmp_path, others="keep")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert 20 <= len(written) < 200 and names_in(tmp_path) == before
    assert_same(load(tmp_path, BASE), OLD)


def test_nothing_is_written_where_nothing_changes(tmp_path):
    save(OLD, tmp_path)
    before = tmp_path.stat().st_mtime_ns
    time.sleep(0.02)  # clocks of file systems are coarse
    save(OLD, tmp_path)
    assert tmp_path.stat().st_mtime_ns == before


def pending(folder: Path, removed) -> Path:
    """As if a save that removes these files, by name and stamp, had been killed once it was part of the library."""
    commit = folder / ".saved-00000000"
    commit.mkdir()
    (commit / "removed.json").write_text(removed if isinstance(removed, str) else json.dumps(removed))
    return commit


@pytest.mark.parametrize(
    "removed",
    ["", "{", "[1]", '{"a": [Infinity, 1, 2]}', '{"a": 1}', '{"a": [1, 2]}', '{"a": ["x", 1, 2]}', "[" * 9999],
)
def test_a_damaged_list_of_removed_files_is_refused(tmp_path, removed):
    save(OLD, tmp_path)
    commit = pending(tmp_path, removed)
    for action in (lambda: load(tmp_path, BASE), lambda: save(NEW, tmp_path, others="remove")):
        with pytest.raises(ValueError, match=r"removed.json is not a list of files.*Move .saved-00000000 away"):
            action()
    shutil.rmtree(commit)
    assert_same(load(tmp_path, BASE), OLD)


def test_only_the_file_that_is_meant_is_removed(tmp_path):
    """None elsewhere, no other file of the name, no link and no folder."""
    save(OLD, tmp_path / "x")
    folder, outside = tmp_path / "x", tmp_path / "outside.safetensors"
    save_one(library_of("far"), outside)
    stamp = lambda path: Listed.of(str(path), os.lstat(path)).stamp
    (folder / "folder.safetensors").mkdir()
    before = names_in(folder)
    (first, *_) = folder.glob("a-*")
    wrong = {first.name: (stamp(first)[0], stamp(first)[1] - 1, stamp(first)[2])}
    pending(folder, {"../outside.safetensors": stamp(outside), str(outside): stamp(outside), **wrong})
    (folder / ".saved-00000001").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="folder.safetensors: is a folder"):
        load(folder, BASE)
    save(OLD, folder)
    assert names_in(folder) == sorted([*before, ".saved-00000001"]) and outside.exists()


@pytest.mark.parametrize("moved", [False, True])
def test_a_file_that_is_put_there_again_after_a_kill_stays(tmp_path, monkeypatch, moved):
    """It is the file, to the bit, that a save was about to remove; but someone wants it there."""
    ends = set()
    for step in range(80):
        folder, gift = tmp_path / str(step), tmp_path / str(step) / "from Ada.safetensors"
        save(OLD, folder)
        save_one(library_of("gift"), gift)
        save_one(library_of("gift"), tmp_path / "copy")
        time.sleep(0.02)  # clocks of file systems are coarse
        cut = killed(monkeypatch, step, lambda folder=folder: save(OLD, folder, others="remove"))
        ends.add(load(folder, BASE).names)
        if moved:
            (tmp_path / "copy").replace(gift)
        else:
            save_one(library_of("gift"), gift)
        save(load(folder, BASE), folder)
        assert load(folder, BASE).names == ("a", "b", "gift") and len(names_in(folder)) == 3 and gift.exists()
        if not cut:
            break
    assert len(ends) == 2 and not cut


def test_what_cannot_be_deleted_is_no_specialist_and_goes_later(tmp_path, monkeypatch):
    save(OLD, tmp_path)
    (file,) = tmp_path.glob("a-*")
    unlink = os.unlink

    def fail(path, *args, **kwargs):
        if os.path.basename(path) == file.name:
            raise PermissionError(1, "Operation not permitted", str(path))
        unlink(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        with pytest.warns(UserWarning, match=r"1 files .* could not be deleted: 'a-.*tries again") as caught:
            save(NEW, tmp_path, others="remove")
        assert caught[0].filename == __file__
        assert_same(load(tmp_path, BASE), NEW)
        with pytest.warns(UserWarning, match="could not be deleted"):
            save(NEW.remove("b"), tmp_path, others="remove")
        assert_same(load(tmp_path, BASE), NEW.remove("b"))
    assert file.exists()
    save(NEW.remove("b"), tmp_path)
    assert len(names_in(tmp_path)) == 2
    assert_same(load(tmp_path, BASE), NEW.remove("b"))


def test_half_written_files_go_too(tmp_path):
    save(OLD, tmp_path)
    (tmp_path / ".0123456789abcdef.part").write_bytes(b"half")
    (tmp_path / ".saving").mkdir()
    (tmp_path / ".saving" / "x.safetensors").write_bytes(b"half")
    save(OLD, tmp_path)
    assert len(names_in(tmp_path)) == 2


LINUX = sys.platform == "linux"


def is_lock(descriptor: str) -> bool:
    with suppress(OSError):
        return os.readlink(descriptor).endswith("/.lock")
    return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_meanwhile_neither_keeps_the_lock_nor_waits_for_itself(tmp_path):
    """It would have the lock's file open, and with it the lock, for as long as it lives."""
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with locked(tmp_path):
            inside.set()
            leave.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(60)
    ready, go = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # JAX and Python warn of threads
        child = os.fork()
    if child == 0:  # it lives on, and writes to the folder itself
        os.close(go)
        os.read(ready, 1)
        inherited = [fd for fd in os.listdir("/proc/self/fd") if is_lock(f"/proc/self/fd/{fd}")] if LINUX else []
        with locked(tmp_path):
            os._exit(7 + len(inherited))
    leave.set()
    holder.join(60)
    free = threading.Thread(target=lambda: locked(tmp_path).__enter__(), daemon=True)
    free.start()
    free.join(30)
    os.close(go)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not free.is_alive()
