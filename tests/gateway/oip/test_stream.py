"""ModelStreamInfer through a real socket: order, concurrency, failures, ends."""

import asyncio
import itertools
from dataclasses import replace

import grpc
import pytest

from router import errors
from router._pb import inference_pb2 as pb
from router.clock import WallClock
from router.gateway.oip.caller import caller_of
from router.gateway.oip.intake import Intake
from router.gateway.oip.server import ServerOptions
from router.gateway.oip.sockets import Sockets
from router.gateway.oip.stream import (
    ANSWERS_PARAMETER,
    MAX_CONCURRENT,
    REASON_PARAMETER,
    StreamSession,
)
from router.identity.access import open_access
from router.identity.api_keys import KeyTable
from router.identity.principal import PrincipalLimits, Role
from tests.gateway.support import Script, Told, error_of, infer_request, running, soon
from tests.identity.support import CHAT, RIGHT, access, bearer, held_key, key_text


def answer(request, number):
    response = pb.ModelInferResponse(model_name=request.model, id=request.request_id)
    response.parameters["n"].int64_param = number
    return pb.ModelStreamInferResponse(infer_response=response).SerializeToString()


class Upstream:
    """Scripted upstream work: each request waits for its gate, then answers ``answers`` times."""

    def __init__(self, answers=1, gated=False):
        self.answers = answers
        self.gated = gated
        self.gates = {}
        self.events = asyncio.Queue()
        self.running = 0
        self.peak = 0
        self.count = itertools.count()

    async def __call__(self, request):
        key = request.request_id or next(self.count)
        gate = self.gates.setdefault(key, asyncio.Event())
        self.running += 1
        self.peak = max(self.peak, self.running)
        self.events.put_nowait(("start", key))
        try:
            if self.gated:
                await gate.wait()
            for number in range(self.answers):
                yield answer(request, number)
        except BaseException as error:
            self.events.put_nowait((type(error).__name__, key))
            raise
        finally:
            self.running -= 1


def script(upstream):
    director = Script()
    director.streams = upstream
    return director


def raising(error, after=1):
    async def stream(request):
        for number in range(after):
            yield answer(request, number)
        raise error

    return stream


async def read(call, count):
    return [await soon(call.read()) for _ in range(count)]


async def test_one_request_with_many_answers_and_its_receipt():
    async with running(script(Upstream(answers=3))) as gateway:
        call = gateway.stub.ModelStreamInfer(metadata=(("x-carbon-receipt", "full"),))
        await call.write(infer_request(request_id="a"))
        await call.done_writing()
        replies = await read(call, 4)
        trailers = dict(await call.trailing_metadata())
        assert await call.code() is grpc.StatusCode.OK
    assert [r.infer_response.parameters["n"].int64_param for r in replies[:3]] == [0, 1, 2]
    assert replies[3] is grpc.aio.EOF
    assert trailers["x-carbon-requests"] == "1"
    assert trailers["x-carbon-gco2e"] == "0.0086"
    assert trailers["ce-modelid"] == "llama"


async def test_a_request_may_have_no_answer_and_a_stream_no_request():
    async with running(script(Upstream(answers=0))) as gateway:
        for messages in ([infer_request()], []):
            call = gateway.stub.ModelStreamInfer(iter(messages))
            assert [message async for message in call] == []
            trailers = dict(await call.trailing_metadata())
            assert trailers["x-carbon"].endswith(f"requests={len(messages)}")
            assert ("gco2e=" in trailers["x-carbon"]) == bool(messages)


async def test_bytes_pass_untouched():
    odd = b"\x12\x07\x0a\x01m\x9a\x06\x01z"

    async def stream(request):
        yield odd

    async with running(script(stream)) as gateway:
        sent = infer_request().SerializeToString() + b"\x9a\x06\x05later"
        call = gateway.bytes_stream()(iter([sent]))
        assert [message async for message in call] == [odd]
    assert gateway.director.calls[0][1] == sent


