"""What a save that was interrupted leaves behind goes with the next one; nothing else does, whatever a journal says."""

import json
import os
import signal
import sys
import threading
import time
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from jaxopt_lite.specialists import load, rebuild_index, save, save_one, store
from jaxopt_lite.specialists.base import digest
from jaxopt_lite.specialists.folder_index import locked
from jaxopt_lite.specialists.tensor_files import canonical
from tests.specialists.store_cases import PowerCut, assert_same, base_of, cut_power, library_of

BASE = base_of()
OLD = library_of("a", "b")
NEW = OLD.remove("a").add(library_of("c", "d"))


def names_in(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name not in ("index.json", ".lock"))


def killed(monkeypatch, step: int, action) -> bool:
    """Run an action of which nothing more reaches the disk from a step on; whether it was cut short."""
    with monkeypatch.context() as patch, warnings.catch_warnings(action="ignore"):
        calls = cut_power(patch, step)
        with suppress(PowerCut):
            action()
    return len(calls) > step


def put_by_hand(folder: Path) -> list[str]:
    """Specialists that no index lists: one with a name of its own, one with the name that `save` gave it elsewhere."""
    save_one(library_of("gift"), folder / "from Ada.safetensors")
    save(library_of("copied"), folder.parent / "elsewhere")
    (file,) = (folder.parent / "elsewhere").glob("copied-*")
    file.rename(folder / file.name)
    return ["from Ada.safetensors", file.name]


@pytest.mark.parametrize(("others", "recover"), [("keep", "save"), ("remove", "rebuild_index")])
def test_whoever_is_next_clears_up_and_touches_nothing_else(tmp_path, monkeypatch, others, recover):
    new, saved = (NEW, NEW) if others == "remove" else (library_of("c", "d"), library_of("c", "d").add(OLD))
    committed = []
    for step in range(60):
        folder = tmp_path / str(step) / "x"
        save(OLD, folder)
        by_hand = put_by_hand(folder)
        cut = killed(monkeypatch, step, lambda folder=folder: save(new, folder, others=others))
        found = load(folder, BASE)  # takes no notice of the journal
        committed.append(found.names == saved.names)
        assert_same(found, saved if committed[-1] else OLD)
        if recover == "rebuild_index":
            both = rebuild_index(folder, BASE)
            assert sorted(both.names) == sorted((*found.names, "gift", "copied"))
            assert len(names_in(folder)) == len(both)
        else:
            save(found, folder)
            assert len(names_in(folder)) == len(found) + 2
        assert set(by_hand) <= set(names_in(folder)) and ".saving.json" not in names_in(folder)
        if not cut:
            break
    assert committed == sorted(committed) and 8 < len(committed) < 59


def test_a_first_save_that_was_killed_leaves_nothing(tmp_path, monkeypatch):
    """Also where specialists were put there by hand before: these are what `rebuild_index` finds."""
    for step in range(60):
        folder = tmp_path / str(step)
        folder.mkdir()
        save_one(library_of("gift"), folder / "from Ada.safetensors")
        cut = killed(monkeypatch, step, lambda folder=folder: save(OLD, folder))
        committed = (folder / "index.json").exists()
        found = rebuild_index(folder, BASE)
        assert sorted(found.names) == (["a", "b", "gift"] if committed else ["gift"])
        assert len(names_in(folder)) == len(found)
        if not cut:
            break
    assert 5 < step < 59


def test_a_save_that_fails_undoes_itself(tmp_path, monkeypatch):
    save(OLD, tmp_path)
    before = names_in(tmp_path)
    for others in ("keep", "remove"):
        for error in (OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()):
            with monkeypatch.context() as patch:
                patch.setattr(store, "_commit", lambda *_, error=error: (_ for _ in ()).throw(error))
                with pytest.raises(type(error)):
                    save(library_of("c", "d"), tmp_path, others=others)
            assert names_in(tmp_path) == before
            assert_same(load(tmp_path, BASE), OLD)


