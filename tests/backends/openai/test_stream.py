"""Streamed answers over real sockets: what passes, what is held back, what is kept open."""

import asyncio
import gc

import pytest

from router.backends.openai.backend import HttpBackend
from router.backends.openai.pool import HttpOptions
from router.errors import (
    UpstreamDeniedError,
    UpstreamFaultError,
    UpstreamLostError,
    UpstreamTimeoutError,
)
from router.http_api import END, ENERGY, LAST_USAGE, STATUS
from router.http_api import USAGE as STATED
from tests.backends.oip.upstreams import soon
from tests.backends.openai import samples as s
from tests.backends.openai.upstreams import CHAT, http_upstream

REPORT = ("endpoint-load-metrics", "JSON {}")


async def collect(stream):
    return b"".join([message async for message in stream])


async def test_a_stream_passes_but_for_what_is_told_at_its_end(backend):
    async def answer(_, context):
        context.set_trailing_metadata((REPORT, ("X-Request-ID", "7")))
        for event in s.CHAT[:-1]:
            await context.write(event)

    async with http_upstream() as server:
        server.stream = answer
        stream = backend.stream(server.endpoint, b"{}", CHAT, 15.0)
        assert await soon(collect(stream)) == b"".join(s.SAID)
    told = [
        REPORT, (STATED, s.USAGE_ALONE), (ENERGY, s.ENERGY), (LAST_USAGE, s.USAGE_ALONE),
        (END, s.DONE),
    ]  # fmt: skip
    assert list(stream.trailers()) == told
    assert stream.initial_metadata() == [
        (STATUS, "200"), ("content-type", "text/event-stream"), REPORT, ("x-request-id", "7"),
    ]  # fmt: skip


@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
async def test_the_connection_of_a_stream_is_used_again_once_its_body_ended(backend, late):
    more = asyncio.Event()

    async def answer(_, context):
        await context.write(s.chunk("a"))
        if late:
            await context.write(s.DONE)
            await more.wait()
            context.end()
            await server.hang()

    async with http_upstream() as server:
        server.stream = answer
        assert await soon(collect(backend.stream(server.endpoint, b"{}", CHAT, 15.0)))
        if late:
            # Nobody waited for the end of the body.
            more.set()
            await soon(server.started.wait())
        pool = backend._pools[server.endpoint.address]
        while not pool.kept._conns:
            await asyncio.sleep(0)
        assert not pool.calls


async def test_a_body_that_does_not_end_after_the_last_event_is_closed():
    backend = HttpBackend(HttpOptions(ending_s=0.01))

    async def answer(_, context):
        await context.write(s.DONE)
        await server.hang()

    async with http_upstream() as server:
        server.stream = answer
        assert await soon(collect(backend.stream(server.endpoint, b"{}", CHAT, 15.0))) == b""
        await soon(server.cancelled.wait())
    await backend.close()


async def test_closing_closes_what_has_not_ended_after_its_last_event():
    backend = HttpBackend()

    async def answer(_, context):
        await context.write(s.DONE)
        await server.hang()

    async with http_upstream() as server:
        server.stream = answer
        assert await soon(collect(backend.stream(server.endpoint, b"{}", CHAT, 15.0))) == b""
        await backend.close()
        await soon(server.cancelled.wait())
    gc.collect()  # an answer that nobody closed would warn


async def test_a_stream_without_its_last_event_is_lost_and_says_how_much_came(backend):
    said = s.chunk("a")

    async def answer(_, context):
        await context.write(said)
        context.end()
        await server.hang()

    async with http_upstream() as server:
        server.stream = answer
        stream = backend.stream(server.endpoint, b"{}", CHAT, 15.0)
        messages = aiter(stream)
        assert await soon(anext(messages)) == said
        with pytest.raises(UpstreamLostError, match=f"after {len(said)} bytes"):
            await soon(anext(messages))
    assert stream.trailers() == ()


async def test_a_stream_of_an_old_server_ends_with_a_reason(backend):
    async def answer(_, context):
        for event in [*s.SAID, s.USAGE_ALONE]:
            await context.write(event)
        context.end()
        await server.hang()

    async with http_upstream() as server:
        server.stream = answer
        stream = backend.stream(server.endpoint, b"{}", CHAT, 15.0)
        assert await soon(collect(stream)) == b"".join([*s.SAID, s.USAGE_ALONE])
    assert stream.trailers() == ((STATED, s.USAGE_ALONE),)