async def test_requests_with_an_id_overtake_each_other():
    upstream = Upstream(gated=True)
    async with running(script(upstream)) as gateway:
        call = gateway.stub.ModelStreamInfer()
        for name in "ab":
            await call.write(infer_request(request_id=name))
            assert await soon(upstream.events.get()) == ("start", name)
        upstream.gates["b"].set()
        assert (await soon(call.read())).infer_response.id == "b"
        upstream.gates["a"].set()
        assert (await soon(call.read())).infer_response.id == "a"
        await call.done_writing()
        assert await soon(call.read()) is grpc.aio.EOF


async def test_requests_without_an_id_wait_for_each_other():
    upstream = Upstream(gated=True)
    async with running(script(upstream)) as gateway:
        call = gateway.stub.ModelStreamInfer()
        await call.write(infer_request())
        await call.write(infer_request())
        await call.write(infer_request(request_id="free"))
        started = [await soon(upstream.events.get()) for _ in range(2)]
        assert started == [("start", 0), ("start", "free")]
        assert upstream.running == 2
        upstream.gates[0].set()
        await soon(call.read())
        assert await soon(upstream.events.get()) == ("start", 1)
        upstream.gates[1].set()
        upstream.gates["free"].set()
        await read(call, 2)


async def test_requests_of_a_sequence_wait_for_each_other():
    upstream = Upstream(gated=True)
    async with running(script(upstream)) as gateway:
        call = gateway.stub.ModelStreamInfer()
        await call.write(infer_request(request_id="a", sequence_id=7))
        await call.write(infer_request(request_id="b", sequence_id=7))
        await call.write(infer_request(request_id="c", sequence_id=8))
        assert await soon(upstream.events.get()) == ("start", "a")
        assert await soon(upstream.events.get()) == ("start", "c")
        upstream.gates["a"].set()
        assert (await soon(call.read())).infer_response.id == "a"
        assert await soon(upstream.events.get()) == ("start", "b")
        for name in "bc":
            upstream.gates[name].set()
        await read(call, 2)
    assert [request.sequence_id for request, *_ in gateway.director.calls] == ["7", "8", "7"]


async def test_a_flood_is_held_back_and_all_of_it_served():
    upstream = Upstream(gated=True)
    total = MAX_CONCURRENT * 3
    async with running(script(upstream)) as gateway:
        call = gateway.stub.ModelStreamInfer(
            iter([infer_request(request_id=str(n)) for n in range(total)])
        )
        for n in range(MAX_CONCURRENT):
            assert await soon(upstream.events.get()) == ("start", str(n))
        for n in range(total):
            upstream.gates.setdefault(str(n), asyncio.Event()).set()
        assert len([message async for message in call]) == total
    assert upstream.peak == MAX_CONCURRENT


@pytest.mark.parametrize(
    ("error", "message", "reason"),
    [
        (errors.ShedError("all full"), "all full", "shed"),
        (ZeroDivisionError("secret"), "internal error", "internal"),
        (
            errors.UpstreamFaultError("west-0: UNAVAILABLE: gone"),
            "west-0: UNAVAILABLE: gone",
            "upstream_fault",
        ),
    ],
)
async def test_failures_are_told_in_band_and_the_stream_lives_on(error, message, reason):
    async with running(script(raising(error))) as gateway:
        call = gateway.stub.ModelStreamInfer()
        for _ in range(2):
            await call.write(infer_request(request_id="a"))
            first, failure = await read(call, 2)
            assert first.error_message == ""
            assert failure.error_message == f"{message} (after answer 1)"
            assert (failure.infer_response.model_name, failure.infer_response.id) == ("llama", "a")
            assert failure.infer_response.parameters[REASON_PARAMETER].string_param == reason
        await call.done_writing()
        assert await soon(call.read()) is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert gateway.told.seen[0][:2] == ("ModelStreamInfer", "llama")