def test_a_writer_that_fails_beside_others_leaves_nothing(tmp_path, monkeypatch):
    """Files are written by several threads: when one fails, those that are still writing are waited for."""
    many, put, count = library_of(*(f"{k}" for k in range(40))), store.put, iter(range(10**6))

    def fail(path, data):
        if next(count) % 17 == 5:
            raise OSError(28, "No space left on device")
        put(path, data)

    save(OLD, tmp_path)
    before = names_in(tmp_path)
    monkeypatch.setattr(store, "put", fail)
    for _ in range(5):
        with pytest.raises(OSError, match="No space"):
            save(many, tmp_path, others="keep")
        assert names_in(tmp_path) == before


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals of POSIX")
def test_ctrl_c_while_files_are_written_stops_soon_and_undoes_them(tmp_path, monkeypatch):
    many, put, written, count = library_of(*(f"{k}" for k in range(300))), store.put, [], iter(range(300))

    def slow(path, data):
        written.append(path.name)
        put(path, data)
        if next(count) == 20:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.002)

    save(OLD, tmp_path)
    before = names_in(tmp_path)
    monkeypatch.setattr(store, "put", slow)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            save(many, tmp_path, others="keep")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert 20 <= len(written) < 200 and names_in(tmp_path) == before
    assert_same(load(tmp_path, BASE), OLD)


def test_nothing_is_written_down_where_nothing_changes(tmp_path, monkeypatch):
    save(OLD, tmp_path)
    written = []
    monkeypatch.setattr(store, "journal", lambda folder, files, *_, **__: written.append(files) or nullcontext())
    save(OLD, tmp_path)
    save(library_of("c"), tmp_path, others="keep")
    assert not written[0] and [file[:2] for file in written[1]] == ["c-"]


def forge(folder: Path, **content) -> None:
    """A journal with this content, and a checksum that fits."""
    content = {"format": "jaxopt_lite save under way", "version": "1", "first": False} | content
    text = json.dumps(content | {"checksum": digest({}, canonical(content))})
    (folder / ".saving.json").write_text(text)


CHECKSUM = "0" * 64
NO_JOURNALS = {
    "a file above": {"files": {f"../x-{CHECKSUM[:16]}.safetensors": CHECKSUM}},
    "a file anywhere": {"files": {f"/tmp/x-{CHECKSUM[:16]}.safetensors": CHECKSUM}},
    "a drive": {"files": {"C:x.safetensors": CHECKSUM}},
    "a folder within": {"files": {"in/x.safetensors": CHECKSUM}},
    "another kind of file": {"files": {"notes.txt": CHECKSUM}},
    "the index": {"files": {"index.json": CHECKSUM}},
    "the lock": {"files": {".lock": CHECKSUM}},
    "no name": {"files": {"": CHECKSUM}},
    "no Unicode": {"files": {"\ud800.safetensors": CHECKSUM}},
    "a checksum that is none": {"files": {"x.safetensors": "0"}},
    "a checksum that is no text": {"files": {"x.safetensors": 1}},
    "a list": {"files": ["x.safetensors"]},
    "nothing": {"files": None},
    "no truth": {"files": {}, "first": 1},
    "something more": {"files": {}, "more": 1},
    "another format": {"files": {}, "format": "jaxopt_lite specialists"},
    "a later version": {"files": {}, "version": "2"},
}


@pytest.mark.parametrize("content", NO_JOURNALS.values(), ids=NO_JOURNALS)
def test_what_is_no_journal_is_refused(tmp_path, content):
    folder = tmp_path / "library"
    save(OLD, folder)
    outside = tmp_path / f"x-{CHECKSUM[:16]}.safetensors"
    for path in (outside, folder / "notes.txt", folder / "x.safetensors"):
        path.write_text("mine")
    forge(folder, **content)
    before = names_in(folder)
    for action in (lambda: save(NEW, folder, others="remove"), lambda: rebuild_index(folder, BASE)):
        with pytest.raises(ValueError, match=r"\.saving\.json is not the journal of a save, or damaged.*Delete it"):
            action()
    assert names_in(folder) == before and outside.exists()
    assert_same(load(folder, BASE), OLD)


@pytest.mark.parametrize("damage", ["cut", "changed", "link", "folder"])
def test_a_damaged_journal_is_refused(tmp_path, damage):
    save(OLD, tmp_path)
    forge(tmp_path, files={})
    path = tmp_path / ".saving.json"
    text = path.read_text()
    path.unlink()
    if damage == "cut":
        path.write_text(text[:-9])
    elif damage == "changed":
        path.write_text(text.replace("false", "true"))
    elif damage == "link":
        (tmp_path / "other").write_text(text)
        path.symlink_to(tmp_path / "other")
    else:
        path.mkdir()
    with pytest.raises(ValueError, match=r"\.saving\.json is not the journal of a save, or damaged"):
        save(NEW, tmp_path, others="remove")
    assert_same(load(tmp_path, BASE), OLD)


