"""What is not decided in Envoy the gateway's own process serves, by the same configuration."""

import asyncio
import gzip
import json

import aiohttp
import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from router._pb import externalscaler_pb2 as scaler_pb
from router._pb.externalscaler_pb2_grpc import ExternalScalerStub
from router.app.envoy import run_folder
from router.planes.envoy.shared_file import SharedFile
from tests.e2e import harness as h
from tests.e2e.test_batches import Batches, line
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig
from tests.ports import free_ports

pytestmark = [hosts.missing, pytest.mark.timeout(300)]

SMALL, LARGE, ALIAS, KEPT, KEPT_CHAT = "small", "large", "any-size", "kept", "kept-chat"
PATH = "/v1/rerank-anew"


def config(folder):
    """Everything of a file that Envoy leaves to the gateway's own process."""
    made = rig.config()
    green, near = made["endpoints"][0], made["endpoints"][2]
    green["models"].append({**green["models"][0], "name": KEPT, "prefix_cache_tokens": 10_000})
    for name in (SMALL, LARGE, KEPT_CHAT):
        near["models"].append({**near["models"][0], "name": name})
    near["models"][-1]["prefix_cache_tokens"] = 10_000
    lengths = made["models"][h.MODEL]
    made["models"] |= dict.fromkeys((SMALL, LARGE, KEPT, KEPT_CHAT), lengths)
    made["aliases"] = {ALIAS: {"source": "made up", "variants": {SMALL: 0.4, LARGE: 0.8}}}
    picker, scaler = free_ports(2)
    made["server"] |= {
        "http_paths": [PATH], "energy_tenants": ["told"],
        "picker": f"127.0.0.1:{picker}", "scaler": f"127.0.0.1:{scaler}",
    }  # fmt: skip
    made["deferral"] = {"dir": "deferred"}
    many = [{"name": f"b{one}", "per": "tenant", "g_per_day": 1e6} for one in range(10)]
    spent = {"per": "tenant", "overrides": {"spent": 1e-9}}
    made["carbon_budget"] = [
        *many, {"name": "later", "on_exhausted": "defer", **spent},
        {**spent, "name": "varied", "overrides": {"varied": 1e-9}, "on_exhausted": "variant"},
    ]  # fmt: skip
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (folder / "sign.pem").write_bytes(pem)
    made["receipts"] = {"sign": {"key_file": "sign.pem"}}
    return made


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("envoy-passed-on")
    with rig.running(folder, config(folder)) as (gateway, _):
        yield gateway


def decided(gateway):
    """How many requests were decided in Envoy."""
    return SharedFile.taken_over(run_folder(gateway.path) / "table").head.decided


async def carbon(gateway, headers=None, **body):
    """(decisions in Envoy that it took, status, items of ``x-carbon``, body)."""
    before = decided(gateway)
    status, fields, said = await gateway.chat(headers, max_tokens=4, **body)
    field = fields.get("x-carbon", "")
    items = dict(item.partition("=")[::2] for item in field.split(", ")) if field else {}
    return decided(gateway) - before, status, items, said


async def test_an_alias_is_passed_on_and_its_variants_are_not(fleet):
    here, status, items, body = await carbon(fleet, model=ALIAS)
    assert (here, status) == (0, 200), body
    assert items["variant"] == f'"{SMALL}"' and json.loads(body)["model"] == SMALL
    here, _, items, _ = await carbon(fleet, {"x-quality-floor": "0.5"}, model=ALIAS)
    assert (here, items["variant"]) == (0, f'"{LARGE}"')
    for model in (SMALL, LARGE, rig.CHAT):
        assert (await carbon(fleet, model=model))[:2] == (1, 200)


async def test_what_may_wait_is_passed_on(fleet):
    assert (await carbon(fleet, service_tier="flex"))[:2] == (0, 200)
    assert (await carbon(fleet, {"x-deadline-s": "60"}))[:2] == (0, 200)
    told = {"agentic_context": {"deadline_seconds": 60}}
    assert (await carbon(fleet, vllm_xargs=told))[:2] == (0, 200)
    assert (await carbon(fleet, service_tier="auto"))[:2] == (1, 200)
    async with fleet.client() as client:
        before = decided(fleet)
        await client.receipt(x_deadline_s=60)
        await client.receipt(h.ask(**{"deadline-s": 60}))
        assert decided(fleet) == before
        code, reason, text = await client.refusal(x_deadline_s="soon")
        assert (code, reason) == ("INVALID_ARGUMENT", "metadata_invalid")
        assert "give a number of seconds" in text


