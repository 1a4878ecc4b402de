"""Calls of the HTTP front, from bytes to bytes."""

import asyncio
import gzip
import json

import pytest
from yarl import URL

from router.errors import (
    ReceiptsUnreachableError,
    ShedError,
    UpstreamLostError,
    UpstreamRejectedError,
)
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.openai.receipt_documents import receipt_document
from router.gateway.receipt_rows import encode_receipt
from router.http_api import BODY, END, LAST_USAGE, METHOD, PATH
from router.model import UNLIMITED, Request
from tests.gateway.openai.support import (
    ANSWER,
    CHUNK,
    DONE,
    JSON,
    SSE,
    STATED,
    USED,
    Routed,
    Script,
    serving,
)
from tests.gateway.support import receipt
from tests.identity.support import access

CHAT = "/v1/chat/completions"
ASK = {"model": "llama", "messages": [{"role": "user", "content": "Hello there"}]}
STREAM = {**ASK, "stream": True}


async def test_an_answer_comes_as_it_is_with_the_decision_in_one_field():
    body = b' {"model": "llama","messages":[],"unknown":{"a":[1, 2.50]}} '
    async with serving() as front:
        status, headers, answer = await front.post(CHAT, body, x_request_id="r-1")
        call = front.director.calls[0]
    assert (status, answer) == (200, ANSWER)
    assert headers["x-carbon"].startswith('id="gw-1", region="west", endpoint="west-0"')
    assert call.payload == body
    assert (METHOD, "POST") in call.metadata and (PATH, CHAT) in call.metadata
    assert (call.protocol, call.request.model, call.request.request_id) == (
        "openai",
        "llama",
        "r-1",
    )
    assert call.deadline_s is None


@pytest.mark.parametrize("streams", [False, True])
async def test_names_that_are_ours_come_from_nobody_else(streams):
    theirs = (("x-carbon", "0"), ("x-carbon-gco2e", "0"), ("x_carbon_gco2e", "0"), ("x-own", "1"))
    director = Script(initial=(*JSON, *theirs), stream=Routed([CHUNK], initial=(*SSE, *theirs)))
    async with serving(director) as front:
        _, headers, _ = await front.post(CHAT, STREAM if streams else ASK)
        status, _, refused = await front.post(CHAT, ASK, x_carbon_gco2e="0")
    assert headers["x-own"] == "1"
    assert [key for key in headers if "carbon" in key.lower()] == ["x-carbon"]
    assert headers["x-carbon"].startswith('id="gw-1"')
    assert status == 400 and b"x-carbon" in refused


@pytest.mark.parametrize("streams", [False, True])
async def test_no_server_speaks_for_this_address(streams):
    """Pages, cookies, TLS, keys and when to ask again are between a client and the gateway."""
    theirs = (
        ("set-cookie", "a=b"), ("access-control-allow-origin", "*"), ("alt-svc", 'h3="e:443"'),
        ("access-control-allow-credentials", "true"), ("clear-site-data", "*"),
        ("strict-transport-security", "max-age=1"), ("www-authenticate", "Basic"),
        ("location", "http://10.0.0.7/"), ("refresh", "0"), ("x-should-retry", "false"),
        ("retry-after", "9"), ("retry-after-ms", "9"), ("timing-allow-origin", "*"),
    )  # fmt: skip
    initial = (*(SSE if streams else JSON), *theirs, ("openai-version", "1"))
    script = Script(stream=Routed([CHUNK], initial=initial)) if streams else Script(initial=initial)
    async with serving(script) as front:
        status, headers, _ = await front.post(CHAT, {**ASK, "stream": streams})
    assert status == 200 and headers["openai-version"] == "1"
    assert not {name for name, _ in theirs} & {name.lower() for name in headers}


async def test_what_routing_needs_is_read_from_headers_and_body():
    budgets = {"x_latency_budget_ms": "900", "x_origin": "eu", "x_residency": "EU,CH"}
    async with serving() as front:
        await front.post(CHAT, {**ASK, "max_tokens": 64, "n": 2, "inference_geo": "eu"}, **budgets)
        request = front.director.calls[0].request
    assert (request.budget.e2e_ms, request.origin) == (900.0, "eu")
    assert request.residency == {"eu"}
    assert request.max_output_tokens == 128.0
    assert request.prompt_bytes == len(json.dumps(ASK["messages"]))


