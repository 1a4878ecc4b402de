import pytest

from router.core.usual_load import SLOTS, UsualSlot
from router.errors import DataError
from router.state.memory import MemoryStore
from router.state.usual_load import UsualLoadStore

TAKEN = {("llama", "west"): tuple(UsualSlot(float(at), at % 8) for at in range(SLOTS))}


async def test_it_is_kept_in_a_file_and_in_a_store(tmp_path):
    file, shared = tmp_path / "learned.json", MemoryStore()
    assert await UsualLoadStore(file, shared).read(0.0) == {}
    await UsualLoadStore(file, shared).write(TAKEN, 0.0)
    told = {site: list(slots) for site, slots in TAKEN.items()}
    assert await UsualLoadStore(file, None).read(0.0) == told
    assert await UsualLoadStore(None, shared).read(1e9) == told


@pytest.mark.parametrize("body", [b"", b"[]", b'{"format": 2, "sites": []}', b"\xff"])
async def test_what_is_none_is_said(tmp_path, body):
    (tmp_path / "learned.json.usual").write_bytes(body)
    with pytest.raises(DataError):
        await UsualLoadStore(tmp_path / "learned.json", None).read(0.0)
