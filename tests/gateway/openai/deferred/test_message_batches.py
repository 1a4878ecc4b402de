"""Anthropic's batches, told as Anthropic tells them."""

import json

import pytest

from router.deferral.output_lines import answered
from router.deferral.reading import ReadingLimits, read_batch, write_files
from router.deferral.values import EXPIRED
from tests.deferral.support import DAY, NOW, ROOMY, taken
from tests.gateway.openai.deferred.support import ask, deferring

BATCHES = "/v1/messages/batches"
MESSAGE = {"id": "msg_1", "type": "message", "content": [{"type": "text", "text": "Hi"}]}
ERROR = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}


@pytest.fixture
async def front(tmp_path):
    async with deferring(tmp_path) as made:
        yield made


def request(custom_id, **changes):
    params = {"model": "llama", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}
    return {"custom_id": custom_id, "params": {**params, **changes}}


async def begin(front, *names):
    return (await ask(front, "POST", BATCHES, json={"requests": list(map(request, names))}))[1]


async def reading(front):
    queue, blobs = front.deferred.queue, front.deferred.blobs
    claimed = await queue.claim_unread()
    await read_batch(queue, blobs, claimed, ReadingLimits(2**20, 10, ROOMY), NOW, lambda model: "")
    return queue


async def written(front):
    queue = front.deferred.queue
    assert await write_files(queue, front.deferred.blobs, await queue.claim_ended(NOW), DAY, NOW)


async def results(front, batch):
    status, told = await ask(front, "GET", batch["results_url"])
    assert status == 200, told
    return {one["custom_id"]: one["result"] for one in map(json.loads, told.splitlines())}


async def test_from_its_requests_to_their_results(front):
    batch = await begin(front, "a", "b", "c", "d")
    assert batch["id"].startswith("msgbatch_") and front.came
    assert (batch["type"], batch["processing_status"]) == ("message_batch", "in_progress")
    assert batch["request_counts"]["processing"] == 4 and batch["results_url"] is None
    status, told = await ask(front, "GET", f"{BATCHES}/{batch['id']}/results")
    assert (status, told["type"]) == (400, "error")
    queue = await reading(front)
    jobs = await taken(queue, 3)
    await queue.finish(jobs[0], answered(200, "gw", json.dumps(MESSAGE).encode(), {"gco2e": 0.1}))
    await queue.finish(jobs[1], answered(400, "gw", json.dumps(ERROR).encode()))
    await queue.finish(jobs[2], answered(502, "gw", b"<html>"))
    assert await queue.expire(NOW + DAY) == 1
    await written(front)
    _, done = await ask(front, "GET", f"{BATCHES}/{batch['id']}")
    assert done["processing_status"] == "ended" and done["ended_at"].endswith("+00:00")
    assert done["request_counts"] == {
        "processing": 0, "succeeded": 1, "errored": 2, "canceled": 0, "expired": 1,
    }  # fmt: skip
    found = await results(front, done)
    assert found["a"] == {"type": "succeeded", "message": MESSAGE}
    assert found["b"] == {"type": "errored", "error": ERROR}
    assert found["c"]["error"]["error"]["type"] == "api_error"
    assert found["d"] == {"type": "expired"} and EXPIRED


async def test_it_is_cancelled_and_deleted(front):
    batch = await begin(front, "a", "b")
    assert (await ask(front, "DELETE", f"{BATCHES}/{batch['id']}"))[0] == 400
    _, told = await ask(front, "POST", f"{BATCHES}/{batch['id']}/cancel")
    assert told["processing_status"] == "canceling" and told["cancel_initiated_at"]
    await written(front)
    _, done = await ask(front, "GET", f"{BATCHES}/{batch['id']}")
    assert done["processing_status"] == "ended"
    _, told = await ask(front, "DELETE", f"{BATCHES}/{batch['id']}")
    assert told == {"id": batch["id"], "type": "message_batch_deleted"}
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")):
        status, told = await ask(front, method, f"{BATCHES}/{batch['id']}{path}")
        assert (status, told["error"]["type"]) == (404, "not_found_error")


async def test_what_could_not_be_begun_says_why(front):
    batch = await begin(front, *(f"n{number}" for number in range(11)))
    await reading(front)
    _, done = await ask(front, "GET", f"{BATCHES}/{batch['id']}")
    assert done["request_counts"]["processing"] == 0
    found = await results(front, done)
    assert len(found) == 11 and "10 requests" in found["n3"]["error"]["error"]["message"]


@pytest.mark.parametrize(("said", "window_s"), [("3600", 3600), ("1", 60), ("1e9", DAY)])
async def test_who_wants_it_sooner_says_so(front, said, window_s):
    asked = {"requests": [request("a")]}
    await ask(front, "POST", BATCHES, json=asked, headers={"x-deadline-s": said})
    (job,) = await taken(await reading(front))
    assert job.deadline == NOW + window_s


async def test_pages_go_both_ways(front):
    made = [(await begin(front, "a"))["id"] for _ in range(4)][::-1]
    _, page = await ask(front, "GET", f"{BATCHES}?limit=2")
    assert [one["id"] for one in page["data"]] == made[:2] and page["has_more"]
    assert (page["first_id"], page["last_id"]) == (made[0], made[1])
    _, page = await ask(front, "GET", f"{BATCHES}?limit=2&after_id={made[1]}")
    assert [one["id"] for one in page["data"]] == made[2:] and not page["has_more"]
    _, page = await ask(front, "GET", f"{BATCHES}?limit=2&before_id={made[3]}")
    assert [one["id"] for one in page["data"]] == made[1:3] and page["has_more"]
    assert (await ask(front, "GET", f"{BATCHES}?before_id=a&after_id=b"))[0] == 400
    # Nobody else's.
    assert (await ask(front, "GET", "/v1/batches"))[1]["data"] == []
    assert (await ask(front, "GET", f"/v1/batches/{made[0]}"))[0] == 404
    assert (await ask(front, "GET", "/v1/files"))[1]["data"] == []
    other = {"x-tenant": "b"}
    assert (await ask(front, "GET", BATCHES, headers=other))[1]["data"] == []
    assert (await ask(front, "GET", f"{BATCHES}/{made[0]}", headers=other))[0] == 404


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        ([], "give from 1"),
        ([request("a b")], "requests.0.custom_id: give 1 to 64"),
        ([request("a"), request("a")], "requests.1.custom_id: an earlier"),
        ([request("a"), request("b", model=None)], "requests.1.params.model: say which"),
        ([request("a", stream=True)], "requests.0.params.stream"),
        ([{"custom_id": "a", "params": []}], "requests.0.params: give the request"),
        ([{"custom_id": "a"}], "the body"),
        ("none", "the body"),
    ],
)
async def test_what_is_none_is_told_and_leaves_nothing(front, requests, said):
    status, told = await ask(front, "POST", BATCHES, json={"requests": requests})
    assert status == 400 and told["type"] == "error"
    assert told["error"]["type"] == "invalid_request_error"
    assert said in told["error"]["message"]
    assert await front.deferred.queue.claim_unread() is None


async def test_a_request_of_many_lines_is_one(front):
    text = '{"requests":[{"custom_id":"a","params":{\n"model":"llama",\r\n"messages":[]}}]}'
    status, _ = await ask(front, "POST", BATCHES, data=text)
    assert status == 200
    (job,) = await taken(await reading(front))
    assert job.custom_id == "a"