async def test_an_sdks_own_time_out_is_no_budget():
    async with serving() as front:
        await front.post(CHAT, ASK, x_stainless_read_timeout="600", x_stainless_timeout="600")
        assert front.director.calls[0].request.budget.e2e_ms == UNLIMITED


@pytest.mark.parametrize("asks", [False, True])
async def test_usage_is_asked_for_and_only_shown_to_who_asked(asks):
    body = {**STREAM, "stream_options": {"include_usage": True}} if asks else STREAM
    director = Script(stream=Routed([CHUNK, CHUNK], trailers=(STATED, (END, DONE))))
    async with serving(director) as front:
        _, headers, answer = await front.post(CHAT, body)
        sent = json.loads(director.calls[0].payload)
    assert sent["stream_options"] == {"include_usage": True}
    assert answer == CHUNK * 2 + (USED if asks else b"") + DONE
    assert headers["content-type"] == dict(SSE)["content-type"]
    assert headers["x-carbon"].startswith('id="gw-1"')


async def test_other_options_of_a_stream_stay():
    body = {**STREAM, "stream_options": {"include_obfuscation": False}}
    async with serving() as front:
        await front.post(CHAT, body)
        sent = json.loads(front.director.calls[0].payload)
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}


async def test_responses_are_never_asked_for_usage():
    body = b'{"model":"llama","input":"Hi","stream":true}'
    async with serving() as front:
        await front.post("/v1/responses", body)
        assert front.director.calls[0].payload == body


async def test_energy_is_told_to_who_asks():
    async with serving(energy=("acme",)) as front:
        _, _, silent = await front.post(CHAT, ASK)
        _, _, asked = await front.post(CHAT, ASK, x_energy_data="true")
        _, _, tenant = await front.post(CHAT, ASK, x_tenant="acme")
    assert silent == ANSWER
    assert asked == tenant
    told = json.loads(asked)["usage"]["energy"]
    assert told["joules"] == 258.6 and told["wh"] == pytest.approx(258.6 / 3600.0, rel=1e-5)
    assert told["g_co2e"] == 0.0086
    assert told["wh"] / 1e3 * told["grid_carbon_intensity"] == pytest.approx(
        told["g_co2e"], rel=1e-4
    )
    assert (told["source"], told["decision_id"], told["region"]) == ("emulated", "gw-1", "west")
    # All else is byte for byte what it was.
    at = asked.index(b',"energy":')
    end = asked.index(b"}}", at) + 1 if b"range" not in asked else asked.index(b"]}}", at) + 3
    assert asked[:at] + asked[end:] == ANSWER


@pytest.mark.parametrize(("said", "told"), [("yes", True), ("TRUE", True), ("off", False)])
async def test_whether_energy_is_told_is_said_in_words(said, told):
    async with serving() as front:
        _, _, body = await front.post(CHAT, ASK, x_energy_data=said)
    assert (b'"energy"' in body) is told


@pytest.mark.parametrize("headers", [{"x_energy_data": "maybe"}, {"x_energy": "true"}])
async def test_what_asks_for_energy_in_other_words_is_refused(headers):
    async with serving() as front:
        status, _, body = await front.post(CHAT, ASK, **headers)
        assert not front.director.calls
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (400, "metadata_invalid")
    assert "x-energy-data" in error["message"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/v1/messages", "mean /v1/messages?"),
        ("/chat/completions", "mean /v1/chat/completions?"),
        ("/v1/v1/models", "mean /v1/models?"),
        ("/v1/nothing", "not served here"),
    ],
)
async def test_a_base_url_that_is_wrong_is_told(path, meant):
    async with serving() as front:
        status, _, posted = await front.post(path, ASK)
        _, _, got = await front.get(path)
    for body in (posted, got):
        message = json.loads(body)["error"]["message"]
        assert status == 404 and meant in message
        assert ("base_url" in message) is ("mean" in meant)