@pytest.mark.parametrize("reset", [False, True])
async def test_a_torn_stream_is_lost(backend, reset):
    go = asyncio.Event()

    async def answer(_, context):
        await context.write(s.chunk("a"))
        context.bare(b"ff\r\ndata: {")
        await go.wait()
        context.hang_up(reset)
        await server.hang()

    async with http_upstream() as server:
        server.stream = answer
        messages = aiter(backend.stream(server.endpoint, b"{}", CHAT, 15.0))
        assert await soon(anext(messages)) == s.chunk("a")
        go.set()
        with pytest.raises(UpstreamLostError):
            await soon(anext(messages))


async def test_what_is_no_stream_of_events_passes_as_it_comes(backend):
    body = bytes(range(256)) * 1000

    async def answer(_, context):
        context.reply(200, body, [("content-type", "audio/mpeg"), REPORT])
        await server.hang()

    async with http_upstream() as server:
        server.unary = answer
        speech = ((":method", "POST"), (":path", "/v1/audio/speech"))
        stream = backend.stream(server.endpoint, b"{}", speech, 15.0)
        assert await soon(collect(stream)) == body
    assert stream.trailers() == (REPORT,)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html>Welcome</html>"),
        ("text/html", b""),
        ("text/event-stream", b"\xff\xff garbage\n\n"),
        ("text/event-stream", b"<html>Welcome</html>"),
    ],
)
async def test_what_is_neither_events_nor_json_is_a_fault_before_anything_is_passed_on(
    backend, kind, body
):
    async def answer(_, context):
        context.reply(200, body, [("content-type", kind)])
        await server.hang()

    async with http_upstream() as server:
        server.stream = answer
        messages = aiter(backend.stream(server.endpoint, b"{}", CHAT, 15.0))
        with pytest.raises(UpstreamFaultError, match="for an answer"):
            await soon(anext(messages))


async def test_a_status_that_is_an_error_is_raised(backend):
    async def answer(_, context):
        await context.abort(404, "no such model")
        await server.hang()

    async with http_upstream() as server:
        server.stream = answer
        stream = backend.stream(server.endpoint, b"{}", CHAT, 15.0)
        with pytest.raises(UpstreamDeniedError, match=r"^no such model$"):
            await soon(collect(stream))
    assert stream.initial_metadata() == ()


async def test_an_event_that_is_too_long_is_a_fault():
    backend = HttpBackend(HttpOptions(max_event_bytes=1000))

    async def answer(_, context):
        await context.write(b"data: " + bytes(2000))
        await server.hang()

    async with http_upstream() as server:
        server.stream = answer
        with pytest.raises(UpstreamFaultError):
            await soon(collect(backend.stream(server.endpoint, b"{}", CHAT, 15.0)))
        await soon(server.cancelled.wait())
    await backend.close()


async def test_the_time_of_a_call_holds_until_its_last_event(backend):
    async def answer(_, context):
        await context.write(s.chunk("a"))
        await server.hang()

    async with http_upstream() as server:
        server.stream = answer
        messages = aiter(backend.stream(server.endpoint, b"{}", CHAT, 0.3))
        assert await soon(anext(messages))
        with pytest.raises(UpstreamTimeoutError):
            await soon(anext(messages))
        await soon(server.cancelled.wait())


async def test_a_cancel_from_elsewhere_ends_whoever_waits(backend):
    async with http_upstream() as server:
        server.stream = server.hang
        stream = backend.stream(server.endpoint, b"{}", CHAT, 15.0)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(collect_or_error(stream))
            await soon(server.started.wait())
            stream.cancel()
            stream.cancel()
            assert isinstance(await soon(reading), UpstreamLostError)
        await soon(server.cancelled.wait())


async def collect_or_error(stream):
    try:
        return await collect(stream)
    except UpstreamLostError as error:
        return error


async def test_nothing_is_sent_before_the_answers_are_asked_for(backend):
    async with http_upstream() as server:
        stream = backend.stream(server.endpoint, b"{}", CHAT, 15.0)
        stream.cancel()
        assert server.connections == 0
