"""OpenAI's and Anthropic's HTTP before emulated endpoints, as processes with shipped defaults."""

import asyncio
import contextlib
import json
import signal

import aiohttp
import grpc
import pytest

from tests.e2e.conftest import closing_children
from tests.e2e.harness import (
    GREEN,
    MODEL,
    NEAR,
    Client,
    Gateway,
    ask,
    base,
    emulator,
    endpoint,
    get,
    pair,
    until,
)
from tests.ports import free_ports

CHAT = "/v1/chat/completions"


def body(**changes):
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hello there"}]}
    return {**asked, "output_tokens": 4, **changes}


class Http:
    """A client of one gateway's HTTP."""

    def __init__(self, session, address):
        self.session = session
        self.address = address

    async def post(self, path=CHAT, payload=None, **headers):
        named = {key.replace("_", "-"): str(value) for key, value in headers.items()}
        url = f"http://{self.address}{path}"
        async with self.session.post(url, json=payload or body(), headers=named) as reply:
            return reply.status, reply.headers, await reply.read()

    async def json(self, path=CHAT, payload=None, **headers):
        status, _, answer = await self.post(path, payload, **headers)
        assert status == 200, answer
        return json.loads(answer)

    async def carbon(self, payload=None, **headers):
        """The ``x-carbon`` field of an answer, as a dictionary."""
        status, fields, answer = await self.post(CHAT, payload, **headers)
        assert status == 200, answer
        pairs = (part.partition("=") for part in fields["x-carbon"].split(", "))
        return {name: value.strip('"') for name, _, value in pairs}


def events(stream):
    return [event for event in stream.split(b"\n\n") if event]


@contextlib.contextmanager
def fleet(folder, **changes):
    """A gateway before two endpoints that speak HTTP, and one that speaks gRPC."""
    http, oip = free_ports(2)
    endpoints = [
        *pair(protocol="openai"),
        {
            **endpoint("tensors-0", "here", f"127.0.0.1:{oip}"),
            "models": [{"name": "tensors", "profile": "fast@test"}],
        },
    ]
    config = base(endpoints)
    config["server"] = {**config["server"], "http": f"127.0.0.1:{http}"}
    config["models"]["tensors"] = config["models"][MODEL]
    config.update(changes)
    with closing_children() as children:
        gateway = Gateway(folder, config)
        children.append(gateway)
        children.append(emulator(folder, config))
        yield gateway, children[1], config["server"]["http"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("http")) as made:
        yield made


@pytest.fixture
async def client(running):
    gateway, _, address = running
    async with aiohttp.ClientSession() as session:
        client = Http(session, address)
        await until(lambda: all_healthy(gateway), "every endpoint up")
        yield client
        await until(gateway.idle, "every request ended")


async def test_without_a_budget_the_greener_region_answers(client):
    told = await client.carbon()
    assert (told["region"], told["endpoint"], told["kind"]) == ("north", GREEN, "annual_mean")
    assert float(told["g_per_kwh"]) == 20.0


async def test_a_budget_that_it_cannot_meet_takes_the_nearer_one(client):
    assert (await client.carbon(x_ttft_budget_ms=40))["endpoint"] == NEAR


async def test_residency_by_header_and_by_body(client):
    assert (await client.carbon(x_residency="us"))["endpoint"] == NEAR
    status, _, answer = await client.post(x_residency="mars")
    assert status == 400
    assert json.loads(answer)["error"]["code"] == "data_residency_mismatch"


