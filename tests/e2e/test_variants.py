"""Aliases as processes, over both protocols: which variant ran, by what floor, and what is told."""

import json

import aiohttp
import pytest

from router._pb.inference_pb2 import ModelInferResponse
from tests.e2e.harness import MODEL, Gateway, answers, ask, base, emulator, endpoint, until
from tests.e2e.test_http import CHAT, Http, all_healthy, body
from tests.ports import free_ports

SMALL, LARGE, QUICK = "small", "large", "quick"


def of_size(size, name):
    return {"name": name, "profile": f"{size}@test", "context_tokens": 10_000}


@pytest.fixture(scope="module")
def place(spawn_once):
    """Two sizes over each protocol; over gRPC both on one endpoint."""
    front, *ports = free_ports(4)
    addresses = [f"127.0.0.1:{port}" for port in ports]
    both = endpoint("both", "north", addresses[0], emulated=True)
    both["models"] = [of_size("small", MODEL), of_size("large", QUICK)]
    chat = []
    for name, address in ((SMALL, addresses[1]), (LARGE, addresses[2])):
        one = endpoint(f"chat-{name}", "north", address, protocol="openai", emulated=True)
        one["models"] = [of_size(name, name)]
        chat.append(one)
    config = base([both, *chat])
    small = config["profiles"].pop("fast@test")
    config["profiles"] = {"small@test": small, "large@test": {**small, "tpot_base_ms": 10}}
    lengths = config["models"][MODEL]
    config["models"] = dict.fromkeys((MODEL, QUICK, SMALL, LARGE), lengths)
    config["server"]["http"] = f"127.0.0.1:{front}"
    config["aliases"] = {
        "chat": {
            "source": "made up", "variants": {SMALL: 0.4, LARGE: 0.8},
            "tenants": {"gold": {"floor": 0.8}, "mean": {"mean_floor": 0.6}},
        },
        # What emulated servers answer begins with their names.
        "judged": {
            "source": "made up", "variants": {SMALL: 0.4, LARGE: 0.8},
            "judge": {"kind": "rules", "phrases": ["CHAT-SMALL"]},
        },
        "oip-chat": {"source": "made up", "variants": {MODEL: 0.4, QUICK: 0.8}},
    }  # fmt: skip
    config["carbon_budget"] = [
        {"name": "spent", "per": "tenant", "overrides": {"gold": 1e-9}, "on_exhausted": "variant"}
    ]
    spawn_once(emulator, config)
    return spawn_once(Gateway, config)


@pytest.fixture
async def http(place):
    await until(lambda: all_healthy(place), "every endpoint healthy")
    async with aiohttp.ClientSession() as session:
        yield Http(session, place.config["server"]["http"])


async def test_over_http_the_least_grams_answer_unless_a_floor_holds(http):
    told = await http.carbon(body(model="chat"))
    assert (told["variant"], told["quality"]) == (SMALL, "0.4")
    told = await http.carbon(body(model="chat"), x_quality_floor=0.5)
    assert (told["variant"], told["quality"]) == (LARGE, "0.8")
    answer = await http.json(CHAT, body(model="chat"))
    assert answer["model"] == SMALL
    status, _, said = await http.post(CHAT, body(model="chat"), x_quality_floor=0.9)
    assert (status, json.loads(said)["error"]["code"]) == (400, "metadata_invalid")
    # By its own name a model is no variant.
    assert "variant" not in await http.carbon(body(model=LARGE))


async def test_the_receipt_says_what_the_others_would_have_emitted(http):
    told = await http.carbon(body(model="chat"), x_quality_floor=0.5)
    url = f"http://{http.address}/v1/carbon/receipts/{told['id']}"
    async with http.session.get(url) as reply:
        receipt = await reply.json()
    assert (receipt["model"], receipt["alias"], receipt["variant"]) == ("chat", "chat", LARGE)
    assert (receipt["quality"], receipt["quality_floor"]) == (0.8, 0.5)
    name, _, figures = receipt["other_variants"].partition(": ")
    quality, _, gco2e = figures.partition(", ")
    assert (name, quality) == (SMALL, "quality=0.4")
    assert 0.0 < float(gco2e.removeprefix("gco2e=")) < receipt["predicted_gco2e"]