@pytest.mark.parametrize("came", [0, 1, 5])
async def test_a_request_that_is_lost_says_how_far_it_came(came):
    """Each request of a stream for itself, whatever came of the others."""
    lost = errors.UpstreamLostError("west-0: gone")
    async with running(script(raising(lost, came))) as gateway:
        call = gateway.stub.ModelStreamInfer()
        for _ in range(2):
            await call.write(infer_request(request_id="a"))
            *answered, failure = await read(call, came + 1)
            assert len(answered) == came
            assert failure.infer_response.parameters[ANSWERS_PARAMETER].int64_param == came
            assert (f"after answer {came}" in failure.error_message) == (came > 0)
        await call.done_writing()


async def test_a_malformed_message_fails_alone_and_in_its_turn():
    upstream = Upstream(gated=True)
    async with running(script(upstream)) as gateway:
        call = gateway.bytes_stream()()
        await call.write(infer_request().SerializeToString())
        await call.write(b"\x0a\xff")
        await call.write(infer_request().SerializeToString())
        await soon(upstream.events.get())
        upstream.gates[0].set()
        await soon(upstream.events.get())
        upstream.gates[1].set()
        replies = [pb.ModelStreamInferResponse.FromString(m) for m in await read(call, 3)]
    assert [bool(reply.error_message) for reply in replies] == [False, True, False]
    assert "byte 2" in replies[1].error_message


async def test_bad_routing_headers_fail_the_whole_stream():
    async with running(script(Upstream())) as gateway:
        call = gateway.stub.ModelStreamInfer(metadata=(("x-tpot-budget-ms", "0"),))
        code, details, trailers = await error_of(call.read())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "x-tpot-budget-ms" in details
    assert trailers["x-carbon-reason"] == "metadata_invalid"


async def test_a_failure_is_told_under_the_id_that_the_message_came_with():
    director = Script()
    director.streams = raising(errors.UpstreamLostError("gone"), after=0)
    async with running(director) as gateway:
        call = gateway.stub.ModelStreamInfer()
        await call.write(infer_request(request_id="a b\n"))
        told = await soon(call.read())
    assert told.error_message and told.infer_response.id == "a b\n"


async def test_a_client_that_goes_away_cancels_everything_at_once():
    upstream = Upstream(gated=True)
    async with running(script(upstream)) as gateway:
        call = gateway.stub.ModelStreamInfer()
        for name in "abc":
            await call.write(infer_request(request_id=name))
            assert await soon(upstream.events.get()) == ("start", name)
        call.cancel()
        ends = {await soon(upstream.events.get()) for _ in range(3)}
        assert ends == {("CancelledError", name) for name in "abc"}
        assert upstream.running == 0


async def test_a_client_that_goes_away_during_answers_cancels_upstream():
    upstream = Upstream(answers=10**9)
    async with running(script(upstream)) as gateway:
        call = gateway.stub.ModelStreamInfer(iter([infer_request(request_id="a")]))
        await soon(call.read())
        call.cancel()
        assert await soon(upstream.events.get()) == ("start", "a")
        ended, _ = await soon(upstream.events.get())
    assert ended in ("CancelledError", "GeneratorExit")
    assert {code for *_, code, _ in gateway.told.seen} <= {"CANCELLED"}


async def test_half_close_lets_running_requests_finish():
    upstream = Upstream(gated=True)
    async with running(script(upstream)) as gateway:
        call = gateway.stub.ModelStreamInfer(iter([infer_request(request_id="a")]))
        await soon(upstream.events.get())
        upstream.gates["a"].set()
        assert len([message async for message in call]) == 1
        assert await call.code() is grpc.StatusCode.OK


async def test_draining_ends_an_idle_stream_at_once():
    async with running(script(Upstream())) as gateway:
        call = gateway.stub.ModelStreamInfer()
        await call.write(infer_request(request_id="a"))
        assert (await soon(call.read())).infer_response.id == "a"
        await soon(gateway.gateway.drain(3600.0))
        code, _, trailers = await error_of(call.read())
    assert code is grpc.StatusCode.UNAVAILABLE
    assert trailers["x-carbon-reason"] == "draining"
    assert trailers["x-carbon"].endswith(", requests=1")