def test_only_the_file_that_is_meant_is_deleted(tmp_path):
    """A name alone, or a file of another content under a name of its own, a link, a folder: all stay."""
    save(OLD, tmp_path)
    save_one(library_of("gift"), tmp_path / "from Ada.safetensors")
    outside = tmp_path.parent / "outside.safetensors"
    save_one(library_of("far"), outside)
    (tmp_path / f"link-{CHECKSUM[:16]}.safetensors").symlink_to(outside)
    (tmp_path / f"folder-{CHECKSUM[:16]}.safetensors").mkdir()
    (tmp_path / "text.safetensors").write_text("mine")
    before = names_in(tmp_path)
    listed = [name for name in before if name[:2] in ("a-", "b-")]
    forge(tmp_path, files=dict.fromkeys([*before, *listed, "nothing.safetensors"], CHECKSUM))
    save(OLD, tmp_path)
    assert names_in(tmp_path) == before and outside.exists()
    assert_same(load(tmp_path, BASE), OLD)


@pytest.mark.parametrize("moved", [False, True])
def test_a_file_that_is_put_there_again_after_a_kill_stays(tmp_path, monkeypatch, moved):
    """It is the file, to the bit, that a save was about to remove; but someone wants it there."""
    ends = set()
    for step in range(60):
        folder, gift = tmp_path / str(step), tmp_path / str(step) / "from Ada.safetensors"
        save(OLD, folder)
        save_one(library_of("gift"), gift)
        save_one(library_of("gift"), tmp_path / "copy")
        rebuild_index(folder, BASE)
        time.sleep(0.02)  # clocks of file systems are coarse
        cut = killed(monkeypatch, step, lambda folder=folder: save(OLD, folder, others="remove"))
        time.sleep(0.02)
        ends.add(load(folder, BASE).names)
        if moved:
            (tmp_path / "copy").replace(gift)
        else:
            save_one(library_of("gift"), gift)
        assert sorted(rebuild_index(folder, BASE).names) == ["a", "b", "gift"]
        assert ".saving.json" not in names_in(folder)
        if not cut:
            break
    assert len(ends) == 2 and step < 59


def test_an_index_that_was_lost_after_a_kill_loses_no_specialist(tmp_path, monkeypatch):
    """Nobody knows then what it listed: all files stay, and `rebuild_index` takes them."""
    save(OLD, tmp_path)
    killed(monkeypatch, 9, lambda: save(library_of("c", "d"), tmp_path, others="remove"))
    before = [name for name in names_in(tmp_path) if name.endswith(".safetensors")]
    assert len(before) > 2
    (tmp_path / "index.json").unlink()
    assert len(rebuild_index(tmp_path, BASE)) == len(before)


def test_what_cannot_be_deleted_is_no_specialist_and_goes_later(tmp_path, monkeypatch):
    save(OLD, tmp_path)
    (file,) = tmp_path.glob("a-*")
    unlink = Path.unlink

    def fail(path, *args, **kwargs):
        if path.name == file.name:
            raise PermissionError(1, "Operation not permitted", str(path))
        unlink(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        with pytest.warns(UserWarning, match=r"1 files .* could not be deleted: 'a-.*tries again") as caught:
            save(NEW, tmp_path, others="remove")
        assert caught[0].filename == __file__
        assert_same(load(tmp_path, BASE), NEW)
        assert sorted(rebuild_index(tmp_path, BASE).names) == ["b", "c", "d"]
        with pytest.warns(UserWarning, match="could not be deleted"):
            save(NEW.remove("b"), tmp_path, others="remove")
    assert file.exists()
    save(NEW.remove("b"), tmp_path)
    assert len(names_in(tmp_path)) == 2


def test_half_written_files_go_too(tmp_path):
    save(OLD, tmp_path)
    for action in (lambda: save(OLD, tmp_path), lambda: rebuild_index(tmp_path, BASE)):
        (tmp_path / ".0123456789abcdef.part").write_bytes(b"half")
        action()
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
