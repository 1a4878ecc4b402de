"""Closed-loop, bounded load on one gRPC method: h2load where installed, else grpc.aio.

Every call sends the request of ``echo_backend`` and must get all of its answer bytes back.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import grpc

from benchmarks.echo_backend import SERVICE, STREAM_ANSWER, UNARY_ANSWER, infer_request

UNARY = f"/{SERVICE}/ModelInfer"
STREAM = f"/{SERVICE}/ModelStreamInfer"
MESSAGES = 32  # answers to one streamed call
CONNECTIONS = 4
PER_CONNECTION = 8
LIMIT_S = 120
FRAME = 5  # bytes that gRPC puts before a message

Headers = tuple[tuple[str, str], ...]
Load = Callable[[str, str, int, Headers], float]
"""``load(address, method, count, headers)``: seconds that ``count`` calls with these headers took;
raises when one failed."""


def generator() -> tuple[str, Load]:
    """The best load generator here, with its name."""
    if shutil.which("h2load"):
        return "h2load", h2load
    return "grpc.aio client", grpc_aio


def answer_bytes(method: str) -> int:
    """Bytes of all answer messages of one call, without framing."""
    return MESSAGES * len(STREAM_ANSWER) if method == STREAM else len(UNARY_ANSWER)


def h2load(address: str, method: str, count: int, headers: Headers = ()) -> float:
    """Load by nghttp2's h2load. It does not read grpc-status, so the answer bytes are counted."""
    body = infer_request()
    with tempfile.NamedTemporaryFile() as data:
        data.write(b"\0" + struct.pack(">I", len(body)) + body)
        data.flush()
        command = [
            *("h2load", "-n", str(count), "-c", str(CONNECTIONS), "-m", str(PER_CONNECTION)),
            *("-d", data.name, "-H", "content-type: application/grpc"),
            # gRPC's C core answers nothing at all to a request without it.
            *(part for name, value in headers for part in ("-H", f"{name}: {value}")),
            *("-H", "te: trailers", f"http://{address}{method}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    found = re.search(r"finished in ([\d.]+)(us|ms|s|m),", done.stdout)
    got = re.search(r"\((\d+)\) data", done.stdout)
    messages = MESSAGES if method == STREAM else 1
    expected = count * (answer_bytes(method) + FRAME * messages)
    if found is None or got is None or int(got[1]) != expected:
        raise RuntimeError(f"expected {expected} answer bytes of {method}:\n{done.stdout}")
    return float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[found[2]]


class Secured(NamedTuple):
    """How a load comes by TLS; PEM. ``roots`` empty: plaintext."""

    roots: bytes = b""
    key: bytes = b""
    chain: bytes = b""

    def channel(self, address: str, options: Sequence[tuple[str, Any]]) -> grpc.aio.Channel:
        """A connection of its own."""
        if not self.roots:
            return grpc.aio.insecure_channel(address, options=options)
        return grpc.aio.secure_channel(address, self.credentials(), options=options)

    def credentials(self) -> grpc.ChannelCredentials:
        """Of a channel over TLS."""
        return grpc.ssl_channel_credentials(self.roots, self.key or None, self.chain or None)


def grpc_aio(
    address: str,
    method: str,
    count: int,
    headers: Headers = (),
    secured: Secured = Secured(),  # noqa: B008 (immutable)
) -> float:
    """Load by a grpc.aio client in a process of its own."""
    # A forked child of a process that has used gRPC hangs, hence spawn.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        asked = (address, method, count, headers, secured)
        return pool.submit(_drive_here, *asked).result(LIMIT_S)


def _drive_here(address: str, method: str, count: int, headers: Headers, secured: Secured) -> float:
    return asyncio.run(_drive(address, method, count, headers, secured))


async def _drive(
    address: str, method: str, count: int, headers: Headers, secured: Secured
) -> float:
    request, expected = infer_request(), answer_bytes(method)
    remaining = iter(range(count))

    async def caller(channel: grpc.aio.Channel) -> None:
        unary, stream = channel.unary_unary(method), channel.unary_stream(method)
        for _ in remaining:
            if method == STREAM:
                answers = stream(request, timeout=LIMIT_S, metadata=headers)
                got = sum([len(message) async for message in answers])
            else:
                got = len(await unary(request, timeout=LIMIT_S, metadata=headers))
            if got != expected:
                raise RuntimeError(f"expected {expected} answer bytes of {method}, got {got}")

    # Channels with equal options would share one connection.
    options = [(("grpc.use_local_subchannel_pool", 1),)] * CONNECTIONS
    channels = [secured.channel(address, option) for option in options]
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for channel in channels:
            for _ in range(PER_CONNECTION):
                group.create_task(caller(channel))
    elapsed_s = time.perf_counter() - start
    for channel in channels:
        await channel.close()
    return elapsed_s