async def test_an_empty_body_is_called_empty():
    async with serving() as front:
        status, _, body = await front.post(CHAT, b"")
    assert status == 400 and "the body is empty" in json.loads(body)["error"]["message"]


async def test_energy_of_a_stream_is_a_comment_before_its_end():
    for asks in (False, True):
        body = {**STREAM, "stream_options": {"include_usage": True}} if asks else STREAM
        director = Script(stream=Routed([CHUNK], trailers=(STATED, (END, DONE))))
        async with serving(director) as front:
            _, _, answer = await front.post(CHAT, body, x_energy_data="1")
        *_, comment, end, nothing = answer.split(b"\n\n")
        assert (end + b"\n\n", nothing) == (DONE, b"")
        assert comment.startswith(b": energy {")
        told = json.loads(comment.removeprefix(b": energy "))
        assert told["joules"] == 258.6
        stated = [e for e in answer.split(b"\n\n") if b'"usage":{' in e]
        assert len(stated) == asks
        if asks:
            usage = json.loads(stated[0].removeprefix(b"data: "))["usage"]
            assert usage["energy"] == told and usage["total_tokens"] == 7


async def test_energy_of_a_stream_without_an_event_that_ends_it_comes_last():
    """As old servers of OpenAI's API leave it out."""
    async with serving(Script(stream=Routed([CHUNK], trailers=()))) as front:
        _, _, answer = await front.post(CHAT, STREAM, x_energy_data="1")
    assert answer.startswith(CHUNK + b": energy {") and answer.endswith(b"}\n\n")
    # Of what is no stream of events nothing is changed.
    director = Script(stream=Routed([b"{}"], trailers=(), initial=JSON))
    async with serving(director) as front:
        _, _, answer = await front.post(CHAT, STREAM, x_energy_data="1")
    assert answer == b"{}"


def event(value, name):
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps(value).encode())


TOTALS = event(
    {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}, "z": 1.0}, "message_delta"
)
STOP = event({"type": "message_stop"}, "message_stop")
# The same objects stand elsewhere in it, too.
ENDS = [
    event(
        {
            "type": f"response.{how}",
            "response": {
                "id": "resp_1",
                "output": [{"text": '"usage":{'}],
                "usage": {"input_tokens": 5},
                "metadata": {},
            },
        },
        f"response.{how}",
    )
    for how in ("completed", "incomplete")
]
STREAMS = {
    "messages": ("/v1/messages", ((LAST_USAGE, TOTALS), (END, STOP)), TOTALS + STOP),
    "completed": ("/v1/responses", ((END, ENDS[0]),), ENDS[0]),
    "incomplete": ("/v1/responses", ((END, ENDS[1]),), ENDS[1]),
}  # fmt: skip


@pytest.mark.parametrize("case", STREAMS)
@pytest.mark.parametrize("asks", [False, True])
async def test_energy_stands_in_the_event_that_always_states_usage(case, asks):
    path, trailers, end = STREAMS[case]
    director = Script(stream=Routed([CHUNK], trailers=trailers))
    async with serving(director) as front:
        _, _, answer = await front.post(path, STREAM, **({"x_energy_data": "true"} if asks else {}))
    if not asks:
        assert answer == CHUNK + end
        return
    events = answer.split(b"\n\n")
    comment = next(one for one in events if one.startswith(b": energy "))
    told = comment.removeprefix(b": energy ")
    # All else is byte for byte what it was.
    joined = b', "energy":' if b', "energy":' in answer else b',"energy":'
    assert answer.replace(comment + b"\n\n", b"").replace(joined + told, b"") == CHUNK + end
    last = json.loads(next(one for one in events if b'"energy":' in one).split(b"data: ")[1])
    usage = last.get("response", last)["usage"]
    assert usage["energy"] == json.loads(told)
    assert usage["energy"]["joules"] == 258.6


