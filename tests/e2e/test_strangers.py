"""What strangers do to a gateway with the shipped settings, and what honest callers see of it."""

import asyncio
import collections
import contextlib
import resource
import struct
import sys
import zlib
from pathlib import Path

import grpc
import pytest

from router._pb import inference_pb2 as pb
from tests.e2e.harness import (
    MODEL,
    SERVICE,
    Child,
    Gateway,
    ask,
    base,
    emulator,
    http,
    pair,
    port_of,
    until,
)
from tests.gateway.oip.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
    literal,
)

MIB = 2**20
FULL = "RESOURCE_EXHAUSTED"
RST_STREAM, CANCEL = 3, b"\x00\x00\x00\x08"
FIELDS = (
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", SERVICE.encode() + b"ModelInfer"),
    (b":authority", b"t"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
)  # fmt: skip


@pytest.fixture
def gateway(spawn):
    config = base(pair())
    spawn(emulator, config)
    return spawn(Gateway, config)


@pytest.fixture(scope="module")
def started(spawn_once):
    config = base(pair())
    spawn_once(emulator, config)
    return spawn_once(Gateway, config)


@pytest.fixture
async def common(started):
    """For whoever leaves nothing that another could notice, once all of it has ended."""
    yield started
    await until(started.idle, "in-flight back to zero")


def rss_mib(child: Child) -> float:
    pages = int(Path(f"/proc/{child.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


async def outcome(call):
    """(code, reason) that a call ends with."""
    try:
        await call
        return "OK", None
    except grpc.aio.AioRpcError as error:
        return error.code().name, dict(error.trailing_metadata() or ()).get("x-carbon-reason")


def large(model, size):
    request = pb.ModelInferRequest(model_name=model)
    request.raw_input_contents.append(bytes(size))
    return request.SerializeToString()


async def connect(gateway):
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(gateway.address))
    writer.write(PREFACE + frame(SETTINGS, 0, 0))
    return reader, writer


async def test_large_messages_for_a_model_that_is_not_there_do_not_fill_the_memory(gateway):
    before = rss_mib(gateway)
    payload = large("nobody", 60 * MIB)
    async with gateway.client() as client:
        ends = await asyncio.gather(*(outcome(client.infer(payload)) for _ in range(24)))
        assert (await client.receipt())["endpoint"]
    assert set(ends) <= {("NOT_FOUND", "model_unknown"), (FULL, "gateway_full")}
    # Of 1,440 MiB; 460 to 780 were seen, for gRPC has a copy of what it is about to hand over.
    assert rss_mib(gateway) - before < 1000


async def test_a_stream_is_read_no_further_than_there_is_room(gateway):
    before = rss_mib(gateway)
    payload = large(MODEL, 60 * MIB)
    sent = 0

    async def requests():
        nonlocal sent
        # One answer takes long, and the others wait for it: none of them has an id.
        yield ask(request_id="", output_tokens=100_000)
        for _ in range(24):
            yield payload
            sent += 1

    async with gateway.client() as client:
        call = client.channel.stream_stream(SERVICE + "ModelStreamInfer")(requests())

        async def held_back():
            seen = sent
            await asyncio.sleep(1.0)
            return sent == seen and seen > 0

        await until(held_back, "the stream being held back")
        assert sent <= 6
        assert rss_mib(gateway) - before < 700
        call.cancel()
        await until(gateway.idle, "in-flight back to zero")


async def test_a_burst_on_several_connections_is_answered_or_refused_with_a_reason(common):
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(common.client()) for _ in range(4)]
        calls = [client.infer(ask()) for client in clients for _ in range(400)]
        ends = collections.Counter(await asyncio.gather(*map(outcome, calls)))
    assert sum(ends.values()) == 1600
    assert all(code == "OK" or reason for code, reason in ends), ends
    assert not any(code == "CANCELLED" for code, _ in ends), ends


async def test_a_connection_that_only_resets_is_closed_and_nobody_else_notices(common):
    block = b"".join(literal(name, value) for name, value in FIELDS)
    message = ask()
    body = b"\x00" + struct.pack(">I", len(message)) + message

    async def attack():
        reader, writer = await connect(common)
        stream = 1
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                for _ in range(50):
                    writer.write(
                        frame(HEADERS, END_HEADERS, stream, block)
                        + frame(DATA, END_STREAM, stream, body)
                        + frame(RST_STREAM, 0, stream, CANCEL)
                    )
                    stream += 2
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.005):
                        await reader.read(65_536)

    async def honest(ends, client, stop):
        while not stop.is_set():
            ends[await outcome(client.infer(ask()))] += 1

    ends, stop = collections.Counter(), asyncio.Event()
    async with common.client() as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(honest(ends, client, stop))
        async with asyncio.timeout(30):
            await asyncio.gather(attack(), attack())
        stop.set()
    assert set(ends) == {("OK", None)}


