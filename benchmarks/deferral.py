"""What deferred work costs the queue: taking a batch in, reading its lines, and ending them.

Every commit waits for the disk, so the disk's own fsync is measured beside, in the same run. In
SQLite, and in Valkey over a socket of this machine, by how often its log waits for the disk.

    python -m benchmarks.deferral [FOLDER]
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import machine
from router.deferral.output_lines import answered
from router.deferral.queue import DeferredQueue
from router.deferral.redis.store import RedisQueue
from router.deferral.sqlite.store import SqliteQueue
from router.state.redis.clients import Passwords
from router.state.redis.link import Link
from tests.deferral.support import NOW, ROOMY, jobs, new_batch, stored_file
from tests.state.redis.servers import Server, settings

ONE_BY_ONE, AT_ONCE, ROUNDS = 500, 100, 10
LINES, TOGETHER, ENDED = 50_000, 1000, 5000


async def took_ms(call: Callable[[], Awaitable[object]]) -> float:
    """One call."""
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1e3


def told(name: str, times_ms: list[float]) -> None:
    """Median and 99 %."""
    ordered = sorted(times_ms)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    print(f"{name:45} p50 {ordered[len(ordered) // 2]:8.2f} ms   p99 {p99:8.2f} ms")


def fsyncs_ms(folder: Path) -> list[float]:
    """Of a page more of one file, each time."""
    found = []
    with (folder / "page").open("wb", buffering=0) as file:
        for _ in range(ONE_BY_ONE):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            found.append((time.perf_counter() - began) * 1e3)
    return found


async def in_sqlite(folder: Path) -> None:
    """Print its figures."""
    print("SQLite")
    await run(SqliteQueue(folder / "queue", "benchmark", 60.0, time.perf_counter))


async def in_valkey(fsync: str) -> None:
    """Print its figures, and what a line takes of its memory."""
    server = Server("valkey")
    server.arguments = ("--save", "", "--appendonly", "yes", "--appendfsync", fsync)
    server.start()
    try:
        print(f"Valkey {server.ask('INFO', 'server')['valkey_version']}, appendfsync {fsync}")
        link = Link(replace(settings(server.url), timeout_s=5.0), Passwords)
        before = server.ask("INFO", "memory")["used_memory"]
        await run(RedisQueue(link, "benchmark", "files", "benchmark", 60.0))
        grown = server.ask("INFO", "memory")["used_memory"] - before
        print(f"{'memory for each line, most of them waiting':45} {grown / LINES:8.0f} bytes")
    finally:
        server.close()


async def run(queue: DeferredQueue) -> None:
    """Print all figures of one."""
    await queue.beat()
    file = stored_file()
    await queue.add_file(file, ROOMY)

    def add() -> Awaitable[object]:
        return queue.add_batch(new_batch(file), ROOMY)

    told(
        "a batch is taken in, one after the other", [await took_ms(add) for _ in range(ONE_BY_ONE)]
    )
    many: list[float] = []
    for _ in range(ROUNDS):
        many += await asyncio.gather(*(took_ms(add) for _ in range(AT_ONCE)))
    told(f"the same, {AT_ONCE} at once", many)
    claimed = await queue.claim_unread()
    assert claimed is not None
    began = time.perf_counter()
    for first in range(0, LINES, TOGETHER):
        lines = jobs(*map(str, range(first, first + TOGETHER)), first=first + 1)
        await queue.add_lines(claimed, lines, [], ROOMY)
    await queue.end_reading(claimed, NOW, [], False, {})
    print(f"{'lines go in':45} {LINES / (time.perf_counter() - began):8.0f} a second")
    outcome, done, began = answered(200, "id", b"{}"), 0, time.perf_counter()
    while done < ENDED:
        found = await queue.claim([(kind, 64) for kind in await queue.waiting()], NOW)
        await asyncio.gather(*(queue.finish(job, outcome) for job in found))
        done += len(found)
    print(f"{'requests are claimed and end, 64 under way':45} "
          f"{done / (time.perf_counter() - began):8.0f} a second")  # fmt: skip
    await queue.close()


if __name__ == "__main__":
    print(f"{machine('carbon-router')}, SQLite {sqlite3.sqlite_version}")
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        told("fsync of this disk", fsyncs_ms(Path(name)))
        asyncio.run(in_sqlite(Path(name)))
    for fsync in ("always", "everysec"):
        asyncio.run(in_valkey(fsync))
