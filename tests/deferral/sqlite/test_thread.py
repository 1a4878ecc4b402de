import asyncio
import sqlite3

import pytest

from router.deferral.sqlite.thread import SqliteThread
from router.errors import DeferralFullError, DeferralStoreError, UnknownFileError


def prepare(database):
    database.execute("CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, text BLOB)")


def add(number, size=1):
    return lambda database: (
        database.execute("INSERT INTO rows VALUES (?, zeroblob(?))", (number, size)).rowcount
    )


def numbers(database):
    return [row[0] for row in database.execute("SELECT number FROM rows ORDER BY number")]


@pytest.fixture
def thread(tmp_path):
    made = SqliteThread(tmp_path / "queue.sqlite", prepare)
    yield made
    made.close()


async def test_one_that_fails_takes_back_its_own_alone(thread):
    def half(database):
        add(2)(database)
        raise UnknownFileError("no")

    def broken(database):
        add(3)(database)
        raise ValueError("odd")

    asked = [thread.change(work) for work in (add(1), half, add(4), broken, add(5))]
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in done] == [int, UnknownFileError, int, ValueError, int]
    assert await thread.read(numbers) == [1, 4, 5]


async def test_whoever_asks_a_database_that_is_gone_is_told(thread):
    with pytest.raises(DeferralStoreError):
        await asyncio.wait_for(thread.change(lambda database: database.close()), 20.0)
    asked = [thread.change(add(1)), thread.read(numbers)]
    done = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20.0)
    assert [type(one) for one in done] == [DeferralStoreError, DeferralStoreError]


async def test_a_full_disk_is_told_and_loses_nothing_that_was_there(thread):
    await thread.change(add(1))
    await thread.read(lambda database: database.execute("PRAGMA max_page_count=20"))
    asked = [thread.change(add(2)), thread.change(add(3, 10**6)), thread.change(add(4))]
    *done, seen = await asyncio.gather(*asked, thread.read(numbers), return_exceptions=True)
    assert [type(one) for one in done] == [int, DeferralFullError, int]
    # Who only looks is shown what there is.
    assert set(seen) <= {1, 2, 4}
    kept = await thread.read(numbers)
    # Whoever was told that it is kept has it kept, and nobody else.
    assert kept == [1, *(n for n, one in zip((2, 3, 4), done, strict=True) if one == 1)]
    await thread.read(lambda database: database.execute("PRAGMA max_page_count=100000"))
    assert await thread.change(add(9)) == 1


async def test_another_process_change_is_waited_for(thread, tmp_path):
    other = sqlite3.connect(tmp_path / "queue.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(thread.change(add(1)))
    other.execute("INSERT INTO rows VALUES (7, x'')")
    other.execute("COMMIT")
    other.close()
    assert await waiting == 1
    assert await thread.read(numbers) == [1, 7]


async def test_who_goes_away_takes_nothing_back(thread):
    held, started = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(database):
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(held.wait(), loop).result()
        return add(1)(database)

    task = asyncio.ensure_future(thread.change(slow))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held.set()
    assert await thread.read(numbers) == [1]


async def test_what_is_no_database_is_refused_and_left(tmp_path):
    path = tmp_path / "queue.sqlite"
    path.write_bytes(b"these are someone's letters, not a database" * 100)
    with pytest.raises(DeferralStoreError, match="cannot be used"):
        SqliteThread(path, prepare)
    assert path.read_bytes().startswith(b"these are")


async def test_a_torn_write_ahead_log_loses_no_commit_before_it(tmp_path):
    path = tmp_path / "queue.sqlite"
    first = SqliteThread(path, prepare)
    await first.change(add(1))
    # As power leaves it: the log with a torn end, no checkpoint.
    log = (tmp_path / "queue.sqlite-wal").read_bytes()
    await first.change(add(2))
    longer = (tmp_path / "queue.sqlite-wal").read_bytes()
    assert longer[: len(log)] == log
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "queue.sqlite").write_bytes(path.read_bytes())
    (torn / "queue.sqlite-wal").write_bytes(longer[: len(log) + (len(longer) - len(log)) // 2])
    first.close()
    second = SqliteThread(torn / "queue.sqlite", prepare)
    assert await second.read(numbers) == [1]
    assert await second.change(add(3)) == 1
    second.close()
