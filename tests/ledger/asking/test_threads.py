import asyncio
import threading

import pytest

from router.errors import DataError, ReceiptsUnreachableError
from router.ledger.asking.threads import ReadingThreads

PATIENCE_S = 20.0


async def test_what_is_read_comes_and_what_fails_fails():
    threads = ReadingThreads()
    assert await threads.run(lambda: threading.current_thread().daemon, PATIENCE_S) is True

    def broken():
        raise DataError("broken")

    for _ in range(5):
        with pytest.raises(DataError, match="broken"):
            await threads.run(broken, PATIENCE_S)
    assert await threads.run(lambda: 7, PATIENCE_S) == 7


async def test_a_thread_that_hangs_holds_its_place_and_nobody_else():
    threads, go = ReadingThreads(2), threading.Event()
    with pytest.raises(ReceiptsUnreachableError, match="in time"):
        await threads.run(go.wait, 0.01)
    # The other place is free.
    assert await threads.run(lambda: 1, PATIENCE_S) == 1
    with pytest.raises(ReceiptsUnreachableError):
        await threads.run(go.wait, 0.01)
    with pytest.raises(ReceiptsUnreachableError):
        await threads.run(lambda: 1, 0.01)
    go.set()
    assert await threads.run(lambda: 2, PATIENCE_S) == 2


async def test_a_thread_that_cannot_begin_leaves_its_place(monkeypatch):
    threads = ReadingThreads(1)

    def none_left(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as system:
        system.setattr(threading.Thread, "start", none_left)
        for _ in range(3):
            with pytest.raises(ReceiptsUnreachableError, match="thread"):
                await threads.run(lambda: 1, PATIENCE_S)
    assert await threads.run(lambda: 2, PATIENCE_S) == 2


async def test_so_many_wait_and_no_more():
    threads, go = ReadingThreads(1), threading.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(threads.run(lambda: go.wait(), PATIENCE_S)) for _ in range(32)]
        await asyncio.sleep(0)
        with pytest.raises(ReceiptsUnreachableError, match="too many"):
            await threads.run(lambda: 1, PATIENCE_S)
        go.set()
    assert all(task.result() for task in tasks)


async def test_whoever_goes_away_gives_the_place_back():
    threads, go = ReadingThreads(1), threading.Event()
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(threads.run(go.wait, PATIENCE_S))
        await asyncio.sleep(0)
        gone.cancel()
    go.set()
    assert await threads.run(lambda: 3, PATIENCE_S) == 3
