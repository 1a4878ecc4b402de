import asyncio
import json
import math
from dataclasses import replace
from typing import NamedTuple

import aiohttp
import pytest

from router import http_api
from router.lab.emulator.faults import parse_fault
from router.load.orca import OrcaReader
from tests.lab.emulator.fleets import FAST, KEEPING, LONG_S, serving_http, wait_until

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES = (
    api.path
    for api in (
        http_api.CHAT,
        http_api.COMPLETIONS,
        http_api.EMBEDDINGS,
        http_api.RESPONSES,
        http_api.MESSAGES,
    )
)
GENERATING = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)
TALK = [{"role": "user", "content": "hello world"}]


def ask(path, model="llama", **fields):
    """A request of this API; with fields that others of them do not know."""
    body = {"model": model, "messages": TALK, "prompt": "hello world", "input": "hello world"}
    needed = {"max_tokens": 1_000} if path == MESSAGES else {}
    return {**body, **needed, **fields}


class Event(NamedTuple):
    name: str
    data: object


def events_of(raw):
    """(events, what comments say) of a whole stream; the ending event is the last."""
    events, comments = [], []
    for block in raw.split(b"\n\n")[:-1]:
        lines = block.decode().split("\n")
        fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
        if "data" in fields:
            data = fields["data"]
            said = data if data == "[DONE]" else json.loads(data)
            events.append(Event(fields.get("event", ""), said))
        else:
            assert events[-1].name not in ("message_stop", "response.completed")
            comments.append(json.loads(lines[0].removeprefix(": energy ")))
    return events, comments


async def whole(session, path, headers=None, **fields):
    """(status, headers, JSON) of one answer."""
    async with session.post(path, json=ask(path, **fields), headers=headers) as answer:
        return answer.status, answer.headers, await answer.json()


