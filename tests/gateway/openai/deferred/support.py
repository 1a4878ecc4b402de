"""A front with a queue of deferred work, in a folder of its own."""

import contextlib
import io

import aiohttp

from router.config.deferral import DeferralSettings
from router.deferral.blobs import FolderBlobs
from router.deferral.sqlite.store import SqliteQueue
from router.gateway.openai.deferred.api import DeferredParts
from tests.deferral.support import DAY, NOW
from tests.gateway.openai.support import serving


def settings(folder, **changes):
    values = {
        "dir": folder / "deferred", "max_concurrent": 8, "share": 0.5, "max_file_bytes": 2**20,
        "max_lines": 1000, "tenant_max_bytes": 2**30, "tenant_max_requests": 1000, "max_tries": 3,
        "lease_s": 15.0, "keep_s": 30 * DAY,
    }  # fmt: skip
    return DeferralSettings(**{**values, **changes})


@contextlib.asynccontextmanager
async def deferring(folder, director=None, access=None, **changes):
    """A started front, with its ``parts`` of deferred work; ``came``: how often it said that there
    is something to do."""
    held = settings(folder, **changes)
    queue = SqliteQueue(held.dir, "w1", held.lease_s, lambda: 100.0)
    came = []
    try:
        await queue.beat()
        blobs = FolderBlobs(held.dir / "files")
        parts = DeferredParts(queue, blobs, held, lambda: NOW, lambda: came.append(1))
        async with serving(director, access=access, deferred=parts) as front:
            front.deferred, front.came = parts, came
            yield front
    finally:
        await queue.close()


def form(text=b"{}\n", filename="in.jsonl", **fields):
    made = aiohttp.FormData(quote_fields=False, default_to_multipart=True)
    for name, value in {"purpose": "batch", **fields}.items():
        if value is not None:
            made.add_field(name, value)
    if text is not None:
        made.add_field("file", io.BytesIO(text), filename=filename)
    return made


async def ask(front, method, path, **options):
    """(status, told) of one call."""
    async with front.client.request(method, front.url(path), **options) as reply:
        if reply.content_type == "application/json":
            return reply.status, await reply.json()
        return reply.status, await reply.read()


async def uploaded(front, text=b"{}\n", headers=None, **fields):
    status, told = await ask(front, "POST", "/v1/files", data=form(text, **fields), headers=headers)
    assert status == 200, told
    return told


def batch_of(file_id, **changes):
    return {"input_file_id": file_id, "endpoint": "/v1/chat/completions",
            "completion_window": "24h", **changes}  # fmt: skip
