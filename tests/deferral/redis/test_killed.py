"""Whatever is killed, whenever: what was accepted is done, each line once."""

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys

import pytest

from router.deferral.values import BatchStatus
from router.errors import DeferralStoreError
from tests.deferral.redis.worker import queue_at
from tests.deferral.support import ROOMY, new_batch, stored_file
from tests.long import LONG
from tests.state.redis.servers import Server

# In the long version hundreds of processes, and the server itself, are killed.
IS_LONG = "ALL_FAULTS" in os.environ
KILLS, BATCHES, LINES, WORKERS = (600, 60, 300, 2) if IS_LONG else (2, 2, 40, 1)
BETWEEN_S = 1.2 if IS_LONG else 0.3
RANDOM = random.Random(18)
PATIENCE_S = 120.0
_numbers = itertools.count()


class Fleet:
    """A server that keeps what it has, and processes at its queue."""

    def __init__(self, folder, fsync):
        self.folder = folder
        self.server = Server()
        self.server.arguments = ("--save", "", "--appendonly", "yes", "--appendfsync", fsync)
        self.server.start()
        self.workers = [self.begin() for _ in range(WORKERS)]

    def begin(self):
        where = (str(self.server.socket), str(self.folder), f"w{next(_numbers)}", str(LINES))
        return subprocess.Popen([sys.executable, "-m", "tests.deferral.redis.worker", *where])

    def kill(self, is_first):
        """Any of them, the server first, and now and then; another takes its place."""
        if is_first or RANDOM.random() < 0.25:
            self.server.kill()
            self.server.start()
        at = RANDOM.randrange(len(self.workers))
        self.workers[at].kill()
        self.workers[at].wait()
        self.workers[at] = self.begin()

    def close(self):
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.server.close()


async def accepted(queue):
    """A batch that was answered for; what was not is asked anew, as a caller would."""
    while True:
        file = stored_file()
        batch = new_batch(file)
        try:
            await queue.add_batch(batch, ROOMY, file)
        except DeferralStoreError:
            continue
        return batch


async def ended(queue, batch):
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                found = await queue.batch("a", batch.id)
            except DeferralStoreError:
                continue
            if found.status.is_final:
                return found
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("fsync", ["always", pytest.param("everysec", marks=LONG)])
async def test_each_line_of_each_accepted_batch_is_there_once(tmp_path, fsync):
    fleet = Fleet(tmp_path, fsync)
    try:
        queue = queue_at(fleet.server.socket, "caller")
        made = [await accepted(queue) for _ in range(BATCHES)]
        for kill in range(KILLS):
            await asyncio.sleep(RANDOM.random() * BETWEEN_S)
            await asyncio.to_thread(fleet.kill, kill == 0)
        for batch in made:
            found = await ended(queue, batch)
            assert (found.status, found.counts) == (BatchStatus.COMPLETED, (LINES, LINES, 0))
            written = json.loads((tmp_path / found.output_file_id).read_text())
            assert written == [f"q-{line}" for line in range(1, LINES + 1)]
        assert await queue.counts() == {"waiting": 0, "under_way": 0}
        await queue.close()
    finally:
        fleet.close()
