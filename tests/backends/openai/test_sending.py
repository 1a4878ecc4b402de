"""What a request asks of the server beside what its caller asks."""

import pytest

from router.backends.openai.backend import HttpBackend
from router.backends.openai.sending import sending
from router.contract import Probe
from tests.backends.openai.upstreams import CHAT, http_upstream
from tests.factories import endpoint

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
