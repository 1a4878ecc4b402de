"""What a request asks of the server beside what its caller asks."""

import pytest

from router.backends.openai.backend import HttpBackend
from router.backends.openai.sending import end_to_end, sending
from router.contract import Probe
from router.trust.access import AccessTable, EndpointKey
from router.trust.secrets import Secret
from tests.backends.openai.upstreams import CHAT, http_upstream
from tests.factories import endpoint
from tests.fakes.secure import Source

FORMAT = "endpoint-load-metrics-format"


def fields(metrics_url="", metadata=CHAT, target=""):
    there = endpoint("a", "near", protocol="openai", metrics_url=metrics_url)
    return sending(there, b"{}", metadata, target).fields


def test_load_is_asked_for_where_no_page_is_read():
    assert fields().getall(FORMAT) == ["TEXT"]
    assert FORMAT not in fields("http://127.0.0.1:9/metrics")


@pytest.mark.parametrize("metrics_url", ["", "http://127.0.0.1:9/metrics"])
def test_what_the_caller_asked_for_stays(metrics_url):
    assert fields(metrics_url, (*CHAT, (FORMAT, "JSON"))).getall(FORMAT) == ["JSON"]


@pytest.mark.parametrize("target", ["", "GET /v1/responses/resp_1"])
def test_names_that_are_ours_do_not_travel(target):
    ours = (("x-carbon", "0"), ("x-carbon-gco2e", "0"), ("x_carbon_gco2e", "0"), ("x-other", "1"))
    sent = fields(metadata=(*CHAT, *ours), target=target)
    assert sent["x-other"] == "1"
    assert not any("carbon" in key for key in sent)


def test_cookies_end_here():
    assert "cookie" not in fields(metadata=(*CHAT, ("cookie", "sso=1")))


def test_questions_ask_for_no_load():
    assert FORMAT not in fields(target="GET /v1/models", metadata=())


async def test_over_a_socket_the_report_comes_back():
    report = ("endpoint-load-metrics", "TEXT named_metrics.num_requests_waiting=2.0")
    backend = HttpBackend()

    async def answer(_, context):
        if (FORMAT, "TEXT") in tuple(context.fields):
            context.set_trailing_metadata((report,))
        return b"{}"

    try:
        async with http_upstream() as server:
            server.unary = answer
            reply = await backend.unary(server.endpoint, b"{}", CHAT, 15.0)
            assert await backend.probe(server.endpoint, 15.0) is Probe.READY
    finally:
        await backend.close()
    assert report in reply.trailers


def test_fields_of_one_hop_end_here():
    """Of every ``connection``, in any case; what a body is read by stays."""
    named = (
        ("connection", "X-Hop, content-type"), ("connection", "x-other,:path"),
        ("content-type", "application/json"), ("x-hop", "1"), ("x-other", "1"), ("x-end", "1"),
    )  # fmt: skip
    sent = sending(endpoint("a", "near"), b"{}", end_to_end((*CHAT, *named)))
    assert sent.path == "/v1/chat/completions"
    assert sent.fields["content-type"] == "application/json" and "x-end" in sent.fields
    assert not {"x-hop", "x-other", "connection"} & set(sent.fields)


@pytest.mark.parametrize("header", ["authorization", "x-provider-key"])
async def test_no_caller_has_the_key_of_a_server_left_out(header):
    access = AccessTable()
    backend = HttpBackend(access=access)
    seen = []

    async def answer(_, context):
        seen.append(dict(context.fields).get(header))
        return b"{}"

    try:
        async with http_upstream() as server:
            server.unary = answer
            address = server.endpoint.address
            access.adopt([address], {}, {address: EndpointKey(header, "", Source(Secret("KEY")))})
            asked = (*CHAT, ("connection", f"close, {header.title()}"), (header, "a caller's"))
            await backend.unary(server.endpoint, b"{}", asked, 15.0)
    finally:
        await backend.close()
    assert seen == ["KEY"]
