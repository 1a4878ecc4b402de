"""A file that is replaced: the old one or the new one, nobody else's to read, and nothing waits."""

import os
import stat
from pathlib import Path

import pytest

from router.errors import DataError
from router.replaced_file import ReplacedFile


def at(folder):
    return ReplacedFile(folder / "kept.json", 100)


def test_what_was_written_is_read_and_its_owners_alone(tmp_path):
    assert at(tmp_path).read() is None
    for body in (b"one", b"two"):
        at(tmp_path).write(body)
        assert at(tmp_path).read() == body
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    at(tmp_path).remove()
    at(tmp_path).remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["folder", "fifo", "too long"])
def test_what_is_no_file_to_read_is_refused_at_once(tmp_path, what):
    path = tmp_path / "kept.json"
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(bytes(101))
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(DataError):
        at(tmp_path).read()
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_a_file_that_cannot_be_replaced_stays(tmp_path):
    at(tmp_path).write(b"old")
    (tmp_path / f".kept.json.{os.getpid()}.aside").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        at(tmp_path).write(b"new")
    assert at(tmp_path).read() == b"old"


def test_a_write_that_fails_leaves_the_old_one_and_nothing_beside(tmp_path, monkeypatch):
    at(tmp_path).write(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        at(tmp_path).write(b"new")
    assert at(tmp_path).read() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_aside_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f".kept.json.{os.getpid()}.aside").symlink_to(victim)
    with pytest.raises(OSError, match=r"symbolic links|Symbolic link"):
        at(tmp_path).write(b"new")
    assert victim.read_text() == "mine"


def test_what_a_killed_process_left_aside_is_removed(tmp_path):
    (tmp_path / ".kept.json.12345.aside").write_bytes(b"half")
    (tmp_path / "other").write_bytes(b"")
    at(tmp_path).clean()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    ReplacedFile(tmp_path / "gone" / "kept.json", 1).clean()