async def test_draining_lets_a_running_request_finish():
    upstream = Upstream(gated=True)
    async with running(script(upstream)) as gateway:
        call = gateway.stub.ModelStreamInfer()
        await call.write(infer_request(request_id="a"))
        await soon(upstream.events.get())
        async with asyncio.TaskGroup() as tasks:
            drained = tasks.create_task(gateway.gateway.drain(3600.0))
            await asyncio.sleep(0)
            upstream.gates["a"].set()
            assert (await soon(call.read())).infer_response.id == "a"
            code, _, _ = await error_of(call.read())
            await soon(drained)
    assert code is grpc.StatusCode.UNAVAILABLE


class HalfClosed:
    """The server's end of a stream on which the client sent one message and closed its side."""

    def __init__(self):
        self.messages = [infer_request(request_id="a").SerializeToString(), grpc.aio.EOF]
        self.written = []
        self.closed = asyncio.Event()
        self.pieces = 0
        self.trailers = ()

    def invocation_metadata(self):
        return ()

    def time_remaining(self):
        return None

    def peer(self):
        return "ipv4:127.0.0.1:1"

    async def read(self):
        if len(self.messages) == 1:
            self.closed.set()
        return self.messages.pop(0)

    async def write(self, message):
        self.written.append(message)

    def set_trailing_metadata(self, trailers):
        self.trailers = trailers


async def test_a_finished_stream_ends_well_even_while_draining():
    upstream = Upstream(gated=True)
    context = HalfClosed()
    asked = open_access(WallClock())
    intake = Intake(ServerOptions("").as_limits(), Sockets(), asked)
    call = intake.enter(context, (), Role.INFER, metered=False)

    def caller_for(principal):
        return caller_of((), principal, lambda residency: 0)

    session = StreamSession(script(upstream), context, call, caller_for, asked.limiter, Told(), 5.0)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.run())
        await soon(upstream.events.get())
        await soon(context.closed.wait())
        session.drain()
        upstream.gates["a"].set()
        await soon(running)
    assert len(context.written) == 1
    assert dict(context.trailers)["x-carbon"].endswith(", requests=1")


async def test_a_long_stream_ends_being_served_when_its_key_does(monkeypatch):
    monkeypatch.setattr("router.gateway.oip.intake.RENEW_S", 0.0)
    upstream = Upstream()
    held = access()
    async with running(script(upstream), access=held) as gateway:
        call = gateway.bytes_stream()(metadata=(bearer(RIGHT),))
        await call.write(infer_request(request_id="a").SerializeToString())
        first = pb.ModelStreamInferResponse.FromString(await soon(call.read()))
        assert not first.error_message
        held.credentials = held.credentials._replace(keys=KeyTable())
        await call.write(infer_request(request_id="b").SerializeToString())
        second = pb.ModelStreamInferResponse.FromString(await soon(call.read()))
        parameters = second.infer_response.parameters
        assert parameters[REASON_PARAMETER].string_param == "unauthenticated"
        await call.done_writing()
        while await soon(call.read()) is not grpc.aio.EOF:
            pass


async def test_each_message_of_a_stream_is_a_request_of_its_principal():
    text = key_text("slow")
    may = replace(CHAT, name="slow", limits=PrincipalLimits(requests_per_s=2.0))
    held = access(held_key(text, may))
    async with running(script(Upstream()), access=held) as gateway:
        call = gateway.bytes_stream()(metadata=(bearer(text),))
        reasons = []
        for number in range(4):
            await call.write(infer_request(request_id=str(number)).SerializeToString())
            answer = pb.ModelStreamInferResponse.FromString(await soon(call.read()))
            parameters = answer.infer_response.parameters
            reasons.append(parameters[REASON_PARAMETER].string_param)
        await call.done_writing()
        while await soon(call.read()) is not grpc.aio.EOF:
            pass
        assert reasons == ["", "", "rate_limited", "rate_limited"]