async def test_batches_and_files_are_served(fleet):
    async with aiohttp.ClientSession() as session:
        batches = Batches(session, fleet.config["server"]["http"])
        batch = await batches.begin(line("one", rig.CHAT) + line("two", ALIAS))
        ended = await batches.ended(batch)
        assert ended["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
        answers = await batches.lines(ended["output_file_id"])
        assert {one["custom_id"] for one in answers} == {"one", "two"}
        asked = {"model": rig.CHAT, "input": "hi", "background": True}
        response = await batches.good("POST", "/v1/responses", json=asked)

        async def done():
            found = await batches.good("GET", f"/v1/responses/{response['id']}")
            return found["status"] not in ("queued", "in_progress")

        await h.until(done, "the response's end")


async def test_models_whose_servers_keep_prompts_are_passed_on(fleet):
    assert (await carbon(fleet, model=KEPT_CHAT))[:2] == (0, 200)
    async with fleet.client() as client:
        before = decided(fleet)
        await client.receipt(h.ask(KEPT))
        assert decided(fleet) == before
        await client.receipt()
        assert decided(fleet) == before + 1


async def test_whoever_wants_energy_in_answers_is_passed_on(fleet):
    for headers in ({"x-tenant": "told"}, {"x-energy-data": "true"}):
        here, status, _, body = await carbon(fleet, headers)
        assert (here, status) == (0, 200) and "energy" in json.loads(body)["usage"]
    assert (await carbon(fleet, {"x-tenant": "other"}))[:2] == (1, 200)


async def test_other_paths_are_routed(fleet):
    url = f"http://{fleet.config['server']['http']}{PATH}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json={"model": rig.CHAT, "query": "a"}) as reply,
    ):
        # By the emulated server, which knows none of that name.
        assert reply.status == 404 and "x-carbon" in reply.headers


async def test_receipts_are_signed(fleet):
    _, status, items, _ = await carbon(fleet)
    assert status == 200

    async def told():
        path = f"/v1/carbon/receipts/{items['id'].strip(chr(34))}"
        found, body = await h.get(fleet.config["server"]["http"], path)
        return json.loads(body) if found == 200 else None

    receipt = await h.until(told, "its end")
    assert receipt["jws"].count(".") == 2
    assert (await h.get(fleet.config["server"]["http"], "/v1/carbon/keys"))[0] == 200


async def test_more_than_eight_budgets_have_a_say(fleet):
    here, status, items, _ = await carbon(fleet, {"x-tenant": "plain"})
    assert (here, status) == (1, 200) and "budget_left" in items
    _, status, _, body = await carbon(fleet, {"x-tenant": "spent"})
    assert status == 429 and b"in a batch, or in the background" in body
    # Of a model that is no alias the greenest endpoint is all that is left.
    here, status, items, _ = await carbon(fleet, {"x-tenant": "varied"})
    assert (here, status) == (1, 200) and "carbon_budget_exhausted" in items


async def test_the_scaler_is_listened_on(fleet):
    async with grpc.aio.insecure_channel(fleet.config["server"]["scaler"]) as channel:
        ref = scaler_pb.ScaledObjectRef(name="x", scalerMetadata={"region": "north"})
        assert (await ExternalScalerStub(channel).GetMetricSpec(ref)).metricSpecs


async def test_the_picker_is_listened_on(fleet):
    host, _, port = fleet.config["server"]["picker"].rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()


async def test_what_is_nearly_one_of_our_headers_is_refused_as_natively(fleet):
    _, status, _, body = await carbon(fleet, {"x-residencies": "eu"})
    assert status == 400 and b"did you mean x-residency" in body
    async with fleet.client() as client:
        code, reason, text = await client.refusal(x_tennant="acme")
        assert (code, reason) == ("INVALID_ARGUMENT", "metadata_invalid")
        assert "did you mean x-tenant" in text
    # Two lists hold both.
    url = f"http://{fleet.config['server']['http']}/v1/chat/completions"
    body = {"model": rig.CHAT, "messages": []}
    headers = [("x-residency", "eu, us"), ("x-residency", "us")]
    async with aiohttp.ClientSession() as session:
        async with session.post(url, json=body, headers=headers) as reply:
            assert reply.status == 200, await reply.read()
            assert 'region="here"' in reply.headers["x-carbon"]
        headers = [("x-residency", "eu"), ("x-residency", "us")]
        async with session.post(url, json=body, headers=headers) as reply:
            assert reply.status == 400


async def test_a_page_of_a_strangers_name_is_told_so(fleet):
    _, status, _, _ = await carbon(fleet, {"host": "evil.example.com"})
    assert status == 421
    for own in ("localhost:1", "127.0.0.1"):
        assert (await carbon(fleet, {"host": own}))[:2] == (1, 200)
    # One that is no stranger's, though nobody listed it, costs more and is served.
    assert (await carbon(fleet, {"host": "router.internal"}))[:2] == (0, 200)


async def test_callers_do_not_say_where_they_are_served(fleet):
    assert (await carbon(fleet, {"x-native-plane": "1"}))[:2] == (1, 200)


async def test_what_is_compressed_or_no_post_is_passed_on(fleet):
    url = f"http://{fleet.config['server']['http']}/v1/chat/completions"
    body = json.dumps({"model": rig.CHAT, "messages": []}).encode()
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=gzip.compress(body), headers=headers) as reply:
            assert reply.status == 200, await reply.read()
        async with session.get(url) as reply:
            assert reply.status == 404
