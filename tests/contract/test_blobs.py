"""One suite over every `Blobs`: a file is whole, or not there."""

import asyncio
import os

import pytest

from router.deferral.blobs import FolderBlobs, deleted_on_failure, new_file_id
from router.deferral.stored_blobs import stored_blobs
from router.errors import DeferralStoreError, UnknownFileError

# No day of this decade.
LONG_AGO_S = 1000.0


@pytest.fixture(params=["folder", "url"])
def blobs(request, tmp_path):
    if request.param == "folder":
        made = FolderBlobs(tmp_path / "files")
    else:
        made = stored_blobs(f"file://{tmp_path}/files", tmp_path / "aside")
    made.folder = tmp_path / "files"
    return made


def is_there(blobs, file_id):
    try:
        blobs.open(file_id).close()
    except FileNotFoundError:
        return False
    return True


def kept(blobs, content=b""):
    file_id = new_file_id()
    with blobs.write(file_id) as writer:
        writer.add(content)
        writer.keep()
    return file_id


def test_it_is_whole_or_not_there(blobs):
    file_id, dropped = new_file_id(), new_file_id()
    with blobs.write(file_id) as writer:
        writer.add(b"one\n")
        assert not is_there(blobs, file_id)
        writer.add(memoryview(b"two\n"))
        writer.keep()
    assert writer.size_bytes == 8
    with blobs.write(dropped) as writer:
        writer.add(b"half")
    assert not is_there(blobs, dropped)
    with blobs.open(file_id) as file:
        assert list(file) == [b"one\n", b"two\n"]
        file.seek(4)
        assert file.read(3) == b"two"
    blobs.delete(file_id)
    blobs.delete(file_id)
    assert not is_there(blobs, file_id)
    # Nor does anything stay where it was written.
    left = [path for path in blobs.folder.parent.rglob("file-*")]
    assert left == []


def test_a_large_one_is_read_from_anywhere(blobs):
    content = os.urandom(3 * 2**20 + 17)
    with blobs.open(kept(blobs, content)) as file:
        file.seek(2**20 - 3)
        assert file.read(2**20) == content[2**20 - 3 : 2**21 - 3]
        file.seek(0)
        assert file.read() == content


@pytest.mark.parametrize(("ends_in", "stays"), [(OSError, False), (asyncio.CancelledError, True)])
async def test_of_what_is_refused_nothing_is_left_and_who_leaves_may_have_been_heard(
    blobs, ends_in, stays
):
    file_id = new_file_id()
    with blobs.write(file_id) as writer:
        writer.keep()
    with pytest.raises(ends_in):
        async with deleted_on_failure(blobs, file_id):
            raise ends_in
    assert is_there(blobs, file_id) is stays


@pytest.mark.parametrize(
    "name",
    [
        "", "file-", "../queue.sqlite", "file-../../etc/passwd", "/etc/passwd", "file-" + "A" * 32,
        "file-" + "a" * 33, f"file-{'a' * 32}\n", f"file-{'a' * 32}.part", "file-" + "\0" * 32,
        "file-" + "a" * 31 + "/", "file-" + "\u0661" * 32,
    ],
)  # fmt: skip
def test_no_other_name_leads_anywhere(blobs, name):
    with pytest.raises(UnknownFileError):
        blobs.open(name)
    with pytest.raises(UnknownFileError):
        blobs.delete(name)
    with pytest.raises(UnknownFileError):
        blobs.write(name)


def test_a_place_has_one_name_however_often_it_is_opened(blobs):
    assert blobs.name() == blobs.name() and blobs.name()


def test_what_is_left_over_is_found_by_the_clock_of_who_keeps_it(blobs):
    old, new = kept(blobs), kept(blobs)
    os.utime(blobs.folder / old, (LONG_AGO_S, LONG_AGO_S))
    (blobs.folder / "strange").write_bytes(b"x")
    os.utime(blobs.folder / "strange", (LONG_AGO_S, LONG_AGO_S))
    assert blobs.left_over(86_400.0) == [old]
    assert is_there(blobs, new) and (blobs.folder / "strange").exists()


def test_a_place_that_is_gone_is_told_without_its_path(blobs):
    file_id = kept(blobs)
    (blobs.folder / file_id).unlink()
    (blobs.folder / file_id).mkdir()
    with pytest.raises(DeferralStoreError) as told:
        blobs.delete(file_id)
    assert str(blobs.folder) not in str(told.value)
