"""What `contract.Backend` promises, held against every implementation over real sockets."""

import asyncio
import gc
import math
from pathlib import Path

import grpc
import pytest

from router.backends.oip.backend import ChannelOptions, GrpcBackend
from router.contract import Probe
from router.errors import (
    UpstreamError,
    UpstreamFaultError,
    UpstreamLostError,
    UpstreamTimeoutError,
    UpstreamUnreachedError,
)
from tests.backends.oip.upstreams import soon, tcp_server, unused, upstream

IMPLEMENTATIONS = {
    "grpc": GrpcBackend,
    "grpc-2-channels": lambda: GrpcBackend(ChannelOptions(channels_per_endpoint=2)),
}
FOREVER = math.inf
READY = b"\x08\x01"


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
async def backend(request):
    made = request.param()
    yield made
    await made.close()


def answering(payload, trailers=(), initial=()):
    async def handler(_, context):
        if initial:
            await context.send_initial_metadata(initial)
        context.set_trailing_metadata(trailers)
        return payload

    return handler


def streaming(*messages, trailers=()):
    async def handler(_, context):
        context.set_trailing_metadata(trailers)
        for message in messages:
            await context.write(message)

    return handler


async def collect(stream):
    return [message async for message in stream]


async def test_unary_carries_bytes_and_metadata_both_ways(backend):
    async with upstream() as server:
        server.unary = answering(
            b"\x00\xffback", (("ce-id", "1"), ("b-bin", b"\x01")), (("i", "2"),)
        )
        metadata = (("ce-type", "t"), ("x-origin", "eu"), ("k-bin", b"\xfe"))
        reply = await soon(backend.unary(server.endpoint, b"\xff\x00sent", metadata, FOREVER))
        payload, seen, remaining_s = server.seen[0]
    assert (reply.payload, payload, remaining_s) == (b"\x00\xffback", b"\xff\x00sent", None)
    assert {("ce-id", "1"), ("b-bin", b"\x01")} <= set(reply.trailers)
    assert ("i", "2") in reply.initial_metadata
    assert set(metadata) <= set(seen)


async def test_what_belongs_to_one_hop_stays_there(backend):
    hop = (("user-agent", "caller"), ("te", "trailers"), ("grpc-timeout", "1H"), (":path", "/x"))
    async with upstream() as server:
        server.unary = answering(b"")
        await soon(backend.unary(server.endpoint, b"", hop, FOREVER))
        _, seen, remaining_s = server.seen[0]
    assert remaining_s is None
    assert not {("user-agent", "caller"), (":path", "/x")} & set(seen)


async def test_the_time_left_travels_on(backend):
    async with upstream() as server:
        server.unary = answering(b"")
        await soon(backend.unary(server.endpoint, b"", (), 15.0))
        assert 0.0 < server.seen[0][2] < 15.5  # gRPC rounds up


async def test_a_server_that_hangs_is_a_timeout_and_its_work_is_cancelled(backend):
    async with upstream() as server:
        server.unary = server.hang
        with pytest.raises(UpstreamTimeoutError):
            await soon(backend.unary(server.endpoint, b"", (), 0.05))
        await soon(server.cancelled.wait())


async def test_cancelling_a_unary_call_cancels_it_upstream(backend):
    async with upstream() as server:
        server.unary = server.hang
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(backend.unary(server.endpoint, b"", (), FOREVER))
            await soon(server.started.wait())
            call.cancel()
        await soon(server.cancelled.wait())
        assert call.cancelled()