async def stream(session, path, headers=None, **fields):
    """(events, comments) of one stream."""
    body = ask(path, stream=True, **fields)
    async with session.post(path, json=body, headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        return events_of(await answer.read())


def report_of(headers):
    return OrcaReader().read((("endpoint-load-metrics", headers["endpoint-load-metrics"]),))


def energy_j(tokens):
    """(attributional, marginal) of one request alone on FAST, as in tests of gRPC."""
    run_s = (0.1 + (tokens - 1) * 0.101) / 1e3
    return 1.3 * (477 * run_s + 0.024 * tokens), 1.3 * ((477 - 80) * run_s + 0.024 * tokens)


async def test_questions():
    async with serving_http() as (_, session):
        async with session.get("/health") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        async with session.get("/v1/models") as answer:
            models = (await answer.json())["data"]
    assert {one["id"]: one.get("max_model_len") for one in models} == {
        "llama": 8192, "stuck": 8192, "image": None,
    }  # fmt: skip


USAGE = {
    CHAT: ("prompt_tokens", "completion_tokens"),
    COMPLETIONS: ("prompt_tokens", "completion_tokens"),
    RESPONSES: ("input_tokens", "output_tokens"),
    MESSAGES: ("input_tokens", "output_tokens"),
}


def text_of(path, body):
    return {
        CHAT: lambda: body["choices"][0]["message"]["content"],
        COMPLETIONS: lambda: body["choices"][0]["text"],
        RESPONSES: lambda: body["output"][0]["content"][0]["text"],
        MESSAGES: lambda: body["content"][0]["text"],
    }[path]()


@pytest.mark.parametrize("path", GENERATING)
async def test_a_whole_answer_tells_what_the_machine_did(path):
    async with serving_http() as (emulated, session):
        _, headers, body = await whole(session, path, input_tokens=30, output_tokens=50)
        replica = emulated.machines()["llama"].settle()
        awake_j = replica.energy_j - replica.idle_energy_j
    given, made = USAGE[path]
    assert (body["usage"][given], body["usage"][made]) == (30, 50)
    assert text_of(path, body).startswith("[emulated by a: 50 units of fast@1xtest]")
    report = report_of(headers)
    expected = energy_j(50)
    assert report.energy_j == pytest.approx(expected[0], rel=1e-6) == awake_j
    assert report.marginal_energy_j == pytest.approx(expected[1], rel=1e-6)
    assert (report.output_tokens, report.cached_tokens, report.malformed) == (50, 0, False)
    assert headers["x-emulated"] == "true"
    assert headers["request-id" if path == MESSAGES else "x-request-id"].startswith("req_")


async def test_load_is_told_to_who_asks_for_it():
    async with serving_http() as (_, session):
        _, plain, _ = await whole(session, CHAT, output_tokens=2)
        asked = {"endpoint-load-metrics-format": "TEXT"}
        async with session.post(CHAT, json=ask(CHAT, output_tokens=2), headers=asked) as answer:
            load = report_of(answer.headers).load
    assert report_of(plain).load is None
    assert (load.queued, load.kv_fraction) == (0.0, 0.0) and math.isnan(load.running)


@pytest.mark.parametrize("path", GENERATING)
async def test_a_stream_says_the_same_and_its_energy_before_its_end(path):
    async with serving_http(stream_every=8) as (_, session):
        _, _, body = await whole(session, path, output_tokens=50)
        events, comments = await stream(session, path, output_tokens=50)
    attributional_j, marginal_j = energy_j(50)
    (told,) = comments
    assert told == {
        "joules": pytest.approx(attributional_j, rel=1e-6),
        "marginal_joules": pytest.approx(marginal_j, rel=1e-6),
        "source": "emulated",
    }
    pieces = {
        CHAT: lambda: [
            event.data["choices"][0]["delta"].get("content", "") for event in events[1:-1]
        ],
        COMPLETIONS: lambda: [event.data["choices"][0]["text"] for event in events[:-1]],
        RESPONSES: lambda: [
            event.data["delta"] for event in events if event.name == "response.output_text.delta"
        ],
        MESSAGES: lambda: [
            event.data["delta"]["text"] for event in events if event.name == "content_block_delta"
        ],
    }[path]()
    assert "".join(pieces) == text_of(path, body)
    # At 1, 8, 16, ..., 48 and 50 tokens.
    assert len([piece for piece in pieces if piece]) == 8


async def test_a_chat_stream_begins_with_a_role_and_tells_usage_where_asked():
    async with serving_http() as (_, session):
        plain, _ = await stream(session, CHAT, output_tokens=3, max_tokens=3)
        options = {"include_usage": True}
        asked, _ = await stream(session, CHAT, output_tokens=3, stream_options=options)
    *chunks, done = plain
    assert done.data == "[DONE]"
    assert chunks[0].data["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [c.data["choices"][0]["finish_reason"] for c in chunks] == [None] * 4 + ["length"]
    assert not any("usage" in chunk.data for chunk in chunks)
    *chunks, told, _ = asked
    assert told.data["choices"] == [] and told.data["id"] == chunks[0].data["id"]
    assert told.data["usage"]["completion_tokens"] == 3
    assert all(chunk.data["usage"] is None for chunk in chunks)
    assert chunks[-1].data["choices"][0]["finish_reason"] == "stop"


async def test_a_message_stream_has_the_events_of_anthropic():
    async with serving_http() as (_, session):
        events, _ = await stream(session, MESSAGES, output_tokens=2, input_tokens=9)
    assert [event.name for event in events] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta",
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert all(event.name == event.data["type"] for event in events)
    start, end = events[0].data["message"]["usage"], events[-2].data
    assert (start["input_tokens"], start["output_tokens"]) == (9, 1)
    assert (end["usage"]["input_tokens"], end["usage"]["output_tokens"]) == (9, 2)
    assert end["delta"]["stop_reason"] == "end_turn"


async def test_a_response_stream_has_the_events_of_openai():
    async with serving_http() as (_, session):
        events, _ = await stream(session, RESPONSES, output_tokens=2)
        cut, _ = await stream(session, RESPONSES, output_tokens=2, max_output_tokens=2)
    assert [event.name.removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert [event.data["sequence_number"] for event in events] == list(range(10))
    assert all(event.name == event.data["type"] for event in events)
    assert events[-1].data["response"]["usage"]["output_tokens"] == 2
    assert cut[-1].name == "response.incomplete"
    assert cut[-1].data["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_responses_go_on_where_one_ended_until_it_is_deleted():
    async with serving_http(KEEPING) as (_, session):
        _, _, first = await whole(session, RESPONSES, input="a" * 3_000, output_tokens=5)
        url = f"{RESPONSES}/{first['id']}"
        async with session.get(url) as answer:
            assert await answer.json() == first
        events, _ = await stream(
            session, RESPONSES, input="b" * 600, output_tokens=5, previous_response_id=first["id"]
        )
        second = events[-1].data["response"]
        _, _, third = await whole(
            session, RESPONSES, input="c", output_tokens=5, previous_response_id=second["id"]
        )
        async with session.delete(url) as answer:
            assert (await answer.json())["deleted"] is True
        for gone in (session.get(url), session.delete(url)):
            async with gone as answer:
                assert answer.status == 404
        status, _, refused = await whole(session, RESPONSES, previous_response_id=first["id"])
        assert status == 404 and first["id"] in refused["error"]["message"]
        _, _, unkept = await whole(session, RESPONSES, output_tokens=1, store=False)
        async with session.get(f"{RESPONSES}/{unkept['id']}") as answer:
            assert answer.status == 404
    for before, after in ((first, second), (second, third)):
        assert after["usage"]["input_tokens"] > before["usage"]["input_tokens"]
    assert first["usage"]["input_tokens_details"]["cached_tokens"] == 0
    # Five whole blocks of 512 bytes of what was said before.
    assert second["usage"]["input_tokens_details"]["cached_tokens"] == 640


async def test_cached_tokens_are_told_where_prompts_are_kept():
    talk = [{"role": "user", "content": "Long ago and far away. " * 100}]
    async with serving_http(KEEPING) as (_, session):
        cached, joules = [], []
        for _ in range(2):
            _, headers, body = await whole(session, CHAT, messages=talk, output_tokens=2)
            details = body["usage"]["prompt_tokens_details"]
            cached.append(details["cached_tokens"])
            joules.append(report_of(headers).cached_tokens)
        _, _, message = await whole(session, MESSAGES, messages=talk, output_tokens=2)
        events, _ = await stream(session, MESSAGES, messages=talk, output_tokens=2)
    assert cached == joules == [0, 512]
    for usage in (message["usage"], events[0].data["message"]["usage"], events[-2].data["usage"]):
        assert usage["cache_read_input_tokens"] == 512
        assert usage["input_tokens"] + 512 == body["usage"]["prompt_tokens"]


async def test_count_tokens_needs_no_limit_and_runs_nothing():
    async with serving_http() as (emulated, session):
        path = f"{MESSAGES}/count_tokens"
        fields = {"model": "llama", "messages": TALK, "system": "x" * 400}
        async with session.post(path, json=fields) as answer:
            assert await answer.json() == {"input_tokens": 100 + 5}
        assert emulated.machines()["llama"].settle().busy_s == 0.0


@pytest.mark.parametrize("model", ["llama", "image"])
async def test_embeddings_come_of_either_kind_of_profile(model):
    async with serving_http() as (_, session):
        _, headers, body = await whole(session, EMBEDDINGS, model=model, input=["one", [1, 2, 3]])
    assert [one["index"] for one in body["data"]] == [0, 1]
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    expected_j = 260.0 if model == "image" else energy_j(1)[0]
    assert report_of(headers).energy_j == pytest.approx(expected_j)


async def test_lengths_are_drawn_from_the_seed_and_capped():
    async def lengths(seed):
        async with serving_http(seed=seed) as (_, session):
            drawn = []
            for limit in (10_000, 10_000, 10_000, 3):
                _, _, body = await whole(session, CHAT, max_tokens=limit)
                drawn.append((body["usage"]["completion_tokens"], body["choices"][0]))
            return [(tokens, choice["finish_reason"]) for tokens, choice in drawn]

    first = await lengths(1)
    assert first == await lengths(1) != await lengths(2)
    assert first[-1] == (3, "length") and first[0][1] == "stop"


@pytest.mark.parametrize("path", [*GENERATING, EMBEDDINGS])
async def test_what_cannot_be_served_is_said_in_the_apis_shape(path):
    async with serving_http() as (_, session):
        for status, kind, fields in (
            (404, "NotFoundError", {"model": "none"}),
            (400, "BadRequestError", {"input_tokens": -4}),
        ):
            got, headers, body = await whole(session, path, **fields)
            assert got == status and headers["x-emulated"] == "true"
            if path == MESSAGES:
                assert body["type"] == "error"
                assert body["request_id"] == headers["request-id"]
                assert body["error"]["type"] in ("not_found_error", "invalid_request_error")
            else:
                assert (body["error"]["type"], body["error"]["code"]) == (kind, status)
                assert body["error"]["param"] in fields
        for data in (b"{", b"\xff\xff", b"[]"):
            async with session.post(path, data=data) as answer:
                assert answer.status == 400 and "JSON" in str(await answer.json())


async def test_what_is_not_emulated_is_said():
    async with serving_http() as (_, session):
        async with session.post("/v1/rerank", json={}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (404, 404)
        async with session.get(CHAT) as answer:
            assert (await answer.json())["error"]["code"] == 405
        status, _, body = await whole(session, RESPONSES, background=True)
        assert (status, body["error"]["param"]) == (400, "background")
        # No prior tells how long its answers are.
        status, _, body = await whole(session, CHAT, model="stuck")
        assert status == 400 and "output_tokens" in body["error"]["message"]


async def test_the_headers_of_a_stream_come_before_its_first_token():
    # Whose prompts are never read.
    async with serving_http(replace(FAST, prefill_base_ms=3.6e6)) as (emulated, session):
        body = ask(CHAT, output_tokens=5, stream=True)
        async with session.post(CHAT, json=body) as answer:
            assert answer.status == 200
            assert emulated.machines()["llama"].settle().tokens == 0


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("streams", [False, True])
async def test_a_client_that_goes_away_frees_its_slot(path, streams):
    async with serving_http() as (emulated, session):
        replica = emulated.machines()["stuck"].replica
        body = ask(path, "stuck", output_tokens=5, stream=streams)
        call = asyncio.ensure_future(session.post(path, json=body))
        await wait_until(lambda: replica.running == 1)
        if streams:
            answer = await call
            # The first token, then an hour of nothing.
            assert await answer.content.readany()
            answer.close()
        else:
            call.cancel()
        await wait_until(lambda: replica.running == 0)


async def test_hundreds_of_requests_at_once():
    async with serving_http() as (emulated, session):
        tokens = [20 + i % 7 for i in range(200)]
        calls = [whole(session, CHAT, output_tokens=each) for each in tokens[:100]]
        streams = [stream(session, CHAT, output_tokens=each) for each in tokens[100:]]
        answers = await asyncio.gather(*calls, *streams)
        replica = emulated.machines()["llama"].settle()
        awake_j = replica.energy_j - replica.idle_energy_j
    told_j = sum(report_of(headers).energy_j for _, headers, _ in answers[:100])
    told_j += sum(comments[0]["joules"] for _, comments in answers[100:])
    assert told_j == pytest.approx(awake_j, rel=1e-6)


async def test_the_round_trip_of_the_origin_is_waited_for(monkeypatch):
    slept = []
    real = asyncio.sleep

    async def sleep(delay_s, *args):
        if delay_s > 0.0:
            slept.append(delay_s)
        await real(0)

    async with serving_http(rtt_ms=20.0) as (_, session):
        monkeypatch.setattr("router.lab.emulator.emulation.asyncio.sleep", sleep)
        waits = {}
        for origin in ("home", "far", "elsewhere", None):
            slept.clear()
            await whole(session, CHAT, {"x-origin": origin} if origin else None, output_tokens=1)
            waits[origin] = slept[0]
            assert len(slept) == 2 and slept[1] <= slept[0]
    assert waits == {"home": 0.01, "far": 0.04, "elsewhere": 0.01, None: 0.01}


def fault(text):
    return {"x-emulate-fault": text}


async def test_fault_code_with_when_to_come_back():
    async with serving_http() as (_, session):
        status, headers, body = await whole(session, CHAT, fault("code:429"))
        assert (status, headers["retry-after-ms"], headers["Retry-After"]) == (429, "200", "1")
        assert body["error"]["type"] == "RateLimitError"
        assert (await whole(session, CHAT, fault("code:UNAVAILABLE"), stream=True))[0] == 503
        status, _, body = await whole(session, MESSAGES, fault("code:529"))
        assert (status, body["error"]["type"]) == (529, "overloaded_error")
        for bad in ("nonsense", "code:200", "code:NO_SUCH_CODE"):
            assert (await whole(session, CHAT, fault(bad)))[0] == 400


async def test_a_fault_of_the_endpoint_shows_on_every_call():
    async with serving_http(fault=parse_fault("code:UNAVAILABLE")) as (_, session):
        for path in (*GENERATING, EMBEDDINGS):
            assert (await whole(session, path))[0] == 503


async def test_fault_hang_never_answers():
    async with serving_http() as (emulated, session):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await whole(session, CHAT, fault("hang"))
        assert emulated.machines()["llama"].settle().busy_s == 0.0


async def test_fault_garbage_is_neither_json_nor_utf8():
    async with serving_http() as (_, session):
        for streams in (False, True):
            body = ask(CHAT, output_tokens=3, stream=streams)
            async with session.post(CHAT, json=body, headers=fault("garbage")) as answer:
                assert answer.status == 200
                assert (await answer.read()).startswith(b"\xff\xff\xff\xff")


@pytest.mark.parametrize("path", GENERATING)
async def test_fault_half_ends_a_stream_as_if_all_were_well(path):
    async with serving_http() as (emulated, session):
        events, comments = await stream(session, path, fault("half"), output_tokens=20)
        replica = emulated.machines()["llama"].settle()
        assert (replica.running, replica.queued) == (0, 0)
        made = replica.tokens
    assert 10 <= len(events) <= 15 and made < 20 and comments == []
    assert not {"message_stop", "response.completed"} & {event.name for event in events}
    assert events[-1].data != "[DONE]"


@pytest.mark.parametrize("streams", [False, True])
async def test_fault_reset_drops_everyone_and_comes_back_empty(streams):
    async with serving_http() as (emulated, session):
        _, _, kept = await whole(session, RESPONSES, output_tokens=1)
        bystander = asyncio.ensure_future(whole(session, CHAT, model="stuck", output_tokens=5))
        replica = emulated.machines()["stuck"].replica
        await wait_until(lambda: replica.running == 1)
        body = ask(CHAT, output_tokens=4, stream=streams)
        with pytest.raises(aiohttp.ClientError):
            async with session.post(CHAT, json=body, headers=fault("reset")) as answer:
                assert streams
                await answer.read()
        with pytest.raises(aiohttp.ClientError):
            await bystander
        async with asyncio.timeout(LONG_S):
            await emulated.ready.wait()
        assert (await whole(session, CHAT, output_tokens=4))[0] == 200
        async with session.get(f"{RESPONSES}/{kept['id']}") as answer:
            assert answer.status == 404


async def test_fault_slow_stretches_the_answer_not_the_energy(monkeypatch):
    until = []

    async def record(when):
        until.append(when)

    monkeypatch.setattr("router.lab.emulator.emulation.until", record)
    async with serving_http() as (_, session):
        joules = []
        for headers in (None, fault("slow:1e6")):
            now = asyncio.get_running_loop().time()
            _, told, _ = await whole(session, CHAT, headers, output_tokens=10)
            joules.append(report_of(told).energy_j)
            until[-1] -= now
    assert joules[0] == pytest.approx(joules[1])
    assert until[1] > 1e3 > until[0]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES])
async def test_where_the_time_went_is_told_where_that_is_switched_on(path):
    async with serving_http(tells_times=True) as (_, session):
        _, _, body = await whole(session, path, output_tokens=50)
        more = {} if path == RESPONSES else {"stream_options": {"include_usage": True}}
        events, _ = await stream(session, path, output_tokens=50, **more)
    last = events[-1].data["response"] if path == RESPONSES else events[-2].data
    for said in (body, last):
        assert said["metrics"]["generation_time_ms"] == pytest.approx(49 * 0.101, rel=1e-3)
        assert said["metrics"]["queue_time_ms"] >= 0.0


async def test_where_the_time_went_is_told_by_nobody_else():
    async with serving_http() as (_, session):
        assert "metrics" not in (await whole(session, CHAT, output_tokens=2))[2]
