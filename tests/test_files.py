import errno
import os
import signal
import subprocess
import sys

import pytest

from lit_ghibli.files import remove_partials, replacing, write_atomically, write_text

WRITER = """
import os, signal, sys
from lit_ghibli.files import write_atomically
with write_atomically(sys.argv[1]) as file:
    file.write("new")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    for content in ("old", "new"):
        with write_atomically(path, encoding="utf-8") as file:
            file.write(content)
            assert not path.exists() or path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), write_atomically(path, "wb") as file:
        file.writelines([b"new", "words"])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_process_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    killed = subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_partials(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_being_written_is_no_leftover(tmp_path):
    path = tmp_path / "file.txt"
    (tmp_path / ".file.txt.0123456789ab.partial").touch()
    with write_atomically(path) as file:
        remove_partials(tmp_path)
        file.write("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_has_a_name(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*file\.txt'$"):
        write_text(tmp_path / "file.txt", "words")
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_no_utf_8_are_escaped(tmp_path):
    write_text(tmp_path / "file.txt", "ä " + os.fsdecode(b"caf\xe9.jpg"))
    assert (tmp_path / "file.txt").read_bytes() == "ä caf\\udce9.jpg".encode()


def test_two_writers_of_one_file_do_not_meet_and_names_may_be_long(tmp_path):
    path = tmp_path / ("ä" * 127)
    with write_atomically(path) as first, write_atomically(path) as second:
        first.write("first")
        second.write("second")
    assert path.read_text() == "first"


def test_what_replaces_a_file_may_be_made_by_others(tmp_path):
    path = tmp_path / "file.txt"
    with replacing(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
