"""Receipts of servers that report nothing, or nonsense, under the settings that ship."""

import asyncio
import contextlib
import math

import grpc
import pytest
import pytest_asyncio

from router._pb import inference_pb2 as pb
from tests.e2e.conftest import closing_children
from tests.e2e.harness import PROFILE, QUICK, Gateway, base, endpoint, until
from tests.ports import free_ports

ORCA = "endpoint-load-metrics"
TEXT_OF_A_TOKEN = b"word"
# Two regions whose round trip is what it is here: nothing.
NEAR_BY = {"home": {"rtt_ms": {"north": 0.1, "here": 0.1}}}
GREATEST_W = 1.3 * (PROFILE["base_w"] + PROFILE["w_per_token_s"] * 64_000 / 1.64)


class Server:
    """A model server that makes a token a millisecond of text, and reports what it is told to."""

    def __init__(self):
        self.tokens = 100
        self.report = ""
        self.parameters = {}
        self._server = grpc.aio.server(options=QUICK)
        handlers = {
            "ModelInfer": self._infer, "ServerReady": self._ready, "ModelReady": self._ready,
        }  # fmt: skip
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "inference.GRPCInferenceService",
                    {k: grpc.unary_unary_rpc_method_handler(v) for k, v in handlers.items()},
                ),
            )
        )

    async def start(self, ports):
        for port in ports:
            assert self._server.add_insecure_port(f"127.0.0.1:{port}") == port
        await self._server.start()
        return self

    async def stop(self):
        await self._server.stop(None)

    async def _ready(self, payload, context):
        return pb.ServerReadyResponse(ready=True).SerializeToString()

    async def _infer(self, payload, context):
        await asyncio.sleep(self.tokens / 1e3)
        if self.report:
            context.set_trailing_metadata(((ORCA, f"TEXT {self.report}"),))
        answer = pb.ModelInferResponse(model_name="tiny", id="r1")
        for name, value in self.parameters.items():
            answer.parameters[name].int64_param = value
        answer.outputs.add(name="text_output", datatype="BYTES", shape=[1])
        answer.raw_output_contents.append(TEXT_OF_A_TOKEN * self.tokens)
        return answer.SerializeToString()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tmp_path_factory):
    """A gateway with its defaults before two endpoints, and the server behind both."""
    ports = free_ports(2)
    server = await Server().start(ports)
    endpoints = [
        endpoint(name, region, f"127.0.0.1:{port}", emulated=False)
        for name, region, port in zip(("green-0", "near-0"), ("north", "here"), ports, strict=True)
    ]
    folder = tmp_path_factory.mktemp("receipts")
    with closing_children() as children:
        config = base(endpoints, origins=NEAR_BY)
        gateway = await asyncio.to_thread(Gateway, folder, config)
        children.append(gateway)
        yield gateway, server
    await server.stop()


@contextlib.asynccontextmanager
async def asking(shared, **server):
    """A client, while the server behaves as these attributes say."""
    gateway, behind = shared
    vars(behind).update({"tokens": 100, "report": "", "parameters": {}, **server})
    async with gateway.client() as client:
        yield client


pytestmark = pytest.mark.asyncio(loop_scope="module")


def power_w(receipt):
    return float(receipt["energy-j"]) / float(receipt["actual-e2e-ms"]) * 1e3


async def test_without_a_report_joules_follow_the_answer_and_never_exceed_the_machine(shared):
    receipts = {}
    for tokens in (5, 100, 1000):
        async with asking(shared, tokens=tokens) as client:
            receipts[tokens] = await client.receipt()
    for tokens, receipt in receipts.items():
        assert receipt["energy-kind"] == "estimated"
        assert power_w(receipt) <= GREATEST_W
        low, high = map(float, receipt["output-tokens-interval"].split("-"))
        assert low <= float(receipt["output-tokens"]) <= high
        if tokens >= 100:  # of five, a busy machine's pause is most of the time
            assert receipt["tokens-kind"] == "estimated"
            assert low <= tokens <= high
    assert float(receipts[1000]["energy-j"]) > 5.0 * float(receipts[100]["energy-j"])
    assert float(receipts[100]["energy-j"]) > 2.0 * float(receipts[5]["energy-j"])


async def test_a_count_in_the_answers_parameters_is_reported(shared):
    async with asking(shared, parameters={"completion_tokens": 93}) as client:
        receipt = await client.receipt()
    assert (receipt["output-tokens"], receipt["tokens-kind"]) == ("93", "reported")
    assert "output-tokens-interval" not in receipt


async def test_predicted_and_actual_grams_are_of_one_kind(shared):
    """Four tokens are expected in 6 ms, and a hundred come: the joules differ by the tokens."""
    async with asking(shared, tokens=4) as client:
        receipt = await client.receipt()
    assert receipt["accounting"] == "attributional"
    ratio = float(receipt["predicted-gco2e"]) / float(receipt["gco2e"])
    took = float(receipt["actual-e2e-ms"]) / 6.0
    assert 0.3 < ratio * took < 3.0


ABSURD = {
    "energy_j=1e308": "report_energy_too_high",
    "energy_j=41500": "report_energy_too_high",
    "energy_j=1e-300": "report_energy_too_low",
    "energy_j=0.00001": "report_energy_too_low",
    "energy_j=nan": "report_malformed",
    "energy_j=-1": "report_malformed",
    "energy_j=0": "report_malformed",
    "energy_j=inf": "report_malformed",
    "energy_j=1e999": "report_malformed",
    "energy_j=" + "9" * 5000: "report_malformed",
    "marginal_energy_j=1e308": "report_marginal_energy_too_high",
    "output_tokens=1e308": "report_tokens_too_high",
    "output_tokens=1e-300": "report_tokens_too_low",
    "energy_j=20, request_cost.energy_j=1e308": "report_energy_too_high",
}


@pytest.mark.parametrize("figure", ABSURD, ids=lambda figure: figure[:40])
async def test_a_figure_that_the_run_cannot_bear_out_is_flagged_and_counted(shared, figure):
    gateway, reason = shared[0], ABSURD[figure]

    async def counted():
        return await gateway.total("reported_figures_ignored_total", reason=reason)

    async def joules():
        return await gateway.total("energy_joules_total")

    before, joules_before = await counted(), await joules()
    async with asking(shared, report=f"request_cost.{figure}") as client:
        receipt = await client.receipt()
    assert reason in receipt["flags"].split(",")
    assert receipt["energy-kind"] == "estimated"
    assert power_w(receipt) <= GREATEST_W
    assert float(receipt["output-tokens"]) < 1000.0

    async def told():
        return await counted() == before + 1.0

    await until(told, "the count")
    grown_j = await joules() - joules_before
    assert math.isfinite(grown_j)
    assert 0.0 < grown_j < 1000.0


@pytest.mark.parametrize("energy_j", [15.0, 45.0, 135.0])
async def test_a_server_whose_profile_is_wrong_threefold_keeps_its_joules(shared, energy_j):
    async with asking(shared, report=f"request_cost.energy_j={energy_j}") as client:
        receipt = await client.receipt()
    assert (receipt["energy-j"], receipt["energy-kind"]) == (f"{energy_j:g}", "measured")
    assert "report" not in receipt.get("flags", "")


async def test_after_all_of_it_the_counters_are_sane_and_lengths_are_not_poisoned(shared):
    async with asking(shared) as client:
        receipt = await client.receipt(x_latency_budget_ms=5000)
    assert receipt["endpoint"] == "green-0"
    for name, rows in (await shared[0].metrics()).items():
        if name.endswith("_total"):
            assert all(0.0 <= value < 1e6 for _, value in rows), name
