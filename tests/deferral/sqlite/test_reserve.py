import shutil
from types import SimpleNamespace

import pytest

from router.deferral.sqlite.reserve import Reserve
from router.deferral.sqlite.thread import SqliteThread
from router.errors import DeferralFullError


def test_it_is_kept_back_and_given_up_once(tmp_path, monkeypatch):
    path = tmp_path / "reserve"
    reserve = Reserve(path)
    assert path.stat().st_size == 2**20
    reserve.take()
    assert reserve.give() and not path.exists()
    assert not reserve.give()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    reserve.take()
    assert not path.exists()


async def test_what_frees_room_has_it_first(tmp_path):
    given = []

    def prepare(database):
        database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text BLOB)")
        database.execute("PRAGMA max_page_count=4")

    def add(database):
        return database.execute("INSERT INTO rows (text) VALUES (zeroblob(50000))").rowcount

    def make_room():
        given.append(1)
        return len(given) == 1

    def adds_once_there_is_room(database):
        if given:
            database.execute("PRAGMA max_page_count=1000")
        return add(database)

    thread = SqliteThread(tmp_path / "queue.sqlite", prepare, make_room)
    with pytest.raises(DeferralFullError):
        await thread.change(add)
    assert given == []
    assert await thread.free(adds_once_there_is_room) == 1
    await thread.read(lambda database: database.execute("PRAGMA max_page_count=20"))
    with pytest.raises(DeferralFullError):
        await thread.free(add)
    assert given == [1, 1]
    thread.close()
