"""Files are written whole or not at all; nothing else is touched, and nothing is left behind."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from jaxopt_lite.files import put, tidy, write
from tests.faults import Fault, failing_at, lines

OLD, NEW = b"old" * 1000, b"new" * 2000


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_link_stays_and_the_file_it_points_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_bytes(OLD)
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    write(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "file").read_bytes() == NEW
    (tmp_path / "dangling").symlink_to(tmp_path / "there" / "none yet")
    write(tmp_path / "dangling", NEW)
    assert (tmp_path / "dangling").is_symlink() and (tmp_path / "there" / "none yet").read_bytes() == NEW
    assert names(tmp_path / "there") == ["file", "none yet"]


def test_one_of_many_in_a_folder_replaces_a_link_and_not_what_it_points_to(tmp_path):
    (tmp_path / "target").write_bytes(OLD)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    put(tmp_path / "link", NEW)
    assert (tmp_path / "target").read_bytes() == OLD
    assert (tmp_path / "link").read_bytes() == NEW and not (tmp_path / "link").is_symlink()


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write(pipe, NEW)
    reader.join()
    assert read == [NEW] and stat.S_ISFIFO(pipe.lstat().st_mode)


def test_permissions_are_those_of_the_folder_or_of_the_file_before(tmp_path):
    """A temporary file made by `tempfile` could be read by its owner alone; and a private file stays private."""
    write(tmp_path / "x", b"")
    (tmp_path / "y").write_bytes(b"")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode
    (tmp_path / "x").chmod(0o600)
    write(tmp_path / "x", NEW)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write(tmp_path / "no folder" / "x", NEW)
    assert caught.value.filename == str(tmp_path / "no folder" / "x")
    with pytest.raises(IsADirectoryError):
        write(tmp_path, NEW)
    if os.path.exists("/dev/full"):
        with pytest.raises(OSError) as full:
            write("/dev/full", NEW)
        assert full.value.errno == errno.ENOSPC and stat.S_ISCHR(os.stat("/dev/full").st_mode)


@pytest.mark.parametrize("error", [Fault, KeyboardInterrupt, OSError])
def test_a_failure_at_any_line_leaves_the_old_file_or_the_new_one_and_nothing_else(tmp_path, error):
    path = tmp_path / "x"
    path.write_bytes(OLD)
    ran = lines(lambda: write(path, NEW), "files.py")
    assert len(ran) > 15
    seen = set()
    for line in ran:
        path.write_bytes(OLD)
        with failing_at(line, error):
            try:
                write(path, NEW)
            except (Fault, KeyboardInterrupt, OSError):
                pass
        seen.add(path.read_bytes())
        assert path.read_bytes() in (OLD, NEW), line
        tidy(tmp_path)
        assert names(tmp_path) == ["x"], line
    assert seen == {OLD, NEW}


WRITER = """
import sys
from jaxopt_lite.files import write
for k in range(10**9):
    write(sys.argv[1], bytes([65 + k % 26]) * 3_000_000)
"""


def test_killed_writers_leave_a_whole_file_and_the_next_one_clears_what_they_left(tmp_path):
    path = tmp_path / "x"
    kills = left = 0
    while kills < 4 or (not left and kills < 40):  # when a writer is killed is for chance to say
        kills += 1
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.2 + 0.05 * (kills % 5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        data = path.read_bytes()
        assert len(data) == 3_000_000 and len(set(data)) == 1
        left += len(names(tmp_path)) - 1
    assert left  # most of a writer's time goes by between making the file and renaming it
    write(path, NEW)
    assert names(tmp_path) == ["x"]


def test_what_a_living_writer_writes_is_not_cleared(tmp_path):
    """Writers of one file, each clearing litter all the time: none fails, and readers see whole files."""
    path, stop, failures = tmp_path / "x", threading.Event(), []

    def writer(letter: bytes):
        try:
            while not stop.is_set():
                write(path, letter * 200_000)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=writer, args=(letter,)) for letter in (b"a", b"b", b"c")]
    write(path, b"a" * 200_000)
    for thread in threads:
        thread.start()
    end, reads = time.monotonic() + 1.5, 0
    while time.monotonic() < end:
        data = path.read_bytes()
        assert len(data) == 200_000 and len(set(data)) == 1
        reads += 1
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures and reads > 10 and names(tmp_path) == ["x"]


def test_other_hidden_files_are_left_alone(tmp_path):
    for name in (".0123456789abcdef.part.txt", ".x.part", "0123456789abcdef.part"):
        (tmp_path / name).write_bytes(OLD)
    (tmp_path / ".0123456789abcdef.part").symlink_to(tmp_path / ".x.part")
    write(tmp_path / "x", NEW)
    assert len(names(tmp_path)) == 5