@pytest.mark.parametrize("end", [
    event({"response": {"usage": None}}, "response.failed"),
    event({"response": None}, "response.failed"),
    event({"usage": 7}, "response.failed"),
    b"event: response.failed\ndata: {garbage\n\n",
    b"event: response.failed\n\n",
])  # fmt: skip
async def test_energy_joins_no_end_without_usage(end):
    director = Script(stream=Routed([CHUNK], trailers=((END, end),)))
    async with serving(director) as front:
        _, _, answer = await front.post("/v1/responses", STREAM, x_energy_data="true")
    assert answer.startswith(CHUNK + b": energy {") and answer.endswith(b"\n\n" + end)


async def test_a_receipt_can_be_asked_for_afterwards():
    async with serving() as front:
        await front.post(CHAT, ASK)
        status, _, body = await front.get("/v1/carbon/receipts/gw-1")
        unknown, _, _ = await front.get("/v1/carbon/receipts/gw-2")
    told = json.loads(body)
    assert status == 200 and unknown == 404
    assert (told["decision_id"], told["region"], told["energy_j"]) == ("gw-1", "west", 215.5)
    assert told["model"] == "llama"


async def test_a_compressed_body_passes_as_it_is():
    packed = gzip.compress(json.dumps(ASK).encode())
    async with serving() as front:
        status, _, _ = await front.post(CHAT, packed, content_encoding="gzip")
        call = front.director.calls[0]
    assert status == 200
    assert call.payload == packed and ("content-encoding", "gzip") in call.metadata
    assert call.request.model == "llama"


async def test_a_compressed_body_that_has_to_be_changed_goes_on_plain():
    packed = gzip.compress(json.dumps(STREAM).encode())
    async with serving() as front:
        await front.post(CHAT, packed, content_encoding="gzip")
        call = front.director.calls[0]
    assert json.loads(call.payload)["stream_options"] == {"include_usage": True}
    assert "content-encoding" not in dict(call.metadata)


async def test_priority_travels_apart_from_the_body():
    async with serving() as front:
        await front.post(CHAT, b'{"model":"llama","priority":-3,"messages":[]}')
        call = front.director.calls[0]
    assert call.payload == b'{"model":"llama","messages":[]}'
    assert (":priority", "-3") in call.metadata


async def test_models_are_those_that_speak_this_protocol():
    async with serving() as front:
        _, _, body = await front.get("/v1/models")
        _, _, one = await front.get("/v1/models/llama")
        missing, _, refused = await front.get("/v1/models/tensors")
    listed = json.loads(body)
    assert [model["id"] for model in listed["data"]] == ["llama"]
    assert json.loads(one) == listed["data"][0]
    assert listed["data"][0]["max_model_len"] == 8192
    assert missing == 404 and json.loads(refused)["error"]["code"] == "model_unknown"


async def test_health_is_readiness():
    for ready, expected in ((True, 200), (False, 503)):
        async with serving(ready=ready) as front:
            assert (await front.get("/health"))[0] == expected
            async with front.client.head(front.url("/health")) as reply:
                assert reply.status == expected
                assert reply.headers["server"] == "carbon-router"


async def test_a_shed_request_is_told_when_to_come_again():
    async with serving(Script(error=ShedError("full", 0.25))) as front:
        status, headers, body = await front.post(CHAT, ASK)
        _, again, _ = await front.post(CHAT, ASK, x_stainless_retry_count="1")
        assert front.told.seen[0] == ("chat", "llama", "429", "shed")
        arrival = front.told.arrivals[0]
        assert (arrival.protocol, arrival.streamed) == ("openai", False)
        assert dict(arrival.metadata)[":path"] == CHAT
        assert arrival.after_s >= 0.0
    assert (status, headers["retry-after-ms"], headers["retry-after"]) == (429, "250", "1")
    assert "x-should-retry" not in headers and again["x-should-retry"] == "false"
    assert json.loads(body)["error"]["code"] == "shed"


async def test_errors_have_the_shape_of_the_api_that_was_asked():
    async with serving(Script(error=ShedError("full", 0.25))) as front:
        _, _, body = await front.post("/v1/messages", ASK)
        _, _, malformed = await front.post("/v1/messages", b"{", x_request_id="r-7")
    told = json.loads(body)
    assert (told["type"], told["error"]["type"]) == ("error", "rate_limit_error")
    assert json.loads(malformed)["request_id"] == "r-7"


