import asyncio
import json

import pytest

from router.deferral import input_lines
from router.deferral.output_lines import answered, failed
from router.deferral.reading import ReadingLimits, read_batch, write_files
from router.gateway.openai.deferred.background import is_background_id
from tests.deferral.support import DAY, NOW, ROOMY, taken
from tests.gateway.openai.deferred.support import ask, deferring

ANSWER = {"id": "resp_theirs", "object": "response", "status": "completed", "output": [{"a": 1}]}


@pytest.fixture
async def front(tmp_path):
    async with deferring(tmp_path) as made:
        yield made


async def begin(front, headers=None, **changes):
    asked = {"model": "llama", "input": "Hi", "background": True, "temperature": 0.1, **changes}
    return await ask(front, "POST", "/v1/responses", json=asked, headers=headers)


async def do(front, outcome=None):
    """What a gateway in the background does with all there is."""
    queue, blobs = front.deferred.queue, front.deferred.blobs
    claimed = await queue.claim_unread()
    limits = ReadingLimits(2**20, 10, ROOMY)
    await read_batch(queue, blobs, claimed, limits, NOW, lambda model: "")
    (job,) = await taken(queue)
    if outcome is not None:
        await queue.finish(job, outcome)
        assert await write_files(queue, blobs, await queue.claim_ended(NOW), DAY, NOW)
    return job


async def get(front, response_id, **options):
    return await ask(front, "GET", f"/v1/responses/{response_id}", **options)


async def test_it_is_queued_made_and_asked_for(front):
    status, queued = await begin(front, background_options={"completion_window": "8h"})
    assert (status, queued["status"], queued["background"]) == (200, "queued", True)
    assert queued["model"] == "llama" and is_background_id(queued["id"]) and front.came
    assert await get(front, queued["id"]) == (200, queued)
    job = await do(front)
    assert job.deadline == NOW + 8 * 3600 and job.terms.endpoint == "/v1/responses"
    with front.deferred.blobs.open(job.terms.input_file_id) as file:
        body = json.loads(input_lines.read_body(file, job.offset, job.size_bytes))
    # Servers are asked for a response as any other.
    assert body == {"model": "llama", "input": "Hi", "temperature": 0.1}
    assert (await get(front, queued["id"]))[1]["status"] == "in_progress"
    queue = front.deferred.queue
    await queue.finish(job, answered(200, "gw-1", json.dumps(ANSWER).encode()))
    await write_files(queue, front.deferred.blobs, await queue.claim_ended(NOW), DAY, NOW)
    status, done = await get(front, queued["id"])
    assert done == ANSWER | {"id": queued["id"], "background": True}
    # It is a batch to nobody.
    assert (await ask(front, "GET", "/v1/batches"))[1]["data"] == []
    assert (await ask(front, "GET", f"/v1/batches/{queued['id']}"))[0] == 404
    assert (await ask(front, "POST", f"/v1/batches/{queued['id']}/cancel"))[0] == 404
    listed = (await ask(front, "GET", "/v1/files"))[1]["data"]
    assert [one["purpose"] for one in listed] == ["batch_output"]


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        (answered(404, "", b'{"error":{"code":"model_unknown","message":"gone"}}'),
         "model_unknown", "gone"),
        (answered(502, "", b"<html>"), "server_error", "it could not be made"),
        (failed("file_unknown", "the file is gone"), "file_unknown", "the file is gone"),
    ],
)  # fmt: skip
async def test_what_cannot_be_made_says_why(front, outcome, code, message):
    _, queued = await begin(front)
    await do(front, outcome)
    _, told = await get(front, queued["id"])
    assert (told["status"], told["error"]) == ("failed", {"code": code, "message": message})


@pytest.mark.parametrize("said", [None, {}, {"completion_window": None}])
async def test_null_says_nothing(front, said):
    status, queued = await begin(front, background_options=said)
    assert (status, queued["status"]) == (200, "queued")
    assert (await do(front)).terms.window == "soonest"


async def test_it_is_cancelled_and_deleted(front):
    _, queued = await begin(front)
    status, told = await ask(front, "POST", f"/v1/responses/{queued['id']}/cancel")
    assert (status, told["status"]) == (200, "cancelled")
    assert (await get(front, queued["id"]))[1]["status"] == "cancelled"
    status, told = await ask(front, "DELETE", f"/v1/responses/{queued['id']}")
    assert told == {"id": queued["id"], "object": "response", "deleted": True}
    status, error = await get(front, queued["id"])
    assert (status, error["error"]["code"]) == (404, "response_unknown")


async def test_it_expires(front):
    _, queued = await begin(front, background_options={"completion_window": "2h"})
    queue = front.deferred.queue
    job = await do(front)
    await queue.put_back(job, NOW, False)
    assert await queue.expire(NOW + 7200) == 1
    await write_files(queue, front.deferred.blobs, await queue.claim_ended(NOW), DAY, NOW)
    _, told = await get(front, queued["id"])
    assert told["status"] == "failed" and "window" in told["error"]["message"]


async def test_it_is_its_owners_alone(front):
    _, queued = await begin(front, headers={"x-tenant": "a"})
    for method, more in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        path = f"/v1/responses/{queued['id']}{more}"
        assert (await ask(front, method, path, headers={"x-tenant": "b"}))[0] == 404
        assert (await ask(front, method, path))[0] == 404
    assert (await get(front, queued["id"], headers={"x-tenant": "a"}))[0] == 200


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"stream": True}, 400),
        ({"background_options": {"completion_window": "25h"}}, 400),
        ({"background_options": {"completion_window": 8}}, 400),
        ({"background_options": []}, 400),
        ({"background_options": {"continuation_id": "resp_1"}}, 400),
        ({"model": ""}, 400),
    ],
)
async def test_what_cannot_be_is_told(front, changes, status):
    assert (await begin(front, **changes))[0] == status
    assert front.came == []


async def test_what_is_not_kept_is_not_found(front):
    unknown = "resp_bg" + "0" * 32
    assert (await get(front, unknown))[0] == 404
    _, queued = await begin(front)
    assert (await get(front, f"{queued['id']}?stream=true"))[0] == 501
    assert (await get(front, f"{queued['id']}/input_items"))[0] == 501


async def test_what_need_not_be_stored_is_kept_for_minutes(front):
    _, queued = await begin(front, store=False)
    batch = await front.deferred.queue.batch("", queued["id"])
    assert batch.terms.keep_s == 600.0


async def test_one_that_is_refused_leaves_nothing(tmp_path):
    async with deferring(tmp_path, tenant_max_requests=1) as refusing:
        await begin(refusing)
        await do(refusing)
        status, error = await begin(refusing)
        assert (status, error["error"]["code"]) == (429, "deferral_quota")
        assert len(list((refusing.deferred.settings.dir / "files").iterdir())) == 1


async def test_a_plain_response_is_asked_at_once(front):
    for more in ({"background": False}, {"background": None}):
        await begin(front, **more)
    assert len(front.director.calls) == 2
    await asyncio.sleep(0)
