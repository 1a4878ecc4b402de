"""What is believed of a clock outlives the process."""

import logging

import pytest

from router.app.deferral.kept_mark import KeptMark

YEAR = 366 * 86_400.0


def test_a_restart_believes_no_leap(tmp_path, caplog):
    path = tmp_path / "clock"
    assert KeptMark(path, "b").now(100.0, 1000.0) == 1000.0
    with caplog.at_level(logging.ERROR):
        again = KeptMark(path, "b")
        assert again.now(160.0, 1060.0 + YEAR) == again.now(160.0, 1060.0 + YEAR) == 1060.0
    assert [record.ahead_s for record in caplog.records] == [YEAR]
    # The hour is of both.
    assert KeptMark(path, "b").now(3800.0, 4700.0 + YEAR) == 4700.0 + YEAR


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"x" * 5000])
def test_a_file_that_is_none_is_no_mark(tmp_path, text):
    path = tmp_path / "clock"
    path.write_bytes(text)
    assert KeptMark(path, "b").now(1.0, 50.0) == 50.0
    assert KeptMark(path, "b").now(2.0, YEAR) == 51.0


def test_a_disk_that_is_full_is_told(tmp_path, caplog):
    mark = KeptMark(tmp_path / "gone" / "clock", "b")
    assert mark.now(1.0, 50.0) == 50.0
    assert "cannot be written" in caplog.text
