import errno
import os

import pytest

from router.deferral.blobs import FolderBlobs, new_file_id, told_of
from router.errors import DeferralFullError, DeferralStoreError


def names(folder):
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def blobs(tmp_path):
    return FolderBlobs(tmp_path / "files")


def test_it_is_whole_or_not_there(blobs):
    kept, dropped = new_file_id(), new_file_id()
    with blobs.write(kept) as writer:
        writer.add(b"one\n")
        assert not blobs.path(kept).exists()
        writer.add(b"two\n")
        writer.keep()
    with blobs.write(dropped) as writer:
        writer.add(b"half")
    assert blobs.path(kept).read_bytes() == b"one\ntwo\n" and writer.size_bytes == 4
    assert names(blobs.path(kept).parent) == [kept]
    assert blobs.path(kept).stat().st_mode & 0o777 == 0o600
    blobs.delete(kept)
    blobs.delete(kept)
    assert names(blobs.path(kept).parent) == []


def test_no_room_is_told(blobs, monkeypatch):
    with pytest.raises(DeferralFullError, match="nothing of this was kept"):
        fill(blobs, monkeypatch)
    assert names(blobs.path(new_file_id()).parent) == []


def fill(blobs, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with blobs.write(new_file_id()) as writer:
        writer.add(b"some")
        monkeypatch.setattr(os, "fsync", full)
        writer.keep()


def test_what_the_disk_says_is_told_without_a_path():
    told = told_of(OSError(errno.EACCES, "Permission denied", "/srv/secret"))
    assert type(told) is DeferralStoreError and "secret" not in str(told)


def test_what_is_left_over_of_long_ago(blobs):
    old, new = new_file_id(), new_file_id()
    for file_id in (old, new):
        with blobs.write(file_id) as writer:
            writer.keep()
    folder = blobs.path(old).parent
    part = folder / f"{new_file_id()}.part"
    part.write_bytes(b"half")
    for path in (part, folder / old):
        os.utime(path, (1000.0, 1000.0))
    assert blobs.left_over(86_400.0) == [old]
    assert not part.exists() and blobs.path(new).exists()
