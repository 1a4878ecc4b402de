"""Figures of worker processes on a disk that is full, or becomes so."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from router.telemetry import shared_files
from router.telemetry.shared_files import ReservedFile, unshared


class Disk:
    """Room for so many bytes more."""

    def __init__(self) -> None:
        self.room = 1 << 30
        self.fallocate = os.posix_fallocate

    def take(self, descriptor: int, at: int, size: int) -> None:
        if size > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= size
        self.fallocate(descriptor, at, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk()
    monkeypatch.setattr(os, "posix_fallocate", made.take)
    yield made
    shared_files._unshared.clear()


def shared(path: Path) -> dict[str, float]:
    """What another process reads."""
    found = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    return {key: value for key, value, *_ in found}


def fill(file: ReservedFile, count: int) -> dict[str, float]:
    values = {f'["name","name",{{"label":"{n:0100}"}},""]': float(n) for n in range(count)}
    for key, value in values.items():
        file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    return values


def held(file: ReservedFile) -> dict[str, float]:
    found = file.read_all_values()  # type: ignore[no-untyped-call]
    return {key: value for key, value, _ in found}


def test_with_room_everything_is_shared_and_the_room_is_real(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "counter_1.db"
    file = ReservedFile(str(path))
    values = fill(file, 1000)  # two sizes larger than it was born
    assert shared(path) == held(file) == values
    assert path.stat().st_blocks * 512 >= path.stat().st_size > 1 << 17
    assert not unshared()
    file.close()
    again = ReservedFile(str(path))
    assert held(again) == values
    again.close()


def test_without_room_to_begin_the_figures_are_kept_here_and_no_file_is_left(
    tmp_path: Path, disk: Disk
) -> None:
    disk.room = 0
    file = ReservedFile(str(tmp_path / "counter_1.db"))
    assert fill(file, 1000) == held(file)
    assert list(tmp_path.iterdir()) == []
    assert unshared()
    file.close()


def test_when_the_room_ends_others_keep_what_was_shared_and_this_process_goes_on(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "counter_1.db"
    disk.room = 1 << 16
    file = ReservedFile(str(path))
    few = fill(file, 100)
    assert shared(path) == few
    values = fill(file, 1000)
    assert held(file) == values
    assert shared(path).items() <= values.items()
    assert len(shared(path)) > 100
    assert unshared()
    assert len(caplog.records) == 1  # once, however far it grows
    file.close()


def test_a_folder_that_is_gone_is_no_reason_to_fail(tmp_path: Path, disk: Disk) -> None:
    file = ReservedFile(str(tmp_path / "gone" / "counter_1.db"))
    assert fill(file, 3) == held(file)
    assert unshared()


def test_where_no_room_can_be_asked_for_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    path = tmp_path / "counter_1.db"
    file = ReservedFile(str(path))
    assert fill(file, 1000) == held(file) == shared(path)
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    file.close()