async def test_what_a_server_says_of_a_request_is_passed_on():
    said = b'{"error":{"message":"bad temperature","type":"BadRequestError","code":400}}'
    error = UpstreamRejectedError(
        "bad temperature",
        status="422",
        trailers=(("content-type", "application/json"), (BODY, said)),
    )
    async with serving(Script(error=error)) as front:
        status, _, body = await front.post(CHAT, ASK)
    assert (status, body) == (422, said)


@pytest.mark.parametrize(
    ("path", "begins"),
    [
        (CHAT, b'data: {"error":{'),
        ("/v1/messages", b"event: error\ndata: {"),
        ("/v1/responses", b"event: error\ndata: {"),
    ],
)
async def test_a_stream_that_is_lost_says_so(path, begins):
    director = Script(stream=Routed([CHUNK], error=UpstreamLostError("gone")))
    async with serving(director) as front:
        _, _, answer = await front.post(path, STREAM)
        assert front.told.seen[0][2:] == ("502", "upstream_lost")
    event = answer.removeprefix(CHUNK)
    assert event.startswith(begins) and event.endswith(b"\n\n")
    assert b"upstream_lost" in event and f"after {len(CHUNK)} bytes".encode() in event
    assert DONE not in answer


# Requests sent ahead: beyond a few of them nothing is read any more, nor that the client left.
@pytest.mark.parametrize("ahead", [0, 1000])
@pytest.mark.parametrize("streams", [False, True])
async def test_who_goes_away_cancels_the_call(streams, ahead):
    director = Script(stream=Routed([CHUNK], gate=asyncio.Event()))
    director.release = asyncio.Event()
    async with serving(director) as front:
        body = json.dumps(STREAM if streams else ASK).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await director.started.wait()
        if streams:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(ahead * b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        await writer.drain()
        writer.close()
        async with asyncio.timeout(20.0):
            await (director.routed.closed if streams else director.cancelled).wait()
            await front.told.event.wait()
        assert front.told.seen[0][2:] == ("499", "cancelled")
        assert (front.capacity.calls, front.capacity.held_bytes) == (0, 0)


async def test_a_response_that_is_kept_binds_what_goes_on_from_it():
    kept = b'{"id":"resp_1","object":"response","usage":{"input_tokens":1,"output_tokens":1}}'
    director = Script(kept)
    async with serving(director) as front:
        await front.post("/v1/responses", {"model": "llama", "input": "Hi"})
        again = {"model": "llama", "input": "and", "previous_response_id": "resp_1"}
        status, _, _ = await front.post("/v1/responses", again)
        lost, _, refused = await front.post(
            "/v1/responses", {**again, "previous_response_id": "resp_2"}
        )
        told, _, _ = await front.get("/v1/responses/resp_1?x=1")
        gone, _, _ = await front.get("/v1/responses/resp_2")
    assert (status, lost, told, gone) == (200, 404, 200, 404)
    assert director.calls[1].request.sequence_id == "response resp_1"
    assert json.loads(refused)["error"]["code"] == "response_unknown"
    assert director.asked[0][1] == "GET /v1/responses/resp_1?x=1"


async def test_one_that_is_not_kept_binds_nothing():
    director = Script(b'{"id":"resp_1"}')
    async with serving(director) as front:
        await front.post("/v1/responses", {"model": "llama", "input": "Hi", "store": False})
    assert not director.holders


async def test_anything_else_with_a_model_passes_through():
    audio = Routed([b"\x00\x01", b"\x02"], trailers=(), initial=(("content-type", "audio/mpeg"),))
    async with serving(Script(stream=audio)) as front:
        status, headers, body = await front.post("/v1/audio/speech", {"model": "llama"})
    assert (status, headers["content-type"], body) == (200, "audio/mpeg", b"\x00\x01\x02")


async def test_a_form_names_its_model_too():
    form = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF\r\n'
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nllama\r\n--b--\r\n'
    )
    async with serving() as front:
        kind = "multipart/form-data; boundary=b"
        await front.post("/v1/audio/transcriptions", form, content_type=kind)
        assert front.director.calls[0].request.model == "llama"
        assert front.director.calls[0].payload == form


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/responses/input_tokens"])
async def test_counting_tokens_is_a_question_that_carries_a_prompt(path):
    packed = gzip.compress(json.dumps(ASK).encode())
    async with serving(Script(b'{"input_tokens":3}')) as front:
        status, _, body = await front.post(path, ASK, x_residency="EU")
        zipped, _, _ = await front.post(path, packed, content_encoding="gzip")
    assert (status, zipped, body) == (200, 200, b'{"input_tokens":3}')
    call, method = front.director.asked[0]
    assert method == f"POST {path}" and front.director.carried
    assert call.request.residency == {"eu"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/load_lora_adapter", "/sleep?level=2", "/shutdown", "/api/pull", "/metrics", "//etc",
        "/v1/../admin", "/%2e%2e/x", "/v1/chat/completions/", "/slots/0?action=erase",
    ],
)  # fmt: skip
async def test_what_changes_a_server_is_not_passed_through(path):
    async with serving() as front:
        body = json.dumps(ASK).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        answer = await front.raw(head.encode() + b"connection: close\r\n\r\n" + body)
        assert answer.startswith(b"HTTP/1.1 404") and b"method_unknown" in answer
    assert front.director.calls == []


