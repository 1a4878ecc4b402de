"""However requests end, thousands at random, no count is left behind on any worker of Envoy's."""

import asyncio
import contextlib
import json
import os
import random

import pytest

from tests.e2e import harness as h
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig
from tests.ports import free_ports

pytestmark = [hosts.missing, pytest.mark.timeout(900)]
REQUESTS = int(os.environ.get("RANDOM_ENDINGS", "1500"))
CALLERS, SERVERS = 48, 4
ANSWER = json.dumps({"model": rig.CHAT, "choices": [], "usage": {"completion_tokens": 3}}).encode()
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b'14\r\ndata: {"choices":[]}\r\n'


class Flaky:
    """A server that ends what it is asked in every way there is, and dies now and then."""

    def __init__(self, port, draw):
        self.port, self.draw = port, draw
        self.server, self.writers = None, set()

    async def listen(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)

    def die(self):
        self.server.close()
        for one in self.writers:
            one.transport.abort()

    async def serve(self, reader, writer):
        self.writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                ]
                await reader.readexactly(length[0] if length else 0)
                await self.answer(writer, head.startswith(b"POST"))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def answer(self, writer, is_chat):
        way = self.draw.random() if is_chat else 0.0
        if way < 0.6:
            await asyncio.sleep(self.draw.random() / 200.0)
            writer.write(WHOLE % (len(ANSWER), ANSWER))
        elif way < 0.7:
            writer.write(BUSY)
        elif way < 0.78:
            writer.transport.abort()
        elif way < 0.95:
            writer.write(STREAM)
            for _ in range(self.draw.randrange(8)):
                await asyncio.sleep(self.draw.random() / 100.0)
                writer.write(CHUNK)
            if way < 0.82:
                writer.transport.abort()
            writer.write(b"0\r\n\r\n")
        else:
            await asyncio.sleep(0.1)
            writer.write(WHOLE % (len(ANSWER), ANSWER))
        await writer.drain()


async def die_and_rise(servers, draw):
    while True:
        await asyncio.sleep(0.4 + draw.random())
        one = draw.choice(servers)
        one.die()
        await asyncio.sleep(draw.random() / 2.0)
        await one.listen()


class Caller:
    """One connection after the other; half of what it asks it does not wait for."""

    def __init__(self, address, draw):
        host, _, port = address.rpartition(":")
        self.where, self.draw, self.answered = (host, int(port)), draw, 0
        body = json.dumps({"model": rig.CHAT, "stream": True, "messages": []}).encode()
        self.request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )

    async def call(self):
        reader, writer = await asyncio.open_connection(*self.where)
        way = self.draw.random()
        try:
            if way < 0.05:
                writer.write(self.request[:-3])
                await asyncio.sleep(self.draw.random() / 100.0)
            else:
                writer.write(self.request)
                await self.read(reader, way)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            # A reset, where anything is left to be sent.
            writer.transport.abort()

    async def read(self, reader, way):
        patience_s = self.draw.random() / 30.0 if way < 0.5 else 20.0
        async with asyncio.timeout(patience_s):
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " in head.split(b"\r\n")[0]:
                end = b"0\r\n\r\n" if b"chunked" in head else ANSWER
                await reader.readuntil(end)
                self.answered += 1


@pytest.mark.parametrize("workers", [2, 4])
async def test_every_count_is_nought_at_the_end(tmp_path, workers):
    draw = random.Random(workers)
    servers = [Flaky(port, draw) for port in free_ports(SERVERS)]
    made = rig.config()
    (like,) = [one for one in made["endpoints"] if one["name"] == "http-green-0"]
    made["endpoints"] = [
        {**like, "name": f"s{i}", "address": f"127.0.0.1:{one.port}", "max_in_flight": 20}
        for i, one in enumerate(servers)
    ]
    del made["models"][h.MODEL]
    made["server"]["workers"] = workers
    for one in servers:
        await one.listen()
    folder = tmp_path / "f"
    folder.mkdir()
    gateway = await asyncio.to_thread(rig.EnvoyGateway, folder, made)
    dying = asyncio.ensure_future(die_and_rise(servers, draw))
    try:
        callers = [Caller(made["server"]["http"], draw) for _ in range(CALLERS)]

        async def work(caller):
            for _ in range(REQUESTS // CALLERS):
                await caller.call()

        await asyncio.gather(*map(work, callers))
        await h.until(gateway.quiet, "every end")
        await h.until(gateway.idle, "the gateway's knowing of it")
        assert len(gateway.counts()) == SERVERS
        assert sum(one.answered for one in callers) > REQUESTS / 8
        assert gateway.process.poll() is None
    finally:
        dying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await dying
        await asyncio.to_thread(gateway.stop)
        for one in servers:
            one.die()