async def test_streams_name_the_variant_and_models_are_listed_with_their_aliases(http):
    async with http.session.get(f"http://{http.address}/v1/models") as reply:
        listed = {one["id"] for one in (await reply.json())["data"]}
    assert {"chat", "judged", SMALL, LARGE} == listed
    asked = body(model="chat", stream=True, metadata={"model": "chat"})
    status, fields, stream = await http.post(CHAT, asked, x_quality_floor=0.8)
    assert status == 200
    assert f'variant="{LARGE}"' in fields["x-carbon"]
    events = [line[6:] for line in stream.splitlines() if line.startswith(b"data: {")]
    assert {json.loads(event)["model"] for event in events} == {LARGE}


async def test_a_mean_is_kept_from_the_first_request_on(http):
    seen = [
        float((await http.carbon(body(model="chat"), x_tenant="mean"))["quality"]) for _ in "x" * 6
    ]
    means = [sum(seen[: n + 1]) / (n + 1) for n in range(len(seen))]
    assert min(means) >= 0.6
    assert set(seen) == {0.4, 0.8}


async def test_an_answer_that_is_not_accepted_is_the_better_ones_and_both_are_told(http):
    asked = body(model="judged", output_tokens=9)
    status, fields, said = await http.post(CHAT, asked, accept_encoding="gzip")
    assert (status, json.loads(said)["model"]) == (200, LARGE)
    assert "chat-large" in json.loads(said)["choices"][0]["message"]["content"]
    told = dict(part.partition("=")[::2] for part in fields["x-carbon"].split(", "))
    assert (told["variant"], told["attempts"]) == (f'"{LARGE}"', "2")
    assert "escalated" in told
    decision_id = told["id"].strip('"')
    async with http.session.get(f"http://{http.address}/v1/carbon/receipts/{decision_id}") as reply:
        receipt = await reply.json()
    assert receipt["variant"] == LARGE
    assert 0.0 < receipt["lost_attempts_gco2e"] < receipt["gco2e"]
    # A stream is written as it comes: nobody can judge it before.
    streamed = await http.carbon(body(model="judged", stream=True))
    assert streamed["variant"] == SMALL
    assert "escalated" not in streamed


async def test_where_grams_are_spent_the_agreed_floor_gives_way_and_the_callers_does_not(http):
    told = await http.carbon(body(model="chat"), x_tenant="gold")
    assert told["variant"] == SMALL
    assert {"carbon_budget_exhausted", "quality_floor_dropped", "greenest_only"} <= told.keys()
    told = await http.carbon(body(model="chat"), x_tenant="gold", x_quality_floor=0.8)
    assert told["variant"] == LARGE


async def test_where_grams_are_spent_what_is_not_accepted_stands(http):
    # The first takes what there is.
    await http.carbon(body(model="judged", output_tokens=9), x_tenant="gold")
    told = await http.carbon(body(model="judged", output_tokens=9), x_tenant="gold")
    assert told["variant"] == SMALL
    assert {"carbon_budget_exhausted", "greenest_only", "not_accepted"} <= told.keys()
    assert "escalated" not in told
    # Whoever has grams left goes on.
    told = await http.carbon(body(model="judged", output_tokens=9), x_tenant="other")
    assert told["variant"] == LARGE and "escalated" in told


async def test_over_grpc_one_endpoint_serves_either_variant(place):
    async with place.client() as client:
        receipt = await client.receipt(ask("oip-chat"))
        assert (receipt["alias"], receipt["variant"]) == ("oip-chat", MODEL)
        receipt = await client.receipt(ask("oip-chat"), x_quality_floor="0.8")
        assert receipt["variant"] == QUICK
        answer = ModelInferResponse.FromString(await client.infer(ask("oip-chat")))
        assert answer.model_name == MODEL
        stream = client.stream(ask("oip-chat"), metadata=(("x-quality-floor", "0.8"),))
        told = answers([message async for message in stream])
        assert {one.infer_response.model_name for one in told} == {QUICK}
        refusal = await client.refusal(ask("oip-chat"), x_quality_floor="1.5")
        assert refusal[:2] == ("INVALID_ARGUMENT", "metadata_invalid")