async def test_the_operator_may_name_further_paths():
    async with serving(Script(stream=Routed([b"x"], trailers=())), paths=("/v1/custom",)) as front:
        assert (await front.post("/v1/custom", ASK))[0] == 200


async def test_a_target_that_is_no_path_is_told_before_anybody_is_asked():
    async with serving() as front:
        head = b"POST http://other/v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
        answer = await front.raw(head + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")


async def test_a_client_that_waits_to_be_told_to_go_on_is_told():
    body = json.dumps(ASK).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
    async with serving() as front:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.parametrize("quoted", ["org/tiny", "org%2Ftiny"])
async def test_names_with_slashes_are_found(quoted):
    async with serving(models=("org/tiny",)) as front:
        front.director.view.snapshot.layout.protocols["org/tiny"] = "openai"
        url = URL(front.url(f"/v1/models/{quoted}"), encoded=True)
        async with front.client.get(url) as reply:
            assert (reply.status, (await reply.json())["id"]) == (200, "org/tiny")


async def test_a_receipt_is_of_its_tenant_alone():
    async with serving(Script(request=Request("llama", tenant="acme"))) as front:
        await front.post(CHAT, ASK)
        path = "/v1/carbon/receipts/gw-1"
        status, _, body = await front.get(path)
        assert (status, json.loads(body)["error"]["code"]) == (404, "receipt_unknown")
        assert (await front.get(path, headers={"x-tenant": "other"}))[0] == 404
        assert (await front.get(path, headers={"x-tenant": "acme"}))[0] == 200


class Elsewhere:
    """The other gateways' receipts."""

    def __init__(self, **rows):
        self.rows = rows

    def offer(self, decision_id, row):
        self.rows[decision_id] = row

    async def find(self, decision_id):
        if decision_id == "lost":
            raise ReceiptsUnreachableError("lost: it may exist there", 1.0)
        return self.rows.get(decision_id)


async def test_a_receipt_of_another_gateway_is_told_to_its_tenant_alone():
    theirs = receipt(decision_id="far", request=Request("llama", tenant="acme"))
    kept = KeptReceipts(None, Elsewhere(far=encode_receipt(theirs)))
    async with serving(receipts=kept) as front:
        path = "/v1/carbon/receipts/far"
        status, _, body = await front.get(path, headers={"x-tenant": "acme"})
        assert (status, json.loads(body)) == (200, receipt_document(theirs))
        for headers in ({}, {"x-tenant": "other"}):
            status, _, body = await front.get(path, headers=headers)
            assert (status, json.loads(body)["error"]["code"]) == (404, "receipt_unknown")
        _, _, nobody = await front.get("/v1/carbon/receipts/fat")
        assert body.replace(b"far", b"fat") == nobody
        status, headers, body = await front.get("/v1/carbon/receipts/lost")
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (503, "receipts_unreachable")
        assert "may exist" in error["message"]
        assert headers["retry-after"] == "1"


async def test_the_holder_of_a_response_is_known_from_its_first_event_on():
    gate = asyncio.Event()
    created = b'event: response.created\ndata: {"response":{"id":"resp_9"}}\n\n'
    director = Script(stream=Routed([created], gate=gate))
    async with serving(director) as front:
        body = {"model": "llama", "input": "Hi", "stream": True}
        async with front.client.post(front.url("/v1/responses"), json=body) as reply:
            await reply.content.readline()
            status, _, _ = await front.get("/v1/responses/resp_9")
            gate.set()
            await reply.read()
    assert status == 200


async def test_turns_of_a_conversation_are_one_sequence():
    async with serving(Script(b"{}")) as front:
        for conversation in ("c-1", {"id": "c-1"}):
            body = {"model": "llama", "input": "Hi", "conversation": conversation}
            await front.post("/v1/responses", body)
        ids = {call.request.sequence_id for call in front.director.calls}
    assert ids == {"conversation c-1"}


@pytest.mark.parametrize(
    "said", ["stream=true", "stream=1", "stream=True", "a=b&stream=on", "str%65am=yes", "stream=2"]
)
async def test_a_stored_response_is_not_streamed_again(said):
    director = Script()
    director.hold("", "", "response resp_1", "west-0")
    async with serving(director) as front:
        path = "/v1/responses/resp_1"
        url = URL(front.url(f"{path}?{said}"), encoded=True)
        async with front.client.get(url) as reply:
            assert reply.status == 501
        assert (await front.get(f"{path}?stream=false&upstream=1"))[0] == 200


async def test_an_answer_without_a_byte_keeps_its_status_and_its_fields():
    empty = Routed([], trailers=(), initial=((":status", "204"), ("x-request-id", "r-1")))
    async with serving(Script(stream=empty)) as front:
        status, headers, body = await front.post("/v1/moderations", ASK)
    assert (status, headers["x-request-id"], body) == (204, "r-1", b"")
    assert headers["x-carbon"].startswith('id="gw-1"')


async def test_bytes_of_a_header_that_are_utf8_stay():
    async with serving() as front:
        await front.post(CHAT, ASK, x_title="é")
        assert ("x-title", "é") in front.director.calls[0].metadata


@pytest.mark.parametrize("path", ["/", "/v2/x", "/v1/chat/completions", "/v1/carbon"])
async def test_what_is_not_served_is_a_404(path):
    async with serving() as front:
        status, _, body = await front.get(path)
    assert status == 404 and json.loads(body)["error"]["code"] == "method_unknown"


STRANGER = {"Host": "evil.example:8080"}


async def test_a_name_that_may_be_a_strangers_is_answered_nothing():
    async with serving(names={"127.0.0.1", "carbon.example.org"}) as front:
        for path in ("/v1/models", "/v1/carbon/receipts/gw-1", "/nothing"):
            status, _, body = await front.get(path, headers=STRANGER)
            told = json.loads(body)["error"]
            assert (status, told["code"]) == (421, "host_unknown")
            assert "server.http_hosts" in told["message"]
        # What a page may send without asking first, too.
        status, _, _ = await front.post(CHAT, ASK, host="evil.example", content_type="text/plain")
        assert status == 421 and front.director.calls == []
        assert (await front.get("/health", headers=STRANGER))[0] == 200
        for name in ("127.0.0.1:8080", "[::1]", "localhost:1", "gateway", "Carbon.Example.org:80"):
            assert (await front.get("/v1/models", headers={"Host": name}))[0] == 200


async def test_where_keys_or_tls_keep_strangers_out_any_name_is_answered():
    async with serving() as front:
        assert (await front.get("/v1/models", headers=STRANGER))[0] == 200
    async with serving(names={"127.0.0.1"}, access=access()) as front:
        status, _, body = await front.get("/v1/models", headers=STRANGER)
        assert (status, json.loads(body)["error"]["code"]) == (401, "invalid_api_key")