@pytest.mark.parametrize(
    "behaviour",
    [
        {"reset": True},
        {"data": b"HTTP/1.1 400 Bad Request\r\n\r\n"},
        {"data": b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff" * 100},
        {"data": b"\x00\x00\x12\x04\x00", "reset": True},
    ],
    ids=["reset", "http1", "garbage", "half-a-frame"],
)
async def test_a_server_that_does_not_speak_the_protocol_is_not_reached_or_lost(backend, behaviour):
    broken = (UpstreamUnreachedError, UpstreamLostError)
    async with tcp_server(**behaviour) as endpoint:
        with pytest.raises(broken):
            await soon(backend.unary(endpoint, b"x", (), 15.0))
        with pytest.raises(broken):
            await soon(collect(backend.stream(endpoint, b"x", (), 15.0)))
        assert await soon(backend.probe(endpoint, 15.0)) is Probe.REFUSED


async def test_nobody_there_is_a_connection_refused(backend):
    endpoint = unused()
    with pytest.raises(UpstreamUnreachedError) as caught:
        await soon(backend.unary(endpoint, b"", (), 15.0))
    assert caught.value.refused
    assert endpoint.name in str(caught.value)


async def test_a_mute_server_is_a_timeout(backend):
    async with tcp_server(hold=True) as endpoint:
        with pytest.raises(UpstreamTimeoutError):
            await soon(backend.unary(endpoint, b"", (), 0.05))


async def test_an_answer_without_a_message_is_an_error(backend):
    async with upstream() as server:
        with pytest.raises(UpstreamError):
            await soon(backend.ask(server.endpoint, "Silent", b"", (), 15.0))


@pytest.mark.parametrize("messages", [(), (b"a",), (b"a", b"", b"\xff" * 100_000)])
async def test_a_stream_has_any_number_of_answers(backend, messages):
    async with upstream() as server:
        server.stream = streaming(*messages, trailers=(("ce-id", "9"),))
        stream = backend.stream(server.endpoint, b"ask", (("x-origin", "eu"),), FOREVER)
        assert stream.trailers() == ()
        assert await soon(collect(stream)) == list(messages)
        assert ("ce-id", "9") in stream.trailers()
        stream.cancel()
        stream.cancel()
        payloads, seen, _ = server.seen[0]
    assert payloads == [b"ask"]
    assert ("x-origin", "eu") in seen


async def test_half_a_stream_is_a_fault_after_the_half(backend):
    async with upstream() as server:

        async def half(_, context):
            await context.write(b"1")
            await context.write(b"2")
            await server.hang()

        server.stream = half
        got = []
        with pytest.raises(UpstreamFaultError):
            async for message in backend.stream(server.endpoint, b"", (), FOREVER):
                got.append(message)
                if len(got) == 2:
                    await soon(server.started.wait())
                    await server.server.stop(0)
    assert got == [b"1", b"2"]


async def test_a_stream_that_hangs_is_a_timeout(backend):
    async with upstream() as server:
        server.stream = server.hang
        with pytest.raises(UpstreamTimeoutError):
            await soon(collect(backend.stream(server.endpoint, b"", (), 0.05)))
        await soon(server.cancelled.wait())


async def test_cancelling_a_stream_cancels_it_upstream(backend):
    async with upstream() as server:
        server.stream = server.hang
        async with asyncio.TaskGroup() as tasks:
            stream = backend.stream(server.endpoint, b"", (), FOREVER)
            reading = tasks.create_task(collect(stream))
            await soon(server.started.wait())
            reading.cancel()
        await soon(server.cancelled.wait())
        assert reading.cancelled()


async def test_cancel_without_iterating_cancels_upstream(backend):
    async with upstream() as server:
        server.stream = server.hang
        stream = backend.stream(server.endpoint, b"", (), FOREVER)
        await soon(server.started.wait())
        stream.cancel()
        stream.cancel()
        await soon(server.cancelled.wait())


async def test_leaving_a_stream_early_cancels_it_upstream(backend):
    async with upstream() as server:

        async def one_then_hang(_, context):
            await context.write(b"1")
            await server.hang()

        server.stream = one_then_hang
        answers = aiter(backend.stream(server.endpoint, b"", (), FOREVER))
        assert await soon(anext(answers)) == b"1"
        await soon(server.started.wait())
        await soon(answers.aclose())
        await soon(server.cancelled.wait())


async def probes(backend, endpoint, timeout_s=15.0):
    """What both probes say; they must agree."""
    server = await soon(backend.probe(endpoint, timeout_s))
    model = await soon(backend.probe_model(endpoint, "llama", "", timeout_s))
    assert server is model
    return server


async def test_a_probe_tells_what_the_server_says(backend):
    async with upstream() as server:
        for said, answer in (
            (READY, Probe.READY),
            (b"", Probe.NOT_READY),
            (b"\xff", Probe.NOT_READY),
        ):
            server.unary = answering(said)
            assert await probes(backend, server.endpoint) is answer


async def test_a_probe_that_the_server_does_not_know_says_that_it_lives(backend):
    async with upstream() as server:

        async def refuse(_, context):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no")

        server.unary = refuse
        assert await probes(backend, server.endpoint) is Probe.UNKNOWN


async def test_a_probe_without_an_answer_is_silence_and_without_a_connection_refused(backend):
    async with upstream() as server:
        server.unary = server.hang
        assert await probes(backend, server.endpoint, 0.05) is Probe.SILENT
    assert await probes(backend, unused()) is Probe.REFUSED


async def test_a_reset_gives_up_what_hangs_at_one_endpoint_and_connects_anew(backend):
    async with upstream() as frozen, upstream() as other:
        frozen.unary = frozen.stream = other.unary = frozen.hang
        async with asyncio.TaskGroup() as tasks:
            hanging = [
                tasks.create_task(failure(backend.unary(frozen.endpoint, b"", (), FOREVER))),
                tasks.create_task(failure(collect(backend.stream(frozen.endpoint, b"", (), 15)))),
            ]
            untouched = tasks.create_task(failure(backend.unary(other.endpoint, b"", (), FOREVER)))
            while len(frozen.seen) + len(other.seen) < 3:
                await asyncio.sleep(0.001)
            await soon(backend.reset(frozen.endpoint))
            assert [type(await one) for one in hanging] == [UpstreamLostError] * 2
            assert not untouched.done()
            frozen.unary = answering(READY)
            assert await soon(backend.probe(frozen.endpoint, 15.0)) is Probe.READY
            untouched.cancel()


async def test_closing_ends_calls_in_flight_with_an_error_not_a_cancellation(backend):
    async with upstream() as server:
        server.unary = server.stream = server.hang
        async with asyncio.TaskGroup() as tasks:
            stream = backend.stream(server.endpoint, b"", (), FOREVER)
            calls = [
                tasks.create_task(failure(collect(stream))),
                tasks.create_task(failure(backend.unary(server.endpoint, b"", (), FOREVER))),
            ]
            await soon(server.started.wait())
            while len(server.seen) < 2:
                await asyncio.sleep(0.001)
            await soon(backend.close())
        assert [type(call.result()) for call in calls] == [UpstreamLostError] * 2
        with pytest.raises(UpstreamUnreachedError):
            await backend.unary(server.endpoint, b"", (), FOREVER)


async def failure(awaitable):
    try:
        await soon(awaitable)
    except UpstreamError as error:
        return error
    return None


def open_sockets():
    links = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    return sum(str(link).startswith("socket:") for link in links)


async def test_closing_leaves_no_sockets_and_no_tasks():
    async def round_trip():
        async with upstream() as server, tcp_server(reset=True) as broken:
            server.unary, server.stream = answering(b"x"), streaming(b"1", b"2")
            backend = GrpcBackend()
            for _ in range(3):
                await soon(backend.unary(server.endpoint, b"", (), FOREVER))
                await soon(collect(backend.stream(server.endpoint, b"", (), FOREVER)))
                await failure(backend.unary(broken, b"", (), 15.0))
            await backend.close()

    await round_trip()  # what gRPC opens once and keeps
    tasks = len(asyncio.all_tasks())
    before = open_sockets()
    for _ in range(5):
        await round_trip()
    gc.collect()
    async with asyncio.timeout(20.0):
        while open_sockets() > before:
            await asyncio.sleep(0.01)  # gRPC closes its sockets on threads of its own
    assert len(asyncio.all_tasks()) == tasks
