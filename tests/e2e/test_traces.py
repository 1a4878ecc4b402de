"""Traces of real processes, as a collector gets them and as a server behind them sees them."""

import asyncio
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import ClassVar

import grpc
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from router._pb import inference_pb2 as pb
from tests.e2e.harness import (
    MODEL,
    Gateway,
    ask,
    base,
    emulator,
    endpoint,
    get,
    pair,
    until,
)
from tests.e2e.test_http import body
from tests.fakes.otlp_collector import Collector, attributes
from tests.ports import free_ports

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"


class Server:
    """A model server by gRPC that answers all that it is asked, and keeps its headers."""

    def __init__(self, port):
        self.headers = []
        answer = pb.ModelInferResponse(model_name=MODEL, id="r1").SerializeToString()
        ready = pb.ServerReadyResponse(ready=True).SerializeToString()

        def infer(_, context):
            self.headers.append(dict(context.invocation_metadata()))
            return answer

        handlers = {
            "ModelInfer": infer,
            "ServerReady": lambda _, __: ready,
            "ModelReady": lambda _, __: ready,
        }
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "inference.GRPCInferenceService",
                    {
                        name: grpc.unary_unary_rpc_method_handler(one)
                        for name, one in handlers.items()
                    },
                ),
            )
        )
        self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def close(self):
        self._server.stop(0).wait()


@pytest.fixture(params=["grpc", "http"])
def collector(request):
    with Collector() as made:
        made.way = request.param
        port = made.port if made.way == "grpc" else made.http_port
        made.otlp = {"endpoint": f"http://127.0.0.1:{port}", "protocol": made.way}
        yield made


@pytest.fixture
def server():
    (port,) = free_ports(1)
    with closing(Server(port)) as made:
        made.port = port
        yield made


def before(server, **otlp):
    """A configuration whose only endpoint is ``server``."""
    only = endpoint("only-0", "north", f"127.0.0.1:{server.port}")
    telemetry = {"telemetry": {"otlp": otlp}} if otlp else {}
    return base([only], **telemetry)


