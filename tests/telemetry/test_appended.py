"""A file that several processes append to: whole lines, one header, rotated by size."""

import errno
import multiprocessing
import os

import pytest

from router.telemetry.appended import AppendedFile

HEADER = "name,value\n"


def opened(folder, **changes):
    values = {"header": HEADER, "max_bytes": 10**6, "keep": 2, **changes}
    return AppendedFile(folder / "x.csv", **values)


def test_a_file_begins_with_the_header_once(tmp_path):
    opened(tmp_path).append("a,1\n")
    opened(tmp_path).append("b,2\n")
    assert (tmp_path / "x.csv").read_text() == HEADER + "a,1\nb,2\n"


def test_a_full_file_moves_aside_and_the_oldest_goes(tmp_path):
    file = opened(tmp_path, max_bytes=len(HEADER) + 4)
    for row in ("a,1\n", "b,2\n", "c,3\n", "d,4\n"):
        file.append(row)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {
        "x.csv": HEADER + "d,4\n", "x.1.csv": HEADER + "c,3\n", "x.2.csv": HEADER + "b,2\n",
    }  # fmt: skip


def test_nothing_is_kept_where_nothing_should_be(tmp_path):
    file = opened(tmp_path, max_bytes=len(HEADER) + 4, keep=0)
    file.append("a,1\n")
    file.append("b,2\n")
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == HEADER + "b,2\n"


@pytest.mark.parametrize("how", ["renamed", "removed", "emptied"])
def test_what_others_do_to_the_file_is_noticed_at_once(tmp_path, how):
    file = opened(tmp_path)
    file.append("a,1\n")
    path = tmp_path / "x.csv"
    if how == "renamed":
        path.rename(tmp_path / "old")
    elif how == "removed":
        path.unlink()
    else:
        os.truncate(path, 0)
    file.append("b,2\n")
    assert path.read_text() == HEADER + "b,2\n"


def test_a_file_of_other_columns_is_not_mixed_with(tmp_path):
    (tmp_path / "x.csv").write_text("other\n1\n")
    opened(tmp_path).append("a,1\n")
    assert (tmp_path / "x.csv").read_text() == HEADER + "a,1\n"
    assert (tmp_path / "x.1.csv").read_text() == "other\n1\n"


def test_a_full_disk_leaves_no_half_row(tmp_path, monkeypatch):
    file = opened(tmp_path)
    file.append("a,1\n")
    write = os.write

    def half(descriptor, data):
        if len(data) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        file.append("b,2\n")
    monkeypatch.undo()
    file.append("c,3\n")
    assert (tmp_path / "x.csv").read_text() == HEADER + "a,1\nc,3\n"


def _append_many(path, name):
    file = AppendedFile(path, HEADER, max_bytes=2_000, keep=1000)
    for number in range(200):
        file.append(f"{name},{number}\n" * 2)


def test_several_processes_lose_and_mix_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "x.csv"
    writers = [context.Process(target=_append_many, args=(path, name)) for name in "abc"]
    for one in writers:
        one.start()
    for one in writers:
        one.join(60)
        assert one.exitcode == 0
    texts = [file.read_text() for file in tmp_path.iterdir()]
    assert all(text.startswith(HEADER) and text.count(HEADER) == 1 for text in texts)
    rows = [row for text in texts for row in text.splitlines()[1:]]
    assert sorted(rows) == sorted(2 * [f"{name},{n}" for name in "abc" for n in range(200)])
