"""Load over HTTP by a client of bare sockets: closed loop, or open loop with latency.

A process of its own, on uvloop where that is installed; prints one JSON object. In a closed loop
every connection asks again as soon as it is answered. In an open one requests come at a steady mean
rate at random (Poisson), whether the ones before were answered or not; latency counts from when one
was due.

    python -m benchmarks.http_client 127.0.0.1:18000 --calls 1000
    python -m benchmarks.http_client 127.0.0.1:18000 --per-s 500 --seconds 5
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import ssl
import time
from collections import deque
from typing import NamedTuple, cast

from benchmarks.http_messages import CHAT, STREAM, UNARY
from benchmarks.loops import run

CONNECTIONS = 32
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """Asks when it is told to, and tells of the end of each answer. ``reads``: of all answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._got = bytearray()
        self._answered: asyncio.Future[int] | None = None
        self.reads = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Resolves to how many events the answer has."""
        self._got.clear()
        self._answered = answered = self._loop.create_future()
        self._transport.write(request)
        return answered

    def data_received(self, data: bytes) -> None:
        got = self._got
        got += data
        self.reads += 1
        end = got.find(b"\r\n\r\n")
        if end < 0 or self._answered is None:
            return
        length = _LENGTH.search(got, 0, end)
        if len(got) < end + 4 + int(length[1]) if length else not got.endswith(_LAST_CHUNK):
            return
        answered, self._answered = self._answered, None
        if answered.done():
            return
        if got.startswith(b"HTTP/1.1 200"):
            answered.set_result(got.count(b"data: {"))
        else:
            answered.set_exception(RuntimeError(got.decode(errors="replace")[:500]))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(RuntimeError(f"the connection broke: {error}"))


class Secured(NamedTuple):
    """Who a client believes and says it is; ``context`` None: plaintext."""

    context: ssl.SSLContext | None = None
    key: str = "none"


PLAIN = Secured()


def request_of(address: str, body: bytes, key: str = "none") -> bytes:
    """A POST of a chat."""
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def connected(address: str, count: int, secured: Secured = PLAIN) -> list[Connection]:
    """So many connections to one address."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(loop), host, int(port), ssl=secured.context)
        for _ in range(count)
    ]
    return [connection for _, connection in made]


async def closed(
    address: str, body: bytes, calls: int, connections: int, secured: Secured = PLAIN
) -> dict[str, float]:
    """``calls`` in all."""
    request = request_of(address, body, secured.key)
    clients = await connected(address, connections, secured)
    remaining = iter(range(calls))
    events = 0

    async def caller(client: Connection) -> None:
        nonlocal events
        for _ in remaining:
            got = await client.ask(request)
            events += got

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(caller(client))
    elapsed_s = time.perf_counter() - begun
    reads = sum(client.reads for client in clients)
    return {"calls": calls, "elapsed_s": elapsed_s, "events": events, "reads": reads}


async def paced(address: str, body: bytes, per_s: float, seconds: float) -> dict[str, float]:
    """An open loop; one that comes while every connection is busy waits for one."""
    request = request_of(address, body)
    loop = asyncio.get_running_loop()
    idle = deque(await connected(address, 4 * CONNECTIONS))
    due: deque[float] = deque()
    latencies_ms: list[float] = []
    rng = random.Random(7)

    async def ask(client: Connection, due_at: float) -> None:
        due.append(due_at)
        while due:
            due_at = due.popleft()
            await client.ask(request)
            latencies_ms.append((loop.time() - due_at) * 1e3)
        idle.append(client)

    async with asyncio.TaskGroup() as group:
        begun = at = loop.time()
        while at < begun + seconds:
            at += rng.expovariate(per_s)
            await asyncio.sleep(at - loop.time())
            if idle:
                group.create_task(ask(idle.popleft(), at))
            else:
                due.append(at)
    latencies_ms.sort()
    quantile = {q: latencies_ms[int(q * (len(latencies_ms) - 1))] for q in (0.5, 0.99)}
    return {"calls": len(latencies_ms), "p50_ms": quantile[0.5], "p99_ms": quantile[0.99]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("--calls", type=int, default=0, help="closed loop")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="in a closed loop")
    parser.add_argument("--per-s", type=float, default=0.0, help="open loop")
    parser.add_argument("--seconds", type=float, default=5.0, help="of an open loop")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--ca", help="PEM of whom to believe: over TLS, in a closed loop")
    parser.add_argument("--cert", help="PEM of certificate and key to show")
    parser.add_argument("--key", default="none", help="sent as authorization: Bearer KEY")
    wanted = parser.parse_args()
    body = STREAM if wanted.stream else UNARY
    context = ssl.create_default_context(cafile=wanted.ca) if wanted.ca else None
    if context is not None and wanted.cert:
        context.load_cert_chain(wanted.cert)
    if wanted.calls:
        secured = Secured(context, wanted.key)
        work = closed(wanted.address, body, wanted.calls, wanted.connections, secured)
    else:
        work = paced(wanted.address, body, wanted.per_s, wanted.seconds)
    print(json.dumps(run(work)))
