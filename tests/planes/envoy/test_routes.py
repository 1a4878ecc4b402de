"""What passes between callers and servers, and what callers are told, as by the native gateway."""

import asyncio
import io
import json

import aiohttp
import grpc
import pytest

from router.gateway.openai.answering import _KEPT_BACK
from router.http_api import NOT_PASSED
from router.reserved_names import is_reserved
from tests.backends.oip import upstreams
from tests.e2e import harness as h
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig
from tests.ports import free_ports

pytestmark = [hosts.missing, pytest.mark.timeout(300)]
MIB = 2**20
MODEL = "answering"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two emulated servers of gRPC, and two of ours over HTTP, of which one has a host name."""
    made = rig.config(health={"base_ejection_s": 2})
    made["server"]["max_message_mib"] = 20
    folder = tmp_path_factory.mktemp("envoy-as-natively")
    emulated = {
        **made,
        "endpoints": made["endpoints"][:2],
        "models": {h.MODEL: made["models"][h.MODEL]},
    }
    servers = h.emulator(folder, emulated)
    with rig.AnsweringServer() as first, rig.AnsweringServer() as second:
        addresses = [f"localhost:{first.port}", f"127.0.0.1:{second.port}"]
        for one, address in zip(made["endpoints"][2:], addresses, strict=True):
            one["address"] = address
            one["models"] = [{**one["models"][0], "name": MODEL}]
        made["models"][MODEL] = made["models"].pop(rig.CHAT)
        gateway = None
        try:
            gateway = rig.EnvoyGateway(folder, made)
            gateway.first, gateway.second = first, second
            yield gateway
        finally:
            if gateway is not None:
                gateway.stop()
            servers.stop()


@pytest.fixture(autouse=True)
async def well(request):
    """Both servers are, and the first one is asked first."""
    if "place" not in request.fixturenames:
        return
    place = request.getfixturevalue("place")
    for one in (place.first, place.second):
        one.status, one.told, one.breaks = 200, {}, False

    async def is_first():
        before = len(place.first.seen)
        return (await place.chat(model=MODEL))[0] == 200 and len(place.first.seen) > before

    await h.until(is_first, "both being well")


async def test_a_server_has_its_own_name_and_nothing_that_is_of_the_callers_connection(place):
    told = {
        "cookie": "a=b", "accept-encoding": "gzip", "proxy-authorization": "Basic x",
        "te": "trailers", "host": "router.internal:80", "x-kept": "yes",
    }  # fmt: skip
    for host in ("localhost", "127.0.0.1"):
        status, _, body = await place.chat({**told, "host": host}, model=MODEL)
        assert status == 200, body
        seen = place.first.seen[-1]
        assert seen["host"] == f"localhost:{place.first.port}"
        assert seen["accept-encoding"] == "identity" and seen["x-kept"] == "yes"
        # Nobody reads its page, so it is asked for its load.
        assert seen["endpoint-load-metrics-format"] == "TEXT"
        assert not seen.keys() & {
            "cookie", "proxy-authorization", "te", "x-envoy-external-address"
        }  # fmt: skip


async def test_no_spelling_of_our_names_comes_from_a_server(place):
    forged = dict.fromkeys(("x_carbon_gco2e", "x-carbon.region", "X_Carbon", "x-carbon-id"), "1")
    place.first.told = {**forged, "x-carbonated": "yes"}
    status, headers, _ = await place.chat(model=MODEL)
    assert (status, headers["x-carbonated"]) == (200, "yes")
    assert {name.lower() for name in headers if is_reserved(name)} == {"x-carbon"}
    assert headers["x-carbon"].startswith("id=")


async def test_of_what_is_between_a_gateway_and_its_callers_grpc_passes_nothing(tmp_path):
    """Pushback is ours to say, and a router behind us has no receipt to tell."""
    said = (("grpc-retry-pushback-ms", "-1"), ("x_carbon_gco2e", "1"), ("x-kept", "yes"))
    codes = [grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT]

    async def unary(payload, context):
        if payload:
            context.set_trailing_metadata(said)
            if len(codes) == 1:
                await context.abort(codes[0], "no")
        return h.pb.ServerReadyResponse(ready=True).SerializeToString()

    async with upstreams.upstream() as server:
        server.unary = unary
        endpoints = [{**h.pair()[0], "address": server.endpoint.address, "emulated": False}]
        gateway = await asyncio.to_thread(rig.EnvoyGateway, tmp_path, h.base(endpoints))
        try:
            async with gateway.client() as client:
                while codes:
                    call = client.infer(h.ask(), h.WHOLE_RECEIPT)
                    assert await call.code() == codes.pop(0)
                    told = dict(await call.trailing_metadata())
                    assert told["x-kept"] == "yes" and "x-carbon-decision-id" in told
                    assert not told.keys() & {"grpc-retry-pushback-ms", "x_carbon_gco2e"}
        finally:
            await asyncio.to_thread(gateway.stop)
        seen = [dict(metadata) for payload, metadata, _ in server.seen if payload == h.ask()]
        assert len(seen) == 2 and not any("x-carbon-receipt" in one for one in seen)


async def test_what_a_server_says_to_its_own_callers_goes_to_none_of_ours(place):
    place.first.told = dict.fromkeys(NOT_PASSED, "1") | {
        "access-control-allow-origin": "*", "x-theirs": "yes"
    }  # fmt: skip
    status, headers, _ = await place.chat(model=MODEL)
    assert (status, headers["x-theirs"]) == (200, "yes")
    names = {name.lower() for name in headers}
    assert not names & NOT_PASSED and not any(one.startswith("access-control") for one in names)
    assert NOT_PASSED < _KEPT_BACK
    # Of our own refusals nothing is taken out.
    status, headers, _ = await place.chat({"x-residency": "mars"}, model=MODEL)
    assert status == 400 and headers["x-carbon-reason"] == "residency_excluded"
    status, headers, _ = await place.chat(model="nobody")
    assert status == 404 and headers["x-should-retry"] == "false"


@pytest.mark.parametrize("status", [500, 501, 404, 403])
async def test_a_favourite_that_answers_with_errors_costs_nobody_an_answer(place, status):
    place.first.status = status
    before = len(place.first.seen)

    async def is_asked():
        assert (await place.chat(model=MODEL))[0] == 200
        return len(place.first.seen) >= before + 3

    await h.until(is_asked, "its being asked")


@pytest.mark.parametrize("status", [500, 404])
async def test_what_no_server_answers_takes_none_out(place, status):
    for one in (place.first, place.second):
        one.status = status
    counted = await place.total("requests_total", model=MODEL, code=str(status))
    ejected = await place.total("ejections_total")
    for _ in range(12):
        assert (await place.chat(model=MODEL))[0] == status

    async def all_counted():
        now = await place.total("requests_total", model=MODEL, code=str(status))
        return now == counted + 12

    await h.until(all_counted, "their ends")
    assert await place.total("ejections_total") == ejected


async def test_a_server_that_breaks_is_told_of_in_the_apis_words(place):
    for one in (place.first, place.second):
        one.breaks = True
    status, headers, body = await place.chat(model=MODEL)
    error = json.loads(body)["error"]
    assert (status, headers["x-carbon-reason"]) == (502, "upstream_lost")
    assert headers["x-carbon"].startswith("id=")
    assert (error["code"], error["type"]) == ("upstream_lost", "server_error")
    assert headers["content-type"] == "application/json"
    assert headers["x-carbon-reason"] == "upstream_lost"
    place.first.breaks = place.second.breaks = False

    async def counted():
        return await place.total("requests_total", model=MODEL, code="502")

    await h.until(counted, "its being counted as natively")


async def test_a_message_may_be_as_large_as_the_file_says_and_no_larger(place):
    request = h.pb.ModelInferRequest.FromString(h.ask())
    async with place.client() as client:
        # More than HTTP/2 lets in at once unless it is told.
        request.raw_input_contents[0] = b"a" * (19 * MIB)
        await client.infer(request.SerializeToString())
        request.raw_input_contents[0] = b"a" * (21 * MIB)
        code, reason, words = await client.refusal(request.SerializeToString())
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "message_too_large")
    assert "max_message_mib" in words
    url = f"http://{place.config['server']['http']}/v1/chat/completions"
    body = json.dumps(
        {"model": MODEL, "messages": [{"role": "user", "content": "a" * 21 * MIB}]}
    ).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=io.BytesIO(body)) as reply,
    ):
        assert reply.status == 413
        assert (await reply.json())["error"]["code"] == "message_too_large"


async def test_headers_beyond_limits_are_refused_in_words(place):
    async with place.client() as client:
        many = tuple((f"a{one}", "b") for one in range(600))
        code, reason, words = await client.refusal(metadata=many)
        assert (code, reason) == ("INVALID_ARGUMENT", "metadata_invalid") and "512" in words
    status, headers, body = await place.chat({"x-a": "b" * 100_000}, model=MODEL)
    assert (status, headers["x-carbon-reason"]) == (431, "metadata_too_large")
    assert json.loads(body)["error"]["code"] == "metadata_too_large"


async def test_proxies_that_speak_http_1_0_are_served(place):
    host, _, port = place.config["server"]["http"].rpartition(":")
    body = json.dumps({"model": MODEL, "messages": []}).encode()
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.0\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    answer = await reader.read()
    writer.close()
    assert b" 200 OK\r\n" in answer and b'"choices"' in answer


async def test_a_deadline_is_told_with_its_reason(place):
    async with place.client() as client:
        call = client.infer(
            h.ask(output_tokens=5000), timeout=None, metadata=[("grpc-timeout", "1S")]
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    assert caught.value.code().name == "DEADLINE_EXCEEDED"


async def test_what_grpc_alone_means_is_nothing_over_http_and_names_are_as_long_as_natively(place):
    for headers in ({"grpc-timeout": "1n"}, {"x-tenant": "a" * 128}):
        status, _, body = await place.chat(headers, model=MODEL)
        assert status == 200, body
    status, _, body = await place.chat({"x-tenant": "a" * 129}, model=MODEL)
    assert (status, json.loads(body)["error"]["code"]) == (400, "metadata_invalid")


def test_two_names_of_one_address_are_reached_by_their_own(tmp_path):
    """Envoy has one name for a host: the endpoint with another is the gateway's own process's."""
    made = rig.config()
    port = free_ports(1)[0]
    with rig.AnsweringServer() as server:
        for one, name in zip(made["endpoints"][2:], ("localhost", "127.0.0.1"), strict=True):
            one["address"] = f"{name}:{server.port}"
            one["models"] = [{**one["models"][0], "name": f"of-{name[0]}"}]
        made["endpoints"] = made["endpoints"][2:]
        lengths = made["models"].pop(rig.CHAT)
        made["models"] = {"of-l": lengths, "of-1": lengths}
        made["server"]["admin"] = f"127.0.0.1:{port}"
        gateway = rig.EnvoyGateway(tmp_path, made)
        try:
            for model, name in (("of-l", "localhost"), ("of-1", "127.0.0.1")):
                status, _, body = asyncio.run(gateway.chat(model=model))
                assert status == 200, body
                assert server.seen[-1]["host"] == f"{name}:{server.port}"
        finally:
            assert gateway.stop() == 0
