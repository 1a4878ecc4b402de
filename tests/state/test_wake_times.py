"""Measured wake times outlive the process, and are read by the others."""

import pytest

from router.errors import DataError
from router.state.memory import MemoryStore
from router.state.wake_times import WakeTimeStore

TAKEN = {("llama", "west"): (40.0, 45.5), ("llama", "east"): (70.0,)}


async def test_what_is_written_is_read_by_who_starts_and_by_others(tmp_path):
    file, shared = tmp_path / "learned.json", MemoryStore()
    assert await WakeTimeStore(file, shared).read(0.0) == {}
    await WakeTimeStore(file, shared).write(TAKEN, 0.0)
    told = {site: list(all_s) for site, all_s in TAKEN.items()}
    assert await WakeTimeStore(file, None).read(0.0) == told
    assert await WakeTimeStore(None, shared).read(1e9) == told
    assert await WakeTimeStore(None, None).read(0.0) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'{"format": 2, "sites": []}', b'{"format": 1, "sites": [1]}',
        b'{"format": 1, "sites": [{"model": "a", "region": "b", "wake_s": ["c"]}]}', b"\xff",
        b" " * (4 * 2**20 + 1),
    ],
    ids=range(8),
)  # fmt: skip
async def test_what_is_none_is_said_to_be_none(tmp_path, body):
    (tmp_path / "learned.json.wakes").write_bytes(body)
    with pytest.raises(DataError):
        await WakeTimeStore(tmp_path / "learned.json", None).read(0.0)