class FewFiles(Gateway):
    """One that may open 128 files."""

    wrapped = (
        sys.executable, "-c",
        "import os, resource, sys\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))\n"
        "os.execv(sys.argv[1], sys.argv[1:])",
    )  # fmt: skip


async def test_idle_strangers_do_not_keep_others_out(spawn):
    config = base(pair())
    spawn(emulator, config)
    gateway = spawn(FewFiles, config)
    async with gateway.client() as early:
        await early.receipt()
        strangers = [await connect(gateway) for _ in range(200)]
        await early.receipt()
        async with gateway.client() as late:
            await late.receipt()
        assert http(gateway.admin, "/healthz")[0] == 200
        for _, writer in strangers:
            writer.close()


async def test_connections_beyond_the_limit_are_closed_and_those_before_live_on(spawn):
    config = base(pair())
    config["server"]["max_connections"] = 20
    spawn(emulator, config)
    gateway = spawn(Gateway, config)
    async with gateway.client() as early:
        await early.receipt()
        strangers = [await connect(gateway) for _ in range(60)]

        async def closed():
            return sum(reader.at_eof() for reader, _ in strangers) >= 40

        for reader, _ in strangers:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.02):
                    while await reader.read(4096):
                        pass
        await until(closed, "what is too much being closed")
        await early.receipt()
        for _, writer in strangers:
            writer.close()


@pytest.mark.parametrize(
    ("method", "metadata", "payload", "expected"),
    [
        ("ModelInfer", (), large("m", 65 * MIB), (FULL, "message_too_large")),
        ("ModelInfer", (("x-a", "v" * 17_000),), ask(), (FULL, "metadata_too_large")),
        ("ModelReady", (), b"\x0a\x80\x80\x08" + bytes(2**17), (FULL, "message_too_large")),
        ("RepositoryUnload", (), b"", ("UNIMPLEMENTED", "method_unknown")),
    ],
    ids=["message", "headers", "question", "method"],
)
async def test_every_refusal_says_why(common, method, metadata, payload, expected):
    async with common.client() as client:
        call = client.channel.unary_unary(SERVICE + method)(payload, metadata=metadata)
        assert await outcome(call) == expected


@pytest.mark.parametrize("encoding", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_read(common, encoding):
    async with common.client() as client:
        call = client.channel.unary_unary(SERVICE + "ModelInfer")(
            large(MODEL, MIB), compression=encoding
        )
        assert (await outcome(call))[0] == "OK"


async def test_what_inflates_beyond_the_limit_is_refused_without_inflating_it(gateway):
    before = rss_mib(gateway)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(32)) + packer.flush()
    async with gateway.client() as client:
        call = client.channel.unary_unary(SERVICE + "ModelInfer")
        ends = await asyncio.gather(*(outcome(call(bomb)) for _ in range(12)))
    assert set(ends) <= {
        (FULL, "message_too_large"),
        (FULL, "gateway_full"),
    }
    assert rss_mib(gateway) - before < 400


async def test_headers_that_are_not_text_do_not_flood_the_log(common):
    block = b"".join(literal(name, value) for name, value in (*FIELDS, (b"x-a", b"\xff\xfe")))

    def lines():
        return len(common.log.read_text(errors="replace").splitlines())

    before = lines()
    _, writer = await connect(common)
    for number in range(1000):
        stream = 2 * number + 1
        writer.write(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
    await writer.drain()
    async with common.client() as client:
        await client.receipt()
    writer.close()
    assert lines() - before < 150
