"""Queues and what is put into them."""

import itertools
import json

from router.deferral.blobs import new_file_id
from router.deferral.values import (
    Batch,
    BatchStatus,
    BatchSums,
    BatchTerms,
    Counts,
    Grant,
    NewJob,
    Quota,
    StoredFile,
)

CHAT = "/v1/chat/completions"
NOW = 1_700_000_000.0
DAY = 86_400.0
ROOMY = Quota(10**12, 10**9)
NOBODY = Grant("anonymous", "", ("*",), (), (), None, None, None, 1.0, True)
_numbers = itertools.count()


def stored_file(owner="a", size=10, **changes):
    file = StoredFile(new_file_id(), owner, "in.jsonl", "batch", size, NOW, NOW + DAY)
    return file._replace(**changes)


def new_batch(file, window_s=DAY, **changes):
    batch = Batch(
        f"batch_{next(_numbers):032x}", file.owner, BatchStatus.VALIDATING,
        BatchTerms(CHAT, file.id, "24h", NOBODY), NOW, NOW + window_s, {}, Counts(), BatchSums(),
        (), "", "",
    )  # fmt: skip
    return batch._replace(**changes)


def line(custom_id, url=CHAT, method="POST", model="llama", **body):
    asked = {"model": model, "messages": [{"role": "user", "content": custom_id}], **body}
    one = {"custom_id": custom_id, "method": method, "url": url, "body": asked}
    return json.dumps(one).encode() + b"\n"


def jobs(*custom_ids, model="llama", first=1):
    return [
        NewJob(number, 0, 10, custom_id, model, 100)
        for number, custom_id in enumerate(custom_ids, first)
    ]


async def queued(queue, *custom_ids, owner="a", model="llama", at_once=None, **changes):
    """A batch whose jobs may begin."""
    file = stored_file(owner)
    await queue.add_file(file, ROOMY)
    batch = new_batch(file, **changes)
    await queue.add_batch(batch, ROOMY)
    claimed = await queue.claim_unread()
    assert claimed.batch.id == batch.id
    assert await queue.add_lines(claimed, jobs(*custom_ids, model=model), [], ROOMY)
    assert await queue.end_reading(claimed, NOW, [], False, at_once or {})
    return batch


async def taken(queue, most=100, now=NOW):
    """Jobs of whatever waits."""
    return await queue.claim([(kind, most) for kind in await queue.waiting()], now)
