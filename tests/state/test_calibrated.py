"""Calibrated profiles outlive the process, and are read by the others."""

import pytest

from router.config.calibrated import Calibrated
from router.errors import DataError
from router.state.calibrated import CalibratedStore
from router.state.memory import MemoryStore

FOUND = [Calibrated("west-0", "key", {"kind": "token", "idle_w": 90.0})]


async def test_what_is_written_is_read_by_who_starts_and_by_others(tmp_path):
    file, shared = tmp_path / "learned.json", MemoryStore()
    assert await CalibratedStore(file, shared).read(0.0) is None
    await CalibratedStore(file, shared).write(FOUND, 0.0)
    assert await CalibratedStore(file, None).read(0.0) == FOUND
    assert await CalibratedStore(None, shared).read(1e9) == FOUND
    assert await CalibratedStore(None, None).read(0.0) is None


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'{"format": 2, "profiles": []}', b'{"format": 1, "profiles": [1]}',
        b'{"format": 1, "profiles": [["a", "b"]]}', b"\xff", b"[" * 100_000,
        b" " * (4 * 2**20 + 1),
    ],
    ids=range(9),
)  # fmt: skip
async def test_what_is_none_is_said_to_be_none(tmp_path, body):
    (tmp_path / "learned.json.profiles").write_bytes(body)
    with pytest.raises(DataError):
        await CalibratedStore(tmp_path / "learned.json", None).read(0.0)
