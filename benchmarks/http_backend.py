"""The quickest server of OpenAI's API in Python: constant answers, over bare sockets.

A chat is answered in one piece, or, where it asks for that, by many events, one a write and
PACE_S apart, so that whoever reads them gets each alone. Runs on uvloop where that is installed.

    python -m benchmarks.http_backend --listen 18001 18002
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Iterator
from typing import cast

from benchmarks.http_messages import ANSWER, LAST_EVENTS, MODELS, PACE_S, STREAMED, STREAMS
from benchmarks.loops import run

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_BEGUN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _whole(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


_ANSWERED = _whole(ANSWER)
_LISTED = _whole(MODELS)
_STREAMED = [_chunk(event) for event in STREAMED]
_ENDED = _chunk(LAST_EVENTS) + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client; it asks again once it is answered."""

    def __init__(self) -> None:
        self._got = b""
        self._rest: Iterator[bytes] = iter(())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        got = self._got = self._got + data
        end = got.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(got, 0, end)
        stop = end + 4 + (int(length[1]) if length else 0)
        if len(got) < stop:
            return
        self._got = got[stop:]
        if got.startswith(b"GET"):
            self._transport.write(_LISTED)
        elif STREAMS in got or STREAMS.replace(b" ", b"") in got:
            self._transport.write(_BEGUN)
            self._rest = iter(_STREAMED)
            self._next()
        else:
            self._transport.write(_ANSWERED)

    def _next(self) -> None:
        if self._transport.is_closing():
            return
        event = next(self._rest, None)
        if event is not None:
            self._transport.write(event)
            asyncio.get_running_loop().call_later(PACE_S, self._next)
        else:
            self._transport.write(_ENDED)


async def serve(ports: list[int]) -> None:
    """Serve on 127.0.0.1 at every one of ``ports`` until the process is ended."""
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(Connection, "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", type=int, nargs="+", required=True, help="ports on 127.0.0.1")
    run(serve(parser.parse_args().listen))
