import asyncio
import math

import grpc
import pytest

from router._pb import inference_pb2 as pb
from router.gateway.caller import Caller
from router.gateway.oip.wire import scan
from router.lab.loopback.client import (
    StreamFailedError,
    first_token_at,
    metadata_of,
    payload_of,
)
from router.lab.replay.timed import TimedRequest
from router.model import Budget, Request


def timed(streamed=False, budget=Budget(ttft_ms=76.0, tpot_ms=12.5)):  # noqa: B008
    request = Request(
        "m", request_id="r7", origin="us-west", budget=budget, input_tokens=31.0,
        max_output_tokens=64.0,
    )  # fmt: skip
    return TimedRequest(1.0, request, 40, "chat", streamed)


def test_the_gateway_reads_what_the_caller_meant():
    payload = payload_of(timed(), 16)
    caller = Caller(metadata_of(timed()))
    request = caller.request(scan(payload), len(payload), None, 0.0)
    assert (request.model, request.request_id, request.origin) == ("m", "r7", "us-west")
    assert (request.input_tokens, request.max_output_tokens) == (31.0, 64.0)
    assert (request.budget.ttft_ms, request.budget.tpot_ms) == (76.0, 12.5)
    assert request.budget.e2e_ms == math.inf


def test_only_a_stream_asks_for_chunks():
    assert "stream_every" not in pb.ModelInferRequest.FromString(payload_of(timed(), 16)).parameters
    streamed = pb.ModelInferRequest.FromString(payload_of(timed(streamed=True), 16))
    assert streamed.parameters["stream_every"].int64_param > 1
    assert streamed.parameters["output_tokens"].int64_param == 40


def test_no_budget_no_header():
    unlimited = (("x-origin", "us-west"), ("x-carbon-receipt", "full"))
    assert metadata_of(timed(budget=Budget())) == unlimited


class Stream:
    """A call whose messages are these."""

    def __init__(self, *messages):
        self._messages = iter(messages)

    async def read(self):
        return next(self._messages, grpc.aio.EOF)


def failing(text, reason=""):
    message = pb.ModelStreamInferResponse(error_message=text)
    if reason:
        message.infer_response.parameters["x-carbon-reason"].string_param = reason
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ((), "empty_stream"),
        ((failing("every endpoint is at its cap " * 9, "shed"),), "shed"),
        ((b"", failing("out of memory")), "out of memory"),
        ((failing("x" * 500),), "x" * 60),
    ],
)
async def test_a_stream_that_failed_says_why_in_a_word_where_there_is_one(messages, reason):
    with pytest.raises(StreamFailedError) as failed:
        await first_token_at(Stream(*messages), asyncio.get_running_loop())
    assert str(failed.value) == reason