async def test_what_a_client_asks_again_is_counted_beside_all_requests(client, running):
    gateway, *_ = running
    retry = {
        "maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.01s",
        "backoffMultiplier": 1, "retryableStatusCodes": ["NOT_FOUND"],
    }  # fmt: skip
    policy = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": retry}]})
    options = [("grpc.service_config", policy), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(gateway.address, options=options) as channel:
        code, *_ = await Client(channel).refusal(ask(model="nobody's"))
    assert code == "NOT_FOUND"
    for retries in (0, 1, 2):
        await client.post(x_stainless_retry_count=retries)
    assert (await client.post(payload={"n": 1}, x_stainless_retry_count=1))[0] == 400

    async def counted():
        again = [
            await gateway.total("client_retries_total", model=model, code=code)
            for model, code in ((MODEL, "OK"), ("other", "NOT_FOUND"), ("other", "400"))
        ]
        return again == [2.0, 2.0, 1.0]

    await until(counted, "what was asked again being counted")


async def test_every_api_answers_and_has_a_receipt(client, running):
    *_, address = running
    asked = {
        "/v1/completions": {"model": MODEL, "prompt": "Hello", "output_tokens": 4},
        "/v1/embeddings": {"model": MODEL, "input": ["Hello", "there"]},
        "/v1/responses": {"model": MODEL, "input": "Hello", "output_tokens": 4},
        "/v1/messages": {**body(), "max_tokens": 64},
        CHAT: body(),
    }
    for path, payload in asked.items():
        status, fields, answer = await client.post(path, payload)
        assert status == 200, (path, answer)
        decision_id = fields["x-carbon"].partition('"')[2].partition('"')[0]
        found, receipt = await get(address, f"/v1/carbon/receipts/{decision_id}")
        assert found == 200, path
        told = json.loads(receipt)
        assert told["energy_kind"] == "emulated" and told["energy_j"] > 0.0
        assert told["model"] == MODEL
        if path != "/v1/embeddings":
            assert (told["output_tokens"], told["tokens_kind"]) == (4.0, "reported")
            assert "report" not in told.get("flags", "")


async def test_an_answer_tells_the_load_of_a_server_whose_page_nobody_reads(client, running):
    gateway, *_ = running
    told = await client.carbon()
    _, snapshot = await get(gateway.admin, "/snapshot")
    found = {one["name"]: one["load"] for one in json.loads(snapshot)["endpoints"]}
    load = found[told["endpoint"]]
    assert (load["source"], load["queued"], load["kv_fraction"]) == ("orca", 0.0, 0.0)
    # It says nothing of what runs: unknown, not none.
    assert load["running"] is None and 0.0 <= load["age_s"] < 10.0


async def test_a_stream_ends_with_what_it_took(client):
    payload = body(stream=True, output_tokens=6, stream_options={"include_usage": True})
    status, fields, answer = await client.post(CHAT, payload, x_energy_data="true")
    *before, comment, done = events(answer)
    assert status == 200 and done == b"data: [DONE]" and "x-carbon" in fields
    energy = json.loads(comment.removeprefix(b": energy "))
    usage = json.loads(before[-1].removeprefix(b"data: "))["usage"]
    assert usage["completion_tokens"] == 6 and usage["energy"] == energy
    assert energy["source"] == "emulated" and energy["region"] == "north"
    assert energy["wh"] * 3600.0 == pytest.approx(energy["joules"], rel=1e-4)
    assert answer.count(b": energy") == 1


async def test_who_did_not_ask_sees_nothing_of_it(client):
    _, _, answer = await client.post(CHAT, body(stream=True, output_tokens=6))
    assert events(answer)[-1] == b"data: [DONE]"
    assert b"energy" not in answer.replace(b"[emulated", b"") and b'"usage":{' not in answer


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_streams_of_named_events_end_with_theirs(client, path):
    payload = {**body(stream=True), "input": "Hello", "max_tokens": 64}
    if path == "/v1/responses":
        del payload["messages"], payload["max_tokens"]
    status, _, answer = await client.post(path, payload, x_energy_data="1")
    *_, comment, last = events(answer)
    assert status == 200, answer
    assert comment.startswith(b": energy {")
    assert last.startswith((b"event: message_stop", b"event: response.completed"))


async def test_the_second_turn_of_a_response_goes_where_the_first_is(client):
    first = {"model": MODEL, "input": "Hello", "output_tokens": 4}
    status, fields, answer = await client.post("/v1/responses", first, x_residency="us")
    assert status == 200 and f'endpoint="{NEAR}"' in fields["x-carbon"]
    again = {**first, "previous_response_id": json.loads(answer)["id"]}
    for _ in range(3):
        status, fields, _ = await client.post("/v1/responses", again)
        assert status == 200 and f'endpoint="{NEAR}"' in fields["x-carbon"]


async def test_models_of_this_protocol_are_listed_and_those_of_the_other_told_apart(
    client, running
):
    gateway, _, address = running
    _, listed = await get(address, "/v1/models")
    assert [model["id"] for model in json.loads(listed)["data"]] == [MODEL]
    status, _, answer = await client.post(CHAT, body(model="tensors"))
    assert status == 404 and "served over oip" in json.loads(answer)["error"]["message"]
    async with gateway.client() as grpc:
        assert (await grpc.receipt(ask("tensors")))["endpoint"] == "tensors-0"
        code, reason, _ = await grpc.refusal(ask(MODEL))
        assert (code, reason) == ("NOT_FOUND", "model_unknown")


async def test_a_client_that_goes_away_frees_the_endpoint(client, running):
    gateway, *_ = running
    payload = body(stream=True, output_tokens=100_000, max_tokens=100_000)
    url = f"http://{client.address}{CHAT}"
    async with client.session.post(url, json=payload) as reply:
        await reply.content.readline()
        assert await gateway.in_flight() == 1
        reply.close()
    await until(gateway.idle, "the request ended")
    assert await gateway.total("requests_total", code="499") >= 1.0


async def all_healthy(gateway):
    return all(one["state"] == "healthy" for one in (await gateway.endpoints()).values())


async def test_a_stream_under_way_ends_well_when_the_gateway_is_told_to_stop(running):
    """The last of this gateway."""
    gateway, _, address = running
    async with aiohttp.ClientSession() as session:
        client = Http(session, address)

        async def served():
            return (await client.post())[0] == 200

        await until(served, "an answer")
        payload = body(stream=True, output_tokens=1500, max_tokens=1500)
        async with session.post(f"http://{address}{CHAT}", json=payload) as reply:
            await reply.content.readline()
            gateway.tell(signal.SIGTERM)
            rest = await reply.read()
        assert events(rest)[-1] == b"data: [DONE]"
        assert await asyncio.to_thread(gateway.wait) == 0


async def test_a_server_with_a_shorter_context_gets_what_fits_there(tmp_path):
    """What servers state holds against what is configured, and where nothing is."""
    http, grpc, admin = free_ports(3)
    bare = {"name": MODEL, "profile": "fast@test"}
    config = base(pair(protocol="openai", models=[{**bare, "context_tokens": 100_000}]))
    config["endpoints"][1]["models"] = [bare]
    address = f"127.0.0.1:{http}"
    config["server"] = {
        "listen": f"127.0.0.1:{grpc}", "admin": f"127.0.0.1:{admin}", "http": address,
    }  # fmt: skip
    as_they_are = json.loads(json.dumps(config))
    as_they_are["endpoints"][0]["models"][0]["context_tokens"] = 512
    as_they_are["endpoints"][1]["models"][0]["context_tokens"] = 4096
    with closing_children() as children:
        children.append(emulator(tmp_path, as_they_are))
        gateway = Gateway(tmp_path, config)
        children.append(gateway)

        async def told():
            served = [one["served"][0] for one in (await gateway.endpoints()).values()]
            return [(one["context_tokens"], one["context_source"]) for one in served]

        async def known():
            return await told() == [(512.0, "server"), (4096.0, "server")]

        await until(known, "both contexts being told")
        async with aiohttp.ClientSession() as session:
            client = Http(session, address)
            assert (await client.carbon())["endpoint"] == GREEN
            long = body(messages=[{"role": "user", "content": "word " * 3000}])
            assert (await client.carbon(long))["endpoint"] == NEAR
        status, listed = await get(address, "/v1/models")
        assert (status, json.loads(listed)["data"][0]["max_model_len"]) == (200, 512)
        (line,) = gateway.events(
            "server has a shorter context than is configured: longer requests go elsewhere"
        )
        assert (line["endpoint"], line["context_tokens"], line["configured"]) == (GREEN, 512, 1e5)
