"""A process at a queue: reads batches, ends jobs, writes files, until it is killed.

``python -m tests.deferral.redis.worker SOCKET FOLDER NAME LINES``
"""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

from router.deferral.output_lines import answered
from router.deferral.redis.store import RedisQueue
from router.errors import DeferralStoreError
from router.state.redis.clients import Passwords
from router.state.redis.link import Link
from tests.deferral.support import NOW, ROOMY, jobs, stored_file
from tests.state.redis.servers import settings

LEASE_S = 0.5
OK = answered(200, "gw", b"{}")


def queue_at(socket, name):
    link = Link(replace(settings(f"unix://{socket}"), timeout_s=5.0), Passwords)
    return RedisQueue(link, "killed", "files", name, LEASE_S)


async def read(queue, lines):
    claimed = await queue.claim_unread()
    if claimed is not None:
        for first in range(1, lines + 1, 7):
            names = [f"q-{line}" for line in range(first, min(first + 7, lines + 1))]
            await queue.add_lines(claimed, jobs(*names, first=first), [], ROOMY)
        await queue.end_reading(claimed, NOW, [], False, {})


async def write(queue, folder):
    claimed = await queue.claim_ended(NOW)
    if claimed is not None:
        lines = await queue.lines(claimed, True, 0, 10_000)
        file = stored_file(claimed.batch.owner, purpose="batch_output")
        (folder / file.id).write_text(json.dumps([line.custom_id for line in lines]))
        await queue.complete(claimed, file, None, NOW)


async def step(queue, folder, lines):
    await queue.beat()
    await read(queue, lines)
    await write(queue, folder)
    found = await queue.claim([(kind, 3) for kind in await queue.waiting()], NOW)
    for number, job in enumerate(found):
        if number % 5 or job.fence > 1:
            await queue.finish(job, OK)
        else:
            await queue.put_back(job, NOW, False)


async def main(socket, folder, name, lines):
    queue = queue_at(socket, name)
    while True:
        try:
            await step(queue, folder, lines)
        except DeferralStoreError:
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