def header(flags):
    return (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-{flags}"), ("tracestate", "vendor=1"))


async def test_a_trace_goes_through_to_the_server_and_to_the_collector(spawn, server, collector):
    gateway = spawn(Gateway, before(server, **collector.otlp, sample_ratio=0.0))
    async with gateway.client() as client:
        await until(lambda: healthy(client), "the endpoint")
        server.headers.clear()
        await client.infer(ask(), metadata=(*header("01"), ("x-tenant", "acme")))
        await client.infer(ask(), metadata=header("00"))
        await client.infer(ask())
    kept, passed, own = server.headers
    spans = await asyncio.to_thread(collector.take, 2)
    attempt, whole = (span for _, _, span in spans)
    assert whole.trace_id.hex() == attempt.trace_id.hex() == TRACE_ID
    assert whole.parent_span_id.hex() == PARENT_ID
    assert attempt.parent_span_id == whole.span_id
    assert (whole.kind, attempt.kind) == (whole.SPAN_KIND_SERVER, whole.SPAN_KIND_CLIENT)
    assert whole.trace_state == kept["tracestate"] == "vendor=1"
    assert kept["traceparent"] == f"00-{TRACE_ID}-{attempt.span_id.hex()}-01"
    # Whose caller keeps nothing passes as it came, and a root that is not kept says so.
    assert passed["traceparent"] == dict(header("00"))["traceparent"]
    assert own["traceparent"].endswith("-00")
    told = attributes(whole.attributes)
    assert told["rpc.system"] == "grpc"
    assert told["carbon_router.outcome"] == "answered"
    assert told["carbon_router.endpoint"] == "only-0"
    assert told["carbon_router.region"] == "north"
    assert told["carbon_router.gco2e_g"] > 0.0
    assert "acme" not in str(spans)
    assert "hello" not in str(spans)
    assert gateway.stop() == 0
    assert collector.spans.empty()


async def healthy(client):
    try:
        await client.infer(ask())
    except grpc.aio.AioRpcError:
        return False
    return True


class TellingImports(Gateway):
    environment: ClassVar = {"PYTHONPROFILEIMPORTTIME": "1"}


async def test_when_it_is_off_headers_pass_and_the_sdk_is_not_loaded(spawn, server):
    gateway = spawn(TellingImports, before(server))
    async with gateway.client() as client:
        await until(lambda: healthy(client), "the endpoint")
        server.headers.clear()
        await client.infer(ask(), metadata=header("01"))
        await client.infer(ask())
    first, second = server.headers
    assert {key: first[key] for key in ("traceparent", "tracestate")} == dict(header("01"))
    assert "traceparent" not in second
    imported = gateway.log.read_text()
    assert "router.app.tracing" in imported
    assert "opentelemetry" not in imported


async def test_so_many_roots_are_kept_of_both_protocols_with_exemplars(spawn, collector):
    (http,) = free_ports(1)
    endpoints = [*pair(protocol="openai")]
    config = base(endpoints, telemetry={"otlp": {**collector.otlp, "sample_ratio": 1.0}})
    config["server"] |= {"http": f"127.0.0.1:{http}"}
    spawn(emulator, config)
    gateway = spawn(Gateway, config)

    def post(number):
        asked = json.dumps(body(stream=number % 2 == 1))
        with closing(HTTPConnection(f"127.0.0.1:{http}", timeout=30)) as connection:
            connection.request(
                "POST", "/v1/chat/completions?user=nobody", asked,
                {"content-type": "application/json", "x-residency": "eu"},
            )  # fmt: skip
            with connection.getresponse() as reply:
                return reply.status, reply.read()

    async def answered():
        return (await asyncio.to_thread(post, 0))[0] == 200

    await until(answered, "an answer")
    for number in range(4):
        assert (await asyncio.to_thread(post, number))[0] == 200
    linked = await asyncio.to_thread(exemplars, gateway)
    _, page = await get(gateway.admin, "/metrics")
    assert "trace_id" not in page
    # What waits is sent at its end.
    assert await asyncio.to_thread(gateway.stop) == 0
    spans = collector.rest()
    by_id = {span.span_id: span for span in spans}
    attempts = [span for span in spans if span.kind == span.SPAN_KIND_CLIENT]
    assert {by_id[one.parent_span_id].trace_id == one.trace_id for one in attempts} == {True}
    wholes = [span for span in spans if span.kind == span.SPAN_KIND_SERVER]
    answered_in = {
        one.trace_id.hex()
        for one in wholes
        if attributes(one.attributes)["carbon_router.outcome"] == "answered"
    }
    assert len(answered_in) == 5
    assert {one.name for one in wholes} == {"POST /v1/chat/completions"}
    assert {one.name for one in attempts} == {f"chat {MODEL}"}
    assert "Hello there" not in str(spans)
    assert "nobody" not in str(spans)
    assert linked
    assert linked <= answered_in


def exemplars(gateway):
    """Trace ids on the page of metrics, as a server that knows of exemplars asks for it."""
    with closing(HTTPConnection(gateway.admin, timeout=30)) as connection:
        connection.request("GET", "/metrics", headers={"accept": "application/openmetrics-text"})
        with connection.getresponse() as reply:
            assert reply.getheader("content-type").startswith("application/openmetrics-text")
            page = reply.read().decode()
    return {
        sample.exemplar.labels["trace_id"]
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.exemplar
    }


async def test_a_collector_that_hangs_is_nobodys_matter(spawn, server):
    with Collector() as collector:
        collector.gate.clear()
        otlp = {"endpoint": f"http://127.0.0.1:{collector.port}", "sample_ratio": 1.0,
                "queue_spans": 8}  # fmt: skip
        gateway = spawn(Gateway, before(server, **otlp))
        async with gateway.client() as client:
            await until(lambda: healthy(client), "the endpoint")
            # In its first call it hangs; the rest waits, and then is dropped.
            assert await asyncio.to_thread(collector.calls.acquire, timeout=30)
            for _ in range(30):
                await client.infer(ask())
            assert await gateway.total("spans_total", outcome="dropped") >= 40
        gateway.tell(signal.SIGTERM)
        # With the collector's patience it would be half a minute.
        assert gateway.wait(25) == 0
        lines = gateway.log.read_text()
        assert lines.count("Queue full") == 0
        assert "Traceback" not in lines
